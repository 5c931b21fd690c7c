"""The commands for mazes and ARC, each once as a user runs it: build, train, score in one process and two."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import training_command
from paths import ROOT
from processes import run as run_processes
from safetensors.numpy import load_file
from scripts import run, run_here
from transformers import pipeline

from hrm_hf.commands import build
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers

MAZE = "--height 5 --width 5 --min_steps 4 --num_train 60 --num_test 21 --max_steps 3 --global_batch_size 8"
SIZES = "--hidden_size 32 --num_attention_heads 2 --H_layers 1 --L_layers 1 --pos_encodings learned --cpu_threads 1"


def scores(said: str) -> dict[str, str]:
    """The table that evaluate_checkpoint.py prints, as printed."""
    return dict(re.findall(r"^(\S+) +(-?[\d.]+|nan)$", said, re.MULTILINE))


def evaluate(checkpoint: Path, data: Path, *options: str) -> dict[str, str]:
    arguments = ["--checkpoint", str(checkpoint), "--data", str(data), *options]
    return scores(run_here("examples/evaluate_checkpoint.py", *arguments).stdout)


@pytest.fixture(scope="module")
def maze_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maze") / "run"
    said = run("examples/train_maze.py", *MAZE.split(), *SIZES.split(), "--output_dir", str(folder)).stdout
    assert "on 21 unseen puzzles: count 21.0000" in said and "valid_path" in said and "loaded back, solves" in said
    return folder


def test_maze_scores_do_not_depend_on_batch_size_or_processes(maze_run, two_processes):
    checkpoint, data = maze_run / "checkpoint-final", maze_run / "data" / "test.h5"
    tables = [evaluate(checkpoint, data, "--batch-size", str(size)) for size in (1, 7, 64)]
    tables.append(two_processes(checkpoint, data, "--batch-size", "7"))
    assert all(table == tables[0] for table in tables)
    assert {"exact_accuracy", "accuracy", "q_halt_accuracy", "segments", "valid_path", "shortest_path"} <= set(
        tables[0]
    )


def test_a_maze_checkpoint_solves_text_lines(maze_run):
    solver = pipeline("puzzle-solving", model=str(maze_run / "checkpoint-final"))
    maze = "S  # \n # # \n # # \n # # \n #  G"
    result = solver(maze)
    assert [len(line) for line in result["solution"].split("\n")] == [5] * 5
    walls = [cell == "#" for cell in maze]
    assert result["valid"] is False or [cell == "#" for cell in result["solution"]] == walls


@pytest.mark.usefixtures("process_as_before")
def test_a_run_ends_with_a_maze_whose_numbers_have_two_meanings(tmp_path, capsys):
    """Free cells join S and G, and so do walls: as an array of numbers such a maze is refused."""
    table, words = tmp_path / "mazes.csv", [*SIZES.split(), "--global_batch_size", 8, "--max_steps", 1]
    rows = [f"S G###{last},SoG###{last}" for last in ("###", "# #", "   ", "#  ", "## ")]
    table.write_text("\n".join(["question,answer", *rows]) + "\n")
    data = ["--output-dir", str(tmp_path / "data"), "--train-source", str(table), "--test-source", str(table)]
    assert build.main(["maze", *data, "--leaks", "allow"]) == 0
    words += ["--data_dir", tmp_path / "data", "--output_dir", tmp_path / "run"]
    assert training_command.hrm_train("maze", *words) == 0
    said = capsys.readouterr().out
    assert "loaded back, solves" in said and "|S G|" in said


def test_a_maze_file_is_refused_by_the_sudoku_command(maze_run, tmp_path):
    arguments = ["--data_dir", str(maze_run / "data"), "--output_dir", str(tmp_path / "out"), "--max_steps", "1"]
    arguments += ["--recipe", "sudoku_4x4"]
    said = run_here("examples/train_sudoku.py", *arguments, expect=2).stderr
    assert "holds the task 'maze', this command trains 'sudoku'" in said and not (tmp_path / "out").exists()


def arc_tasks() -> dict[str, dict]:
    """Three tasks of one rule each: mirrored, turned upside down, recoloured. Their test pairs are training pairs."""
    generator = np.random.default_rng(0)
    rules = {
        "mirror01": lambda grid: grid[:, ::-1],
        "upside01": lambda grid: grid[::-1],
        "colour01": lambda grid: np.where(grid == 3, 5, grid),
    }
    tasks = {}
    for name, rule in rules.items():
        grids = [generator.integers(0, 5, (3, 3)) for _ in range(3)]
        pairs = [{"input": grid.tolist(), "output": rule(grid).tolist()} for grid in grids]
        tasks[name] = {"train": pairs, "test": pairs[:2]}
    return tasks


@pytest.fixture(scope="module")
def arc_run(tmp_path_factory) -> Path:
    """Tasks on disk -> convert/build_arc.py -> examples/train_arc.py until the training pairs are learnt."""
    folder = tmp_path_factory.mktemp("arc")
    source = folder / "tiny" / "data" / "evaluation"
    source.mkdir(parents=True)
    for name, task in arc_tasks().items():
        (source / f"{name}.json").write_text(json.dumps(task))
    build = ["--output-dir", str(folder / "data"), "--num-aug", "3", "--frame-size", "4", "--workers", "1"]
    run("convert/build_arc.py", *build, str(folder / "tiny"))
    training = "--max_steps 500 --global_batch_size 36 --learning_rate 3e-3 --lr_min_ratio 0.1 --weight_decay 0.1"
    training += " --warmup_steps 20 --ema_decay 0.98 --halt_max_steps 2 --hidden_size 64 --H_cycles 1 --L_cycles 1"
    arguments = ["--data_dir", str(folder / "data"), "--output_dir", str(folder / "run"), *SIZES.split()]
    run("examples/train_arc.py", *arguments, *training.split(), "--recipe", "arc_1")
    return folder


def test_a_few_arc_tasks_are_learnt_by_heart(arc_run):
    table = evaluate(arc_run / "run" / "checkpoint-final", arc_run / "data" / "test.h5")
    assert table["pass@2"] == "1.0000"


def test_arc_scores_do_not_depend_on_batch_size_or_processes(arc_run, two_processes, tmp_path):
    checkpoint, data = arc_run / "run" / "checkpoint-final", arc_run / "data" / "test.h5"
    submitted = tmp_path / "submission.json"
    tables, answers = [], []
    for evaluate_so in (evaluate, two_processes):
        for size in (1, 7, 64):
            saved = str(tmp_path / f"{len(tables)}.safetensors")
            options = ["--batch-size", str(size), "--save-predictions", saved, "--submission", str(submitted)]
            tables.append(evaluate_so(checkpoint, data, *options))
            answers.append(load_file(saved)["sequences"])
    assert answers[0].shape == (3 * 4 * 2, 16)
    for table, sequences in zip(tables, answers, strict=True):
        assert table == tables[0]
        np.testing.assert_array_equal(sequences, answers[0])
    submission = json.loads(submitted.read_text())
    assert submission["mirror01"][1]["attempt_1"] == arc_tasks()["mirror01"]["test"][1]["output"]


@pytest.fixture
def two_processes():
    """evaluate_checkpoint.py in two gloo processes."""

    def evaluate_in_two(checkpoint: Path, data: Path, *options: str) -> dict[str, str]:
        script = str(ROOT / "examples" / "evaluate_checkpoint.py")
        command = [script, "--checkpoint", str(checkpoint), "--data", str(data), *options]
        return scores(run_processes(command, processes=2).stdout)

    return evaluate_in_two


def test_the_pipeline_votes_over_the_trained_augmentations(arc_run):
    solver = pipeline("puzzle-solving", model=str(arc_run / "run" / "checkpoint-final"))
    task = arc_tasks()["upside01"]
    result = solver({"task": task, "name": "upside01"})
    assert result["solutions"] == [pair["output"] for pair in task["test"]]
    with pytest.raises(ValueError, match="nothere"):
        solver({"task": task, "name": "nothere"})


def test_a_rebuilt_data_set_is_matched_by_name(arc_run, tmp_path):
    """Fewer tasks, other numbers: the scores of the tasks that are left stay perfect."""
    source = tmp_path / "less" / "data" / "evaluation"
    source.mkdir(parents=True)
    tasks = arc_tasks()
    for name in ("upside01", "mirror01"):
        (source / f"{name}.json").write_text(json.dumps(tasks[name]))
    options = ["--num-aug", "3", "--frame-size", "4", "--workers", "1"]
    run_here("convert/build_arc.py", "--output-dir", str(tmp_path / "data"), *options, str(tmp_path / "less"))
    checkpoint = arc_run / "run" / "checkpoint-final"
    assert evaluate(checkpoint, tmp_path / "data" / "test.h5")["pass@2"] == "1.0000"

    (source / "unseen01.json").write_text(json.dumps(tasks["colour01"]))
    run_here("convert/build_arc.py", "--output-dir", str(tmp_path / "more"), *options, str(tmp_path / "less"))
    arguments = ["--checkpoint", str(checkpoint), "--data", str(tmp_path / "more" / "test.h5")]
    said = run_here("examples/evaluate_checkpoint.py", *arguments, expect=2).stderr
    assert "4 of 12 puzzle identifiers are unknown to the checkpoint (unseen01, " in said
    assert "--unknown-puzzles blank or mean" in said
    said = run_here("examples/evaluate_checkpoint.py", *arguments, "--unknown-puzzles", "mean").stdout
    assert "4 unknown puzzle identifiers got the mean embedding: unseen01, " in said
    assert 0.66 < float(scores(said)["pass@2"]) <= 1


def test_the_names_travel_with_the_checkpoint(arc_run):
    names = PuzzleIdentifiers.load(arc_run / "run" / "checkpoint-final").names
    assert names[0] == "<blank>" and "mirror01" in names and len(names) == 1 + 3 * 4
    settings = (arc_run / "run" / "checkpoint-final" / "config.json").read_text()
    assert "mirror01" not in settings


def test_the_own_puzzle_runs():
    said = run("examples/own_puzzle.py", "3").stdout
    assert re.fullmatch(
        r"step 3: eval/count 200.*\n([.ab]{5}\n){5}\nbecomes, valid: (True|False)\n\n([.ab]{5}\n){5}", said
    )
