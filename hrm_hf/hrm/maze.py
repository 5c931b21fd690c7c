"""Mazes of any rectangular size: read one as a person writes it, check it and its answer, turn it into token ids.

A maze is a grid (rows, cols) uint8 of the numbers WALL, FREE, START, GOAL, PATH, the places of their characters in
CHARACTERS, "# SGo". A question has one S and one G and no path; its answer marks the cells of one path from S to G.
Steps go up, down, left and right. The rules work on whole arrays of M mazes, so that data sets are checked in seconds.
"""

import math
import re
from collections.abc import Callable

import numpy as np

from .errors import ArgumentError, PuzzleError
from .grids import MAX_CELLS, PuzzleCodec, Shape, check_grids, check_shape, no_box_shape, place, read_grid
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

    Without a grid shape a flat one is a square. In text (see `SIGNS`) spaces are cells, so nothing is stripped but one
    newline at the end and the frame of a drawing; with digits, '.' or '_' spaces and commas may stand between cells.
    In numbers 2 is S, 3 is G and 4 path; of 0 and 1 the one that joins S and G is free. Numbers with a path tell
    nothing: they are refused, but for an array of unsigned integers, which this function has returned, with 0 for
    walls. wall: which of 0 and 1 is the wall where something else tells, such as other mazes of the same table. Raises
    PuzzleError, and nothing else, for what cannot be read or has two meanings.
    """
    grid, _, doubt = _read(puzzle, grid_shape, wall)
    if doubt:
        raise PuzzleError(
            f"{doubt} whether 0 or 1 is the wall: give it as text, with '#' and ' ', or a table with --wall"
        )
    return grid


def read_answer(answer: object, question: object, grid_shape: Shape | None = None) -> np.ndarray:
    """`parse` of an answer; where its numbers do not tell which the wall is, the walls of the question do."""
    grid, _, doubt = _read(answer, grid_shape)
    if doubt and np.array_equal(_swap(grid) == WALL, own_grid(question) == WALL):
        return _swap(grid)
    return grid


def wall_number(puzzle: object, answer: object = None, grid_shape: Shape | None = None) -> int | None:
    """Which of 0 and 1 is the wall in a maze of numbers; None where it has signs, cannot be read, or does not tell.

    The path of an answer, in any form, tells it too: it lies on free cells.
    """
    try:
        grid, has_1_for_walls, doubt = _read(puzzle, grid_shape)
        if doubt and answer is not None:
            under = set(grid[_read(answer, grid.shape)[0] == PATH].tolist())
            return FREE - under.pop() if len(under) == 1 and max(under) <= FREE else None
    except PuzzleError:
        return None
    tells = has_1_for_walls is not None and not doubt and steps_from_start(grid[None])[0] >= 0
    return int(has_1_for_walls) if tells else None


def _read(
    puzzle: object, grid_shape: Shape | None = None, wall: int | None = None
) -> tuple[np.ndarray, bool | None, str]:
    """(grid, whether it was written with 1 for walls, None: with signs, why its numbers do not tell that or "").

    Where they do not, 0 is the wall.
    """
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
    if has_signs:
        return grid, None, ""
    if wall is not None:
        return _swap(grid) if wall else grid, bool(wall), ""
    if (grid == PATH).any():
        is_own = isinstance(puzzle, np.ndarray) and puzzle.dtype.kind == "u"
        return grid, False, "" if is_own else "this maze shows a path, which fits"
    if [(grid == number).sum() for number in (START, GOAL)] != [1, 1]:
        return grid, False, ""  # no question, and no answer: the rules say so
    swapped = _swap(grid)
    joined = [steps_from_start(one[None])[0] >= 0 for one in (grid, swapped)]
    if joined[0] == joined[1]:
        return grid, False, "S and G are joined" if joined[0] else "no way leads from S to G"
    return (swapped, True, "") if joined[1] else (grid, False, "")


def _readings(text: str) -> list[list[str]]:
    """Of a text one: the characters of its lines, without a frame or separators."""
    lines = text_lines(text)
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
        return _swap(grid) if _read(puzzle, grid.shape)[1] else grid
    except PuzzleError:
        return grid


def write(grid: np.ndarray, question: str) -> str:
    """The grid as text with the lines and signs of a question that `parse` reads."""
    used = [next((sign for sign in signs[1:] if sign in question), signs[0]) for signs in SIGNS]
    return ("\n" if "\n" in question.strip("\n") else "").join("".join(used[cell] for cell in row) for row in grid)


def own_grid(grid: object) -> np.ndarray:
    """What `parse` gave, as it is; all else is parsed."""
    if isinstance(grid, np.ndarray) and grid.ndim == 2 and grid.dtype.kind == "u":
        return check_grids(grid, PATH)
    return parse(grid)


def encode(grid: np.ndarray) -> np.ndarray:
    """Grids of any shape, integers 0..4 -> token ids uint8, cell number + 1, never PAD. PuzzleError for others."""
    return check_grids(grid, PATH) + np.uint8(1)


def decode(ids: np.ndarray) -> np.ndarray:
    """Token ids of any shape -> grids uint8. PAD and ids of no cell, which a model may predict, become FREE."""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise PuzzleError(f"token ids must be integers, got {ids.dtype}")
    is_cell = (ids > PAD_ID) & (ids <= len(CHARACTERS))
    return (np.where(is_cell, ids, FREE + 1) - 1).astype(np.uint8)


def vocabulary() -> list[str]:
    """The tokens by id: "PAD", "#", " ", "S", "G", "o"."""
    return ["PAD", *CHARACTERS]


def to_text(grid: object) -> str:
    """The maze as lines joined by newlines; grid: an array of cell numbers, or anything else that `parse` reads."""
    return "\n".join("".join(CHARACTERS[cell] for cell in row) for row in own_grid(grid).tolist())


def draw(grid: object) -> str:
    """The maze as text for people: `to_text` within a border, as the outermost cells need not be walls."""
    lines = to_text(grid).split("\n")
    edge = "+" + "-" * len(lines[0]) + "+"
    return "\n".join([edge, *(f"|{line}|" for line in lines), edge])


def check_question(grid: object) -> None:
    """Raises PuzzleError, naming cells, unless a grid, as of `to_text`, has one S, one G, no path and a way."""
    grid = own_grid(grid)
    for number in (START, GOAL):
        cells = np.argwhere(grid == number)
        if len(cells) != 1:
            found = f"{len(cells) or 'no'} {CHARACTERS[number]}"
            where = f", at {place(*cells[0])} and at {place(*cells[1])}" if len(cells) else ""
            raise PuzzleError(f"the maze has {found}{where}: expected exactly one")
    if (grid == PATH).any():
        raise PuzzleError(f"{place(*np.argwhere(grid == PATH)[0])} is marked as path: a question has no path yet")
    if steps_from_start(grid[None])[0] < 0:
        start, goal = (place(*np.argwhere(grid == number)[0]) for number in (START, GOAL))
        raise PuzzleError(f"no way leads from S at {start} to G at {goal}")


def is_solution(question: object, answer: object) -> bool:
    """Whether the answer is a valid path through the question; False too where either cannot be read."""
    try:
        valid, _ = path_checks(own_grid(question)[None], read_answer(answer, question)[None])
    except PuzzleError:
        return False
    return bool(valid[0])


def path_checks(questions: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(valid, shortest), both (M,) bool, for questions and answers (M, rows, cols) of cell numbers.

    valid: walls, S and G are kept, path cells lie on free cells, and S, G and the path cells are one path from S to G
    that neither branches nor touches itself: S and G have one neighbour on it, each path cell has two, and all hang
    together. shortest: valid, and no path is shorter. A question without exactly one S and one G has no valid answer.
    """
    questions, answers = as_grids(questions), as_grids(answers)
    if questions.shape != answers.shape:
        raise PuzzleError(f"questions have the shape {questions.shape}, answers {answers.shape}: give one answer each")
    valid = (np.where(answers == PATH, FREE, answers) == questions).all(axis=(1, 2))
    for number in (START, GOAL):
        valid &= (questions == number).sum(axis=(1, 2)) == 1
    on_path = answers >= START
    valid &= ((path_excess(answers) == 0) | ~on_path).all(axis=(1, 2))
    # The cells that pass so far are one path from S to G and perhaps rings apart from it.
    reached = distances_to_goal(np.where(on_path, answers, WALL)) >= 0
    valid &= (reached == on_path).all(axis=(1, 2))
    return valid, valid & (on_path.sum(axis=(1, 2)) - 1 == steps_from_start(questions))


