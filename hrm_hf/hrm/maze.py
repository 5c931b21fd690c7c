"""Mazes of any rectangular size: read one as a person writes it, check it, find its way, turn it into token ids and
back.

A maze is a grid (rows, cols) uint8 of the numbers WALL, FREE, START, GOAL, PATH, the places of their characters in
CHARACTERS, "# SGo". A question has one S and one G and no path; its answer marks the cells of one path from S to G.
Steps go up, down, left and right. Everything here works on whole arrays of M mazes, so that data sets are checked in
seconds; maze_generator makes new ones.
"""

import math

import numpy as np

from .errors import PuzzleError
from .shown_value import shown
from .symmetry import dihedral

CHARACTERS = "# SGo"
WALL, FREE, START, GOAL, PATH = range(5)
PAD_ID = 0  # the token id of no cell; cell number i is token i + 1

_NAMES = ("a wall", "free", "S", "G", "path")
_ALLOWED = "a cell is '#' (wall), ' ' (free), 'S', 'G' or 'o' (path), as a number 0 to 4 in this order"
_MAX_CELLS = 65_536  # a larger grid is no puzzle: refused before it is looked at


# Reading and writing


def check_grid_shape(grid_shape: tuple[int, int]) -> tuple[int, int]:
    """(rows, cols) as two plain ints; PuzzleError unless they are whole, at least 1, and hold 2 to 65,536 cells."""
    try:
        rows, cols = (int(size) for size in grid_shape)
        whole = all(given == size for given, size in zip(grid_shape, (rows, cols), strict=True))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or min(rows, cols) < 1 or not 2 <= rows * cols <= _MAX_CELLS:
        raise PuzzleError(
            f"grid shape {shown(grid_shape)} is not allowed: give (rows, columns), whole numbers of at least 1, with "
            f"2 to {_MAX_CELLS} cells"
        )
    return rows, cols


def parse(puzzle: object, grid_shape: tuple[int, int] | None = None) -> np.ndarray:
    """A maze as a person or a program writes it -> (rows, cols) uint8 of cell numbers.

    puzzle: text lines joined by newlines; one run of rows * cols characters (without a grid shape the grid is a
    square); a list of lines; a nested list, a flat list or an array of cell numbers. Spaces are cells, so nothing is
    stripped but one newline at the end. Raises PuzzleError, and nothing else, for anything else.
    """
    if grid_shape is not None:
        grid_shape = check_grid_shape(grid_shape)
    try:
        if isinstance(puzzle, str):
            return _parse_text(puzzle, grid_shape)
        if isinstance(puzzle, list | tuple):
            return _parse_list(puzzle, grid_shape)
        if hasattr(puzzle, "__array__"):
            return _parse_array(np.asarray(puzzle), grid_shape)
    except PuzzleError:
        raise
    except Exception as error:  # the object is the caller's: its own methods may raise whatever they like
        raise PuzzleError(f"a {type(puzzle).__name__} cannot be read as a maze ({type(error).__name__})") from error
    raise PuzzleError(f"a {type(puzzle).__name__} is no maze: give text lines, a list or an array; {_ALLOWED}")


def encode(grid: np.ndarray) -> np.ndarray:
    """Grids of any shape, integers 0..4 -> token ids uint8, cell number + 1, never PAD. PuzzleError for others."""
    grid = np.asarray(grid)
    _check_cells(grid)
    return (grid + 1).astype(np.uint8)


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


# Checks of one maze, with words


def check_question(grid: object) -> None:
    """Raises PuzzleError, naming cells, unless there are one S, one G, no path cell, and a way from S to G.

    grid: anything that `parse` reads.
    """
    grid = parse(grid)
    for number in (START, GOAL):
        places = np.argwhere(grid == number)
        if not len(places):
            raise PuzzleError(f"the maze has no {CHARACTERS[number]}: exactly one is needed")
        if len(places) > 1:
            raise PuzzleError(
                f"the maze has {len(places)} {CHARACTERS[number]}, at {_place(*places[0])} and at "
                f"{_place(*places[1])}: exactly one is allowed"
            )
    if (grid == PATH).any():
        raise PuzzleError(f"{_place(*np.argwhere(grid == PATH)[0])} is marked as path: a question has no path yet")
    if not are_questions(grid[None])[0]:
        start, goal = (_place(*np.argwhere(grid == number)[0]) for number in (START, GOAL))
        raise PuzzleError(f"no way leads from S at {start} to G at {goal}")


