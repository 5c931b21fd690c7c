"""Puzzle files as Hugging Face data sets: rows to look at or evaluate, and batches to train on.

`load_puzzles` gives a Dataset of real columns, converted once into the cache of datasets, so that whatever datasets
does with columns (formats, selections, exports, workers) works with these. `training_batches` gives an IterableDataset
whose items are whole batches, drawn by the group sampler and gathered from the memory map of the puzzle file itself;
FileRows reads rows in stored order from there. All deliver int64 with labels ready for the loss (-100 = ignored).
"""

import os
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from datasets.fingerprint import Hasher
from huggingface_hub.utils import WeakFileLock

from ..files import written_whole
from ..hrm.errors import ArgumentError, DataError
from ..hub.downloads import puzzle_file_path
from ..progress import get_logger, progress
from .augmentation import Augmentation, Symmetries
from .reader import PuzzleFile
from .sampler import BatchDraw, GroupSampler
from .schema import IGNORED_LABEL, PuzzleSetInfo

try:
    # No public part of datasets lets a source say where it stands: from_generator resumes by drawing all past batches
    # again, and what is added by overriding IterableDataset's methods is lost in .map() and .take(). If this class has
    # gone, or asks for other methods, tests/data/test_loader.py names the version.
    from datasets.iterable_dataset import _BaseExamplesIterable
except ImportError as error:
    raise ImportError(f"datasets {datasets.__version__} is not supported yet: install datasets 5.2") from error

_ROWS_VERSION = b"1"  # another one wherever _to_table makes other rows of the same file: they are cached
_CELLS_AT_ONCE = 1 << 22  # of inputs, while a file is converted


def load_puzzles(path: str | os.PathLike, split: str = "train") -> datasets.Dataset:
    """All rows of a puzzle file, in stored order, as a map-style Dataset.

    path: a file; or a folder or Hub data set ("owner/name") with train.h5 and test.h5, of which split ("train" or
    "test") names one. What the Hub sends is cached.

    Columns: input_ids, labels (S,) with -100 = ignored, puzzle_identifiers, and where a row is from: row (its number
    in the file), group (the original puzzle), variant (0 = the original), example (of its variant). Native grids stand
    in the top left corners of their frames. Items are numpy arrays of int64, which a slice or list of rows stacks,
    (B, S), (B,); `.with_format` gives others. Stored, and seen by exports, are uint8 and int16: 3 bytes a cell in the
    cache of datasets (HF_DATASETS_CACHE), written when a file of this content is first loaded.

    Raises DataError for a file that is missing, damaged, of another version, or holds codes outside its vocabulary,
    for a data set that cannot be fetched, and for a cache that cannot be written; ArgumentError for another split.
    """
    rows = FileRows(PuzzleFile(puzzle_file_path(path, split)))
    content = Hasher.hash_bytes([_ROWS_VERSION, np.memmap(rows.file.path, mode="r")])
    cached = Path(datasets.config.HF_DATASETS_CACHE, "hrm_hf", content, "rows.arrow")  # .map caches beside it
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(cached.with_suffix(".lock")):  # the first of several processes converts
            if not cached.exists():
                _convert(rows, cached)
        found = datasets.Dataset.from_file(str(cached)).with_format("numpy")
        if len(found) != len(rows):
            raise OSError(f"it has {len(found)} rows, not {len(rows)}")
        return found
    except (OSError, pa.ArrowInvalid) as error:
        hint = "Delete the file if it is damaged, or set HF_DATASETS_CACHE to a folder that has room"
        raise DataError(f"{cached}: {error}. {hint}") from error


