"""ARC grids, tasks, frames and augmentations: recorded cases, plain versions of fast paths, any grid at all."""

import json

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hrm_hf.hrm import arc
from hrm_hf.hrm.arc import ArcAugmentation
from hrm_hf.hrm.errors import PuzzleError

GOLDEN = paths.GOLDEN / "G"
CONFIG = json.loads((GOLDEN / "config.json").read_text())

sides = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30)
grids = arrays.arrays(np.uint8, sides, elements=st.integers(0, 9))
PLAIN = ArcAugmentation()
augmentations = st.builds(ArcAugmentation, st.integers(0, 7), st.permutations(range(10)).map(tuple))


# Reading


@pytest.mark.parametrize(
    "grid",
    [
        [[0, 1, 2], [3, 4, 9]],
        ((0, 1, 2), (3, 4, 9)),
        [np.array([0, 1, 2]), np.array([3, 4, 9])],
        np.array([[0, 1, 2], [3, 4, 9]]),
        np.array([[0, 1, 2], [3, 4, 9]], np.float32),
        "012\n349",
        "\n 0 1 2 \n 3 4 9\n",
        "\ufeff012\r\n349\r\n",
        "0, 1, 2\n3, 4, 9,",
        "[[0, 1, 2], [3, 4, 9]]",
        "[[0 1 2]\n [3 4 9]]",
        [["0", "1", "2"], ["3", "4", "9"]],
        ["012", "3 4 9"],
    ],
)
def test_parse_grid_reads_every_form(grid):
    parsed = arc.parse_grid(grid)
    assert parsed.dtype == np.uint8 and parsed.tolist() == [[0, 1, 2], [3, 4, 9]]


@pytest.mark.parametrize(
    "grid, message",
    [
        ([[0, 1], [2]], "row 2 has 1 cells, but row 1 has 2"),
        ("01\n\n23", "row 2 has 0 cells"),
        ([[0, 1], [2, 10]], "10 at row 2, column 2 is not allowed: .* 0 to 9"),
        ([[0, -1]], "-1 at row 1, column 2"),
        ([[0, 1.5]], "1.5 at row 1, column 2"),
        ([[float("nan")]], "nan at row 1, column 1"),
        ([[True]], "True at row 1, column 1"),
        ([["a"]], "'a' at row 1, column 1"),
        ("1,,2", "'' at row 1, column 2"),
        ([[None]], "None at row 1, column 1"),
        ([[[1]]], "a list at row 1, column 1"),
        ("0a", "'a' at row 1, column 2"),
        ("0\uff15", "row 1, column 2"),
        ([], "has 0 cells: allowed are grids from 1 x 1 to 30 x 30"),
        ("", "1 x 0 cells"),
        ([[]], "1 x 0 cells"),
        ([[0]] * 31, "31 x 1 cells"),
        ([[0] * 31], "1 x 31 cells"),
        ([0, 1], "has 2 cells: .* row by row"),
        ([[0, 1], 2], "row 2 is a int"),
        (np.zeros((1, 2, 3)), r"\(1, 2, 3\)"),
        (np.zeros((2, 2), bool), "False at row 1, column 1"),
        (np.broadcast_to(np.uint8(0), (1, 10**10)), "at most 65536 cells"),
        (None, "NoneType"),
        ({"input": [[1]]}, "dict"),
        (b"01", "bytes"),
    ],
)
def test_parse_grid_says_what_is_wrong(grid, message):
    with pytest.raises(PuzzleError, match=message):
        arc.parse_grid(grid)


def test_parse_grid_keeps_to_another_largest_shape():
    assert arc.parse_grid([[0] * 40], (2, 40)).shape == (1, 40)
    with pytest.raises(PuzzleError, match="3 x 1 cells: allowed are grids from 1 x 1 to 2 x 40"):
        arc.parse_grid([[0]] * 3, (2, 40))


class Hostile(list):
    def __iter__(self):
        raise RuntimeError("no")


cells = st.one_of(st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=2))


