"""Published data folders -> puzzle files: the recorded arrays of all three tasks come in, and damaged ones do not."""

import importlib.util
import json
import os
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import paths
import pytest
import warm_processes
from golden_fixtures import golden_arrays
from hub_server import HubServer
from paths import ROOT

from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.hrm.arc import ArcAugmentation, frame
from hrm_hf.hrm.errors import ArgumentError, DataError
from hrm_hf.original.data_folders import convert_published_folder

GOLDEN = paths.GOLDEN / "G"
CONFIG = json.loads((GOLDEN / "config.json").read_text())
COMMAND = ROOT / "convert" / "hrm_data_to_hdf5.py"
ARRAYS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")


def load_command():
    spec = importlib.util.spec_from_file_location("hrm_data_to_hdf5", COMMAND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


main = load_command().main


def recorded(name: str, prefix: str = "") -> dict[str, np.ndarray]:
    content = golden_arrays(GOLDEN / f"{name}.npz")
    return {array: content[prefix + array] for array in ARRAYS}


def write_split(folder: Path, split: str, arrays: dict[str, np.ndarray], facts: dict) -> Path:
    """One split as the published builders write it; returns the folder above it."""
    (folder / split).mkdir(parents=True)
    (folder / split / "dataset.json").write_text(json.dumps(facts))
    for name, array in arrays.items():
        np.save(folder / split / f"all__{name}.npy", array)
    return folder


def write_names(folder: Path, names: list[str]) -> Path:
    (folder / "identifiers.json").write_text(json.dumps(names))
    return folder


def full_frames(folder: Path, task: str) -> Path:
    """The recorded Sudokus or mazes as both splits."""
    for split in ("train", "test"):
        write_split(folder, split, recorded(task), CONFIG[task]["dataset_json"])
    return write_names(folder, ["<blank>"])


def arc_folder(folder: Path, **changes) -> Path:
    """The recorded ARC build; changes: names, or train = function that alters a copy of the training arrays."""
    for split in ("train", "test"):
        arrays = {name: array.copy() for name, array in recorded("arc_build", f"{split}.").items()}
        if split == "train" and "train" in changes:
            arrays = changes["train"](arrays)
        write_split(folder, split, arrays, CONFIG[f"arc_{split}_dataset_json"])
    return write_names(folder, changes.get("names", CONFIG["arc_identifiers"]))


def places(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(group, variant in it, example of that) of each row, by the indices of a published split."""
    found = []
    for group, (first, stop) in enumerate(zip(arrays["group_indices"], arrays["group_indices"][1:], strict=False)):
        for puzzle in range(first, stop):
            start, end = arrays["puzzle_indices"][puzzle : puzzle + 2]
            found += [(group, puzzle - first, example) for example in range(end - start)]
    return tuple(np.array(found).T)


def assert_same_rows(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Every value in the published order, and every row in its group."""
    rows = load_puzzles(path)[:]
    assert np.array_equal(rows["input_ids"], arrays["inputs"])
    assert np.array_equal(rows["labels"], arrays["labels"])  # none is 0, which would be ignored
    groups, variants, examples = places(arrays)
    assert np.array_equal(rows["group"], groups)
    assert np.array_equal(rows["variant"], variants)
    assert np.array_equal(rows["example"], examples)


@pytest.mark.parametrize(("task", "num_aug", "puzzle_ids"), [("sudoku", 0, 1), ("maze", 7, 1)])
def test_sudokus_and_mazes_value_for_value(tmp_path, capsys, task, num_aug, puzzle_ids):
    folder, facts = full_frames(tmp_path / "in", task), CONFIG[task]["dataset_json"]
    assert main([f"--input-dir={folder}", f"--output-dir={tmp_path / 'out'}", f"--task={task}"]) == 0
    assert f"train.h5: {facts['total_groups']} puzzles, " in capsys.readouterr().out
    for split in ("train", "test"):
        path = tmp_path / "out" / f"{split}.h5"
        assert_same_rows(path, recorded(task))
        file = PuzzleFile(path)
        for name in ("pad_id", "ignore_label_id", "blank_identifier_id", "vocab_size", "seq_len"):
            assert getattr(file.info, name) == facts[name]
        assert file.info.num_puzzle_identifiers == facts["num_puzzle_identifiers"]
        assert (file.info.task, file.info.split, file.info.num_aug, file.info.seed) == (task, split, num_aug, 0)
        assert (file.info.num_groups, file.info.mean_examples) == (
            facts["total_groups"],
            facts["mean_puzzle_examples"],
        )
        assert len(file.puzzle_ids) == puzzle_ids
        with h5py.File(file.path) as raw:
            assert next(iter(raw["puzzles"].values()))["metadata"].attrs["source"] == "published folder"


def augmented_sudokus() -> tuple[np.ndarray, np.ndarray]:
    """The recorded variants of one Sudoku: codes (n, 81) of questions and answers."""
    content = golden_arrays(GOLDEN / "sudoku_augment.npz")
    boards = [name for name in content if name.endswith("board")]
    solutions = [name.removesuffix("board") + "solution" for name in boards]
    return tuple(
        np.stack([content[n].reshape(81) for n in names]).astype(np.uint8) + 1 for names in (boards, solutions)
    )


@pytest.mark.parametrize("block_rows", [2, 100_000])
def test_groups_of_one_and_of_many_puzzles_keep_their_order(tmp_path, monkeypatch, block_rows):
    monkeypatch.setattr("hrm_hf.data.schema.BLOCK_ROWS", block_rows)
    plain, (questions, answers) = recorded("sudoku"), augmented_sudokus()
    inputs = np.concatenate([plain["inputs"], questions[:3], plain["inputs"], questions[:4], plain["inputs"][:2]])
    labels = np.concatenate([plain["labels"], answers[:3], plain["labels"], answers[:4], plain["labels"][:2]])
    arrays = {
        "inputs": inputs.astype(np.int32),  # other integers are read too
        "labels": labels.astype(np.int64),
        # three single puzzles, three variants, three single ones, two variants of two examples, one puzzle of two
        "puzzle_indices": np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15]),
        "group_indices": np.array([0, 1, 2, 3, 6, 7, 8, 9, 11, 12]),
        "puzzle_identifiers": np.zeros(12, np.int64),
    }
    facts = CONFIG["sudoku"]["dataset_json"] | {"total_groups": 9}
    folder = write_split(tmp_path / "in", "train", arrays, facts)
    (info,) = convert_published_folder(folder, tmp_path / "out", "sudoku")
    assert (info.num_groups, info.num_puzzles, info.num_rows, info.num_aug) == (9, 12, 15, 2)
    assert_same_rows(tmp_path / "out" / "train.h5", arrays)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.h5"]
    blocks = 4 if block_rows == 2 else 2
    assert len(PuzzleFile(tmp_path / "out" / "train.h5").puzzle_ids) == 3 + blocks


