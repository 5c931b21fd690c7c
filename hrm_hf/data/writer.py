"""Writes a puzzle file (layout: schema.py) puzzle by puzzle, so that memory holds one puzzle at a time.

The bytes depend on what is added and in which order alone: no time stamps, no names of the machine. The file appears
under its name when it is complete and not before, so that a torn build leaves none behind.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from ..hrm.errors import ArgumentError, DataError
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
    TRANSFORM,
    GridExample,
    PuzzleSetInfo,
    check_frame_fits,
    check_puzzle_id,
    check_row_array,
)

_NO_LIMIT = 2**31  # identifiers are held against num_puzzle_identifiers when the file is complete


class PuzzleWriter:
    """A context manager: `with PuzzleWriter(path, info) as writer: writer.add_puzzle(...)`.

    `info` gives the facts of the set; its counts (num_groups, num_puzzles, num_rows) are counted here. An existing
    file is refused with ArgumentError unless `overwrite` is set.
    """

    def __init__(self, path: str | os.PathLike, info: PuzzleSetInfo, overwrite: bool = False) -> None:
        info.check()
        self.path, self.info = Path(path), replace(info, num_groups=0, num_puzzles=0, num_rows=0)
        if self.path.exists() and not overwrite:
            raise ArgumentError(
                f"{self.path} exists already: remove it, choose another folder, or ask for overwriting"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")

    def __enter__(self) -> "PuzzleWriter":
        # These version bounds give small groups (no 900-byte table each) and fix the bytes across library versions.
        self._file = h5py.File(self._partial, "w", libver=("v108", "v108"))
        self._puzzles = self._file.create_group(PUZZLES)
        self._last_id = ""
        self._largest_identifier = 0
        return self

    def set_num_puzzle_identifiers(self, num: int) -> None:
        """State how many rows the puzzle table needs; for builders that know it only once all puzzles are added."""
        self.info = replace(self.info, num_puzzle_identifiers=num)

    def add_puzzle(
        self,
        puzzle_id: str,
        examples: Sequence[np.ndarray] | Sequence[GridExample],
        rows_are: str,
        attributes: Mapping[str, int | str],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Append one puzzle_id.

        examples: one uint8 array (rows, 2, S) per example, or one GridExample where eos_id is set, all with equal
        rows; attributes: facts about all rows; arrays: one entry per row each, among them `transform` (needed where
        eos_id is set) and `identifier` with `name` (both or neither) as schema.py says. Ids must come in ascending
        order, which is the order in which they are read. Raises DataError, naming the puzzle.
        """
        if rows_are not in (ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES):
            raise DataError(f"rows_are is {rows_are!r}, allowed are {ROWS_ARE_VARIANTS!r} and {ROWS_ARE_PUZZLES!r}")
        check_puzzle_id(puzzle_id)
        if not puzzle_id > self._last_id:
            raise DataError(f"puzzle id {puzzle_id!r} must come after {self._last_id!r}")
        if not examples:
            raise DataError(f"puzzle {puzzle_id!r} has no examples")
        rows = self._check_examples(puzzle_id, examples)
        self._check_arrays(puzzle_id, examples, arrays, rows)
        group = self._puzzles.create_group(puzzle_id)
        metadata = group.create_group(METADATA)
        metadata.attrs["rows_are"] = rows_are
        for name, value in attributes.items():
            try:
                metadata.attrs[name] = value
            except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # NUL, no Unicode, too large
                raise DataError(f"puzzle {puzzle_id!r}: {name} cannot be stored: {error}: {value!r:.200}") from error
        for name, array in arrays.items():
            metadata.create_dataset(name, data=array)
        stored = group.create_group(EXAMPLES)
        for index, example in enumerate(examples):
            if self.info.eos_id is None:
                stored.create_dataset(str(index), data=example)
                continue
            grids = stored.create_dataset(str(index), data=example.cells)
            grids.attrs[INPUT_SHAPE] = np.asarray(example.input_shape, dtype=np.int64)
            grids.attrs[LABEL_SHAPE] = np.asarray(example.label_shape, dtype=np.int64)
        self._last_id = puzzle_id
        self._largest_identifier = max(self._largest_identifier, int(np.max(arrays.get(IDENTIFIER, 0))))
        blocks = rows_are == ROWS_ARE_PUZZLES
        self.info = replace(
            self.info,
            num_groups=self.info.num_groups + (rows if blocks else 1),
            num_puzzles=self.info.num_puzzles + rows,
            num_rows=self.info.num_rows + rows * len(examples),
        )

    def _check_examples(self, puzzle_id: str, examples: Sequence[np.ndarray] | Sequence[GridExample]) -> int:
        """Raise DataError unless the examples fit the layout; the number of their rows."""
        info, rows = self.info, None
        for index, example in enumerate(examples):
            cells, row_shape = example, (2, info.seq_len)
            if info.eos_id is not None:
                if not isinstance(example, GridExample):
                    raise DataError(
                        f"example {index} of puzzle {puzzle_id!r} is a {type(example).__name__}: "
                        f"a file with eos_id {info.eos_id} needs a GridExample"
                    )
                cells = example.cells
                row_shape = (int(np.prod(example.input_shape) + np.prod(example.label_shape)),)
            rows = len(cells) if rows is None else rows
            if cells.dtype != np.uint8 or cells.shape != (rows, *row_shape) or rows == 0:
                raise DataError(
                    f"example {index} of puzzle {puzzle_id!r} is {cells.dtype} {cells.shape}, "
                    f"needed is uint8 {(max(rows, 1), *row_shape)}"
                )
            for code in (cells.min(), cells.max()):
                if not info.first_code <= code < info.vocab_size:
                    raise DataError(
                        f"puzzle {puzzle_id!r} holds the code {code}, "
                        f"allowed is {info.first_code} to {info.vocab_size - 1}"
                    )
        return rows

    def _check_arrays(
        self,
        puzzle_id: str,
        examples: Sequence[np.ndarray] | Sequence[GridExample],
        arrays: Mapping[str, np.ndarray],
        rows: int,
    ) -> None:
        """Raise DataError unless the arrays fit the rows, and the grids the frame under their transforms."""
        for name, array in arrays.items():
            if len(array) != rows:
                raise DataError(f"metadata {name!r} of puzzle {puzzle_id!r} has {len(array)} entries for {rows} rows")
        if (IDENTIFIER in arrays) != (NAME in arrays):
            raise DataError(f"puzzle {puzzle_id!r} must have both arrays {IDENTIFIER!r} and {NAME!r} or neither")
        grids = self.info.eos_id is not None
        if grids and TRANSFORM not in arrays:
            raise DataError(f"puzzle {puzzle_id!r} needs the array {TRANSFORM!r}")
        try:
            for name in (IDENTIFIER, NAME, TRANSFORM) if grids else (IDENTIFIER, NAME):
                if name in arrays:
                    check_row_array(name, arrays[name], rows, _NO_LIMIT)
            for example in examples if grids else ():
                shapes = np.array([example.input_shape, example.label_shape], dtype=np.int64)
                check_frame_fits(shapes, arrays[TRANSFORM], self.info.grid_shape)
        except DataError as error:
            raise DataError(f"puzzle {puzzle_id!r}: {error}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self.info.num_rows == 0:
                    raise DataError(f"{self.path} would hold no puzzle")
                if self._largest_identifier >= self.info.num_puzzle_identifiers:
                    raise DataError(
                        f"{self.path} would hold the identifier {self._largest_identifier}, "
                        f"allowed are 0 to num_puzzle_identifiers - 1 = {self.info.num_puzzle_identifiers - 1}"
                    )
                self.info.check()
                for name, value in self.info.to_attributes().items():
                    self._file.attrs[name] = value
            self._file.close()
            if kind is None:
                os.replace(self._partial, self.path)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)
