"""Generated Sudokus: one solution each, no two of one class, the givens asked for."""

import numpy as np
import pytest
from sudoku_grids import all_4x4

from hrm_hf.games.sudoku_answers import are_solutions
from hrm_hf.games.sudoku_generator import _dig, generate
from hrm_hf.games.sudoku_solver import Board, solve
from hrm_hf.games.sudoku_symmetry import class_keys
from hrm_hf.hrm.errors import PuzzleError


@pytest.fixture(scope="module")
def grids_4x4():
    return all_4x4()


@pytest.mark.parametrize(
    "box_shape, num", [((2, 2), 300), ((2, 3), 30), ((3, 2), 10), ((2, 4), 3), ((3, 3), 8), ((3, 4), 3), ((4, 4), 2)]
)
def test_generated_puzzles_have_one_solution_and_differ(box_shape, num):
    questions, answers = generate(num, box_shape, np.random.default_rng(10))
    n = box_shape[0] * box_shape[1]
    assert questions.shape == answers.shape == (num, n, n) and questions.dtype == answers.dtype == np.uint8
    assert are_solutions(questions, answers, box_shape).all()
    for question, answer in zip(questions, answers, strict=True):
        count, first = solve(question, box_shape)
        assert count == 1 and (first == answer).all()
    assert len(set(class_keys(questions, box_shape))) == num
    givens = np.count_nonzero(questions, axis=(1, 2))
    assert givens.max() <= n * n // 2 and len(set(givens.tolist())) > 1
    again = generate(num, box_shape, np.random.default_rng(10))
    np.testing.assert_array_equal(again, (questions, answers))
    assert not np.array_equal(generate(num, box_shape, np.random.default_rng(11))[0], questions)


def test_generated_4x4_puzzles_are_unique_by_the_list_of_all_grids(grids_4x4):
    questions, _ = generate(200, (2, 2), np.random.default_rng(12))
    for question in questions:
        assert ((question == 0) | (grids_4x4 == question)).all(axis=(1, 2)).sum() == 1


def test_generator_keeps_the_number_of_givens():
    questions, _ = generate(5, (3, 3), np.random.default_rng(13), max_givens=32)
    assert all(20 <= givens <= 32 for givens in np.count_nonzero(questions, axis=(1, 2)))
    questions, _ = generate(20, (2, 2), np.random.default_rng(13), max_givens=5)
    assert np.count_nonzero(questions, axis=(1, 2)).max() == 5


def test_generator_takes_away_all_it_can():
    generator = np.random.default_rng(14)
    for _ in range(3):
        question, _ = _dig(Board((3, 3)), 0, generator)
        for cell in np.flatnonzero(question):
            fewer = question.copy()
            fewer.flat[cell] = 0
            assert solve(fewer, (3, 3))[0] == 2


def test_generator_says_how_many_classes_it_found():
    # Known: 13 classes of 4x4 puzzles with 4 givens, counted by going through all subsets of cells of both full grids.
    assert len(generate(13, (2, 2), np.random.default_rng(15), max_givens=4)[0]) == 13
    with pytest.raises(PuzzleError, match="found only 13 of 14 4x4 puzzles with 4 to 4 givens"):
        generate(14, (2, 2), np.random.default_rng(15), max_givens=4)


@pytest.mark.parametrize(
    "box_shape, num, limits, message",
    [
        ((2, 2), 0, {}, "not 0"),
        ((2, 2), 1, {"max_givens": 3}, "max_givens 3.*4 to 16"),
        ((3, 3), 1, {"max_givens": 16}, "max_givens 16.*17 to 81"),
        ((3, 3), 1, {"max_givens": 82}, "max_givens 82"),
    ],
)
def test_generator_refuses_impossible_wishes(box_shape, num, limits, message):
    with pytest.raises(PuzzleError, match=message):
        generate(num, box_shape, np.random.default_rng(0), **limits)