def test_variants_with_unequal_numbers_of_examples_are_refused(tmp_path):
    arrays = recorded("maze")
    arrays["puzzle_indices"] = np.delete(arrays["puzzle_indices"], 3)  # puzzle 2 has two examples
    arrays["puzzle_identifiers"] = np.zeros(15, np.int32)
    arrays["group_indices"] = np.array([0, 7, 15], np.int32)
    folder = write_split(tmp_path / "in", "train", arrays, CONFIG["maze"]["dataset_json"])
    with pytest.raises(DataError, match="puzzle 2 has another number of examples than the first of its group"):
        convert_published_folder(folder, tmp_path / "out", "maze")
    assert not list((tmp_path / "out").glob("*"))


def test_identifiers_of_full_frames_are_kept_with_their_names(tmp_path):
    arrays = recorded("sudoku") | {"puzzle_identifiers": np.array([2, 1, 0], np.int32)}
    facts = CONFIG["sudoku"]["dataset_json"] | {"num_puzzle_identifiers": 3}
    folder = write_split(tmp_path / "in", "train", arrays, facts)
    with pytest.raises(DataError, match="identifiers.json beside"):
        convert_published_folder(folder, tmp_path / "out", "sudoku")
    write_names(folder, ["<blank>", "one", "two"])
    convert_published_folder(folder, tmp_path / "out", "sudoku")
    file = PuzzleFile(tmp_path / "out" / "train.h5")
    assert file.row_names(np.arange(3)) == ["two", "one", "<blank>"]
    assert load_puzzles(tmp_path / "out" / "train.h5")[:]["puzzle_identifiers"].tolist() == [2, 1, 0]


