"""Grids as people have them: pasted, drawn, delimited, in files, counted from 0; right, or refused with the reason."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from maze_grids import BY_RULE
from maze_grids import QUESTION as MAZE
from sudoku_grids import QUESTION, full_grid

from hrm_hf import HrmProcessor
from hrm_hf.hrm import arc, maze, sudoku
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.pasted_text import cell_readings

GRID = np.array([0 if sign == "." else int(sign) for sign in QUESTION]).reshape(9, 9)
FULL = full_grid((4, 4))
HALF = np.where(np.random.default_rng(0).random((16, 16)) < 0.5, 0, FULL)
HEX = np.array(list("0123456789ABCDEF"))


def lines_of(blank: str = ".") -> list[str]:
    text = QUESTION.replace(".", blank)
    return [text[i : i + 9] for i in range(0, 81, 9)]


def boxes(lines: list[str], bar: str, rule: str) -> str:
    """The lines with a bar between boxes and a rule between bands."""
    drawn = [bar.join(line[i : i + 3] for i in (0, 3, 6)) for line in lines]
    return f"\n{rule}\n".join("\n".join(drawn[i : i + 3]) for i in (0, 3, 6))


FORMS = {
    "run": "".join,
    "lines": "\n".join,
    "windows": lambda lines: "\ufeff" + "\r\n".join(lines) + "\r\n",
    "spaced": lambda lines: "\n".join(" ".join(line) for line in lines),
    "mac": "\r".join,
    "commas": lambda lines: "\n".join(",".join(line) for line in lines),
    "trailing commas": lambda lines: "\n".join(",".join(line) + "," for line in lines),
    "tabs": lambda lines: "\n".join("\t".join(line) for line in lines),
    "semicolons": lambda lines: ";".join("".join(lines)),
    "quoted": lambda lines: f'"{"".join(lines)}"',
    "quoted lines": lambda lines: ",\n".join(f"'{line}'" for line in lines),
    "slashes": "/".join,
    "threes": lambda lines: " ".join(line[i : i + 3] for line in lines for i in (0, 3, 6)),
    "boxes": lambda lines: boxes(lines, "|", "---+---+---"),
    "wide boxes": lambda lines: boxes(lines, " | ", "----+-----+----"),
    "equals": lambda lines: boxes(lines, "|", "==========="),
    "stars": lambda lines: "*-----------*\n" + boxes(lines, "|", "---+---+---") + "\n*-----------*",
    "box drawing": lambda lines: "┌───┬───┬───┐\n" + boxes(lines, "│", "├───┼───┼───┤") + "\n└───┴───┴───┘",
    "drawn": lambda lines: sudoku.draw(lines, (3, 3)).replace(".", min(set("".join(lines)) - set("123456789"))),
    "sdk": lambda lines: "#A somebody\n#D 53 and more\n[Puzzle]\n" + "\n".join(lines) + "\n[State]\n" + "1" * 81,
    "comment": lambda lines: "# found on 2024-01-02\n" + "\n".join(lines) + "  # easy",
    "sdk of a Mac": lambda lines: "#A somebody\r#D 53 and more\r" + "\r".join(lines) + "\r",
    "assignment": lambda lines: f"grid = np.array({[list(line) for line in lines]})",
    "printed array": lambda lines: repr(np.array([list(line) for line in lines])),
    "no-break spaces": lambda lines: "\u200b" + "\n".join("\u00a0".join(line) for line in lines),
    "two a cell": lambda lines: "\n".join(
        " ".join(f"0{sign}" if sign in "0123456789" else 2 * sign for sign in line) for line in lines
    ),
    "json": lambda lines: json.dumps(lines),
    "python": lambda lines: str([list(line) for line in lines]),
    "row strings": list,
    "rows of characters": lambda lines: [list(line) for line in lines],
    "characters": lambda lines: list("".join(lines)),
    "array": lambda lines: np.array([list(line) for line in lines]),
}


@pytest.mark.parametrize("blank", list(".0*_-xX?"))
@pytest.mark.parametrize("form", FORMS)
def test_sudoku_with_every_sign_for_blanks(form, blank):
    puzzle = FORMS[form](lines_of(blank))
    np.testing.assert_array_equal(sudoku.parse(puzzle), GRID)
    np.testing.assert_array_equal(sudoku.parse(puzzle, (3, 3)), GRID)


DRAWN = sudoku.draw(QUESTION, (3, 3)).replace(".", " ")
SPACED = {
    "run": QUESTION.replace(".", " "),
    "lines": "\n".join(lines_of(" ")),
    "stripped": "\n".join(line.rstrip() for line in lines_of(" ")),
    "drawn": DRAWN,
    "drawn and stripped": "\n".join(line.rstrip() for line in DRAWN.split("\n")),
    "framed": "\n".join(f"  | {line} |" if "-" not in line else "  +" + "-" * 23 + "+" for line in DRAWN.split("\n")),
    "table": "\n".join(f"| {' | '.join(line)} |\n{'+---' * 9}+" for line in lines_of(" ")),
    "csv": "\n".join(",".join(line).replace(".", "") for line in lines_of()),
    "csv of a data frame": "\n".join(",".join(line).replace(".", "") for line in lines_of()).translate(
        {ord(digit): f"{digit}.0" for digit in "123456789"}
    ),
    "tsv": "\n".join("\t".join(line).replace(".", "") for line in lines_of()),
    "csv with a delimiter at each end": "\n".join(",".join(line).replace(".", "") + "," for line in lines_of()),
    "quoted csv": "\n".join(",".join(f'"{sign}"' for sign in line).replace(".", "") for line in lines_of()),
    "cells of a page": "\n".join("\t".join(line).replace(".", "\u00a0") for line in lines_of()),
    "lines of a Mac": "\r".join(lines_of(" ")),
}


@pytest.mark.parametrize("form", SPACED)
def test_empty_places_are_blanks(form):
    np.testing.assert_array_equal(sudoku.parse(SPACED[form], (3, 3)), GRID)
    np.testing.assert_array_equal(sudoku.parse(SPACED[form]), GRID)


@pytest.mark.parametrize("text", [SPACED["lines"], DRAWN])
def test_lines_without_their_first_blanks_are_refused(text):
    with pytest.raises(PuzzleError, match="write a sign, such as '.', for every blank"):
        sudoku.parse("\n".join(line.strip() for line in text.split("\n")), (3, 3))


@pytest.mark.parametrize(
    "form", ["run", "lines", "windows", "mac", "spaced", "commas", "boxes", "box drawing", "json", "row strings"]
)
@pytest.mark.parametrize("blank", "#·•")
def test_rarer_signs_for_blanks(form, blank):
    np.testing.assert_array_equal(sudoku.parse(FORMS[form](lines_of(blank)), (3, 3)), GRID)


@pytest.mark.parametrize("blank", [0, -1, None, float("nan"), "", "0", ".", "?"], ids=str)
def test_cells_of_lists_and_arrays(blank):
    rows = [[blank if digit == 0 else digit for digit in row] for row in GRID.tolist()]
    texts = [[blank if digit == 0 else str(digit) for digit in row] for row in GRID.tolist()]
    for puzzle in (rows, texts, sum(rows, []), sum(texts, []), np.array(rows, object), str(rows)):
        np.testing.assert_array_equal(sudoku.parse(puzzle), GRID)
    if isinstance(blank, int | float):
        np.testing.assert_array_equal(sudoku.parse(np.array(rows)), GRID)
        np.testing.assert_array_equal(sudoku.parse(str(np.array(rows, int if blank == blank else float))), GRID)


@pytest.mark.parametrize("digits", ["", "02"])
@pytest.mark.parametrize("blank", ["0", ".", "-", "x", "-1", "00", "--", "..", "__"])
def test_numbers_above_nine_stand_between_blanks(blank, digits):
    words = [[format(digit, digits) if digit else blank for digit in row] for row in HALF.tolist()]
    for gap, box_shape in ((" ", (4, 4)), (", ", None), ("\t", (4, 4))):
        text = "\n".join(gap.join(row) for row in words)
        np.testing.assert_array_equal(sudoku.parse(text, box_shape), HALF)
    np.testing.assert_array_equal(sudoku.parse(sudoku.write(HALF).replace(".", "0").lower()), HALF)


def zero_based(grid: np.ndarray, blank: str) -> str:
    return "\n".join("".join(HEX[digit - 1] if digit else blank for digit in row) for row in grid.tolist())


@pytest.mark.parametrize("blank", list(".*_-x?"))
def test_digits_from_zero_are_not_shifted(blank):
    text = zero_based(HALF, blank)
    processor = HrmProcessor(grid_shape=(16, 16), box_shape=(4, 4))
    for puzzle in (text, text.lower(), text.split("\n"), [list(line) for line in text.split("\n")]):
        np.testing.assert_array_equal(sudoku.parse(puzzle, (4, 4)), HALF)
    answer = processor.decode(FULL.ravel().astype(int) + 1, like=text)  # in the digits of the question
    assert answer == zero_based(FULL, blank)
    assert processor.is_valid(text, answer) and not processor.is_valid(text, zero_based(FULL[::-1], blank))
    numbers = [[digit - 1 if digit else None for digit in row] for row in HALF.tolist()]
    assert processor.decode(FULL.ravel().astype(int) + 1, like=numbers) == (FULL.astype(int) - 1).tolist()
    assert processor.is_valid(numbers, (FULL.astype(int) - 1).tolist())


@pytest.mark.parametrize(
    ("puzzle", "box_shape"),
    [
        (zero_based(FULL, ".").replace("0", "F", 1), (4, 4)),
        (zero_based(HALF, ".").replace("F", "0"), (4, 4)),  # two of 0 in a row: damaged, or blanks of two signs
        ([[0, 1, -1, 2], [-1, -1, 0, 1], [1, 0, 2, -1], [2, -1, 1, 0]], (2, 2)),
        ("01.2\n..01\n10..\n...0", (2, 2)),
    ],
)
def test_zero_with_two_meanings_is_refused(puzzle, box_shape):
    with pytest.raises(PuzzleError, match="0 may be a blank here, or the first of the digits 0-"):
        sudoku.parse(puzzle, box_shape)


def test_zero_beside_the_last_digit_is_a_blank():
    mixed = sudoku.write(HALF).replace(".", "0", 20)
    np.testing.assert_array_equal(sudoku.parse(mixed, (4, 4)), HALF)
    without_last = np.where(HALF == 16, 0, HALF)
    text = sudoku.write(without_last).replace(".", "0")
    np.testing.assert_array_equal(sudoku.parse(text, (4, 4)), without_last)


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        ("\n".join(lines_of()).replace("8", "@", 1), "'@' at row 3, column 3 is not allowed"),
        ("\n".join(lines_of()).replace("8", "8@", 1), "row 3 has 10 cells|'@' at line 3, character 4"),
        (DRAWN + "\nby A.", "'b' at line 12, character 1 is no cell of a Sudoku and no separator"),
        ("\n".join(lines_of())[:-1], "row 9 has 8 cells, but row 1 has 9"),
        ("\n".join(" ".join(row) for row in full_grid((3, 3)).astype(str).tolist())[:-1], "row 9 has 8 cells"),
        (QUESTION + "\n" + QUESTION, "162 cells; expected 9 x 9 = 81 .of several puzzles give one"),
        ("1 2\n" + "\n" * 7 + " ", "cells"),
        (QUESTION.replace(".", "o"), "'o' at row 1, column 3 is not allowed"),
        (QUESTION.replace(".", "\u00b2"), "'²' at row 1, column 3 is not allowed"),
        (
            " ".join(QUESTION.replace(".", " ").split()),
            "30 cells; expected 9 x 9 = 81 .write a sign, such as '.', for every blank",
        ),
        ("#k\r" + "\r".join(lines_of()) + "\rk", "'k' at line 11, character 1 is no cell"),
        ("5\n" + "\n".join(["    7"] * 8), "can be read in two ways: row 2 as . . . . 7 . . . . or as . . . 7 "),
    ],
)
def test_what_is_wrong_is_named(puzzle, message):
    with pytest.raises(PuzzleError, match=message):
        sudoku.parse(puzzle, (3, 3))


def test_rows_of_empty_places_that_do_not_fit_are_not_run_together():
    """One ';' is missing. With the rules counted as rows, all places are 81, and digits would move to other rows."""
    rows = [" ; ; ; ; ; ;7; ;2", " ; ; ; ; ; ;4; ; ", " ; ;6;3;5; ; ; ; ", "7;1;  ; ;9; ; ; ", " ; ; ;8; ; ; ;3; "]
    rows += ["2; ; ; ; ; ; ; ; ", " ; ; ; ; ; ; ; ;9", " ; ; ; ;1;7; ; ; ", " ; ;3; ; ; ; ;8; "]
    for place in (9, 6, 3, 0):
        rows.insert(place, "\u2501\u2501\u2501\u254b\u2501\u2501\u2501")
    with pytest.raises(PuzzleError):
        sudoku.parse("\n".join(rows), (3, 3))


def test_a_larger_puzzle_than_the_model_takes_is_called_larger():
    """Its digits are no strange characters."""
    with pytest.raises(PuzzleError, match="this Sudoku has 81 cells; expected 4 x 4 = 16"):
        sudoku.parse(QUESTION, (2, 2))


# What is drawn can be read

BOX_SHAPES = [(rows, n // rows) for n in range(4, 26) for rows in range(1, n + 1) if n % rows == 0]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_drawn_sudoku_can_be_read(data):
    box_shape = data.draw(st.sampled_from(BOX_SHAPES))
    n = box_shape[0] * box_shape[1]
    grid = data.draw(arrays.arrays(np.uint8, (n, n), elements=st.integers(0, n)))
    np.testing.assert_array_equal(sudoku.parse(sudoku.draw(grid, box_shape), box_shape), grid)
    np.testing.assert_array_equal(sudoku.parse(sudoku.write(grid), box_shape), grid)
    if sudoku.BOX_SHAPE_OF_SIZE.get(n) == box_shape:
        np.testing.assert_array_equal(sudoku.parse(sudoku.draw(grid, box_shape)), grid)


sizes = st.tuples(st.integers(4, 25), st.integers(4, 25))


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, sizes, elements=st.integers(0, 4)))
def test_a_drawn_maze_can_be_read(grid):
    np.testing.assert_array_equal(maze.parse(maze.draw(grid)), grid)
    np.testing.assert_array_equal(maze.parse(maze.write(grid), grid.shape), grid)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, sizes, elements=st.integers(0, 9)))
def test_a_drawn_arc_grid_can_be_read(grid):
    np.testing.assert_array_equal(arc.parse_grid(arc.draw(grid)), grid)


@settings(max_examples=150, deadline=None)
@given(st.text(' 12.-|+,=_\n#*0x"[]', max_size=40))
def test_any_text_is_read_or_refused(text):
    for signs in cell_readings(text, {4: (2, 2)}):
        assert all(isinstance(sign, str) for row in signs for sign in row)
    for parse in (lambda: sudoku.parse(text, (2, 2)), lambda: maze.parse(text), lambda: arc.parse_grid(text)):
        try:
            assert parse().dtype == np.uint8
        except PuzzleError as error:
            assert len(str(error)) < 400


# Mazes

CELLS = maze.parse(MAZE)
INVERTED = np.array([1, 0, 2, 3])[CELLS]


@pytest.mark.parametrize("numbers", [CELLS.astype(int), INVERTED], ids=["0 is wall", "1 is wall"])
def test_numbers_of_a_maze_are_read_the_way_that_joins_start_and_goal(numbers):
    lines = ["".join(map(str, row)) for row in numbers.tolist()]
    forms = [numbers, numbers.tolist(), numbers.astype(float), [list(line) for line in lines], lines, "\n".join(lines)]
    forms += [
        "\n".join(" ".join(line) for line in lines),
        str(numbers.tolist()),
        numbers.astype(np.uint8),
        str(numbers),
    ]
    forms += ["\n".join(lines).replace("2", "S").replace("3", "E"), "\r".join(lines), repr(numbers)]
    for form in forms:
        np.testing.assert_array_equal(maze.parse(form, (3, 4)), CELLS)
        np.testing.assert_array_equal(maze.parse(form), CELLS)


def test_the_answer_has_the_numbers_of_the_question():
    processor = HrmProcessor(task="maze", grid_shape=(3, 4))
    ids = maze.CODEC.encode(maze.parse(BY_RULE), (3, 4)).ravel()
    for numbers in (CELLS.astype(int), INVERTED):
        answer = processor.decode(ids, like=numbers)
        assert np.array_equal(np.where(answer == 4, numbers, answer), numbers) and (answer == 4).sum() == 4
        assert processor.is_valid(numbers, answer)
        assert processor.decode(ids, like=numbers.tolist()) == answer.tolist()
        assert not processor.is_valid(numbers, numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[2, 3, 0], [1, 1, 0]], "S and G are joined whether 0 or 1 is the wall"),
        ([[2, 0, 0], [1, 1, 3]], "S and G are joined whether 0 or 1 is the wall"),
        ([[2, 0, 1, 3], [0, 0, 1, 1]], "no way leads from S to G whether 0 or 1 is the wall"),
    ],
)
def test_numbers_of_a_maze_with_two_meanings_or_none_are_refused(numbers, message):
    for form in (numbers, np.array(numbers), str(numbers)):
        with pytest.raises(PuzzleError, match=message):
            maze.parse(form)


@pytest.mark.parametrize("numbers", [CELLS.astype(int), INVERTED], ids=["0 is wall", "1 is wall"])
def test_numbers_that_show_a_path_are_read_beside_their_question_alone(numbers):
    shown = np.where(maze.parse(BY_RULE) == maze.PATH, maze.PATH, numbers)
    lines = ["".join(map(str, row)) for row in shown.tolist()]
    for form in (shown, shown.tolist(), shown.astype(float), str(shown), lines, "\n".join(lines).replace("4", "o")):
        with pytest.raises(PuzzleError, match="shows a path, which fits whether 0 or 1 is the wall: give it as text"):
            maze.parse(form)
        for question in (numbers, MAZE):
            assert maze.is_solution(question, form)
            np.testing.assert_array_equal(maze.read_answer(form, question), maze.parse(BY_RULE))
    own = maze.parse(BY_RULE)  # what this package makes keeps its meaning
    assert own.dtype == np.uint8 and np.array_equal(maze.parse(own), own)
    processor = HrmProcessor(task="maze", grid_shape=(3, 4))
    assert processor.is_valid(torch.from_numpy(numbers), torch.from_numpy(shown))
    assert not processor.is_valid(numbers, np.where(shown == 4, 4, 1 - np.minimum(shown, 1)))


@pytest.mark.parametrize("wall", "#*")
@pytest.mark.parametrize("free", " ._")
@pytest.mark.parametrize("goal", "GE")
def test_other_signs_of_a_maze(wall, free, goal):
    def written(text: str) -> str:
        return text.translate(str.maketrans({"#": wall, " ": free, "G": goal}))

    text = written(MAZE)
    assert np.array_equal(maze.parse(text), CELLS) and np.array_equal(maze.parse(text.split("\n")), CELLS)
    processor = HrmProcessor(task="maze", grid_shape=(3, 4))
    answer = processor.decode(maze.CODEC.encode(maze.parse(BY_RULE), (3, 4)).ravel(), like=text)
    assert answer == written(BY_RULE) and processor.is_valid(text, answer)
    if free != " ":
        spaced = "\n".join(" ".join(line) for line in text.split("\n"))
        assert np.array_equal(maze.parse(spaced), CELLS) and np.array_equal(
            maze.parse(spaced.replace(" ", ",")), CELLS
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S *\n# G", "'#', '\\*', ' ' stand for walls and free cells"),
        ("S. \n##G", "' ', '.' stand for walls and free cells"),
        ("S01\n# G", "stand for walls and free cells"),
        ([["S", 0, "#"], [0, 0, "G"]], "stand for walls and free cells"),
        ("S#T\n  G", "'T' at row 1, column 3"),
    ],
)
def test_a_maze_of_mixed_signs_is_refused(text, message):
    with pytest.raises(PuzzleError, match=message):
        maze.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "0,1,2\r3,4,5\r",
        "\ufeff0 1 2\r\n3 4 5",
        "np.array([[0, 1, 2], [3, 4, 5]])",
        "0\t1\t2\n3\t4\t5",
    ],
)
def test_arc_grids_as_text(text):
    np.testing.assert_array_equal(arc.parse_grid(text), [[0, 1, 2], [3, 4, 5]])


def test_the_lines_of_a_question_are_kept_whatever_ends_them():
    processor = HrmProcessor()
    ids = full_grid((3, 3)).ravel().astype(int) + 1
    for end in ("\n", "\r\n", "\r"):
        assert processor.decode(ids, like=end.join(lines_of())) == processor.decode(ids, like="\n".join(lines_of()))
