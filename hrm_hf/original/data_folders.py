"""Puzzle files from folders of the published data builders: {train,test}/dataset.json and five arrays each.

    all__inputs.npy, all__labels.npy    integers (rows, S): an example each
    all__puzzle_identifiers.npy         integers (puzzles,): row of the puzzle table
    all__puzzle_indices.npy             integers (puzzles + 1,): puzzle p has the rows from [p] up to [p + 1]
    all__group_indices.npy              integers (groups + 1,): group g has the puzzles from [g] up to [g + 1]
    ../identifiers.json                 names of the rows of the puzzle table

A group is one original puzzle with its variants. Groups of Sudokus and mazes go into blocks ("puzzles", "puzzles with
variants"), value for value and in the same order; whether the labels are right by the rules of the game is not asked.
ARC groups have a puzzle_id each ("variants"). Their frames are stored as the native grids that they show: each frame
is made again from its grid, and compared. What does not fit is refused.

The arrays are mapped, never unpickled, and everything in them is checked before or while it is read.
"""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from ..data import schema
from ..data.build.arc_builder import pair_cells
from ..data.frames import frame_pairs
from ..data.schema import GridExample, PuzzleSetInfo
from ..data.writer import PuzzleWriter
from ..files import one_line, read_json
from ..hrm import arc
from ..hrm.arc import ArcAugmentation
from ..hrm.errors import ArgumentError, DataError, PuzzleError
from ..hrm.puzzle_codecs import CODECS
from ..hrm.shown_value import shown
from ..progress import progress
from .find_files import IDENTIFIERS_FILE, find_data_folder, read_identifier_names

TASKS = ("sudoku", "maze", "arc")
_ATTRIBUTES = {"source": "published folder"}  # of every puzzle_id


