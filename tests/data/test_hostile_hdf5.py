"""Puzzle files that are damaged byte by byte, or well-formed HDF5 with a content that lies: read, or refused."""

import h5py
import hostile_inputs
import numpy as np
import pytest
from hostile_inputs import examples, in_child, loops_in_hdf5, mutated, nothing_written_outside, result_or_documented
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_hf.data import GridExample, PuzzleFile, PuzzleSetInfo, PuzzleWriter, load_puzzles, training_batches
from hrm_hf.hrm.errors import DataError

FULL = PuzzleSetInfo("toy", "train", 7, ("PAD", *"abcdef"), (2, 3), num_aug=4, seed=11)
GRIDS = PuzzleSetInfo(
    "grids", "train", 7, ("PAD", "EOS", *"cdefg"), (4, 5), num_aug=3, seed=1, eos_id=1, num_puzzle_identifiers=9
)
BATCH, NUM_BATCHES = 3, 4
FILES_IN_CHILD = 12


def write_seed(path, layout):
    generator = np.random.default_rng(0)
    if layout == "full":
        with PuzzleWriter(path, FULL) as writer:
            for puzzle_id, rows_are, rows, num in (("a", "variants", 3, 2), ("b", "puzzles", 4, 1)):
                stores = [generator.integers(0, 7, (rows, 2, 6), dtype=np.uint8) for _ in range(num)]
                writer.add_puzzle(puzzle_id, stores, rows_are, {"source": "toy"}, {"code": np.arange(rows)})
            stores = [generator.integers(0, 7, (6, 2, 6), dtype=np.uint8)]
            writer.add_puzzle("c", stores, "puzzles with variants", {"num_variants": 3}, {"code": np.arange(2)})
        return path
    with PuzzleWriter(path, GRIDS) as writer:
        for number, puzzle_id in enumerate("ab"):
            arrays = {
                "transform": np.array([0, 6, 5, 1], np.uint8),
                "identifier": np.arange(1, 5, dtype=np.int32) + 4 * number,
                "name": np.array([f"{puzzle_id}{row}" for row in range(4)], "S"),
            }
            shapes = ((2, 3), (4, 1))
            grids = GridExample(generator.integers(2, 7, (4, 10), dtype=np.uint8), *shapes)
            writer.add_puzzle(puzzle_id, [grids], "variants", {"source": "x"}, arrays)
    return path


def read_everything(path):
    """Through each public door; whatever a file says of itself, what comes out is as it should be."""
    file = PuzzleFile(path)
    names = file.identifier_names()
    assert len(names) == file.info.num_puzzle_identifiers
    assert len(file.row_names(np.arange(min(file.info.num_rows, 50)))) == min(file.info.num_rows, 50)
    rows = load_puzzles(path)
    some = rows[: min(len(rows), 50)]
    check(some, file.info)
    batches = iter(training_batches(path, BATCH, seed=3))
    for _ in range(NUM_BATCHES):
        check(next(batches), file.info)


def check(batch, info):
    assert ((batch["input_ids"] >= 0) & (batch["input_ids"] < info.vocab_size)).all()
    assert ((batch["labels"] == -100) | ((batch["labels"] >= 0) & (batch["labels"] < info.vocab_size))).all()
    identifiers = batch["puzzle_identifiers"]
    assert ((identifiers >= 0) & (identifiers < info.num_puzzle_identifiers)).all()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    return {layout: write_seed(folder / f"{layout}.h5", layout).read_bytes() for layout in ("full", "grids")}


@pytest.mark.parametrize("layout", ["full", "grids"])
def test_the_seeds_themselves_are_read(tmp_path, layout):
    read_everything(write_seed(tmp_path / "x.h5", layout))


@pytest.mark.parametrize("layout", ["full", "grids"])
@settings(max_examples=examples(5))
@given(data=st.data())
def test_damaged_bytes(tmp_path, seeds, layout, data):
    """Several files in one process: a fork takes longer than all of them."""
    paths = [tmp_path / f"{number}.h5" for number in range(FILES_IN_CHILD)]
    for path in paths:
        damaged = mutated(seeds[layout], max_changes=3).filter(lambda content: not loops_in_hdf5(content))
        path.write_bytes(data.draw(damaged))

    def read_all():
        for path in paths:
            result_or_documented(lambda path=path: read_everything(path))

    with nothing_written_outside(tmp_path, tmp_path / "none"):
        in_child(read_all)
    hostile_inputs.tried += FILES_IN_CHILD  # the child's own count is gone with it


