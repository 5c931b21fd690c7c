"""The symmetries of Sudoku: drawn, applied, inverted, numbered; and the keys that tell puzzles apart up to symmetry.

A symmetry renames the digits, permutes the bands, the rows inside each band, the stacks and the columns inside each
stack, and, for square boxes only, may transpose. It turns every Sudoku into one with equally many solutions, so it is
an augmentation (HRM paper, Sudoku-Extreme; the published builder draws from the same group). It fits into one 64-bit
code (up to 12x12): a data file stores 8 bytes per variant and can undo it.

Letters: M symmetries or grids, n rows of a grid, S = n * n cells.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import factorial, prod

import numpy as np

from ..hrm.errors import PuzzleError
from ..hrm.grids import check_grids
from ..hrm.sudoku import box_of_cell, check_box_shape

_CHUNK_CELLS = 1 << 20  # cells worked on at once: bounds memory whatever M is, and stays inside a CPU's cache
_LONGEST_LISTED = 4  # elements whose permutations are looked up in a table: the lines of a block, its blocks
_MAX_ENUMERATED = 10_000  # position symmetries up to which class_keys tries them all


@dataclass(frozen=True, eq=False)
class SudokuSymmetries:
    """M symmetries of one box shape, as arrays; PuzzleError where they describe none.

    Fields: box_shape (rows, columns of one box); digit_map (M, n + 1) uint8, the new digit of each old one,
    digit_map[:, 0] == 0; row_order and col_order (M, n) uint8, the old row / column that each new one is taken from;
    transpose (M,) bool. Arrays of other integer types are converted.
    """

    box_shape: tuple[int, int]
    digit_map: np.ndarray
    row_order: np.ndarray
    col_order: np.ndarray
    transpose: np.ndarray

    def __post_init__(self) -> None:
        rows, cols = check_box_shape(self.box_shape)
        n, transpose = rows * cols, np.asarray(self.transpose)
        if transpose.ndim != 1 or transpose.dtype != bool:
            raise PuzzleError(
                f"transpose must be a boolean array (M,), got {transpose.dtype} of shape {transpose.shape}"
            )
        if rows != cols and transpose.any():
            raise PuzzleError(f"boxes of {rows}x{cols} cannot be transposed: transpose must be False everywhere")
        fields = {"box_shape": (rows, cols), "transpose": transpose}
        for name, width in {"digit_map": n + 1, "row_order": n, "col_order": n}.items():
            values = np.asarray(getattr(self, name))
            if values.shape != (len(transpose), width) or values.dtype.kind not in "iu":
                raise PuzzleError(
                    f"{name} must be integers {(len(transpose), width)}, got {values.dtype} of shape {values.shape}"
                )
            # The bits of a permutation of 0..width-1 fill the word; anything out of range is clipped and leaves a gap.
            seen = np.bitwise_or.reduce(np.uint32(1) << values.clip(0, 31).astype(np.uint32), axis=1)
            for row in np.flatnonzero(seen != (1 << width) - 1):
                raise PuzzleError(f"{name}[{row}] is {values[row].tolist()}, not a permutation of 0 to {width - 1}")
            fields[name] = np.ascontiguousarray(values, dtype=np.uint8)
        if fields["digit_map"][:, 0].any():
            raise PuzzleError("digit_map[:, 0] must be 0: a blank stays blank")
        for name, block in (("row_order", rows), ("col_order", cols)):
            homes = (fields[name] // np.uint8(block)).reshape(-1, n // block, block)
            for row in np.flatnonzero((homes != homes[:, :, :1]).any(axis=(1, 2))):
                raise PuzzleError(
                    f"{name}[{row}] is {fields[name][row].tolist()}: it tears blocks of {block} lines apart"
                )
        self.__dict__.update(fields)

    @classmethod
    def draw(cls, box_shape: tuple[int, int], num: int, generator: np.random.Generator) -> "SudokuSymmetries":
        """`num` symmetries, each uniform over the whole group."""
        radices = _radices(check_box_shape(box_shape))
        return cls._from_ranks(box_shape, [generator.integers(0, radix, num, dtype=np.uint64) for radix in radices])

    @classmethod
    def from_codes(cls, box_shape: tuple[int, int], codes: np.ndarray) -> "SudokuSymmetries":
        """The symmetries with these ranks, (M,) integers from 0 to group_order - 1: `to_codes` backwards."""
        order = _encodable_order(check_box_shape(box_shape))
        codes = np.asarray(codes)
        if codes.ndim != 1 or codes.dtype.kind not in "iu":
            raise PuzzleError(f"symmetry codes must be integers (M,), got {codes.dtype} of shape {codes.shape}")
        for code in (int(codes.min()), int(codes.max())) if codes.size else ():
            if not 0 <= code < order:
                raise PuzzleError(f"symmetry code {code} is not allowed: boxes {box_shape} have 0 to {order - 1}")
        rest, ranks = codes.astype(np.uint64), []
        for radix in reversed(_radices(check_box_shape(box_shape))):
            rest, rank = np.divmod(rest, np.uint64(radix))
            ranks.append(rank)
        return cls._from_ranks(box_shape, ranks[::-1])

    @classmethod
    def _from_ranks(cls, box_shape: tuple[int, int], ranks: list[np.ndarray]) -> "SudokuSymmetries":
        """One rank (M,) uint64, below its radix, per factor of `_radices`, put together."""
        rows, cols = check_box_shape(box_shape)
        digits = _unrank(ranks[0], rows * cols) + np.uint8(1)  # (M, n)
        fields = {
            "box_shape": (rows, cols),
            "digit_map": np.concatenate([np.zeros_like(digits[:, :1]), digits], axis=1),
            "row_order": _line_order(ranks[1 : 2 + cols], cols, rows),
            "col_order": _line_order(ranks[2 + cols : 3 + cols + rows], rows, cols),
            "transpose": ranks[-1].astype(bool),
            "_ranks": ranks,  # to_codes need not find them again
        }
        made = object.__new__(cls)  # without the checks: every rank makes a symmetry
        made.__dict__.update(fields)
        return made

    def to_codes(self) -> np.ndarray:
        """(M,) uint64: the rank of each symmetry in the group, 0 = identity.

        It is a mixed-radix number with the digits of `_radices`, each the lexicographic rank of a permutation. Raises
        PuzzleError for box shapes whose group has more than 2^64 elements.
        """
        _encodable_order(self.box_shape)
        rows, cols = self.box_shape
        ranks = getattr(self, "_ranks", None)
        if ranks is None:
            lines = (*_line_ranks(self.row_order, rows), *_line_ranks(self.col_order, cols))
            ranks = [_rank(self.digit_map[:, 1:]), *lines, self.transpose]
        codes = np.zeros(len(self), np.uint64)
        for radix, rank in zip(_radices(self.box_shape), ranks, strict=True):
            codes = codes * np.uint64(radix) + rank.astype(np.uint64)
        return codes

    def __len__(self) -> int:
        return len(self.transpose)

    def __getitem__(self, index: slice | np.ndarray) -> "SudokuSymmetries":
        """The symmetries of a slice (or of an index array or boolean mask), as another SudokuSymmetries."""
        if isinstance(index, int | np.integer):
            index = [index]
        fields = (self.digit_map, self.row_order, self.col_order, self.transpose)
        return SudokuSymmetries(self.box_shape, *(values[index] for values in fields))

    def inverse(self) -> "SudokuSymmetries":
        """Symmetries of the same form with inverse().apply(apply(grids)) == grids."""
        digits, rows, cols = (np.argsort(v, axis=1) for v in (self.digit_map, self.row_order, self.col_order))
        # Undone from the outside the transposition comes last; put first, it swaps the parts of rows and columns.
        swap = self.transpose[:, None]
        rows, cols = np.where(swap, cols, rows), np.where(swap, rows, cols)
        return SudokuSymmetries(self.box_shape, digits, rows, cols, self.transpose)

    def apply(self, grids: np.ndarray) -> np.ndarray:
        """Transposition first, then `new[i][j] = digit_map[old[row_order[i]][col_order[j]]]`.

        grids: integers 0..n, (M, n, n) for one grid per symmetry or (n, n) for one grid under all of them.
        Returns (M, n, n) uint8. Raises PuzzleError for other shapes or values.
        """
        num, n = len(self), self.row_order.shape[1]
        if np.ndim(grids) == 2:
            return self.apply_to_each(np.asarray(grids)[None])[:, 0]
        cells = check_grids(grids, n, (n, n)).reshape(-1, n * n)  # (M, S)
        if len(cells) != num:
            raise PuzzleError(f"{num} symmetries and {len(cells)} grids, expected {(n, n)} or ({num}, {n}, {n})")
        out = np.empty((num, n * n), np.uint8)
        for chunk in _chunks(num, n * n):
            old = np.take_along_axis(cells[chunk], self._sources(chunk), axis=1)
            out[chunk] = self._renamed(chunk, old)
        return out.reshape(num, n, n)

    def apply_to_each(self, grids: np.ndarray) -> np.ndarray:
        """What `apply` gives for each of K grids (K, n, n), integers 0..n, under all symmetries: (M, K, n, n) uint8.

        Quicker than K calls. Raises PuzzleError for other shapes or values.
        """
        num, n = len(self), self.row_order.shape[1]
        cells = check_grids(grids, n, (n, n)).reshape(-1, n * n)  # (K, S)
        out = np.empty((num, len(cells), n * n), np.uint8)
        for chunk in _chunks(num, n * n):
            source = self._sources(chunk)  # (m, S)
            for side, values in enumerate(cells):
                out[chunk, side] = self._renamed(chunk, values.take(source))
        return out.reshape(num, len(cells), n, n)

    def _renamed(self, chunk: slice, digits: np.ndarray) -> np.ndarray:
        """(m, S) uint8: old digits (m, S) by each symmetry's digit_map."""
        offset = np.arange(len(digits))[:, None] * self.digit_map.shape[1]
        return self.digit_map[chunk].ravel().take(digits + offset)

    def _sources(self, chunk: slice) -> np.ndarray:
        """(m, S) intp: the old cell's number for each new cell."""
        rows, cols = self.row_order[chunk].astype(np.intp), self.col_order[chunk].astype(np.intp)
        n = rows.shape[1]
        swap = self.transpose[chunk, None]
        row_step, col_step = np.where(swap, 1, n), np.where(swap, n, 1)
        return ((rows * row_step)[:, :, None] + (cols * col_step)[:, None, :]).reshape(len(rows), n * n)


