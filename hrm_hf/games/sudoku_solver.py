"""Exact Sudoku solvers for any box shape: they count solutions up to a limit and give the first.

`solve_many` looks at thousands of puzzles at once with NumPy, ten times as fast as one after the other. `solve` and
`Board`, on which the generator digs, look at one. There a position is a list of n whole numbers, one per digit, whose
bit c says that the digit may still stand in cell c. One bitwise operation then looks at the whole grid at once, which
keeps plain Python fast enough to dig for unique puzzles. Either fills in naked and hidden singles; what they leave
open is split at a cell with the fewest candidates.
"""

from functools import lru_cache

import numpy as np

from ..hrm.sudoku import check_box_shape, units
from ..progress import progress
from .sudoku_answers import check_sudokus

_BATCH = 2048  # positions looked at together: the arrays of one step stay in a CPU's cache


def solve(grid: np.ndarray, box_shape: tuple[int, int], limit: int = 2) -> tuple[int, np.ndarray | None]:
    """(number of solutions, at most `limit`; the first one found (n, n) uint8, or None).

    grid: (n, n) integers 0..n, 0 = blank. (1, answer) with the default limit means exactly one solution; equal givens
    in a unit mean none. Raises PuzzleError for another shape or other values.
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    (grid,) = check_sudokus(np.asarray(grid)[None], n)
    board = Board((rows, cols))
    position = board.position(grid.ravel().tolist())
    found: list[list[int]] = []
    if position is not None:
        board.search(position, limit, found)
    return len(found), board.to_grid(found[0]) if found else None


def solve_many(
    grids: np.ndarray, box_shape: tuple[int, int], limit: int = 2, max_steps: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of solutions (M,) int64, at most `limit`; the first one found of each (M, n, n) uint8, 0 without one).

    grids: (M, n, n) integers 0..n, 0 = blank. The number is -1 where `max_steps` steps, a step being a position looked
    at, did not suffice for all; puzzles are searched in the order given, without a limit (None) to the end. Raises
    PuzzleError for another shape or other values.
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    cells = check_sudokus(grids, n).reshape(-1, n * n).T  # (S, M)
    counts, answers = np.zeros(cells.shape[1], np.int64), np.zeros((cells.shape[1], n, n), np.uint8)
    candidates = np.array([(1 << n) - 1] + [1 << digit for digit in range(n)], np.min_scalar_type((1 << n) - 1))
    pending: list[tuple[np.ndarray, np.ndarray]] = []  # positions (S, K), bit d of a cell: digit d + 1; puzzles (K,)
    num_begun = steps = 0
    with progress(description="solving", unit="puzzles", total=len(counts)) as bar:
        while max_steps is None or steps < max_steps:
            parts, size = [], 0
            while pending and size < _BATCH:  # the newest first: few are open at a time
                parts.append(pending.pop())
                size += len(parts[-1][1])
            if size < _BATCH and num_begun < len(counts):
                new = np.arange(num_begun, min(num_begun + _BATCH - size, len(counts)))
                parts.append((candidates[cells[:, new]], new))
                num_begun += len(new)
                bar.update(len(new))
            if not parts:
                break
            position = np.concatenate([part for part, _ in parts], axis=1)
            puzzle = np.concatenate([owners for _, owners in parts])
            is_open = counts[puzzle] < limit
            # the steps run along contiguous rows; indexing gives other layouts, in which they take twice as long
            position, puzzle = np.ascontiguousarray(position[:, is_open]), puzzle[is_open]
            if not len(puzzle):
                continue
            steps += len(puzzle)
            left, alive = _narrowed(position, (rows, cols))
            changed = (left != position).any(axis=0)
            goes_on, rests = alive & changed, alive & ~changed
            pending.append((left[:, goes_on], puzzle[goes_on]))
            left, puzzle = left[:, rests], puzzle[rests]
            num_candidates = np.bitwise_count(left)  # (S, K)
            is_solved = (num_candidates == 1).all(axis=0)
            for column in np.flatnonzero(is_solved):
                owner = puzzle[column]
                if counts[owner] == 0:
                    digits = np.bitwise_count(left[:, column] - left.dtype.type(1)) + np.uint8(1)
                    answers[owner] = digits.reshape(n, n)
                counts[owner] = min(counts[owner] + 1, limit)
            if not is_solved.all():  # split at a cell with the fewest candidates: its lowest one, and the others
                choice, puzzle, num_candidates = left[:, ~is_solved], puzzle[~is_solved], num_candidates[:, ~is_solved]
                at = np.arange(len(puzzle))
                cell = np.where(num_candidates == 1, n + 1, num_candidates).argmin(axis=0)
                lowest = choice[cell, at] & (~choice[cell, at] + choice.dtype.type(1))
                others = choice.copy()
                others[cell, at] ^= lowest
                choice[cell, at] = lowest
                pending += [(others, puzzle), (choice, puzzle)]
    for _, puzzle in pending:
        counts[puzzle[counts[puzzle] < limit]] = -1
    counts[num_begun:] = -1
    return counts, answers


def _narrowed(position: np.ndarray, box_shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One step of `solve_many`: (positions (S, K) without what naked and hidden singles exclude, (K,) bool: False
    where no solution is left). Nothing changes only where there are no more singles to use.
    """
    rows, cols = box_shape
    n, num = rows * cols, position.shape[1]
    one = position.dtype.type(1)
    every = position.dtype.type((1 << n) - 1)

    def unit_views(cells: np.ndarray) -> tuple[np.ndarray, ...]:
        """(members, ..., K) of rows, columns and boxes: n members by the first one or two axes; views, no copies."""
        grid, boxes = cells.reshape(n, n, num), cells.reshape(cols, rows, rows, cols, num)
        return grid.swapaxes(0, 1), grid, boxes.transpose(1, 3, 0, 2, 4)

    def members(view: np.ndarray) -> list[np.ndarray]:
        return list(view) if view.ndim == 3 else [cell for line in view for cell in line]

    is_single = (position & (position - one)) == 0
    taken = np.zeros_like(position)
    for known, out in zip(unit_views(np.where(is_single, position, 0)), unit_views(taken), strict=True):
        out |= np.bitwise_or.reduce(known, axis=0 if known.ndim == 3 else (0, 1))
    left = np.where(is_single, position, position & ~taken)
    hidden, alive = np.zeros_like(left), np.ones(num, bool)
    for cells, out in zip(unit_views(left), unit_views(hidden), strict=True):
        once = np.zeros(cells.shape[-2 if cells.ndim == 3 else -3 :], left.dtype)
        twice = np.zeros_like(once)
        for member in members(cells):
            twice |= once & member
            once |= member
        # a unit in which a digit has no place; two equal singles leave another digit without one, at the latest
        # when all its cells are single
        alive &= (once == every).reshape(-1, num).all(axis=0)
        out |= once & ~twice
    hidden &= left
    left = np.where(hidden != 0, hidden, left)
    return left, alive & (left != 0).all(axis=0)


