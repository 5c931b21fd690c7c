"""Mazes of any rectangular size: read one as a person writes it, check it and its answer, turn it into token ids.

A maze is a grid (rows, cols) uint8 of the numbers WALL, FREE, START, GOAL, PATH, the places of their characters in
CHARACTERS, "# SGo". A question has one S and one G and no path; its answer marks the cells of one path from S to G.
Steps go up, down, left and right. The rules for many mazes at once are in `hrm_hf.games.maze_answers`.
"""

import math
import re
from collections.abc import Callable

import numpy as np

from .errors import PuzzleError
from .grids import MAX_CELLS, PuzzleCodec, Shape, check_grids, check_shape, place, read_grid
from .pasted_text import text_lines
from .symmetry import dihedral

CHARACTERS = "# SGo"
WALL, FREE, START, GOAL, PATH = range(5)
SIGNS = ("#*", " ._", "S", "GE", "o")  # what text may have for them, one throughout a maze
# Codes of `read_grid`: numbers below 2 have two meanings, and signs, even for walls and odd for free cells, have one.
_CODES = {"#": -2, "*": -4, " ": -1, ".": -3, "_": -5, "S": START, "G": GOAL, "E": GOAL, "o": PATH}
_CODES |= {sign: number for number in range(len(CHARACTERS)) for sign in (number, str(number))}
PAD_ID = 0  # the token id of no cell; cell number i is token i + 1


def check_grid_shape(grid_shape: Shape) -> Shape:
    """(rows, cols) as two plain ints; PuzzleError unless they are integers from 1 that hold 2 to 65,536 cells."""
    return check_shape("grid shape", grid_shape, range(2, MAX_CELLS + 1))


def parse(puzzle: object, grid_shape: Shape | None = None, wall: int | None = None) -> np.ndarray:
    """A maze in any form of `read_grid` -> (rows, cols) uint8 of cell numbers.

    Without a grid shape a flat one is a square. In text (see `SIGNS`) spaces are cells, so nothing is stripped but
    newlines at its start, one at its end and the frame of a drawing; with digits, '.' or '_' spaces and commas may
    stand between cells. In numbers 2 is S, 3 is G and 4 path; of 0 and 1 the one that joins S and G is free. Numbers
    with a path tell nothing: they are refused, but for an array of unsigned integers, which this function has
    returned, with 0 for walls. wall: which of 0 and 1 is the wall where something else tells, such as other mazes of
    the same table. Raises PuzzleError, and nothing else, for what cannot be read or has two meanings.
    """
    readings = _read(puzzle, grid_shape)
    if len(readings) == 1:
        return readings[0]
    return readings[_wall(readings) if wall is None else wall]


def read_answer(answer: object, question: object, grid_shape: Shape | None = None) -> np.ndarray:
    """`parse` of an answer, but the walls of the question tell which of 0 and 1 is the wall."""
    readings = _read(answer, grid_shape)
    if len(readings) == 1:
        return readings[0]
    walls = own_grid(question) == WALL
    return next((grid for grid in readings if np.array_equal(grid == WALL, walls)), readings[0])


def _read(puzzle: object, grid_shape: Shape | None) -> list[np.ndarray]:
    """The grids that a puzzle may be: one, but of numbers two, with 0 for walls and with 1."""
    if grid_shape is not None:
        grid_shape = check_grid_shape(grid_shape)

    def fit(written: tuple[int, ...]) -> tuple[Shape, str]:
        side = math.isqrt(written[0])
        shape = grid_shape or (written if len(written) == 2 else (side, side))
        if written not in (shape, (math.prod(shape),)):
            expected = "a square or one line per row" if grid_shape is None else " x ".join(map(str, grid_shape))
            raise PuzzleError(f"this maze has {' x '.join(map(str, written))} cells; expected {expected}")
        return check_grid_shape(shape), CHARACTERS

    codes = read_grid(puzzle, "maze", fit, _readings, _CODES, " (spaces are cells, also at a line's end)")
    used = set(codes[codes < START].tolist())  # one for walls and one for free cells, both signs or both numbers
    has_signs = min(used, default=-1) < 0
    if len(used) > len({code % 2 for code in used}) or has_signs and max(used, default=-1) >= 0:
        found = ", ".join(repr(sign) for sign, code in _CODES.items() if code in used and isinstance(sign, str))
        raise PuzzleError(f"{found} stand for walls and free cells in this maze: use one sign for each")
    grid = np.where(codes < 0, codes % 2, codes).astype(np.uint8)
    is_own = isinstance(puzzle, np.ndarray) and puzzle.dtype.kind == "u" and (grid == PATH).any()
    return [grid] if has_signs or is_own else [grid, _swap(grid)]


