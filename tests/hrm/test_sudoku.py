"""Sudoku: reading, checks, symmetries, class keys, solver, generator and baseline, by facts checked by hand."""

import itertools
import json

import numpy as np
import paths
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_hf.hrm import sudoku
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.sudoku import SudokuSymmetries

GOLDEN = paths.GOLDEN / "G"
QUESTION = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
SHAPES = [(2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 4), (1, 5)]
CODED_SHAPES = [shape for shape in SHAPES if shape != (4, 4)]


def full_grid(box_shape):
    """A valid full grid: each row is the one above moved by a box's width, by one more from band to band."""
    rows, cols = box_shape
    n = rows * cols
    return np.array([[(cols * (i % rows) + i // rows + j) % n + 1 for j in range(n)] for i in range(n)], np.uint8)


def all_4x4():
    """The full 4x4 grids, found by trying rows against the rules (not by the solver)."""
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]
    latin = (
        rows
        for rows in itertools.product(itertools.permutations(range(1, 5)), repeat=4)
        if all(len(set(column)) == 4 for column in zip(*rows, strict=True))
    )
    grids = [np.array(rows, np.uint8) for rows in latin]
    return np.array([g for g in grids if all(len({*g[i : i + 2, j : j + 2].flat}) == 4 for i, j in corners)])


@pytest.fixture(scope="module")
def grids_4x4():
    return all_4x4()


# Reading and writing


@pytest.mark.parametrize(
    "puzzle",
    [
        QUESTION,
        QUESTION.replace(".", "0"),
        "\n".join(QUESTION[i : i + 9] for i in range(0, 81, 9)) + " \t\n",
        [0 if c == "." else int(c) for c in QUESTION],
        sudoku.parse(QUESTION).tolist(),
        tuple(map(tuple, sudoku.parse(QUESTION).tolist())),
        list(sudoku.parse(QUESTION)),
        sudoku.parse(QUESTION),
        sudoku.parse(QUESTION).astype(np.int64).ravel(),
        sudoku.parse(QUESTION).astype(np.float32),
        sudoku.parse(QUESTION).astype(object),
    ],
    ids=["dots", "zeros", "lines", "flat", "nested", "tuples", "rows", "array", "flat_array", "floats", "objects"],
)
def test_parse_reads_every_form(puzzle):
    grid = sudoku.parse(puzzle)
    assert grid.shape == (9, 9) and grid.dtype == np.uint8
    assert sudoku.to_string(grid) == QUESTION
    np.testing.assert_array_equal(sudoku.parse(puzzle, (3, 3)), grid)


def test_parse_tells_the_size():
    assert sudoku.parse("." * 16).shape == (4, 4)
    assert sudoku.parse("6" + "." * 35).shape == (6, 6)
    assert sudoku.parse("G" + "." * 255, (4, 4))[0, 0] == 16


@pytest.mark.parametrize(
    "puzzle, message",
    [
        (QUESTION[:-1], "80 characters.*81 characters"),
        (QUESTION + ".", "82 characters.*81 characters"),
        ("", "0 characters.*81 characters"),
        ("." * 10**6, "1000000 characters.*81 characters"),
        ("x" + QUESTION[1:], "'x' at row 1, column 1 is not allowed.*1 to 9"),
        (QUESTION[:-1] + "\uff15", "row 9, column 9"),
        (QUESTION[:10] + "A" + QUESTION[11:], "'A' at row 2, column 2"),
        ("5" + "." * 15, "'5' at row 1, column 1.*1 to 4"),
        ([0] * 80, "80 cells.*81 cells"),
        ([[0] * 9] * 8, "8 rows"),
        ([[0] * 9] * 8 + [[0] * 8], "row 9 has 8 cells.*9"),
        ([[0] * 9] * 8 + [0], "row 9 is a int"),
        ([[0] * 9] * 8 + [[0] * 8 + [10]], "10 at row 9, column 9.*1 to 9"),
        ([[0] * 9] * 8 + [[0] * 8 + [-1]], "-1 at row 9, column 9"),
        ([1.5] + [0] * 15, "1.5 at row 1, column 1"),
        ([float("nan")] + [0] * 15, "nan at row 1, column 1"),
        ([float("inf")] + [0] * 15, "inf at row 1, column 1"),
        ([True] + [0] * 15, "True at row 1, column 1"),
        ([None] + [0] * 15, "None at row 1, column 1"),
        (["1"] + [0] * 15, "'1' at row 1, column 1"),
        (np.full((9, 9), np.nan), "nan at row 1, column 1"),
        (np.zeros((9, 9), bool), "False at row 1, column 1"),
        (np.zeros((9, 9), complex), "complex"),
        (np.zeros((3, 27)), r"\(3, 27\)"),
        (np.zeros((1, 9, 9)), r"\(1, 9, 9\)"),
        (np.broadcast_to(np.uint8(0), (10**6, 10**6)), "1000000000000 cells"),
        (None, "NoneType"),
        (81, "int"),
        (b"." * 81, "bytes"),
        ({"question": QUESTION}, "dict"),
        (["5", ["3"]], "2 rows"),
    ],
)
def test_parse_says_what_is_wrong(puzzle, message):
    with pytest.raises(PuzzleError, match=message):
        sudoku.parse(puzzle)


def test_parse_holds_the_puzzle_to_the_box_shape():
    with pytest.raises(PuzzleError, match="16 characters.*boxes of 3x3 has 9 x 9 = 81 characters"):
        sudoku.parse("." * 16, (3, 3))
    with pytest.raises(PuzzleError, match="rows, columns"):
        sudoku.parse("." * 16, (2, "two"))


class Hostile:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


class HostileList(list):
    def __len__(self):
        raise OSError("no")


class HostileText(str):
    def __len__(self):
        raise KeyError("no")


@pytest.mark.parametrize(
    "puzzle", [Hostile(), HostileList([1]), HostileText("1"), [10**5000] + [0] * 15], ids=range(4)
)
def test_parse_raises_nothing_but_puzzle_errors(puzzle):
    with pytest.raises(PuzzleError):
        sudoku.parse(puzzle)


cell_values = st.one_of(
    st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=2), st.complex_numbers()
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=90),
        st.lists(cell_values, max_size=20),
        st.lists(cell_values, min_size=16, max_size=16),
        st.lists(st.lists(cell_values, min_size=4, max_size=4), min_size=4, max_size=4),
        st.recursive(cell_values, lambda inner: st.lists(inner, max_size=5), max_leaves=20),
    )
)
def test_parse_of_anything_gives_a_grid_or_a_puzzle_error(puzzle):
    try:
        grid = sudoku.parse(puzzle)
    except PuzzleError:
        return
    assert grid.dtype == np.uint8 and grid.shape[0] == grid.shape[1] and grid.max() <= len(grid)