def _convert(rows: "FileRows", target: Path) -> None:
    step = max(_CELLS_AT_ONCE // rows.file.info.seq_len, 1)
    starts = progress(range(0, len(rows), step), f"converting {rows.file.path.name}", "parts")
    with written_whole(target) as partial, pa.ipc.new_stream(str(partial), _to_table(rows[:0]).schema) as stream:
        for start in starts:
            stream.write_table(_to_table(rows[start : start + step]))


def _to_table(rows: dict[str, np.ndarray]) -> pa.Table:
    """Cells become lists of one length, of the smallest types that hold codes and -100."""
    lists = {}
    for name, dtype in (("input_ids", np.uint8), ("labels", np.int16)):
        lists[name] = pa.FixedSizeListArray.from_arrays(rows[name].astype(dtype).reshape(-1), rows[name].shape[1])
    return pa.table(rows | lists)


class FileRows:
    """Rows of a puzzle file as slices of `load_puzzles` give them, but read from the file itself: slices only.

    numbers: which rows, int64 (N,); None = all. Raises DataError for codes outside the vocabulary.
    """

    def __init__(self, file: PuzzleFile, numbers: np.ndarray | None = None) -> None:
        file.check_cells()
        self.file, self.numbers = file, np.arange(file.info.num_rows) if numbers is None else numbers

    def at(self, numbers: np.ndarray) -> "FileRows":
        """Other rows of the same file, whose cells are checked already."""
        other = copy(self)
        other.numbers = numbers
        return other

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> dict[str, np.ndarray]:
        numbers = self.numbers[rows]
        groups, variants = self.file.groups_and_variants(numbers)
        places = self.file.locate_rows(numbers)
        index = {"row": numbers, "group": groups, "variant": variants, "example": self.file.row_places(numbers)[2]}
        return to_batch(self.file, *places, self.file.read(*places)) | index


def training_batches(
    path: str | os.PathLike,
    global_batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    epochs_per_pass: int | None = None,
    augment: bool | Symmetries = False,
    reveal_prob: float = 0.0,
) -> "PuzzleBatches":
    """Training batches of one rank, sampled as `GroupSampler` says; see PuzzleBatches.

    path: a file; or a folder or Hub data set ("owner/name"), of which train.h5 is taken.
    augment: every visit of a puzzle draws a symmetry, uniform over the game's group (True: Sudokus, and
    the views of mazes that keep their shape) or over that of the caller; the file then needs originals only.
    reveal_prob: how often a visit fills blanks from the answer: each with a probability drawn uniformly from 0 to 1.

    Raises ArgumentError for sizes that do not divide or fit and for what the task does not have, DataError for a file
    that cannot be trusted.
    """
    if world_size < 1 or not 0 <= rank < world_size:
        raise ArgumentError(f"rank is {rank} of world_size {world_size}, allowed are ranks 0 to world_size - 1")
    if global_batch_size % world_size:
        raise ArgumentError(f"global_batch_size {global_batch_size} is no multiple of world_size {world_size}")
    file = PuzzleFile(puzzle_file_path(path, "train"))
    file.check_cells()
    augmentation = Augmentation(file.info, augment, reveal_prob)
    if augment and file.info.num_puzzles > file.info.num_groups:
        words = "a symmetry is drawn on top of them: originals alone (num_aug 0) give the same from a smaller file"
        get_logger(__name__).warning(f"{file.path} holds augmented variants, and {words}")
    local = global_batch_size // world_size
    local_rows = slice(rank * local, (rank + 1) * local)
    return PuzzleBatches(_BatchIterable(file, (global_batch_size, seed, epochs_per_pass), local_rows, augmentation))


class PuzzleBatches(datasets.IterableDataset):
    """An IterableDataset whose every item is one local batch: a dict of fresh, writable, contiguous int64 arrays.

        input_ids (B, S), labels (B, S) with -100 = ignored, puzzle_identifiers (B,)

    B = global_batch_size / world_size: rank r gets the r-th contiguous part of each global batch, and the sequence of
    global batches depends on file, global_batch_size, seed and augmentation alone. Native grids are shifted in their
    frames, a pair by one offset, uniform over its free room; as in the published code one random pair of each visit to
    a variant is not, here the first of the visit. Iterating again repeats the pass; `set_epoch(p)` chooses pass p.
    `state_dict()` after an item, given to `load_state_dict` of a like object (any rank, any world_size), continues
    with the next item at once, however many came before. Do not batch, shuffle or split it again. `puzzle_info` holds
    the PuzzleSetInfo (`info` is the DatasetInfo that datasets itself needs).
    """

    def __init__(self, batches: "_BatchIterable") -> None:
        super().__init__(batches)
        self._batches = batches
        self.puzzle_info: PuzzleSetInfo = batches.file.info

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue where `state_dict` was taken. Raises ArgumentError for another seed, batch size, data set or
        augmentation.
        """
        saved = state_dict["examples_iterable"]
        for name, value in self._batches.augmentation.facts().items():
            if saved.get(name) != value:
                raise ArgumentError(f"the saved state has {name} {saved.get(name)}, these batches have {value}")
        self._batches.sampler().load_state_dict(saved)
        self.set_epoch(state_dict["epoch"])
        super().load_state_dict(state_dict)


class _BatchIterable(_BaseExamplesIterable):
    """What datasets iterates over: (number of the batch, batch). The state dict is the sampler's, updated in place."""

    num_shards = 1  # datasets asks worker 0 alone

    def __init__(
        self,
        file: PuzzleFile,
        sampling: tuple[int, int, int | None],
        local_rows: slice,
        augmentation: Augmentation,
    ) -> None:
        """sampling: global_batch_size, seed, epochs_per_pass; local_rows: this rank's of a global batch."""
        super().__init__()
        self.augmentation = augmentation
        self.file, self.sampling, self.local_rows, self.pass_index = file, sampling, local_rows, 0
        self.sampler()  # raises now, not at the first batch, if the arguments cannot work

    def sampler(self) -> GroupSampler:
        """A sampler at the start of this pass."""
        return GroupSampler(*self.file.group_counts(), *self.sampling, self.pass_index)

    def _init_state_dict(self) -> dict:
        self._state_dict = self.sampler().state_dict() | self.augmentation.facts()
        return self._state_dict

    def __iter__(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        sampler = self.sampler()
        if self._state_dict:
            sampler.load_state_dict(self._state_dict)
        for number, draw in enumerate(sampler):
            shifts = None  # of the pairs of the global batch, so that they do not depend on the number of processes
            if self.file.info.eos_id is not None:
                shifts = sampler.generator.random((len(draw.first), 2))
                shifts[draw.first] = 0.0
            drawn = self.augmentation.draw(len(draw.first), sampler.generator)
            changes = [part if part is None else part[self.local_rows] for part in drawn]
            local = BatchDraw(*(part[self.local_rows] for part in draw))
            places = self.file.locate(local.groups, local.variants, local.examples)
            cells = self.file.read(*places, None if shifts is None else shifts[self.local_rows])
            batch = to_batch(self.file, *places, self.augmentation.apply(cells, *changes))
            if self._state_dict:
                self._state_dict.update(sampler.state_dict())
            yield number, batch

    def shuffle_data_sources(self, *args: object, **kwargs: object) -> "_BatchIterable":
        return self  # the sampler shuffles, and there is one shard

    shard_data_sources = reshard_data_sources = shuffle_data_sources

    def shift_rngs(self, value: int) -> "_BatchIterable":
        """datasets' hook for `set_epoch(value)`: another pass over the data."""
        shifted = copy(self)
        shifted.pass_index = self.pass_index + value
        return shifted


def to_batch(file: PuzzleFile, stores: np.ndarray, rows: np.ndarray, cells: np.ndarray) -> dict[str, np.ndarray]:
    """Rows as `PuzzleFile.read` takes them, and their cells (B, 2, S) -> what model and loss take (int64)."""
    input_ids = cells[:, 0].astype(np.int64)  # (B, S)
    labels = cells[:, 1].astype(np.int64)  # (B, S)
    np.putmask(labels, cells[:, 1] == file.info.ignore_label_id, IGNORED_LABEL)
    return {"input_ids": input_ids, "labels": labels, "puzzle_identifiers": file.puzzle_identifiers(stores, rows)}


def total_steps(epochs: int, info: PuzzleSetInfo, global_batch_size: int) -> int:
    """Steps that the published code trains for."""
    return int(epochs * info.num_groups * info.mean_examples / global_batch_size)
