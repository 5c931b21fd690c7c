"""Data sets on the Hub: what a name means, what is refused before anything is sent, and the way there and back.

huggingface_hub reads its settings at import, so what talks to the server (hub_server.py) is a process of its own.
"""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import warm_processes
from hub_server import HubServer
from paths import ROOT

from hrm_hf.data import PuzzleFile, PuzzleSetInfo, PuzzleWriter
from hrm_hf.data.build.sudoku_builder import build_sudoku, generate_rows
from hrm_hf.data.push import push_puzzles
from hrm_hf.hrm.errors import ArgumentError, DataError
from hrm_hf.hub.downloads import puzzle_file_path

STATED = dict(license="mit", source="Generated for a test.")


def build(folder: Path, seed: int) -> Path:
    """Generated 4x4 Sudokus: 12 with 3 variants each to train on, 5 to test on."""
    train, test = generate_rows(12, 5, (2, 2), None, seed)
    build_sudoku(folder, train, test, num_aug=3, seed=seed)
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built") / "data", seed=0)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Names


def test_files_and_folders_of_this_machine(data_dir, tmp_path, monkeypatch):
    assert puzzle_file_path(data_dir / "test.h5") == data_dir / "test.h5"
    assert puzzle_file_path(str(data_dir / "test.h5"), "train") == data_dir / "test.h5"
    assert puzzle_file_path(data_dir, "test") == data_dir / "test.h5"
    assert puzzle_file_path(data_dir) == data_dir / "train.h5"
    (tmp_path / "you").mkdir()
    (tmp_path / "you" / "name").symlink_to(data_dir)
    monkeypatch.chdir(tmp_path)
    assert puzzle_file_path("you/name", "test") == Path("you/name/test.h5")


@pytest.mark.parametrize(
    "name", ["gone", "gone.h5", "you/gone.h5", "./you/name", "/you/name", "a/b/c", Path("you/name")]
)
def test_a_path_that_is_not_there_is_no_question_to_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hrm_hf.hub.downloads.hf_hub_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    with pytest.raises(DataError, match="no such file or folder"):
        puzzle_file_path(name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder/test.h5: there is no such file"):
        puzzle_file_path(tmp_path / "folder", "test")


def test_an_id_that_cannot_be_fetched_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no file or folder 'you/name' here, .* the data set you/name: Cannot reach"):
        puzzle_file_path("you/name")  # the tests run with HF_HUB_OFFLINE=1


def test_another_split_is_refused(data_dir):
    with pytest.raises(ArgumentError, match="split is 'validation', allowed are 'train' and 'test'"):
        puzzle_file_path(data_dir, "validation")


# Refusals before anything is sent; without network, so that a request would fail another way


def test_dry_run_lists_what_would_be_sent(data_dir, capsys, monkeypatch):
    before = content(data_dir)
    command = runpy.run_path(str(ROOT / "examples" / "push_dataset_to_hub.py"))
    arguments = ["--data-dir", str(data_dir), "--repo-id", "user/puzzles", "--license", "mit", "--source", "Words."]
    assert command["main"]([*arguments, "--dry-run"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("3 files, ") and last.endswith(" bytes would be sent to the data set user/puzzles")
    sizes = {line.split()[-1]: int(line.split()[0].replace(",", "")) for line in lines}
    assert sizes.keys() == {"README.md", "train.h5", "test.h5"} and sizes["README.md"] > 1000
    assert {name: sizes[name] for name in before} == {name: len(cells) for name, cells in before.items()}
    assert content(data_dir) == before
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert command["main"](arguments) == 2
    assert capsys.readouterr().err.startswith("error: there is no token to push to the data set user/puzzles")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert command["main"](arguments) == 2
    assert capsys.readouterr().err.startswith(
        "error: nothing can be pushed to the data set user/puzzles: HF_HUB_OFFLINE"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"repo_id": "puzzles"}, "'puzzles' is no repository id"),
        ({"license": ""}, "card's license is ''"),
        ({"source": "  "}, "card's source is '  '"),
    ],
)
def test_statements_that_cannot_be_published(data_dir, given, message):
    with pytest.raises(ArgumentError, match=message):
        push_puzzles(data_dir, **({"repo_id": "user/puzzles", **STATED} | given))