def test_encode_and_decode():
    grid = sudoku.parse(QUESTION)
    ids = sudoku.encode(grid)
    assert ids.dtype == np.uint8 and ids.min() == 1
    names = sudoku.vocabulary(9)
    assert names == ["PAD", ".", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert "".join(names[i] for i in ids.ravel()) == QUESTION
    np.testing.assert_array_equal(sudoku.decode(ids), grid)
    assert sudoku.decode(np.array([0, 1, 2])).tolist() == [0, 0, 1]
    for bad in (np.array([-100]), np.array([300]), np.array([1.0])):
        with pytest.raises(PuzzleError, match="integers from 0"):
            sudoku.decode(bad)
        with pytest.raises(PuzzleError, match="integers from 0"):
            sudoku.encode(bad)


def test_codes_match_the_recorded_dataset():
    recorded = np.load(GOLDEN / "sudoku.npz")
    rows = json.loads((GOLDEN / "config.json").read_text())["sudoku"]["csv_rows"]
    for i, (_, question, answer, _) in enumerate(rows):
        np.testing.assert_array_equal(sudoku.encode(sudoku.parse(question)).ravel(), recorded["inputs"][i])
        np.testing.assert_array_equal(sudoku.encode(sudoku.parse(answer)).ravel(), recorded["labels"][i])
        sudoku.check_answer(question, answer, (3, 3))


def test_draw():
    assert sudoku.draw("1234341..1432...", (2, 2)) == "1 2 | 3 4\n3 4 | 1 .\n----+----\n. 1 | 4 3\n2 . | . ."
    lines = sudoku.draw("." * 36, (2, 3)).split("\n")
    assert [i for i, line in enumerate(lines) if "+" in line] == [2, 5]
    lines = sudoku.draw(QUESTION, (3, 3)).split("\n")
    assert lines[0] == "5 3 . | . 7 . | . . ." and lines[3] == "------+-------+------"
    assert {len(line) for line in lines} == {21}


# Checks


@pytest.mark.parametrize(
    "cells, message",
    [
        ({(2, 0): 7, (2, 8): 7}, "digit 7 stands twice in row 3: at row 3, column 1 and at row 3, column 9"),
        ({(1, 4): 2, (7, 4): 2}, "digit 2 stands twice in column 5: at row 2, column 5 and at row 8, column 5"),
        ({(0, 3): 9, (2, 5): 9}, "digit 9 stands twice in box 2: at row 1, column 4 and at row 3, column 6"),
    ],
)
def test_check_givens_names_digit_unit_and_cells(cells, message):
    grid = np.zeros((9, 9), np.uint8)
    for cell, digit in cells.items():
        grid[cell] = digit
    with pytest.raises(PuzzleError, match=message):
        sudoku.check_givens(grid, (3, 3))


def test_check_givens_knows_boxes_of_two_rows_and_three_columns():
    grid = np.zeros((6, 6), np.uint8)
    grid[0, 3] = grid[1, 5] = 4
    with pytest.raises(PuzzleError, match="box 2: at row 1, column 4 and at row 2, column 6"):
        sudoku.check_givens(grid, (2, 3))
    grid[:] = 0
    grid[0, 4] = grid[2, 5] = 4  # one box only if boxes have three rows and two columns
    sudoku.check_givens(grid, (2, 3))
    with pytest.raises(PuzzleError, match="box 3: at row 1, column 5 and at row 3, column 6"):
        sudoku.check_givens(grid, (3, 2))


@pytest.mark.parametrize("box_shape", SHAPES)
def test_full_grids_pass_and_broken_ones_fail(box_shape):
    grid = full_grid(box_shape)
    sudoku.check_givens(grid, box_shape)
    assert sudoku.is_solution(np.zeros_like(grid), grid, box_shape)
    broken = grid.copy()
    broken[0, :2] = broken[0, 1::-1]  # the row keeps its digits, two columns do not
    assert not sudoku.is_solution(np.zeros_like(grid), broken, box_shape)


def test_check_answer_says_what_is_wrong():
    question, answer = sudoku.parse(QUESTION), sudoku.parse(ANSWER)
    sudoku.check_answer(QUESTION, ANSWER, (3, 3))
    assert sudoku.is_solution(question, answer, (3, 3))
    blank = answer.copy()
    blank[8, 0] = 0
    other = answer.copy()
    other[answer == 5], other[answer == 3] = 3, 5
    twice = answer.copy()
    twice[0, 2] = 1
    for wrong, message in (
        (blank, "not complete: row 9, column 1"),
        (other, "givens: row 1, column 1 is given as 5, answered as 3"),
        (twice, "digit 1 stands twice in row 1: at row 1, column 3 and at row 1, column 8"),
        (answer[:8], r"\(8, 9\)"),
    ):
        with pytest.raises(PuzzleError, match=message):
            sudoku.check_answer(question, wrong, (3, 3))
        assert not sudoku.is_solution(question, wrong, (3, 3))
    many = sudoku.are_solutions(np.stack([question] * 4), np.stack([answer, blank, other, twice]), (3, 3))
    assert many.tolist() == [True, False, False, False]


def test_each_unit_kind_is_checked():
    latin = np.array([[(i + j) % 9 + 1 for j in range(9)] for i in range(9)])  # rows and columns right, boxes wrong
    rows_wrong = full_grid((3, 3))
    rows_wrong[:, [0, 1]] = full_grid((3, 3))[:, [0, 0]]
    for grid, unit in ((latin, "box"), (rows_wrong, "row"), (rows_wrong.T, "column")):
        assert not sudoku.is_solution(np.zeros((9, 9), int), grid, (3, 3))
        with pytest.raises(PuzzleError, match=f"twice in {unit}"):
            sudoku.check_givens(grid, (3, 3))


# Symmetries


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
    assert sudoku.are_solutions(np.zeros_like(grids), grids, box_shape).all()
    assert symmetries.transpose.any() == (box_shape[0] == box_shape[1])
    any_grids = generator.integers(0, len(grid) + 1, grids.shape)
    np.testing.assert_array_equal(symmetries.inverse().apply(symmetries.apply(any_grids)), any_grids)
    np.testing.assert_array_equal(symmetries.apply(symmetries.inverse().apply(any_grids)), any_grids)


@pytest.mark.parametrize("box_shape", SHAPES)
def test_identity_changes_nothing(box_shape):
    n = box_shape[0] * box_shape[1]
    grids = np.random.default_rng(2).integers(0, n + 1, (3, n, n))
    identity = SudokuSymmetries.identity(box_shape, 3)
    np.testing.assert_array_equal(identity.apply(grids), grids)
    if box_shape in CODED_SHAPES:
        assert identity.to_codes().tolist() == [0, 0, 0]


@pytest.mark.parametrize("box_shape", CODED_SHAPES)
def test_codes_number_the_group(box_shape):
    order = sudoku.group_order(box_shape)
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
    assert sudoku.group_order((2, 2)) == 24 * 8 * 8 * 2
    assert sudoku.group_order((2, 3)) == 720 * 3456
    assert sudoku.group_order((3, 3)) == 362_880 * 1296**2 * 2


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
    with pytest.raises(PuzzleError, match=r"grids \(6, 6\) each, got \(6, 6\)"):
        symmetries.apply_to_each(grids[0])


def test_codes_beyond_64_bits_are_refused():
    symmetries = SudokuSymmetries.identity((4, 4))
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
    symmetries = SudokuSymmetries.identity((3, 3), 2)
    for grids, message in (
        (np.zeros((3, 9, 9), int), r"\(3, 9, 9\)"),
        (np.zeros((4, 4), int), r"\(4, 4\)"),
        (np.full((9, 9), 10), "got 10"),
        (np.zeros((9, 9)), "float64"),
    ):
        with pytest.raises(PuzzleError, match=message):
            symmetries.apply(grids)


# Class keys


def brute_force_orbit(grid, box_shape):
    symmetries = SudokuSymmetries.from_codes(box_shape, np.arange(sudoku.group_order(box_shape)))
    return {changed.tobytes() for changed in symmetries.apply(grid)}


def test_full_4x4_grids_fall_into_two_classes(grids_4x4):
    assert len(grids_4x4) == 288
    keys = sudoku.class_keys(grids_4x4, (2, 2))
    sizes = sorted(keys.count(key) for key in set(keys))
    assert sizes == [96, 192]
    orbit = brute_force_orbit(grids_4x4[0], (2, 2))
    assert [grid.tobytes() in orbit for grid in grids_4x4] == [key == keys[0] for key in keys]


def test_keys_of_4x4_are_exact():
    grids = np.random.default_rng(6).integers(0, 5, (60, 4, 4), dtype=np.uint8) * (
        np.random.default_rng(7).random((60, 4, 4)) < 0.3
    ).astype(np.uint8)
    keys = sudoku.class_keys(grids, (2, 2))
    orbits = [brute_force_orbit(grid, (2, 2)) for grid in grids]
    same_orbit = [[grid.tobytes() in orbit for grid in grids] for orbit in orbits]
    assert same_orbit == [[key == other for other in keys] for key in keys]
    assert 1 < len(set(keys)) <= 60


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 2), (3, 3), (2, 4)])
def test_equivalent_puzzles_have_equal_keys_and_others_do_not(box_shape):
    n = box_shape[0] * box_shape[1]
    generator = np.random.default_rng(8)
    grids = generator.integers(1, n + 1, (30, n, n)) * (generator.random((30, n, n)) < 0.4)
    keys = sudoku.class_keys(grids, box_shape)
    assert sudoku.class_keys(SudokuSymmetries.draw(box_shape, 30, generator).apply(grids), box_shape) == keys
    assert len(set(keys)) == 30
    blanked = grids.copy()
    for grid in blanked:
        grid.flat[np.flatnonzero(grid)[0]] = 0
    assert not set(sudoku.class_keys(blanked, box_shape)) & set(keys)


