"""The symmetry group of Sudoku and the class keys: recorded augmentations, whole orbits, exact keys of 4x4."""

import math

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays
from sudoku_grids import QUESTION, SHAPES, all_4x4, full_grid

from hrm_hf.games.sudoku_answers import are_solutions
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.games.sudoku_symmetry import SudokuSymmetries, class_keys
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.sudoku import parse

GOLDEN = paths.GOLDEN / "G"
CODED_SHAPES = [shape for shape in SHAPES if shape != (4, 4)]
ORDERS = {(2, 2): 24 * 8 * 8 * 2, (2, 3): 720 * 3456, (3, 2): 720 * 3456, (3, 3): 362_880 * 1296**2 * 2}


def rank(permutation):
    """The lexicographic rank of a permutation, by counting the smaller values behind each."""
    permutation = list(permutation)
    return sum(
        sum(later < value for later in permutation[place:]) * math.factorial(len(permutation) - 1 - place)
        for place, value in enumerate(permutation)
    )


def code_of(digit_map, row_order, col_order, transpose):
    """The code of a 9x9 symmetry, put together in plain integers."""
    code = rank(digit_map[1:])
    for order in (row_order, col_order):
        blocks = np.reshape(order, (3, 3))
        code = code * 6 + rank(blocks[:, 0] // 3)
        for block in blocks:
            code = code * 6 + rank(block)
    return code * 2 + int(transpose)


@pytest.fixture(scope="module")
def grids_4x4():
    return all_4x4()


@pytest.mark.parametrize("index", range(4))
def test_apply_matches_the_recorded_augmentations(index):
    recorded = golden_arrays(GOLDEN / "sudoku_augment.npz")
    names = ("digit_map", "row_perm", "col_perm", "transpose")
    draws = [recorded[f"aug{index}.{name}"] for name in names]
    symmetry = SudokuSymmetries((3, 3), [code_of(*draws[:3], draws[3][0])])
    grids = np.stack([recorded["board"], recorded["solution"]])
    changed = symmetry.apply(grids)
    np.testing.assert_array_equal(changed[0], [recorded[f"aug{index}.{name}"] for name in ("board", "solution")])
    np.testing.assert_array_equal(symmetry.undo(changed)[0], grids)


def test_some_recorded_augmentation_is_transposed_and_some_is_not():
    recorded = golden_arrays(GOLDEN / "sudoku_augment.npz")
    assert {bool(recorded[f"aug{i}.transpose"][0]) for i in range(4)} == {True, False}


@pytest.mark.parametrize("box_shape", CODED_SHAPES)
def test_symmetries_keep_the_rules_and_are_undone(box_shape):
    generator = np.random.default_rng(1)
    symmetries = SudokuSymmetries.draw(box_shape, 200, generator)
    grid = full_grid(box_shape)
    n = len(grid)
    grids = symmetries.apply(grid[None])[:, 0]
    assert grids.dtype == np.uint8 and len({g.tobytes() for g in grids}) > 100
    assert are_solutions(np.zeros_like(grids), grids, box_shape).all()
    any_grids = generator.integers(0, n + 1, (3, n, n))
    changed = symmetries.apply(any_grids)
    assert changed.shape == (200, 3, n, n)
    np.testing.assert_array_equal(symmetries.undo(changed), np.broadcast_to(any_grids, changed.shape))


@pytest.mark.parametrize("box_shape", CODED_SHAPES)
def test_code_0_changes_nothing(box_shape):
    n = box_shape[0] * box_shape[1]
    grids = np.random.default_rng(2).integers(0, n + 1, (3, n, n))
    np.testing.assert_array_equal(SudokuSymmetries(box_shape, [0]).apply(grids)[0], grids)


@pytest.mark.parametrize("box_shape", ORDERS)
def test_codes_number_the_group(box_shape):
    drawn = SudokuSymmetries.draw(box_shape, 500, np.random.default_rng(3))
    assert drawn.codes.dtype == np.uint64 and int(drawn.codes.max()) < ORDERS[box_shape]
    assert len(SudokuSymmetries(box_shape, [ORDERS[box_shape] - 1])) == 1
    for bad in (ORDERS[box_shape], -1):
        with pytest.raises(PuzzleError, match=f"{bad} is not allowed: .* 0 to {ORDERS[box_shape] - 1}"):
            SudokuSymmetries(box_shape, [bad])


def test_all_codes_of_4x4_are_different_symmetries():
    symmetries = SudokuSymmetries((2, 2), np.arange(3072))
    marked = np.zeros((1, 4, 4), np.uint8)
    marked[0, 0], marked[0, 1, 0], marked[0, 2, 0] = [1, 2, 3, 4], 3, 2  # the identity alone keeps this grid
    assert len({grid.tobytes() for grid in symmetries.apply(marked)}) == 3072


@pytest.mark.parametrize("box_shape", [(4, 4), (2, 7)])
def test_of_more_symmetries_than_codes_each_code_is_one(box_shape):
    assert SudokuSymmetries.order(box_shape) == 1 << 64
    generator, n = np.random.default_rng(0), box_shape[0] * box_shape[1]
    grids = np.stack(generate(1, box_shape, generator))[:, 0]
    np.testing.assert_array_equal(SudokuSymmetries(box_shape, [0]).apply(grids)[0], grids)
    symmetries = SudokuSymmetries.draw(box_shape, 50, generator)
    turned = symmetries.apply(grids)
    assert are_solutions(turned[:, 0], turned[:, 1], box_shape).all()
    assert len({grid.tobytes() for grid in turned[:, 1]}) == 50
    np.testing.assert_array_equal(symmetries.undo(turned), np.stack([grids] * 50))
    again = SudokuSymmetries(box_shape, symmetries.codes).apply(grids)
    np.testing.assert_array_equal(again, turned)
    many = SudokuSymmetries.draw(box_shape, 2000, generator).apply(np.arange(n * n).reshape(1, n, n) % (n + 1))
    first = many[:, 0, 0, 0]  # every digit and blank gets to every place, about equally often
    assert (np.bincount(first, minlength=n + 1) > 2000 / (n + 1) / 2).all()


def test_draw_is_uniform_over_the_group_and_repeatable():
    drawn = SudokuSymmetries.draw((2, 2), 60_000, np.random.default_rng(4))
    again = SudokuSymmetries.draw((2, 2), 60_000, np.random.default_rng(4))
    np.testing.assert_array_equal(drawn.codes, again.codes)
    counts = np.bincount(drawn.codes.astype(int), minlength=3072)
    expected = 60_000 / 3072
    chi_square = ((counts - expected) ** 2 / expected).sum()  # mean 3071, standard deviation 78
    assert abs(chi_square - 3071) < 5 * 78


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 3), (1, 2), (3, 4)])
def test_codes_of_several_sets_are_those_of_one_draw_after_the_other(box_shape):
    one, other = np.random.default_rng(4), np.random.default_rng(4)
    codes = SudokuSymmetries.draw_codes(box_shape, (5, 7), one)
    expected = np.stack([SudokuSymmetries.draw(box_shape, 7, other).codes for _ in range(5)])
    assert codes.dtype == np.uint64
    np.testing.assert_array_equal(codes, expected)
    assert one.random() == other.random()


