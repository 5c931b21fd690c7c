"""Folders of published data whose arrays and JSON files are damaged or lie: puzzle files, or a reason, and no file."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from hostile_inputs import TOKENS, examples, mutated, mutated_text, nothing_written_outside, result_or_documented
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_hf.data import PuzzleFile
from hrm_hf.hrm.arc import frame
from hrm_hf.hrm.errors import DataError
from hrm_hf.original.data_folders import convert_published_folder

ARRAYS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
FACTS = {"pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "sets": ["all"], "mean_puzzle_examples": 1.0}
NAMES = ["<blank>", "one", "one_t1_0213456789", "two"]
INTEGERS = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 6, 11, 12, 16, 255, 256, 2**31, 2**63 - 1, -(2**63)])
DTYPES = ["i1", "u1", ">i2", "i4", ">i8", "u8", "f4", "?", "S2", "U1", "M8[s]", "V4", "c8", "O"]
FACT_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 20),
    st.sampled_from([10**9, 2**31, 2**63, 10**400, 1.5, "1", [], ["all"], {}]),
)


def sudoku_folder(folder):
    generator = np.random.default_rng(0)
    values = generator.integers(1, 6, (6, 16)).astype(np.uint8)
    arrays = {"inputs": values, "labels": values[::-1], "puzzle_identifiers": np.zeros(6, np.int32)}
    arrays |= {"puzzle_indices": np.arange(7, dtype=np.int32), "group_indices": np.array([0, 1, 2, 4, 6], np.int32)}
    write(folder, arrays, {"vocab_size": 6, "seq_len": 16, "num_puzzle_identifiers": 1, "total_groups": 4})
    (folder / "identifiers.json").write_text(json.dumps(NAMES[:1]))
    return folder


def arc_folder(folder):
    grids = [np.array(grid, np.uint8) for grid in ([[1, 2], [3, 4]], [[2, 0, 1]], [[5]])]
    plain = [frame(grid, (4, 4)).reshape(-1) for grid in grids]
    colours = np.array([0, 2, 1, 3, 4, 5, 6, 7, 8, 9])
    turned = [frame(colours[np.rot90(grid)], (4, 4)).reshape(-1) for grid in grids]
    inputs = np.stack([plain[0], plain[2], turned[0], turned[2], plain[1]])
    labels = np.stack([plain[1], plain[0], turned[1], turned[0], plain[2]])
    arrays = {"inputs": inputs, "labels": labels, "puzzle_identifiers": np.array([1, 2, 3], np.int32)}
    arrays |= {"puzzle_indices": np.array([0, 2, 4, 5], np.int32), "group_indices": np.array([0, 2, 3], np.int32)}
    write(folder, arrays, {"vocab_size": 12, "seq_len": 16, "num_puzzle_identifiers": 4, "total_groups": 2})
    (folder / "identifiers.json").write_text(json.dumps(NAMES))
    return folder


def write(folder, arrays, facts):
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "dataset.json").write_text(json.dumps(FACTS | facts))
    for name, array in arrays.items():
        np.save(folder / "train" / f"all__{name}.npy", array)


FOLDERS = {"sudoku": sudoku_folder, "arc": arc_folder}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return {task: make(tmp_path_factory.mktemp("seeds") / task) for task, make in FOLDERS.items()}


def convert(folder, out, task):
    for info in convert_published_folder(folder, out, task, overwrite=True):
        file = PuzzleFile(out / f"{info.split}.h5")
        file.check_cells()
        file.identifier_names()


def check(tmp_path, task):
    """A result, or a reason and no file."""
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    done = []
    with nothing_written_outside(tmp_path, out):
        result_or_documented(lambda: done.append(convert(tmp_path / "in", out, task)))
    written = sorted(os.listdir(out)) if out.is_dir() else []
    assert written == (["train.h5"] if done else [])


def copy_of(tmp_path, seed):
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    return shutil.copytree(seed, tmp_path / "in")


@pytest.mark.parametrize("task", FOLDERS)
def test_the_seeds_themselves_are_converted(tmp_path, task, seeds):
    convert(seeds[task], tmp_path, task)


@pytest.mark.parametrize("task", FOLDERS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_damaged_array_files(tmp_path, seeds, task, data):
    folder = copy_of(tmp_path, seeds[task])
    path = folder / "train" / f"all__{data.draw(st.sampled_from(ARRAYS))}.npy"
    content = path.read_bytes()
    head = data.draw(st.booleans())  # the header is where most of the harm is
    path.write_bytes(data.draw(mutated(content[:128], 2)) + content[128:] if head else data.draw(mutated(content, 3)))
    check(tmp_path, task)


@pytest.mark.parametrize("task", FOLDERS)
@settings(max_examples=examples(30))
@given(data=st.data())
def test_arrays_that_lie(tmp_path, seeds, task, data):
    folder = copy_of(tmp_path, seeds[task])
    for _ in range(data.draw(st.integers(1, 2))):
        path = folder / "train" / f"all__{data.draw(st.sampled_from(ARRAYS))}.npy"
        array = np.load(path, allow_pickle=True)
        kind = data.draw(st.sampled_from(["values", "values", "values", "type", "shape", "cut", "gone"]))
        if kind == "values" and array.size and array.dtype.kind in "iu":
            place = data.draw(st.integers(0, array.size - 1))
            array.reshape(-1)[place] = np.array(data.draw(INTEGERS)).astype(array.dtype)
        elif kind == "type" and array.dtype.kind in "iu":
            array = array.astype(data.draw(st.sampled_from(DTYPES)))
        elif kind == "shape":
            array = array.reshape(data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1), (1, 1, -1)])))
        elif kind == "cut":
            array = array[: data.draw(st.integers(0, len(array)))] if array.ndim else array
        np.save(path, array)
        if kind == "gone":
            np.save(path, np.array(0))
    check(tmp_path, task)


@pytest.mark.parametrize("task", FOLDERS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_facts_and_names(tmp_path, seeds, task, data):
    folder = copy_of(tmp_path, seeds[task])
    facts = json.loads((folder / "train" / "dataset.json").read_text())
    kind = data.draw(st.sampled_from(["fact", "fact", "names", "text", "text of names"]))
    if kind == "fact":
        facts[data.draw(st.sampled_from(sorted(facts)))] = data.draw(FACT_VALUES)
        (folder / "train" / "dataset.json").write_text(json.dumps(facts))
    elif kind == "names":
        names = json.loads((folder / "identifiers.json").read_text())
        odd = ["", ".", "..", "../../x", "a/b", "é", "a\nb", "\0", "\ud800", "one_t9_0123456789", "one", "x" * 3000]
        names[data.draw(st.integers(0, len(names) - 1))] = data.draw(
            st.sampled_from([*odd, None, 1, [], f"one_t{'9' * 5000}_0123456789"])
        )
        (folder / "identifiers.json").write_text(json.dumps(names))
    else:
        path = folder / ("train/dataset.json" if kind == "text" else "identifiers.json")
        text = data.draw(mutated_text(path.read_text(), TOKENS))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    check(tmp_path, task)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("name", ["all__inputs.npy", "all__group_indices.npy", "dataset.json", "../identifiers.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere", "loop", "pickle", "archive", "huge"])
def test_what_is_no_array_or_json(tmp_path, seeds, name, kind, monkeypatch):
    path = copy_of(tmp_path, seeds["arc"]) / "train" / name
    monkeypatch.chdir(tmp_path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "nowhere", "loop"):
        path.symlink_to({"device": "/dev/zero", "nowhere": "nowhere", "loop": path.name}[kind])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "archive":
        with open(path, "wb") as file:
            np.savez(file, a=np.zeros(3))
    else:
        with open(path, "wb") as file:
            file.truncate(1 << 40)  # no bytes on the disk
    out = tmp_path / "out"

    def refuse():
        with pytest.raises(DataError, match=os.path.basename(name)):
            convert_published_folder(tmp_path / "in", out, "arc")

    with nothing_written_outside(tmp_path, out):
        result_or_documented(refuse)