INTEGERS = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 9, 255, 256, -1, 2**31, 2**62, 2**64 - 1, -(2**63)])
TEXTS = st.sampled_from(
    ["", "toy", "a\nb", "\x1b[2J", "../../x", "x" * 70_000, "é", b"\xff\xfe", b"ab", "variants", "puzzles"]
)
VALUES = st.one_of(
    INTEGERS,
    TEXTS,
    st.floats(),
    st.booleans(),
    st.lists(INTEGERS, min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "", "é", "x" * 2000]), min_size=1, max_size=8),
    st.sampled_from(
        [
            h5py.Empty("f"),
            h5py.Empty("S4"),
            np.zeros((2, 2), np.int64),
            np.zeros(0, np.int64),
            np.zeros(3, [("x", "i4"), ("y", "f8")]),
            np.array([2, 3], ">u2"),
            np.array([np.nan, 3.0]),
            np.zeros(5000, np.int64),
            np.array(b"\xff"),
        ]
    ),
)
ROOT_ATTRIBUTES = [*FULL.to_attributes(), "eos_id", "box_shape", "more"]
ATTRIBUTES = ["rows_are", "num_variants", "input_shape", "label_shape", "source"]
LINK_NAMES = st.sampled_from(
    [b"a", b"c", b".", b"..", b"\xff\xfe", b"x" * 1500, b"a b", b" ", b"0", b"a\nb", b"metadata"]
)
SHAPES = st.sampled_from(
    [(0,), (), (1,), (3,), (4,), (4, 10), (3, 2, 6), (3, 2, 0), (4, 2, 6), (0, 2, 6), (10**12,), (10**12, 2, 6)]
)
DTYPES = st.sampled_from(
    ["u1", "i1", ">u2", "i4", ">i4", "f4", "S1", "S22", "S1001", "S100000", "?", "V3", "c8", "u8"]
)


def set_attribute(draw, file, owner, name):
    value = draw(VALUES)
    if name in owner.attrs:
        del owner.attrs[name]
    owner.attrs[name] = value


def root_attribute(draw, file):
    name = draw(st.sampled_from(ROOT_ATTRIBUTES))
    if draw(st.booleans()) and name in file.attrs:
        file.attrs.modify(name, draw(INTEGERS.filter(lambda n: -(2**63) <= n < 2**63)))
    elif draw(st.booleans()):
        set_attribute(draw, file, file, name)
    elif name in file.attrs:
        del file.attrs[name]


def other_attribute(draw, file):
    owner = file[draw(st.sampled_from(members(file)))]
    set_attribute(draw, file, owner, draw(st.sampled_from(ATTRIBUTES)))


def members(file):
    found = []
    file.visit(found.append)
    return found or ["/"]


def remove(draw, file):
    del file[draw(st.sampled_from(members(file)))]


def rename(draw, file):
    place = draw(st.sampled_from(members(file)))
    target = place.rpartition("/")[0].encode() + b"/" + draw(LINK_NAMES)
    file.id.links.move(place.encode(), target)


def link(draw, file):
    place = draw(st.sampled_from(members(file)))
    del file[place]
    other = draw(st.sampled_from([*members(file), "/", place]))
    kind = draw(st.sampled_from(["soft", "external", "self", "hard", "named type"]))
    if kind == "soft":
        file[place] = h5py.SoftLink(other)
    elif kind == "external":
        file[place] = h5py.ExternalLink(draw(st.sampled_from(["other.h5", "/dev/zero", "../x.h5", "x.h5"])), other)
    elif kind == "self":
        file[place] = h5py.ExternalLink(file.filename, other)
    elif kind == "hard":
        file[place] = file[other]
    else:
        file[place] = np.dtype("u1")


def many_links(draw, file):
    """One puzzle, or one array, under many names."""
    place = draw(st.sampled_from(members(file)))
    parent = file[place].parent
    for number in range(draw(st.sampled_from([1, 10, 100]))):
        name = str(number) if draw(st.booleans()) else f"c{number}"
        if name not in parent:
            parent[name] = file[place]


