"""Sudoku for any box shape: read a puzzle as a person writes it, check it, draw it, turn it into token ids and back.

This is the door to everything that knows the rules of the game; the larger parts live beside it (sudoku_units the
geometry, sudoku_symmetry the symmetry group and the class keys, sudoku_solver and sudoku_generator the puzzles) and
their public names are importable from here. A grid is (n, n) uint8 with 0 = blank; a box shape is (rows, columns) of
one box.
"""

import math

import numpy as np

from ..games.sudoku_generator import generate
from ..games.sudoku_solver import solve
from ..games.sudoku_symmetry import SudokuSymmetries, class_keys, group_order
from .errors import PuzzleError
from .shown_value import shown
from .sudoku_units import BOX_SHAPE_OF_SIZE, SYMBOLS, box_of_cell, check_box_shape, units

__all__ = [
    "SudokuSymmetries",
    "are_solutions",
    "check_answer",
    "check_givens",
    "class_keys",
    "decode",
    "draw",
    "encode",
    "generate",
    "group_order",
    "guess_among_candidates",
    "is_solution",
    "parse",
    "solve",
    "to_string",
    "vocabulary",
]

_MAX_CHARACTERS = 4096  # longer text is no puzzle: refused before it is looked at
_CHUNK_PUZZLES = 4096  # puzzles worked on at once


def parse(puzzle: object, box_shape: tuple[int, int] | None = None) -> np.ndarray:
    """A puzzle as a person or a program writes it -> (n, n) uint8, 0 = blank.

    puzzle: a str of n*n characters ('.' or '0' = blank, white space ignored), a nested list (n rows of n), a flat list
    (n*n), or an array of shape (n, n) or (n*n,); integers or floats with whole values. Without a box shape the size
    gives it: 4x4 has boxes of 2x2, 6x6 of 2 rows x 3 columns, 9x9 of 3x3. Raises PuzzleError, and nothing else, for
    anything else.
    """
    if box_shape is not None:
        box_shape = check_box_shape(box_shape)
    try:
        if isinstance(puzzle, str):
            return _parse_text(puzzle, box_shape)
        if isinstance(puzzle, list | tuple):
            return _parse_list(puzzle, box_shape)
        if hasattr(puzzle, "__array__"):
            return _parse_array(np.asarray(puzzle), box_shape)
    except PuzzleError:
        raise
    except Exception as error:  # the object is the caller's: its own methods may raise whatever they like
        raise PuzzleError(f"a {type(puzzle).__name__} cannot be read as a puzzle ({type(error).__name__})") from error
    raise PuzzleError(
        f"a {type(puzzle).__name__} is no puzzle: give a string, a list or an array ({_expected(box_shape)})"
    )


def check_givens(grid: object, box_shape: tuple[int, int]) -> None:
    """Raises PuzzleError if two equal digits stand in one row, column or box, naming digit, unit and both cells.

    grid: anything that `parse` reads.
    """
    box_shape = check_box_shape(box_shape)
    cells = parse(grid, box_shape).ravel().tolist()
    for name, members in units(box_shape):
        seen: dict[int, int] = {}
        for cell in members:
            digit = cells[cell]
            if digit and digit in seen:
                n = box_shape[0] * box_shape[1]
                raise PuzzleError(
                    f"the digit {SYMBOLS[digit]} stands twice in {name}: "
                    f"at {_place(seen[digit], n)} and at {_place(cell, n)}"
                )
            seen[digit] = cell


def check_answer(question: object, answer: object, box_shape: tuple[int, int]) -> None:
    """Raises PuzzleError unless the answer is a full valid grid that keeps the question's givens; it says where not.

    question, answer: anything that `parse` reads.
    """
    box_shape = check_box_shape(box_shape)
    question, answer = parse(question, box_shape), parse(answer, box_shape)
    if are_solutions(question[None], answer[None], box_shape)[0]:
        return
    n = len(answer)
    if not answer.all():
        raise PuzzleError(f"the answer is not complete: {_place(int(np.argmin(answer)), n)} is blank")
    changed = np.flatnonzero((question != 0) & (question != answer))
    if changed.size:
        cell = int(changed[0])
        given, found = (SYMBOLS[grid.flat[cell]] for grid in (question, answer))
        raise PuzzleError(
            f"the answer does not keep the givens: {_place(cell, n)} is given as {given}, answered as {found}"
        )
    check_givens(answer, box_shape)


def is_solution(question: object, answer: object, box_shape: tuple[int, int]) -> bool:
    """Whether the answer is a full valid grid that keeps the givens; False too where either cannot be read."""
    try:
        check_answer(question, answer, box_shape)
    except PuzzleError:
        return False
    return True


