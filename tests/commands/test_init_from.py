"""--init_from: a run starts from a checkpoint's weights, with its architecture and rows by name; all else is new."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_command
from hub_server import HubServer
from made_up_arc import made_up_task, original_layout, write_folder
from paths import HRM_4X4
from processes import run as run_processes
from run_records import broken_at, log_of
from safetensors.torch import load_file, save_file

from hrm_hf import HrmConfig, HrmForPuzzleSolving
from hrm_hf.commands import build, evaluate
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers
from hrm_hf.training.states import read_json_tree, read_tree

TABLE = "model.puzzle_embeddings.weight"
SMALL = "--global-batch-size 8 --cpu-threads 1 --warmup-steps 1 --eval-batch-size 8 --eval-steps 2"
FIRST = "--hidden-size 32 --num-attention-heads 2 --H-layers 1 --L-layers 1 --halt-max-steps 2"


pytestmark = pytest.mark.usefixtures("process_as_before")


def hrm_train(task: str, *words: object) -> int:
    recipe = ["--recipe", HRM_4X4] if task == "sudoku" else []
    return training_command.hrm_train(task, *recipe, *SMALL.split(), *words)


@pytest.fixture(scope="module")
def sudokus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sudokus")
    options = "--train-source generate --size 4 --num-puzzles 24 --num-test 4 --num-aug 2"
    assert build.main(["sudoku", "--output-dir", str(folder / "data"), *options.split()]) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def checkpoint(sudokus, tmp_path_factory) -> Path:
    """Of a run of HRM's recipe, but for its sizes, and with values that no argument has."""
    run = tmp_path_factory.mktemp("first") / "run"
    assert hrm_train("sudoku", "--data-dir", sudokus, "--output-dir", run, "--max-steps", 3, *FIRST.split()) == 0
    settings = json.loads((run / "checkpoint-final" / "config.json").read_text())
    settings |= {"rope_theta": 500.0, "rms_norm_eps": 1e-3, "num_segments": 2}
    (run / "checkpoint-final" / "config.json").write_text(json.dumps(settings))
    return run / "checkpoint-final"


def first_state(run: Path) -> dict[str, torch.Tensor]:
    return read_tree(run / "state-00000000", "state")["model"]


def test_the_weights_and_the_architecture_are_the_checkpoints_and_all_else_is_new(sudokus, checkpoint, tmp_path):
    run = tmp_path / "run"
    words = ["--data-dir", sudokus, "--output-dir", run, "--max-steps", 1, "--init_from", checkpoint]
    assert hrm_train("sudoku", *words, "--recipe", "sudoku_9x9", "--halt-max-steps", 3) == 0
    weights = load_file(checkpoint / "model.safetensors")
    start = first_state(run)
    assert start.keys() == weights.keys() and all(torch.equal(start[name], weights[name]) for name in weights)
    state = read_json_tree(run / "state-00000000", "state")
    assert (state["step"], state["log"], state["best"]["step"]) == (0, [], None)
    assert read_tree(run / "state-00000000", "state")["moments"] == {}
    trained = load_file(run / "checkpoint-final" / "model.safetensors")
    assert not torch.equal(trained["lm_head.weight"], weights["lm_head.weight"])
    ours, theirs = (HrmConfig.from_pretrained(folder).to_dict() for folder in (run / "checkpoint-final", checkpoint))
    assert theirs["rope_theta"] == 500.0 and theirs["num_segments"] == 2 and ours == theirs | {"halt_max_steps": 3}
    arguments = json.loads((run / "run.json").read_text())["arguments"]
    assert arguments["init_from"] == str(checkpoint)
    assert (arguments["hidden_size"], arguments["halt_max_steps"], arguments["learning_rate"]) == (32, 3, 0.004)
    card = (run / "checkpoint-final" / "README.md").read_text()
    assert "| `init_from` | run/checkpoint-final |" in card and str(checkpoint) not in card
    assert "init_from" not in (checkpoint / "README.md").read_text()


def test_a_growing_depth_ends_with_other_cycles_than_the_checkpoints(sudokus, checkpoint, tmp_path, capsys):
    words = ["--data-dir", sudokus, "--init-from", checkpoint, "--max-steps", 2, "--output-dir"]
    assert hrm_train("sudoku", *words, tmp_path / "run", "--depth-schedule", "0:1x1,0.5:1x3") == 0
    final = tmp_path / "run" / "checkpoint-final"
    config = HrmConfig.from_pretrained(final)
    assert (config.H_cycles, config.L_cycles) == (1, 3)
    arguments = json.loads((tmp_path / "run" / "run.json").read_text())["arguments"]
    assert (arguments["H_cycles"], arguments["L_cycles"]) == (1, 3)
    assert "| `L_cycles` | 3 |" in (final / "README.md").read_text()
    assert hrm_train("sudoku", *words, tmp_path / "no", "--depth-schedule", "0.5:1x3") == 2
    assert "depth_schedule is '0.5:1x3'; it must be START:HxL" in capsys.readouterr().err.splitlines()[-1]


