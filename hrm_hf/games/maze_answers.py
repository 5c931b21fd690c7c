"""Answers to mazes: which of many are questions, which answers are paths and shortest ones, the path that labels show;
and what is wrong with one answer.
"""

import numpy as np

from ..hrm import maze
from ..hrm.errors import PuzzleError
from ..hrm.grids import check_grids, place
from ..hrm.maze import FREE, GOAL, PATH, START, WALL, check_question

_NAMES = ("a wall", "free", "S", "G", "path")  # of the cell numbers


def are_questions(grids: np.ndarray) -> np.ndarray:
    """(M,) bool: which grids (M, rows, cols) have one S, one G, no path cell, and a way from S to G."""
    grids = as_grids(grids)
    counts = [(grids == number).sum(axis=(1, 2)) for number in (START, GOAL, PATH)]
    return (counts[0] == 1) & (counts[1] == 1) & (counts[2] == 0) & (steps_from_start(grids) > 0)


def follow_rule(questions: np.ndarray) -> np.ndarray:
    """The one shortest path that labels show: (M, rows, cols) -> uint8 (M, rows, cols), S and G kept.

    A maze mostly has very many shortest paths. The labels of the published data set choose by one rule: from S on, go
    to the first of the neighbours Down, Left, Right, Up that is one step nearer to G. Flips and rotations of a maze do
    not keep the rule. Raises PuzzleError naming the first maze that is no question.
    """
    questions = as_grids(questions)
    for number in np.flatnonzero(~are_questions(questions)):
        try:
            check_question(questions[number])
        except PuzzleError as error:
            raise PuzzleError(f"maze {number}: {error}") from error
    distances = surround(distances_to_goal(questions), -1)
    steps = steps_by_rule(distances.shape[2])
    walled = surround(questions, WALL)
    cells, distances = walled.ravel(), distances.ravel()
    walkers = np.flatnonzero(cells == START)  # (M,), a place in `cells` each
    while (walkers := walkers[distances[walkers] > 1]).size:  # those at 1 stand beside G
        near = walkers[:, None] + steps  # (walkers, 4)
        is_nearer = distances[near] == distances[walkers][:, None] - 1
        walkers = near[np.arange(len(near)), is_nearer.argmax(axis=1)]
        cells[walkers] = PATH
    return walled[:, 1:-1, 1:-1].copy()


def check_answer(question: object, answer: object) -> None:
    """Raises PuzzleError, saying what is wrong and where, unless the answer is a valid path through the question.

    question, answer: grids as of `maze.draw`. What a valid path is: see `path_checks`.
    """
    question, answer = maze.own_grid(question), maze.own_grid(answer)
    check_question(question)
    if question.shape != answer.shape:
        raise PuzzleError(f"the answer is a grid of {answer.shape}, the question of {question.shape}")
    for row, col in np.argwhere(np.where(answer == PATH, FREE, answer) != question):
        was, now = _NAMES[question[row, col]], _NAMES[answer[row, col]]
        raise PuzzleError(f"{place(row, col)} is {was} in the question, {now} here")
    on_path, excess = answer >= START, path_excess(answer[None])[0]
    reached = distances_to_goal(np.where(on_path, answer, WALL)[None])[0] >= 0
    for wrong, problem in (
        (excess > 0, "the path branches or touches itself at {}"),
        (excess < 0, "the path breaks off at {}"),
        (~reached, "{} is marked but does not lie on the path from S to G"),
    ):
        for cell in np.argwhere(on_path & wrong):
            raise PuzzleError(problem.format(place(*cell)))


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


def path_scores(inputs: np.ndarray, predictions: np.ndarray, grid_shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """`valid_path` and `shortest_path`, (N,) 0.0 or 1.0 each, of token ids (N, S), S = rows * columns."""
    questions, answers = (maze.decode(np.asarray(ids).reshape(-1, *grid_shape)) for ids in (inputs, predictions))
    valid, shortest = path_checks(questions, answers)  # (N,) bool each
    return {"valid_path": valid.astype(np.float64), "shortest_path": shortest.astype(np.float64)}


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
