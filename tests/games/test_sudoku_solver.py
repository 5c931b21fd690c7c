"""The exact solvers: all 4x4 grids, one, several and no solutions."""

import numpy as np
import pytest
from sudoku_grids import ANSWER, QUESTION, all_4x4

from hrm_hf.games.sudoku_answers import are_solutions
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.games.sudoku_solver import solve, solve_many
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.sudoku import parse, write


@pytest.fixture(scope="module")
def grids_4x4():
    return all_4x4()


def test_solver_counts_the_4x4_grids(grids_4x4):
    count, first = solve(np.zeros((4, 4), int), (2, 2), limit=1000)
    assert count == 288 and first.tolist() in grids_4x4.tolist()
    assert solve(np.zeros((4, 4), int), (2, 2), limit=7)[0] == 7


def test_solver_agrees_with_the_list_of_all_4x4_grids(grids_4x4):
    generator = np.random.default_rng(9)
    for _ in range(100):
        puzzle = grids_4x4[generator.integers(288)] * (generator.random((4, 4)) < 0.4)
        fitting = grids_4x4[((puzzle == 0) | (grids_4x4 == puzzle)).all(axis=(1, 2))]
        count, first = solve(puzzle, (2, 2), limit=500)
        assert count == len(fitting) and first.tolist() in fitting.tolist()


def test_solver_finds_the_one_solution_of_9x9():
    count, first = solve(parse(QUESTION), (3, 3))
    assert count == 1 and write(first) == ANSWER


def test_solver_sees_several_and_no_solutions():
    grid = parse(ANSWER)
    assert solve(np.where(grid <= 2, 0, grid), (3, 3))[0] == 2  # 1 and 2 can be exchanged everywhere
    none = np.zeros((9, 9), int)
    none[0, :8], none[4, 8] = range(1, 9), 9  # the last cell of row 1 needs the 9 that its column has
    assert solve(none, (3, 3)) == (0, None)
    none[:] = 0
    none[0, 0] = none[0, 5] = 3
    assert solve(none, (3, 3)) == (0, None)
    none[:] = 0
    none[1, 3] = none[2, 6] = 1
    none[0, 0], none[0, 1], none[0, 2] = 2, 3, 4  # the 1 of row 1 finds no place
    assert solve(none, (3, 3)) == (0, None)


@pytest.mark.parametrize("grid", [np.zeros((9, 9)), np.full((9, 9), 10), np.zeros((4, 4), int)])
def test_solver_refuses_other_grids(grid):
    with pytest.raises(PuzzleError, match=r"shape \(M, 9, 9\)|integers from 0 to 9"):
        solve(grid, (3, 3))


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (1, 5), (3, 3)])
def test_many_at_once_are_solved_as_one_by_one(box_shape):
    generator = np.random.default_rng(0)
    questions, answers = generate(30, box_shape, generator)
    counts, found = solve_many(questions, box_shape)
    assert counts.tolist() == [1] * 30
    np.testing.assert_array_equal(found, answers)
    questions[generator.random(questions.shape) < 0.2] = 0
    questions[::5, 0, 0] = 1 + questions[::5, 0, 0] % box_shape[1]
    for limit in (1, 2, 4):
        counts, found = solve_many(questions, box_shape, limit)
        assert counts.tolist() == [solve(question, box_shape, limit)[0] for question in questions]
        assert are_solutions(questions[counts > 0], found[counts > 0], box_shape).all()
        assert not found[counts == 0].any()
    assert {0, 1, 4} <= set(counts.tolist())


def test_many_at_once_of_all_4x4_grids(grids_4x4):
    assert solve_many(np.zeros((2, 4, 4), int), (2, 2), limit=1000)[0].tolist() == [288, 288]
    assert solve_many(np.zeros((0, 4, 4), int), (2, 2))[0].tolist() == []


def test_what_a_limit_of_steps_leaves_open_is_told():
    questions = generate(20, (3, 3), np.random.default_rng(0))[0]
    counts, _ = solve_many(questions, (3, 3), max_steps=1)
    assert counts.tolist() == [-1] * 20
    steps = np.array([(solve_many(questions, (3, 3), max_steps=steps)[0] == 1).sum() for steps in range(0, 400, 40)])
    assert steps[0] == 0 and steps[-1] == 20 and (np.diff(steps) >= 0).all()
    assert solve_many(np.zeros((1, 9, 9), int), (3, 3), max_steps=5)[0].tolist() == [-1]
