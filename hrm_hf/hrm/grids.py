"""What all games share: grids of cell numbers, read from any written form and checked, and the codec of a game.

A cell number is an integer from 0 on. In text it has one character.

S cells (rows * columns of the grid), V vocabulary.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ArgumentError, HrmError, PuzzleError
from .pasted_text import plain_text, text_lines
from .shown_value import is_integer, shown

MAX_CELLS = 65_536  # a larger grid is no puzzle: it is refused before it is copied
MAX_TEXT = 3 * MAX_CELLS  # characters
UNKNOWN = -9  # below every code of a sign

Shape = tuple[int, int]
# From the shape as written, (cells,) or (rows, columns), to the shape of the grid and the characters of its cell
# numbers. Raises PuzzleError for a shape that is not allowed.
Fit = Callable[[tuple[int, ...]], tuple[Shape, str]]
Rows = list | tuple  # of rows, each a str or a list of cells; a tuple of one row is cells without rows


def read_grid(
    puzzle: object,
    noun: str,
    fit: Fit,
    readings: Callable[[str], Iterable[Rows]] = lambda text: [text_lines(text)],
    signs: Mapping[Any, int] | None = None,
    hint: str = "",
) -> np.ndarray:
    """A grid as a person or a program writes it -> (rows, columns) of cell numbers, uint8 where that holds them.

    Args:
        puzzle: text; a list of such lines, of rows of cells, or of all cells row by row; an array (rows, columns) or
            (cells,); or any of these lists as JSON. Floats with whole values are cell numbers too.
        noun, hint: what messages call the grid, and add where rows have different lengths.
        readings: text, as of `plain_text`, -> the rows of cells that it may mean. Those with the right number of cells
            count, and among them those whose cells can all be read.
        signs: cell number of every sign: of text, of an integer, and of None, which NaN is too. None: the characters
            of `fit` and their places. The codes of `signs` need not be cell numbers: the caller makes them such.
    Raises:
        PuzzleError: anything that cannot be read or can be read in two ways, and no other error, whatever `puzzle` is.
            The message names the row, or the cell and its value, or the first character that stands for no cell.
    """
    try:
        found: dict[tuple, np.ndarray] = {}
        errors: list[tuple[bool, PuzzleError]] = []  # (whether the number of cells is wrong, what is wrong)
        seen: list[Rows] = []
        for rows in _readings(puzzle, noun, readings, signs):
            if rows in seen:
                continue
            seen.append(rows)
            shape = None
            try:
                shape, characters = fit(_written_shape(rows, hint))
                grid = _codes(rows, shape, characters, signs)
                found[shape, grid.tobytes()] = grid
            except PuzzleError as error:
                errors.append((shape is None, error))
        if len(found) == 1:
            return found.popitem()[1]
        if found:
            raise PuzzleError(f"this {noun} can be read in two ways: {_differ(*list(found.values())[:2])}")
        if errors[0][0] and isinstance(puzzle, str):
            _check_characters(puzzle, seen[0], signs, noun)
        raise min(errors, key=lambda item: item[0])[1]
    except PuzzleError:
        raise
    except Exception as error:  # the object is the caller's: its own methods may raise whatever they like
        raise PuzzleError(f"a {type(puzzle).__name__} cannot be read as a {noun} ({type(error).__name__})") from error


def check_grids(grids: Any, largest: int) -> np.ndarray:
    """Grids of cell numbers as uint8 (uint16 where `largest` asks for it), copied only if they have another dtype.

    PuzzleError unless they hold integers from 0 to `largest`.
    """
    grids = np.asarray(grids)
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


def _readings(
    puzzle: Any, noun: str, readings: Callable[[str], Iterable[Rows]], signs: Mapping[Any, int] | None
) -> Iterable[Rows]:
    """What the puzzle may mean."""
    if isinstance(puzzle, str) and len(puzzle) <= MAX_TEXT:
        text = plain_text(puzzle)
        try:  # a list as JSON or as Python prints it
            puzzle = json.loads(re.sub("None|nan", "null", text.replace("'", '"')) if text.startswith("[") else "")
        except ValueError:  # all other text, an array as NumPy prints it or a file with sections too
            return (rows if len(rows) > 1 else tuple(rows) for rows in readings(text))
    if hasattr(puzzle, "__array__"):
        array = np.asarray(puzzle)
        if array.ndim not in (1, 2) or array.dtype.kind not in "iufbOU" or array.size > MAX_CELLS:
            allowed = f"integers, (rows, columns) or (cells,), at most {MAX_CELLS} cells"
            raise PuzzleError(f"an array of {array.dtype} and shape {array.shape} is no {noun}: expected {allowed}")
        return [array.tolist() if array.ndim == 2 else (array.tolist(),)]
    if not isinstance(puzzle, list | tuple) or len(puzzle) > MAX_CELLS:
        found = type(puzzle).__name__ + (f" of length {len(puzzle)}" if isinstance(puzzle, str | list | tuple) else "")
        raise PuzzleError(f"a {found} is no {noun}: expected text, a list or an array of at most {MAX_CELLS} cells")
    if puzzle and all(isinstance(row, str) for row in puzzle) and sum(map(len, puzzle)) <= MAX_TEXT:
        as_cells = [(list(puzzle),)] if signs and "" in signs else []
        return itertools.chain(readings(plain_text("\n".join(puzzle))), as_cells)
    arrays = (isinstance(row, np.ndarray) and row.ndim == 1 and row.size <= MAX_CELLS for row in puzzle)
    rows = [row.tolist() if is_array else row for row, is_array in zip(puzzle, arrays, strict=True)]
    return [rows if any(isinstance(row, list | tuple | np.ndarray) for row in rows) else (rows,)]


def _written_shape(rows: Rows, hint: str) -> tuple[int, ...]:
    """(rows, columns) or (cells,) as written; PuzzleError if rows have different lengths."""
    for i, row in enumerate(rows):
        if not isinstance(row, str | list | tuple):
            raise PuzzleError(f"row {i + 1} is a {type(row).__name__}, not a list of cells")
        if len(row) != len(rows[0]):
            raise PuzzleError(f"row {i + 1} has {len(row)} cells, but row 1 has {len(rows[0])}{hint}")
    return (len(rows[0]),) if isinstance(rows, tuple) and rows else (len(rows), len(rows[0]) if rows else 0)


def _codes(rows: Rows, shape: Shape, characters: str, signs: Mapping[Any, int] | None) -> np.ndarray:
    """The codes of all cells in the shape of the grid."""
    if signs is None:
        signs = {c: i for i, c in enumerate(characters)} | {i: i for i in range(len(characters))}
    codes = []
    for cell in itertools.chain.from_iterable(rows):
        code = signs.get(_sign(cell), UNKNOWN)
        if not UNKNOWN < code < len(characters):
            where = place(*divmod(len(codes), shape[1]))
            allowed = f"one of {characters!r} in text, and 0 to {len(characters) - 1} as a number"
            raise PuzzleError(f"{shown(cell, depth=0)} at {where} is not allowed: a cell is {allowed}")
        codes.append(code)
    dtype = np.int16 if min(codes, default=0) < 0 else np.min_scalar_type(len(characters))
    return np.array(codes, dtype).reshape(shape)


def _sign(cell: Any) -> Any:
    """A cell as a key of `signs`: text without blanks around it, a whole number as int, NaN as None; else ()."""
    if isinstance(cell, str):  # 05 and 5.0 are 5, -- is -
        sign = cell.strip() or cell
        return re.sub(r"^0+(?=\d)|(?<=\d)\.0*$|^([^\w\s]|[_xX])\1+$", r"\1", sign) if len(sign) > 1 else sign
    if cell is None or isinstance(cell, float | np.floating) and cell != cell:
        return None
    is_number = isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, bool)
    return int(cell) if is_number and abs(cell) < MAX_CELLS and cell == int(cell) else ()


def _differ(first: np.ndarray, second: np.ndarray) -> str:
    """Two readings in words, by the first row in which they differ."""
    if first.shape != second.shape:
        return " or ".join(f"as {' x '.join(map(str, grid.shape))} cells" for grid in (first, second))
    row = (first != second).any(axis=1).argmax()
    ways = (" ".join(str(max(code, 0) or ".") for code in grid[row].tolist()) for grid in (first, second))
    return f"row {row + 1} as {' or as '.join(ways)}; write a sign for every blank and nothing else between the cells"


def _check_characters(text: str, rows: Rows, signs: Mapping[Any, int] | None, noun: str) -> None:
    """Raises PuzzleError for the first character in the cells that is none, by its place in the text."""
    foreign = next((cell for row in rows for cell in row if signs and cell not in signs), None)
    lines = text.splitlines()
    for number, line in [*enumerate((line.split("#")[0] for line in lines), 1), *enumerate(lines, 1)]:
        if foreign and foreign in line:  # rather in a row than in a comment
            where = f"line {number}, character {line.index(foreign) + 1}"
            raise PuzzleError(f"{shown(foreign)} at {where} is no cell of a {noun} and no separator")


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
        read_answer: (answer, question, both as written, grid_shape, box_shape) -> grid, where the numbers of an answer
            alone may not tell what they mean. None: by `read`.
        check: (question grid, box_shape); raises PuzzleError for a question that breaks a rule of the game.
        encode: (grid, grid_shape) -> token ids of the shape grid_shape.
        decode: token ids (rows, columns), each below V -> grid, of a question the one that was encoded; never raises:
            an id that is no answer becomes a blank.
        write: (grid, question as text) -> text in the form of the question. None: the vocabulary's names, one line per
            row if the question has lines, else one run.
        renumber: (grid, puzzle of numbers) -> the grid in the puzzle's numbering, where that is not the game's own.
        draw: (grid, box_shape) -> text for people. None: lines as above.
        is_solution: (question grid, answer grid, box_shape) -> bool. None: the task has no rule to check.
        fit: (grid_shape, box_shape or None) -> box_shape; raises ArgumentError for sizes that do not fit each other.
        blank_id: token id of a cell that the question leaves open, for a score on those cells; None = no such score.
        allowed: (ids (S,), grid_shape, box_shape), token ids of a question -> (S, V) bool, the ids that each blank may
            take beside the others, all False for cells that are no blanks. Without it or `blank_id` none guesses.
        symmetry: (grid_shape, box_shape, permutation) -> (sources (S,), ids (V,)), int64: one of the game's group, by
            which ids[question[sources]] is another question; `permutation(n)` draws one of 0 to n - 1. None: none.
        symmetries: grid_shape -> (order, apply) for `hrm_hf.data.Symmetries`, drawn in training. None: none is known.
    """

    vocabulary: Callable[[Shape], list[str]]
    read: Callable[[Any, Shape, Shape | None], np.ndarray]
    read_answer: Callable[[Any, Any, Shape, Shape | None], np.ndarray] | None = None
    check: Callable[[np.ndarray, Shape | None], None] = lambda grid, box_shape: None
    encode: Callable[[np.ndarray, Shape], np.ndarray] = lambda grid, grid_shape: np.asarray(grid, np.int64) + 1
    decode: Callable[[np.ndarray], np.ndarray] = lambda ids: np.maximum(ids, 1) - 1
    write: Callable[[np.ndarray, str], str] | None = None
    renumber: Callable[[np.ndarray, Any], np.ndarray] = lambda grid, puzzle: grid
    draw: Callable[[np.ndarray, Shape | None], str] | None = None
    is_solution: Callable[[np.ndarray, np.ndarray, Shape | None], bool] | None = None
    fit: Callable[[Shape, Shape | None], Shape | None] = no_box_shape
    blank_id: int | None = None
    allowed: Callable[[np.ndarray, Shape, Shape | None], np.ndarray] | None = None
    symmetry: Callable[[Shape, Shape | None, Callable], tuple[np.ndarray, np.ndarray]] | None = None
    symmetries: Callable[[Shape], tuple[int, Callable[[np.ndarray, np.ndarray], np.ndarray]]] | None = None
