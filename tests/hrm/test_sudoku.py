"""Sudoku: reading, checks and token ids, by facts checked by hand."""

import json

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from sudoku_grids import QUESTION, SHAPES, full_grid

from hrm_hf.games.sudoku_answers import check_answer
from hrm_hf.hrm import sudoku
from hrm_hf.hrm.errors import PuzzleError

GOLDEN = paths.GOLDEN / "G"


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
    assert sudoku.write(grid) == QUESTION
    np.testing.assert_array_equal(sudoku.parse(puzzle, (3, 3)), grid)


def test_parse_tells_the_size():
    assert sudoku.parse("." * 16).shape == (4, 4)
    assert sudoku.parse("6" + "." * 35).shape == (6, 6)
    assert sudoku.parse("G" + "." * 255, (4, 4))[0, 0] == 16


@pytest.mark.parametrize(
    "puzzle, message",
    [
        (QUESTION[:-1], "80 cells; expected .* 9 x 9 = 81"),
        (QUESTION + ".", "82 cells; expected .* 9 x 9 = 81"),
        ("", "0 cells; expected .* 9 x 9 = 81"),
        ("." * 10**6, "str of length 1000000 is no Sudoku: .*65536"),
        ("y" + QUESTION[1:], "'y' at row 1, column 1 is not allowed.*'.123456789' in text, and 0 to 9"),
        (QUESTION[:-1] + "\uff15", "row 9, column 9"),
        (QUESTION[:10] + "A" + QUESTION[11:], "'A' at row 2, column 2"),
        ("5" + "." * 15, "'5' at row 1, column 1.*0 to 4"),
        ([0] * 80, "80 cells; expected .*81"),
        ([[0] * 9] * 8, "8 x 9 cells; expected .*81"),
        ([[0] * 9] * 8 + [[0] * 8], "row 9 has 8 cells, but row 1 has 9"),
        ([[0] * 9] * 8 + [0], "row 9 is a int"),
        ([[0] * 9] * 8 + [[0] * 8 + [10]], "10 at row 9, column 9.*0 to 9"),
        ([[0] * 9] * 8 + [[0] * 8 + [-2]], "-2 at row 9, column 9"),
        ([1.5] + [0] * 15, "1.5 at row 1, column 1"),
        ([float("inf")] + [0] * 15, "inf at row 1, column 1"),
        ([True] + [0] * 15, "True at row 1, column 1"),
        ([["5", 0, 0, 0]] + [[0] * 4] * 3, "'5' at row 1, column 1"),
        (["12", [0, 0]], "2 x 2 cells"),
        (np.zeros((9, 9), bool), "False at row 1, column 1"),
        (np.zeros((9, 9), complex), "complex"),
        (np.zeros((3, 27)), "3 x 27 cells"),
        (np.zeros((1, 9, 9)), r"\(1, 9, 9\)"),
        (np.broadcast_to(np.uint8(0), (10**6, 10**6)), "shape .1000000, 1000000.*at most 65536 cells"),
        (None, "NoneType"),
        (81, "int"),
        (b"." * 81, "bytes"),
        ({"question": QUESTION}, "dict"),
        (["5", ["3"]], "2 x 1 cells"),
    ],
)
def test_parse_says_what_is_wrong(puzzle, message):
    with pytest.raises(PuzzleError, match=message):
        sudoku.parse(puzzle)


def test_parse_holds_the_puzzle_to_the_box_shape():
    with pytest.raises(PuzzleError, match="16 cells; expected 9 x 9 = 81"):
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
    ids = sudoku.CODEC.encode(grid, (9, 9))
    assert ids.min() == 1
    names = sudoku.CODEC.vocabulary((9, 9))
    assert names == ["PAD", ".", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert "".join(names[i] for i in ids.ravel()) == QUESTION
    np.testing.assert_array_equal(sudoku.decode(ids), grid)
    assert sudoku.decode(np.array([0, 1, 2])).tolist() == [0, 0, 1]
    for bad in (np.array([-100]), np.array([300]), np.array([1.0])):
        with pytest.raises(PuzzleError, match="integers from 0"):
            sudoku.decode(bad)


def test_codes_match_the_recorded_dataset():
    recorded = golden_arrays(GOLDEN / "sudoku.npz")
    rows = json.loads((GOLDEN / "config.json").read_text())["sudoku"]["csv_rows"]
    for i, (_, question, answer, _) in enumerate(rows):
        for text, name in ((question, "inputs"), (answer, "labels")):
            ids = sudoku.CODEC.encode(sudoku.parse(text), (9, 9))
            np.testing.assert_array_equal(ids.ravel(), recorded[name][i])
        check_answer(question, answer, (3, 3))


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


def test_each_unit_kind_is_checked():
    latin = np.array([[(i + j) % 9 + 1 for j in range(9)] for i in range(9)])  # rows and columns right, boxes wrong
    rows_wrong = full_grid((3, 3))
    rows_wrong[:, [0, 1]] = full_grid((3, 3))[:, [0, 0]]
    for grid, unit in ((latin, "box"), (rows_wrong, "row"), (rows_wrong.T, "column")):
        assert not sudoku.is_solution(np.zeros((9, 9), int), grid, (3, 3))
        with pytest.raises(PuzzleError, match=f"twice in {unit}"):
            sudoku.check_givens(grid, (3, 3))
