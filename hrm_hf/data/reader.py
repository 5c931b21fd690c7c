"""Reads a puzzle file (layout: schema.py): opens and checks it, keeps an index in memory, fetches rows from the mapped
file.

Rows of a random batch lie scattered over the file. Contiguous arrays have a byte offset, so a batch is one gather from
the memory map (millions of rows a second; the file is never copied). Arrays without an offset (chunked or compressed
by a repacking tool) are read through h5py, slowly but rightly.
"""

import mmap
import os
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ..errors import DataError
from .schema import EXAMPLES, METADATA, PUZZLES, ROWS_ARE_PUZZLES, ROWS_ARE_VARIANTS, PuzzleSetInfo

if TYPE_CHECKING:
    from ..configuration_hrm import HrmConfig

_SCAN_BYTES = 1 << 24  # rows are checked in pieces of this size


class PuzzleFile:
    """One open puzzle file. Picklable: the other process opens the file again and refuses one that has changed since.

    `info`: PuzzleSetInfo. `stamp`: (size, time of last change in ns). Index, all int64 unless said otherwise: per
    puzzle_id p `puzzle_ids` (names), `puzzle_rows` (rows of each of its arrays), `puzzle_examples` (number of arrays),
    `rows_are_puzzles` (bool), `first_store`, `first_group`, `first_row`; per array ("store") `store_names`,
    `store_rows`, `store_offsets` (bytes, -1 = read through h5py).

    Raises DataError, naming the file and what is wrong with it: missing, truncated, not HDF5, of another format or
    version, attributes, types or shapes that contradict the layout, links that lead out of the file or elsewhere in
    it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_file():
            raise DataError(f"{self.path}: there is no such file")
        self.stamp = _stamp(self.path)
        try:
            with h5py.File(self.path, "r") as file:
                self._read_index(file)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # what h5py raises for damaged files
            raise DataError(f"{self.path}: not a readable HDF5 file, empty or truncated: {error}") from error
        self._map_file()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "stamp": self.stamp}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["path"])
        if self.stamp != state["stamp"]:
            raise DataError(f"{self.path}: the file has changed since it was opened")

    def _read_index(self, file: h5py.File) -> None:
        self.info = PuzzleSetInfo.from_attributes(file.attrs)
        puzzles = _child(file, PUZZLES, h5py.Group)
        self.puzzle_ids = list(puzzles)
        self.store_names: list[str] = []
        store_rows, store_offsets, puzzle_rows, puzzle_examples, rows_are_puzzles = [], [], [], [], []
        for puzzle_id in self.puzzle_ids:
            group = _child(puzzles, puzzle_id, h5py.Group)
            rows_are = _child(group, METADATA, h5py.Group).attrs.get("rows_are")
            if rows_are not in (ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES):
                raise DataError(f"puzzle {puzzle_id!r}: rows_are is {rows_are!r}")
            examples = _child(group, EXAMPLES, h5py.Group)
            if len(examples) == 0:
                raise DataError(f"puzzle {puzzle_id!r} has no examples")
            rows = None
            for index in range(len(examples)):
                store = _child(examples, str(index), h5py.Dataset)
                shape = store.shape
                rows = shape[0] if rows is None and shape else rows
                if store.dtype != np.uint8 or shape != (rows, 2, self.info.seq_len) or rows == 0:
                    raise DataError(
                        f"{store.name} is {store.dtype} {shape}, "
                        f"needed is uint8 ({rows or 'rows'}, 2, {self.info.seq_len})"
                    )
                if store.external is not None or store.is_virtual:
                    raise DataError(
                        f"{store.name} keeps its data in another place: links and external storage are refused"
                    )
                offset = store.id.get_offset()
                if offset is not None and offset + prod(shape) > self.stamp[0]:
                    raise DataError(f"{store.name} ends behind the end of the file: the file is truncated")
                self.store_names.append(store.name)
                store_rows.append(rows)
                store_offsets.append(-1 if offset is None else offset)
            puzzle_rows.append(rows)
            puzzle_examples.append(len(examples))
            rows_are_puzzles.append(rows_are == ROWS_ARE_PUZZLES)
        self.store_rows = np.array(store_rows, dtype=np.int64)
        self.store_offsets = np.array(store_offsets, dtype=np.int64)
        self.puzzle_rows = np.array(puzzle_rows, dtype=np.int64)
        self.puzzle_examples = np.array(puzzle_examples, dtype=np.int64)
        self.rows_are_puzzles = np.array(rows_are_puzzles, dtype=bool)
        groups = np.where(self.rows_are_puzzles, self.puzzle_rows, 1)
        self.first_store = _starts(self.puzzle_examples)
        self.first_group = _starts(groups)
        self.first_row = _starts(self.puzzle_rows * self.puzzle_examples)
        counted = {
            "num_groups": int(groups.sum()),
            "num_puzzles": int(self.puzzle_rows.sum()),
            "num_rows": int((self.puzzle_rows * self.puzzle_examples).sum()),
        }
        for name, count in counted.items():
            if getattr(self.info, name) != count:
                raise DataError(f"root attribute {name!r} is {getattr(self.info, name)}, the file holds {count}")
        if not counted["num_rows"]:
            raise DataError("the file holds no puzzle")

    def _map_file(self) -> None:
        """`_windows[k]` is the row that begins at byte k: a view of overlapping windows, so that a batch is one
        gather.
        """
        with open(self.path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        row_bytes = 2 * self.info.seq_len
        windows = max(len(mapped) - row_bytes + 1, 0)
        self._windows = np.ndarray((windows,), dtype=f"V{row_bytes}", buffer=mapped, strides=(1,))
        self._bytes = np.frombuffer(mapped, dtype=np.uint8)

    def group_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(variants of each group, examples of each of its variants), both int64 (num_groups,), for the sampler."""
        groups = np.where(self.rows_are_puzzles, self.puzzle_rows, 1)
        variants = np.where(self.rows_are_puzzles, 1, self.puzzle_rows)
        return np.repeat(variants, groups), np.repeat(self.puzzle_examples, groups)

    def locate(self, groups: np.ndarray, variants: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the sampler draws, (B,) each -> (number of the store, row inside it), int64 (B,)."""
        puzzle = np.searchsorted(self.first_group, groups, side="right") - 1
        rows = np.where(self.rows_are_puzzles[puzzle], groups - self.first_group[puzzle], variants)
        return self.first_store[puzzle] + examples, rows

    def locate_rows(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in stored order (0 to num_rows - 1), (B,) -> (number of the store, row inside it), int64
        (B,).
        """
        puzzle, rows, examples = self._split_numbers(numbers)
        return self.first_store[puzzle] + examples, rows

    def groups_and_variants(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in stored order, (B,) -> (group, variant) that each row belongs to, int64 (B,)."""
        puzzle, rows, _ = self._split_numbers(numbers)
        blocks = self.rows_are_puzzles[puzzle]
        return self.first_group[puzzle] + np.where(blocks, rows, 0), np.where(blocks, 0, rows)

    def _split_numbers(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        puzzle = np.searchsorted(self.first_row, numbers, side="right") - 1
        rows, examples = np.divmod(numbers - self.first_row[puzzle], self.puzzle_examples[puzzle])
        return puzzle, rows, examples

    def read(self, stores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows as `locate` and `locate_rows` name them -> uint8 (B, 2, S), a fresh array. Raises IndexError out of
        range.
        """
        if len(rows) and (rows.min() < 0 or (rows >= self.store_rows[stores]).any()):
            raise IndexError(f"{self.path}: a row outside its array was asked for")
        offsets = self.store_offsets[stores]
        if len(rows) and offsets.min() < 0:
            return self._read_through_h5py(stores, rows)
        offsets += rows * (2 * self.info.seq_len)
        return self._windows[offsets].view(np.uint8).reshape(len(rows), 2, self.info.seq_len)

    def _read_through_h5py(self, stores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        batch = np.empty((len(rows), 2, self.info.seq_len), dtype=np.uint8)
        with h5py.File(self.path, "r") as file:
            for store in np.unique(stores):
                wanted = stores == store
                unique, where = np.unique(rows[wanted], return_inverse=True)  # h5py wants ascending indices
                batch[wanted] = file[self.store_names[store]][unique][where]
        return batch

    def puzzle_identifiers(self, num_rows: int) -> np.ndarray:
        """Rows of the puzzle table, int64 (num_rows,): the blank one, since no task so far tells its puzzles apart."""
        return np.full(num_rows, self.info.blank_identifier_id, dtype=np.int64)

    def check_fits(self, config: "HrmConfig", task: str) -> None:
        """Raise DataError unless a model of this configuration, made for this task, can work on the file."""
        for name, own, models in (
            ("task", self.info.task, task),
            ("vocab_size", self.info.vocab_size, config.vocab_size),
            ("cells per puzzle (seq_len)", self.info.seq_len, config.seq_len),
        ):
            if own != models:
                raise DataError(f"{self.path}: {name} is {own!r}, the model's is {models!r}")
        if self.info.num_puzzle_identifiers > config.num_puzzle_identifiers:
            raise DataError(
                f"{self.path}: it has {self.info.num_puzzle_identifiers} puzzle identifiers, "
                f"the model's table has {config.num_puzzle_identifiers} rows"
            )

    def check_cells(self) -> None:
        """Read every cell once and raise DataError that names the first array with a code outside the vocabulary."""
        if self.info.vocab_size == 256:
            return  # every uint8 is allowed
        row_bytes = 2 * self.info.seq_len
        step = max(_SCAN_BYTES // row_bytes, 1)
        for store, (name, rows, offset) in enumerate(
            zip(self.store_names, self.store_rows, self.store_offsets, strict=True)
        ):
            for start in range(0, rows, step):
                stop = min(start + step, rows)
                if offset < 0:
                    cells = self._read_through_h5py(np.full(stop - start, store), np.arange(start, stop)).reshape(-1)
                else:
                    cells = self._bytes[offset + start * row_bytes : offset + stop * row_bytes]
                if cells.max() >= self.info.vocab_size:
                    row, cell = divmod(int(np.argmax(cells >= self.info.vocab_size)), row_bytes)
                    raise DataError(
                        f"{self.path}: {name} row {start + row} holds the code {cells[row * row_bytes + cell]} in "
                        f"{'input' if cell < self.info.seq_len else 'label'} cell {cell % self.info.seq_len}, "
                        f"allowed is 0 to {self.info.vocab_size - 1}"
                    )


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts) - counts


def _child(parent: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    """A group or array that lies in this very place; links elsewhere are refused, for the index relies on places."""
    link = parent.get(name, getlink=True)
    if link is None:
        raise DataError(f"{parent.name.rstrip('/')}/{name} is missing")
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{parent.name.rstrip('/')}/{name} is a link to another place: links are refused")
    child = parent[name]
    if not isinstance(child, kind):
        raise DataError(f"{child.name} is not a {kind.__name__.lower()}")
    return child
