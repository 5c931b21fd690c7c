"""Puzzle files: schema, writer and reader. What is written comes back; what is damaged is refused with the reason."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from hrm_hf.data import GridExample, PuzzleFile, PuzzleSetInfo, PuzzleWriter
from hrm_hf.hrm.errors import ArgumentError, DataError
from hrm_hf.hrm.symmetry import dihedral

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


GRIDS = replace(INFO, task="grids", grid_shape=(4, 5), eos_id=1, num_puzzle_identifiers=10)
TRANSFORMS = np.array([0, 6, 5, 1], dtype=np.uint8)
SHAPES = {"a": [((2, 3), (4, 1)), ((1, 1), (3, 4))], "b": [((4, 4), (2, 2))]}  # of input and label, by example


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


def grid_pairs():
    """{id: for each row a list of (input, label), one per example}: row r is transform TRANSFORMS[r] of row 0."""
    generator = np.random.default_rng(3)
    pairs = {}
    for puzzle_id, shapes in SHAPES.items():
        rows = [
            [[dihedral(generator.integers(2, VOCAB, shape, dtype=np.uint8), k) for shape in pair] for pair in shapes]
            for k in TRANSFORMS
        ]
        pairs[puzzle_id] = rows
    return pairs


def grid_arrays(first_identifier, names):
    identifiers = np.arange(first_identifier, first_identifier + 4, dtype=np.int32)
    return {"transform": TRANSFORMS, "identifier": identifiers, "name": np.array(names, dtype="S")}


GRID_ARRAYS = {
    "a": grid_arrays(1, ["one", "one_t6", "one_t5", "one_t1"]),
    "b": {"transform": TRANSFORMS},  # without identifiers
}


def grid_examples(puzzle_id):
    pairs = grid_pairs()[puzzle_id]
    return [
        GridExample(
            np.stack([np.concatenate([g.reshape(-1) for g in row[e]]) for row in pairs]), *SHAPES[puzzle_id][e]
        )
        for e in range(len(SHAPES[puzzle_id]))
    ]


def write_grids(path, arrays=None, info=GRIDS):
    with PuzzleWriter(path, info, overwrite=True) as writer:
        for puzzle_id in SHAPES:
            given = (GRID_ARRAYS if arrays is None else arrays)[puzzle_id]
            writer.add_puzzle(puzzle_id, grid_examples(puzzle_id), "variants", {"source": puzzle_id}, given)
    return path


@pytest.fixture
def grids_path(tmp_path):
    return write_grids(tmp_path / "grids.h5")


def plain_frame(grid, offset):
    """A grid in its frame with PAD 0 and EOS 1, uint8 (S,)."""
    frame = np.zeros((6, 7), dtype=np.uint8)  # wide enough for EOS outside of the real frame
    (top, left), (height, width) = offset, grid.shape
    frame[top + height, left : left + width] = 1
    frame[top : top + height, left + width] = 1
    frame[top : top + height, left : left + width] = grid
    return frame[:4, :5].reshape(-1)


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


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"chunks": (2, 2, SEQ_LEN)}])
def test_arrays_that_are_not_contiguous_are_refused(path, how):
    with h5py.File(path, "r+") as file:
        cells = file["puzzles/a/examples/1"][:]
        del file["puzzles/a/examples/1"]
        file.create_dataset("puzzles/a/examples/1", data=cells, **how)
    with pytest.raises(DataError, match="puzzles/a/examples/1 is not contiguous .* h5repack"):
        PuzzleFile(path)


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
    np.testing.assert_array_equal(pickle.loads(pickled).stores, PuzzleFile(path).stores)
    write(path, {"a": toy_arrays()["a"]}, overwrite=True)
    with pytest.raises(DataError, match="changed"):
        pickle.loads(pickled)


def test_writer_refuses_to_overwrite_and_leaves_nothing_torn(path, tmp_path):
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match="already exists"):
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
        ([np.zeros((2, 2, 5), np.uint8)], "variants", {}, "expected uint8"),
        ([np.zeros((2, 2, 6), np.int64)], "variants", {}, "int64"),
        ([np.zeros((2, 2, 6), np.uint8), np.zeros((3, 2, 6), np.uint8)], "variants", {}, "example 1"),
        ([np.zeros((0, 2, 6), np.uint8)], "variants", {}, "no rows"),
        ([], "variants", {}, "no examples"),
        ([np.full((2, 2, 6), 7, np.uint8)], "variants", {}, "code 7"),
        ([np.zeros((2, 2, 6), np.uint8)], "rows", {}, "'rows'"),
        ([np.zeros((2, 2, 6), np.uint8)], "variants", {"code": np.arange(3)}, "3 entries for 2 rows"),
    ],
)
def test_writer_refuses_what_the_layout_does_not_allow(tmp_path, examples, rows_are, arrays, message):
    with pytest.raises(DataError, match=message), PuzzleWriter(tmp_path / "bad.h5", INFO) as writer:
        writer.add_puzzle("a", examples, rows_are, {}, arrays)


@pytest.mark.parametrize(
    ("attributes", "entries", "message"),
    [
        ({}, 6, "puzzle 'a' attribute 'num_variants' is missing"),
        ({"num_variants": 4}, 6, "puzzle 'a': num_variants is 4, which does not divide 6 rows"),
        ({"num_variants": -3}, 6, "num_variants is -3"),
        ({"num_variants": 2.0}, 6, "expected an integer"),
        ({"num_variants": 3}, 3, "'code' has 3 entries for 6 rows of 2 originals"),
    ],
)
def test_writer_refuses_blocks_whose_variants_do_not_fit(tmp_path, attributes, entries, message):
    cells, arrays = np.zeros((6, 2, SEQ_LEN), np.uint8), {"code": np.arange(entries)}
    with pytest.raises(DataError, match=message), PuzzleWriter(tmp_path / "bad.h5", INFO) as writer:
        writer.add_puzzle("a", [cells], "puzzles with variants", attributes, arrays)


def test_a_block_of_puzzles_with_variants_reads_as_one_puzzle_id_for_each_does(tmp_path):
    generator = np.random.default_rng(7)
    alone = [generator.integers(0, VOCAB, (4, 2, SEQ_LEN), dtype=np.uint8) for _ in range(3)]
    cells = [generator.integers(0, VOCAB, (12, 2, SEQ_LEN), dtype=np.uint8) for _ in range(2)]  # two examples
    identifiers = np.arange(1, 13, dtype=np.int32)
    names = np.array([f"name{identifier}" for identifier in identifiers], "S")
    info = replace(INFO, num_puzzle_identifiers=13)
    files = []
    for name in ("block", "single"):
        with PuzzleWriter(tmp_path / f"{name}.h5", info) as writer:
            writer.add_puzzle("a", alone, "puzzles", {}, {})
            if name == "block":  # 3 originals of 4 rows, and a fact about each of them
                arrays = {"identifier": identifiers, "name": names, "rating": np.arange(3)}
                writer.add_puzzle("b", cells, "puzzles with variants", {"num_variants": 4}, arrays)
            for start in range(0, 12, 4) if name == "single" else ():
                part = slice(start, start + 4)
                arrays = {"identifier": identifiers[part], "name": names[part]}
                writer.add_puzzle(f"b{start}", [each[part] for each in cells], "variants", {}, arrays)
            writer.add_puzzle("c", alone, "variants", {}, {})
        files.append(PuzzleFile(tmp_path / f"{name}.h5"))
    block, single = files
    assert block.info == single.info and block.info.num_groups == 4 + 3 + 1
    assert block.identifier_names() == single.identifier_names()
    numbers = np.arange(block.info.num_rows)
    counts = enumerate(zip(*single.group_counts(), strict=True))
    draws = np.array([(group, v, examples - 1) for group, (variants, examples) in counts for v in range(variants)])
    for found, expected in (
        (block.group_counts(), single.group_counts()),
        (block.groups_and_variants(numbers), single.groups_and_variants(numbers)),
        (block.row_names(numbers), single.row_names(numbers)),
        (block.read(*block.locate_rows(numbers)), single.read(*single.locate_rows(numbers))),
        (block.read(*block.locate(*draws.T)), single.read(*single.locate(*draws.T))),
        (block.puzzle_identifiers(*block.locate(*draws.T)), single.puzzle_identifiers(*single.locate(*draws.T))),
    ):
        np.testing.assert_array_equal(found, expected)


def test_writer_wants_ascending_ids(tmp_path):
    with pytest.raises(DataError, match="'a' must come after 'b'"), PuzzleWriter(tmp_path / "bad.h5", INFO) as writer:
        for puzzle_id in ("b", "a"):
            writer.add_puzzle(puzzle_id, toy_arrays()["a"][1], "variants", {}, {})


def _set(name, value):
    def damage(file):
        file.attrs[name] = value

    return damage


def _rows_are(puzzle, rows_are, num_variants=None):
    def damage(file):
        file[puzzle]["metadata"].attrs["rows_are"] = rows_are
        if num_variants is not None:
            file[puzzle]["metadata"].attrs["num_variants"] = num_variants

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
        (lambda file: file.attrs.__delitem__("version"), "'version' is missing"),
        (lambda file: file.attrs.__delitem__("task"), "'task' is missing"),
        (_set("task", 5), "'task'"),
        (_set("vocab_size", 5), "vocabulary has 7 names"),
        (_set("vocab_size", "7"), "expected an integer"),
        (_set("vocabulary", 7), "expected a list of strings"),
        (_set("grid_shape", [2, 2, 2]), "two integers"),
        (_set("grid_shape", [2, 2]), r"expected uint8 \(5, 2, 4\)"),
        (_set("grid_shape", [-2, -3]), "at least 1"),
        (_set("box_shape", [2, 2]), "does not fit"),
        (_set("pad_id", 7), "pad_id is 7"),
        (_set("blank_identifier_id", 1), "blank_identifier_id is 1"),
        (_set("num_rows", 22), "'num_rows' is 22, the file holds 23"),
        (lambda file: file.__delitem__("puzzles"), "/puzzles is missing"),
        (_replace_array("puzzles", np.zeros(3)), "not a group"),
        (lambda file: file.__delitem__("puzzles/a/metadata"), "/puzzles/a/metadata is missing"),
        (lambda file: file["puzzles/a/metadata"].attrs.__delitem__("rows_are"), "'rows_are' is missing"),
        (_rows_are("puzzles/a", "blocks"), "rows_are is 'blocks', allowed are 'variants', 'puzzles', 'puzzles with"),
        (_rows_are("puzzles/a", "puzzles"), "'num_groups' is 6, the file holds 10"),
        (_rows_are("puzzles/b", "puzzles with variants"), "/puzzles/b/metadata attribute 'num_variants' is missing"),
        (_rows_are("puzzles/b", "puzzles with variants", 3), "num_variants is 3, which does not divide 4 rows"),
        (_rows_are("puzzles/b", "puzzles with variants", 0), "num_variants is 0"),
        (_rows_are("puzzles/b", "puzzles with variants", "2"), "'num_variants' is '2', expected an integer"),
        (_rows_are("puzzles/b", "puzzles with variants", 2), "'num_groups' is 6, the file holds 4"),
        (lambda file: file.__delitem__("puzzles/c/examples/1"), "/puzzles/c/examples/1 is missing"),
        (_replace_array("puzzles/a/examples/0", np.zeros((5, 2, 6))), "float64"),
        (_replace_array("puzzles/a/examples/0", np.zeros((4, 2, 6), np.uint8)), r"expected uint8 \(4, 2, 6\)"),
        (_replace_array("puzzles/a/examples/0", np.uint8(3)), "/puzzles/a/examples has no examples or no rows"),
        (_link("puzzles/a/examples/0", h5py.SoftLink("/puzzles/a/examples/1")), "links are refused"),
        (_link("puzzles/a", h5py.ExternalLink("other.h5", "/puzzles/a")), "links are refused"),
        (_external, "not contiguous .*external"),
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


def test_codes_outside_the_vocabulary_are_found(path):
    PuzzleFile(path).check_cells()
    with h5py.File(path, "r+") as file:
        file["puzzles/a/examples/1"][3, 1, 4] = VOCAB
    with pytest.raises(DataError, match="/puzzles/a/examples/1 row 3 holds the code 7 in label cell 4"):
        PuzzleFile(path).check_cells()


@pytest.mark.parametrize(
    ("change", "task", "message"),
    [
        ({}, "maze", "task is 'toy', the model's is 'maze'"),
        ({"vocab_size": 8}, "toy", "vocab_size is 7, the model's is 8"),
        ({"seq_len": 9}, "toy", "seq_len is 6, the model's is 9"),
        ({"num_puzzle_identifiers": 0}, "toy", "the model's table has 0 rows"),
    ],
)
def test_files_of_another_task_or_size_than_the_model_are_refused(path, change, task, message):
    fitting = {"vocab_size": 7, "seq_len": 6, "num_puzzle_identifiers": 1}
    PuzzleFile(path).check_fits(SimpleNamespace(**fitting), "toy")
    with pytest.raises(DataError, match=message):
        PuzzleFile(path).check_fits(SimpleNamespace(**(fitting | change)), task)


def stored_grid_pairs():
    """All pairs in stored order: puzzle by puzzle, variant by variant, example by example."""
    return [pair for rows in grid_pairs().values() for row in rows for pair in row]


def test_grids_come_back_in_frames(grids_path):
    file = PuzzleFile(grids_path)
    file.check_cells()
    assert file.info.eos_id == 1 and file.info.num_rows == 12
    places = file.locate_rows(np.arange(12))
    expected = [[plain_frame(grid, (0, 0)) for grid in pair] for pair in stored_grid_pairs()]
    np.testing.assert_array_equal(file.read(*places), expected)
    shifts = np.random.default_rng(4).random((12, 2))
    expected = []
    for pair, shift in zip(stored_grid_pairs(), shifts, strict=True):
        room = np.array([4, 5]) - np.max([grid.shape for grid in pair], axis=0)
        expected.append([plain_frame(grid, np.floor(shift * (room + 1)).astype(int)) for grid in pair])
    np.testing.assert_array_equal(file.read(*places, shifts), expected)


def test_a_draw_finds_its_grids(grids_path):
    file = PuzzleFile(grids_path)
    stores, rows = file.locate(np.array([1, 0, 0]), np.array([3, 1, 0]), np.array([0, 1, 1]))
    pairs = grid_pairs()
    expected = [pairs["b"][3][0], pairs["a"][1][1], pairs["a"][0][1]]
    expected = [[plain_frame(grid, (0, 0)) for grid in pair] for pair in expected]
    np.testing.assert_array_equal(file.read(stores, rows), expected)
    assert file.puzzle_identifiers(stores, rows).tolist() == [0, 2, 1]
    assert file.read(stores[:0], rows[:0]).shape == (0, 2, 20)


@pytest.mark.parametrize("shifts", [[[0.0, 1.0]], [[-0.1, 0.0]], [[0.0, np.nan]]])
def test_shifts_that_lead_out_of_the_frame_are_refused(grids_path, path, shifts):
    zero = np.zeros(1, dtype=np.int64)
    with pytest.raises(ArgumentError, match="0 <= shift < 1"):
        PuzzleFile(grids_path).read(zero, zero, np.array(shifts))
    with pytest.raises(ArgumentError, match="native grids"):
        PuzzleFile(path).read(zero, zero, np.zeros((1, 2)))


def test_identifiers_names_and_attributes(grids_path, path):
    file = PuzzleFile(grids_path)
    assert file.identifier_names() == ["<blank>", "one", "one_t6", "one_t5", "one_t1", "", "", "", "", ""]
    assert file.row_names(np.array([8, 3, 0])) == ["<blank>", "one_t6", "one"]
    identifiers = file.puzzle_identifiers(*file.locate_rows(np.arange(12)))
    assert identifiers.dtype == np.int64 and identifiers.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 0, 0, 0, 0]
    puzzle, row, example = file.row_places(np.array([0, 3, 9]))
    assert (puzzle.tolist(), row.tolist(), example.tolist()) == ([0, 0, 1], [0, 1, 1], [0, 1, 0])
    plain = PuzzleFile(path)
    assert plain.identifier_names() == ["<blank>"] and plain.row_names(np.array([3])) == ["<blank>"]
    assert plain.puzzle_identifiers(*plain.locate_rows(np.array([3, 20]))).tolist() == [0, 0]


def test_puzzles_that_fill_their_frames_may_have_identifiers_too(tmp_path):
    arrays = {
        "identifier": np.array([2, 1, 2, 0, 2], dtype=np.int32),
        "name": np.array([b"x", b"yy", b"x", b"<blank>", b"x"]),
    }
    with PuzzleWriter(tmp_path / "toy.h5", INFO) as writer:
        writer.add_puzzle("a", toy_arrays()["a"][1], "variants", {}, arrays)
        writer.set_num_puzzle_identifiers(3)
    file = PuzzleFile(tmp_path / "toy.h5")
    assert file.info.num_puzzle_identifiers == 3
    assert file.identifier_names() == ["<blank>", "yy", "x"]
    assert file.row_names(np.arange(0, 10, 2)) == ["x", "yy", "x", "<blank>", "x"]


def test_grid_files_have_the_same_bytes_and_files_without_grids_none_of_their_attributes(grids_path, path, tmp_path):
    assert write_grids(tmp_path / "again.h5").read_bytes() == grids_path.read_bytes()
    assert "eos_id" not in INFO.to_attributes() and PuzzleSetInfo.from_attributes(GRIDS.to_attributes()) == GRIDS
    with h5py.File(path) as file:
        assert not {"eos_id", "box_shape"} & set(file.attrs)
        assert not file["puzzles/a/examples/0"].attrs


def _change(name, value):
    return lambda arrays: {**arrays, name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change("transform", np.zeros(4, np.int64)), "'transform' is int64"),
        (_change("transform", np.array([0, 6, 8, 1], np.uint8)), "transform of row 2 is 8, allowed are 0 to 7"),
        (_change("transform", np.zeros(3, np.uint8)), "3 entries for 4 rows"),
        (lambda arrays: {k: v for k, v in arrays.items() if k != "transform"}, "lacks the array 'transform'"),
        (lambda arrays: {k: v for k, v in arrays.items() if k != "name"}, "'identifier' and 'name' or neither"),
        (_change("identifier", np.array([1, 2, -1, 3], np.int32)), "identifier of row 2 is -1"),
        (_change("identifier", np.array([1, 2, 10, 3], np.int32)), "identifier 10, allowed are 0 to .* = 9"),
        (_change("identifier", np.arange(4)), "'identifier' is int64"),
        (_change("name", np.array(["a", "b", "c", "d"])), "'name' is <U1"),
        (_change("name", np.array([b"a", b"b\xff", b"c", b"d"])), "name of row 1 is b'b\\\\xff'"),
        (_change("name", np.array([b"a", b"", b"c", b"d"])), "name of row 1 is b''"),
        (_change("name", np.array([b"a", b"b", b"c\n", b"d"])), "name of row 2"),
        (_change("name", np.array([b"a", b"b", b"c ", b"d"])), "name of row 2"),
        (_change("name", np.array([b"a", b"b", b"c\0d", b"d"])), "name of row 2"),
    ],
)
def test_writer_refuses_arrays_that_the_reader_could_not_use(tmp_path, change, message):
    arrays = GRID_ARRAYS | {"a": change(GRID_ARRAYS["a"])}
    with pytest.raises(DataError, match=message):
        write_grids(tmp_path / "bad.h5", arrays)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (np.full((4, 2, 20), 2, np.uint8), "takes a GridExample"),
        (GridExample(np.full((4, 9), 2, np.uint8), (2, 3), (2, 2)), r"\(4, 9\), expected uint8 \(4, 10\)"),
        (GridExample(np.full((4, 10), 1, np.uint8), (2, 3), (2, 2)), "code 1, allowed are 2 to 6"),
        (GridExample(np.full((4, 10), 7, np.uint8), (2, 3), (2, 2)), "code 7, allowed are 2 to 6"),
        (GridExample(np.full((4, 9), 2, np.uint8), (5, 1), (2, 2)), "input grid has 5 x 1 cells, allowed .* 4 x 5"),
        (GridExample(np.full((4, 9), 2, np.uint8), (2, 2), (1, 5)), "label grid has 5 x 1 cells once turned"),
        (GridExample(np.full((4, 4), 2, np.uint8), (2, 2), (0, 5)), "label grid has 0 x 5 cells"),
    ],
)
def test_writer_refuses_grids_that_do_not_fit(tmp_path, example, message):
    with pytest.raises(DataError, match=message) as caught, PuzzleWriter(tmp_path / "bad.h5", GRIDS) as writer:
        writer.add_puzzle("big", [example], "variants", {}, {"transform": TRANSFORMS})
    assert "'big'" in str(caught.value)


def _set_shape(name, value):
    def damage(file):
        file["puzzles/a/examples/0"].attrs[name] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("eos_id", 0), "eos_id is 0, allowed are 1 to 5"),
        (_set("eos_id", 6), "eos_id is 6"),
        (_set("eos_id", "1"), "'eos_id' is '1', expected an integer"),
        (lambda file: file.attrs.__delitem__("eos_id"), r"expected uint8 \(4, 2, 20\)"),
        (
            _set_shape("input_shape", [3, 3]),
            r"/puzzles/a/examples/0 is uint8 \(4, 10\), expected uint8 \(4, 13\) by its",
        ),
        (_set_shape("input_shape", [0, 3]), r"/puzzles/a/examples/0 is uint8 .* by its shapes \[\[0, 3\]"),
        (_set_shape("label_shape", 4), "attribute 'label_shape' is"),
        (lambda file: file["puzzles/a/examples/1"].attrs.clear(), "attribute 'input_shape' is missing"),
        (_set_shape("input_shape", [1, 6]), "/puzzles/a/examples/0: the input grid has 1 x 6 cells"),
        (_set("grid_shape", [3, 5]), "/puzzles/a/examples/0: the label grid has 4 x 1 cells"),
        (lambda file: file.__delitem__("puzzles/b/metadata/transform"), "/puzzles/b/metadata/transform is missing"),
        (
            _replace_array("puzzles/b/metadata/transform", np.full(4, 9, np.uint8)),
            "/puzzles/b/metadata: transform .* is 9",
        ),
        (_replace_array("puzzles/b/metadata/transform", np.zeros((4, 1), np.uint8)), r"expected uint8 \(4,\)"),
        (lambda file: file.__delitem__("puzzles/a/metadata/identifier"), "/puzzles/a/metadata/identifier is missing"),
        (lambda file: file.__delitem__("puzzles/a/metadata/name"), "/puzzles/a/metadata/name is missing"),
        (_set("num_puzzle_identifiers", 4), "/puzzles/a/metadata: identifier of row 3 is 4, allowed are 0 to 3"),
        (_replace_array("puzzles/a/metadata/name", np.array([b"x"] * 3)), r"'name' is .S1 \(3,\)"),
        (_replace_array("puzzles/a/metadata/name", np.array([b"x", b"\xe9", b"x", b"x"])), "name of row 1"),
        (_replace_array("puzzles/a/metadata/name", ["x"] * 4), "'name' is object"),
    ],
)
def test_damaged_grid_files_are_refused_with_the_array_and_the_reason(grids_path, damage, message):
    with h5py.File(grids_path, "r+") as file:
        damage(file)
    with pytest.raises(DataError, match=message) as caught:
        PuzzleFile(grids_path)
    assert str(grids_path) in str(caught.value)


@pytest.mark.parametrize("code", [0, 1, VOCAB])
def test_codes_that_are_no_cell_of_a_grid_are_found(grids_path, code):
    with h5py.File(grids_path, "r+") as file:
        file["puzzles/a/examples/0"][2, 8] = code
    with pytest.raises(DataError, match=f"examples/0 row 2 holds the code {code} in label cell 2, allowed are 2 to 6"):
        PuzzleFile(grids_path).check_cells()


def test_one_identifier_with_two_names_is_found(grids_path):
    with h5py.File(grids_path, "r+") as file:
        file["puzzles/a/metadata/identifier"][2] = 1
    with pytest.raises(DataError, match="'a' names the identifier 1 'one_t5', it is 'one' already"):
        PuzzleFile(grids_path).identifier_names()


def test_too_many_identifiers_for_the_model_hints_at_their_names(grids_path):
    config = SimpleNamespace(vocab_size=7, seq_len=20, num_puzzle_identifiers=9)
    with pytest.raises(DataError, match="10 puzzle identifiers, .* 9 rows: the table can be rearranged by name"):
        PuzzleFile(grids_path).check_fits(config, "grids")