def are_solutions(questions: np.ndarray, answers: np.ndarray, box_shape: tuple[int, int]) -> np.ndarray:
    """(M,) bool: which answers are full valid grids that keep the givens; both (M, n, n) integers 0..n, 0 = blank."""
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    questions, answers = _as_grids(questions, n), _as_grids(answers, n)
    if questions.shape != answers.shape:
        raise PuzzleError(f"{len(questions)} questions and {len(answers)} answers: give one answer per question")
    bits = np.uint32(1) << answers.astype(np.uint32)  # digit d -> bit d
    boxes = bits.reshape(-1, cols, rows, rows, cols).transpose(0, 1, 3, 2, 4).reshape(-1, n, n)
    right = ((questions == 0) | (questions == answers)).all(axis=(1, 2))
    for lines in (bits, bits.transpose(0, 2, 1), boxes):
        # n cells fill the bits 1..n only if each digit occurs once.
        right &= (np.bitwise_or.reduce(lines, axis=2) == (1 << (n + 1)) - 2).all(axis=1)
    return right


BLANK_ID, FIRST_DIGIT_ID = 1, 2  # token ids; 0 is PAD, digit d is d + 1


def encode(grid: np.ndarray) -> np.ndarray:
    """Grids of any shape, integers 0..n, 0 = blank -> token ids uint8: blank 1, digit d -> d + 1, never PAD (0)."""
    grid = np.asarray(grid)
    _check_range(grid, len(SYMBOLS) - 1, "a grid")
    return (grid + 1).astype(np.uint8)


def decode(ids: np.ndarray) -> np.ndarray:
    """Token ids of any shape -> grids uint8. PAD, which an untrained model may predict, becomes blank like id 1."""
    ids = np.asarray(ids)
    _check_range(ids, len(SYMBOLS), "token ids")
    return (np.maximum(ids, 1) - 1).astype(np.uint8)


def vocabulary(n: int) -> list[str]:
    """The n + 2 tokens of an n x n Sudoku by id: "PAD", ".", "1", "2", ..."""
    if not 2 <= n < len(SYMBOLS):
        raise PuzzleError(f"a Sudoku has 2 to {len(SYMBOLS) - 1} digits, not {n}")
    return ["PAD", *SYMBOLS[: n + 1]]


def to_string(grid: np.ndarray) -> str:
    """(n, n) or (n*n,) integers -> n*n characters in row-major order, '.' = blank."""
    grid = np.asarray(grid)
    _check_range(grid, len(SYMBOLS) - 1, "a grid")
    return "".join(SYMBOLS[digit] for digit in grid.ravel().tolist())


def draw(grid: object, box_shape: tuple[int, int]) -> str:
    """The grid as text for people: one line per row, rules between the boxes; grid: anything that `parse` reads."""
    rows, cols = check_box_shape(box_shape)
    lines = []
    for i, row in enumerate(parse(grid, (rows, cols)).tolist()):
        if i and i % rows == 0:
            lines.append("+".join("-" * (2 * cols + (0 < stack < rows - 1)) for stack in range(rows)))
        stacks = (row[start : start + cols] for start in range(0, len(row), cols))
        lines.append(" | ".join(" ".join(SYMBOLS[digit] for digit in stack) for stack in stacks))
    return "\n".join(lines)


