"""The symmetry group of Sudoku and the class keys: recorded augmentations, whole orbits, exact keys of 4x4."""

import numpy as np
import paths
import pytest
from sudoku_grids import QUESTION, SHAPES, all_4x4, full_grid

from hrm_hf.games.sudoku_answers import are_solutions
from hrm_hf.games.sudoku_symmetry import SudokuSymmetries, class_keys, group_order
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.sudoku import parse

GOLDEN = paths.GOLDEN / "G"
CODED_SHAPES = [shape for shape in SHAPES if shape != (4, 4)]


def identity(box_shape, num=1):
    """`num` times the symmetry that changes nothing."""
    n = box_shape[0] * box_shape[1]
    lines = np.tile(np.arange(n), (num, 1))
    return SudokuSymmetries(box_shape, np.tile(np.arange(n + 1), (num, 1)), lines, lines, np.zeros(num, bool))


@pytest.fixture(scope="module")
def grids_4x4():
    return all_4x4()


@pytest.mark.parametrize("index", range(4))
def test_apply_matches_the_recorded_augmentations(index):
    recorded = np.load(GOLDEN / "sudoku_augment.npz")
    draws = {name: recorded[f"aug{index}.{name}"] for name in ("digit_map", "row_perm", "col_perm", "transpose")}
    symmetry = SudokuSymmetries(
        (3, 3), draws["digit_map"][None], draws["row_perm"][None], draws["col_perm"][None], draws["transpose"]
    )
    for name in ("board", "solution"):
        changed = symmetry.apply(recorded[name])
        np.testing.assert_array_equal(changed[0], recorded[f"aug{index}.{name}"])
        np.testing.assert_array_equal(symmetry.inverse().apply(changed)[0], recorded[name])
        np.testing.assert_array_equal(
            SudokuSymmetries.from_codes((3, 3), symmetry.to_codes()).apply(recorded[name]), changed
        )


def test_some_recorded_augmentation_is_transposed_and_some_is_not():
    recorded = np.load(GOLDEN / "sudoku_augment.npz")
    assert {bool(recorded[f"aug{i}.transpose"][0]) for i in range(4)} == {True, False}


@pytest.mark.parametrize("box_shape", SHAPES)
def test_symmetries_keep_the_rules_and_are_undone(box_shape):
    generator = np.random.default_rng(1)
    symmetries = SudokuSymmetries.draw(box_shape, 200, generator)
    grid = full_grid(box_shape)
    grids = symmetries.apply(grid)
    assert grids.dtype == np.uint8 and len({g.tobytes() for g in grids}) > 100
    assert are_solutions(np.zeros_like(grids), grids, box_shape).all()
    assert symmetries.transpose.any() == (box_shape[0] == box_shape[1])
    any_grids = generator.integers(0, len(grid) + 1, grids.shape)
    np.testing.assert_array_equal(symmetries.inverse().apply(symmetries.apply(any_grids)), any_grids)
    np.testing.assert_array_equal(symmetries.apply(symmetries.inverse().apply(any_grids)), any_grids)


@pytest.mark.parametrize("box_shape", SHAPES)
def test_identity_changes_nothing(box_shape):
    n = box_shape[0] * box_shape[1]
    grids = np.random.default_rng(2).integers(0, n + 1, (3, n, n))
    same = identity(box_shape, 3)
    np.testing.assert_array_equal(same.apply(grids), grids)
    if box_shape in CODED_SHAPES:
        assert same.to_codes().tolist() == [0, 0, 0]