def test_keys_do_not_depend_on_the_run():
    assert sudoku.class_keys(sudoku.parse(QUESTION)[None], (3, 3))[0].hex() == "cde6dd95e0a82d67a51e23f159ddca06"
    smallest = 1 * 5 + 2  # "..............12" read as a number to the base 5
    keys = sudoku.class_keys(sudoku.parse("12..............")[None], (2, 2))
    assert keys == [smallest.to_bytes(8, "big")]
    assert sudoku.class_keys(np.zeros((0, 9, 9), int), (3, 3)) == []


# Solver


def test_solver_counts_the_4x4_grids(grids_4x4):
    count, first = sudoku.solve(np.zeros((4, 4), int), (2, 2), limit=1000)
    assert count == 288 and first.tolist() in grids_4x4.tolist()
    assert sudoku.solve(np.zeros((4, 4), int), (2, 2), limit=7)[0] == 7


def test_solver_agrees_with_the_list_of_all_4x4_grids(grids_4x4):
    generator = np.random.default_rng(9)
    for _ in range(100):
        puzzle = grids_4x4[generator.integers(288)] * (generator.random((4, 4)) < 0.4)
        fitting = grids_4x4[((puzzle == 0) | (grids_4x4 == puzzle)).all(axis=(1, 2))]
        count, first = sudoku.solve(puzzle, (2, 2), limit=500)
        assert count == len(fitting) and first.tolist() in fitting.tolist()


