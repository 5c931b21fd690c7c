"""Puzzle files: schema, writer and reader. What is written comes back; what is damaged is refused with the reason."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from hrm_hf.data import PuzzleFile, PuzzleSetInfo, PuzzleWriter
from hrm_hf.errors import ArgumentError, DataError

SEQ_LEN, VOCAB = 6, 7
INFO = PuzzleSetInfo(
    task="toy",
    split="train",
    vocab_size=VOCAB,
    vocabulary=("PAD", "a", "b", "c", "d", "e", "f"),
    grid_shape=(2, 3),
    num_aug=4,
    seed=11,
)


def toy_arrays():
    """Two groups of variants with 2 and 3 examples, and a block of 4 puzzles: {id: (rows_are, list of (rows, 2,
    S))}.
    """
    generator = np.random.default_rng(0)

    def cells(rows):
        return generator.integers(0, VOCAB, (rows, 2, SEQ_LEN), dtype=np.uint8)

    return {
        "a": ("variants", [cells(5) for _ in range(2)]),
        "b": ("puzzles", [cells(4)]),
        "c": ("variants", [cells(3) for _ in range(3)]),
    }


def write(path, arrays=None, info=INFO, overwrite=False):
    arrays = toy_arrays() if arrays is None else arrays
    with PuzzleWriter(path, info, overwrite) as writer:
        for puzzle_id, (rows_are, examples) in arrays.items():
            writer.add_puzzle(puzzle_id, examples, rows_are, {"source": "toy"}, {"code": np.arange(len(examples[0]))})
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "toy.h5")


def stored_rows(arrays):
    """All rows in stored order: puzzle by puzzle, variant by variant, example by example."""
    rows = [e[v] for _, examples in arrays.values() for v in range(len(examples[0])) for e in examples]
    return np.stack(rows)


def test_rows_come_back_in_stored_order_with_groups_and_variants(path):
    file = PuzzleFile(path)
    numbers = np.arange(file.info.num_rows)
    np.testing.assert_array_equal(file.read(*file.locate_rows(numbers)), stored_rows(toy_arrays()))
    groups, variants = file.groups_and_variants(numbers)
    assert groups.tolist() == [0] * 10 + [1, 2, 3, 4] + [5] * 9
    assert variants.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] + [0] * 4 + [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (file.info.num_groups, file.info.num_puzzles, file.info.num_rows) == (6, 12, 23)
    assert file.info.mean_examples == 23 / 12 and file.info.seq_len == SEQ_LEN


def test_a_draw_of_the_sampler_finds_its_row(path):
    file, arrays = PuzzleFile(path), toy_arrays()
    found = file.read(*file.locate(np.array([5, 3, 0]), np.array([2, 0, 4]), np.array([1, 0, 1])))
    expected = [arrays["c"][1][1][2], arrays["b"][1][0][2], arrays["a"][1][1][4]]
    np.testing.assert_array_equal(found, np.stack(expected))
    assert [counts.tolist() for counts in file.group_counts()] == [[5, 1, 1, 1, 1, 3], [2, 1, 1, 1, 1, 3]]


def test_rows_are_fresh_arrays(path):
    file = PuzzleFile(path)
    rows = file.read(*file.locate_rows(np.array([0, 0])))
    rows[:] = 0
    np.testing.assert_array_equal(file.read(*file.locate_rows(np.array([0])))[0], stored_rows(toy_arrays())[0])


@pytest.mark.parametrize("row", [-1, 5])
def test_rows_outside_an_array_are_refused(path, row):
    with pytest.raises(IndexError):
        PuzzleFile(path).read(np.array([0]), np.array([row]))


def test_chunked_and_compressed_arrays_are_read_too(path, tmp_path):
    packed = tmp_path / "packed.h5"
    with h5py.File(path) as old, h5py.File(packed, "w") as new:
        old.copy("puzzles", new)
        new.attrs.update(old.attrs)
        for name in ("puzzles/a/examples/1", "puzzles/b/examples/0"):
            cells = new[name][:]
            del new[name]
            new.create_dataset(name, data=cells, compression="gzip", chunks=(2, 2, SEQ_LEN))
    file = PuzzleFile(packed)
    assert (file.store_offsets < 0).sum() == 2
    shuffled = np.random.default_rng(1).integers(0, file.info.num_rows, 40)  # with repetitions
    np.testing.assert_array_equal(file.read(*file.locate_rows(shuffled)), stored_rows(toy_arrays())[shuffled])
    file.check_cells()


def test_info_survives_the_file(path):
    info = PuzzleFile(path).info
    assert replace(info, num_groups=0, num_puzzles=0, num_rows=0) == INFO
    with_box = replace(INFO, grid_shape=(4, 4), box_shape=(2, 2))
    assert PuzzleSetInfo.from_attributes(with_box.to_attributes()) == with_box


def test_equal_content_gives_equal_bytes(path, tmp_path):
    assert write(tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_pickled_files_reopen_and_notice_changes(path):
    pickled = pickle.dumps(PuzzleFile(path))
    assert len(pickled) < 1000  # a path, not the data
    np.testing.assert_array_equal(pickle.loads(pickled).store_rows, PuzzleFile(path).store_rows)
    write(path, {"a": toy_arrays()["a"]}, overwrite=True)
    with pytest.raises(DataError, match="changed"):
        pickle.loads(pickled)


def test_writer_refuses_to_overwrite_and_leaves_nothing_torn(path, tmp_path):
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match="exists already"):
        PuzzleWriter(path, INFO)
    with pytest.raises(ZeroDivisionError), PuzzleWriter(path, INFO, overwrite=True) as writer:
        writer.add_puzzle("a", toy_arrays()["a"][1], "variants", {}, {})
        raise ZeroDivisionError
    with pytest.raises(DataError, match="no puzzle"), PuzzleWriter(tmp_path / "none.h5", INFO):
        pass
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.h5"]


@pytest.mark.parametrize(
    ("examples", "rows_are", "arrays", "message"),
    [
        ([np.zeros((2, 2, 5), np.uint8)], "variants", {}, "needed is uint8"),
        ([np.zeros((2, 2, 6), np.int64)], "variants", {}, "int64"),
        ([np.zeros((2, 2, 6), np.uint8), np.zeros((3, 2, 6), np.uint8)], "variants", {}, "example 1"),
        ([np.zeros((0, 2, 6), np.uint8)], "variants", {}, "example 0"),
        ([], "variants", {}, "no examples"),
        ([np.full((2, 2, 6), 7, np.uint8)], "variants", {}, "code 7"),
        ([np.zeros((2, 2, 6), np.uint8)], "rows", {}, "'rows'"),
        ([np.zeros((2, 2, 6), np.uint8)], "variants", {"code": np.arange(3)}, "3 entries for 2 rows"),
    ],
)
def test_writer_refuses_what_the_layout_does_not_allow(tmp_path, examples, rows_are, arrays, message):
    with pytest.raises(DataError, match=message), PuzzleWriter(tmp_path / "bad.h5", INFO) as writer:
        writer.add_puzzle("a", examples, rows_are, {}, arrays)


def test_writer_wants_ascending_ids(tmp_path):
    with pytest.raises(DataError, match="'a' must come after 'b'"), PuzzleWriter(tmp_path / "bad.h5", INFO) as writer:
        for puzzle_id in ("b", "a"):
            writer.add_puzzle(puzzle_id, toy_arrays()["a"][1], "variants", {}, {})


def _set(name, value):
    def damage(file):
        file.attrs[name] = value

    return damage


def _replace_array(name, array):
    def damage(file):
        del file[name]
        file[name] = array

    return damage


def _link(name, link):
    def damage(file):
        del file[name]
        file[name] = link

    return damage


def _external(file):
    del file["puzzles/a/examples/0"]
    external = [("/dev/zero", 0, 60)]
    file.create_dataset("puzzles/a/examples/0", shape=(5, 2, SEQ_LEN), dtype=np.uint8, external=external)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("format", "other"), "'other'"),
        (_set("format", 3), "'format' is"),
        (_set("version", 2), "'version' is .*2"),
        (lambda file: file.attrs.__delitem__("version"), "'version' is None"),
        (lambda file: file.attrs.__delitem__("task"), "'task' is missing"),
        (_set("task", 5), "'task'"),
        (_set("vocab_size", 5), "vocabulary has 7 names"),
        (_set("vocab_size", "7"), "an integer is needed"),
        (_set("vocabulary", 7), "a list of texts"),
        (_set("grid_shape", [2, 2, 2]), "two integers"),
        (_set("grid_shape", [2, 2]), r"needed is uint8 \(5, 2, 4\)"),
        (_set("grid_shape", [-2, -3]), "at least 1"),
        (_set("box_shape", [2, 2]), "does not fit"),
        (_set("pad_id", 7), "pad_id is 7"),
        (_set("blank_identifier_id", 1), "blank_identifier_id is 1"),
        (_set("num_rows", 22), "'num_rows' is 22, the file holds 23"),
        (lambda file: file.__delitem__("puzzles"), "/puzzles is missing"),
        (_replace_array("puzzles", np.zeros(3)), "not a group"),
        (lambda file: file.__delitem__("puzzles/a/metadata"), "/puzzles/a/metadata is missing"),
        (lambda file: file["puzzles/a/metadata"].attrs.__delitem__("rows_are"), "rows_are is None"),
        (lambda file: file.__delitem__("puzzles/c/examples/1"), "/puzzles/c/examples/1 is missing"),
        (_replace_array("puzzles/a/examples/0", np.zeros((5, 2, 6))), "float64"),
        (_replace_array("puzzles/a/examples/0", np.zeros((4, 2, 6), np.uint8)), r"needed is uint8 \(4, 2, 6\)"),
        (_replace_array("puzzles/a/examples/0", np.uint8(3)), "needed is uint8"),
        (_link("puzzles/a/examples/0", h5py.SoftLink("/puzzles/a/examples/1")), "links are refused"),
        (_link("puzzles/a", h5py.ExternalLink("other.h5", "/puzzles/a")), "links are refused"),
        (_external, "external storage"),
    ],
)
def test_damaged_files_are_refused_with_their_name_and_the_reason(path, damage, message):
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(DataError, match=message) as caught:
        PuzzleFile(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", None, "half"])
def test_files_that_are_none_are_refused(path, content):
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(DataError, match="toy.h5"):
        PuzzleFile(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_codes_outside_the_vocabulary_are_found(path, compressed):
    PuzzleFile(path).check_cells()
    with h5py.File(path, "r+") as file:
        cells = file["puzzles/a/examples/1"][:]
        cells[3, 1, 4] = VOCAB
        del file["puzzles/a/examples/1"]
        file.create_dataset("puzzles/a/examples/1", data=cells, compression="gzip" if compressed else None)
    with pytest.raises(DataError, match="/puzzles/a/examples/1 row 3 holds the code 7 in label cell 4"):
        PuzzleFile(path).check_cells()


@pytest.mark.parametrize(
    ("change", "task", "message"),
    [
        ({}, "maze", "task is 'toy', the model's is 'maze'"),
        ({"vocab_size": 8}, "toy", "vocab_size is 7, the model's is 8"),
        ({"seq_len": 9}, "toy", "seq_len. is 6, the model's is 9"),
        ({"num_puzzle_identifiers": 0}, "toy", "the model's table has 0 rows"),
    ],
)
def test_files_of_another_task_or_size_than_the_model_are_refused(path, change, task, message):
    fitting = {"vocab_size": 7, "seq_len": 6, "num_puzzle_identifiers": 1}
    PuzzleFile(path).check_fits(SimpleNamespace(**fitting), "toy")
    with pytest.raises(DataError, match=message):
        PuzzleFile(path).check_fits(SimpleNamespace(**(fitting | change)), task)
