"""What a push collects from a checkpoint, sends to a server that plays the Hub, and what comes back over HTTP."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import warm_processes
from hub_server import HubServer
from huggingface_hub import ModelCard
from paths import ROOT
from processes import free_port
from safetensors.torch import load_file
from tiny_models import perturbed, tiny_model
from transformers import pipeline

from hrm_hf import ArgumentError, CheckpointError, HrmForPuzzleSolving, HrmProcessor, PuzzleError
from hrm_hf.commands.push import COMMANDS
from hrm_hf.commands.training_run import run_training
from hrm_hf.commands.training_tasks import SudokuArguments
from hrm_hf.hrm.puzzle_identifiers import FILE_NAME, PuzzleIdentifiers
from hrm_hf.hub import push
from hrm_hf.hub.checkpoints import TRAINING_DATA, check_checkpoint
from hrm_hf.hub.model_card import write_model_card
from hrm_hf.hub.push import push_checkpoint, push_space
from hrm_hf.hub.travelling_code import add_code, code_files
from hrm_hf.training import HrmTrainer, HrmTrainingArguments, on_main_process
from hrm_hf.training.trainer import make_accelerator

PUZZLES = ["142.23....32..1.", "1..............."]
CARD = dict(
    model_name="hrm-sudoku-4x4",
    task="sudoku",
    train_dataset="40 generated puzzles",
    dataset="10 held-out puzzles",
    metrics={"count": 10.0, "exact_accuracy": 0.7, "accuracy": 0.9},
    recipe={"learning_rate": 1e-3},
    hardware="one core",
    seed=0,
    steps=3,
)
NAMES = ["<blank>", "aa", "aa_t1_0123456789", "bb", "bb_t2_0123456789", "cc"]
SHARDS = dict(max_shard_size="20KB")


def checkpoint_in(run_dir: Path) -> Path:
    """A run's folder with a small untrained Sudoku model, as training leaves it."""
    folder = run_dir / "checkpoint-final"
    perturbed(tiny_model()).save_pretrained(folder)
    HrmProcessor(task="sudoku", grid_shape=(4, 4)).save_pretrained(folder)
    write_model_card(folder, **CARD, location="path/to/this/folder", example=PUZZLES[0])
    arguments = {
        "recipe": "/home/me/recipes/sudoku_4x4.yaml",
        "data_dir": "me/puzzles",
        "output_dir": "/home/me/runs/x",
    }
    run = {
        "data_is_hub_id": True,
        "arguments": arguments | {"seed": 0},
        "command": ["/home/me/train.py"],
        "packages": {"torch": "2"},
    }
    (run_dir / "run.json").write_text(json.dumps(run))
    (run_dir / "metrics.jsonl").write_text('{"step": 3, "eval/exact_accuracy": 0.7}\n')
    return folder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return checkpoint_in(tmp_path / "run")


@pytest.fixture
def arc_checkpoint(tmp_path) -> Path:
    folder = tmp_path / "arc"
    model = perturbed(tiny_model(vocab_size=12, num_puzzle_identifiers=len(NAMES)))
    model.save_pretrained(folder)
    HrmProcessor(task="arc", grid_shape=(4, 4), puzzle_identifiers=PuzzleIdentifiers(NAMES)).save_pretrained(folder)
    write_model_card(folder, **(CARD | {"task": "arc"}))
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def collect(checkpoint: Path, made: Path, location: str, **options) -> dict[str, Path]:
    """What a push puts together, by the name that it gets in the repository."""
    files = push.collect(checkpoint, made, location, **options)
    assert files == sorted(made.iterdir())
    return {path.name: path for path in files}


def run(command: list, cwd: Path, environment: dict[str, str], processes: int = 1) -> list[str]:
    """The lines that a script in processes of its own prints."""
    done = warm_processes.run(command, environment, cwd, processes, port=free_port())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout.splitlines()


# what is collected, without any network


def test_dry_run_lists_everything_and_sends_nothing(checkpoint):
    before = content_of(checkpoint.parent)
    listed = dict(push_checkpoint(checkpoint, "you/name", dry_run=True))
    assert set(listed) == {
        "README.md",
        "card_values.json",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "processor_config.json",
        "training_arguments.json",
    }
    assert listed["model.safetensors"] == (checkpoint / "model.safetensors").stat().st_size
    assert content_of(checkpoint.parent) == before