@given(
    st.one_of(
        st.text(alphabet="0123456789\n x", max_size=40),
        st.builds(Hostile),
        st.lists(st.lists(cells, min_size=2, max_size=2), max_size=3),
        st.recursive(cells, lambda inner: st.lists(inner, max_size=4), max_leaves=12),
    )
)
def test_parse_grid_of_anything_gives_a_grid_or_a_puzzle_error(grid):
    try:
        parsed = arc.parse_grid(grid)
    except PuzzleError:
        return
    assert parsed.dtype == np.uint8 and parsed.ndim == 2 and parsed.size and parsed.max() < 10


@given(grids)
def test_what_is_drawn_can_be_read(grid):
    np.testing.assert_array_equal(arc.parse_grid(arc.draw(grid)), grid)


def test_draw():
    assert arc.draw(np.array([[0, 1], [2, 9]])) == "0 1\n2 9"
    assert arc.draw(np.zeros((0, 0), np.uint8)) == "(empty)"


# Frames


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("side", ["input", "output"])
def test_frames_match_the_recorded_sequences(case, side):
    recorded = golden_arrays(GOLDEN / "arc_sequences.npz")
    framed = arc.frame(recorded[f"case{case}.{side}"])
    assert framed.dtype == np.uint8
    np.testing.assert_array_equal(framed.ravel(), recorded[f"case{case}.plain.{side}_seq"])


@pytest.mark.parametrize(
    "name", ["clean", "noisy", "no_eos", "empty", "wide_first_row", "out_of_vocab", "equal_areas"]
)
def test_cuts_match_the_recorded_ones(name):
    recorded = golden_arrays(GOLDEN / "arc_eval.npz")
    grid = arc.cut(recorded[f"{name}.seq"].reshape(30, 30))
    assert grid.dtype == np.uint8 and list(grid.shape) == CONFIG[f"crop_{name}_shape"]
    np.testing.assert_array_equal(grid, recorded[f"{name}.crop"])


def test_a_frame_by_hand():
    grid = np.array([[0, 9]])
    assert arc.frame(grid, (3, 4)).tolist() == [[2, 11, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert arc.frame(grid, (1, 3)).tolist() == [[2, 11, 1]]
    assert arc.frame(grid, (1, 2)).tolist() == [[2, 11]]


@given(grids)
def test_a_frame_holds_its_grid_lines_and_nothing_else(grid):
    height, width = grid.shape
    framed = arc.frame(grid, (30, 30))
    for row in range(30):
        for column in range(30):
            if row < height and column < width:
                expected = grid[row, column] + 2
            elif (row == height and column < width) or (column == width and row < height):
                expected = arc.EOS_ID
            else:
                expected = arc.PAD_ID
            assert framed[row, column] == expected


@given(grids)
def test_cut_takes_back_what_frame_made(grid):
    np.testing.assert_array_equal(arc.cut(arc.frame(grid)), grid)
    np.testing.assert_array_equal(arc.cut(arc.frame(grid, grid.shape)), grid)  # the grid fills the frame


def plain_cut_size(frame):
    """Rows and columns of the best rectangle by trying them all."""
    best = (0, 0)
    for rows in range(1, frame.shape[0] + 1):
        for columns in range(1, frame.shape[1] + 1):
            part = frame[:rows, :columns]
            if ((part >= 2) & (part <= 11)).all() and rows * columns > best[0] * best[1]:
                best = rows, columns
    return list(best)


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.int64, np.int32]),
        arrays.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.one_of(st.integers(2, 11), st.integers(0, 127)),
        fill=st.integers(2, 3),
    )
)
def test_cut_sizes_match_a_plain_search(frames):
    sizes = arc.cut_sizes(frames)
    assert sizes.dtype == np.int64 and sizes.tolist() == [plain_cut_size(frame) for frame in frames]


def test_cut_sizes_of_staircases_match_a_plain_search():
    generator = np.random.default_rng(1)
    widths = np.sort(generator.integers(0, 8, (300, 7)), axis=1)[:, ::-1]  # leading colours of each row
    frames = np.where(np.arange(7) < widths[:, :, None], 5, generator.integers(0, 2, (300, 7, 7)))
    sizes = arc.cut_sizes(frames)
    assert sizes.tolist() == [plain_cut_size(frame) for frame in frames]
    assert len(set(map(tuple, sizes.tolist()))) > 20


