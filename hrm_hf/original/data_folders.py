"""Puzzle files from folders of the published data builders: {train,test}/dataset.json and five arrays each.

    all__inputs.npy, all__labels.npy    integers (rows, S): an example each
    all__puzzle_identifiers.npy         integers (puzzles,): row of the puzzle table
    all__puzzle_indices.npy             integers (puzzles + 1,): puzzle p has the rows from [p] up to [p + 1]
    all__group_indices.npy              integers (groups + 1,): group g has the puzzles from [g] up to [g + 1]
    ../identifiers.json                 names of the rows of the puzzle table

A group is one original puzzle with its variants, which is what a puzzle_id of "variants" is here; groups of one puzzle
each go into blocks. Sudokus and mazes are stored value for value, in the same order; whether the labels are right by
the rules of the game is not asked. ARC frames are stored as the native grids that they show: each frame is made again
from its grid, and compared. What does not fit is refused.

The arrays are mapped, never unpickled, and everything in them is checked before or while it is read.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..data.build.arc_builder import pair_cells
from ..data.frames import frame_pairs
from ..data.schema import (
    BLOCK_ROWS,
    IDENTIFIER,
    NAME,
    ROWS_ARE_PUZZLES,
    ROWS_ARE_VARIANTS,
    SWAPS_SIDES,
    TRANSFORM,
    GridExample,
    PuzzleSetInfo,
)
from ..data.writer import PuzzleWriter
from ..files import read_json, refuse_existing
from ..hrm import arc, maze, sudoku
from ..hrm.arc import ArcAugmentation
from ..hrm.errors import ArgumentError, DataError, PuzzleError
from ..hrm.shown_value import one_line, shown
from ..hrm.sudoku import BOX_SHAPE_OF_SIZE
from .find_files import IDENTIFIERS_FILE, find_data_folder, read_identifier_names

SOURCE = "published folder"
TASKS = ("sudoku", "maze", "arc")
SPLITS = ("train", "test")
_FACTS = ("pad_id", "ignore_label_id", "blank_identifier_id", "vocab_size", "seq_len", "num_puzzle_identifiers")
_SEED_NOT_KNOWN = 0  # a published folder does not say which one it was


@dataclass(frozen=True)
class PublishedSplit:
    """One split of a published folder, checked but for the cells.

    facts: the integers of its dataset.json; inputs, labels: mapped integers (rows, S); identifiers: int64 (puzzles,);
    puzzle_starts: int64 (puzzles + 1,); group_starts: int64 (groups + 1,).
    """

    path: Path
    split: str
    facts: dict[str, int]
    inputs: np.ndarray
    labels: np.ndarray
    identifiers: np.ndarray
    puzzle_starts: np.ndarray
    group_starts: np.ndarray

    @property
    def num_groups(self) -> int:
        return len(self.group_starts) - 1

    @property
    def num_aug(self) -> int:
        """Variants beside the original in the largest group: how many were asked for is not known."""
        return int(np.diff(self.group_starts).max()) - 1

    def cells(self, start: int, stop: int) -> np.ndarray:
        """Rows start to stop, uint8 (rows, 2, S). Raises DataError naming row and code for one that is not allowed."""
        cells = np.empty((stop - start, 2, self.facts["seq_len"]), np.uint8)
        for side, (name, array) in enumerate((("inputs", self.inputs), ("labels", self.labels))):
            values = array[start:stop]
            if values.min() < 0 or values.max() >= self.facts["vocab_size"]:
                row, cell = np.argwhere((values < 0) | (values >= self.facts["vocab_size"]))[0]
                raise DataError(
                    f"{self.path}: all__{name}.npy holds {values[row, cell]} in row {start + row}, cell {cell}; "
                    f"allowed are 0 to {self.facts['vocab_size'] - 1}"
                )
            cells[:, side] = values
        return cells


def convert_published_folder(
    input_dir: str | os.PathLike, output_dir: str | os.PathLike, task: str, overwrite: bool = False
) -> list[PuzzleSetInfo]:
    """Writes output_dir/train.h5 and output_dir/test.h5, of the splits that are there, and returns what they hold.

    The seed in the files is 0 and num_aug the largest number of variants in a group less one, since a folder does not
    say either.

    Args:
        input_dir: the folder, or owner/name of a Hub data set with its files.
        task: one of TASKS.
    Raises:
        DataError: a folder that is damaged, contradicts itself, or cannot be stored; the message names file and place.
            Nothing is written then.
        ArgumentError: another task, or a file that exists while `overwrite` is not set.
    """
    if task not in TASKS:
        raise ArgumentError(f"task is {task!r}; allowed are {', '.join(TASKS)}")
    folder = find_data_folder(input_dir)
    splits = [read_split(folder, split) for split in SPLITS if (folder / split).is_dir()]
    if not splits:
        raise DataError(f"{folder} has neither a folder train nor a folder test: it is no folder of published data")
    numbers = {split.facts["num_puzzle_identifiers"] for split in splits}
    if len(numbers) > 1:
        raise DataError(f"{folder}: the splits have {' and '.join(map(str, sorted(numbers)))} puzzle identifiers")
    path, names = folder / IDENTIFIERS_FILE, None
    if os.path.lexists(path):
        names = read_identifier_names(path)
        if len(names) not in numbers:
            raise DataError(f"{path} has {len(names)} names for {numbers.pop()} puzzle identifiers")
    paths = [Path(output_dir) / f"{split.split}.h5" for split in splits]
    if not overwrite:
        refuse_existing(*paths)
    infos = [_info(split, task) for split in splits]
    with ExitStack() as stack:  # all files or none
        writers = [
            stack.enter_context(PuzzleWriter(path, info, overwrite)) for path, info in zip(paths, infos, strict=True)
        ]
        for writer, split in zip(writers, splits, strict=True):
            if task == "arc":
                _add_arc(writer, split, names)
            else:
                _add_full_frames(writer, split, names)
    return [writer.info for writer in writers]


def read_split(folder: Path, split: str) -> PublishedSplit:
    """Opens and checks one split; cells are checked when they are read (`PublishedSplit.cells`).

    Raises:
        DataError: a file is missing, damaged, an array of objects (never unpickled), or of another type or shape;
            indices do not rise from 0 to the number of rows; identifiers lie outside the table.
    """
    path = folder / split
    facts = _read_facts(path / "dataset.json")
    inputs, labels = (_load(path, name, 2) for name in ("inputs", "labels"))
    if inputs.shape != labels.shape or inputs.shape[1] != facts["seq_len"]:
        raise DataError(
            f"{path}: all__inputs.npy has the shape {inputs.shape}, all__labels.npy {labels.shape}, dataset.json "
            f"says {facts['seq_len']} cells a row"
        )
    identifiers = _load(path, "puzzle_identifiers", 1).astype(np.int64)
    limit = facts["num_puzzle_identifiers"]
    if identifiers.min() < 0 or identifiers.max() >= limit:
        puzzle = int(((identifiers < 0) | (identifiers >= limit)).argmax())
        raise DataError(
            f"{path}: all__puzzle_identifiers.npy holds {identifiers[puzzle]} for puzzle {puzzle}, allowed are 0 to "
            f"{limit - 1}"
        )
    puzzle_starts = _starts(path, "puzzle_indices", len(inputs), "rows")
    if len(puzzle_starts) != len(identifiers) + 1:
        raise DataError(
            f"{path}: all__puzzle_indices.npy is for {len(puzzle_starts) - 1} puzzles, all__puzzle_identifiers.npy "
            f"for {len(identifiers)}"
        )
    group_starts = _starts(path, "group_indices", len(identifiers), "puzzles")
    if facts["total_groups"] != len(group_starts) - 1:
        raise DataError(
            f"{path}: dataset.json says {facts['total_groups']} groups, all__group_indices.npy has "
            f"{len(group_starts) - 1}"
        )
    return PublishedSplit(path, split, facts, inputs, labels, identifiers, puzzle_starts, group_starts)


# Reading


def _read_facts(path: Path) -> dict[str, int]:
    content = read_json(path, DataError)
    if content.get("sets") != ["all"]:
        raise DataError(f"{path}: sets is {shown(content.get('sets'))}, expected ['all']")
    facts = {name: content.get(name) for name in (*_FACTS, "total_groups")}
    for name, value in facts.items():
        if type(value) is not int or value < 0:
            raise DataError(f"{path}: {name} is {shown(value)}, expected an integer of at least 0")
        if name in ("pad_id", "ignore_label_id", "blank_identifier_id") and value != 0:
            raise DataError(f"{path}: {name} is {value}, expected 0, as in every published folder")
    return facts


def _load(folder: Path, name: str, num_axes: int) -> np.ndarray:
    """An array of integers, mapped, not empty."""
    path = folder / f"all__{name}.npy"
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # what numpy raises on foreign bytes depends on the bytes
        if "pickle" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path} is no array of numbers: it is pickled, or holds Python objects; reading those could run "
                "code, so nothing was read. If you trust its origin, save it there as an array of integers"
            ) from error
        raise DataError(f"{path} is damaged (cut short?) or no .npy file: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):  # an archive of arrays under this name
        array.close()
        raise DataError(f"{path} is an archive, expected a .npy file")
    if array.dtype.kind not in "iu" or array.ndim != num_axes or array.size == 0:
        raise DataError(
            f"{path} is {array.dtype} {array.shape}, expected integers with {num_axes} axes, at least one of them"
        )
    return array


def _starts(folder: Path, name: str, total: int, what: str) -> np.ndarray:
    """Indices, int64 (n + 1,), that rise from 0 to the total."""
    starts = _load(folder, name, 1).astype(np.int64)
    path = folder / f"all__{name}.npy"
    if starts[0] != 0 or starts[-1] != total:
        raise DataError(f"{path} goes from {starts[0]} to {starts[-1]}, expected from 0 to {total}, the {what}")
    if (wrong := np.diff(starts) <= 0).any():
        place = int(wrong.argmax())
        raise DataError(
            f"{path} does not rise at {place}: {starts[place]} is followed by {starts[place + 1]} (each needs "
            f"{what} of its own)"
        )
    return starts


def _info(split: PublishedSplit, task: str) -> PuzzleSetInfo:
    """The facts of the file to write. Raises DataError if the split is not of this task."""
    side = math.isqrt(split.facts["seq_len"])
    if side * side != split.facts["seq_len"]:
        raise DataError(f"{split.path}: seq_len is {split.facts['seq_len']}, expected a square number")
    box_shape, eos_id = None, None
    if task == "sudoku":
        if side not in BOX_SHAPE_OF_SIZE:
            sizes = ", ".join(f"{n}x{n}" for n in BOX_SHAPE_OF_SIZE)
            raise DataError(f"{split.path}: puzzles have {side}x{side} cells, Sudokus have {sizes}")
        vocabulary, box_shape = sudoku.vocabulary(side), BOX_SHAPE_OF_SIZE[side]
    elif task == "maze":
        vocabulary = maze.vocabulary()
    else:
        vocabulary, eos_id = arc.vocabulary(), arc.EOS_ID
    if split.facts["vocab_size"] != len(vocabulary):
        raise DataError(
            f"{split.path}: vocab_size is {split.facts['vocab_size']}, {task} of {side}x{side} cells has "
            f"{len(vocabulary)}: is it another task?"
        )
    return PuzzleSetInfo(
        task=task,
        split=split.split,
        vocab_size=len(vocabulary),
        vocabulary=tuple(vocabulary),
        grid_shape=(side, side),
        num_aug=split.num_aug,
        seed=_SEED_NOT_KNOWN,
        blank_identifier_id=split.facts["blank_identifier_id"],
        num_puzzle_identifiers=split.facts["num_puzzle_identifiers"],
        box_shape=box_shape,
        eos_id=eos_id,
    )


# Puzzles that fill their frames: Sudoku, mazes


def _add_full_frames(writer: PuzzleWriter, split: PublishedSplit, names: Sequence[str] | None) -> None:
    """Groups in their order: one puzzle_id for a group of several puzzles, blocks of groups of one."""
    num_examples = np.diff(split.puzzle_starts)  # of each puzzle
    for first, stop in _runs_of_groups(split.group_starts, num_examples):
        puzzles = slice(int(split.group_starts[first]), int(split.group_starts[stop]))
        examples = int(num_examples[puzzles.start])
        if (other := num_examples[puzzles] != examples).any():
            puzzle = puzzles.start + int(other.argmax())
            raise DataError(
                f"{split.path}: puzzles {puzzles.start} and {puzzle} are variants of one puzzle (group {first}), but "
                f"have {examples} and {num_examples[puzzle]} examples: variants need equal numbers"
            )
        start = int(split.puzzle_starts[puzzles.start])
        cells = split.cells(start, int(split.puzzle_starts[puzzles.stop]))  # (puzzles * examples, 2, S)
        by_example = cells.reshape(-1, examples, *cells.shape[1:])
        writer.add_puzzle(
            f"{first:08d}",
            [np.ascontiguousarray(by_example[:, example]) for example in range(examples)],
            ROWS_ARE_PUZZLES if puzzles.stop - puzzles.start == stop - first else ROWS_ARE_VARIANTS,
            {"source": SOURCE},
            _identifier_arrays(split, puzzles, names),
        )


def _runs_of_groups(group_starts: np.ndarray, num_examples: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, stop) of groups that make one puzzle_id: one group of several puzzles, or groups of one puzzle each that
    follow each other and have equal numbers of examples, BLOCK_ROWS at most.
    """
    single = np.diff(group_starts) == 1
    kinds = np.where(single, num_examples[group_starts[:-1]], 0)  # 0 = several puzzles
    first = 0
    breaks = np.flatnonzero((np.diff(kinds) != 0) | (kinds[1:] == 0)) + 1
    for stop in (*breaks.tolist(), len(kinds)):
        for start in range(first, stop, BLOCK_ROWS):
            yield start, min(start + BLOCK_ROWS, stop)
        first = stop


