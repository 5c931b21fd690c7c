"""Writes a puzzle file (layout: schema.py) puzzle by puzzle, so that memory holds one puzzle at a time.

The bytes depend on what is added and in which order alone: no time stamps, no names of the machine. The file appears
under its name when it is complete and not before, so that a torn build leaves none behind.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ..files import refuse_existing, written_whole
from ..hrm.errors import DataError
from . import schema
from .schema import GridExample, PuzzleSetInfo

_NO_LIMIT = 2**31  # identifiers are held against num_puzzle_identifiers when the file is complete


class PuzzleWriter:
    """A context manager: `with PuzzleWriter(path, info) as writer: writer.add_puzzle(...)`.

    `info` gives the facts of the set; its counts (num_groups, num_puzzles, num_rows) are counted here. An existing
    file is refused with ArgumentError unless `overwrite` is set.
    """

    def __init__(self, path: str | os.PathLike, info: PuzzleSetInfo, overwrite: bool = False) -> None:
        info.check()
        self.path, self.info = Path(path), replace(info, num_groups=0, num_puzzles=0, num_rows=0)
        if not overwrite:
            refuse_existing(self.path)

    def __enter__(self) -> "PuzzleWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            partial = opened.enter_context(written_whole(self.path))
            # These bounds give small groups (no 900-byte table each) and fix the bytes across library versions.
            self._file = opened.enter_context(h5py.File(partial, "w", libver=("v108", "v108")))
            self._opened = opened.pop_all()
        self._puzzles = self._file.create_group(schema.PUZZLES)
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
        rows; rows_are: what schema.py allows; attributes: facts about all rows, among them `num_variants` where rows
        are "puzzles with variants"; arrays: one entry per row or per original each, among them, per row, `transform`
        (required where eos_id is set) and `identifier` with `name` (both or neither) as schema.py says. Ids must come
        in ascending order, which is the order in which they are read. Raises DataError, naming the puzzle.
        """
        schema.check_puzzle_id(puzzle_id)
        puzzle = f"puzzle {puzzle_id!r}"
        if not puzzle_id > self._last_id:
            raise DataError(f"{puzzle} must come after {self._last_id!r}: ids must ascend")
        if self.info.eos_id is None:
            examples = [GridExample(cells, self.info.grid_shape, self.info.grid_shape) for cells in examples]
        elif not all(isinstance(example, GridExample) for example in examples):
            raise DataError(f"{puzzle}: a file with an eos_id takes a GridExample for each example")
        rows = len(examples[0].cells) if examples else 0
        if not rows:
            raise DataError(f"{puzzle} has no examples or no rows")
        attributes = {"rows_are": rows_are, **attributes}
        groups = rows // schema.variants_of_rows(puzzle, attributes, rows)
        self._check_arrays(puzzle, arrays, rows, groups)
        lowest, highest = self.info.first_code, self.info.vocab_size - 1
        for index, example in enumerate(examples):
            name, cells = f"example {index} of {puzzle}", example.cells
            shapes = np.array([example.input_shape, example.label_shape], dtype=np.int64)
            schema.check_example(self.info, name, cells, shapes, rows, arrays.get(schema.TRANSFORM))
            for code in (cells.min(), cells.max()):
                if not lowest <= code <= highest:
                    raise DataError(f"{name} holds the code {code}, allowed are {lowest} to {highest}")
        group = self._puzzles.create_group(puzzle_id)
        metadata = group.create_group(schema.METADATA)
        for name, value in attributes.items():
            try:
                metadata.attrs[name] = value
            except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # NUL, no Unicode, too large
                raise DataError(f"{puzzle}: {name} cannot be stored: {error}: {value!r:.200}") from error
        for name, array in arrays.items():
            metadata.create_dataset(name, data=array)
        stored = group.create_group(schema.EXAMPLES)
        for index, example in enumerate(examples):
            cells = stored.create_dataset(str(index), data=example.cells)
            if self.info.eos_id is not None:
                cells.attrs[schema.INPUT_SHAPE] = np.asarray(example.input_shape, dtype=np.int64)
                cells.attrs[schema.LABEL_SHAPE] = np.asarray(example.label_shape, dtype=np.int64)
        self._last_id = puzzle_id
        self._largest_identifier = max(self._largest_identifier, int(np.max(arrays.get(schema.IDENTIFIER, 0))))
        self.info = replace(
            self.info,
            num_groups=self.info.num_groups + groups,
            num_puzzles=self.info.num_puzzles + rows,
            num_rows=self.info.num_rows + rows * len(examples),
        )

    def _check_arrays(self, puzzle: str, arrays: Mapping[str, np.ndarray], rows: int, groups: int) -> None:
        for name, array in arrays.items():
            if len(array) not in (rows, groups):
                of_rows = f"{len(array)} entries for {rows} rows of {groups} originals"
                raise DataError(f"{puzzle}: metadata {name!r} has {of_rows}")
        if (schema.IDENTIFIER in arrays) != (schema.NAME in arrays):
            raise DataError(f"{puzzle} must have both arrays {schema.IDENTIFIER!r} and {schema.NAME!r} or neither")
        used = [schema.IDENTIFIER, schema.NAME]
        if self.info.eos_id is not None:
            used.append(schema.TRANSFORM)
            if schema.TRANSFORM not in arrays:
                raise DataError(f"{puzzle} lacks the array {schema.TRANSFORM!r}, which a file of native grids needs")
        for name in used:
            if name in arrays:
                schema.read_row_array(puzzle, name, arrays[name], rows, _NO_LIMIT)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        with self._opened:
            if error is not None:
                raise error  # so that the partial file goes
            if self.info.num_rows == 0:
                raise DataError(f"{self.path} would hold no puzzle")
            if self._largest_identifier >= self.info.num_puzzle_identifiers:
                allowed = f"0 to num_puzzle_identifiers - 1 = {self.info.num_puzzle_identifiers - 1}"
                raise DataError(f"{self.path} holds the identifier {self._largest_identifier}, allowed are {allowed}")
            self.info.check()
            for name, value in self.info.to_attributes().items():
                self._file.attrs[name] = value