def group_order(box_shape: tuple[int, int]) -> int:
    """The number of symmetries of a box shape, e.g. 3,072 for (2, 2) and 1,218,998,108,160 for (3, 3)."""
    return prod(_radices(check_box_shape(box_shape)))


def class_keys(grids: np.ndarray, box_shape: tuple[int, int]) -> list[bytes]:
    """One key per grid, (M, n, n) with 0 = blank: puzzles that are equal under a symmetry always have equal keys.

    Where there are at most 10,000 position symmetries (4x4: 128, 6x6: 3,456) the key is an exact canonical form: of
    all position symmetries, digits renamed by first appearance, the lexicographically smallest grid. Then equal keys
    also mean equal puzzles. For larger grids (9x9: 3,359,232) the key is the digest of an iterated colour refinement,
    which no symmetry changes: a split by key never separates equivalent puzzles, but two different classes might share
    a key (all full grids do).
    """
    rows, cols = check_box_shape(box_shape)
    n = rows * cols
    grids = check_grids(grids, n, (n, n))
    positions = prod(_radices((rows, cols))[1:])
    if positions <= _MAX_ENUMERATED:
        return _canonical_keys(grids.reshape(-1, n * n), (rows, cols), positions)
    return _invariant_keys(grids, (rows, cols))


