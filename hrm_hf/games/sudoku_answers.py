"""Answers to Sudokus: which of many are right, what is wrong with one, and guesses as a baseline."""

from functools import lru_cache

import numpy as np

from ..hrm.errors import PuzzleError
from ..hrm.grids import check_grids, place
from ..hrm.sudoku import SYMBOLS, check_box_shape, check_givens, parse

_CHUNK_PUZZLES = 4096  # puzzles guessed at once


def are_solutions(questions: np.ndarray, answers: np.ndarray, box_shape: tuple[int, int]) -> np.ndarray:
    """(M,) bool: which answers are full valid grids that keep the givens; both (M, n, n) integers 0..n, 0 = blank."""
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    questions, answers = (check_sudokus(grids, n) for grids in (questions, answers))
    if questions.shape != answers.shape:
        raise PuzzleError(f"{len(questions)} questions and {len(answers)} answers: give one answer per question")
    bits = np.uint32(1) << answers.astype(np.uint32)  # digit d -> bit d
    boxes = bits.reshape(-1, cols, rows, rows, cols).transpose(0, 1, 3, 2, 4).reshape(-1, n, n)
    right = ((questions == 0) | (questions == answers)).all(axis=(1, 2))
    for lines in (bits, bits.transpose(0, 2, 1), boxes):
        # n cells fill the bits 1..n only if each digit occurs once.
        right &= (np.bitwise_or.reduce(lines, axis=2) == (1 << (n + 1)) - 2).all(axis=1)
    return right


def check_answer(question: object, answer: object, box_shape: tuple[int, int]) -> None:
    """Raises PuzzleError unless the answer is a full valid grid that keeps the question's givens; it says where not.

    question, answer: anything that `sudoku.parse` reads.
    """
    question, answer = parse(question, box_shape), parse(answer, box_shape)
    if not answer.all():
        raise PuzzleError(f"the answer is not complete: {place(*np.argwhere(answer == 0)[0])} is blank")
    for cell in np.argwhere((question != 0) & (question != answer)):
        given, found = (SYMBOLS[grid[*cell]] for grid in (question, answer))
        problem = f"{place(*cell)} is given as {given}, answered as {found}"
        raise PuzzleError(f"the answer does not keep the givens: {problem}")
    check_givens(answer, box_shape)


def guess_among_candidates(
    questions: np.ndarray, box_shape: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """A baseline that knows the rules but does not think: (M, n, n) -> (M, n, n) uint8.

    Each blank gets a digit drawn uniformly among those that the givens of its row, column and box allow, blank by
    blank on its own; a blank that no digit fits stays 0. Givens stay as they are.
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    questions = check_sudokus(questions, n)
    answers = questions.copy()
    boxes = box_of_cell((rows, cols))
    for start in range(0, len(questions), _CHUNK_PUZZLES):
        part = questions[start : start + _CHUNK_PUZZLES]
        is_digit = part[..., None] == np.arange(1, n + 1)  # (m, n, n, digits)
        in_box = is_digit.reshape(-1, cols, rows, rows, cols, n).any(axis=(2, 4)).reshape(-1, n, n)
        taken = is_digit.any(axis=2, keepdims=True) | is_digit.any(axis=1, keepdims=True) | in_box[:, boxes]
        lots = np.where(taken, -1.0, generator.random(taken.shape))
        guess = np.where(taken.all(axis=-1), 0, lots.argmax(axis=-1) + 1)
        answers[start : start + _CHUNK_PUZZLES] = np.where(part == 0, guess, part)
    return answers


def check_sudokus(grids: np.ndarray, n: int, largest: int | None = None) -> np.ndarray:
    """Grids (M, n, n) as of `check_grids`, of integers up to n or `largest`; PuzzleError for another shape too."""
    grids = np.asarray(grids)
    if grids.ndim != 3 or grids.shape[1:] != (n, n):
        raise PuzzleError(f"expected grids of shape (M, {n}, {n}), got {grids.shape}")
    return check_grids(grids, n if largest is None else largest)


@lru_cache(maxsize=32)
def box_of_cell(box_shape: tuple[int, int]) -> np.ndarray:
    """(n, n) uint8, read-only: the number (from 0) of the box that each cell lies in, boxes counted along rows."""
    rows, cols = box_shape
    line = np.arange(rows * cols)
    boxes = ((line // rows)[:, None] * rows + (line // cols)[None, :]).astype(np.uint8)
    boxes.setflags(write=False)
    return boxes
