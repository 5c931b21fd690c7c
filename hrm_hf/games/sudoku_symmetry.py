"""The symmetries of Sudoku: drawn, numbered, applied, undone; and the keys that tell puzzles apart up to symmetry.

A symmetry renames the digits, permutes the bands, the rows inside each band, the stacks and the columns inside each
stack, and, for square boxes only, may transpose. It turns every Sudoku into one with equally many solutions, so it is
an augmentation (HRM paper, Sudoku-Extreme; the published builder draws from the same group). It has one 64-bit code: a
data file stores 8 bytes per variant and can undo it. Above 12x12 there are more symmetries than codes; then a code is
the seed of one.

Letters: M symmetries or grids, n rows of a grid, S = n * n cells.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations
from math import factorial, prod

import numpy as np

from ..hrm.errors import PuzzleError
from ..hrm.sudoku import check_box_shape
from .sudoku_answers import box_of_cell, check_sudokus

_CHUNK_CELLS = 1 << 20  # cells worked on at once: bounds memory whatever M is, and stays inside a CPU's cache
_LONGEST_LISTED = 4  # elements whose permutations are looked up in a table: the lines of a block, its blocks
_MAX_ENUMERATED = 10_000  # position symmetries up to which class_keys tries them all


class SudokuSymmetries:
    """M symmetries of one box shape (rows, columns of one box), by their codes (M,) uint64.

    A code is the rank of a symmetry in the group, 0 = identity: a mixed-radix number whose digits are the
    lexicographic ranks of the permutations of the digits, the bands, the rows in each band, the stacks, the columns in
    each stack, and the transposition (0 or 1). Where the group has more than 2^64 elements (16x16: 2^91), each code is
    the seed of these permutations instead, 0 = identity still. Raises PuzzleError for codes that the group lacks.
    """

    def __init__(self, box_shape: tuple[int, int], codes: np.ndarray) -> None:
        rows, cols = check_box_shape(box_shape)
        order = self.order((rows, cols))
        codes = np.asarray(codes)
        for code in (int(codes.min()), int(codes.max())) if codes.size else ():
            if not 0 <= code < order:
                raise PuzzleError(f"symmetry code {code} is not allowed: boxes {box_shape} have 0 to {order - 1}")
        self.codes = codes.astype(np.uint64)
        lengths = (rows * cols, cols, *[rows] * cols, rows, *[cols] * rows)  # of all permutations
        if order < 1 << 64:
            rest, ranks = self.codes, []
            for radix in reversed(_radices((rows, cols))):
                rest, rank = np.divmod(rest, np.uint64(radix))
                ranks.insert(0, rank)
            orders = [_unrank(rank, length) for rank, length in zip(ranks, lengths, strict=False)]
            transposed = ranks[-1].astype(bool)[:, None]
        else:
            orders = [_shuffled(self.codes, length, number) for number, length in enumerate(lengths)]
            both = _shuffled(self.codes, 2, len(lengths))
            transposed = (both[:, :1] == 1) & (rows == cols)
        digits = orders[0] + np.uint8(1)  # (M, n)
        self._digit_map = np.concatenate([np.zeros_like(digits[:, :1]), digits], axis=1)  # (M, n + 1), 0 stays 0
        row_order = _line_order(orders[1 : 2 + cols], rows).astype(np.intp)  # (M, n), the old row of each new one
        col_order = _line_order(orders[2 + cols :], cols).astype(np.intp)
        row_step, col_step = np.where(transposed, 1, rows * cols), np.where(transposed, rows * cols, 1)
        sources = (row_order * row_step)[:, :, None] + (col_order * col_step)[:, None, :]
        self.sources = sources.reshape(len(self), -1)  # (M, S), the old cell of each new one

    @staticmethod
    def order(box_shape: tuple[int, int]) -> int:
        """How many symmetries have a code: all, or 2^64 of them."""
        return min(prod(_radices(check_box_shape(box_shape))), 1 << 64)

    @classmethod
    def draw(cls, box_shape: tuple[int, int], num: int, generator: np.random.Generator) -> "SudokuSymmetries":
        """`num` symmetries, each uniform over the whole group."""
        return cls(box_shape, cls.draw_codes(box_shape, (1, num), generator)[0])

    @staticmethod
    def draw_codes(box_shape: tuple[int, int], shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
        """Codes, uint64 (sets, num), as one `draw` of num for each set gives them, one set after the other."""
        radices = np.array(_radices(check_box_shape(box_shape)), np.uint64)
        ranks = generator.integers(0, radices[:, None], (shape[0], len(radices), shape[1]), dtype=np.uint64)
        codes = np.zeros(shape, np.uint64)
        for place, radix in enumerate(radices):
            codes = codes * radix + ranks[:, place]
        return codes

    def __len__(self) -> int:
        return len(self.codes)

    def apply(self, grids: np.ndarray) -> np.ndarray:
        """Each of K grids (K, n, n), integers 0..n, under all symmetries: (M, K, n, n) uint8.

        A grid is transposed first; then its lines are permuted and its digits renamed. Raises PuzzleError for other
        shapes or values.
        """
        n = self._digit_map.shape[1] - 1
        cells = check_sudokus(grids, n).reshape(-1, n * n)  # (K, S)
        out = np.empty((len(self), len(cells), n * n), np.uint8)
        for side, values in enumerate(cells):
            out[:, side] = _renamed(self._digit_map, values.take(self.sources))
        return out.reshape(len(self), len(cells), n, n)

    def apply_to_ids(self, ids: np.ndarray) -> np.ndarray:
        """Token ids (P, K, n, n), P a divisor of M: the K grids at each p under the next M / P symmetries, likewise,
        (M, K, n, n) uint8; PAD stays as blanks do.
        """
        num, num_grids, n = ids.shape[:3]
        starts = np.repeat(np.arange(num) * n * n, len(self) // num)  # (M,), of the old cells
        sources = self.sources + starts[:, None]
        id_map = np.pad(self._digit_map + np.uint8(1), ((0, 0), (1, 0)))  # (M, n + 2)
        out = np.empty((len(self), num_grids, n * n), np.uint8)
        for side in range(num_grids):
            cells = check_sudokus(ids[:, side], n, n + 1).reshape(-1)
            out[:, side] = _renamed(id_map, cells.take(sources))
        return out.reshape(len(self), num_grids, n, n)

    def undo(self, grids: np.ndarray) -> np.ndarray:
        """(M, K, n, n), each under one symmetry, back as they were: undo(apply(grids)) gives `grids` M times."""
        num, num_grids, n = grids.shape[:3]
        old_digits = np.argsort(self._digit_map, axis=1).astype(np.uint8)
        out = np.empty((num, num_grids, n * n), np.uint8)
        for side in range(num_grids):
            cells = check_sudokus(grids[:, side], n).reshape(num, -1)
            np.put_along_axis(out[:, side], self.sources, _renamed(old_digits, cells), axis=1)
        return out.reshape(grids.shape)


def _renamed(digit_map: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(M, S) uint8: cells (M, S) by each row's map (M, n + 1)."""
    return digit_map.ravel().take(cells + np.arange(len(cells))[:, None] * digit_map.shape[1])