def test_solver_finds_the_one_solution_of_9x9():
    count, first = sudoku.solve(sudoku.parse(QUESTION), (3, 3))
    assert count == 1 and sudoku.to_string(first) == ANSWER


def test_solver_sees_several_and_no_solutions():
    grid = sudoku.parse(ANSWER)
    assert sudoku.solve(np.where(grid <= 2, 0, grid), (3, 3))[0] == 2  # 1 and 2 can be exchanged everywhere
    none = np.zeros((9, 9), int)
    none[0, :8], none[4, 8] = range(1, 9), 9  # the last cell of row 1 needs the 9 that its column has
    assert sudoku.solve(none, (3, 3)) == (0, None)
    none[:] = 0
    none[0, 0] = none[0, 5] = 3
    assert sudoku.solve(none, (3, 3)) == (0, None)
    none[:] = 0
    none[1, 3] = none[2, 6] = 1
    none[0, 0], none[0, 1], none[0, 2] = 2, 3, 4  # the 1 of row 1 finds no place
    assert sudoku.solve(none, (3, 3)) == (0, None)


@pytest.mark.parametrize("grid, limit", [(np.zeros((9, 9)), 2), (np.full((9, 9), 10), 2), (np.zeros((4, 4), int), 2)])
def test_solver_refuses_other_grids(grid, limit):
    with pytest.raises(PuzzleError, match=r"\(9, 9\)"):
        sudoku.solve(grid, (3, 3), limit)
    with pytest.raises(PuzzleError, match="not 0"):
        sudoku.solve(np.zeros((9, 9), int), (3, 3), 0)