def test_cut_ends_at_any_other_id():
    for bad in (-100, -1, 0, 1, 12, 255, 256 + 5, 2**40):
        frames = np.full((1, 2, 3), 7, np.int64)
        frames[0, 0, 1] = bad
        assert arc.cut_sizes(frames).tolist() == [[2, 1]], bad
        frames[0, 0, 0] = bad
        assert arc.cut(frames[0]).shape == (0, 0)


def test_vocabulary():
    names = arc.CODEC.vocabulary((30, 30))
    assert names == ["PAD", "EOS", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert names[int(arc.frame(np.array([[7]]))[0, 0])] == "7"


# Augmentation


@pytest.mark.parametrize("index", range(8))
def test_augmentations_match_the_recorded_ones(index):
    recorded = golden_arrays(GOLDEN / "arc_eval.npz")
    name, original = CONFIG["inverse_aug_names"][index], recorded["inverse_aug.grid"]
    task, augmentation = ArcAugmentation.parse(name)
    assert task == "deadbeef" and augmentation.transform == index
    np.testing.assert_array_equal(augmentation.undo(recorded[f"inverse_aug{index}.in"]), original)
    np.testing.assert_array_equal(augmentation.apply(original), recorded[f"inverse_aug{index}.in"])


@given(grids, augmentations)
def test_undo_takes_back_what_apply_made(grid, augmentation):
    changed = augmentation.apply(grid)
    assert changed.dtype == np.uint8 and changed.flags.c_contiguous
    assert changed.shape == (grid.shape[::-1] if augmentation.transform in (1, 3, 6, 7) else grid.shape)
    np.testing.assert_array_equal(augmentation.undo(changed), grid)
    np.testing.assert_array_equal(augmentation.apply(augmentation.undo(grid)), grid)
    np.testing.assert_array_equal(augmentation.undo(arc.cut(arc.frame(changed))), grid)


def test_an_augmentation_by_hand():
    augmentation = ArcAugmentation(1, (0, 2, 3, 1, 4, 5, 6, 7, 8, 9))
    assert augmentation.apply(np.array([[1, 2, 3]])).tolist() == [
        [1],
        [3],
        [2],
    ]  # the last column becomes the first row
    stacked = augmentation.apply(np.array([[[1, 2, 3]], [[0, 0, 4]]]))
    assert stacked.tolist() == [[[1], [3], [2]], [[4], [0], [0]]]
    assert augmentation.undo(np.zeros((0, 0), np.uint8)).shape == (0, 0)


@given(augmentations, st.text(min_size=1, max_size=8))
def test_names_can_be_read_back(augmentation, task):
    name = f"{task}_t{augmentation.transform}_{''.join(map(str, augmentation.colours))}"
    assert ArcAugmentation.parse(name) == (task, augmentation) and ArcAugmentation.task_of(name) == task


def test_names_of_other_forms_are_the_identity():
    for name in ("abc", "abc_t1_012345678", "abc_t1_01234567890", "_t1_0123456789", "abc_tx_0123456789", "<blank>"):
        assert ArcAugmentation.parse(name) == (name, PLAIN) and ArcAugmentation.task_of(name) == name
    assert ArcAugmentation.parse("a_t2_x_t0_0123456789") == ("a_t2_x", PLAIN)


@pytest.mark.parametrize("name", ["abc_t8_0123456789", "abc_t10_0123456789", "abc_t1_0112345678"])
def test_impossible_augmentations_are_refused(name):
    with pytest.raises(PuzzleError, match=f"'{name}' is no augmentation"):
        ArcAugmentation.parse(name)


def test_grids_with_other_values_are_refused():
    for bad in (np.array([[10]]), np.array([[-1]]), np.array([[1.0]])):
        for call in (arc.frame, arc.draw, PLAIN.apply, PLAIN.undo):
            with pytest.raises(PuzzleError, match="must hold integers"):
                call(bad)
