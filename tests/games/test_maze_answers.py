"""Answers to mazes: the rule of the labels, what is wrong with one, by mazes solved by hand and plain searches."""

import itertools

import numpy as np
import pytest
from maze_grids import BY_HAND, BY_RULE, QUESTION, plain_distances, plain_paths, random_grids

from hrm_hf.games.maze_answers import (
    are_questions,
    check_answer,
    distances_to_goal,
    follow_rule,
    path_checks,
    path_scores,
)
from hrm_hf.games.maze_generator import generate_mazes
from hrm_hf.hrm import maze
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.maze import FREE, GOAL, PATH, START, WALL, parse
from hrm_hf.hrm.symmetry import dihedral

OPEN = "S   \n    \n    \n   G"


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (QUESTION, BY_RULE.replace("S", " "), "row 1, column 1 is S in the question, free here"),
        (QUESTION, BY_RULE.replace("#", " ", 1), "row 1, column 4 is a wall in the question, free here"),
        (QUESTION, BY_RULE.replace("#", "o", 1), "row 1, column 4 is a wall in the question, path here"),
        (QUESTION, BY_RULE.replace("ooo", "oo#"), "row 3, column 3 is free in the question, a wall here"),
        (QUESTION, BY_RULE.replace("ooo", "ooG"), "row 3, column 3 is free in the question, G here"),
        (QUESTION, QUESTION, "breaks off at row 1, column 1"),
        (QUESTION, "S  #\no# #\noo G", "breaks off at row 3, column 2"),
        (OPEN, "So  \n oo \n  oo\n   G", None),
        (OPEN, "So  \n o  \noooo\n  oG", "branches or touches itself at row 3, column 2"),
        (OPEN, "So  \noo  \n o  \n oooG", "row 4 has 5"),
        (OPEN, "So  \noo  \n o  \n ooG", "branches or touches itself at row 1, column 1"),
        (OPEN, "Sooo\n   o\noo o\noo G", "row 3, column 1 is marked but does not lie on the path"),
        (OPEN, "Sooo\n   o\no  o\no  G", "breaks off at row 3, column 1"),
        (OPEN, "S oo\n  oo\n    \n   G", "breaks off at row 1, column 1"),
        (OPEN, "So  \n    \n    \n  oG", "breaks off at row 1, column 2"),
        ("S G", "SoG ", "the answer is a grid of"),
    ],
)
def test_check_answer_says_what_is_wrong_and_where(question, answer, message):
    answer = answer.split("\n")
    question = question.split("\n")
    assert maze.is_solution(question, answer) == (message is None)
    if message is None:
        check_answer(question, answer)
        return
    with pytest.raises(PuzzleError, match=message):
        check_answer(question, answer)


@pytest.mark.parametrize(("question", "answer", "steps"), BY_HAND)
def test_mazes_solved_by_hand(question, answer, steps):
    question, answer = parse(question.split("\n")), parse(answer.split("\n"))
    maze.check_question(question)
    check_answer(question, answer)
    np.testing.assert_array_equal(follow_rule(question[None])[0], answer)
    assert distances_to_goal(question[None])[0][question == START] == steps
    assert [check.tolist() for check in path_checks(question[None], answer[None])] == [[True], [True]]


def test_are_questions_agrees_with_the_check_of_one():
    grids = random_grids(100, (3, 3), seed=5, values=(WALL, WALL, FREE, FREE, FREE, FREE, FREE, FREE, GOAL, PATH))
    right = are_questions(grids)
    assert 10 < right.sum() < 90
    for grid, is_right in zip(grids, right, strict=True):
        if is_right:
            maze.check_question(grid)
        else:
            with pytest.raises(PuzzleError):
                maze.check_question(grid)


def test_the_rule_takes_down_left_right_up():
    question, answer = parse(QUESTION), parse(BY_RULE)
    lost = 0
    for k in range(8):
        view = follow_rule(dihedral(question, k)[None])[0]
        check_answer(dihedral(question, k), view)
        lost += not np.array_equal(view, dihedral(answer, k))
    assert lost > 0  # the rule does not survive flips and rotations


def test_the_rule_equals_a_walk_by_hand():
    questions, answers = generate_mazes(30, (7, 9), np.random.default_rng(6), min_steps=8)
    for question, answer in zip(questions, answers, strict=True):
        distances = plain_distances(question)
        expected = question.copy()
        row, col = np.argwhere(question == START)[0].tolist()
        while distances[row, col] > 1:
            for i, j in ((row + 1, col), (row, col - 1), (row, col + 1), (row - 1, col)):
                inside = 0 <= i < question.shape[0] and 0 <= j < question.shape[1]
                if inside and distances[i, j] == distances[row, col] - 1:
                    row, col = i, j
                    break
            expected[row, col] = PATH
        np.testing.assert_array_equal(answer, expected)
    valid, shortest = path_checks(questions, answers)
    assert valid.all() and shortest.all()