def check_answer(question: object, answer: object) -> None:
    """Raises PuzzleError, saying what is wrong and where, unless the answer is a valid path through the question.

    question, answer: anything that `parse` reads. What a valid path is: see `path_checks`.
    """
    question, answer = parse(question), parse(answer)
    check_question(question)
    if question.shape != answer.shape:
        raise PuzzleError(f"the answer is a grid of {_size(answer.shape)}, the question of {_size(question.shape)}")
    if path_checks(question[None], answer[None])[0][0]:
        return
    changed = np.argwhere(np.where(answer == PATH, FREE, answer) != question)
    if len(changed):
        cell = tuple(changed[0].tolist())
        raise PuzzleError(f"{_place(*cell)} is {_NAMES[question[cell]]} in the question, {_NAMES[answer[cell]]} here")
    on_path = answer >= START
    excess = _marked_neighbours(on_path[None])[0].astype(np.int64) - np.where(answer == PATH, 2, 1)
    if (crowded := np.argwhere(on_path & (excess > 0))).size:
        raise PuzzleError(f"the path branches or touches itself at {_place(*crowded[0])}")
    if (loose := np.argwhere(on_path & (excess < 0))).size:
        raise PuzzleError(f"the path breaks off at {_place(*loose[0])}")
    astray = np.argwhere(on_path & (distances_to_goal(np.where(on_path, answer, WALL)[None])[0] < 0))
    raise PuzzleError(f"{_place(*astray[0])} is marked but does not lie on the path from S to G")


def is_solution(question: object, answer: object) -> bool:
    """Whether the answer is a valid path through the question; False too where either cannot be read."""
    try:
        check_answer(question, answer)
    except PuzzleError:
        return False
    return True


# Rules over M mazes at once


def distances_to_goal(grids: np.ndarray) -> np.ndarray:
    """(M, rows, cols) -> int32 (M, rows, cols): steps to G, -1 for walls and for cells that cannot reach it.

    Breadth-first over all mazes together, one array operation per step. Path cells are free; of several G the nearest
    counts.
    """
    grids = _as_grids(grids)
    walled = _surround(grids, WALL)  # so that a step off the grid meets a wall
    cells = walled.ravel()
    steps = _steps_by_rule(walled.shape[2])
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


def are_questions(grids: np.ndarray) -> np.ndarray:
    """(M,) bool: which grids (M, rows, cols) have one S, one G, no path cell, and a way from S to G."""
    grids = _as_grids(grids)
    counts = [(grids == number).sum(axis=(1, 2)) for number in (START, GOAL, PATH)]
    return (counts[0] == 1) & (counts[1] == 1) & (counts[2] == 0) & (_steps_from_start(grids) > 0)


def follow_rule(questions: np.ndarray) -> np.ndarray:
    """The one shortest path that labels show: (M, rows, cols) -> uint8 (M, rows, cols), S and G kept.

    A maze mostly has very many shortest paths. The labels of the published data set choose by one rule: from S on, go
    to the first of the neighbours Down, Left, Right, Up that is one step nearer to G. Flips and rotations of a maze do
    not keep the rule. Raises PuzzleError naming the first maze that is no question.
    """
    questions = _as_grids(questions)
    right = are_questions(questions)
    if not right.all():
        number = int(np.argmin(right))
        try:
            check_question(questions[number])
        except PuzzleError as error:
            raise PuzzleError(f"maze {number}: {error}") from error
    distances = _surround(distances_to_goal(questions), -1)
    steps = _steps_by_rule(distances.shape[2])
    walled = _surround(questions, WALL)
    cells, distances = walled.ravel(), distances.ravel()
    walkers = np.flatnonzero(cells == START)  # (M,), a place in `cells` each
    while (walkers := walkers[distances[walkers] > 1]).size:  # those at 1 stand beside G
        near = walkers[:, None] + steps  # (walkers, 4)
        is_nearer = distances[near] == distances[walkers][:, None] - 1
        walkers = near[np.arange(len(near)), is_nearer.argmax(axis=1)]
        cells[walkers] = PATH
    return walled[:, 1:-1, 1:-1].copy()