def replace_array(draw, file):
    place = draw(st.sampled_from(members(file)))
    old = file[place]
    keep = draw(st.booleans()) and isinstance(old, h5py.Dataset)
    shape, dtype = (old.shape, old.dtype) if keep else (draw(SHAPES), draw(DTYPES))
    attributes = dict(old.attrs)
    del file[place]
    kind = draw(
        st.sampled_from(["plain", "chunked", "gzip", "lzf", "virtual", "external", "huge", "vlen", "null", "ref"])
    )
    more = {}
    if kind in ("chunked", "gzip", "lzf", "huge") and shape and 0 not in shape:
        compression = draw(st.sampled_from([None, "gzip", "lzf"])) if kind == "huge" else kind.replace("chunked", "")
        more = {"chunks": tuple(min(side, 64) for side in shape), "compression": compression or None}
        more |= {"fillvalue": 3} if np.dtype(dtype).kind in "iuf" else {}
    if kind == "huge" and shape:
        more["maxshape"] = (None, *shape[1:]) if "chunks" in more else None
        shape = (draw(st.sampled_from([10**6, 2**31, 2**40, 2**60])), *shape[1:])
        more = more if more.get("chunks") else {"chunks": (1, *(max(side, 1) for side in shape[1:]))}
    if kind == "external" and shape and np.prod(shape, dtype=float) < 1e6:
        more = {"external": draw(st.sampled_from(["/etc/hostname", "raw.bin", "/dev/zero", "../x.h5"]))}
    if kind == "virtual":
        layout = h5py.VirtualLayout(shape or (1,), dtype)
        new = file.create_virtual_dataset(place, layout, fillvalue=1)
    elif kind == "vlen":
        new = file.create_dataset(place, (3,), h5py.vlen_dtype(np.uint8))
    elif kind == "null":
        new = file.create_dataset(place, data=h5py.Empty("u1"))
    elif kind == "ref":
        new = file.create_dataset(place, (3,), h5py.ref_dtype)
    else:
        if np.prod(shape or (1,), dtype=float) > 1e6 and "chunks" not in more:
            shape = (4,)
        new = file.create_dataset(place, shape, dtype, **more)
    for name, value in attributes.items():
        new.attrs[name] = value


def other_values(draw, file):
    arrays = [name for name in members(file) if isinstance(file[name], h5py.Dataset)]
    if not arrays:
        return
    array = file[draw(st.sampled_from(arrays))]
    if array.dtype.kind not in "iuS" or not array.size or array.size > 1000:
        return
    values = array[...].reshape(-1)
    number = draw(st.sampled_from([0, 1, 6, 7, 8, 127, 255, -1, 2**31 - 1, -(2**31)]))
    place = draw(st.integers(0, len(values) - 1))
    values[place] = draw(st.binary(max_size=4)) if array.dtype.kind == "S" else np.array(number).astype(array.dtype)
    array[...] = values.reshape(array.shape)


CHANGES = [root_attribute, other_attribute, remove, rename, link, many_links, replace_array, other_values]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("layout", ["full", "grids"])
@settings(max_examples=examples(10))
@given(data=st.data())
def test_lying_contents(tmp_path, seeds, layout, change, data):
    path = tmp_path / "x.h5"
    path.write_bytes(seeds[layout])
    (tmp_path / "other.h5").write_bytes(seeds["grids"])
    with h5py.File(path, "r+") as file:
        for step in range(data.draw(st.integers(1, 3))):
            try:
                (change if step == 0 else data.draw(st.sampled_from(CHANGES)))(data.draw, file)
            except (ValueError, TypeError, KeyError, OSError, RuntimeError, OverflowError):
                continue  # h5py itself refuses to make it
    with nothing_written_outside(tmp_path, tmp_path / "none"):
        result_or_documented(lambda: read_everything(path))


def test_an_array_much_larger_than_the_file_is_refused(tmp_path):
    path = write_seed(tmp_path / "x.h5", "full")
    with h5py.File(path, "r+") as file:
        del file["puzzles/b/examples/0"]
        file.create_dataset("puzzles/b/examples/0", (10**12, 2, 6), "u1", chunks=(1000, 2, 6), compression="gzip")
        file.attrs["num_rows"] = 10**12 + 6
    with pytest.raises(DataError, match="puzzles/b/examples/0 is not contiguous"):
        PuzzleFile(path)


def test_one_array_under_many_names_is_refused_once_it_outgrows_the_file(tmp_path):
    path = tmp_path / "x.h5"
    with PuzzleWriter(path, FULL) as writer:
        writer.add_puzzle("a", [np.zeros((5000, 2, 6), np.uint8)], "puzzles", {}, {})
    with h5py.File(path, "r+") as file:
        for number in range(1, 10):
            file[f"puzzles/a/examples/{number}"] = file["puzzles/a/examples/0"]
        file.attrs["num_rows"] = 50_000
    with pytest.raises(DataError, match="more cells than the file bytes"):
        PuzzleFile(path)