def test_the_rule_names_the_maze_that_is_none():
    grids = np.stack([parse("SG \n   "), parse("S# \n# G")])
    with pytest.raises(PuzzleError, match="maze 1: no way leads from S at row 1, column 1"):
        follow_rule(grids)


# Many mazes at once


def test_longer_paths_are_valid_but_not_shortest():
    question, straight, detour = "S    \n   # \nG    ", "S    \no  # \nG    ", "Soo  \n  o# \nGoo  "
    grids = [parse(text) for text in (question, straight, detour)]
    valid, shortest = path_checks(np.stack([grids[0]] * 3), np.stack(grids))
    assert valid.tolist() == [False, True, True] and shortest.tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(1, 7), (6, 1), (2, 2), (5, 8), (12, 12)])
def test_distances_equal_those_of_a_plain_search(shape):
    grids = random_grids(40, shape, seed=1)
    distances = distances_to_goal(grids)
    assert distances.dtype == np.int32 and distances.shape == grids.shape
    np.testing.assert_array_equal(distances, np.stack([plain_distances(grid) for grid in grids]))


def test_distances_without_a_goal_and_of_no_maze():
    assert (distances_to_goal(np.full((1, 2, 2), FREE)) == -1).all()
    assert distances_to_goal(np.zeros((0, 3, 4), np.uint8)).shape == (0, 3, 4)
    for bad, message in ((np.zeros((3, 3), int), r"\(3, 3\)"), (np.full((1, 2, 2), 5), "got 5")):
        with pytest.raises(PuzzleError, match=message):
            distances_to_goal(bad)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_path_checks_equal_trying_every_marking(shape):
    questions = [grid for grid in random_grids(8, shape, seed=2) if (grid == FREE).sum() <= 6]
    assert len(questions) >= 4
    for question in questions:
        free = [tuple(cell) for cell in np.argwhere(question == FREE).tolist()]
        paths = plain_paths(question)
        fewest = min(map(len, paths), default=None)
        markings = [
            chosen for size in range(len(free) + 1) for chosen in map(frozenset, itertools.combinations(free, size))
        ]
        answers = np.stack([question] * len(markings))
        for answer, marking in zip(answers, markings, strict=True):
            for cell in marking:
                answer[cell] = PATH
        valid, shortest = path_checks(np.stack([question] * len(markings)), answers)
        assert valid.tolist() == [marking in paths for marking in markings]
        assert shortest.tolist() == [marking in paths and len(marking) == fewest for marking in markings]
        assert [maze.is_solution(question, answer) for answer in answers] == valid.tolist()


def test_path_checks_keep_the_question():
    questions, answers = generate_mazes(20, (6, 7), np.random.default_rng(3))
    generator = np.random.default_rng(4)
    for question, answer in zip(questions, answers, strict=True):
        changed = np.stack([answer] * 60)
        for other in changed:  # one cell anew; shortest paths have no valid neighbour of one cell
            other.flat[generator.integers(answer.size)] = generator.integers(5)
        is_same = (changed == answer).all(axis=(1, 2))
        valid, shortest = path_checks(np.stack([question] * 60), changed)
        np.testing.assert_array_equal(valid, is_same)
        np.testing.assert_array_equal(shortest, is_same)


def test_questions_and_answers_must_fit():
    grid = parse(QUESTION)[None]
    with pytest.raises(PuzzleError, match="one answer each"):
        path_checks(grid, np.concatenate([grid, grid]))
    no_goal = np.where(grid == GOAL, FREE, grid)
    assert [check.tolist() for check in path_checks(no_goal, no_goal)] == [[False], [False]]


def ids(text: str) -> np.ndarray:
    return maze.CODEC.encode(parse(text), None).ravel()


def test_scores_tell_valid_and_shortest_apart():
    predictions = {
        "S  \no# \noG ": (1.0, 1.0),
        "Soo\n #o\n Go": (1.0, 0.0),  # round the other side of the wall
        "S o\n #o\n Go": (0.0, 0.0),
        "S  \no# \noG#": (0.0, 0.0),  # a wall where there is none
    }
    inputs = np.stack([ids("S  \n # \n G ")] * len(predictions))
    scores = path_scores(inputs, np.stack([ids(text) for text in predictions]), (3, 3))
    assert list(scores) == ["valid_path", "shortest_path"]
    assert list(zip(*(scores[name].tolist() for name in scores))) == list(predictions.values())
    assert all(score.dtype == np.float64 for score in scores.values())


def test_padded_rows_have_scores_too():
    scores = path_scores(np.zeros((2, 9), np.int64), np.zeros((2, 9), np.int64), (3, 3))
    assert scores["valid_path"].tolist() == [0.0, 0.0]