def class_keys(grids: np.ndarray, box_shape: tuple[int, int]) -> list[bytes]:
    """One key per grid, (M, n, n) with 0 = blank: puzzles that are equal under a symmetry always have equal keys.

    Where there are at most 10,000 position symmetries (4x4: 128, 6x6: 3,456) the key is an exact canonical form: of
    all position symmetries, digits renamed by first appearance, the lexicographically smallest grid. For larger grids
    (9x9: 3,359,232) it is the digest of an iterated colour refinement, which no symmetry changes: a split by key never
    separates equivalent puzzles, but two different classes might share a key (all full grids do).
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    grids = check_sudokus(grids, n)
    positions = prod(_radices((rows, cols))[1:])
    if positions <= _MAX_ENUMERATED:
        return _canonical_keys(grids.reshape(-1, n * n), (rows, cols), positions)
    return _invariant_keys(grids, (rows, cols))


def _canonical_keys(cells: np.ndarray, box_shape: tuple[int, int], positions: int) -> list[bytes]:
    """Exact canonical forms of grids (M, S), with all position symmetries tried."""
    size = cells.shape[1]
    n, base = box_shape[0] * box_shape[1], np.uint64(box_shape[0] * box_shape[1] + 1)
    # Digits are the most significant part of a code, so the first codes are the position symmetries.
    sources = SudokuSymmetries(box_shape, np.arange(positions)).sources.T  # (S, positions)
    cells_per_word = int(64 / np.log2(float(base)))
    keys: list[bytes] = []
    for chunk in _chunks(len(cells), size * positions):
        values = cells[chunk].T[sources]  # (S, positions, m): the value at each new cell
        first = np.full((n + 1, *values.shape[1:]), size, np.uint8)  # the cell where each digit appears first
        for cell in range(size - 1, -1, -1):
            for digit in range(1, n + 1):
                first[digit][values[cell] == digit] = cell
        labels = np.zeros_like(first)
        for digit in range(1, n + 1):
            labels[digit] = 1 + (first[1:] < first[digit]).sum(axis=0, dtype=np.uint8)
        renamed = np.take_along_axis(labels, values, axis=0)  # (S, positions, m)
        smallest = np.ones(values.shape[1:], bool)  # the symmetries that give the least words so far
        words = []
        for start in range(0, size, cells_per_word):
            word = np.zeros(values.shape[1:], np.uint64)
            for cell in range(start, min(start + cells_per_word, size)):
                word = word * base + renamed[cell]
            least = np.where(smallest, word, np.iinfo(np.uint64).max).min(axis=0)  # (m,)
            smallest &= word == least
            words.append(least)
        keys.extend(row.tobytes() for row in np.stack(words, axis=1).astype(">u8"))
    return keys


def _invariant_keys(grids: np.ndarray, box_shape: tuple[int, int]) -> list[bytes]:
    """Digests of grids (M, n, n) that no symmetry changes."""
    keys: list[bytes] = []
    for chunk in _chunks(len(grids), 16 * grids[0].size if len(grids) else 1):
        views = [_refined_colours(grids[chunk], box_shape)]
        if box_shape[0] == box_shape[1]:  # transposition swaps the two views, sorting them undoes that
            views.append(_refined_colours(grids[chunk].transpose(0, 2, 1), box_shape))
        for colours in zip(*views, strict=True):
            sides = sorted(np.sort(side).astype(">u8").tobytes() for side in colours)
            keys.append(hashlib.blake2b(b"".join(sides), digest_size=16).digest())
    return keys


def _refined_colours(grids: np.ndarray, box_shape: tuple[int, int]) -> np.ndarray:
    """(M, S) uint64: a colour per cell that depends on the cells around it, not on any numbering.

    Each round a line, box or digit takes the sum (order does not matter) of its cells' mixed colours, a band or stack
    that of its lines, and a cell mixes what it belongs to. All arithmetic wraps modulo 2^64.
    """
    rows, cols = box_shape
    num, n = grids.shape[0], rows * cols
    colours = (grids != 0).astype(np.uint64)  # (M, n, n)
    is_digit = [grids == digit for digit in range(1, n + 1)]
    boxes = box_of_cell(box_shape)
    for turn in range(5):
        mixed = _mix(colours + np.uint64(turn))
        of_row = _mix(mixed.sum(axis=2))  # (M, n)
        of_col = _mix(mixed.sum(axis=1))
        of_box = _mix(mixed.reshape(num, cols, rows, rows, cols).sum(axis=(2, 4)).reshape(num, n) + np.uint64(1))
        of_band = _mix(of_row.reshape(num, cols, rows).sum(axis=2)).repeat(rows, axis=1)
        of_stack = _mix(of_col.reshape(num, rows, cols).sum(axis=2)).repeat(cols, axis=1)
        of_digit = np.zeros_like(mixed)
        for mask in is_digit:
            total = _mix(np.where(mask, mixed, np.uint64(0)).sum(axis=(1, 2)) + np.uint64(2))
            of_digit += mask * total[:, None, None]
        row, col = _mix(of_row + np.uint64(3) * of_band), _mix(of_col + np.uint64(3) * of_stack)
        line = row[:, :, None] + np.uint64(5) * col[:, None, :]
        colours = _mix(mixed + np.uint64(7) * line + np.uint64(11) * of_box[:, boxes] + np.uint64(13) * of_digit)
    return colours.reshape(num, n * n)


def _mix(values: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that scatters its input (the finaliser of splitmix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=32)
def _radices(box_shape: tuple[int, int]) -> tuple[int, ...]:
    """Sizes of the group's factors: digits, bands, rows in each band, stacks, columns in each stack, transposition."""
    rows, cols = box_shape
    bands = (factorial(cols), *[factorial(rows)] * cols)
    stacks = (factorial(rows), *[factorial(cols)] * rows)
    # A digit above 20 adds nothing: there are more symmetries than codes long before.
    return (factorial(min(rows * cols, 20)), *bands, *stacks, 2 if rows == cols else 1)