def _wall(readings: list[np.ndarray]) -> int:
    """Which of the readings, with 0 or with 1 for walls, joins S and G; PuzzleError where that tells nothing."""
    joined = [is_joined(grid) for grid in readings]
    if (readings[0] == PATH).any():
        doubt = "this maze shows a path, which fits"
    elif [(readings[0] == number).sum() for number in (START, GOAL)] != [1, 1]:
        return 0  # no question, and no answer: the rules say so
    elif joined[0] != joined[1]:
        return joined.index(True)
    else:
        doubt = "S and G are joined" if joined[0] else "no way leads from S to G"
    raise PuzzleError(f"{doubt} whether 0 or 1 is the wall: give it as text, with '#' and ' ', or a table with --wall")


def _readings(text: str) -> list[list[str]]:
    """Of a text one: the characters of its lines, without a frame or separators."""
    lines = text_lines(text.lstrip("\n"))
    if len(lines) > 2 and all(re.fullmatch(r"\s*\+-+\+\s*", line) for line in (lines[0], lines[-1])):
        lines = [re.sub(r"^\s*\|(.*)\|\s*$", r"\1", line) for line in lines[1:-1]]
    parts = [re.split(r"[ ,;\t]+", line.strip().removesuffix(",")) for line in lines]
    if re.search(r"[._0-9]", text) and all(len(part) == 1 for row in parts for part in row):
        lines = ["".join(row) for row in parts]
    return [lines]


def _swap(grid: np.ndarray) -> np.ndarray:
    """Walls and free cells exchanged."""
    return np.where(grid <= FREE, FREE - np.minimum(grid, FREE), grid).astype(grid.dtype)


def renumber(grid: np.ndarray, puzzle: object) -> np.ndarray:
    """The grid with the numbers of a puzzle of numbers: where that has 1 for walls, 0 and 1 are exchanged."""
    try:
        readings = _read(puzzle, grid.shape)
        return _swap(grid) if len(readings) == 2 and _wall(readings) else grid
    except PuzzleError:
        return grid


def write(grid: np.ndarray, question: str = "") -> str:
    """The grid as one line, or with the lines and signs of a question that `parse` reads."""
    used = [next((sign for sign in signs[1:] if sign in question), signs[0]) for signs in SIGNS]
    return ("\n" if "\n" in question.strip("\n") else "").join("".join(used[cell] for cell in row) for row in grid)


def own_grid(grid: object) -> np.ndarray:
    """What `parse` gave, as it is; all else is parsed."""
    if isinstance(grid, np.ndarray) and grid.ndim == 2 and grid.dtype.kind == "u":
        return check_grids(grid, PATH)
    return parse(grid)


def decode(ids: np.ndarray) -> np.ndarray:
    """Token ids of any shape -> grids uint8. PAD and ids of no cell, which a model may predict, become FREE."""
    is_cell = (ids > PAD_ID) & (ids <= len(CHARACTERS))
    return (np.where(is_cell, ids, FREE + 1) - 1).astype(np.uint8)


