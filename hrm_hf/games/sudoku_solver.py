"""An exact Sudoku solver for any box shape: counts solutions up to a limit and gives the first.

A position is a list of n whole numbers, one per digit, whose bit c says that the digit may still stand in cell c. One
bitwise operation then looks at the whole grid at once, which keeps plain Python fast enough to dig for unique puzzles.
Naked and hidden singles are filled in; what they leave open is split at a cell with the fewest candidates.
"""

from functools import lru_cache

import numpy as np

from ..hrm.grids import check_grids
from ..hrm.sudoku import check_box_shape, units


def solve(grid: np.ndarray, box_shape: tuple[int, int], limit: int = 2) -> tuple[int, np.ndarray | None]:
    """(number of solutions, at most `limit`; the first one found (n, n) uint8, or None).

    grid: (n, n) integers 0..n, 0 = blank. (1, answer) with the default limit means exactly one solution; equal givens
    in a unit mean none. Raises PuzzleError for another shape or other values.
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    (grid,) = check_grids(np.asarray(grid)[None], n, (n, n))
    board = Board((rows, cols))
    position = board.position(grid.ravel().tolist())
    found: list[list[int]] = []
    if position is not None:
        board.search(position, limit, found)
    return len(found), board.to_grid(found[0]) if found else None


class Board:
    """The bit masks of one box shape, and the search on positions (lists of n masks, see the file's head)."""

    def __init__(self, box_shape: tuple[int, int]) -> None:
        self.n = box_shape[0] * box_shape[1]
        self.all_cells = (1 << self.n * self.n) - 1
        self.unit_masks, self.not_peers = _masks(box_shape)

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

        A generator makes the order of the digits tried at each split random, otherwise it is ascending.
        """
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
