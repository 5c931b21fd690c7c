"""What all games share: grids of cell numbers, read from any written form and checked, and the codec of a game.

A cell number is an integer from 0 on. In text it has one character.

B batch, S cells (rows * columns of the grid), V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ArgumentError, HrmError, PuzzleError
from .shown_value import is_integer, shown

MAX_CELLS = 65_536  # a larger grid is no puzzle: it is refused before it is copied

Shape = tuple[int, int]
# From the shape as written, (cells,) or (rows, columns), to the shape of the grid and the characters of its cell
# numbers. Raises PuzzleError for a shape that is not allowed.
Fit = Callable[[tuple[int, ...]], tuple[Shape, str]]


def read_grid(puzzle: object, noun: str, fit: Fit, clean: Callable[[str], str] = str, hint: str = "") -> np.ndarray:
    """A grid as a person or a program writes it -> (rows, columns) of cell numbers, uint8 where that holds them.

    Args:
        puzzle: text of one line or of one line per row; a list of such lines, of rows of cell numbers, or of all cell
            numbers row by row; or an array (rows, columns) or (cells,). Floats with whole values are cell numbers too.
        noun, hint: what messages call the grid, and add where rows have different lengths.
        clean: what is done to each line of text before its characters are counted.
    Raises:
        PuzzleError: anything that cannot be read, and no other error, whatever `puzzle` is. The message names the row,
            or the cell and its value.
    """
    try:
        rows, written = _rows(puzzle, noun, clean, hint)
        shape, characters = fit(written)
        cells: list[int] = []
        for row in rows:
            for value in row:
                number = characters.find(value) if isinstance(row, str) else _whole(value, len(characters))
                if number < 0:
                    where = place(*divmod(len(cells), shape[1]))
                    allowed = f"one of {characters!r} in text, and 0 to {len(characters) - 1} as a number"
                    raise PuzzleError(f"{shown(value, depth=0)} at {where} is not allowed: a cell is {allowed}")
                cells.append(number)
        return np.array(cells, np.min_scalar_type(len(characters))).reshape(shape)
    except PuzzleError:
        raise
    except Exception as error:  # the object is the caller's: its own methods may raise whatever they like
        raise PuzzleError(f"a {type(puzzle).__name__} cannot be read as a {noun} ({type(error).__name__})") from error


def check_grids(grids: Any, largest: int, shape: Shape | None = None) -> np.ndarray:
    """Grids of cell numbers as uint8 (uint16 where `largest` asks for it), copied only if they have another dtype.

    PuzzleError unless they hold integers from 0 to `largest` and, if `shape` is given, have the shape (M, *shape).
    """
    grids = np.asarray(grids)
    if shape is not None and (grids.ndim != 3 or grids.shape[1:] != shape):
        raise PuzzleError(f"expected grids of shape (M, {shape[0]}, {shape[1]}), got {grids.shape}")
    if grids.dtype.kind not in "iu":
        raise PuzzleError(f"a grid must hold integers from 0 to {largest}, got {grids.dtype}")
    if grids.size:
        for number in (int(grids.min()), int(grids.max())):
            if not 0 <= number <= largest:
                raise PuzzleError(f"a grid must hold integers from 0 to {largest}, got {number}")
    return grids.astype(np.min_scalar_type(largest), copy=False)


def check_shape(
    name: str, shape: Any, cells: range = range(1, MAX_CELLS + 1), error: type[HrmError] = PuzzleError
) -> Shape:
    """(rows, columns) as plain ints; raises `error` unless they are integers from 1 with a product in `cells`."""
    fits = isinstance(shape, list | tuple) and len(shape) == 2 and all(is_integer(n) and n >= 1 for n in shape)
    if not fits or math.prod(map(int, shape)) not in cells:
        allowed = f"(rows, columns), integers from 1 with a product of {cells.start} to {cells.stop - 1}"
        raise error(f"{name} is {shown(shape)}; expected {allowed}")
    return int(shape[0]), int(shape[1])


def place(row: int, column: int) -> str:
    """A cell in words, counted from 1; row and column count from 0."""
    return f"row {row + 1}, column {column + 1}"


def _rows(puzzle: Any, noun: str, clean: Callable[[str], str], hint: str) -> tuple[list, tuple[int, ...]]:
    """The rows, each a str or a list of cells, and the shape as written: (cells,) of one row for a flat puzzle."""
    if isinstance(puzzle, str) and len(puzzle) <= 3 * MAX_CELLS:  # a cell takes a character and, at most, a line end
        puzzle = puzzle.replace("\r\n", "\n").removesuffix("\n").split("\n")
        if len(puzzle) == 1:
            line = clean(puzzle[0])
            return [line], (len(line),)
    elif hasattr(puzzle, "__array__"):
        array = np.asarray(puzzle)
        if array.ndim not in (1, 2) or array.dtype.kind not in "iufbO" or array.size > MAX_CELLS:
            allowed = f"integers, (rows, columns) or (cells,), at most {MAX_CELLS} cells"
            raise PuzzleError(f"an array of {array.dtype} and shape {array.shape} is no {noun}: expected {allowed}")
        puzzle = array.tolist()
    if not isinstance(puzzle, list | tuple) or len(puzzle) > MAX_CELLS:
        found = type(puzzle).__name__ + (f" of length {len(puzzle)}" if isinstance(puzzle, str | list | tuple) else "")
        raise PuzzleError(f"a {found} is no {noun}: expected text, a list or an array of at most {MAX_CELLS} cells")
    rows = []
    for row in puzzle:
        if isinstance(row, np.ndarray) and row.ndim == 1 and row.size <= MAX_CELLS:
            row = row.tolist()
        rows.append(clean(row) if isinstance(row, str) else row)
    if not any(isinstance(row, str | list | tuple | np.ndarray) for row in rows):
        return [rows], (len(rows),)
    for i, row in enumerate(rows):
        if not isinstance(row, str | list | tuple):
            raise PuzzleError(f"row {i + 1} is a {type(row).__name__}, not a list of cells")
        if len(row) != len(rows[0]):
            raise PuzzleError(f"row {i + 1} has {len(row)} cells, but row 1 has {len(rows[0])}{hint}")
    if len(rows) * len(rows[0]) > MAX_CELLS:
        raise PuzzleError(f"{len(rows)} x {len(rows[0])} cells are no {noun}: at most {MAX_CELLS} cells are allowed")
    return rows, (len(rows), len(rows[0]))


def _whole(value: Any, limit: int) -> int:
    """A whole number from 0 to limit - 1 as an int, -1 for anything else."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value < limit and value == int(value) else -1