# --- ARC -------------------------------------------------------------------------------------------------------------


def test_arc_frames_become_the_grids_that_they_show(tmp_path):
    infos = convert_published_folder(arc_folder(tmp_path / "in"), tmp_path / "out", "arc")
    names = CONFIG["arc_identifiers"]
    for info, split in zip(infos, ("train", "test"), strict=True):
        arrays, file = recorded("arc_build", f"{split}."), PuzzleFile(tmp_path / "out" / f"{split}.h5")
        assert info == file.info
        assert (info.split, info.num_aug, info.num_puzzle_identifiers) == (split, 3, len(names))
        rows = load_puzzles(file.path)[:]
        assert [names[number] for number in rows["puzzle_identifiers"]] == file.row_names(np.arange(info.num_rows))
        wanted = []  # from the tasks themselves
        for task in file.puzzle_ids:
            pairs = CONFIG[f"arc_task_{task}"]
            evaluated = task.startswith("eval")
            pairs = pairs["test"] if split == "test" else pairs["train"] + ([] if evaluated else pairs["test"])
            for name in (name for name in names[1:] if name.startswith(task)):
                augmentation = ArcAugmentation.parse(name)[1]
                wanted += [
                    [frame(augmentation.apply(np.array(pair[s]))) for s in ("input", "output")] for pair in pairs
                ]
        wanted = np.array(wanted).reshape(-1, 2, 900)
        assert len(wanted) == len(arrays["inputs"]) == info.num_rows
        assert np.array_equal(rows["input_ids"], wanted[:, 0])
        assert np.array_equal(np.maximum(rows["labels"], 0), wanted[:, 1])
    # test frames have no offset: the published values themselves
    assert np.array_equal(rows["input_ids"], arrays["inputs"])
    assert file.identifier_names()[:5] == names[:5]
    with h5py.File(file.path) as raw:
        assert next(iter(raw["puzzles"].values()))["metadata"].attrs["source"] == "published folder"


def test_arc_tasks_are_stored_in_the_order_of_their_names(tmp_path):
    names = [name.replace("eval", "zval") for name in CONFIG["arc_identifiers"]]
    convert_published_folder(arc_folder(tmp_path / "in", names=names), tmp_path / "out", "arc")
    file, arrays = PuzzleFile(tmp_path / "out" / "train.h5"), recorded("arc_build", "train.")
    assert file.puzzle_ids == ["trai0000", "zval0000"]
    rows = load_puzzles(file.path)[:]
    identifiers = np.repeat(arrays["puzzle_identifiers"], np.diff(arrays["puzzle_indices"]))
    assert rows["puzzle_identifiers"].tolist() == [*identifiers[8:], *identifiers[:8]]  # what they were


def altered(row: int, side: str, cells: dict[tuple[int, int], int] | None = None, offset: int = 0):
    """Changes one training frame: single cells, counted from its grid's corner, or its place."""

    def change(arrays):
        frames = arrays[side].reshape(-1, 30, 30)
        lines, columns = np.nonzero(frames[row] >= 2)
        for (line, column), code in (cells or {}).items():
            frames[row, lines.min() + line, columns.min() + column] = code
        if offset:
            frames[row] = np.roll(frames[row], offset, axis=1)
        return arrays

    return change


def fewer_examples(arrays):
    """The last puzzle of the first group gives its last example to the second group's first."""
    arrays["puzzle_indices"][4] -= 1
    return arrays


