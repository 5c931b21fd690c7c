"""The layout of a puzzle file in one place: names, versions and the facts that its root attributes state. Only numpy.

    /                                     attributes: see PuzzleSetInfo
    puzzles/{puzzle_id}/metadata          a group: attribute `rows_are`, other attributes, arrays of one entry per row
    puzzles/{puzzle_id}/examples/{idx}    uint8 (rows, 2, S), contiguous: input [r, 0] and label [r, 1] side by side

If the root has the attribute `eos_id`, examples hold native grids instead, and frames are made when they are read:

    puzzles/{puzzle_id}/examples/{idx}       uint8 (rows, n_in + n_out), contiguous: the cells of the input grid and of
                                             the label grid, each row by row; attributes input_shape, label_shape: the
                                             two grids' (height, width) under transform 0, which row 0 has
    puzzles/{puzzle_id}/metadata/transform   uint8 (rows,): the dihedral transform of each row (hrm_hf.symmetry)

Transforms that swap the sides swap the shapes of their rows, but all rows of an array have one length. In either
layout puzzles may have identifiers:

    puzzles/{puzzle_id}/metadata/identifier  int32 (rows,): row of the puzzle table; without it, the blank identifier
    puzzles/{puzzle_id}/metadata/name        fixed-length printable ASCII (rows,): what the identifier stands for

`rows_are` says what the rows of one puzzle_id are. "variants": one original puzzle (row 0) and its augmented variants;
together they are ONE group of the sampler. "puzzles": a block of up to BLOCK_ROWS different originals, each a group of
its own (one HDF5 group per puzzle would cost 20 times the space). Puzzle ids are stored in the order of their names,
examples in that of their numbers. A data set therefore is groups -> variants -> examples, and its rows are numbered in
that order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import NamedTuple

import numpy as np

from ..hrm.errors import DataError

FORMAT = "hrm_hf.puzzles"
VERSION = 1
PUZZLES, METADATA, EXAMPLES = "puzzles", "metadata", "examples"
TRANSFORM, IDENTIFIER, NAME = "transform", "identifier", "name"  # arrays of the metadata that the reader uses
INPUT_SHAPE, LABEL_SHAPE = "input_shape", "label_shape"
ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES = "variants", "puzzles"
BLOCK_ROWS = 100_000
MAX_CELLS = 1_000_000  # of a frame
MAX_IDENTIFIERS = 1 << 24  # over ten times what all published ARC tasks have with 1,000 variants each
MAX_VARIANTS = 1_000_000  # beside each original, that a builder makes
MAX_NEW_PUZZLES = 100_000_000  # that a generator is asked for at once
MAX_NAME = 1000  # characters of a puzzle id, of an identifier's name, of a word of the vocabulary
IGNORED_LABEL = -100  # what the losses leave out; the file stores ignore_label_id, an uint8, in its place
SWAPS_SIDES = np.array([False, True, False, True, False, False, True, True])  # (8,), by dihedral transform


@dataclass(frozen=True)
class PuzzleSetInfo:
    """What the root of a puzzle file says about the whole set.

    task: "sudoku", ...; split: "train" or "test"; vocabulary: vocab_size names, one per cell code; pad_id,
    ignore_label_id: cell codes; blank_identifier_id: row of the puzzle table for puzzles without an identifier;
    grid_shape: (height, width) in cells; num_puzzle_identifiers: rows that the puzzle table needs; num_groups:
    original puzzles; num_puzzles: variants of all groups; num_rows: (input, label) pairs; num_aug: variants asked for
    beside each original; seed: of the generator that drew them; box_shape: (rows, columns) of a Sudoku box, None for
    other tasks; eos_id: the cell code that closes a grid inside its frame, None if every puzzle fills its frame.
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
    eos_id: int | None = None

    @property
    def first_code(self) -> int:
        """The lowest code that a stored cell may have: native grids hold neither PAD nor EOS."""
        return 0 if self.eos_id is None else self.eos_id + 1

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
            raise DataError(
                f"root attribute 'format' is {_shown(attributes.get('format'))}, this package reads {FORMAT!r}"
            )
        if "version" not in attributes or _integer("version", attributes["version"]) != VERSION:
            raise DataError(f"root attribute 'version' is {attributes.get('version')!r}, this package reads {VERSION}")
        readers = {str: _text, int: _integer, tuple[str, ...]: _texts, tuple[int, int]: _pair}
        readers |= {int | None: _integer, tuple[int, int] | None: _pair}
        values = {}
        for field in fields(cls):
            if field.name in attributes:
                values[field.name] = readers[field.type](field.name, attributes[field.name])
            elif field.default is not None:  # a field that may be None is left out if it is
                raise DataError(f"root attribute {field.name!r} is missing")
        info = cls(**values)
        info.check()
        return info

    def check(self) -> None:
        """Raise DataError if the facts contradict each other, or are out of all proportion."""
        for name, texts in (("task", (self.task,)), ("split", (self.split,)), ("vocabulary", self.vocabulary)):
            for text in texts:
                if not text.isprintable() or len(text) > MAX_NAME:
                    raise DataError(
                        f"{name} holds {text[:40]!r}, needed is printable text of at most {MAX_NAME} characters"
                    )
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
        if self.num_puzzle_identifiers > MAX_IDENTIFIERS:
            raise DataError(
                f"num_puzzle_identifiers is {self.num_puzzle_identifiers}, allowed are at most {MAX_IDENTIFIERS}"
            )
        if min(self.grid_shape) < 1 or prod(self.grid_shape) > MAX_CELLS:
            raise DataError(
                f"grid_shape is {self.grid_shape}, both sides must be at least 1, and the cells at most {MAX_CELLS}"
            )
        for name in ("num_groups", "num_puzzles", "num_rows", "num_aug", "seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise DataError(f"{name} is {getattr(self, name)}, allowed are 0 to {2**63 - 1}")
        if self.box_shape is not None and (min(self.box_shape) < 1 or self.grid_shape != (prod(self.box_shape),) * 2):
            raise DataError(f"box_shape {self.box_shape} does not fit grid_shape {self.grid_shape}")
        if self.eos_id is not None and not self.pad_id < self.eos_id < self.vocab_size - 1:
            raise DataError(
                f"eos_id is {self.eos_id}, allowed are pad_id + 1 = {self.pad_id + 1} to vocab_size - 2 = "
                f"{self.vocab_size - 2}: the codes above it are those of grid cells"
            )


class GridExample(NamedTuple):
    """One example of a puzzle_id in a file of native grids: what PuzzleWriter takes where eos_id is set.

    cells: uint8 (rows, n_in + n_out), token ids of the input and of the label grid, each row by row; input_shape,
    label_shape: (height, width) of the two grids under transform 0, which row 0 has.
    """

    cells: np.ndarray
    input_shape: tuple[int, int]
    label_shape: tuple[int, int]


def check_puzzle_id(puzzle_id: str) -> None:
    """Raise DataError unless a text can be the name of a group: printable, no path, not of any length."""
    if not puzzle_id or puzzle_id == "." or "/" in puzzle_id or not puzzle_id.isprintable():
        raise DataError(f"puzzle id {puzzle_id[:40]!r}: needed is printable text without '/', not empty and not '.'")
    if len(puzzle_id) > MAX_NAME:
        raise DataError(f"puzzle id {puzzle_id[:40]!r} has {len(puzzle_id)} characters, allowed are {MAX_NAME}")


def check_row_array(name: str, array: np.ndarray, rows: int, num_identifiers: int) -> None:
    """Raise DataError unless a metadata array that the reader uses is of its type, length and range.

    name: TRANSFORM, IDENTIFIER or NAME; num_identifiers: identifiers must be below it.
    """
    check_row_array_type(name, array.dtype, array.shape, rows)
    if name == NAME:
        codes = np.ascontiguousarray(array).view(np.uint8).reshape(rows, -1)  # (rows, length), filled up with NUL
        printable = (codes >= 32) & (codes < 127)
        odd = (~printable & (codes != 0)).any(axis=1) | (printable[:, 1:] & ~printable[:, :-1]).any(axis=1)
        odd |= (codes[:, 0] == 0) | (np.char.strip(array) != array)
        if odd.any():
            row = int(odd.argmax())
            raise DataError(
                f"the name of row {row} is {bytes(array[row])!r}, needed is printable ASCII without blanks at the ends"
            )
        return
    limit = num_identifiers if name == IDENTIFIER else len(SWAPS_SIDES)
    if array.min() < 0 or array.max() >= limit:
        row = int(((array < 0) | (array >= limit)).argmax())
        raise DataError(f"{name} of row {row} is {array[row]}, allowed are 0 to {limit - 1}")


def check_row_array_type(name: str, dtype: np.dtype, shape: tuple[int, ...], rows: int) -> None:
    """The part of `check_row_array` that needs no values."""
    allowed = {TRANSFORM: "uint8", IDENTIFIER: "int32", NAME: f"fixed-length bytes (1 to {MAX_NAME})"}[name]
    fits = dtype.kind == "S" and 1 <= dtype.itemsize <= MAX_NAME if name == NAME else dtype == np.dtype(allowed)
    if not fits or shape != (rows,):
        raise DataError(f"the array {name!r} is {dtype} {shape}, needed is {allowed} ({rows},)")


def check_frame_fits(shapes: np.ndarray, transforms: np.ndarray, frame_shape: tuple[int, int]) -> None:
    """Raise DataError unless grids of these (height, width), (2, 2), fit the frame under each of these transforms."""
    for swapped in np.unique(SWAPS_SIDES[transforms]):
        for name, shape in zip(("input", "label"), shapes[:, ::-1] if swapped else shapes, strict=True):
            if (shape < 1).any() or (shape > frame_shape).any():
                raise DataError(
                    f"the {name} grid has {shape[0]} x {shape[1]} cells{' once turned' if swapped else ''}, "
                    f"allowed are 1 x 1 to {frame_shape[0]} x {frame_shape[1]}"
                )


def _attribute(value: object) -> object:
    """Texts and integers as they are; tuples of integers as arrays; tuples of texts as lists."""
    if isinstance(value, tuple):
        return list(value) if isinstance(value[0], str) else np.asarray(value, dtype=np.int64)
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"root attribute {name!r} is {_shown(value)}, a text is needed")
    return value


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int | np.integer):
        raise DataError(f"root attribute {name!r} is {_shown(value)}, an integer is needed")
    return int(value)


def _texts(name: str, value: object) -> tuple[str, ...]:
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise DataError(f"root attribute {name!r} is {_shown(value)}, a list of texts is needed")
    return tuple(items)


def _pair(name: str, value: object) -> tuple[int, int]:
    if not isinstance(value, np.ndarray) or value.shape != (2,) or value.dtype.kind not in "iu":
        raise DataError(f"root attribute {name!r} is {_shown(value)}, two integers are needed")
    return int(value[0]), int(value[1])


def _shown(value: object) -> str:
    """A value for a message, which a file may have made as long as it likes."""
    return repr(value)[:200]
