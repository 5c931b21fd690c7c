"""Makes Sudoku puzzles with exactly one solution, no two of them equal under any symmetry.

A random full grid is filled by the solver with random choices; then givens are taken away in random order as long as
the solution stays the only one. Puzzles whose class has been seen are thrown away, so a data set can be split
anywhere.
"""

from contextlib import suppress

import numpy as np

from ..hrm.errors import PuzzleError
from ..hrm.sudoku import check_box_shape
from ..progress import progress
from .sudoku_solver import Board, SearchLimit
from .sudoku_symmetry import class_keys

# The fewest givens of any puzzle with one solution, where known (9x9: McGuire et al., arXiv 1201.0749).
_FEWEST_GIVENS = {(2, 2): 4, (2, 3): 8, (3, 2): 8, (3, 3): 17}
# Give up after so many cells' worth of puzzles in a row without a new class (4x4: 5,000 puzzles, 9x9: 987).
_PATIENCE_CELLS = 80_000


# Of boards larger than 9x9 a given stays where so many positions do not show that it may go: exact proofs can take
# minutes there, and the puzzle has one solution either way.
_MAX_POSITIONS = 5


def generate(
    num: int,
    box_shape: tuple[int, int],
    generator: np.random.Generator,
    max_givens: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(questions, answers), both (num, n, n) uint8, 0 = blank; the same generator state gives the same puzzles.

    Each puzzle aims at a number of givens from n * n // 4 to max_givens (default: n * n // 2, so 4 to 8 for 4x4 and 20
    to 40 for 9x9) and ends there, or with the next larger number from which nothing more can be taken away (if that is
    above max_givens the puzzle is thrown away). Aims that stop giving new classes become rarer.

    Raises PuzzleError for impossible arguments, and when many tries in a row give no new class: there are 2,236
    classes of 4x4 puzzles with at most 8 givens and 4,710 in all.
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    fewest = _FEWEST_GIVENS.get((rows, cols), n - 1)  # two digits that are not given could be swapped
    most = n * n // 2 if max_givens is None else max_givens
    least = min(n * n // 4, most)
    if num < 1:
        raise PuzzleError(f"the number of puzzles must be at least 1, not {num}")
    if not fewest <= most <= n * n:
        raise PuzzleError(f"max_givens {most}: a {n}x{n} puzzle with one solution has {fewest} to {n * n} givens")
    board = Board((rows, cols))
    aims = np.arange(least, most + 1)
    tried, new = np.ones(len(aims)), np.ones(len(aims))
    seen: set[bytes] = set()
    questions, answers = np.zeros((2, num, n, n), np.uint8)
    patience = max(1, _PATIENCE_CELLS // (n * n))
    in_vain = 0
    with progress(description="generating", unit="puzzles", total=num) as bar:
        while len(seen) < num:
            batch = min(256, 2 * (num - len(seen)), patience)
            drawn = generator.choice(len(aims), batch, p=new / tried / (new / tried).sum())
            pairs = [_dig(board, int(aims[i]), generator) for i in drawn]
            keys = class_keys(np.stack([question for question, _ in pairs]), (rows, cols))
            for i, (question, answer), key in zip(drawn, pairs, keys, strict=True):
                tried[i] += 1
                if key in seen or np.count_nonzero(question) > most:
                    in_vain += 1
                    continue
                if len(seen) == num:
                    break
                questions[len(seen)], answers[len(seen)] = question, answer
                seen.add(key)
                new[i] += 1
                in_vain = 0
            if in_vain >= patience:
                found = f"found only {len(seen)} of {num} {n}x{n} puzzles with {least} to {most} givens"
                vain = f"{in_vain} tries in a row gave none that differs under every symmetry"
                raise PuzzleError(f"{found}: {vain}; ask for fewer or allow more givens")
            bar.update(len(seen) - bar.n)
    return questions, answers


def _dig(board: Board, aim: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(question, answer): one solution and `aim` givens, or more givens if no more can be taken away."""
    answer = _full_grid(board, generator)
    cells = answer.ravel().tolist()
    order = generator.permutation(len(cells)).tolist()
    givens, start, size = len(cells), 0, len(cells)
    # Taken one by one, each given would go if the solution stays unique. If a whole run of them can go then each of
    # them would, so long runs are tried first and halved on failure: the same result with fewer searches.
    while givens > aim and start < len(order):
        size = min(size, givens - aim, len(order) - start)
        run = order[start : start + size]
        if _stays_unique(board, cells, run):
            for cell in run:
                cells[cell] = 0
            givens -= size
            start += size
            size *= 2
        elif size == 1:
            start += 1
        else:
            size = (size + 1) // 2
    return np.array(cells, np.uint8).reshape(board.n, board.n), answer


def _full_grid(board: Board, generator: np.random.Generator) -> np.ndarray:
    """A random full grid. A search of a large board that has gone astray is begun anew, with more time."""
    found: list[list[int]] = []
    most = 8 * board.n * board.n
    while not found:
        board.positions_left = None if board.n <= 9 else most
        most *= 2
        with suppress(SearchLimit):
            board.search([board.all_cells] * board.n, 1, found, generator)
    return board.to_grid(found[0])


def _stays_unique(board: Board, cells: list[int], run: list[int]) -> bool:
    """Whether a puzzle (n*n digits) with one solution is known to keep just one without the givens of `run`."""
    board.positions_left = None if board.n <= 9 else _MAX_POSITIONS
    try:
        return _has_one_solution(board, cells, run)
    except SearchLimit:
        return False


def _has_one_solution(board: Board, cells: list[int], run: list[int]) -> bool:
    left = cells.copy()
    for cell in run:
        left[cell] = 0
    position = board.position(left)
    found: list[list[int]] = []
    if len(run) > 1:
        board.search(position, 2, found)
        return len(found) == 1
    # Another solution would have another digit in the one cell, so looking for those alone is enough.
    position[cells[run[0]] - 1] &= ~(1 << run[0])
    board.search(position, 1, found)
    return not found
