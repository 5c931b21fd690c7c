"""The geometry of a Sudoku of any box shape: its size, its rows, columns and boxes, the character of each digit.

Everything else that knows Sudoku builds on these few facts, so that they are stated once. A box shape is (rows,
columns) of one box, e.g. (2, 3) for 6x6. A grid is n x n with n = rows * columns; it has `columns` bands of `rows`
rows and `rows` stacks of `columns` columns. A cell's number is its place in row-major order.
"""

from functools import lru_cache

import numpy as np

from .errors import PuzzleError

SYMBOLS = ".123456789ABCDEFG"  # the character of blank and of each digit, for grids up to 16x16
BOX_SHAPE_OF_SIZE = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # what a bare n x n grid means


def check_box_shape(box_shape: tuple[int, int]) -> tuple[int, int]:
    """The box shape as two plain ints; PuzzleError if it is not two whole numbers >= 1 whose product is 2 to 16."""
    try:
        rows, cols = (int(size) for size in box_shape)
        whole = all(given == size for given, size in zip(box_shape, (rows, cols), strict=True))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or min(rows, cols) < 1 or not 2 <= rows * cols < len(SYMBOLS):
        raise PuzzleError(
            f"box shape {box_shape!r} is not allowed: give (rows, columns) of one box, whole numbers with a product "
            f"of 2 to {len(SYMBOLS) - 1}, e.g. (2, 2), (2, 3) or (3, 3)"
        )
    return rows, cols


@lru_cache(maxsize=32)
def box_of_cell(box_shape: tuple[int, int]) -> np.ndarray:
    """(n, n) uint8, read-only: the number (from 0) of the box that each cell lies in, boxes counted along rows."""
    rows, cols = box_shape
    line = np.arange(rows * cols)
    boxes = ((line // rows)[:, None] * rows + (line // cols)[None, :]).astype(np.uint8)
    boxes.setflags(write=False)
    return boxes


@lru_cache(maxsize=32)
def units(box_shape: tuple[int, int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The 3n units as (name, cells): "row 1".."row n", then columns, then boxes; cells by number, ascending."""
    n = box_shape[0] * box_shape[1]
    cells = np.arange(n * n).reshape(n, n)
    boxes = box_of_cell(box_shape)
    rows = [(f"row {i + 1}", tuple(cells[i].tolist())) for i in range(n)]
    cols = [(f"column {i + 1}", tuple(cells[:, i].tolist())) for i in range(n)]
    return (*rows, *cols, *((f"box {i + 1}", tuple(cells[boxes == i].tolist())) for i in range(n)))