def no_box_shape(grid_shape: Shape, box_shape: Shape | None) -> None:
    """`fit` of a game whose grids may have any shape and have no boxes."""
    if box_shape is not None:
        raise ArgumentError(f"box_shape is {box_shape}; only a Sudoku has boxes")


@dataclass(frozen=True)
class PuzzleCodec:
    """What must be known of one task. A grid is a (rows, columns) integer array of the game's cell numbers, from 0.

    The defaults suit a game whose cell number i is token id i + 1.

    Attributes:
        vocabulary: grid_shape -> names of the V token ids, in order; id 0 is PAD.
        read: (puzzle as written, grid_shape, box_shape) -> grid, of question or answer; the puzzle is a str, a list, a
            tuple or an array. Raises PuzzleError for one that cannot be read.
        check: (question grid, box_shape); raises PuzzleError for a question that breaks a rule of the game.
        encode: (grid, grid_shape) -> token ids of the shape grid_shape.
        decode: token ids (rows, columns), each below V -> grid; never raises: an id that is no answer becomes a blank.
        write: (grid, question as text) -> text in the form of the question. None: the vocabulary's names, one line per
            row if the question has lines, else one run.
        draw: (grid, box_shape) -> text for people. None: lines as above.
        is_solution: (question grid, answer grid, box_shape) -> bool. None: the task has no rule to check.
        fit: (grid_shape, box_shape or None) -> box_shape; raises ArgumentError for sizes that do not fit each other.
        blank_id: token id of a cell that the question leaves open, for a score on those cells; None = no such score.
        row_scores: (inputs (B, S), predictions (B, S), grid_shape), token ids -> {name: (B,) scores from 0 to 1}.
        symmetries: grid_shape -> (order, apply) for `hrm_hf.data.Symmetries`, drawn in training. None: none is known.
    """

    vocabulary: Callable[[Shape], list[str]]
    read: Callable[[Any, Shape, Shape | None], np.ndarray]
    check: Callable[[np.ndarray, Shape | None], None] = lambda grid, box_shape: None
    encode: Callable[[np.ndarray, Shape], np.ndarray] = lambda grid, grid_shape: np.asarray(grid, np.int64) + 1
    decode: Callable[[np.ndarray], np.ndarray] = lambda ids: np.maximum(ids, 1) - 1
    write: Callable[[np.ndarray, str], str] | None = None
    draw: Callable[[np.ndarray, Shape | None], str] | None = None
    is_solution: Callable[[np.ndarray, np.ndarray, Shape | None], bool] | None = None
    fit: Callable[[Shape, Shape | None], Shape | None] = no_box_shape
    blank_id: int | None = None
    row_scores: Callable[[np.ndarray, np.ndarray, Shape], dict[str, np.ndarray]] | None = None
    symmetries: Callable[[Shape], tuple[int, Callable[[np.ndarray, np.ndarray], np.ndarray]]] | None = None