@dataclass(frozen=True)
class PublishedSplit:
    """One split of a published folder, checked but for the cells.

    info: the facts of the file to write; inputs, labels: mapped integers (rows, S); identifiers: int32 (puzzles,);
    puzzle_starts: int64 (puzzles + 1,); group_starts: int64 (groups + 1,). All puzzles of a group have equal numbers
    of examples.
    """

    path: Path
    info: PuzzleSetInfo
    inputs: np.ndarray
    labels: np.ndarray
    identifiers: np.ndarray
    puzzle_starts: np.ndarray
    group_starts: np.ndarray

    def cells(self, puzzles: slice) -> np.ndarray:
        """Of puzzles with equally many examples: uint8 (examples, puzzles, 2, S). DataError for an unknown code."""
        start, stop = self.puzzle_starts[[puzzles.start, puzzles.stop]].tolist()
        limit = self.info.vocab_size
        cells = np.empty((stop - start, 2, self.info.seq_len), np.uint8)
        for side, (name, array) in enumerate((("inputs", self.inputs), ("labels", self.labels))):
            values = array[start:stop]
            if values.min() < 0 or values.max() >= limit:
                row, cell = np.argwhere((values < 0) | (values >= limit))[0]
                found = f"all__{name}.npy holds {values[row, cell]} in row {start + row}, cell {cell}"
                raise DataError(f"{self.path}: {found}; allowed are 0 to {limit - 1}")
            cells[:, side] = values
        return cells.reshape(puzzles.stop - puzzles.start, -1, *cells.shape[1:]).swapaxes(0, 1)


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
        ArgumentError: another task, or one without puzzles of this size; a file exists and `overwrite` is not set.
    """
    if task not in TASKS:
        raise ArgumentError(f"task is {task!r}; allowed are {', '.join(TASKS)}")
    folder = find_data_folder(input_dir)
    splits = [read_split(folder / split, task) for split in ("train", "test") if (folder / split).is_dir()]
    if not splits:
        raise DataError(f"{folder} has neither a folder train nor a folder test: it is no folder of published data")
    path, names = folder / IDENTIFIERS_FILE, None
    sizes = {split.info.num_puzzle_identifiers for split in splits}
    if os.path.lexists(path):
        names = read_identifier_names(path)
        sizes.add(len(names))
        if odd := [name for name in names if not (name.isascii() and name.isprintable())]:
            raise DataError(f"{path} holds {shown(odd)}; allowed are names of printable ASCII")
    elif task == "arc" or any(split.identifiers.any() for split in splits):
        raise DataError(f"{folder}: its puzzles have identifiers; put {IDENTIFIERS_FILE} beside the splits' folders")
    if len(sizes) > 1:
        raise DataError(f"{folder}: the splits and {IDENTIFIERS_FILE} have {sorted(sizes)} puzzle identifiers")
    writers = [PuzzleWriter(Path(output_dir) / f"{split.path.name}.h5", split.info, overwrite) for split in splits]
    with ExitStack() as stack:  # all files or none
        for writer in writers:
            stack.enter_context(writer)
        for writer, split in zip(writers, splits, strict=True):
            if task == "arc":
                _add_arc(writer, split, names)
            else:
                _add_full_frames(writer, split, names)
    return [writer.info for writer in writers]


def read_split(path: Path, task: str) -> PublishedSplit:
    """Opens and checks the folder of one split; cells are checked when they are read (`PublishedSplit.cells`).

    Raises:
        DataError: a file is missing, damaged, an array of objects (never unpickled), or of another type or shape;
            indices do not rise from 0 to the number of rows; identifiers lie outside the table; another task.
        ArgumentError: the task has no puzzles of this size.
    """
    inputs, labels = _load(path, "inputs", 2), _load(path, "labels", 2)
    if inputs.shape != labels.shape or math.isqrt(inputs.shape[1]) ** 2 != inputs.shape[1]:
        shapes = f"all__inputs.npy has the shape {inputs.shape}, all__labels.npy {labels.shape}"
        raise DataError(f"{path}: {shapes}; expected equal shapes, and rows of a square number of cells")
    puzzle_starts = _starts(path, "puzzle_indices", len(inputs))
    group_starts = _starts(path, "group_indices", len(puzzle_starts) - 1)
    info = _read_info(path, task, inputs.shape[1], np.diff(group_starts))
    identifiers = _load(path, "puzzle_identifiers", 1)
    limit, num_puzzles = info.num_puzzle_identifiers, len(puzzle_starts) - 1
    if len(identifiers) != num_puzzles or identifiers.min() < 0 or identifiers.max() >= limit:
        raise DataError(f"{path}: all__puzzle_identifiers.npy must hold {num_puzzles} numbers from 0 to {limit - 1}")
    examples, variants = np.diff(puzzle_starts), np.diff(group_starts)
    if (wrong := examples != np.repeat(examples[group_starts[:-1]], variants)).any():
        raise DataError(f"{path}: puzzle {wrong.argmax()} has another number of examples than the first of its group")
    return PublishedSplit(path, info, inputs, labels, identifiers.astype(np.int32), puzzle_starts, group_starts)


def _read_info(path: Path, task: str, seq_len: int, variants: np.ndarray) -> PuzzleSetInfo:
    """The facts of the file to write, from dataset.json, which must say what the arrays do: (groups,) variants."""
    side = math.isqrt(seq_len)
    kept = {"split": path.name, "num_aug": int(variants.max()) - 1, "seed": 0}
    kept["box_shape"] = CODECS[task].fit((side, side), None)
    info = PuzzleSetInfo.of_task(task, (side, side), **kept)
    facts, file = read_json(path / "dataset.json", DataError), f"{path}/dataset.json"
    expected = {"sets": ["all"], "pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0}
    expected |= {"seq_len": seq_len, "vocab_size": info.vocab_size, "total_groups": len(variants)}
    for name, value in expected.items():
        if facts.get(name) != value:
            raise DataError(f"{file}: {name} is {shown(facts.get(name))}, {task} arrays of this shape need {value}")
    num_identifiers = facts.get("num_puzzle_identifiers")
    if type(num_identifiers) is not int:
        raise DataError(f"{file}: num_puzzle_identifiers is {shown(num_identifiers)}, not an integer")
    return replace(info, num_puzzle_identifiers=num_identifiers)


def _load(folder: Path, name: str, num_axes: int) -> np.ndarray:
    """An array of integers, mapped, not empty."""
    path = folder / f"all__{name}.npy"
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        array = open_memmap(path, mode="r")  # knows no pickles
    except Exception as error:  # what numpy raises on foreign bytes depends on the bytes
        raise DataError(f"{path} is damaged (cut short?) or no .npy file of numbers: {one_line(error)}") from error
    if array.dtype.kind not in "iu" or array.ndim != num_axes or array.size == 0:
        raise DataError(f"{path} is {array.dtype} {array.shape}, expected integers with {num_axes} axes, not empty")
    return array


def _starts(folder: Path, name: str, total: int) -> np.ndarray:
    """Where parts of `total` things start, and where the last one ends: int64 (parts + 1,)."""
    starts = _load(folder, name, 1).astype(np.int64)
    if starts[0] != 0 or starts[-1] != total or (starts[1:] <= starts[:-1]).any():
        raise DataError(f"{folder}/all__{name}.npy must rise from 0 to {total} with every number")
    return starts


def _add_full_frames(writer: PuzzleWriter, split: PublishedSplit, names: Sequence[str] | None) -> None:
    """Puzzles that fill their frames, in blocks: groups that follow each other and have equal numbers of puzzles, and
    these of examples.
    """
    variants = np.diff(split.group_starts)
    examples = np.diff(split.puzzle_starts)[split.group_starts[:-1]]  # of each group's puzzles
    ends = np.flatnonzero((variants[:-1] != variants[1:]) | (examples[:-1] != examples[1:])) + 1
    blocks = []
    for run in np.split(np.arange(len(variants)), ends):
        step = schema.originals_of_block(int(variants[run[0]]), int(examples[run[0]]) * 2 * split.info.seq_len)
        blocks += np.split(run, range(step, len(run), step))
    for groups in progress(blocks, f"writing {writer.path.name}", unit="blocks"):
        puzzles = slice(*split.group_starts[[groups[0], groups[-1] + 1]].tolist())
        arrays = {}
        if (identifiers := split.identifiers[puzzles]).any():
            its_names = np.array([names[i] for i in identifiers], dtype="S")
            arrays = {schema.IDENTIFIER: identifiers, schema.NAME: its_names}
        rows_are, attributes, num_variants = schema.ROWS_ARE_PUZZLES, _ATTRIBUTES, int(variants[groups[0]])
        if num_variants > 1:
            rows_are, attributes = schema.ROWS_ARE_BOTH, attributes | {schema.NUM_VARIANTS: num_variants}
        writer.add_puzzle(f"{groups[0]:08d}", list(split.cells(puzzles)), rows_are, attributes, arrays)


def _add_arc(writer: PuzzleWriter, split: PublishedSplit, names: Sequence[str]) -> None:
    """One puzzle_id per group, under its task's name and in the order of the names, as build_arc stores them."""
    names = [names[identifier] for identifier in split.identifiers.tolist()]  # of each puzzle
    tasks = [names[puzzle] for puzzle in split.group_starts[:-1].tolist()]
    in_order = sorted(range(len(tasks)), key=tasks.__getitem__)
    for group in progress(in_order, f"writing {writer.path.name}", unit="tasks"):
        puzzles = slice(*split.group_starts[group : group + 2].tolist())
        variants = names[puzzles]
        try:
            parsed = [ArcAugmentation.parse(name) for name in variants]
        except PuzzleError as error:
            raise DataError(f"{split.path}: {error}") from error
        for name, (task, _) in zip(variants, parsed, strict=True):
            if task != tasks[group]:  # of the first as well: it must be the original
                raise DataError(f"{split.path}: {name!r} is no variant of {tasks[group]!r}, the first of its group")
        transforms = np.array([augmentation.transform for _, augmentation in parsed], np.uint8)
        colours = np.array([augmentation.colours for _, augmentation in parsed], np.uint8)
        examples = []
        for index, frames in enumerate(split.cells(puzzles)):
            example, wrong = _grid_example(frames, transforms, colours, writer.info)
            if wrong.any():
                variant = int(wrong.argmax())
                row = split.puzzle_starts[puzzles.start + variant] + index
                place = f"{split.path}: row {row}, example {index} of {variants[variant]!r}"
                raise DataError(f"{place}: its frames do not show the original's grids as its name says")
            examples.append(example)
        arrays = {schema.TRANSFORM: transforms, "colours": colours, schema.IDENTIFIER: split.identifiers[puzzles]}
        arrays[schema.NAME] = np.array(variants, dtype="S")
        writer.add_puzzle(tasks[group], examples, schema.ROWS_ARE_VARIANTS, _ATTRIBUTES, arrays)