def _canonical_keys(cells: np.ndarray, box_shape: tuple[int, int], positions: int) -> list[bytes]:
    """Exact canonical forms of grids (M, S), with all position symmetries tried."""
    size = cells.shape[1]
    n, base = box_shape[0] * box_shape[1], np.uint64(box_shape[0] * box_shape[1] + 1)
    # Digits are the most significant part of a code, so the first codes are the position symmetries.
    sources = SudokuSymmetries.from_codes(box_shape, np.arange(positions))._sources(slice(None)).T  # (S, positions)
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


def _refined_colours(grids: np.ndarray, box_shape: tuple[int, int], rounds: int = 5) -> np.ndarray:
    """(M, S) uint64: a colour per cell that depends on the cells around it, not on any numbering.

    Each round a line, box or digit takes the sum (order does not matter) of its cells' mixed colours, a band or stack
    that of its lines, and a cell mixes what it belongs to. All arithmetic wraps modulo 2^64.
    """
    rows, cols = box_shape
    num, n = grids.shape[0], rows * cols
    colours = (grids != 0).astype(np.uint64)  # (M, n, n)
    is_digit = [grids == digit for digit in range(1, n + 1)]
    boxes = box_of_cell(box_shape)
    for turn in range(rounds):
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
        line = (
            _mix(of_row + np.uint64(3) * of_band)[:, :, None]
            + np.uint64(5) * _mix(of_col + np.uint64(3) * of_stack)[:, None, :]
        )
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
    return (factorial(rows * cols), *bands, *stacks, 2 if rows == cols else 1)


def _encodable_order(box_shape: tuple[int, int]) -> int:
    order = prod(_radices(box_shape))
    if order > 1 << 64:
        raise PuzzleError(f"boxes {box_shape} have {order} symmetries: more than the 2^64 that a code can number")
    return order


def _line_order(ranks: list[np.ndarray], num_blocks: int, block: int) -> np.ndarray:
    """(M, n) uint8: the order of lines from the rank of the blocks' permutation and one rank inside each block."""
    blocks = _unrank(ranks[0], num_blocks) * np.uint8(block)  # (M, num_blocks): the first old line of each new block
    inside = np.stack([_unrank(rank, block) for rank in ranks[1:]], axis=1)  # (M, num_blocks, block)
    return (blocks[:, :, None] + inside).reshape(len(blocks), num_blocks * block)


def _line_ranks(order: np.ndarray, block: int) -> list[np.ndarray]:
    """`_line_order` backwards."""
    num_blocks = order.shape[1] // block
    inside = (order % np.uint8(block)).reshape(len(order), num_blocks, block)
    return [_rank(order[:, ::block] // np.uint8(block)), *(_rank(inside[:, i]) for i in range(num_blocks))]


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


def _rank(perms: np.ndarray) -> np.ndarray:
    """(M,) uint64: the lexicographic ranks of permutations (M, length) of consecutive numbers."""
    perms = np.ascontiguousarray(perms.T)  # (length, M)
    length = len(perms)
    ranks = np.zeros(perms.shape[1], np.uint64)
    for position in range(length):
        smaller = (perms[position + 1 :] < perms[position]).sum(axis=0, dtype=np.uint8)
        ranks = ranks * np.uint64(length - position) + smaller
    return ranks


def _chunks(num: int, cells_each: int) -> Iterator[slice]:
    step = max(1, _CHUNK_CELLS // cells_each)
    return (slice(start, min(start + step, num)) for start in range(0, num, step))
