"""Reads a puzzle file (layout: schema.py): opens and checks it, keeps an index in memory, fetches rows from the mapped
file.

Rows of a random batch lie scattered over the file. Contiguous arrays have a byte offset, so a batch is one gather from
the memory map (millions of rows a second; the file is never copied). Arrays without an offset (chunked or compressed
by a repacking tool) are read through h5py, slowly but rightly. Native grids are put into frames on the way.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ..hrm.errors import ArgumentError, DataError
from ..hrm.puzzle_identifiers import BLANK_NAME
from .frames import frame_pairs, pair_offsets, runs
from .schema import (
    EXAMPLES,
    IDENTIFIER,
    INPUT_SHAPE,
    LABEL_SHAPE,
    METADATA,
    NAME,
    PUZZLES,
    ROWS_ARE_PUZZLES,
    ROWS_ARE_VARIANTS,
    SWAPS_SIDES,
    TRANSFORM,
    PuzzleSetInfo,
    check_frame_fits,
    check_puzzle_id,
    check_row_array,
    check_row_array_type,
)

if TYPE_CHECKING:
    from ..hrm.configuration_hrm import HrmConfig

_SCAN_BYTES = 1 << 24  # rows are checked in pieces of this size

# A file of few bytes may declare any size; these bounds keep memory and time in proportion to what it holds.
_MAX_RATIO = 100  # bytes that arrays declare, to bytes of the file: deflated puzzles reach a fraction of that
_MAX_CHUNK_BYTES = 1 << 28  # a chunk is unpacked as a whole
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}


class PuzzleFile:
    """One open puzzle file. Picklable: the other process opens the file again and refuses one that has changed since.

    `info`: PuzzleSetInfo. `stamp`: (size, time of last change in ns). Index, all int64 unless said otherwise: per
    puzzle_id p `puzzle_ids` (names), `puzzle_rows` (rows of each of its arrays), `puzzle_examples` (number of arrays),
    `rows_are_puzzles` (bool), `has_names` (bool), `first_store`, `first_group`, `first_variant`, `first_row`; per
    array ("store") `store_names`, `store_puzzles`, `store_rows`, `store_offsets` (bytes, -1 = read through h5py),
    `store_shapes` ((height, width) of input and label under transform 0, (2, 2) each), `store_row_bytes`.

    Raises DataError, naming the file and what is wrong with it: missing, truncated, not HDF5, of another format or
    version, attributes, types or shapes that contradict the layout or that the file is much too small for, links that
    lead out of the file or elsewhere in it, compression other than gzip or lzf. So do the methods that read from it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_file():
            raise DataError(f"{self.path}: there is no such file")
        self.stamp = _stamp(self.path)
        with self._opened() as file:
            self._read_index(file)
        self._map_file()

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        """The file open in h5py; what is wrong with it comes out as DataError that names it."""
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None
        except Exception as error:  # what h5py and numpy raise for a damaged file depends on the damage
            raise DataError(f"{self.path}: not a readable HDF5 file, empty or truncated: {error!r}") from error

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
        store_rows, store_offsets, store_shapes = [], [], []
        puzzle_rows, puzzle_examples, rows_are_puzzles = [], [], []
        transforms, identifiers = [], []
        num_rows = num_cells = 0
        for puzzle_id in self.puzzle_ids:
            check_puzzle_id(puzzle_id)
            group = _child(puzzles, puzzle_id, h5py.Group)
            metadata = _child(group, METADATA, h5py.Group)
            rows_are = metadata.attrs.get("rows_are")
            if not isinstance(rows_are, str) or rows_are not in (ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES):
                raise DataError(f"puzzle {puzzle_id!r}: rows_are is {rows_are!r:.200}")
            examples = _child(group, EXAMPLES, h5py.Group)
            if len(examples) == 0:
                raise DataError(f"puzzle {puzzle_id!r} has no examples")
            stores = [self._array(examples, str(index)) for index in range(len(examples))]
            rows = stores[0].shape[0] if stores[0].shape else None
            shapes = [self._check_store(store, rows) for store in stores]
            num_rows += rows * len(stores)
            num_cells += sum(store.size for store in stores)
            if num_rows > self.stamp[0] or num_cells > _MAX_RATIO * self.stamp[0]:
                raise DataError(
                    f"up to puzzle {puzzle_id!r} it declares {num_rows} rows of {num_cells} cells, which is much more "
                    f"than {self.stamp[0]} bytes can hold"
                )
            puzzle_rows.append(rows)
            puzzle_examples.append(len(stores))
            rows_are_puzzles.append(rows_are == ROWS_ARE_PUZZLES)
            identifiers.append(self._read_identifiers(metadata, rows))
            if self.info.eos_id is not None:
                transforms.append(self._row_array(metadata, TRANSFORM, rows))
                for store, pair in zip(stores, shapes, strict=True):
                    try:
                        check_frame_fits(pair, transforms[-1], self.info.grid_shape)
                    except DataError as error:
                        raise DataError(f"{store.name}: {error}") from None
            for store, pair in zip(stores, shapes, strict=True):
                offset = store.id.get_offset()
                if offset is not None and offset + prod(store.shape) > self.stamp[0]:
                    raise DataError(f"{store.name} ends behind the end of the file: the file is truncated")
                self.store_names.append(store.name)
                store_rows.append(rows)
                store_offsets.append(-1 if offset is None else offset)
                store_shapes.append(pair)
        self.store_rows = np.array(store_rows, dtype=np.int64)
        self.store_offsets = np.array(store_offsets, dtype=np.int64)
        self.store_shapes = np.array(store_shapes, dtype=np.int64).reshape(-1, 2, 2)
        self.store_row_bytes = self.store_shapes.prod(axis=2).sum(axis=1)
        self.puzzle_rows = np.array(puzzle_rows, dtype=np.int64)
        self.puzzle_examples = np.array(puzzle_examples, dtype=np.int64)
        self.rows_are_puzzles = np.array(rows_are_puzzles, dtype=bool)
        self.has_names = np.array([array is not None for array in identifiers], dtype=bool)
        groups = np.where(self.rows_are_puzzles, self.puzzle_rows, 1)
        self.store_puzzles = np.repeat(np.arange(len(self.puzzle_ids)), self.puzzle_examples)
        self.first_store = _starts(self.puzzle_examples)
        self.first_group = _starts(groups)
        self._puzzles_are_groups = not self.rows_are_puzzles.any()
        self.first_variant = _starts(self.puzzle_rows)
        self.first_row = _starts(self.puzzle_rows * self.puzzle_examples)
        self._transforms = np.concatenate(transforms) if transforms else None  # uint8 (num_puzzles,)
        self._identifiers = None  # or int32 (num_puzzles,)
        if self.has_names.any():
            self._identifiers = np.full(int(self.puzzle_rows.sum()), self.info.blank_identifier_id, dtype=np.int32)
            for first, array in zip(self.first_variant, identifiers, strict=True):
                if array is not None:
                    self._identifiers[first : first + len(array)] = array
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

    def _check_store(self, store: h5py.Dataset, rows: int | None) -> np.ndarray:
        """Raise DataError unless the array is of its type and shape; the shapes of its grids, int64 (2, 2)."""
        if self.info.eos_id is None:
            shapes = np.array([self.info.grid_shape, self.info.grid_shape])
            row_shape, reason = (2, self.info.seq_len), ""
        else:
            shapes = np.stack([_shape_attribute(store, name) for name in (INPUT_SHAPE, LABEL_SHAPE)])
            row_shape, reason = (int(shapes.prod(axis=1).sum()),), " by its shapes"
        if store.dtype != np.uint8 or store.shape != (rows, *row_shape) or rows == 0:
            needed = ", ".join(map(str, (rows or "rows", *row_shape)))
            raise DataError(f"{store.name} is {store.dtype} {store.shape}, needed is uint8 ({needed}){reason}")
        return shapes

    def _read_identifiers(self, metadata: h5py.Group, rows: int) -> np.ndarray | None:
        """The identifiers of one puzzle_id, int32 (rows,), or None if it has none; its names are checked too."""
        if IDENTIFIER not in metadata and NAME not in metadata:
            return None
        self._row_array(metadata, NAME, rows)
        return self._row_array(metadata, IDENTIFIER, rows)

    def _array(self, parent: h5py.Group, name: str) -> h5py.Dataset:
        """An array whose data lies in this file, of a size that the file may have."""
        array = _child(parent, name, h5py.Dataset)
        if array.external is not None or array.is_virtual:
            raise DataError(f"{array.name} keeps its data in another place: links and external storage are refused")
        if array.shape is None:
            raise DataError(f"{array.name} is an array without a shape")
        if prod(array.shape) * array.dtype.itemsize > _MAX_RATIO * self.stamp[0]:
            raise DataError(
                f"{array.name} is declared as {array.dtype} {array.shape}, which is much more than {self.stamp[0]} "
                "bytes can hold"
            )
        if array.chunks is not None:
            _check_chunks(array)
        return array

    def _row_array(self, metadata: h5py.Group, name: str, rows: int) -> np.ndarray:
        """A checked metadata array with one entry per row."""
        array = self._array(metadata, name)
        try:
            check_row_array_type(name, array.dtype, array.shape, rows)  # before anything of its size is read
            values = array[:]
            check_row_array(name, values, rows, self.info.num_puzzle_identifiers)
        except DataError as error:
            raise DataError(f"{metadata.name}: {error}") from None
        return values

    def _map_file(self) -> None:
        with open(self.path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(mapped, dtype=np.uint8)

    def group_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(variants of each group, examples of each of its variants), both int64 (num_groups,), for the sampler."""
        groups = np.where(self.rows_are_puzzles, self.puzzle_rows, 1)
        variants = np.where(self.rows_are_puzzles, 1, self.puzzle_rows)
        return np.repeat(variants, groups), np.repeat(self.puzzle_examples, groups)

    def locate(self, groups: np.ndarray, variants: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the sampler draws, (B,) each -> (number of the store, row inside it), int64 (B,)."""
        if self._puzzles_are_groups:
            return self.first_store[groups] + examples, variants
        puzzle = np.searchsorted(self.first_group, groups, side="right") - 1
        rows = np.where(self.rows_are_puzzles[puzzle], groups - self.first_group[puzzle], variants)
        return self.first_store[puzzle] + examples, rows

    def locate_rows(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in stored order (0 to num_rows - 1), (B,) -> (number of the store, row inside it), int64
        (B,).
        """
        puzzle, rows, examples = self.row_places(numbers)
        return self.first_store[puzzle] + examples, rows

    def groups_and_variants(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in stored order, (B,) -> (group, variant) that each row belongs to, int64 (B,)."""
        puzzle, rows, _ = self.row_places(numbers)
        blocks = self.rows_are_puzzles[puzzle]
        return self.first_group[puzzle] + np.where(blocks, rows, 0), np.where(blocks, 0, rows)

    def row_places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers in stored order, (B,) -> (puzzle, row of its arrays, example), int64 (B,): puzzle is a place in
        `puzzle_ids`.
        """
        puzzle = np.searchsorted(self.first_row, numbers, side="right") - 1
        rows, examples = np.divmod(numbers - self.first_row[puzzle], self.puzzle_examples[puzzle])
        return puzzle, rows, examples

    def read(self, stores: np.ndarray, rows: np.ndarray, shifts: np.ndarray | None = None) -> np.ndarray:
        """Rows as `locate` and `locate_rows` name them -> uint8 (B, 2, S), a fresh array.

        shifts: float64 (B, 2) in [0, 1), for files of native grids only: where in its free room each pair goes, per
        axis (see `pair_offsets`); None = the top left corner of the frame. Raises IndexError out of range,
        ArgumentError for shifts that are not allowed.
        """
        if len(rows) and (rows.min() < 0 or (rows >= self.store_rows[stores]).any()):
            raise IndexError(f"{self.path}: a row outside its array was asked for")
        if shifts is not None and (self.info.eos_id is None or not ((shifts >= 0) & (shifts < 1)).all()):
            raise ArgumentError(f"{self.path}: shifts are for native grids (eos_id), allowed is 0 <= shift < 1")
        starts = self.store_offsets[stores]
        if len(rows) and starts.min() < 0:
            cells, starts = self._read_through_h5py(stores, rows)
        else:
            cells = self._bytes
            starts += rows * self.store_row_bytes[stores]
        info = self.info
        if info.eos_id is None:
            return runs(cells, 2 * info.seq_len)[starts].view(np.uint8).reshape(len(rows), 2, info.seq_len)
        shapes = self.store_shapes[stores]  # (B, 2, 2)
        swapped = SWAPS_SIDES[self._transforms[self._variant_numbers(stores, rows)]]
        shapes[swapped] = shapes[swapped][..., ::-1]
        offsets = pair_offsets(shapes, np.zeros((len(rows), 2)) if shifts is None else shifts, info.grid_shape)
        return frame_pairs(cells, starts, shapes, offsets, info.grid_shape, info.pad_id, info.eos_id)

    def _variant_numbers(self, stores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Number of each row's variant among those of all puzzles, int64 (B,)."""
        return self.first_variant[self.store_puzzles[stores]] + rows

    def _read_through_h5py(self, stores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the cells of all rows one after the other, where each row starts in them)."""
        row_bytes = self.store_row_bytes[stores]
        starts = _starts(row_bytes)
        cells = np.empty(int(row_bytes.sum()), dtype=np.uint8)
        with self._opened() as file:
            for store in np.unique(stores):
                wanted = np.flatnonzero(stores == store)
                unique, where = np.unique(rows[wanted], return_inverse=True)  # h5py wants ascending indices
                found = file[self.store_names[store]][unique].reshape(len(unique), -1)
                cells[starts[wanted][:, None] + np.arange(self.store_row_bytes[store])] = found[where]
        return cells, starts

    def puzzle_identifiers(self, stores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of the puzzle table, int64 (B,), for rows as `locate` and `locate_rows` name them; the blank one where
        the file gives none.
        """
        if self._identifiers is None:
            return np.full(len(rows), self.info.blank_identifier_id, dtype=np.int64)
        return self._identifiers[self._variant_numbers(stores, rows)].astype(np.int64)

    def row_names(self, numbers: np.ndarray) -> list[str]:
        """Names of the identifiers of rows (row numbers in stored order, (B,)); BLANK_NAME where the file gives
        none.
        """
        puzzle, rows, _ = self.row_places(np.asarray(numbers, dtype=np.int64))
        names = np.full(len(puzzle), BLANK_NAME, dtype=object)
        with self._opened() as file:
            for p in np.unique(puzzle[self.has_names[puzzle]]):
                wanted = np.flatnonzero(puzzle == p)
                stored = file[PUZZLES][self.puzzle_ids[p]][METADATA][NAME][:]
                names[wanted] = [name.decode("ascii") for name in stored[rows[wanted]]]
        return names.tolist()

    def identifier_names(self) -> list[str]:
        """What each row of the puzzle table stands for, num_puzzle_identifiers names: "" where no row of this file
        has that identifier, BLANK_NAME for the blank one. Raises DataError if one identifier has two names.
        """
        names = [""] * self.info.num_puzzle_identifiers
        names[self.info.blank_identifier_id] = BLANK_NAME
        with self._opened() as file:
            for p in np.flatnonzero(self.has_names):
                first = self.first_variant[p]
                identifiers = self._identifiers[first : first + self.puzzle_rows[p]].tolist()
                stored = file[PUZZLES][self.puzzle_ids[p]][METADATA][NAME][:].tolist()
                for identifier, name in zip(identifiers, stored, strict=True):
                    name = name.decode("ascii")
                    if names[identifier] not in ("", name):
                        raise DataError(
                            f"puzzle {self.puzzle_ids[p]!r} names the identifier {identifier} {name!r}, "
                            f"it is {names[identifier]!r} already"
                        )
                    names[identifier] = name
        return names

    def puzzle_attributes(self, puzzle: int) -> dict[str, object]:
        """What the builder noted about a puzzle_id (its place in `puzzle_ids`), as h5py gives it, without
        `rows_are`.
        """
        with self._opened() as file:
            attributes = dict(file[PUZZLES][self.puzzle_ids[puzzle]][METADATA].attrs)
        del attributes["rows_are"]
        return attributes

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
                f"the model's table has {config.num_puzzle_identifiers} rows: the table can be rearranged by name "
                f"(HrmForPuzzleSolving.rearrange_puzzle_table)"
            )

    def check_cells(self) -> None:
        """Read every cell once and raise DataError that names the first array with a code that is not allowed: any
        outside the vocabulary, and inside a native grid PAD and EOS.
        """
        first, stop_code = self.info.first_code, self.info.vocab_size
        if first == 0 and stop_code == 256:
            return  # every uint8 is allowed
        for store, (name, rows, offset, row_bytes) in enumerate(
            zip(self.store_names, self.store_rows, self.store_offsets, self.store_row_bytes, strict=True)
        ):
            step = max(_SCAN_BYTES // row_bytes, 1)
            for start in range(0, rows, step):
                stop = min(start + step, rows)
                if offset < 0:
                    cells, _ = self._read_through_h5py(np.full(stop - start, store), np.arange(start, stop))
                else:
                    cells = self._bytes[offset + start * row_bytes : offset + stop * row_bytes]
                if cells.max() >= stop_code or (first and cells.min() < first):
                    row, cell = divmod(int(np.argmax((cells < first) | (cells >= stop_code))), int(row_bytes))
                    inputs = int(self.store_shapes[store, 0].prod())
                    raise DataError(
                        f"{self.path}: {name} row {start + row} holds the code {cells[row * row_bytes + cell]} in "
                        f"{'input' if cell < inputs else 'label'} cell {cell if cell < inputs else cell - inputs}, "
                        f"allowed is {first} to {stop_code - 1}"
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


def _check_chunks(array: h5py.Dataset) -> None:
    """Raise DataError for chunks that are too large to unpack, or that other code than h5py's own would unpack."""
    size = prod(array.chunks) * array.dtype.itemsize
    if size > _MAX_CHUNK_BYTES:
        raise DataError(f"{array.name} has chunks of {size} bytes, allowed are {_MAX_CHUNK_BYTES}")
    properties = array.id.get_create_plist()
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    if not filters <= _FILTERS:
        raise DataError(f"{array.name} has HDF5 filters {sorted(filters)}, allowed are those of gzip and lzf")


def _shape_attribute(store: h5py.Dataset, name: str) -> np.ndarray:
    value = store.attrs.get(name)
    if not isinstance(value, np.ndarray) or value.shape != (2,) or value.dtype.kind not in "iu" or value.min() < 1:
        raise DataError(f"{store.name}: attribute {name!r} is {value!r:.200}, two integers of at least 1 are needed")
    return value.astype(np.int64)