def _identifier_arrays(split: PublishedSplit, puzzles: slice, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Identifiers with their names; nothing where all are blank, as in published Sudokus and mazes."""
    identifiers = split.identifiers[puzzles]
    if (identifiers == split.facts["blank_identifier_id"]).all():
        return {}
    return {IDENTIFIER: identifiers.astype(np.int32), NAME: _ascii(_names_of(split, puzzles, names))}


def _names_of(split: PublishedSplit, puzzles: slice, names: Sequence[str] | None) -> list[str]:
    if names is None:
        raise DataError(
            f"{split.path}: its puzzles have identifiers, but their names are missing: put {IDENTIFIERS_FILE} beside "
            "the folders of the splits"
        )
    return [names[identifier] for identifier in split.identifiers[puzzles].tolist()]


def _ascii(names: Sequence[str]) -> np.ndarray:
    """(n,) fixed-length bytes."""
    try:
        return np.array([name.encode("ascii") for name in names])
    except UnicodeEncodeError as error:
        raise DataError(f"the name {error.object!r} of a puzzle identifier is not ASCII") from None


# Grids inside frames: ARC


def _add_arc(writer: PuzzleWriter, split: PublishedSplit, names: Sequence[str] | None) -> None:
    """One puzzle_id per group, under its task's name and in the order of the names, as build_arc stores them."""
    first_puzzles = split.group_starts[:-1].tolist()
    tasks = [_names_of(split, slice(puzzle, puzzle + 1), names)[0] for puzzle in first_puzzles]
    order = sorted(range(split.num_groups), key=tasks.__getitem__)
    for group, following in zip(order, order[1:], strict=False):
        if tasks[group] == tasks[following]:
            raise DataError(f"{split.path}: groups {group} and {following} are both of task {tasks[group]!r}")
    for group in order:
        puzzles = slice(*split.group_starts[group : group + 2].tolist())
        _add_arc_group(writer, split, tasks[group], puzzles, _names_of(split, puzzles, names))


def _add_arc_group(
    writer: PuzzleWriter, split: PublishedSplit, task: str, puzzles: slice, names: Sequence[str]
) -> None:
    transforms, colours = _augmentations(split, task, names)
    starts = split.puzzle_starts[puzzles.start : puzzles.stop + 1]
    counts = np.diff(starts)
    if (counts != counts[0]).any():
        other = names[int((counts != counts[0]).argmax())]
        raise DataError(f"{split.path}: {other!r} has another number of examples than {task!r}, its original")
    frames = split.cells(int(starts[0]), int(starts[-1])).reshape(len(names), int(counts[0]), 2, -1)

    def refuse(index: int, wrong: np.ndarray, reason: str) -> None:
        """Raises DataError for the first row of which `wrong`, bool (rows,), holds."""
        if wrong.any():
            row = int(wrong.argmax())
            where = f"{split.path}: row {starts[row] + index}, example {index} of {names[row]!r}"
            raise DataError(f"{where}: {reason}")

    writer.add_puzzle(
        task,
        [
            _grid_example(frames[:, index], transforms, colours, writer.info, partial(refuse, index))
            for index in range(int(counts[0]))
        ],
        ROWS_ARE_VARIANTS,
        {"source": SOURCE},
        {
            TRANSFORM: transforms,
            "colours": colours,
            IDENTIFIER: split.identifiers[puzzles].astype(np.int32),
            NAME: _ascii(names),
        },
    )


def _augmentations(split: PublishedSplit, task: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What the names say: transforms (rows,) uint8, colours (rows, 10) uint8. The first must be the original."""
    transforms = np.empty(len(names), np.uint8)
    colours = np.empty((len(names), arc.NUM_COLOURS), np.uint8)
    for row, name in enumerate(names):
        try:
            named, augmentation = ArcAugmentation.parse(name)
        except PuzzleError as error:
            raise DataError(f"{split.path}: {error}") from None
        if row == 0 and augmentation != ArcAugmentation.identity():
            raise DataError(f"{split.path}: the group of {name!r} does not begin with its original, {named!r}")
        if named != task:
            raise DataError(
                f"{split.path}: {name!r} is in the group of {task!r}, of which it is no variant by its name"
            )
        transforms[row], colours[row] = augmentation.transform, augmentation.colours
    return transforms, colours


def _grid_example(
    frames: np.ndarray,
    transforms: np.ndarray,
    colours: np.ndarray,
    info: PuzzleSetInfo,
    refuse: Callable[[np.ndarray, str], None],
) -> GridExample:
    """One example of all variants as native grids.

    The grids of all rows are made from those of row 0, the original, by what the rows' names say, put where each frame
    shows its grid, and must then be the frames, cell by cell: so nothing is lost but the offset.

    Args:
        frames: uint8 (rows, 2, S).
        refuse: raises an error if a row is wrong, given bool (rows,) and the reason.
    """
    rows, cols = info.grid_shape
    planes = frames.reshape(-1, 2, rows, cols)
    filled = planes >= info.first_code  # (rows, 2, H, W): cells with a colour
    refuse(~filled.any(axis=(2, 3)).all(axis=1), "a frame without a grid: it holds no colour")
    by_line, by_column = filled.any(axis=3), filled.any(axis=2)  # (rows, 2, H), (rows, 2, W)
    corners = np.stack([by_line.argmax(axis=2), by_column.argmax(axis=2)], axis=2)  # (rows, 2, 2), top left
    ends = np.stack([rows - by_line[..., ::-1].argmax(axis=2), cols - by_column[..., ::-1].argmax(axis=2)], axis=2)
    sizes = ends - corners  # (rows, 2, 2), (height, width) of the boxes around all colours
    expected = np.where(SWAPS_SIDES[transforms][:, None, None], sizes[:1, :, ::-1], sizes[:1])
    refuse((sizes != expected).any(axis=(1, 2)), "its grids do not have the sizes that its name and the original give")
    refuse((corners[:, 0] != corners[:, 1]).any(axis=1), "input and label have different offsets in their frames")
    places = zip(planes[0], corners[0], ends[0], strict=True)
    pair = [plane[top:bottom, left:right] for plane, (top, left), (bottom, right) in places]  # token ids
    holes = any((grid < info.first_code).any() for grid in pair)
    refuse(np.array([holes]), "its grid has holes: cells without a colour")
    cells = pair_cells([grid - np.uint8(info.first_code) for grid in pair], transforms, colours)
    starts = np.arange(len(cells)) * cells.shape[1]
    made = frame_pairs(cells.reshape(-1), starts, sizes, corners[:, 0], info.grid_shape, info.pad_id, info.eos_id)
    refuse(
        (made != frames).any(axis=(1, 2)),
        "its frames are not those of the original's grids under the transform that its name says",
    )
    return GridExample(cells, *(grid.shape for grid in pair))