def test_a_checkpoint_of_another_game_is_named(checkpoint, tmp_path, capsys):
    maze = ["--height", 4, "--width", 4, "--min-steps", 3, "--min-wall-share", 0, "--num-train", 12, "--num-test", 4]
    assert hrm_train("maze", *maze, "--max-steps", 1, "--output-dir", tmp_path / "run", "--init-from", checkpoint) == 0
    assert f"{checkpoint} was trained on 'sudoku', the data is 'maze'" in capsys.readouterr().err


def test_a_resumed_run_does_not_read_the_checkpoint_again_and_is_the_unbroken_one(sudokus, checkpoint, tmp_path):
    source, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(checkpoint, source)
    words = ["--data-dir", sudokus, "--max-steps", 4, "--init_from", source, "--recipe", "sudoku_9x9"]
    words += ["--state-steps", 1, "--state-limit", 9, "--H-cycles", 1]
    assert hrm_train("sudoku", *words, "--output-dir", run) == 0
    shutil.rmtree(source)
    for step in (0, 2):
        again = broken_at(run, step, tmp_path / f"again-{step}")
        assert hrm_train("sudoku", *words, "--output-dir", again, "--resume", "auto") == 0
        assert log_of(again) == log_of(run)
        for name in ("model.safetensors", "config.json", "card_values.json"):
            ours, theirs = (folder / "checkpoint-final" / name for folder in (again, run))
            text = [path.read_bytes().replace(str(path.parent).encode(), b"") for path in (ours, theirs)]
            assert text[0] == text[1], name


def test_two_processes_start_from_it(sudokus, checkpoint, tmp_path):
    words = ["--data-dir", sudokus, "--output-dir", tmp_path / "run", "--max-steps", 1, "--init-from", checkpoint]
    run_processes(["-m", "hrm_hf.commands.train", "sudoku", *SMALL.split(), *map(str, words)], processes=2)
    weights = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first_state(tmp_path / "run").items())


def arc_data(folder: Path, names: str, **options) -> Path:
    """Tasks of frames of 4 x 4, a letter each."""
    tasks = {name * 8: made_up_task(ord(name), num_test=1) for name in names}
    write_folder(folder / "tasks", original_layout(tasks))
    words = ["--num-aug", "1", "--frame-size", "4", "--workers", "1"]
    assert build.main(["arc", "--output-dir", str(folder / "data"), *words, str(folder / "tasks")]) == 0
    return folder / "data"


def test_rows_of_the_puzzle_table_come_by_name_and_new_puzzles_start_as_the_mean(tmp_path, capsys):
    first = ["--data-dir", arc_data(tmp_path / "old", "abc"), "--output-dir", tmp_path / "run", "--max-steps", 6]
    assert hrm_train("arc", *first, *FIRST.split(), "--puzzle-learning-rate", 0.5, "--compute-dtype", "float32") == 0
    checkpoint, run = tmp_path / "run" / "checkpoint-final", tmp_path / "tuned"
    capsys.readouterr()
    data = arc_data(tmp_path / "new", "bcxy")
    words = ["--data-dir", data, "--output-dir", run, "--max-steps", 1, "--init-from", checkpoint]
    assert hrm_train("arc", *words) == 0
    said = capsys.readouterr().err
    assert f"of puzzles that {checkpoint} does not know: they start as the mean of its rows" in said
    old, new = PuzzleIdentifiers.load(checkpoint), PuzzleIdentifiers.load(run / "checkpoint-final")
    weights, start = load_file(checkpoint / "model.safetensors"), first_state(run)
    assert len(new) == len(start[TABLE]) != len(old) and new.find("b" * 8) != old.find("b" * 8)
    mean, known = weights[TABLE][1:].mean(0), 0
    assert mean.any()
    for row, name in enumerate(new.names):
        if name in old.names:
            assert torch.equal(start[TABLE][row], weights[TABLE][old.find(name)]), name
            known += 1
        else:
            torch.testing.assert_close(start[TABLE][row], mean)
    assert 5 <= known < len(new)  # the blank, and b and c with a variant each
    assert all(torch.equal(start[name], weights[name]) for name in weights if name != TABLE)
    assert HrmForPuzzleSolving.from_pretrained(run / "checkpoint-final").config.compute_dtype == "float32"
    assert evaluate.main(["--checkpoint", str(run / "checkpoint-final"), "--data", str(data / "train.h5")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--hidden-size 64",
            "hidden_size is 64, but the weights of {} have hidden_size 32: leave it out. What can be",
        ),
        ("--pos-encodings=rope", "pos_encodings is rope, but the weights of {} have pos_encodings learned"),
        ("--puzzle-emb-ndim 0", "puzzle_emb_ndim is 0, but the weights of {} have puzzle_emb_ndim 32"),
        ("--H_layers 2", "H_layers is 2, but the weights of {} have H_layers 1"),
    ],
)
def test_an_architecture_on_the_command_line_that_the_weights_do_not_fit(
    sudokus, checkpoint, tmp_path, capsys, words, said
):
    run = tmp_path / "run"
    start = ["--data-dir", sudokus, "--output-dir", run, "--init-from", checkpoint]
    assert hrm_train("sudoku", *start, *words.split()) == 2
    assert said.format(checkpoint) in capsys.readouterr().err and not run.exists()
    same = ["--hidden-size", 32, "--pos-encodings", "learned", "--max-steps", 1]
    assert hrm_train("sudoku", *start, *same) == 0