def distances_to_goal(grids: np.ndarray) -> np.ndarray:
    """(M, rows, cols) -> int32 (M, rows, cols): steps to G, -1 for walls and for cells that cannot reach it.

    Breadth-first over all mazes together. Path cells are free; of several G the nearest counts.
    """
    walled = surround(as_grids(grids), WALL)  # so that a step off the grid meets a wall
    cells = walled.ravel()
    steps = steps_by_rule(walled.shape[2])
    is_new = cells != WALL
    distances = np.full(cells.shape, -1, np.int32)
    distance, reached = 0, np.flatnonzero(cells == GOAL)
    is_new[reached] = False
    while reached.size:
        distances[reached] = distance
        near = (reached[:, None] + steps).ravel()
        near = near[is_new[near]]
        is_new[near] = False
        reached = np.unique(near)  # a cell may be met from several sides
        distance += 1
    return distances.reshape(walled.shape)[:, 1:-1, 1:-1].copy()


def steps_from_start(grids: np.ndarray) -> np.ndarray:
    """(M,) int32: least number of steps from S to G, -1 if there is no way or no S."""
    return distances_to_goal(grids).max(axis=(1, 2), where=grids == START, initial=-1)


def path_excess(answers: np.ndarray) -> np.ndarray:
    """(M, rows, cols) int8: how many neighbours on the path (S, G and path cells) a cell has beyond what a path wants.

    S and G want one, path cells two; what other cells get has no meaning.
    """
    around = surround(answers >= START, False).astype(np.int8)
    neighbours = around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
    return neighbours - np.where(answers == PATH, np.int8(2), np.int8(1))