# Generator


@pytest.mark.parametrize("box_shape, num", [((2, 2), 300), ((2, 3), 30), ((3, 2), 10), ((2, 4), 3), ((3, 3), 8)])
def test_generated_puzzles_have_one_solution_and_differ(box_shape, num):
    questions, answers = sudoku.generate(num, box_shape, np.random.default_rng(10))
    n = box_shape[0] * box_shape[1]
    assert questions.shape == answers.shape == (num, n, n) and questions.dtype == answers.dtype == np.uint8
    assert sudoku.are_solutions(questions, answers, box_shape).all()
    for question, answer in zip(questions, answers, strict=True):
        count, first = sudoku.solve(question, box_shape)
        assert count == 1 and (first == answer).all()
    assert len(set(sudoku.class_keys(questions, box_shape))) == num
    givens = np.count_nonzero(questions, axis=(1, 2))
    assert givens.max() <= n * n // 2 and len(set(givens.tolist())) > 1
    again = sudoku.generate(num, box_shape, np.random.default_rng(10))
    np.testing.assert_array_equal(again, (questions, answers))
    assert not np.array_equal(sudoku.generate(num, box_shape, np.random.default_rng(11))[0], questions)


def test_generated_4x4_puzzles_are_unique_by_the_list_of_all_grids(grids_4x4):
    questions, _ = sudoku.generate(200, (2, 2), np.random.default_rng(12))
    for question in questions:
        assert ((question == 0) | (grids_4x4 == question)).all(axis=(1, 2)).sum() == 1