def test_checkpoints_that_cannot_be_started_from_are_one_line(sudokus, checkpoint, tmp_path, capsys):
    def refused(init_from: object, data: Path = sudokus, task: str = "sudoku") -> str:
        words = ["--data-dir", data, "--output-dir", tmp_path / "run", "--max-steps", 1, "--init-from", init_from]
        capsys.readouterr()
        assert hrm_train(task, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and not (tmp_path / "run").exists()
        return line

    assert f"there is no folder {tmp_path}/none" in refused(tmp_path / "none")
    run = checkpoint.parent
    assert f"{run} is the folder of a run; name a checkpoint, such as {checkpoint}" in refused(run)
    state = run / "state-00000003"
    assert f"{state} is the folder of a saved state; name a checkpoint, such as {checkpoint}" in refused(state)

    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = load_file(checkpoint / "model.safetensors")
    weights["lm_head.weight"][0, 0] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert f"{broken}: the tensor lm_head.weight holds NaN or infinity" in refused(broken)

    options = "--train-source generate --size 6 --num-puzzles 6 --num-test 2 --num-aug 1"
    assert build.main(["sudoku", "--output-dir", str(tmp_path / "six"), *options.split()]) == 0
    line = refused(checkpoint, tmp_path / "six")
    assert f"vocab_size is 8, but the weights of {checkpoint} have vocab_size 6: take a checkpoint for grids" in line


def test_a_run_resumes_with_the_same_start_only(sudokus, checkpoint, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--data-dir", sudokus, "--output-dir", run, "--max-steps", 2, "--resume", "auto"]
    assert hrm_train("sudoku", *words, "--init-from", checkpoint) == 0
    other = tmp_path / "other"
    for start, said in ((["--init-from", other], f"now it is '{other}'"), (FIRST.split(), "now it is 'gone'")):
        capsys.readouterr()
        assert hrm_train("sudoku", *words, *start) == 2
        assert f"data.init_from was '{checkpoint}', {said}" in capsys.readouterr().err
    for named, said in (
        (("--halt-max-steps", 5), "model.halt_max_steps was 2, now it is 5"),
        (("--H-layers", 2), "is 2"),
    ):
        assert hrm_train("sudoku", *words, "--init-from", checkpoint, *named) == 2
        assert said in capsys.readouterr().err


def test_a_checkpoint_on_the_hub(sudokus, checkpoint, tmp_path):
    with HubServer() as hub:
        hub.add("model", "you/first", {path.name: path.read_bytes() for path in checkpoint.iterdir()})
        words = ["--data-dir", sudokus, "--output-dir", tmp_path / "run", "--max-steps", 1, "--init-from", "you/first"]
        command = [sys.executable, "-m", "hrm_hf.commands.train", "sudoku", *SMALL.split(), *map(str, words)]
        done = subprocess.run(command, env=hub.environment(tmp_path / "home"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    weights = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first_state(tmp_path / "run").items())
    card = (tmp_path / "run" / "checkpoint-final" / "README.md").read_text()
    assert "\nbase_model: you/first\n" in card and "| `init_from` | you/first |" in card
