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

from ..errors import ArgumentError, DataError
from .schema import EXAMPLES, METADATA, PUZZLES, ROWS_ARE_PUZZLES, ROWS_ARE_VARIANTS, PuzzleSetInfo


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
        return self

    def add_puzzle(
        self,
        puzzle_id: str,
        examples: Sequence[np.ndarray],
        rows_are: str,
        attributes: Mapping[str, int | str],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Append one puzzle_id.

        examples: one uint8 array (rows, 2, S) per example, all with equal rows; attributes: facts about all rows;
        arrays: one entry per row each. Ids must come in ascending order, which is the order in which they are read.
        Raises DataError.
        """
        if rows_are not in (ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES):
            raise DataError(f"rows_are is {rows_are!r}, allowed are {ROWS_ARE_VARIANTS!r} and {ROWS_ARE_PUZZLES!r}")
        if not puzzle_id > self._last_id or "/" in puzzle_id:
            raise DataError(f"puzzle id {puzzle_id!r} must come after {self._last_id!r} and hold no '/'")
        if not examples:
            raise DataError(f"puzzle {puzzle_id!r} has no examples")
        rows = len(examples[0])
        for index, example in enumerate(examples):
            if example.dtype != np.uint8 or example.shape != (rows, 2, self.info.seq_len) or rows == 0:
                raise DataError(
                    f"example {index} of puzzle {puzzle_id!r} is {example.dtype} {example.shape}, "
                    f"needed is uint8 ({max(rows, 1)}, 2, {self.info.seq_len})"
                )
            if example.max() >= self.info.vocab_size:
                raise DataError(
                    f"puzzle {puzzle_id!r} holds the code {example.max()}, allowed is 0 to {self.info.vocab_size - 1}"
                )
        group = self._puzzles.create_group(puzzle_id)
        metadata = group.create_group(METADATA)
        metadata.attrs["rows_are"] = rows_are
        for name, value in attributes.items():
            metadata.attrs[name] = value
        for name, array in arrays.items():
            if len(array) != rows:
                raise DataError(f"metadata {name!r} of puzzle {puzzle_id!r} has {len(array)} entries for {rows} rows")
            metadata.create_dataset(name, data=array)
        stored = group.create_group(EXAMPLES)
        for index, example in enumerate(examples):
            stored.create_dataset(str(index), data=example)
        self._last_id = puzzle_id
        blocks = rows_are == ROWS_ARE_PUZZLES
        self.info = replace(
            self.info,
            num_groups=self.info.num_groups + (rows if blocks else 1),
            num_puzzles=self.info.num_puzzles + rows,
            num_rows=self.info.num_rows + rows * len(examples),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self.info.num_rows == 0:
                    raise DataError(f"{self.path} would hold no puzzle")
                for name, value in self.info.to_attributes().items():
                    self._file.attrs[name] = value
            self._file.close()
            if kind is None:
                os.replace(self._partial, self.path)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)
