"""Answers to mazes: the shortest path that labels show, which of many are questions, what is wrong with one answer."""

import numpy as np

from ..hrm import maze
from ..hrm.errors import PuzzleError
from ..hrm.grids import place
from ..hrm.maze import FREE, GOAL, PATH, START, WALL, check_question

_NAMES = ("a wall", "free", "S", "G", "path")  # of the cell numbers


def are_questions(grids: np.ndarray) -> np.ndarray:
    """(M,) bool: which grids (M, rows, cols) have one S, one G, no path cell, and a way from S to G."""
    grids = maze.as_grids(grids)
    counts = [(grids == number).sum(axis=(1, 2)) for number in (START, GOAL, PATH)]
    return (counts[0] == 1) & (counts[1] == 1) & (counts[2] == 0) & (maze.steps_from_start(grids) > 0)


def follow_rule(questions: np.ndarray) -> np.ndarray:
    """The one shortest path that labels show: (M, rows, cols) -> uint8 (M, rows, cols), S and G kept.

    A maze mostly has very many shortest paths. The labels of the published data set choose by one rule: from S on, go
    to the first of the neighbours Down, Left, Right, Up that is one step nearer to G. Flips and rotations of a maze do
    not keep the rule. Raises PuzzleError naming the first maze that is no question.
    """
    questions = maze.as_grids(questions)
    for number in np.flatnonzero(~are_questions(questions)):
        try:
            check_question(questions[number])
        except PuzzleError as error:
            raise PuzzleError(f"maze {number}: {error}") from error
    distances = maze.surround(maze.distances_to_goal(questions), -1)
    steps = maze.steps_by_rule(distances.shape[2])
    walled = maze.surround(questions, WALL)
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

    question, answer: grids as of `maze.to_text`. What a valid path is: see `maze.path_checks`.
    """
    question, answer = maze.own_grid(question), maze.own_grid(answer)
    check_question(question)
    if question.shape != answer.shape:
        raise PuzzleError(f"the answer is a grid of {answer.shape}, the question of {question.shape}")
    for row, col in np.argwhere(np.where(answer == PATH, FREE, answer) != question):
        was, now = _NAMES[question[row, col]], _NAMES[answer[row, col]]
        raise PuzzleError(f"{place(row, col)} is {was} in the question, {now} here")
    on_path, excess = answer >= START, maze.path_excess(answer[None])[0]
    reached = maze.distances_to_goal(np.where(on_path, answer, WALL)[None])[0] >= 0
    for wrong, problem in (
        (excess > 0, "the path branches or touches itself at {}"),
        (excess < 0, "the path breaks off at {}"),
        (~reached, "{} is marked but does not lie on the path from S to G"),
    ):
        for cell in np.argwhere(on_path & wrong):
            raise PuzzleError(problem.format(place(*cell)))
