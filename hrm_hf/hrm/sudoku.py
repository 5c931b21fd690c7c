"""The rules of Sudoku for any box shape: its geometry, reading a puzzle as a person writes it, checks, token ids.

A box shape is (rows, columns) of one box, e.g. (2, 3) for 6x6. A grid is (n, n) uint8 with n = rows * columns and
0 = blank; it has `columns` bands of `rows` rows and `rows` stacks of `columns` columns. A cell's number is its place
in row-major order.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain

import numpy as np

from .errors import ArgumentError, PuzzleError
from .grids import PuzzleCodec, Rows, Shape, check_grids, check_shape, place, read_grid
from .pasted_text import cell_readings

SYMBOLS = ".123456789ABCDEFGHIJKLMNOP"  # the character of blank and of each digit, for grids up to 25x25
BOX_SHAPE_OF_SIZE = {4: (2, 2), 6: (2, 3), 9: (3, 3), 16: (4, 4), 25: (5, 5)}  # what a bare n x n grid means
SIGNS_OF_BLANK = (*".#*_-xX? ", "", None, -1, "-1", "None", "null", "nan", "NaN")  # and 0
SIGN_EACH = "write a sign, such as '.', for every blank"
BLANK_ID = 1  # token id; 0 is PAD, digit d is d + 1


def check_box_shape(box_shape: Shape) -> Shape:
    """The box shape as two plain ints; PuzzleError if it is not two integers from 1 whose product is 2 to 25."""
    return check_shape("box shape", box_shape, range(2, len(SYMBOLS)))


@lru_cache(maxsize=32)
def units(box_shape: Shape) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The 3n units as (name, cells): "row 1".."row n", then columns, then boxes; cells by number, ascending."""
    rows, cols = box_shape
    n = rows * cols
    line, column = np.indices((n, n))
    unit_of_cell = {"row": line, "column": column, "box": line // rows * rows + column // cols}  # (n, n) each
    return tuple(
        (f"{kind} {i + 1}", tuple(np.flatnonzero(numbers == i).tolist()))
        for kind, numbers in unit_of_cell.items()
        for i in range(n)
    )


def parse(puzzle: object, box_shape: Shape | None = None) -> np.ndarray:
    """A Sudoku in any form of `read_grid` -> (n, n) uint8, 0 = blank.

    Text may be drawn, delimited, a .sdk, .ss or .sdm file, see `cell_readings`; blanks are `SIGNS_OF_BLANK` and 0,
    digits above 9 letters or numbers between blanks. Without a box shape the size gives it: 4, 6, 9, 16 or 25. Above
    9x9 digits may count from 0 to n - 1 (0-F): they do where 0 stands beside another sign for blanks and there is no
    digit n, and in a full grid; in an array of unsigned integers 0 is always a blank. Raises PuzzleError, and nothing
    else, for what cannot be read or has two meanings.
    """
    return _read(puzzle, box_shape)[0]


def _read(puzzle: object, box_shape: Shape | None) -> tuple[np.ndarray, bool]:
    """(grid, whether its digits were written as 0 to n - 1)."""
    boxes = BOX_SHAPE_OF_SIZE if box_shape is None else {math.prod(check_box_shape(box_shape)): box_shape}

    def fit(written: tuple[int, ...]) -> tuple[Shape, str]:
        cells, most = math.prod(written), max(boxes) ** 2
        n = math.isqrt(cells)
        if n not in boxes or written not in ((n, n), (n * n,)):
            allowed = " or ".join(f"{n} x {n} = {n * n}" for n in boxes)
            hint = "of several puzzles give one" if cells > most and cells % most == 0 else SIGN_EACH
            raise PuzzleError(f"this Sudoku has {' x '.join(map(str, written))} cells; expected {allowed} ({hint})")
        return (n, n), SYMBOLS[: n + 1]

    def readings(text: str) -> Iterator[Rows]:
        for rows in cell_readings(text, boxes):
            rows = [row for row in rows if row]
            flat = list(chain.from_iterable(rows))
            uneven = len(set(map(len, rows[:-1]))) > 1 and {"", " "} & set(flat)  # an empty place may be missing
            yield rows if len(rows) in boxes or uneven else (flat,)

    grid = read_grid(puzzle, "Sudoku", fit, readings, _signs(max(9, *boxes)), f"; {SIGN_EACH}")
    is_own = isinstance(puzzle, np.ndarray) and puzzle.dtype.kind == "u"  # what this function has returned
    from_zero = not is_own and _counts_from_zero(grid)
    return np.maximum(grid + 1 if from_zero else grid, 0).astype(np.uint8), from_zero


@lru_cache(maxsize=32)
def _signs(n: int) -> dict:
    """The codes of `read_grid`: digits up to n, 0 for a written 0, -1 for the other blanks."""
    signs = {sign: d for d, symbol in enumerate(SYMBOLS[: n + 1]) for sign in (d, str(d), symbol, symbol.lower())}
    return signs | dict.fromkeys(SIGNS_OF_BLANK, -1)


def _counts_from_zero(codes: np.ndarray) -> bool:
    """Whether 0 is the first digit and no blank; PuzzleError where it may be either."""
    n, zeros = len(codes), codes == 0
    has_others = (codes < 0).any()
    if not zeros.any() or (codes == n).any() or (zeros.sum() > n and not has_others):
        return False
    is_digit = max(*zeros.sum(axis=0), *zeros.sum(axis=1)) == 1 if has_others else (np.bincount(codes.flat) == n).all()
    if bool(is_digit) == (n > 9):  # grids up to 9x9 count from 1
        return n > 9
    raise PuzzleError(f"0 may be a blank here, or the first of the digits 0-{SYMBOLS[n - 1]}: write '.' for blanks")


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


def decode(ids: np.ndarray) -> np.ndarray:
    """Token ids of any shape -> grids uint8. PAD, which an untrained model may predict, becomes blank like id 1."""
    return np.maximum(check_grids(ids, len(SYMBOLS)), 1) - np.uint8(1)


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


def write(grid: np.ndarray, question: str = "") -> str:
    """The grid as one line, or with the lines and the digits, from 1 or from 0, of a question that `parse` reads."""
    n = len(grid)
    symbols = f".0{SYMBOLS[1:n]}" if _from_zero(question, n) else SYMBOLS
    lines = ["".join(symbols[digit] for digit in row) for row in grid.tolist()]
    return ("\n" if "\n" in question.strip() else "").join(lines)


def renumber(grid: np.ndarray, puzzle: object) -> np.ndarray:
    """The grid with the numbers of a puzzle of numbers: where that counts from 0, digits from 0 and -1 for blanks."""
    return grid.astype(np.int64) - 1 if _from_zero(puzzle, len(grid)) else grid


def _from_zero(puzzle: object, n: int) -> bool:
    try:
        return _read(puzzle, (1, n))[1]
    except PuzzleError:
        return False


def _fit(grid_shape: Shape, box_shape: Shape | None) -> Shape:
    size = grid_shape[0]
    if grid_shape[1] != size or not 2 <= size < len(SYMBOLS):
        raise ArgumentError(f"grid_shape is {grid_shape}; a Sudoku is square, with 2 to {len(SYMBOLS) - 1} rows")
    box_shape = box_shape or BOX_SHAPE_OF_SIZE.get(size)
    if box_shape is None or math.prod(box_shape) != size:
        usual = ", ".join(f"({n}, {n})" for n in BOX_SHAPE_OF_SIZE)
        allowed = f"a box of a Sudoku of {grid_shape} holds {size} cells; None is allowed for {usual}"
        raise ArgumentError(f"box_shape is {box_shape}; {allowed}")
    return box_shape


def _allowed(ids: np.ndarray, grid_shape: Shape, box_shape: Shape) -> np.ndarray:
    """(S, V) bool: the digits that the filled cells of its row, column and box leave to each blank."""
    free = np.zeros((len(ids), grid_shape[0] + 2), bool)
    free[ids == BLANK_ID, BLANK_ID + 1 :] = True
    for _, members in units(box_shape):
        cells = np.array(members)
        free[np.ix_(cells, ids[cells][ids[cells] > BLANK_ID])] = False
    return free


def _symmetry(
    grid_shape: Shape, box_shape: Shape, permutation: Callable[[int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Bands and stacks, lines inside each, digits, and for square boxes the transposition, as they are drawn."""
    n, (rows, columns) = grid_shape[0], box_shape
    orders = []
    for blocks, size in ((columns, rows), (rows, columns)):
        orders.append(np.concatenate([block * size + permutation(size) for block in permutation(blocks)]))
    sources = orders[0][:, None] * n + orders[1]
    sources = sources.T if rows == columns and permutation(2)[0] else sources
    return sources.ravel(), np.concatenate([[0, BLANK_ID], BLANK_ID + 1 + permutation(n)])


CODEC = PuzzleCodec(
    vocabulary=lambda grid_shape: ["PAD", *SYMBOLS[: grid_shape[0] + 1]],
    read=lambda puzzle, grid_shape, box_shape: parse(puzzle, box_shape),
    check=check_givens,
    decode=decode,
    write=write,
    renumber=renumber,
    draw=draw,
    is_solution=is_solution,
    fit=_fit,
    blank_id=BLANK_ID,
    allowed=_allowed,
    symmetry=_symmetry,
)