def draw(grid: object) -> str:
    """The maze as text for people, within a border, as the outermost cells need not be walls.

    grid: an array of cell numbers, or anything else that `parse` reads.
    """
    lines = ["".join(CHARACTERS[cell] for cell in row) for row in own_grid(grid).tolist()]
    edge = "+" + "-" * len(lines[0]) + "+"
    return "\n".join([edge, *(f"|{line}|" for line in lines), edge])


def check_question(grid: object) -> None:
    """Raises PuzzleError, naming cells, unless a grid, as of `draw`, has one S, one G, no path and a way."""
    grid = own_grid(grid)
    for number in (START, GOAL):
        cells = np.argwhere(grid == number)
        if len(cells) != 1:
            found = f"{len(cells) or 'no'} {CHARACTERS[number]}"
            where = f", at {place(*cells[0])} and at {place(*cells[1])}" if len(cells) else ""
            raise PuzzleError(f"the maze has {found}{where}: expected exactly one")
    if (grid == PATH).any():
        raise PuzzleError(f"{place(*np.argwhere(grid == PATH)[0])} is marked as path: a question has no path yet")
    if not is_joined(grid):
        start, goal = (place(*np.argwhere(grid == number)[0]) for number in (START, GOAL))
        raise PuzzleError(f"no way leads from S at {start} to G at {goal}")


def is_solution(question: object, answer: object) -> bool:
    """Whether the answer shows a path through the question; False too where either cannot be read.

    Walls, S and G are kept, and S, G and the path cells are one path from S to G that neither branches nor touches
    itself: S and G have one neighbour on it, each path cell has two, and all hang together.
    """
    try:
        question = own_grid(question)
        answer = read_answer(answer, question)
    except PuzzleError:
        return False
    keeps = np.array_equal(np.where(answer == PATH, FREE, answer), question)
    if not keeps or [(question == number).sum() for number in (START, GOAL)] != [1, 1]:
        return False
    path = _reached_from_start(np.where(answer >= START, answer, WALL))
    excess = [sum(near in path for near in _neighbours(cell)) - 1 - (answer[cell] == PATH) for cell in path]
    return len(path) == int((answer >= START).sum()) and not any(excess)


def is_joined(grid: np.ndarray) -> bool:
    """Whether a way leads from S to G of a grid (rows, cols); path cells are free."""
    return any(grid[cell] == GOAL for cell in _reached_from_start(grid))


def _reached_from_start(grid: np.ndarray) -> set[tuple[int, int]]:
    others, newest = (set(map(tuple, np.argwhere(cells).tolist())) for cells in (grid != WALL, grid == START))
    reached = set()
    while newest:
        reached |= newest
        others -= newest
        newest = others & {near for cell in newest for near in _neighbours(cell)}
    return reached


def _neighbours(cell: tuple[int, int]) -> list[tuple[int, int]]:
    row, column = cell
    return [(row + 1, column), (row, column - 1), (row, column + 1), (row - 1, column)]


def _symmetry(
    grid_shape: Shape, box_shape: None, permutation: Callable[[int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A turn or a mirroring that keeps the shape."""
    views = range(8) if grid_shape[0] == grid_shape[1] else (0, 2, 4, 5)
    cells = np.arange(math.prod(grid_shape)).reshape(grid_shape)
    return dihedral(cells, views[permutation(len(views))[0]]).ravel(), np.arange(len(CHARACTERS) + 1)


CODEC = PuzzleCodec(
    vocabulary=lambda grid_shape: ["PAD", *CHARACTERS],
    read=lambda puzzle, grid_shape, box_shape: parse(puzzle, grid_shape),
    read_answer=lambda answer, question, grid_shape, box_shape: read_answer(answer, question, grid_shape),
    check=lambda grid, box_shape: check_question(grid),
    decode=decode,
    write=write,
    renumber=renumber,
    draw=lambda grid, box_shape: draw(grid),
    is_solution=lambda question, answer, box_shape: is_solution(question, answer),
    symmetry=_symmetry,
)