def test_ids_of_each_puzzle_go_under_symmetries_of_their_own():
    generator = np.random.default_rng(6)
    ids = generator.integers(1, 7, (4, 2, 6, 6), dtype=np.uint8)
    codes = SudokuSymmetries.draw_codes((2, 3), (4, 3), generator)
    made = SudokuSymmetries((2, 3), codes.reshape(-1)).apply_to_ids(ids)
    expected = [SudokuSymmetries((2, 3), codes[p]).apply(ids[p] - 1) + 1 for p in range(4)]
    np.testing.assert_array_equal(made, np.concatenate(expected))


@pytest.mark.parametrize("box_shape", [(3, 0), (3.5, 2), None, (10, 10)])
def test_other_box_shapes_are_refused(box_shape):
    with pytest.raises(PuzzleError, match="box shape"):
        SudokuSymmetries(box_shape, [0])


def test_apply_refuses_other_grids():
    symmetries = SudokuSymmetries((3, 3), [0, 0])
    for grids, message in (
        (np.zeros((9, 9), int), r"shape \(M, 9, 9\), got \(9, 9\)"),
        (np.zeros((1, 4, 4), int), r"\(1, 4, 4\)"),
        (np.full((1, 9, 9), 10), "got 10"),
        (np.zeros((1, 9, 9)), "float64"),
    ):
        with pytest.raises(PuzzleError, match=message):
            symmetries.apply(grids)


# Class keys


def brute_force_orbit(grid, box_shape):
    symmetries = SudokuSymmetries(box_shape, np.arange(ORDERS[box_shape]))
    return {changed.tobytes() for changed in symmetries.apply(grid[None])}


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
    changed = SudokuSymmetries.draw(box_shape, 30, generator).apply(grids)
    assert class_keys(changed[np.arange(30), np.arange(30)], box_shape) == keys
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