def guess_among_candidates(
    questions: np.ndarray, box_shape: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """A baseline that knows the rules but does not think: (M, n, n) -> (M, n, n) uint8.

    Each blank gets a digit drawn uniformly among those that the givens of its row, column and box allow, blank by
    blank on its own; a blank that no digit fits stays 0. Givens stay as they are.
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    questions = _as_grids(questions, n)
    answers = questions.copy()
    boxes = box_of_cell((rows, cols))
    for start in range(0, len(questions), _CHUNK_PUZZLES):
        part = questions[start : start + _CHUNK_PUZZLES]
        is_digit = part[..., None] == np.arange(1, n + 1)  # (m, n, n, digits)
        in_box = is_digit.reshape(-1, cols, rows, rows, cols, n).any(axis=(2, 4)).reshape(-1, n, n)
        taken = is_digit.any(axis=2, keepdims=True) | is_digit.any(axis=1, keepdims=True) | in_box[:, boxes]
        lots = np.where(taken, -1.0, generator.random(taken.shape))
        guess = np.where(taken.all(axis=-1), 0, lots.argmax(axis=-1) + 1)
        answers[start : start + _CHUNK_PUZZLES] = np.where(part == 0, guess, part)
    return answers


def _parse_text(text: str, box_shape: tuple[int, int] | None) -> np.ndarray:
    if len(text) > _MAX_CHARACTERS:
        raise PuzzleError(f"a text of {len(text)} characters is no puzzle: {_expected(box_shape, 'characters')}")
    text = "".join(text.split())
    n = _size(len(text), "characters", box_shape)
    cells = []
    for cell, symbol in enumerate(text):
        digit = 0 if symbol == "0" else SYMBOLS.find(symbol)
        if not 0 <= digit <= n:
            raise PuzzleError(f"{symbol!r} at {_place(cell, n)} is not allowed: {_allowed(n)}")
        cells.append(digit)
    return np.array(cells, np.uint8).reshape(n, n)


def _parse_list(rows: list | tuple, box_shape: tuple[int, int] | None) -> np.ndarray:
    if not any(isinstance(row, list | tuple | np.ndarray) for row in rows[: len(SYMBOLS)]):
        n = _size(len(rows), "cells", box_shape)
        cells = list(rows)
    else:
        n = _size(len(rows) ** 2, "cells", box_shape, f"{len(rows)} rows")
        for i, row in enumerate(rows):
            if not isinstance(row, list | tuple | np.ndarray) or isinstance(row, np.ndarray) and row.ndim != 1:
                raise PuzzleError(f"row {i + 1} is a {type(row).__name__}, not a list of {n} cells")
            if len(row) != n:
                raise PuzzleError(f"row {i + 1} has {len(row)} cells: in a puzzle of {n} rows each row has {n}")
        cells = [value for row in rows for value in row]
    return np.array([_digit(value, cell, n) for cell, value in enumerate(cells)], np.uint8).reshape(n, n)


def _parse_array(array: np.ndarray, box_shape: tuple[int, int] | None) -> np.ndarray:
    if array.dtype.kind not in "iufbO":
        raise PuzzleError(f"an array of {array.dtype} is no puzzle: give integers ({_expected(box_shape)})")
    if array.ndim == 2 and array.shape[0] != array.shape[1] or array.ndim not in (1, 2):
        raise PuzzleError(
            f"an array of shape {array.shape} is no puzzle: give (n, n) or (n*n,) ({_expected(box_shape)})"
        )
    _size(array.size, "cells", box_shape)
    return _parse_list(array.tolist(), box_shape)


def _digit(value: object, cell: int, n: int) -> int:
    """One cell of a list as a digit 0..n."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or value != value or not 0 <= value <= n or value != int(value):
        raise PuzzleError(f"{shown(value, depth=0)} at {_place(cell, n)} is not allowed: {_allowed(n)}")
    return int(value)


def _size(count: int, unit: str, box_shape: tuple[int, int] | None, shown: str = "") -> int:
    """n for a puzzle of `count` cells; PuzzleError if the box shape, or no known size, has as many."""
    n = math.isqrt(count)
    wanted = [box_shape[0] * box_shape[1]] if box_shape else list(BOX_SHAPE_OF_SIZE)
    if n * n != count or n not in wanted:
        raise PuzzleError(f"this puzzle has {shown or f'{count} {unit}'}: {_expected(box_shape, unit)}")
    return n


def _expected(box_shape: tuple[int, int] | None, unit: str = "cells") -> str:
    if box_shape:
        n = box_shape[0] * box_shape[1]
        return f"a {n}x{n} puzzle with boxes of {box_shape[0]}x{box_shape[1]} has {n} x {n} = {n * n} {unit}"
    return "; ".join(f"a {n}x{n} puzzle has {n * n} {unit}" for n in BOX_SHAPE_OF_SIZE)


def _allowed(n: int) -> str:
    return f"a {n}x{n} puzzle has the digits 1 to {SYMBOLS[n]}, and 0 or '.' for a blank"


def _place(cell: int, n: int) -> str:
    return f"row {cell // n + 1}, column {cell % n + 1}"


def _as_grids(grids: np.ndarray, n: int) -> np.ndarray:
    """(M, n, n) uint8; PuzzleError for another shape or values outside 0..n."""
    grids = np.asarray(grids)
    if grids.ndim != 3 or grids.shape[1:] != (n, n):
        raise PuzzleError(f"grids must have the shape (M, {n}, {n}), got {grids.shape}")
    _check_range(grids, n, "a grid")
    return grids.astype(np.uint8, copy=False)


def _check_range(values: np.ndarray, largest: int, name: str) -> None:
    """PuzzleError unless all values are integers from 0 to `largest`."""
    if values.dtype.kind not in "iu":
        raise PuzzleError(f"{name} must hold integers from 0 to {largest}, got {values.dtype}")
    if values.size and not (int(values.min()) >= 0 and int(values.max()) <= largest):
        bad = int(values.min()) if int(values.min()) < 0 else int(values.max())
        raise PuzzleError(f"{name} must hold integers from 0 to {largest}, got {bad}")
