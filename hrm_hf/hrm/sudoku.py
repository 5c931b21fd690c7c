"""The rules of Sudoku for any box shape: its geometry, reading a puzzle as a person writes it, checks, token ids.

A box shape is (rows, columns) of one box, e.g. (2, 3) for 6x6. A grid is (n, n) uint8 with n = rows * columns and
0 = blank; it has `columns` bands of `rows` rows and `rows` stacks of `columns` columns. A cell's number is its place
in row-major order.
"""

import math
from functools import lru_cache

import numpy as np

from .errors import ArgumentError, PuzzleError
from .grids import PuzzleCodec, Shape, check_grids, check_shape, place, read_grid

SYMBOLS = ".123456789ABCDEFG"  # the character of blank and of each digit, for grids up to 16x16
BOX_SHAPE_OF_SIZE = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # what a bare n x n grid means
BLANK_ID = 1  # token id; 0 is PAD, digit d is d + 1


def check_box_shape(box_shape: Shape) -> Shape:
    """The box shape as two plain ints; PuzzleError if it is not two integers from 1 whose product is 2 to 16."""
    return check_shape("box shape", box_shape, range(2, len(SYMBOLS)))


@lru_cache(maxsize=32)
def box_of_cell(box_shape: Shape) -> np.ndarray:
    """(n, n) uint8, read-only: the number (from 0) of the box that each cell lies in, boxes counted along rows."""
    rows, cols = box_shape
    line = np.arange(rows * cols)
    boxes = ((line // rows)[:, None] * rows + (line // cols)[None, :]).astype(np.uint8)
    boxes.setflags(write=False)
    return boxes


@lru_cache(maxsize=32)
def units(box_shape: Shape) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The 3n units as (name, cells): "row 1".."row n", then columns, then boxes; cells by number, ascending."""
    n = box_shape[0] * box_shape[1]
    lines = np.indices((n, n))
    unit_of_cell = {"row": lines[0], "column": lines[1], "box": box_of_cell(box_shape)}  # (n, n) each
    return tuple(
        (f"{kind} {i + 1}", tuple(np.flatnonzero(numbers == i).tolist()))
        for kind, numbers in unit_of_cell.items()
        for i in range(n)
    )


def parse(puzzle: object, box_shape: Shape | None = None) -> np.ndarray:
    """A Sudoku in any form of `read_grid` -> (n, n) uint8, 0 = blank; in text '.' and '0', and white space is ignored.

    Without a box shape the size gives it, see `BOX_SHAPE_OF_SIZE`. Raises PuzzleError, and nothing else, for anything
    else.
    """
    sizes = list(BOX_SHAPE_OF_SIZE) if box_shape is None else [math.prod(check_box_shape(box_shape))]

    def fit(written: tuple[int, ...]) -> tuple[Shape, str]:
        n = math.isqrt(math.prod(written))
        if n not in sizes or written not in ((n, n), (n * n,)):
            allowed = " or ".join(f"{n} x {n} = {n * n}" for n in sizes)
            raise PuzzleError(f"this Sudoku has {' x '.join(map(str, written))} cells; expected {allowed}")
        return (n, n), SYMBOLS[: n + 1]

    return read_grid(_clean(puzzle) if isinstance(puzzle, str) else puzzle, "Sudoku", fit, _clean)


def _clean(text: str) -> str:
    return "".join(text.split()).replace("0", ".")


def check_givens(grid: object, box_shape: Shape) -> None:
    """Raises PuzzleError if what `parse` reads has two equal digits in one row, column or box, naming both cells."""
    box_shape = check_box_shape(box_shape)
    n = box_shape[0] * box_shape[1]
    cells = parse(grid, box_shape).ravel().tolist()
    for name, members in units(box_shape):
        seen: dict[int, int] = {}
        for cell in members:
            digit = cells[cell]
            if digit and digit in seen:
                first, second = (place(*divmod(found, n)) for found in (seen[digit], cell))
                raise PuzzleError(f"the digit {SYMBOLS[digit]} stands twice in {name}: at {first} and at {second}")
            seen[digit] = cell


def is_solution(question: object, answer: object, box_shape: Shape) -> bool:
    """Whether the answer is a full valid grid that keeps the givens; False too where either cannot be read."""
    try:
        question, answer = parse(question, box_shape), parse(answer, box_shape)
        check_givens(answer, box_shape)
    except PuzzleError:
        return False
    return bool(answer.all() and ((question == 0) | (question == answer)).all())


def encode(grid: np.ndarray) -> np.ndarray:
    """Grids of any shape, integers 0..n, 0 = blank -> token ids uint8: blank 1, digit d -> d + 1, never PAD (0)."""
    return check_grids(grid, len(SYMBOLS) - 1) + np.uint8(1)


def decode(ids: np.ndarray) -> np.ndarray:
    """Token ids of any shape -> grids uint8. PAD, which an untrained model may predict, becomes blank like id 1."""
    return np.maximum(check_grids(ids, len(SYMBOLS)), 1) - np.uint8(1)


def vocabulary(n: int) -> list[str]:
    """The n + 2 tokens of an n x n Sudoku by id: "PAD", ".", "1", "2", ..."""
    return ["PAD", *SYMBOLS[: n + 1]]


def to_string(grid: np.ndarray) -> str:
    """(n, n) or (n*n,) integers -> n*n characters in row-major order, '.' = blank."""
    return "".join(SYMBOLS[digit] for digit in check_grids(grid, len(SYMBOLS) - 1).ravel().tolist())


def draw(grid: object, box_shape: Shape) -> str:
    """The grid as text for people: one line per row, rules between the boxes; grid: anything that `parse` reads."""
    rows, cols = check_box_shape(box_shape)
    lines = []
    for i, row in enumerate(parse(grid, (rows, cols)).tolist()):
        if i and i % rows == 0:
            lines.append("+".join("-" * (2 * cols + (0 < stack < rows - 1)) for stack in range(rows)))
        stacks = (row[start : start + cols] for start in range(0, len(row), cols))
        lines.append(" | ".join(" ".join(SYMBOLS[digit] for digit in stack) for stack in stacks))
    return "\n".join(lines)


def _fit(grid_shape: Shape, box_shape: Shape | None) -> Shape:
    size = grid_shape[0]
    if grid_shape[1] != size or not 2 <= size < len(SYMBOLS):
        raise ArgumentError(f"grid_shape is {grid_shape}; a Sudoku is square, with 2 to {len(SYMBOLS) - 1} rows")
    if box_shape is None and size not in BOX_SHAPE_OF_SIZE:
        usual = ", ".join(f"({n}, {n})" for n in BOX_SHAPE_OF_SIZE)
        raise ArgumentError(f"grid_shape is {grid_shape}; allowed for a Sudoku without box_shape: {usual}")
    box_shape = box_shape or BOX_SHAPE_OF_SIZE[size]
    if box_shape[0] * box_shape[1] != size:
        raise ArgumentError(f"box_shape is {box_shape}; a box of a {size}x{size} Sudoku must hold {size} cells")
    return box_shape


CODEC = PuzzleCodec(
    vocabulary=lambda grid_shape: vocabulary(grid_shape[0]),
    read=lambda puzzle, grid_shape, box_shape: parse(puzzle, box_shape),
    check=check_givens,
    encode=lambda grid, grid_shape: encode(grid),
    decode=decode,
    draw=draw,
    is_solution=is_solution,
    fit=_fit,
    blank_id=BLANK_ID,
)