def without_original(arrays):
    """The first group begins with its second puzzle."""
    arrays["puzzle_identifiers"][:2] = arrays["puzzle_identifiers"][1::-1]
    return arrays


def two_groups_of_one_task(arrays):
    arrays["puzzle_identifiers"][4:] = arrays["puzzle_identifiers"][:4]
    return arrays


def renamed(number: int, name: str) -> list[str]:
    names = list(CONFIG["arc_identifiers"])
    names[number] = name
    return names


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"train": altered(2, "inputs", {(0, 0): 5})}, "row 2, example 0 of 'eval0000_t6_0926183754'"),
        (
            {"train": altered(3, "labels", {(2, 0): 0})},
            "do not show the original's grids as its name says",
        ),  # EOS is gone
        (
            {"train": altered(3, "labels", {(2, 0): 7})},
            "row 3, example 1 of 'eval0000_t6_0926183754': its frames do not show",
        ),
        ({"train": altered(4, "labels", offset=1)}, "row 4, example 0 of"),
        ({"train": altered(0, "inputs", {(1, 1): 1})}, "row 0, example 0 of 'eval0000': its frames do not show"),
        (
            {"train": altered(5, "labels", {(r, c): 1 for r in range(2) for c in range(2)})},
            "row 5, example 1 of",
        ),
        ({"train": fewer_examples}, "puzzle 3 has another number of examples"),
        (
            {"train": without_original},
            "'eval0000_t6_0926183754' is no variant of 'eval0000_t6_0926183754', the first of its group",
        ),
        ({"train": two_groups_of_one_task}, "row 11, example 0 of 'eval0000_t6_0926183754'"),
        ({"names": renamed(2, "other_t6_0926183754")}, "'other_t6_0926183754' is no variant of 'eval0000'"),
        ({"names": renamed(2, "eval0000_t5_0926183754")}, "eval0000_t5_0926183754"),  # another transform
        (
            {"names": renamed(2, "eval0000_t6_0926183745")},
            "0 of 'eval0000_t6_0926183745': its frames do not show",
        ),  # other colours
        ({"names": renamed(2, "eval0000_t9_0926183754")}, "is no augmentation of a task"),
        ({"names": renamed(2, "eval0000 und Gefolge")}, "'eval0000 und Gefolge' is no variant of 'eval0000'"),
        ({"names": renamed(1, "über")}, "'über'"),
        ({"names": CONFIG["arc_identifiers"][:-1]}, "have [8, 9] puzzle identifiers"),
    ],
)
def test_arc_that_cannot_be_stored_is_refused(tmp_path, changes, part):
    folder = arc_folder(tmp_path / "in", **changes)
    with pytest.raises(DataError) as caught:
        convert_published_folder(folder, tmp_path / "out", "arc")
    assert part in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


def test_arc_without_names_is_refused(tmp_path):
    folder = arc_folder(tmp_path / "in")
    (folder / "identifiers.json").unlink()
    with pytest.raises(DataError, match="identifiers.json beside"):
        convert_published_folder(folder, tmp_path / "out", "arc")


# --- bad folders: one line, exit code 2, nothing written -------------------------------------------------------------


def with_array(name: str, change):
    def apply(folder: Path) -> None:
        path = folder / "train" / f"all__{name}.npy"
        np.save(path, change(np.load(path)))

    return apply


def with_fact(**facts):
    def apply(folder: Path) -> None:
        path = folder / "test" / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))

    return apply