def test_card_names_the_repository_and_keeps_the_measured_values(checkpoint, tmp_path):
    files = collect(checkpoint, made(tmp_path), "you/name")
    card = ModelCard.load(files["README.md"])
    assert {result.metric_name: result.metric_value for result in card.data.eval_results} == {
        "exact_accuracy": 0.7,
        "accuracy": 0.9,
    }
    assert 'model="you/name")' in card.text and "path/to/this/folder" not in card.text
    assert "trust_remote_code" not in card.text


def test_training_arguments_hold_no_path_of_this_machine(checkpoint, tmp_path):
    files = collect(checkpoint, made(tmp_path), "you/name")
    text = files["training_arguments.json"].read_text()
    assert json.loads(text) == {
        "arguments": {"recipe": "sudoku_4x4.yaml", "data_dir": "me/puzzles", "seed": 0},
        "packages": {"torch": "2"},
    }
    assert files["metrics.jsonl"].read_text() == (checkpoint.parent / "metrics.jsonl").read_text()


@pytest.mark.parametrize("exists", [False, True])
def test_what_only_looks_like_an_id_is_a_folder(checkpoint, tmp_path, monkeypatch, exists):
    """The same whatever the current folder holds; the settings of a run name no folder of this machine."""
    rewrite(checkpoint.parent / "run.json", data_is_hub_id=False)
    if exists:
        (tmp_path / "me" / "puzzles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for is_id, name in ((False, "puzzles"), (True, "me/puzzles")):
        rewrite(checkpoint.parent / "run.json", data_is_hub_id=is_id)
        sent = collect(checkpoint, made(tmp_path), "you/name")["training_arguments.json"]
        assert json.loads(sent.read_text())["arguments"]["data_dir"] == name
    record = json.loads((checkpoint.parent / "run.json").read_text())
    del record["data_is_hub_id"]
    (checkpoint.parent / "run.json").write_text(json.dumps(record))
    sent = collect(checkpoint, made(tmp_path), "you/name")["training_arguments.json"]
    assert json.loads(sent.read_text())["arguments"]["data_dir"] == "puzzles"


def test_records_of_another_run_folder_or_of_an_earlier_push(checkpoint, tmp_path):
    alone = tmp_path / "elsewhere" / "checkpoint"
    shutil.copytree(checkpoint, alone)
    assert "metrics.jsonl" not in collect(alone, made(tmp_path), "you/name")
    pushed = collect(alone, made(tmp_path), "you/name", run_dir=checkpoint.parent)
    for name in ("training_arguments.json", "metrics.jsonl"):
        shutil.copy(pushed[name], alone)
    again = collect(alone, made(tmp_path), "you/name")
    assert again["training_arguments.json"].read_text() == (alone / "training_arguments.json").read_text()
    with pytest.raises(ArgumentError, match="nowhere, which holds no run.json"):
        collect(alone, made(tmp_path), "you/name", run_dir=tmp_path / "nowhere")


def test_code_goes_along_where_it_is_asked_for(checkpoint, tmp_path):
    files = collect(checkpoint, made(tmp_path), "you/name", with_code=True)
    assert {"configuration_hrm.py", "modeling_hrm.py", "processing_hrm.py", "pipeline_puzzle.py"} <= set(files)
    assert "auto_map" in json.loads(files["config.json"].read_text())
    assert "auto_map" not in json.loads((checkpoint / "config.json").read_text())
    assert "trust_remote_code" in files["README.md"].read_text()
    folder = made(tmp_path / "run")
    for name, path in files.items():
        shutil.copy(path, folder / name)
    again = collect(folder, made(tmp_path), "me/other")  # a copy of the repository, pushed elsewhere
    assert set(again) == set(files)
    assert again["README.md"].read_text() == (folder / "README.md").read_text().replace("you/name", "me/other")


@pytest.mark.parametrize("options", [{"puzzle_table": "none"}, SHARDS, {}])
def test_code_that_is_there_goes_along_with_cut_weights_too(arc_checkpoint, tmp_path, options):
    add_code(arc_checkpoint)
    (arc_checkpoint / "private_notes.py").write_text("# not of the model\n")
    files = collect(arc_checkpoint, made(tmp_path), "you/name", **options)
    assert {path.name for path in code_files()} == {name for name in files if name.endswith(".py")}
    for name in ("config.json", "processor_config.json"):
        assert "auto_map" in json.loads(files[name].read_text())
    assert "trust_remote_code" in files["README.md"].read_text()


def test_large_weights_are_sharded_and_equal(checkpoint, tmp_path):
    folder = made(tmp_path)
    files = collect(checkpoint, folder, "you/name", **SHARDS)
    shards = [name for name in files if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    assert len(shards) > 1 and "model.safetensors.index.json" in files and "model.safetensors" not in files
    merged = {name: tensor for shard in shards for name, tensor in load_file(files[shard]).items()}
    original = load_file(checkpoint / "model.safetensors")
    assert merged.keys() == original.keys()
    assert all(torch.equal(merged[name], original[name]) for name in original)
    check_checkpoint(folder)
    files = collect(folder, made(tmp_path / "run"), "you/name", **SHARDS)  # sharded already
    assert {name for name in files if name.endswith(".safetensors")} == set(shards)


def test_files_that_can_run_code_are_not_sent(checkpoint, tmp_path):
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (checkpoint / "setup.py").write_text("raise SystemExit")
    assert set(collect(checkpoint, made(tmp_path), "you/name")) == {
        *("README.md", "card_values.json", "config.json", "metrics.jsonl", "model.safetensors"),
        *("processor_config.json", "training_arguments.json"),
    }


@pytest.mark.parametrize(
    ("asked", "rows"), [("none", [0]), (["bb"], [0, 3, 4]), (["cc", "aa"], [0, 1, 2, 5]), ("all", list(range(6)))]
)
def test_puzzle_table_is_cut_by_task(arc_checkpoint, tmp_path, asked, rows):
    before = content_of(arc_checkpoint)
    folder = made(tmp_path)
    files = collect(arc_checkpoint, folder, "you/name", puzzle_table=asked)
    for name, path in files.items():
        if path.parent != folder:
            shutil.copy(path, folder / name)
    assert content_of(arc_checkpoint) == before
    whole, cut = HrmForPuzzleSolving.from_pretrained(arc_checkpoint), HrmForPuzzleSolving.from_pretrained(folder)
    assert cut.config.num_puzzle_identifiers == len(rows)
    assert torch.equal(cut.model.puzzle_embeddings.weight, whole.model.puzzle_embeddings.weight[rows])
    assert HrmProcessor.from_pretrained(folder).puzzle_identifiers.names == tuple(NAMES[row] for row in rows)
    said = f"cut from 6 rows to {len(rows)}" in (folder / "README.md").read_text()
    assert said == (asked != "all")
    dense = {name: tensor for name, tensor in whole.state_dict().items() if "puzzle_embeddings" not in name}
    assert all(torch.equal(cut.state_dict()[name], tensor) for name, tensor in dense.items())


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_second_cut_is_told_beside_the_first(arc_checkpoint, tmp_path, by_hand):
    (tmp_path / "1").mkdir()
    first = made(tmp_path / "1")
    files = collect(arc_checkpoint, first, "you/name", puzzle_table=["bb", "cc"])
    assert "cut from 6 rows to 4" in files["README.md"].read_text()
    if by_hand:
        files["README.md"].write_text(files["README.md"].read_text() + "\nThanks to all.\n")
    second = collect(first, made(tmp_path), "you/other", puzzle_table=["cc"])
    card = second["README.md"].read_text()
    assert "cut from 6 rows to 4" in card and "cut from 4 rows to 2" in card
    assert ("Thanks to all." in card) == by_hand
    assert len(json.loads(second["card_values.json"].read_text())["limitations"]) == 2
    again = made(tmp_path / "1")
    for name, path in second.items():
        shutil.copy(path, again / name)
    whole = collect(again, made(tmp_path), "you/third")["README.md"].read_text()  # not cut again: as it was said
    assert whole.count("rows to") == 2 and 'model="you/third"' in whole


def test_wrong_choices_of_the_table_are_named(checkpoint, arc_checkpoint, tmp_path):
    for asked, named in ((["bbb"], "bbb"), (["bb_t2_0123456789"], "bb_t2_0123456789"), (["all", "bb"], "all")):
        with pytest.raises(ArgumentError, match=f"puzzle_table names '{named}'; allowed: all, none, or tasks"):
            collect(arc_checkpoint, made(tmp_path), "you/name", puzzle_table=asked)
    with pytest.raises(ArgumentError, match="puzzle_table names 'bb'; allowed: all, none, or tasks"):
        collect(checkpoint, made(tmp_path), "you/name", puzzle_table="bb")  # a table without names


def test_card_written_by_hand_is_sent_as_it_is(arc_checkpoint, tmp_path):
    (arc_checkpoint / "card_values.json").unlink()
    (arc_checkpoint / "README.md").write_text("# mine\n")
    assert collect(arc_checkpoint, made(tmp_path), "you/name")["README.md"].read_text() == "# mine\n"
    cut = collect(arc_checkpoint, made(tmp_path), "you/name", puzzle_table="none")["README.md"].read_text()
    assert cut.startswith("# mine\n") and "cut from 6 rows to 1" in cut
    (arc_checkpoint / "README.md").unlink()
    with pytest.raises(CheckpointError, match="no README.md: write one with .*write_model_card"):
        collect(arc_checkpoint, made(tmp_path), "you/name")


def test_card_changed_by_hand_keeps_the_changes(checkpoint, tmp_path):
    card = checkpoint / "README.md"
    card.write_text(card.read_text().replace("## Limitations", "Thanks to all.\n\n## Limitations"))
    sent = collect(checkpoint, made(tmp_path), "you/name", puzzle_table="none")["README.md"].read_text()
    assert sent == card.read_text().replace("path/to/this/folder", "you/name") and "Thanks to all." in sent


def test_card_changed_by_hand_without_a_location(checkpoint, tmp_path):
    rewrite(checkpoint / "card_values.json", location=None)
    card = checkpoint / "README.md"
    card.write_text(card.read_text() + "\nThanks to all; null is a word.\n")
    files = collect(checkpoint, made(tmp_path), "you/name", with_code=True)
    assert files["README.md"].read_text() == card.read_text()
    values = json.loads(files["card_values.json"].read_text())
    assert values["location"] == "you/name" and values["with_code"] is True


# what is refused before anything is sent


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_shard(folder: Path) -> None:
    HrmForPuzzleSolving.from_pretrained(folder).save_pretrained(folder, **SHARDS)
    (folder / "model.safetensors").unlink()
    next(folder.glob("model-00002-*")).unlink()


def with_index(folder: Path, weight_map: dict) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


DAMAGES = {
    "shape": (lambda f: rewrite(f / "config.json", hidden_size=64), r"tensor \S+ the weights hold .* asks for"),
    "tensor missing": (
        lambda f: rewrite(f / "config.json", H_layers=5),
        r"tensor model.H_level\S+ the weights hold nothing",
    ),
    "tensor unknown": (
        lambda f: rewrite(f / "config.json", puzzle_emb_ndim=0),
        r"puzzle_embeddings.weight .* asks for nothing",
    ),
    "config value": (lambda f: rewrite(f / "config.json", hidden_size="wide"), r"config.json.*hidden_size"),
    "sizes": (lambda f: rewrite(f / "config.json", num_attention_heads=5), r"32 is not divisible by .* 5"),
    "other model": (lambda f: rewrite(f / "config.json", model_type="bert"), r"no puzzle model.*'bert', not 'hrm'"),
    "no config": (lambda f: (f / "config.json").unlink(), r"config.json: there is no such file"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), r"config.json is not valid JSON"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"has no weights: neither model.safetensors nor"),
    "cut short": (lambda f: cut_short(f / "model.safetensors"), r"model.safetensors is missing, damaged or cut short"),
    "shard missing": (lose_a_shard, r"model-00002-of-\d+.safetensors is missing"),
    "no processor": (lambda f: (f / "processor_config.json").unlink(), r"no processor_config.json that names a task"),
    "processor": (lambda f: rewrite(f / "processor_config.json", grid_shape=[9, 9], box_shape=[3, 3]), r"81 cells"),
    "names": (lambda f: (f / FILE_NAME).write_text("<blank>\naa\n"), r"table has 1 rows, .* 2 names"),
    "card": (
        lambda f: rewrite(f / "card_values.json", seed=None, task=""),
        r"card_values.json does not fill a card: .* task is ''",
    ),
    "unknown value": (lambda f: rewrite(f / "card_values.json", f1=0.9), r"card_values.json .* argument 'f1'"),
    "metrics": (lambda f: rewrite(f / "card_values.json", metrics=[0.9]), r"card_values.json does not fill a card"),
    "too large": (
        lambda f: rewrite(f / "card_values.json", metrics={"accuracy": 10**400}),
        r"card_values.json does not fill a card",
    ),
    "no JSON": (lambda f: (f / "card_values.json").write_text("{"), r"card_values.json is not valid JSON"),
    "limitations": (
        lambda f: rewrite(f / "card_values.json", limitations="few"),
        r"limitations are 'few'; allowed: a list",
    ),
    "index": (lambda f: with_index(f, {"lm_head.weight": 7}), r"index.json names 7; allowed: safetensors files"),
    "run": (lambda f: (f.parent / "run.json").write_text("[]"), r"run.json holds a JSON list"),
    "run without arguments": (lambda f: (f.parent / "run.json").write_text("{}"), r"run.json is no record of a run"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_refused_in_one_line(checkpoint, damage):
    break_it, message = DAMAGES[damage]
    break_it(checkpoint)
    before = content_of(checkpoint.parent)
    with pytest.raises(CheckpointError, match=message) as refused:
        push_checkpoint(checkpoint, "you/name", dry_run=True)
    assert "\n" not in str(refused.value)
    assert content_of(checkpoint.parent) == before


def test_wrong_values_are_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="there is no folder .*nowhere"):
        push_checkpoint(tmp_path / "nowhere", "you/name", dry_run=True)
    for repo_id in ("name", "a/b/c", "you/na me", "you/-x"):
        with pytest.raises(ArgumentError, match=rf"{re.escape(repr(repo_id))} is no repository id, expected"):
            push_checkpoint(checkpoint, repo_id, dry_run=True)
    for size in ("big", "0GB", "-1MB"):
        with pytest.raises(ArgumentError, match=f"max_shard_size is '{size}'; allowed"):
            push_checkpoint(checkpoint, "you/name", dry_run=True, max_shard_size=size)


def test_without_a_token_nothing_begins(checkpoint, monkeypatch):
    monkeypatch.setattr("hrm_hf.hub.hub_errors.get_token", lambda: None)
    with pytest.raises(CheckpointError, match="no token to push to the model you/name.*hf auth login"):
        push_checkpoint(checkpoint, "you/name")


# to the server and back

COMMAND = "python examples/push_to_hub.py --checkpoint runs/sudoku-*/checkpoint-final --repo-id you/hrm-sudoku-4x4"

PUSHES_AND_LOADS = """
import hrm_hf, json, sys
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor, pipeline
from hrm_hf.hub.checkpoints import check_puzzle_model
from hrm_hf.hrm.errors import HrmError
from hrm_hf.hub.push import push_checkpoint

for folder, repo_id, options in json.loads(sys.argv[1]):
    try:
        print(json.dumps([path for path, _ in push_checkpoint(folder, repo_id, **options)]))
    except HrmError as error:
        print(f"{type(error).__name__}: {error}")

for name in ("hrm-sudoku-4x4", "sharded"):
    save_file(hrm_hf.HrmForPuzzleSolving.from_pretrained(f"you/{name}").state_dict(), f"{name}.safetensors")
assert type(AutoModel.from_pretrained("you/hrm-sudoku-4x4")) is hrm_hf.HrmForPuzzleSolving
assert type(AutoProcessor.from_pretrained("you/hrm-sudoku-4x4")) is hrm_hf.HrmProcessor
solver = pipeline("puzzle-solving", model="you/hrm-sudoku-4x4")
print(json.dumps(solver(["142.23....32..1.", "1..............."])))
print(json.dumps(hrm_hf.HrmProcessor.from_pretrained("you/cut", revision="small").puzzle_identifiers.names))
for name in ("you/none", "you/bert", "you"):
    try:
        check_puzzle_model(name)
    except hrm_hf.CheckpointError as error:
        print(error)
"""


def test_pushed_by_the_command_and_loaded_back_over_http(tmp_path, arc_checkpoint):
    assert COMMAND in (ROOT / "docs" / "tutorials" / "publish.md").read_text()
    train("--output_dir", str(tmp_path / "runs" / "sudoku-20260101-000000"))
    checkpoint = tmp_path / "runs" / "sudoku-20260101-000000" / "checkpoint-final"
    other = checkpoint_in(tmp_path / "other")  # weights that the server has not seen yet when its push breaks off
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with HubServer() as hub:
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        said = subprocess.run(["bash", "-c", COMMAND], cwd=tmp_path, env=environment, capture_output=True, text=True)
        said = said.stdout.splitlines()
        assert said[-1].startswith("8 files") and said[-1].endswith("are in you/hrm-sudoku-4x4")
        repo = hub.repos["model", "you/hrm-sudoku-4x4"]
        assert len(repo.files) == 8 and not repo.private and len(repo.commits) == 1
        assert repo.files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()

        # by the function: over old weights, cut on a branch, broken off and repeated, on a public one, refused
        old = ("model.safetensors", FILE_NAME, "metrics.jsonl", "training_arguments.json", "card_values.json")
        old += ("sudoku_generator.py", "sudoku_units.py")  # of the code of 0.1.0
        hub.add("model", "you/sharded", {"notes.txt": b"kept"} | dict.fromkeys(old, b"old"))
        hub.add("model", "you/alone", {"notes.txt": b"kept"} | dict.fromkeys(old, b"old"))
        hub.add("model", "you/public", {"x": b"x"})
        hub.add("model", "you/bert", {"config.json": b'{"model_type": "bert"}'})
        hub.failures += [("POST", "/you/broken/commit/", 403), ("POST", "/you/odd/preupload/", 400)]
        folder = str(checkpoint)
        alone = shutil.copytree(checkpoint, tmp_path / "alone" / "checkpoint")  # without the records of its run
        for name in ("card_values.json", "README.md"):
            (alone / name).unlink()
        (alone / "README.md").write_text("# mine\n")
        pushes = [
            (folder, "you/sharded", SHARDS),
            (str(arc_checkpoint), "you/cut", {"puzzle_table": ["bb"], "revision": "small", "private": True}),
            (str(alone), "you/alone", {}),
            *[(str(other), "you/broken", {})] * 3,
            (folder, "you/public", {"private": True}),
            (folder, "you/odd", {}),
        ]
        script = ["-c", PUSHES_AND_LOADS, json.dumps(pushes)]
        sharded, cut, bare, *broken, public, odd, solved, names, none, bert, no_id = run(script, tmp_path, environment)
        assert {*json.loads(sharded), "notes.txt"} == set(hub.repos["model", "you/sharded"].files)
        assert {FILE_NAME, "model.safetensors"} <= set(json.loads(cut))
        assert hub.repos["model", "you/cut"].private and hub.repos["model", "you/cut"].files == {}  # nothing on main
        assert broken[0].startswith("CheckpointError: the model you/broken: asked for by the test; log in")
        assert {*json.loads(bare), "notes.txt"} == set(hub.repos["model", "you/alone"].files)
        assert "metrics.jsonl" not in bare and "card_values.json" not in bare  # nor those of the earlier run
        assert json.loads(broken[1]) == json.loads(broken[2]) == sorted({*repo.files} - {TRAINING_DATA})
        assert len(hub.repos["model", "you/broken"].commits) == 1
        sent = [path for method, path in hub.requests if method == "PUT"]
        weights = (other / "model.safetensors").read_bytes()
        assert sent.count(f"/lfs/{hashlib.sha256(weights).hexdigest()}") == 1  # not again after the push broke off
        assert len(sent) == len(set(sent)) >= 4  # nor any others twice
        assert hub.repos["model", "you/broken"].files["model.safetensors"] == weights
        assert public.startswith("CheckpointError: you/public exists and is public: nothing was sent")
        assert hub.repos["model", "you/public"].files == {"x": b"x"}
        assert odd.startswith("CheckpointError: the model you/odd: ") and "asked for by the test" in odd
    original = load_file(checkpoint / "model.safetensors")
    for name in ("hrm-sudoku-4x4", "sharded"):
        loaded = load_file(tmp_path / f"{name}.safetensors")
        assert loaded.keys() == original.keys()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in original.items())
    assert json.loads(solved) == pipeline("puzzle-solving", model=str(checkpoint))(PUZZLES)
    assert json.loads(names) == ["<blank>", "bb", "bb_t2_0123456789"]
    assert "the model you/none: Repository not found; check the name" in none
    assert bert == "you/bert is no puzzle model: its config.json has the model_type 'bert', not 'hrm'"
    assert no_id == "there is no folder you, and it is no owner/name of the Hub"


def test_dry_run_of_the_command_asks_nobody(checkpoint, tmp_path):
    command = [ROOT / "examples" / "push_to_hub.py", "--checkpoint", checkpoint]
    with HubServer() as hub:
        environment = hub.environment(tmp_path / "home", token=None) | {"PYTHONPATH": str(ROOT)}
        said = run([*command, "--repo-id", "you/name", "--dry-run", "--with-code"], tmp_path, environment)
        assert said[-1].endswith("would be sent to you/name") and hub.requests == []


PUSHES_WITH_TOKENS = """
import json, sys
from hrm_hf.hrm.errors import HrmError
from hrm_hf.hub.push import push_checkpoint

for token in json.loads(sys.argv[2]):
    try:
        push_checkpoint(sys.argv[1], "you/name", token=token)
    except HrmError as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_token_appears_nowhere(checkpoint, tmp_path):
    tokens = ["hf_wrong_and_secret\n", "hf_secret with\nlines", "hf_test\n"]
    command = ["-c", PUSHES_WITH_TOKENS, checkpoint, json.dumps(tokens)]
    with HubServer() as hub:
        environment = hub.environment(tmp_path / "home", token=None) | {"PYTHONPATH": str(ROOT)}
        done = warm_processes.run(command, environment)
        files = hub.repos["model", "you/name"].files
    assert done.returncode == 0, done.stderr
    wrong, lines = done.stdout.splitlines()
    assert wrong.startswith("CheckpointError: the model you/name: Invalid credentials")
    assert lines.startswith("ArgumentError: the token to push to the model you/name with holds white space")
    for token in ("secret", "hf_test"):
        assert token not in done.stdout + done.stderr
        assert not any(token.encode() in content for content in files.values())


# from the trainer


SMALL = "--size 4 --max_steps 2 --global_batch_size 8 --hidden_size 32 --cpu_threads 1"


def train(*arguments: str) -> None:
    options = ["--num_train", "40", "--num_test", "10", *SMALL.split(), *arguments]
    run_training(SudokuArguments, options)


def test_two_processes_train_on_a_data_set_of_the_hub_and_push(tmp_path):
    run_dir = tmp_path / "first"
    train("--output_dir", str(run_dir))
    with HubServer() as hub:
        files = {f"{split}.h5": (run_dir / "data" / f"{split}.h5").read_bytes() for split in ("train", "test")}
        hub.add("dataset", "me/puzzles", files)
        command = [ROOT / "examples" / "train_sudoku.py", *SMALL.split()]
        command += ["--data-dir", "me/puzzles", "--output-dir", str(tmp_path / "second")]
        command += ["--push-to-hub", "you/name", "--hub-private"]
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        assert run(command, tmp_path, environment, processes=2)[-1] == "pushed to you/name"
        repo = hub.repos["model", "you/name"]
    checkpoint = tmp_path / "second" / "checkpoint-final"
    assert repo.commits == ["Push a checkpoint of hrm_hf"]  # one process pushes, the other waits
    assert repo.private and repo.files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    card = ModelCard(repo.files["README.md"].decode())
    assert card.data.datasets == ["me/puzzles"] and 'model="you/name"' in card.text
    last = json.loads(repo.files["metrics.jsonl"].splitlines()[-1])
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert measured == {name: last[f"eval/{name}"] for name in measured} and "exact_accuracy" in measured
    sent = repo.files["training_arguments.json"].decode()
    assert json.loads(sent)["arguments"]["data_dir"] == "me/puzzles" and str(tmp_path) not in sent


def test_failed_push_of_two_processes_ends(tmp_path):
    with HubServer() as hub:
        hub.failures += [("POST", "/you/name/commit/", 403)]
        command = [ROOT / "examples" / "train_sudoku.py", *SMALL.split(), "--num_train", "40", "--num_test", "10"]
        command += ["--output-dir", str(tmp_path / "run"), "--push-to-hub", "you/name"]
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
        done = warm_processes.run(command, environment, tmp_path, processes=2, port=free_port())
        assert hub.failures == [] and hub.repos["model", "you/name"].files == {}
    assert done.returncode != 0
    assert "the model you/name: asked for by the test; log in" in done.stderr
    assert "push it with hrm-push checkpoint --checkpoint" in done.stderr
    assert (tmp_path / "run" / "checkpoint-final" / "model.safetensors").is_file()


@pytest.mark.parametrize("error", [PuzzleError("mine"), PermissionError(13, "refused", "a file")])
def test_what_fails_on_the_main_process_is_raised_as_it_was(error):
    def fail():
        raise error

    accelerator = make_accelerator(HrmTrainingArguments(max_steps=1))
    with pytest.raises(type(error)) as raised:
        on_main_process(accelerator, fail)
    assert raised.value is error


FAILS_ON_ONE = """
import torch
from hrm_hf.training import HrmTrainingArguments, make_accelerator, on_main_process, processes

def fail():
    raise PermissionError(13, "refused", "a file")

accelerator = make_accelerator(HrmTrainingArguments(max_steps=1))
with processes.naming_lost_processes(accelerator, lambda: ""):
    waits = processes.host_group._get_backend(torch.device("cpu")).options._timeout
    try:
        on_main_process(accelerator, fail)
    except OSError as error:
        print(f"process {accelerator.process_index}: {error}, waits {waits}", flush=True)
accelerator.end_training()
"""


def test_an_error_of_the_system_fails_all_processes(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    said = run(["-c", FAILS_ON_ONE], tmp_path, environment, processes=2)
    words = "[Errno 13] refused: 'a file', waits 365 days, 0:00:00"  # long enough to make any data
    # With torch 2.9 Gloo writes between the lines, and into them.
    assert sorted(re.findall(r"process \d: .*?0:00:00", "\n".join(said))) == [
        f"process {index}: {words}" for index in (0, 1)
    ]


def test_trainer_pushes_its_last_export(tmp_path):
    args = HrmTrainingArguments(output_dir=str(tmp_path / "run"), global_batch_size=4, max_steps=1)
    trainer = HrmTrainer(tiny_model(), args, [], processor=HrmProcessor(task="sudoku", grid_shape=(4, 4)))
    with pytest.raises(ArgumentError, match="nothing to push yet"):
        trainer.push_to_hub("you/name", dry_run=True)
    trainer.export("checkpoint-1")
    trainer.export("checkpoint-final")
    with pytest.raises(CheckpointError, match="checkpoint-final has no README.md"):
        trainer.push_to_hub("you/name", dry_run=True)
    write_model_card(tmp_path / "run" / "checkpoint-final", **CARD)
    assert "README.md" in dict(trainer.push_to_hub("you/name", dry_run=True))


def test_failed_push_keeps_the_checkpoint_and_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.commands.training_run.check_can_push", lambda repo_id: None)
    monkeypatch.setattr("hrm_hf.hub.hub_errors.get_token", lambda: "hf_test")  # HF_HUB_OFFLINE is set: it must fail
    folder = tmp_path / "a run"
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set.* push it with ") as failed:
        train("--output_dir", str(folder), "--push_to_hub", "you/name", "--hub_private")
    command = str(failed.value).split("push it with ")[1]
    checkpoint = folder / "checkpoint-final"
    assert command == f"hrm-push checkpoint --checkpoint '{checkpoint}' --repo-id you/name --private"
    assert "model.safetensors" in dict(push_checkpoint(checkpoint, "you/name", dry_run=True))


def test_training_refuses_what_could_never_be_pushed(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.hub.hub_errors.get_token", lambda: None)
    with pytest.raises(CheckpointError, match="no token to push to the model you/name"):
        train("--output_dir", str(tmp_path / "run"), "--push_to_hub", "you/name")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match="'name' is no repository id"):
        HrmTrainingArguments(push_to_hub="name")
    with pytest.raises(ArgumentError, match="hub_private is set, but push_to_hub"):
        HrmTrainingArguments(hub_private=True)


# A page


@pytest.fixture
def built_page(tmp_path) -> Path:
    """A folder as examples/space/build.py builds it, with tiny files."""
    folder = tmp_path / "page"
    (folder / "onnxruntime-web").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "space" / "README.md", folder)
    for name in ("index.html", "segment.onnx", "onnxruntime-web/ort.mjs"):
        (folder / name).write_text(name)
    return folder


def test_a_page_becomes_a_static_space(built_page, tmp_path, capsys):
    command = [ROOT / "examples" / "push_to_hub.py", "--space", built_page, "--repo-id", "you/page"]
    with HubServer() as hub:
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        assert COMMANDS["space"].main(["--space", str(built_page), "--repo-id", "you/page", "--dry-run"]) == 0
        *lines, last = capsys.readouterr().out.splitlines()
        assert last.startswith("4 files, ") and last.endswith(" would be sent to the Space you/page")
        assert [line.split()[-1] for line in lines] == sorted(content_of(built_page)) and hub.requests == []
        hub.failures.append(("POST", "/spaces/you/page/commit/", 403))
        (built_page / "old.js").write_text("old")
        broken = warm_processes.run(command, environment, tmp_path)
        assert broken.returncode == 2 and "error: the Space you/page: asked for by the test; log in" in broken.stderr
        run(command, tmp_path, environment)
        (built_page / "old.js").unlink()
        run(command, tmp_path, environment)
        space = hub.repos["space", "you/page"]
        assert space.sdk == "static" and space.files == content_of(built_page)
        assert b"\nsdk: static\n" in space.files["README.md"]


def test_what_is_no_page_is_refused(built_page):
    (built_page / "segment.onnx").unlink()
    with pytest.raises(ArgumentError, match="page is no page: it has no segment.onnx; examples/space/build.py builds"):
        push_space(built_page, "you/page", dry_run=True)