def _line_order(orders: list[np.ndarray], block: int) -> np.ndarray:
    """(M, n) uint8: the order of lines from the blocks' permutation and one permutation inside each block."""
    blocks = orders[0] * np.uint8(block)  # (M, num_blocks): the first old line of each new block
    inside = np.stack(orders[1:], axis=1)  # (M, num_blocks, block)
    return (blocks[:, :, None] + inside).reshape(len(blocks), -1)


def _shuffled(codes: np.ndarray, length: int, number: int) -> np.ndarray:
    """(M, length) uint8: permutation `number` of each code (M,), at random; code 0 gives the identity."""
    lots = _mix(_mix(codes + np.uint64(number << 32))[:, None] + np.arange(length, dtype=np.uint64))
    lots[codes == 0] = np.arange(length, dtype=np.uint64)
    return np.argsort(lots, axis=1, kind="stable").astype(np.uint8)


def _unrank(ranks: np.ndarray, length: int) -> np.ndarray:
    """(M, length) uint8: the permutations of 0..length-1 with these lexicographic ranks (M,)."""
    if length <= _LONGEST_LISTED:
        return _permutations(length).take(ranks.astype(np.intp), axis=0)
    rest = ranks
    perm = np.empty((length, len(ranks)), np.uint8)  # a position's values lie side by side: fast column operations
    for position in range(length - 1, -1, -1):
        rest, smaller = np.divmod(rest, np.uint64(length - position))  # how many later values are smaller
        perm[position] = smaller
        perm[position + 1 :] += perm[position + 1 :] >= perm[position]
    return np.ascontiguousarray(perm.T)


@lru_cache(maxsize=_LONGEST_LISTED + 1)
def _permutations(length: int) -> np.ndarray:
    """(length!, length) uint8: all permutations of 0..length-1 in lexicographic order."""
    return np.array(list(permutations(range(length))), np.uint8)


def _chunks(num: int, cells_each: int) -> Iterator[slice]:
    step = max(1, _CHUNK_CELLS // cells_each)
    return (slice(start, min(start + step, num)) for start in range(0, num, step))