def with_bytes(name: str, change):
    def apply(folder: Path) -> None:
        path = folder / "train" / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def changed(index, value):
    def apply(array):
        array = array.astype(np.int64)
        array[index] = value
        return array

    return apply


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (with_array("inputs", lambda a: a.astype(np.float32)), "all__inputs.npy is float32 (16, 36)"),
        (with_array("inputs", lambda a: a[:0]), "all__inputs.npy"),
        (with_array("labels", lambda a: a[:15]), "has the shape (16, 36), all__labels.npy (15, 36)"),
        (with_array("inputs", lambda a: a[:, 0]), "expected integers with 2 axes"),
        (with_array("inputs", changed((3, 5), 6)), "holds 6 in row 3, cell 5; allowed are 0 to 5"),
        (with_array("labels", changed((3, 5), -100)), "holds -100 in row 3, cell 5"),
        (with_array("labels", changed((9, 5), 2**33)), "holds 8589934592 in row 9"),
        (with_array("puzzle_identifiers", changed(4, 1)), "must hold 16 numbers from 0 to 0"),
        (with_array("puzzle_identifiers", changed(4, -1)), "must hold 16 numbers from 0 to 0"),
        (with_array("puzzle_identifiers", lambda a: a[:-1]), "must hold 16 numbers from 0 to 0"),
        (with_array("puzzle_indices", changed(0, 1)), "all__puzzle_indices.npy must rise from 0 to 16"),
        (with_array("puzzle_indices", changed(-1, 17)), "all__puzzle_indices.npy must rise from 0 to 16"),
        (with_array("puzzle_indices", changed(5, 4)), "all__puzzle_indices.npy must rise from 0 to 16"),
        (with_array("group_indices", changed(1, 16)), "all__group_indices.npy must rise from 0 to 16"),
        (with_array("group_indices", lambda a: a[[0, 2]]), "total_groups is 2, maze arrays of this shape need 1"),
        (
            with_array("puzzle_indices", lambda a: a[[0, 2, *range(3, 17)]]),
            "all__group_indices.npy must rise from 0 to 15",
        ),
        (with_bytes("all__inputs.npy", lambda b: b[:-1]), "all__inputs.npy is damaged"),
        (with_bytes("all__inputs.npy", lambda b: b[:9]), "all__inputs.npy is damaged"),
        (with_bytes("all__inputs.npy", lambda b: b""), "all__inputs.npy is damaged"),
        (
            with_bytes("all__inputs.npy", lambda b: pickle.dumps([1, 2])),
            "all__inputs.npy is damaged (cut short?) or no .npy file",
        ),
        (with_bytes("all__inputs.npy", lambda b: b.replace(b"'shape'", b"'shabe'")), "all__inputs.npy is damaged"),
        (
            with_bytes("all__inputs.npy", lambda b: (GOLDEN / "maze.npz").read_bytes()),
            "all__inputs.npy is damaged (cut short?) or no .npy file",
        ),
        (with_bytes("dataset.json", lambda b: b[:-3]), "dataset.json is not valid JSON"),
        (with_bytes("dataset.json", lambda b: b"[" * 100_000), "dataset.json is not valid JSON"),
        (with_bytes("dataset.json", lambda b: b"[1]"), "holds a JSON list, expected a dict"),
        (with_fact(sets=["all", "more"]), "sets is ['all', 'more']"),
        (with_fact(vocab_size=11), "vocab_size is 11, maze arrays of this shape need 6"),
        (with_fact(seq_len=35), "seq_len is 35, maze arrays of this shape need 36"),
        (with_fact(seq_len="36"), "seq_len is '36'"),
        (with_fact(pad_id=True), "pad_id is True"),
        (with_fact(ignore_label_id=1), "ignore_label_id is 1"),
        (with_fact(total_groups=3), "total_groups is 3"),
        (with_fact(num_puzzle_identifiers=2), "the splits and identifiers.json have [1, 2] puzzle identifiers"),
        (with_fact(blank_identifier_id=1), "blank_identifier_id is 1"),
        (lambda folder: (folder / "train" / "all__labels.npy").unlink(), "all__labels.npy: there is no such file"),
        (
            lambda folder: (folder / "identifiers.json").write_text('{"a": 1}'),
            "holds a JSON dict, expected a list",
        ),
        (lambda folder: (folder / "identifiers.json").write_text("["), "identifiers.json is not valid JSON"),
    ],
)
def test_damaged_folders(tmp_path, capsys, damage, part):
    folder = full_frames(tmp_path / "in", "maze")
    damage(folder)
    assert main([f"--input-dir={folder}", f"--output-dir={tmp_path / 'out'}", "--task=maze"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert part in message
    assert not list((tmp_path / "out").glob("*"))


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["array of objects", "bare pickle"])
def test_pickled_objects_are_not_run(tmp_path, capsys, form):
    marker, folder = tmp_path / "it ran", full_frames(tmp_path / "in", "maze")
    path = folder / "train" / "all__inputs.npy"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Malicious(marker)))
    else:
        np.save(path, np.array([Malicious(marker)], dtype=object), allow_pickle=True)
    np.load(path, allow_pickle=True)
    assert marker.is_dir()  # it would run
    marker.rmdir()
    assert main([f"--input-dir={folder}", f"--output-dir={tmp_path / 'out'}", "--task=maze"]) == 2
    message = capsys.readouterr().err
    assert not marker.exists()
    assert "all__inputs.npy is damaged (cut short?) or no .npy file of numbers" in message