def _grid_example(
    frames: np.ndarray, transforms: np.ndarray, colours: np.ndarray, info: PuzzleSetInfo
) -> tuple[GridExample, np.ndarray]:
    """One example of all variants as native grids, and bool (rows,): the variants whose frames show something else.

    The grids of all rows are made from those of row 0, the original, by what the rows' names say, put where each frame
    (of uint8 (rows, 2, S)) shows its input, and must then be the frames, so that nothing is lost but the offset.
    """
    planes = frames.reshape(-1, 2, *info.grid_shape)
    filled = planes[:, 0] >= info.first_code  # (rows, H, W): the colours of the inputs
    corners = np.stack([filled.any(axis=2).argmax(axis=1), filled.any(axis=1).argmax(axis=1)], axis=1)  # top left
    pair = [arc.cut(plane[corners[0, 0] :, corners[0, 1] :]) for plane in planes[0]]
    cells = pair_cells(pair, transforms, colours)
    shapes = np.array([grid.shape for grid in pair])
    sizes = np.where(schema.SWAPS_SIDES[transforms][:, None, None], shapes[:, ::-1], shapes)  # (rows, 2, 2)
    offsets = np.minimum(corners, info.grid_shape - sizes.max(axis=1))  # a grid never leaves its frame
    starts = np.arange(len(cells)) * cells.shape[1]
    made = frame_pairs(cells.reshape(-1), starts, sizes, offsets, info.grid_shape, info.pad_id, info.eos_id)
    return GridExample(cells, *(grid.shape for grid in pair)), (made != frames).any(axis=(1, 2))