@pytest.mark.parametrize("box_shape", CODED_SHAPES)
def test_codes_number_the_group(box_shape):
    order = group_order(box_shape)
    drawn = SudokuSymmetries.draw(box_shape, 500, np.random.default_rng(3))
    codes = drawn.to_codes()
    assert codes.dtype == np.uint64 and int(codes.max()) < order
    np.testing.assert_array_equal(drawn[:].to_codes(), codes)  # found from the permutations, not kept from the draw
    again = SudokuSymmetries.from_codes(box_shape, codes)
    for name in ("digit_map", "row_order", "col_order", "transpose"):
        np.testing.assert_array_equal(getattr(again, name), getattr(drawn, name))
    ends = np.array([0, 1, order - 1], np.uint64)
    np.testing.assert_array_equal(SudokuSymmetries.from_codes(box_shape, ends)[:].to_codes(), ends)
    for bad in ([order], [-1]):
        with pytest.raises(PuzzleError, match=str(bad[0])):
            SudokuSymmetries.from_codes(box_shape, bad)


def test_group_orders():
    assert group_order((2, 2)) == 24 * 8 * 8 * 2
    assert group_order((2, 3)) == 720 * 3456
    assert group_order((3, 3)) == 362_880 * 1296**2 * 2


def test_all_codes_of_4x4_are_different_symmetries():
    symmetries = SudokuSymmetries.from_codes((2, 2), np.arange(3072))
    marked = np.zeros((4, 4), np.uint8)
    marked[0], marked[1, 0], marked[2, 0] = [1, 2, 3, 4], 3, 2  # no symmetry but the identity keeps this grid
    assert len({grid.tobytes() for grid in symmetries.apply(marked)}) == 3072


def test_several_grids_under_all_symmetries():
    generator = np.random.default_rng(9)
    symmetries = SudokuSymmetries.draw((2, 3), 20, generator)
    grids = generator.integers(0, 7, (3, 6, 6), dtype=np.uint8)
    want = np.stack([symmetries.apply(np.broadcast_to(grid, (20, 6, 6))) for grid in grids], axis=1)
    np.testing.assert_array_equal(symmetries.apply_to_each(grids), want)
    np.testing.assert_array_equal(symmetries.apply(grids[0]), want[:, 0])
    with pytest.raises(PuzzleError, match=r"shape \(M, 6, 6\), got \(6, 6\)"):
        symmetries.apply_to_each(grids[0])


def test_codes_beyond_64_bits_are_refused():
    symmetries = identity((4, 4))
    with pytest.raises(PuzzleError, match="2\\^64"):
        symmetries.to_codes()
    with pytest.raises(PuzzleError, match="2\\^64"):
        SudokuSymmetries.from_codes((4, 4), [0])


def test_draw_is_uniform_over_the_group_and_repeatable():
    drawn = SudokuSymmetries.draw((2, 2), 60_000, np.random.default_rng(4))
    again = SudokuSymmetries.draw((2, 2), 60_000, np.random.default_rng(4))
    np.testing.assert_array_equal(drawn.to_codes(), again.to_codes())
    counts = np.bincount(drawn.to_codes().astype(int), minlength=3072)
    expected = 60_000 / 3072
    chi_square = ((counts - expected) ** 2 / expected).sum()  # mean 3071, standard deviation 78
    assert abs(chi_square - 3071) < 5 * 78


def test_slices():
    drawn = SudokuSymmetries.draw((3, 3), 10, np.random.default_rng(5))
    assert len(drawn[2:5]) == 3 and len(drawn[-1]) == 1
    np.testing.assert_array_equal(drawn[2:5].to_codes(), drawn.to_codes()[2:5])
    np.testing.assert_array_equal(drawn[drawn.transpose].to_codes(), drawn.to_codes()[drawn.transpose])