def steps_by_rule(width: int) -> np.ndarray:
    """Down, Left, Right, Up as differences of places in a raveled grid of this width."""
    return np.array([width, -1, 1, -width])


def surround(grids: np.ndarray, value: int) -> np.ndarray:
    """(M, rows, cols) -> (M, rows + 2, cols + 2), a copy in row-major order within a frame of `value`."""
    framed = np.full((len(grids), grids.shape[1] + 2, grids.shape[2] + 2), value, grids.dtype)
    framed[:, 1:-1, 1:-1] = grids
    return framed


def as_grids(grids: np.ndarray) -> np.ndarray:
    """(M, rows, cols) uint8; PuzzleError for another shape or other cell numbers."""
    grids = np.asarray(grids)
    if grids.ndim != 3 or 0 in grids.shape[1:]:
        raise PuzzleError(f"grids must have the shape (M, rows, cols), got {grids.shape}")
    return check_grids(grids, PATH)


def _fit(grid_shape: Shape, box_shape: Shape | None) -> None:
    no_box_shape(grid_shape, box_shape)
    check_shape("grid_shape", grid_shape, range(2, MAX_CELLS + 1), ArgumentError)


def _row_scores(inputs: np.ndarray, predictions: np.ndarray, grid_shape: Shape) -> dict[str, np.ndarray]:
    questions, answers = (decode(np.asarray(ids).reshape(-1, *grid_shape)) for ids in (inputs, predictions))
    valid, shortest = path_checks(questions, answers)  # (B,) bool each
    return {"valid_path": valid.astype(np.float64), "shortest_path": shortest.astype(np.float64)}


def _symmetry(
    grid_shape: Shape, box_shape: None, permutation: Callable[[int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A turn or a mirroring that keeps the shape."""
    views = range(8) if grid_shape[0] == grid_shape[1] else (0, 2, 4, 5)
    cells = np.arange(math.prod(grid_shape)).reshape(grid_shape)
    return dihedral(cells, views[permutation(len(views))[0]]).ravel(), np.arange(len(CHARACTERS) + 1)


CODEC = PuzzleCodec(
    vocabulary=lambda grid_shape: vocabulary(),
    read=lambda puzzle, grid_shape, box_shape: parse(puzzle, grid_shape),
    read_answer=lambda answer, question, grid_shape, box_shape: read_answer(answer, question, grid_shape),
    check=lambda grid, box_shape: check_question(grid),
    encode=lambda grid, grid_shape: encode(grid),
    decode=decode,
    write=write,
    renumber=renumber,
    draw=lambda grid, box_shape: draw(grid),
    is_solution=lambda question, answer, box_shape: is_solution(question, answer),
    fit=_fit,
    row_scores=_row_scores,
    symmetry=_symmetry,
)