def test_folders_that_are_none_and_another_task(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        convert_published_folder(tmp_path / "nowhere", tmp_path / "out", "maze")
    with pytest.raises(DataError, match="neither a folder train nor a folder test"):
        convert_published_folder(tmp_path, tmp_path / "out", "maze")
    with pytest.raises(ArgumentError, match="task is 'chess'; allowed are sudoku, maze, arc"):
        convert_published_folder(tmp_path, tmp_path / "out", "chess")
    folder = full_frames(tmp_path / "in", "maze")
    for task in ("sudoku", "arc"):
        with pytest.raises(DataError, match=f"vocab_size is 6, {task} arrays of this shape need"):
            convert_published_folder(folder, tmp_path / "out", task)
    assert not list((tmp_path / "out").glob("*"))


def test_files_in_place_stay_unless_overwriting_is_asked_for(tmp_path):
    folder = full_frames(tmp_path / "in", "maze")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "test.h5").write_text("mine")
    with pytest.raises(ArgumentError, match="test.h5 already exists: choose another folder, or pass --overwrite"):
        convert_published_folder(folder, tmp_path / "out", "maze")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test.h5"]
    assert (tmp_path / "out" / "test.h5").read_text() == "mine"
    convert_published_folder(folder, tmp_path / "out", "maze", overwrite=True)
    assert PuzzleFile(tmp_path / "out" / "test.h5").info.num_rows == 16


def test_a_hub_data_set_in_place_of_a_folder(tmp_path):
    folder = arc_folder(tmp_path / "in")
    convert_published_folder(folder, tmp_path / "local", "arc")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    script = (
        "import runpy, sys; command = runpy.run_path(sys.argv[1])['main']\n"
        "sys.exit([command(['--task=arc', '--input-dir=' + name, '--output-dir=' + sys.argv[2]])\n"
        "          for name in ('user/arc', 'user/none')] != [0, 2])"
    )
    with HubServer() as hub:
        hub.add("dataset", "user/arc", files | {"notes/large.bin": b"not wanted"})
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        finished = warm_processes.run(["-c", script, COMMAND, tmp_path / "out"], environment)
        assert finished.returncode == 0, finished.stderr
        assert not any("large.bin" in path for _, path in hub.requests)
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "user/none" in errors[0]
    for name in ("train.h5", "test.h5"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


@pytest.mark.parametrize(("task", "unit"), [("maze", "blocks"), ("arc", "tasks")])
def test_long_work_shows_how_far_it_is(tmp_path, capsys, every_line, task, unit):
    folder = arc_folder(tmp_path) if task == "arc" else full_frames(tmp_path, task)
    for info in convert_published_folder(folder, tmp_path / "out", task):
        PuzzleFile(tmp_path / "out" / f"{info.split}.h5").check_cells()
        said = capsys.readouterr().err
        assert re.search(f"^writing {info.split}.h5: 1/[0-9]+ {unit}, ", said, re.MULTILINE) or info.split == "test"
        assert re.search(f"^checking {info.split}.h5: 1/[0-9]+ arrays, ", said, re.MULTILINE)