def test_generator_keeps_the_number_of_givens():
    questions, _ = sudoku.generate(5, (3, 3), np.random.default_rng(13), max_givens=32, min_givens=32)
    assert np.count_nonzero(questions, axis=(1, 2)).tolist() == [32] * 5
    questions, _ = sudoku.generate(20, (2, 2), np.random.default_rng(13), max_givens=5)
    assert np.count_nonzero(questions, axis=(1, 2)).max() == 5
    questions, _ = sudoku.generate(3, (2, 2), np.random.default_rng(13), min_givens=12)
    assert np.count_nonzero(questions, axis=(1, 2)).tolist() == [12] * 3


def test_generator_takes_away_all_it_can():
    questions, _ = sudoku.generate(3, (3, 3), np.random.default_rng(14), max_givens=28, min_givens=0)
    for question in questions:
        for cell in np.flatnonzero(question):
            fewer = question.copy()
            fewer.flat[cell] = 0
            assert sudoku.solve(fewer, (3, 3))[0] == 2


def test_generator_says_how_many_classes_it_found():
    # Known: 13 classes of 4x4 puzzles with 4 givens, counted by going through all subsets of cells of both full grids.
    assert len(sudoku.generate(13, (2, 2), np.random.default_rng(15), max_givens=4)[0]) == 13
    with pytest.raises(PuzzleError, match="found only 13 of 14 4x4 puzzles with 4 to 4 givens"):
        sudoku.generate(14, (2, 2), np.random.default_rng(15), max_givens=4)


@pytest.mark.parametrize(
    "box_shape, num, limits, message",
    [
        ((2, 2), 0, {}, "not 0"),
        ((2, 2), 1, {"max_givens": 3}, "max_givens 3.*4 to 16"),
        ((3, 3), 1, {"max_givens": 16}, "max_givens 16.*17 to 81"),
        ((3, 3), 1, {"max_givens": 82}, "max_givens 82"),
        ((2, 2), 1, {"max_givens": 8, "min_givens": 9}, "min_givens 9"),
        ((2, 2), 1, {"min_givens": -1}, "min_givens -1"),
    ],
)
def test_generator_refuses_impossible_wishes(box_shape, num, limits, message):
    with pytest.raises(PuzzleError, match=message):
        sudoku.generate(num, box_shape, np.random.default_rng(0), **limits)


# Baseline


def test_guesses_are_uniform_among_the_candidates():
    question = np.zeros((9, 9), np.uint8)
    question[0, 3:6] = [1, 2, 3]  # row
    question[4:6, 0] = [4, 5]  # column
    question[1, 1] = 6  # box: 7, 8 and 9 are left for the cell in row 1, column 1
    questions = np.stack([question] * 6000)
    guesses = sudoku.guess_among_candidates(questions, (3, 3), np.random.default_rng(16))
    assert guesses.dtype == np.uint8
    np.testing.assert_array_equal(guesses[questions > 0], questions[questions > 0])
    counts = np.bincount(guesses[:, 0, 0], minlength=10)
    assert counts[:7].tolist() == [0] * 7 and np.abs(counts[7:] - 2000).max() < 200
    again = sudoku.guess_among_candidates(questions, (3, 3), np.random.default_rng(16))
    np.testing.assert_array_equal(again, guesses)


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 2)])
def test_guesses_keep_to_row_column_and_box(box_shape):
    generator = np.random.default_rng(17)
    grid = full_grid(box_shape)
    questions = np.where(generator.random((50, *grid.shape)) < 0.5, grid, 0)
    guesses = sudoku.guess_among_candidates(questions, box_shape, generator)
    assert guesses.all()
    for question, guess in zip(questions, guesses, strict=True):
        for cell in np.argwhere(question == 0):
            single = question.copy()
            single[tuple(cell)] = guess[tuple(cell)]
            sudoku.check_givens(single, box_shape)


def test_a_blank_that_no_digit_fits_stays_blank():
    question = np.array([[1, 2, 3, 0], [0, 0, 4, 0], [0] * 4, [0] * 4])
    guesses = sudoku.guess_among_candidates(question[None], (2, 2), np.random.default_rng(18))
    assert guesses[0, 0, 3] == 0 and np.count_nonzero(guesses[0] == 0) == 1