def path_checks(questions: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(valid, shortest), both (M,) bool, for questions and answers (M, rows, cols) of cell numbers.

    valid: walls, S and G are kept, path cells lie on free cells, and S, G and the path cells are one path from S to G
    that neither branches nor touches itself: S and G have one neighbour on it, each path cell has two, and all hang
    together. shortest: valid, and no path is shorter. A question without exactly one S and one G has no valid answer.
    """
    questions, answers = _as_grids(questions), _as_grids(answers)
    if questions.shape != answers.shape:
        raise PuzzleError(f"questions have the shape {questions.shape}, answers {answers.shape}: give one answer each")
    valid = (np.where(answers == PATH, FREE, answers) == questions).all(axis=(1, 2))
    for number in (START, GOAL):
        valid &= (questions == number).sum(axis=(1, 2)) == 1
    on_path = answers >= START
    fits = _marked_neighbours(on_path) == np.where(answers == PATH, 2, 1)
    valid &= (fits | ~on_path).all(axis=(1, 2))
    # The cells that pass so far are one path from S to G and perhaps rings apart from it.
    reached = distances_to_goal(np.where(on_path, answers, WALL)) >= 0
    valid &= (reached == on_path).all(axis=(1, 2))
    return valid, valid & (on_path.sum(axis=(1, 2)) - 1 == _steps_from_start(questions))


def class_keys(grids: np.ndarray) -> list[bytes]:
    """One key per grid (M, rows, cols), equal for grids that are equal under one of the 8 dihedral symmetries."""
    grids = _as_grids(grids)
    turns = range(8) if grids.shape[1] == grids.shape[2] else (0, 2, 4, 5)  # the others swap the sides
    views = [np.ascontiguousarray(dihedral(grids, k)) for k in turns]
    return [min(view[number].tobytes() for view in views) for number in range(len(grids))]


def _steps_by_rule(width: int) -> np.ndarray:
    """Down, Left, Right, Up as differences of places in a raveled grid of this width."""
    return np.array([width, -1, 1, -width])


def _surround(grids: np.ndarray, value: int) -> np.ndarray:
    """(M, rows, cols) -> (M, rows + 2, cols + 2), a copy in row-major order within a frame of `value`."""
    framed = np.full((len(grids), grids.shape[1] + 2, grids.shape[2] + 2), value, grids.dtype)
    framed[:, 1:-1, 1:-1] = grids
    return framed


def _marked_neighbours(marked: np.ndarray) -> np.ndarray:
    """(M, rows, cols) bool -> uint8 of the same shape: how many of the four neighbours are marked."""
    around = _surround(marked, False).astype(np.uint8)
    return around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]


def _steps_from_start(grids: np.ndarray) -> np.ndarray:
    """(M,) int32: least number of steps from S to G, -1 if there is no way or no S."""
    return distances_to_goal(grids).max(axis=(1, 2), where=grids == START, initial=-1)


# The forms of a puzzle


def _parse_text(text: str, grid_shape: tuple[int, int] | None) -> np.ndarray:
    if len(text) > 3 * _MAX_CELLS:  # a cell and an end of line each
        raise PuzzleError(f"a text of {len(text)} characters is no maze: at most {_MAX_CELLS} cells are allowed")
    text = text.replace("\r\n", "\n").removesuffix("\n")
    if "\n" in text:
        return _parse_lines(text.split("\n"), grid_shape)
    rows, cols = _shape_of(len(text), "characters", grid_shape)
    return _parse_lines([text[start : start + cols] for start in range(0, rows * cols, cols)], grid_shape)


def _parse_lines(lines: list[str], grid_shape: tuple[int, int] | None) -> np.ndarray:
    _check_rows(lines, "characters", grid_shape)
    cells = []
    for i, line in enumerate(lines):
        for j, character in enumerate(line):
            if character not in CHARACTERS:
                raise PuzzleError(f"{character!r} at {_place(i, j)} is not allowed: {_ALLOWED}")
        cells.append([CHARACTERS.index(character) for character in line])
    return np.array(cells, np.uint8)


def _parse_list(rows: list | tuple, grid_shape: tuple[int, int] | None) -> np.ndarray:
    if len(rows) > _MAX_CELLS:
        raise PuzzleError(f"a list of {len(rows)} entries is no maze: at most {_MAX_CELLS} cells are allowed")
    if not any(isinstance(row, str | list | tuple | np.ndarray) for row in rows):
        _, cols = _shape_of(len(rows), "cells", grid_shape)
        rows = [rows[start : start + cols] for start in range(0, len(rows), cols)]
    if all(isinstance(row, str) for row in rows):
        return _parse_lines(list(rows), grid_shape)
    for i, row in enumerate(rows):
        if not isinstance(row, list | tuple | np.ndarray) or isinstance(row, np.ndarray) and row.ndim != 1:
            raise PuzzleError(f"row {i + 1} is a {type(row).__name__}, not a list of cells like the others")
    _check_rows(rows, "cells", grid_shape)
    return np.array([[_cell(value, i, j) for j, value in enumerate(row)] for i, row in enumerate(rows)], np.uint8)


def _parse_array(array: np.ndarray, grid_shape: tuple[int, int] | None) -> np.ndarray:
    if array.dtype.kind not in "iufbO":
        raise PuzzleError(f"an array of {array.dtype} is no maze: {_ALLOWED}")
    if array.ndim not in (1, 2) or array.size > _MAX_CELLS:
        raise PuzzleError(
            f"an array of shape {array.shape} is no maze: give (rows, cols) or (rows * cols,) with at most "
            f"{_MAX_CELLS} cells"
        )
    return _parse_list(array.tolist(), grid_shape)


def _check_rows(rows: list, unit: str, grid_shape: tuple[int, int] | None) -> None:
    """PuzzleError unless all rows are as long as the first and the grid has an allowed, or the wanted, shape."""
    wanted_rows, wanted_cols = grid_shape or (len(rows), len(rows[0]))
    if grid_shape and len(rows) != wanted_rows:
        raise PuzzleError(f"this maze has {len(rows)} rows, {_size(grid_shape)} cells are wanted")
    for i, row in enumerate(rows):
        if len(row) != wanted_cols:
            wanted = f"{_size(grid_shape)} cells are wanted" if grid_shape else f"row 1 has {wanted_cols}"
            raise PuzzleError(f"row {i + 1} has {len(row)} {unit}, {wanted} (spaces are cells, also at a line's end)")
    check_grid_shape((wanted_rows, wanted_cols))


def _shape_of(count: int, unit: str, grid_shape: tuple[int, int] | None) -> tuple[int, int]:
    """The shape of a flat maze; PuzzleError if it has another number of cells, or is no square."""
    if grid_shape is not None:
        if count != grid_shape[0] * grid_shape[1]:
            raise PuzzleError(f"this maze has {count} {unit}, {_size(grid_shape)} cells are wanted")
        return grid_shape
    side = math.isqrt(count)
    if side * side != count or side < 2:
        raise PuzzleError(
            f"this maze has {count} {unit} in one run, which is no square: give lines or its rows and columns"
        )
    return side, side


def _cell(value: object, row: int, col: int) -> int:
    """One entry of a list as a cell number 0..4."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or value != value or not 0 <= value <= PATH or value != int(value):
        raise PuzzleError(f"{shown(value, depth=0)} at {_place(row, col)} is not allowed: {_ALLOWED}")
    return int(value)


def _place(row: int, col: int) -> str:
    return f"row {row + 1}, column {col + 1}"


def _size(grid_shape: tuple[int, ...]) -> str:
    return "x".join(map(str, grid_shape))


def _as_grids(grids: np.ndarray) -> np.ndarray:
    """(M, rows, cols) uint8; PuzzleError for another shape or other values."""
    grids = np.asarray(grids)
    if grids.ndim != 3 or 0 in grids.shape[1:]:
        raise PuzzleError(f"grids must have the shape (M, rows, cols), got {grids.shape}")
    _check_cells(grids)
    return grids.astype(np.uint8, copy=False)


def _check_cells(cells: np.ndarray) -> None:
    if cells.dtype.kind not in "iu":
        raise PuzzleError(f"a grid must hold integers from 0 to {PATH}, got {cells.dtype}")
    if cells.size and not (int(cells.min()) >= 0 and int(cells.max()) <= PATH):
        bad = int(cells.min()) if int(cells.min()) < 0 else int(cells.max())
        raise PuzzleError(f"a grid must hold integers from 0 to {PATH}, got {bad}")