def test_files_that_cannot_be_published(data_dir, tmp_path):
    def refused(match):
        before = content(tmp_path)
        with pytest.raises(DataError, match=match):
            push_puzzles(tmp_path, "user/puzzles", **STATED)
        assert content(tmp_path) == before

    refused("train.h5: there is no such file")
    train, test = tmp_path / "train.h5", tmp_path / "test.h5"
    test.write_bytes((data_dir / "train.h5").read_bytes())
    train.write_bytes((data_dir / "train.h5").read_bytes())
    refused("test.h5: split is 'train', by its name it should be 'test'")
    info = PuzzleSetInfo("toy", "test", 6, PuzzleFile(train).info.vocabulary, (4, 4), num_aug=0, seed=0)
    with PuzzleWriter(test, info, overwrite=True) as writer:
        writer.add_puzzle("0", [np.zeros((1, 2, 16), dtype=np.uint8)], "puzzles", {}, {})
    refused("test.h5: task is 'toy', that of train.h5 is 'sudoku'")
    cells = bytearray(train.read_bytes())
    cells[PuzzleFile(train).stores["offset"][0]] = 99
    train.write_bytes(cells)
    refused("holds the code 99")
    train.write_bytes(cells[:-100])
    refused("truncated")


# There and back


CLIENT = """
import json, runpy, sys
import numpy as np
from hrm_hf.data import PuzzleFile, load_puzzles, training_batches
from hrm_hf.data.push import push_puzzles
from hrm_hf.hub.downloads import puzzle_file_path
from hrm_hf.hrm.errors import HrmError

def arrays(name):
    loaded = {split: load_puzzles(name, split=split)[:] for split in ("train", "test")}
    loaded["batch"] = next(iter(training_batches(name, global_batch_size=8, seed=1)))
    return {f"{part}.{column}": np.asarray(values) for part, rows in loaded.items() for column, values in rows.items()}

def message(action, *arguments, **more):
    try:
        action(*arguments, **more)
    except HrmError as error:
        return f"{type(error).__name__}: {error}"

job = json.loads(sys.argv[1])
STATED = dict(license="mit", source="Generated for a test.")
"""
ONLINE = (
    CLIENT
    + """
push = runpy.run_path(job["command"])["main"]
stated = ["--license", "mit", "--source", "Generated for a test.", "--repo-id", "user/puzzles"]
for folder, private in (("first", ["--private"]), ("first", []), ("second", [])):
    assert push(["--data-dir", job[folder], *stated, *private]) == 0
    np.savez(f"{job['out']}/{folder}.npz", **arrays("user/puzzles"))
    np.savez(f"{job['out']}/{folder}_local.npz", **arrays(job[folder]))
    with open(f"{job['out']}/{folder}.txt", "w") as file:
        file.write(str(puzzle_file_path("user/puzzles", "test")))
said = {
    "unknown": message(load_puzzles, "user/nothing"),
    "other": message(load_puzzles, "user/other", split="test"),
    "damaged": message(load_puzzles, "user/damaged"),
    "id": message(load_puzzles, "user/na..me"),
    "public": message(push_puzzles, job["first"], "user/other", private=True, **STATED),
    "token": message(push_puzzles, job["first"], "user/mine", token="hf_wrong", **STATED),
}
print(json.dumps(said))
"""
)
OFFLINE = (
    CLIENT
    + """
np.savez(f"{job['out']}/offline.npz", **arrays("user/puzzles"))
score = runpy.run_path(job["score"])["main"]
from hrm_hf import HrmConfig, HrmForPuzzleSolving, HrmProcessor
info = PuzzleFile(puzzle_file_path("user/puzzles")).info
sizes = dict(hidden_size=16, num_attention_heads=1, H_layers=1, L_layers=1, puzzle_emb_ndim=16, halt_max_steps=1)
config = HrmConfig(vocab_size=info.vocab_size, seq_len=info.seq_len, num_puzzle_identifiers=1, **sizes)
HrmForPuzzleSolving(config).save_pretrained(f"{job['out']}/model")
HrmProcessor(task="sudoku", grid_shape=(4, 4), box_shape=(2, 2)).save_pretrained(f"{job['out']}/model")
score(["--checkpoint", f"{job['out']}/model", "--data", "user/puzzles"])
print(json.dumps({"uncached": message(load_puzzles, "user/nothing")}))
"""
)