@pytest.mark.parametrize(
    "box_shape, change, message",
    [
        ((3, 3), {"digit_map": [[0, 1, 2, 3, 4, 5, 6, 7, 8, 8]]}, "digit_map.*not a permutation of 0 to 9"),
        ((3, 3), {"digit_map": [[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]]}, "blank"),
        ((3, 3), {"row_order": [[0, 1, 3, 2, 4, 5, 6, 7, 8]]}, "tears blocks of 3"),
        ((3, 3), {"col_order": [[0, 1, 2, 3, 4, 5, 6, 7, -1]]}, "col_order.*not a permutation of 0 to 8"),
        ((3, 3), {"col_order": [[0, 1, 2, 3, 4, 5, 6, 7, 40]]}, "col_order.*not a permutation of 0 to 8"),
        ((3, 3), {"col_order": [[0.0] * 9]}, "float64"),
        ((3, 3), {"transpose": [1]}, "boolean"),
        ((2, 3), {"transpose": [True]}, "2x3 cannot be transposed"),
        ((3, 0), {}, "box shape"),
        ((3.5, 2), {}, "box shape"),
        (None, {}, "box shape"),
        ((10, 10), {}, "box shape"),
    ],
)
def test_broken_symmetries_are_refused(box_shape, change, message):
    n = 6 if box_shape == (2, 3) else 9
    fields = {"digit_map": [range(n + 1)], "row_order": [range(n)], "col_order": [range(n)], "transpose": [False]}
    with pytest.raises(PuzzleError, match=message):
        SudokuSymmetries(box_shape, **(fields | change))


def test_apply_refuses_other_grids():
    symmetries = identity((3, 3), 2)
    for grids, message in (
        (np.zeros((3, 9, 9), int), r"2 symmetries and 3 grids, .*\(2, 9, 9\)"),
        (np.zeros((4, 4), int), r"\(1, 4, 4\)"),
        (np.full((9, 9), 10), "got 10"),
        (np.zeros((9, 9)), "float64"),
    ):
        with pytest.raises(PuzzleError, match=message):
            symmetries.apply(grids)


# Class keys


def brute_force_orbit(grid, box_shape):
    symmetries = SudokuSymmetries.from_codes(box_shape, np.arange(group_order(box_shape)))
    return {changed.tobytes() for changed in symmetries.apply(grid)}


def test_full_4x4_grids_fall_into_two_classes(grids_4x4):
    assert len(grids_4x4) == 288
    keys = class_keys(grids_4x4, (2, 2))
    sizes = sorted(keys.count(key) for key in set(keys))
    assert sizes == [96, 192]
    orbit = brute_force_orbit(grids_4x4[0], (2, 2))
    assert [grid.tobytes() in orbit for grid in grids_4x4] == [key == keys[0] for key in keys]


def test_keys_of_4x4_are_exact():
    grids = np.random.default_rng(6).integers(0, 5, (60, 4, 4), dtype=np.uint8) * (
        np.random.default_rng(7).random((60, 4, 4)) < 0.3
    ).astype(np.uint8)
    keys = class_keys(grids, (2, 2))
    orbits = [brute_force_orbit(grid, (2, 2)) for grid in grids]
    same_orbit = [[grid.tobytes() in orbit for grid in grids] for orbit in orbits]
    assert same_orbit == [[key == other for other in keys] for key in keys]
    assert 1 < len(set(keys)) <= 60


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 2), (3, 3), (2, 4)])
def test_equivalent_puzzles_have_equal_keys_and_others_do_not(box_shape):
    n = box_shape[0] * box_shape[1]
    generator = np.random.default_rng(8)
    grids = generator.integers(1, n + 1, (30, n, n)) * (generator.random((30, n, n)) < 0.4)
    keys = class_keys(grids, box_shape)
    assert class_keys(SudokuSymmetries.draw(box_shape, 30, generator).apply(grids), box_shape) == keys
    assert len(set(keys)) == 30
    blanked = grids.copy()
    for grid in blanked:
        grid.flat[np.flatnonzero(grid)[0]] = 0
    assert not set(class_keys(blanked, box_shape)) & set(keys)


def test_keys_do_not_depend_on_the_run():
    assert class_keys(parse(QUESTION)[None], (3, 3))[0].hex() == "cde6dd95e0a82d67a51e23f159ddca06"
    smallest = 1 * 5 + 2  # "..............12" read as a number to the base 5
    keys = class_keys(parse("12..............")[None], (2, 2))
    assert keys == [smallest.to_bytes(8, "big")]
    assert class_keys(np.zeros((0, 9, 9), int), (3, 3)) == []
