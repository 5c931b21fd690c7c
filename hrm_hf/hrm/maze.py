"""Mazes of any rectangular size: read one as a person writes it, check it and its answer, turn it into token ids.

A maze is a grid (rows, cols) uint8 of the numbers WALL, FREE, START, GOAL, PATH, the places of their characters in
CHARACTERS, "# SGo". A question has one S and one G and no path; its answer marks the cells of one path from S to G.
Steps go up, down, left and right. The rules work on whole arrays of M mazes, so that data sets are checked in seconds.
"""

import math

import numpy as np

from .errors import ArgumentError, PuzzleError
from .grids import MAX_CELLS, PuzzleCodec, Shape, check_grids, check_shape, no_box_shape, place, read_grid

CHARACTERS = "# SGo"
WALL, FREE, START, GOAL, PATH = range(5)
PAD_ID = 0  # the token id of no cell; cell number i is token i + 1


def check_grid_shape(grid_shape: Shape) -> Shape:
    """(rows, cols) as two plain ints; PuzzleError unless they are integers from 1 that hold 2 to 65,536 cells."""
    return check_shape("grid shape", grid_shape, range(2, MAX_CELLS + 1))


def parse(puzzle: object, grid_shape: Shape | None = None) -> np.ndarray:
    """A maze in any form of `read_grid` -> (rows, cols) uint8 of cell numbers.

    Without a grid shape a flat one is a square. Spaces are cells, so nothing is stripped but one newline at the end.
    Raises PuzzleError, and nothing else, for anything else.
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

    return read_grid(puzzle, "maze", fit, hint=" (spaces are cells, also at a line's end)")


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
    """The maze as lines joined by newlines; grid: anything that `parse` reads."""
    return "\n".join("".join(CHARACTERS[cell] for cell in row) for row in parse(grid).tolist())


def draw(grid: object) -> str:
    """The maze as text for people: `to_text` within a border, as the outermost cells need not be walls."""
    lines = to_text(grid).split("\n")
    edge = "+" + "-" * len(lines[0]) + "+"
    return "\n".join([edge, *(f"|{line}|" for line in lines), edge])


def check_question(grid: object) -> None:
    """Raises PuzzleError, naming cells, unless what `parse` reads has one S, one G, no path, and a way from S to G."""
    grid = parse(grid)
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
        valid, _ = path_checks(parse(question)[None], parse(answer)[None])
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


CODEC = PuzzleCodec(
    vocabulary=lambda grid_shape: vocabulary(),
    read=lambda puzzle, grid_shape, box_shape: parse(puzzle, grid_shape),
    check=lambda grid, box_shape: check_question(grid),
    encode=lambda grid, grid_shape: encode(grid),
    decode=decode,
    draw=lambda grid, box_shape: draw(grid),
    is_solution=lambda question, answer, box_shape: is_solution(question, answer),
    fit=_fit,
    row_scores=_row_scores,
)