def run_client(script: str, job: dict, environment: dict) -> list[str]:
    """The lines that a client process printed."""
    environment = environment | {"PYTHONPATH": str(ROOT)}
    done = warm_processes.run(["-c", script, json.dumps(job)], environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def pushed(data_dir, tmp_path_factory):
    """A client that pushes a data set, the same again, and another in its place, and loads after each; then a second
    one without network. (folder of what they loaded, what they said, the server as they left it)."""
    second = build(tmp_path_factory.mktemp("built") / "data", seed=1)
    before = content(data_dir)
    out, home = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("home")
    job = {"first": str(data_dir), "second": str(second), "out": str(out)}
    job["command"] = str(ROOT / "examples" / "push_dataset_to_hub.py")
    job["score"] = str(ROOT / "examples" / "evaluate_checkpoint.py")
    with HubServer() as hub:
        hub.add("dataset", "user/other", {"train.csv": b"question,answer\n"})
        hub.add("dataset", "user/damaged", {"train.h5": before["train.h5"][:-50]})
        environment = hub.environment(home)
        said = json.loads(run_client(ONLINE, job, environment)[-1])
    *table, last = run_client(OFFLINE, job, environment | {"HF_HUB_OFFLINE": "1"})
    assert content(data_dir) == before
    return out, said | json.loads(last) | {"table": table}, hub


def same_arrays(one: Path, other: Path) -> None:
    with np.load(one) as loaded, np.load(other) as expected:
        assert set(loaded) == set(expected) and len(loaded.files) == 2 * 7 + 3
        for name in expected:
            assert loaded[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(loaded[name], expected[name])


def test_rows_and_batches_come_back_as_they_were(pushed):
    out, _, hub = pushed
    for folder in ("first", "second"):
        same_arrays(out / f"{folder}.npz", out / f"{folder}_local.npz")
    with np.load(out / "first.npz") as first, np.load(out / "second.npz") as second:
        assert (first["test.input_ids"] != second["test.input_ids"]).any()


def test_the_repository_holds_the_files_and_the_card(pushed, data_dir):
    _, _, hub = pushed
    repo = hub.repos["dataset", "user/puzzles"]
    assert repo.files.keys() == {"README.md", "train.h5", "test.h5"}
    assert repo.private  # as it was made; later pushes without --private leave it so
    first = next(files for files in repo.snapshots.values() if files)
    assert {name: first[name] for name in ("train.h5", "test.h5")} == content(data_dir)
    assert 'load_puzzles("user/puzzles", split="test")' in repo.files["README.md"].decode()


def test_downloads_are_cached_by_content(pushed):
    out, _, hub = pushed
    fetched = [path for method, path in hub.requests if method == "GET" and path.endswith(".h5")]
    assert len(fetched) == 2 + 2 + 1  # two files of two data sets once each, and the damaged one
    uploads = [path for method, path in hub.requests if method == "PUT"]
    assert len(set(uploads)) == len(uploads) == 4  # two files of two data sets: the repeated push sent none again
    assert (out / "first.txt").read_text() != (out / "second.txt").read_text()


def test_without_network_the_cache_serves(pushed):
    out, said, _ = pushed
    same_arrays(out / "offline.npz", out / "second_local.npz")
    assert "no file or folder 'user/nothing' here, and on the Hub" in said["uncached"]


def test_a_checkpoint_is_scored_on_a_data_set_of_the_hub(pushed):
    _, said, _ = pushed
    assert any("on user/puzzles: 5 puzzles" in line for line in said["table"])


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("unknown", ["no file or folder 'user/nothing'", "Repository not found; check the name"]),
        ("other", ["no file or folder 'user/other'", "there is no http", "/user/other/resolve/main/test.h5"]),
        ("damaged", ["train.h5", "truncated"]),
        ("id", ["Cannot have -- or .. in repo_id: 'user/na..me'", "expected owner/name"]),
        ("public", ["user/other", "is public", "nothing was sent"]),
        ("token", ["the data set user/mine: Invalid"]),
    ],
)
def test_what_goes_wrong_is_one_line_that_names_it(pushed, case, words):
    _, said, hub = pushed
    assert said[case].startswith("DataError: ") and "\n" not in said[case]
    for word in words:
        assert word in said[case]
    assert ("dataset", "user/mine") not in hub.repos
    assert hub.repos["dataset", "user/other"].files.keys() == {"train.csv"}