class SearchLimit(Exception):
    """A search has looked at as many positions as it may."""


class Board:
    """The bit masks of one box shape, and the search on positions (lists of n masks, see the file's head)."""

    def __init__(self, box_shape: tuple[int, int]) -> None:
        self.n = box_shape[0] * box_shape[1]
        self.all_cells = (1 << self.n * self.n) - 1
        self.unit_masks, self.not_peers = _masks(box_shape)
        self.positions_left: int | None = None  # of a search; None: no limit

    def position(self, cells: list[int]) -> list[int] | None:
        """The candidates that givens (n*n digits, 0 = blank) leave; None where two equal givens meet."""
        given, blank = [0] * self.n, self.all_cells
        left = [self.all_cells] * self.n
        for cell, digit in enumerate(cells):
            if digit:
                given[digit - 1] |= 1 << cell
                left[digit - 1] &= self.not_peers[cell]
                blank ^= 1 << cell
        if any(given[d] & ~left[d] for d in range(self.n)):
            return None
        return [given[d] | (left[d] & blank) for d in range(self.n)]

    def to_grid(self, position: list[int]) -> np.ndarray:
        """A solved position as (n, n) uint8."""
        grid = np.zeros(self.n * self.n, np.uint8)
        for digit, mask in enumerate(position):
            grid[[cell for cell in range(self.n * self.n) if mask >> cell & 1]] = digit + 1
        return grid.reshape(self.n, self.n)

    def search(
        self, position: list[int], limit: int, found: list[list[int]], generator: np.random.Generator | None = None
    ) -> None:
        """Appends solved positions to `found` until it holds `limit`; changes `position`.

        A generator makes the order of the digits tried at each split random, otherwise it is ascending. Raises
        SearchLimit where `positions_left`, unless it is None, does not suffice.
        """
        if self.positions_left is not None:
            self.positions_left -= 1
            if self.positions_left < 0:
                raise SearchLimit
        split = self._fill_singles(position)
        if split is None:
            return
        if not split:
            found.append(position)
            return
        digits = [d for d in range(self.n) if position[d] & split]
        if generator is not None:
            digits = [digits[i] for i in generator.permutation(len(digits))]
        for digit in digits:
            branch = [mask & ~split for mask in position]
            branch[digit] |= split
            self.search(branch, limit, found, generator)
            if len(found) >= limit:
                return

    def _fill_singles(self, position: list[int]) -> int | None:
        """Fills singles in place; None: no solution, 0: solved, else the bit of the cell to split at."""
        n, all_cells, not_peers = self.n, self.all_cells, self.not_peers
        done = 0  # cells whose digit has been struck from their peers
        while True:
            once = twice = 0
            for mask in position:
                twice |= once & mask
                once |= mask
            if once != all_cells:
                return None
            fresh = ~twice & all_cells & ~done
            if fresh:
                done |= fresh
                for digit in range(n):
                    hits = position[digit] & fresh
                    while hits:
                        bit = hits & -hits
                        # A cell struck in this very loop leaves a cell without candidate: the next round sees it.
                        position[digit] &= not_peers[bit.bit_length() - 1]
                        hits ^= bit
                continue
            if done == all_cells:
                return 0
            filled = self._fill_hidden(position, done)
            if filled is None:
                return None
            if not filled:
                return self._fewest(position, twice)

    def _fill_hidden(self, position: list[int], done: int) -> int | None:
        """Where a digit has one place left in a unit strikes the others: the cells so filled, None: no solution."""
        hidden = []
        filled = 0
        for mask in position:
            alone = 0
            if mask & ~done:  # else the digit stands everywhere already
                for unit in self.unit_masks:
                    here = mask & unit
                    if not here & (here - 1):
                        if not here:
                            return None
                        alone |= here
                alone &= ~done
                if alone & filled:  # two digits need the same cell
                    return None
                filled |= alone
            hidden.append(alone)
        if filled:
            for digit, alone in enumerate(hidden):
                position[digit] &= ~filled | alone
        return filled

    def _fewest(self, position: list[int], open_cells: int) -> int:
        """The lowest bit among the open cells (two candidates or more) with the fewest candidates."""
        at_least = [self.all_cells] + [0] * (self.n + 1)  # at_least[k]: the cells with at least k candidates
        for mask in position:
            for k in range(self.n, 0, -1):
                at_least[k] |= at_least[k - 1] & mask
        fewest = next(k for k in range(2, self.n + 1) if open_cells & ~at_least[k + 1])
        cells = open_cells & ~at_least[fewest + 1]
        return cells & -cells


@lru_cache(maxsize=32)
def _masks(box_shape: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As bit masks: the cells of each unit, and for each cell all cells but its peers (it is no peer of itself)."""
    num_cells = (box_shape[0] * box_shape[1]) ** 2
    members = [cells for _, cells in units(box_shape)]
    unit_masks = tuple(sum(1 << cell for cell in cells) for cells in members)
    not_peers = []
    for cell in range(num_cells):
        near = 0
        for mask in unit_masks:
            if mask >> cell & 1:
                near |= mask
        not_peers.append(((1 << num_cells) - 1) & ~near | 1 << cell)
    return unit_masks, tuple(not_peers)
