"""The layout of a puzzle file in one place: names, versions and the facts that its root attributes state. Only numpy.

    /                                     attributes: see PuzzleSetInfo
    puzzles/{puzzle_id}/metadata          a group: attribute `rows_are`, other attributes, arrays of one entry per row
    puzzles/{puzzle_id}/examples/{idx}    uint8 (rows, 2, S), contiguous: input [r, 0] and label [r, 1] side by side

`rows_are` says what the rows of one puzzle_id are. "variants": one original puzzle (row 0) and its augmented variants;
together they are ONE group of the sampler. "puzzles": a block of up to BLOCK_ROWS different originals, each a group of
its own (one HDF5 group per puzzle would cost 20 times the space). Puzzle ids are stored in the order of their names,
examples in that of their numbers. A data set therefore is groups -> variants -> examples, and its rows are numbered in
that order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

import numpy as np

from ..errors import DataError

FORMAT = "hrm_hf.puzzles"
VERSION = 1
PUZZLES, METADATA, EXAMPLES = "puzzles", "metadata", "examples"
ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES = "variants", "puzzles"
BLOCK_ROWS = 100_000
IGNORED_LABEL = -100  # what the losses leave out; the file stores ignore_label_id, an uint8, in its place


@dataclass(frozen=True)
class PuzzleSetInfo:
    """What the root of a puzzle file says about the whole set.

    task: "sudoku", ...; split: "train" or "test"; vocabulary: vocab_size names, one per cell code; pad_id,
    ignore_label_id: cell codes; blank_identifier_id: row of the puzzle table for puzzles without an identifier;
    grid_shape: (height, width) in cells; num_puzzle_identifiers: rows that the puzzle table needs; num_groups:
    original puzzles; num_puzzles: variants of all groups; num_rows: (input, label) pairs; num_aug: variants asked for
    beside each original; seed: of the generator that drew them; box_shape: (rows, columns) of a Sudoku box, None for
    other tasks.
    """

    task: str
    split: str
    vocab_size: int
    vocabulary: tuple[str, ...]
    grid_shape: tuple[int, int]
    num_aug: int
    seed: int
    pad_id: int = 0
    ignore_label_id: int = 0
    blank_identifier_id: int = 0
    num_puzzle_identifiers: int = 1
    num_groups: int = 0
    num_puzzles: int = 0
    num_rows: int = 0
    box_shape: tuple[int, int] | None = None

    @property
    def seq_len(self) -> int:
        """S, the number of cells."""
        return prod(self.grid_shape)

    @property
    def mean_examples(self) -> float:
        """Examples per variant, averaged over all variants of the set."""
        return self.num_rows / self.num_puzzles

    def to_attributes(self) -> dict[str, object]:
        """The root attributes, as h5py stores them; a field that is None is left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        attributes = {name: _attribute(value) for name, value in values.items() if value is not None}
        return {"format": FORMAT, "version": VERSION} | attributes

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, object]) -> "PuzzleSetInfo":
        """Read and check what `to_attributes` gives. Raises DataError that names the attribute, its value and what
        is allowed.
        """
        if "format" not in attributes or _text("format", attributes["format"]) != FORMAT:
            raise DataError(f"root attribute 'format' is {attributes.get('format')!r}, this package reads {FORMAT!r}")
        if "version" not in attributes or _integer("version", attributes["version"]) != VERSION:
            raise DataError(f"root attribute 'version' is {attributes.get('version')!r}, this package reads {VERSION}")
        readers = {str: _text, int: _integer, tuple[str, ...]: _texts, tuple[int, int]: _pair}
        values = {}
        for field in fields(cls):
            if field.name == "box_shape":
                values["box_shape"] = (
                    _pair("box_shape", attributes["box_shape"]) if "box_shape" in attributes else None
                )
            elif field.name in attributes:
                values[field.name] = readers[field.type](field.name, attributes[field.name])
            else:
                raise DataError(f"root attribute {field.name!r} is missing")
        info = cls(**values)
        info.check()
        return info

    def check(self) -> None:
        """Raise DataError if the facts contradict each other."""
        if not 1 <= self.vocab_size <= 256 or len(self.vocabulary) != self.vocab_size:
            raise DataError(
                f"vocab_size is {self.vocab_size} (allowed 1 to 256), vocabulary has {len(self.vocabulary)} names"
            )
        for name in ("pad_id", "ignore_label_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise DataError(f"{name} is {getattr(self, name)}, allowed are the codes 0 to {self.vocab_size - 1}")
        if not 0 <= self.blank_identifier_id < self.num_puzzle_identifiers:
            raise DataError(
                f"blank_identifier_id is {self.blank_identifier_id}, "
                f"allowed are 0 to num_puzzle_identifiers - 1 = {self.num_puzzle_identifiers - 1}"
            )
        if min(self.grid_shape) < 1:
            raise DataError(f"grid_shape is {self.grid_shape}, both sides must be at least 1")
        if min(self.num_groups, self.num_puzzles, self.num_rows, self.num_aug, self.seed) < 0:
            raise DataError("counts and seed must not be negative")
        if self.box_shape is not None and self.grid_shape != (prod(self.box_shape),) * 2:
            raise DataError(f"box_shape {self.box_shape} does not fit grid_shape {self.grid_shape}")


def _attribute(value: object) -> object:
    """Texts and integers as they are; tuples of integers as arrays; tuples of texts as lists."""
    if isinstance(value, tuple):
        return list(value) if isinstance(value[0], str) else np.asarray(value, dtype=np.int64)
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"root attribute {name!r} is {value!r}, a text is needed")
    return value


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int | np.integer):
        raise DataError(f"root attribute {name!r} is {value!r}, an integer is needed")
    return int(value)


def _texts(name: str, value: object) -> tuple[str, ...]:
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise DataError(f"root attribute {name!r} is {value!r}, a list of texts is needed")
    return tuple(items)


def _pair(name: str, value: object) -> tuple[int, int]:
    if not isinstance(value, np.ndarray) or value.shape != (2,) or value.dtype.kind not in "iu":
        raise DataError(f"root attribute {name!r} is {value!r}, two integers are needed")
    return int(value[0]), int(value[1])
