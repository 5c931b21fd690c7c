"""Reads a puzzle file (layout: schema.py): opens and checks it, keeps an index in memory, fetches rows from the map.

Rows of a random batch lie scattered over the file. Arrays are contiguous and so have a byte offset: a batch is one
gather from the memory map (millions of rows a second), on the way of which native grids are put into frames.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ..hrm.errors import ArgumentError, DataError
from ..hrm.puzzle_identifiers import BLANK_NAME
from ..progress import progress
from . import schema
from .frames import frame_pairs, pair_offsets, runs
from .schema import PuzzleSetInfo

if TYPE_CHECKING:
    from ..hrm.configuration_hrm import HrmConfig

_SCAN_BYTES = 1 << 24  # rows are checked in pieces of this size

# The index of a puzzle file: an entry for each puzzle_id, and one for each of its examples, an array called a "store".
# Take fields before rows, index["rows"][stores]: it is 20 times as fast as index[stores]["rows"].
_PUZZLE = np.dtype(
    [
        ("rows", np.int64),  # of each of its arrays
        ("examples", np.int64),
        ("variants", np.int64),  # rows of each group
        ("has_names", bool),  # its rows have identifiers
        ("first_store", np.int64),  # its first of all stores, groups, variants and rows of the file
        ("first_group", np.int64),
        ("first_variant", np.int64),
        ("first_row", np.int64),
    ]
)
_STORE = np.dtype(
    [
        ("puzzle", np.int64),
        ("rows", np.int64),
        ("offset", np.int64),  # of its first byte in the file
        ("row_bytes", np.int64),
        ("shapes", np.int64, (2, 2)),  # (height, width) of input and label under transform 0
    ]
)


class PuzzleFile:
    """One open puzzle file. Picklable: the other process opens the file again and refuses one that has changed since.

    `info`: PuzzleSetInfo. `stamp`: (size, time of last change in ns). `puzzle_ids`: names; `puzzles`, `stores`: the
    index, structured arrays of _PUZZLE and _STORE in stored order.

    Raises DataError, naming the file and what is wrong with it: missing, truncated, not HDF5, of another format or
    version, attributes, types or shapes that contradict the layout or that the file is too small for, links, arrays
    that are not contiguous (`h5repack -l CONTI -f NONE` makes them so). So do the methods that read from it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).absolute()
        if not self.path.is_file():
            raise DataError(f"{self.path}: " + ("it is a folder" if self.path.is_dir() else "there is no such file"))
        status = self.path.stat()
        self.stamp = status.st_size, status.st_mtime_ns
        with self._opened() as file:
            self._read_index(file)
        with open(self.path, "rb") as raw:
            self._bytes = np.frombuffer(mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
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
        parent = _child(file, schema.PUZZLES, h5py.Group)
        self.puzzle_ids = list(parent)
        if not self.puzzle_ids:
            raise DataError("the file holds no puzzle")

        def row_array(name: str) -> np.ndarray:
            array = self._array(metadata, name)
            return schema.read_row_array(metadata.name, name, array, rows, self.info.num_puzzle_identifiers)

        puzzles, stores, transforms, identifiers = [], [], [], []
        num_cells = 0
        for puzzle_id in self.puzzle_ids:
            schema.check_puzzle_id(puzzle_id)
            group = _child(parent, puzzle_id, h5py.Group)
            metadata = _child(group, schema.METADATA, h5py.Group)
            examples = _child(group, schema.EXAMPLES, h5py.Group)
            arrays = [self._array(examples, str(index)) for index in range(len(examples))]
            if not arrays or not arrays[0].shape or not arrays[0].shape[0]:
                raise DataError(f"{examples.name} has no examples or no rows")
            rows = arrays[0].shape[0]
            variants = schema.variants_of_rows(metadata.name, metadata.attrs, rows)
            num_cells += sum(array.size for array in arrays)
            if num_cells > self.stamp[0]:  # one array has many names
                raise DataError(f"its puzzles have more cells than the file bytes, {self.stamp[0]}")
            if self.info.eos_id is not None:
                transforms.append(row_array(schema.TRANSFORM))
            has_names = schema.IDENTIFIER in metadata or schema.NAME in metadata
            if has_names:
                row_array(schema.NAME)
                identifiers.append(row_array(schema.IDENTIFIER))
            else:
                identifiers.append(np.full(rows, self.info.blank_identifier_id, dtype=np.int32))
            for each in arrays:
                shapes = self._shapes(each)
                schema.check_example(self.info, each.name, each, shapes, rows, transforms[-1] if transforms else None)
                stores.append((len(puzzles), rows, each.id.get_offset(), shapes.prod(axis=1).sum(), shapes))
            puzzles.append((rows, len(arrays), variants, has_names, 0, 0, 0, 0))
        self.puzzles, self.stores = np.array(puzzles, dtype=_PUZZLE), np.array(stores, dtype=_STORE)
        counts = {
            "store": self.puzzles["examples"],
            "group": self.puzzles["rows"] // self.puzzles["variants"],
            "variant": self.puzzles["rows"],
            "row": self.puzzles["rows"] * self.puzzles["examples"],
        }
        for name, count in counts.items():
            self.puzzles[f"first_{name}"] = np.cumsum(count) - count
        for name, count in (("num_groups", "group"), ("num_puzzles", "variant"), ("num_rows", "row")):
            if (found := int(counts[count].sum())) != getattr(self.info, name):
                raise DataError(f"root attribute {name!r} is {getattr(self.info, name)}, the file holds {found}")
        self._transforms = np.concatenate(transforms) if transforms else None  # uint8 (num_puzzles,)
        self._identifiers = np.concatenate(identifiers) if self.has_names else None  # int32 (num_puzzles,)

    def _shapes(self, array: h5py.Dataset) -> np.ndarray:
        """(height, width) of an example's input and label, int64 (2, 2)."""
        if self.info.eos_id is None:
            return np.array([self.info.grid_shape, self.info.grid_shape])
        names = (schema.INPUT_SHAPE, schema.LABEL_SHAPE)
        return np.array([schema.read_attribute(array.name, array.attrs, name, tuple[int, int]) for name in names])

    def _array(self, parent: h5py.Group, name: str) -> h5py.Dataset:
        """An array whose data lies in one piece in this file, so that memory and time stay in proportion to it."""
        array = _child(parent, name, h5py.Dataset)
        offset = array.id.get_offset()
        if offset is None:
            reason = "is not contiguous (empty, chunked, compressed or external)"
            raise DataError(f"{array.name} {reason}: repack the file with h5repack -l CONTI -f NONE")
        if offset + array.nbytes > self.stamp[0]:
            raise DataError(f"{array.name} ends past the end of the file: the file is truncated")
        return array

    @property
    def has_names(self) -> bool:
        """Whether any row of the file has an identifier of its own, and so a name."""
        return bool(self.puzzles["has_names"].any())

    def store_name(self, store: int) -> str:
        """Where in the file a store lies."""
        puzzle = self.stores["puzzle"][store]
        example = store - self.puzzles["first_store"][puzzle]
        return f"/{schema.PUZZLES}/{self.puzzle_ids[puzzle]}/{schema.EXAMPLES}/{example}"

    def group_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(variants of each group, examples of each of its variants), both int64 (num_groups,), for the sampler."""
        variants = self.puzzles["variants"]
        groups = self.puzzles["rows"] // variants
        return np.repeat(variants, groups), np.repeat(self.puzzles["examples"], groups)

    def locate(self, groups: np.ndarray, variants: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the sampler draws, (B,) each -> (number of the store, row inside it), int64 (B,)."""
        first_stores, first_rows = self._group_places
        return first_stores[groups] + examples, first_rows[groups] + variants

    @cached_property
    def _group_places(self) -> tuple[np.ndarray, np.ndarray]:
        """(first store, first row in it) of each group, int64 (num_groups,), so that no batch has to search."""
        groups = self.puzzles["rows"] // self.puzzles["variants"]
        numbers = np.arange(self.info.num_groups) - np.repeat(self.puzzles["first_group"], groups)
        first_rows = numbers * np.repeat(self.puzzles["variants"], groups)
        return np.repeat(self.puzzles["first_store"], groups), first_rows

    def locate_rows(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `locate`, for row numbers in stored order, (B,)."""
        puzzle, rows, examples = self.row_places(numbers)
        return self.puzzles["first_store"][puzzle] + examples, rows

    def groups_and_variants(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in stored order, (B,) -> (group, variant) that each row belongs to, int64 (B,)."""
        puzzle, rows, _ = self.row_places(numbers)
        groups, variants = np.divmod(rows, self.puzzles["variants"][puzzle])
        return self.puzzles["first_group"][puzzle] + groups, variants

    def row_places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers in stored order, (B,) -> (place in `puzzle_ids`, row of its arrays, example), int64 (B,)."""
        first_row = self.puzzles["first_row"]
        puzzle = np.searchsorted(first_row, numbers, side="right") - 1
        rows, examples = np.divmod(numbers - first_row[puzzle], self.puzzles["examples"][puzzle])
        return puzzle, rows, examples

    def has_answer(self, numbers: np.ndarray) -> np.ndarray:
        """(B,) bool: whether the answer of a row (row numbers in stored order, (B,)) is in the file, not hidden."""
        return self.stores["shapes"][self.locate_rows(numbers)[0], 1].all(axis=1)

    def read(self, stores: np.ndarray, rows: np.ndarray, shifts: np.ndarray | None = None) -> np.ndarray:
        """Rows as `locate` and `locate_rows` name them -> uint8 (B, 2, S), a fresh array.

        shifts: float64 (B, 2) in [0, 1), for native grids only: where each pair goes (see `pair_offsets`); None = the
        top left corner of the frame. Raises IndexError out of range, ArgumentError for shifts that are not allowed.
        """
        info, index = self.info, self.stores
        if len(rows) and (rows.min() < 0 or (rows >= index["rows"][stores]).any()):
            raise IndexError(f"{self.path}: a row lies outside its array")
        if shifts is not None and (info.eos_id is None or not ((shifts >= 0) & (shifts < 1)).all()):
            raise ArgumentError(f"{self.path}: shifts are for native grids (eos_id), allowed is 0 <= shift < 1")
        cells, starts = self._bytes, index["offset"][stores] + rows * index["row_bytes"][stores]
        if info.eos_id is None:
            return runs(cells, 2 * info.seq_len)[starts].view(np.uint8).reshape(len(rows), 2, info.seq_len)
        shapes = index["shapes"][stores]  # (B, 2, 2)
        swapped = schema.SWAPS_SIDES[self._transforms[self._variant_numbers(stores, rows)]]
        shapes[swapped] = shapes[swapped][..., ::-1]
        offsets = pair_offsets(shapes, np.zeros((len(rows), 2)) if shifts is None else shifts, info.grid_shape)
        return frame_pairs(cells, starts, shapes, offsets, info.grid_shape, info.pad_id, info.eos_id)

    def _variant_numbers(self, stores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Number of each row's variant among those of all puzzles, int64 (B,)."""
        return self.puzzles["first_variant"][self.stores["puzzle"][stores]] + rows

    def puzzle_identifiers(self, stores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of the puzzle table, int64 (B,), for rows as `locate` names them; the blank one where there is none."""
        if self._identifiers is None:
            return np.full(len(rows), self.info.blank_identifier_id, dtype=np.int64)
        return self._identifiers[self._variant_numbers(stores, rows)].astype(np.int64)

    def row_names(self, numbers: np.ndarray) -> list[str]:
        """Names of the identifiers of rows (row numbers in stored order, (B,)); BLANK_NAME where there is none."""
        names = self.identifier_names()
        identifiers = self.puzzle_identifiers(*self.locate_rows(np.asarray(numbers, dtype=np.int64)))
        return [names[identifier] for identifier in identifiers.tolist()]

    def identifier_names(self) -> list[str]:
        """What each row of the puzzle table stands for, num_puzzle_identifiers names: "" where no row of this file
        has that identifier, BLANK_NAME for the blank one. Raises DataError if one identifier has two names.
        """
        names = [""] * self.info.num_puzzle_identifiers
        names[self.info.blank_identifier_id] = BLANK_NAME
        with self._opened() as file:
            for p in np.flatnonzero(self.puzzles["has_names"]):
                first = self.puzzles["first_variant"][p]
                identifiers = self._identifiers[first : first + self.puzzles["rows"][p]].tolist()
                metadata = file[schema.PUZZLES][self.puzzle_ids[p]][schema.METADATA]
                for identifier, name in zip(identifiers, metadata[schema.NAME][:].astype(str).tolist()):
                    if (known := names[identifier]) not in ("", name):
                        said = f"puzzle {self.puzzle_ids[p]!r} names the identifier {identifier} {name!r}"
                        raise DataError(f"{said}, it is {known!r} already")
                    names[identifier] = name
        return names

    def check_fits(self, config: "HrmConfig", task: str) -> None:
        """Raise DataError unless a model of this configuration, made for this task, can work on the file."""
        for name, models in (("task", task), ("vocab_size", config.vocab_size), ("seq_len", config.seq_len)):
            if (own := getattr(self.info, name)) != models:
                raise DataError(f"{self.path}: {name} is {own!r}, the model's is {models!r}")
        if (needed := self.info.num_puzzle_identifiers) > (rows := config.num_puzzle_identifiers):
            sizes = f"it has {needed} puzzle identifiers, the model's table has {rows} rows"
            raise DataError(f"{self.path}: {sizes}: the table can be rearranged by name (rearrange_puzzle_table)")

    def check_cells(self) -> None:
        """Raises DataError that names the first cell whose code is not allowed: see PuzzleSetInfo.first_code."""
        first, last = self.info.first_code, self.info.vocab_size - 1
        if first == 0 and last == 255:
            return  # every uint8 is allowed
        for number, store in enumerate(progress(self.stores, f"checking {self.path.name}", unit="arrays")):
            offset, row_bytes = int(store["offset"]), int(store["row_bytes"])
            step = max(_SCAN_BYTES // row_bytes, 1)
            for start in range(0, int(store["rows"]), step):
                stop = min(start + step, int(store["rows"]))
                cells = self._bytes[offset + start * row_bytes : offset + stop * row_bytes]
                if cells.max() > last or (first and cells.min() < first):
                    row, cell = divmod(int(np.argmax((cells < first) | (cells > last))), row_bytes)
                    inputs = int(store["shapes"][0].prod())
                    side = f"input cell {cell}" if cell < inputs else f"label cell {cell - inputs}"
                    found = f"row {start + row} holds the code {cells[row * row_bytes + cell]} in {side}"
                    raise DataError(f"{self.path}: {self.store_name(number)} {found}, allowed are {first} to {last}")


def _child(parent: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    """A group or array that lies in this very place; links elsewhere are refused, for the index relies on places."""
    link, place = parent.get(name, getlink=True), f"{parent.name.rstrip('/')}/{name}"
    if link is None:
        raise DataError(f"{place} is missing")
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{place} is a link to another place; links are refused")
    if not isinstance(parent[name], kind):
        raise DataError(f"{place} is not a {kind.__name__.lower()}")
    return parent[name]
