"""The layout of a puzzle file in one place: names, versions and the facts that its root attributes state. Only numpy.

    /                                     attributes: see PuzzleSetInfo
    puzzles/{puzzle_id}/metadata          a group: attribute `rows_are`, other attributes, arrays of one entry per row
                                          or per original
    puzzles/{puzzle_id}/examples/{idx}    uint8 (rows, 2, S), contiguous: input [r, 0] and label [r, 1] side by side

If the root has the attribute `eos_id`, examples hold native grids instead, and frames are made when they are read:

    puzzles/{puzzle_id}/examples/{idx}       uint8 (rows, n_in + n_out), contiguous: the cells of the input grid and of
                                             the label grid, each row by row; attributes input_shape, label_shape: the
                                             two grids' (height, width) under transform 0, which row 0 has; a
                                             label_shape of (0, 0) in a test file: the answer is hidden
    puzzles/{puzzle_id}/metadata/transform   uint8 (rows,): the dihedral transform of each row (hrm/symmetry.py)

Transforms that swap the sides swap the shapes of their rows, but all rows of an array have one length. In either
layout puzzles may have identifiers:

    puzzles/{puzzle_id}/metadata/identifier  int32 (rows,): row of the puzzle table; without it, the blank identifier
    puzzles/{puzzle_id}/metadata/name        fixed-length printable ASCII (rows,): what the identifier stands for

`rows_are` says what the rows of one puzzle_id are. "variants": one original puzzle (row 0) and its augmented variants;
together they are ONE group of the sampler. "puzzles": a block of up to BLOCK_ROWS different originals, each a group of
its own. "puzzles with variants": a block of originals, each with its variants as a group of its own; the attribute
`num_variants` says how many rows each has, the original first. (An HDF5 group for each puzzle would take a millisecond
and a kilobyte.) Puzzle ids are stored in the order of their names, examples in that of their numbers. A data set
therefore is groups -> variants -> examples, and its rows are numbered in that order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any, NamedTuple, Self

import numpy as np

from ..hrm.arc import EOS_ID
from ..hrm.errors import DataError
from ..hrm.puzzle_codecs import CODECS
from ..hrm.shown_value import shown

FORMAT = "hrm_hf.puzzles"
VERSION = 1
PUZZLES, METADATA, EXAMPLES = "puzzles", "metadata", "examples"
TRANSFORM, IDENTIFIER, NAME = "transform", "identifier", "name"  # arrays of the metadata that the reader uses
INPUT_SHAPE, LABEL_SHAPE = "input_shape", "label_shape"
ROWS_ARE = ROWS_ARE_VARIANTS, ROWS_ARE_PUZZLES, ROWS_ARE_BOTH = "variants", "puzzles", "puzzles with variants"
NUM_VARIANTS = "num_variants"  # an attribute of metadata
BLOCK_ROWS = 100_000
BLOCK_CELLS = 1 << 20  # of "puzzles with variants": what is written costs far more than the group
MAX_CELLS = 1_000_000  # of a frame
MAX_IDENTIFIERS = 1 << 24  # over ten times what all published ARC tasks have with 1,000 variants each
MAX_VARIANTS = 1_000_000  # that a builder adds to each original
MAX_NEW_PUZZLES = 100_000_000  # that a generator makes at once
MAX_NAME = 1000  # characters of a puzzle id, of an identifier's name, of a word of the vocabulary
IGNORED_LABEL = -100  # what the losses leave out; the file stores ignore_label_id, a uint8, in its place
SWAPS_SIDES = np.array([False, True, False, True, False, False, True, True])  # (8,), by dihedral transform
_NAME_PATTERN = re.compile(rb"[!-~](?:[ -~]*[!-~])?")  # printable ASCII without blanks at the ends


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

    @classmethod
    def of_task(cls, task: str, grid_shape: tuple[int, int], **facts: Any) -> Self:
        """The facts that a task and its grid_shape settle, beside those given."""
        vocabulary = tuple(CODECS[task].vocabulary(grid_shape))
        facts |= {"vocab_size": len(vocabulary), "vocabulary": vocabulary, "grid_shape": tuple(grid_shape)}
        return cls(task=task, eos_id=EOS_ID if task == "arc" else None, **facts)

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
        attributes = {"format": FORMAT, "version": VERSION}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                attributes[field.name] = list(value) if isinstance(value, tuple) else value
        return attributes

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, object]) -> Self:
        """Reads and checks what `to_attributes` gives. DataError names attribute, value and what is allowed."""
        for name, own in (("format", FORMAT), ("version", VERSION)):
            if (found := read_attribute("root", attributes, name, type(own))) != own:
                raise DataError(f"root attribute {name!r} is {shown(found)}, this package reads {own!r}")
        values = {
            field.name: read_attribute("root", attributes, field.name, field.type)
            for field in fields(cls)
            if field.name in attributes or field.default is not None  # a field that may be None is left out if it is
        }
        info = cls(**values)
        info.check()
        return info

    def check(self) -> None:
        """Raises DataError if the facts contradict each other, or are out of all proportion."""
        for name, texts in (("task", (self.task,)), ("split", (self.split,)), ("vocabulary", self.vocabulary)):
            for text in texts:
                if not text.isprintable() or len(text) > MAX_NAME:
                    raise DataError(f"{name} holds {shown(text)}, expected at most {MAX_NAME} printable characters")
        highest_code = self.vocab_size - 1
        limits = {
            "vocab_size": (1, 256),
            "pad_id": (0, highest_code),
            "ignore_label_id": (0, highest_code),
            "eos_id": (self.pad_id + 1, highest_code - 1),  # grid cells have the codes above it
            "num_puzzle_identifiers": (1, MAX_IDENTIFIERS),
            "blank_identifier_id": (0, self.num_puzzle_identifiers - 1),
        }
        limits |= dict.fromkeys(("num_groups", "num_puzzles", "num_rows", "num_aug", "seed"), (0, 2**63 - 1))
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise DataError(f"{name} is {value}, allowed are {low} to {high}")
        if len(self.vocabulary) != self.vocab_size:
            raise DataError(f"vocab_size is {self.vocab_size}, but the vocabulary has {len(self.vocabulary)} names")
        if min(self.grid_shape) < 1 or self.seq_len > MAX_CELLS:
            raise DataError(f"grid_shape is {self.grid_shape}, sides must be at least 1, cells at most {MAX_CELLS}")
        if self.box_shape is not None and (min(self.box_shape) < 1 or self.grid_shape != (prod(self.box_shape),) * 2):
            raise DataError(f"box_shape {self.box_shape} does not fit grid_shape {self.grid_shape}")


class GridExample(NamedTuple):
    """One example of a puzzle_id in a file of native grids: what PuzzleWriter takes where eos_id is set.

    cells: uint8 (rows, n_in + n_out), token ids of the input and of the label grid, each row by row; input_shape,
    label_shape: (height, width) of the two grids under transform 0, which row 0 has. In a test file label_shape may be
    (0, 0): the answer is hidden, its frame is all padding, and no cell of it is scored.
    """

    cells: np.ndarray
    input_shape: tuple[int, int]
    label_shape: tuple[int, int]


def check_puzzle_id(puzzle_id: str) -> None:
    """Raises DataError unless a text can be the name of a group: printable, no path, not of any length."""
    if puzzle_id in ("", ".") or "/" in puzzle_id or not puzzle_id.isprintable() or len(puzzle_id) > MAX_NAME:
        raise DataError(f"puzzle id {shown(puzzle_id)}: give 1 to {MAX_NAME} printable characters, no '/', not '.'")


def variants_of_rows(place: str, attributes: Mapping[str, object], rows: int) -> int:
    """How many of a puzzle_id's rows belong to one original, by the attributes of its metadata.

    Raises DataError, which begins with `place`, for another `rows_are`, and for a `num_variants` that is missing or
    does not divide the rows.
    """
    rows_are = read_attribute(place, attributes, "rows_are", str)
    if rows_are not in ROWS_ARE:
        raise DataError(f"{place}: rows_are is {shown(rows_are)}, allowed are {', '.join(map(repr, ROWS_ARE))}")
    if rows_are != ROWS_ARE_BOTH:
        return rows if rows_are == ROWS_ARE_VARIANTS else 1
    num_variants = read_attribute(place, attributes, NUM_VARIANTS, int)
    if num_variants < 1 or rows % num_variants:
        raise DataError(f"{place}: {NUM_VARIANTS} is {num_variants}, which does not divide {rows} rows")
    return num_variants


def originals_of_block(num_variants: int, row_cells: int) -> int:
    """How many originals a builder puts into one puzzle_id, by the rows of each and the cells of a row's examples."""
    return BLOCK_ROWS if num_variants == 1 else max(BLOCK_CELLS // (num_variants * row_cells), 1)


def check_example(
    info: PuzzleSetInfo, name: str, cells: np.ndarray, shapes: np.ndarray, rows: int, transforms: np.ndarray | None
) -> None:
    """Raises DataError, which begins with `name`, unless an example is of the layout's type and shape.

    cells: a numpy or h5py array, of which no value is read; shapes: (height, width) of the input and the label grid,
    (2, 2); rows: of the puzzle_id; transforms: uint8 (rows,) for native grids, which must fit their frame.
    """
    row_shape = (2, info.seq_len) if info.eos_id is None else (int(shapes.prod(axis=1).sum()),)
    if cells.dtype != np.uint8 or cells.shape != (rows, *row_shape):
        by_shapes = "" if info.eos_id is None else f" by its shapes {shapes.tolist()}"
        raise DataError(f"{name} is {cells.dtype} {cells.shape}, expected uint8 {(rows, *row_shape)}{by_shapes}")
    if info.eos_id is None:
        return
    for swapped in np.unique(SWAPS_SIDES[transforms]):
        for side, shape in zip(("input", "label"), shapes[:, ::-1] if swapped else shapes, strict=True):
            if side == "label" and info.split == "test" and not shape.any():
                continue  # the answer is hidden
            if (shape < 1).any() or (shape > info.grid_shape).any():
                size, largest = (f"{height} x {width}" for height, width in (shape, info.grid_shape))
                turned = " once turned" if swapped else ""
                raise DataError(f"{name}: the {side} grid has {size} cells{turned}, allowed are 1 x 1 to {largest}")


def read_row_array(place: str, name: str, array: np.ndarray, rows: int, num_identifiers: int) -> np.ndarray:
    """The values of a metadata array that the reader uses: TRANSFORM, IDENTIFIER or NAME.

    array: a numpy or h5py array, read once its type is known to be right. Raises DataError, which begins with `place`,
    unless the array has one entry for each of the rows, and identifiers are below num_identifiers.
    """
    allowed = {TRANSFORM: "uint8", IDENTIFIER: "int32", NAME: f"fixed-length bytes (1 to {MAX_NAME})"}[name]
    dtype = array.dtype
    fits = dtype.kind == "S" and 1 <= dtype.itemsize <= MAX_NAME if name == NAME else dtype == np.dtype(allowed)
    if not fits or array.shape != (rows,):
        raise DataError(f"{place}: the array {name!r} is {dtype} {array.shape}, expected {allowed} ({rows},)")
    values = array[:]
    if name == NAME:
        for row, text in enumerate(values.tolist()):
            if not _NAME_PATTERN.fullmatch(text):
                raise DataError(
                    f"{place}: the name of row {row} is {text!r}, expected printable ASCII without blanks at its ends"
                )
        return values
    limit = num_identifiers if name == IDENTIFIER else len(SWAPS_SIDES)
    if values.min() < 0 or values.max() >= limit:
        row = int(((values < 0) | (values >= limit)).argmax())
        raise DataError(f"{place}: {name} of row {row} is {values[row]}, allowed are 0 to {limit - 1}")
    return values


def read_attribute(place: str, attributes: Mapping[str, object], name: str, kind: type) -> object:
    """An attribute as a `kind`, a field type of PuzzleSetInfo. DataError, beginning with `place`, unless it is one."""
    if name not in attributes:
        raise DataError(f"{place} attribute {name!r} is missing")
    value = attributes[name]
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    value = tuple(value) if isinstance(value, list) else value
    fits, expected = _KINDS[kind]
    if not fits(value):
        raise DataError(f"{place} attribute {name!r} is {shown(value)}, expected {expected}")
    return value


_INTEGER = (lambda value: type(value) is int, "an integer")
_PAIR = (lambda value: type(value) is tuple and [*map(type, value)] == [int, int], "two integers")
_TEXTS = (lambda value: type(value) is tuple and all(type(item) is str for item in value), "a list of strings")
_KINDS = {  # of the fields of PuzzleSetInfo: the check of a value, and what it allows in words
    str: (lambda value: type(value) is str, "a string"),
    int: _INTEGER,
    int | None: _INTEGER,
    tuple[int, int]: _PAIR,
    tuple[int, int] | None: _PAIR,
    tuple[str, ...]: _TEXTS,
}
