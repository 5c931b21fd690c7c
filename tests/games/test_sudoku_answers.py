"""Answers to Sudokus: which are right, what is wrong with one, and guessed ones."""

import numpy as np
import pytest
from sudoku_grids import ANSWER, QUESTION, full_grid

from hrm_hf.games.sudoku_answers import are_solutions, check_answer, guess_among_candidates
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.sudoku import check_givens, is_solution, parse


def test_check_answer_says_what_is_wrong():
    question, answer = parse(QUESTION), parse(ANSWER)
    check_answer(QUESTION, ANSWER, (3, 3))
    assert is_solution(question, answer, (3, 3))
    blank = answer.copy()
    blank[8, 0] = 0
    other = answer.copy()
    other[answer == 5], other[answer == 3] = 3, 5
    twice = answer.copy()
    twice[0, 2] = 1
    for wrong, message in (
        (blank, "not complete: row 9, column 1"),
        (other, "givens: row 1, column 1 is given as 5, answered as 3"),
        (twice, "digit 1 stands twice in row 1: at row 1, column 3 and at row 1, column 8"),
        (answer[:8], "8 x 9 cells; expected 9 x 9"),
    ):
        with pytest.raises(PuzzleError, match=message):
            check_answer(question, wrong, (3, 3))
        assert not is_solution(question, wrong, (3, 3))
    many = are_solutions(np.stack([question] * 4), np.stack([answer, blank, other, twice]), (3, 3))
    assert many.tolist() == [True, False, False, False]


def test_guesses_are_uniform_among_the_candidates():
    question = np.zeros((9, 9), np.uint8)
    question[0, 3:6] = [1, 2, 3]  # row
    question[4:6, 0] = [4, 5]  # column
    question[1, 1] = 6  # box: 7, 8 and 9 are left for the cell in row 1, column 1
    questions = np.stack([question] * 6000)
    guesses = guess_among_candidates(questions, (3, 3), np.random.default_rng(16))
    assert guesses.dtype == np.uint8
    np.testing.assert_array_equal(guesses[questions > 0], questions[questions > 0])
    counts = np.bincount(guesses[:, 0, 0], minlength=10)
    assert counts[:7].tolist() == [0] * 7 and np.abs(counts[7:] - 2000).max() < 200
    again = guess_among_candidates(questions, (3, 3), np.random.default_rng(16))
    np.testing.assert_array_equal(again, guesses)


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 2)])
def test_guesses_keep_to_row_column_and_box(box_shape):
    generator = np.random.default_rng(17)
    grid = full_grid(box_shape)
    questions = np.where(generator.random((50, *grid.shape)) < 0.5, grid, 0)
    guesses = guess_among_candidates(questions, box_shape, generator)
    assert guesses.all()
    for question, guess in zip(questions, guesses, strict=True):
        for cell in np.argwhere(question == 0):
            single = question.copy()
            single[tuple(cell)] = guess[tuple(cell)]
            check_givens(single, box_shape)


def test_a_blank_that_no_digit_fits_stays_blank():
    question = np.array([[1, 2, 3, 0], [0, 0, 4, 0], [0] * 4, [0] * 4])
    guesses = guess_among_candidates(question[None], (2, 2), np.random.default_rng(18))
    assert guesses[0, 0, 3] == 0 and np.count_nonzero(guesses[0] == 0) == 1
