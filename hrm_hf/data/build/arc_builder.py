"""Builds ARC puzzle files: each task with its augmented variants, as native grids; written with PuzzleWriter.

As in the published builder: a variant is a dihedral transform and a permutation of the colours 1 to 9 of a whole task;
variant 0 is the original; a variant equal to an earlier one is rejected. The train pairs of all tasks train, and the
test pairs of training tasks; the test pairs of evaluation tasks are the test split, in every variant, also where the
answer is hidden. Unlike there the draws depend on the seed and the task's name alone, so that neither other tasks, nor
the number of workers, nor any order change them; and frames are made when a batch is read, since most of a frame is
padding.

Workers draw and compare variants; this process makes the rows again from the few bytes of each draw, and writes them.
"""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...games.arc_task import ArcTask, draw_augmentations
from ...hrm.arc import FIRST_COLOUR_ID, FRAME_SHAPE, NUM_COLOURS
from ...hrm.errors import ArgumentError, PuzzleError
from ...hrm.symmetry import dihedral
from ...progress import progress
from ..schema import IDENTIFIER, NAME, ROWS_ARE_VARIANTS, SWAPS_SIDES, TRANSFORM, GridExample, PuzzleSetInfo
from ..writer import PuzzleWriter
from .arc_tasks import EVALUATION, TRAINING, CollectedTask
from .puzzle_rows import check_variants

TRIES_PER_VARIANT = 5  # draws at most, for each variant asked for: small tasks have fewer variants than that
_Pair = tuple[np.ndarray, np.ndarray | None]
_Variants = tuple[np.ndarray, np.ndarray]  # transforms (rows,) uint8, colours (rows, 10) uint8


def build_arc(
    output_dir: str | os.PathLike,
    tasks: Sequence[CollectedTask],
    num_aug: int = 1000,
    seed: int = 42,
    num_workers: int | None = None,
    frame_shape: tuple[int, int] = FRAME_SHAPE,
    overwrite: bool = False,
) -> tuple[PuzzleSetInfo, PuzzleSetInfo | None]:
    """Write output_dir/train.h5 and output_dir/test.h5 and return what they hold.

    tasks: as arc_mixture.mix_collections gives them, in any order; with no evaluation task there is no test.h5 (an old
    one is removed when overwriting) and its facts are None. num_aug: variants beside each original, fewer where a task
    has no more; num_workers: processes that draw them (None: one per core at hand; 1: this process alone);
    frame_shape: (height, width) that every grid must fit, turned or not. The same tasks, num_aug, seed and frame give
    the same bytes. Identifiers: 0 is blank, then the tasks in the order of their names with their variants in order.
    Raises ArgumentError for other values, two tasks of one name, and a file that exists without `overwrite`;
    PuzzleError for a train pair without output, DataError for a grid that does not fit its frame, naming the task.
    """
    tasks = sorted(tasks, key=lambda task: task.name)
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not tasks:
        raise ArgumentError("no task to build from: give at least one")
    check_variants(num_aug, seed)
    if num_workers < 1:
        raise ArgumentError(f"num_workers {num_workers}: allowed are 1 and above")
    for first, second in pairwise(tasks):
        if first.name == second.name:
            raise ArgumentError(f"task {first.name} is given twice: {first.source}, {second.source}")
    for task in tasks:
        if any(answer is None for _, answer in _pairs_of(task, "train")):
            raise PuzzleError(f"{task.source}: task {task.name} has a pair without output, which cannot train")
    files = {}
    for split in ("train", "test"):
        info = PuzzleSetInfo.of_task("arc", frame_shape, split=split, num_aug=num_aug, seed=seed)
        files[split] = PuzzleWriter(Path(output_dir) / f"{split}.h5", info, overwrite)
    with ExitStack() as stack:
        # The workers start before anything else does: a process with threads or open files is no good one to fork.
        draw = partial(draw_variants, num_aug=num_aug, seed=seed)
        drawn = stack.enter_context(_drawn([task.task for task in tasks], draw, num_workers))
        writers = {
            split: stack.enter_context(writer)
            for split, writer in files.items()
            if any(_pairs_of(task, split) for task in tasks)
        }
        num_identifiers = 1  # the blank one
        bar = stack.enter_context(progress(tasks, "augmenting", unit="tasks"))
        for task, (transforms, colours) in zip(bar, drawn, strict=True):
            attributes = {"source": task.source, "split": task.split, "num_train_pairs": len(task.task.train)}
            identifiers = np.arange(num_identifiers, num_identifiers + len(transforms), dtype=np.int32)
            arrays = {TRANSFORM: transforms, "colours": colours, IDENTIFIER: identifiers}
            arrays[NAME] = variant_names(task.name, transforms, colours)
            num_identifiers += len(transforms)
            for split, writer in writers.items():
                examples = [
                    GridExample(pair_cells(pair, transforms, colours), *map(_shape_of, pair))
                    for pair in _pairs_of(task, split)
                ]
                if examples:
                    writer.add_puzzle(task.name, examples, ROWS_ARE_VARIANTS, attributes, arrays)
        for writer in writers.values():
            writer.set_num_puzzle_identifiers(num_identifiers)
    if "test" not in writers:
        files["test"].path.unlink(missing_ok=True)  # of an earlier build: it does not belong to this train.h5
    return writers["train"].info, writers["test"].info if "test" in writers else None


def _shape_of(grid: np.ndarray | None) -> tuple[int, int]:
    return (0, 0) if grid is None else grid.shape


def _pairs_of(task: CollectedTask, split: str) -> Sequence[_Pair]:
    if split == "train":
        return task.task.train + (task.task.test if task.split != EVALUATION else [])
    return task.task.test if task.split != TRAINING else []


def draw_variants(task: ArcTask, num_aug: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The original and up to num_aug variants of a task, all different: transforms (rows,) uint8, colours (rows, 10)
    uint8, where row 0 is the identity. Depends on the task, num_aug and seed alone.
    """
    generator = np.random.default_rng([seed, int.from_bytes(sha256(task.name.encode()).digest(), "big")])
    transforms = [np.zeros(1, np.uint8)]
    colours = [np.arange(NUM_COLOURS, dtype=np.uint8)[None]]
    seen = set(_variant_keys(task, transforms[0], colours[0]))
    for _ in range(TRIES_PER_VARIANT):
        if len(seen) == num_aug + 1:
            break
        drawn = draw_augmentations(num_aug, generator)
        chosen = []
        for row, key in enumerate(_variant_keys(task, *drawn)):
            if key not in seen and len(seen) <= num_aug:
                seen.add(key)
                chosen.append(row)
        transforms.append(drawn[0][chosen])
        colours.append(drawn[1][chosen])
    return np.concatenate(transforms), np.concatenate(colours)


def pair_cells(pair: _Pair, transforms: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(rows, n_in + n_out) uint8 token ids: the two grids of a pair under each row's transform (rows,) and colour map
    (rows, 10), each grid flattened row by row; of a hidden answer nothing.
    """
    pair = [grid for grid in pair if grid is not None]
    cells = np.empty((len(transforms), sum(grid.size for grid in pair)), np.uint8)
    tokens = colours + np.uint8(FIRST_COLOUR_ID)  # (rows, 10)
    for transform in np.unique(transforms):
        which = np.flatnonzero(transforms == transform)
        originals = np.concatenate([dihedral(grid, transform).reshape(-1) for grid in pair])
        cells[which] = tokens[which].take(originals, axis=1)
    return cells


def variant_names(task_name: str, transforms: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(rows,) fixed-length bytes: the names that ArcAugmentation.parse reads."""
    start = len(task_name)
    characters = np.zeros((len(transforms), start + 14), np.uint8)  # '_t', transform, '_', 10 digits
    characters[:, : start + 4] = np.frombuffer(f"{task_name}_t0_".encode("ascii"), np.uint8)
    characters[:, start + 2] += transforms
    characters[:, start + 4 :] = colours + np.uint8(ord("0"))
    identity = (transforms == 0) & (colours == np.arange(NUM_COLOURS)).all(axis=1)
    characters[identity, start:] = 0
    return characters.view(f"S{start + 14}")[:, 0]


def _variant_keys(task: ArcTask, transforms: np.ndarray, colours: np.ndarray) -> list[tuple[bytes, ...]]:
    """One key per row: the pairs themselves, their shapes in front, sorted. (A hash of them might collide.)"""
    turned = SWAPS_SIDES[transforms].tolist()
    columns = []
    for pair in task.train + task.test:
        content = pair_cells(pair, transforms, colours).tobytes()
        length = len(content) // len(turned)
        shapes = [b"".join(np.array(_shape_of(grid)[::step], "<u2").tobytes() for grid in pair) for step in (1, -1)]
        starts = range(0, len(content), length)
        columns.append([shapes[turn] + content[start : start + length] for start, turn in zip(starts, turned)])
    return [tuple(sorted(pairs)) for pairs in zip(*columns, strict=True)]


@contextmanager
def _drawn(tasks: Sequence[ArcTask], draw: Callable[[ArcTask], _Variants], num_workers: int) -> Iterator[Iterable]:
    """`draw` of each task, in order, by this process or by others.

    On Linux workers are forked: one started anew would load this package, and with it torch, once more (about 350 MB
    each). Elsewhere forking is not safe. The pool is gone after the block, whatever ended it.
    """
    if num_workers == 1:
        yield map(draw, tasks)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    leave_interrupts_to_parent = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    executor = ProcessPoolExecutor(min(num_workers, len(tasks)), context, **leave_interrupts_to_parent)
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns when a process with threads is forked. Those here are idle ones that numpy and torch
            # keep for matrix products, of which the workers make none.
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            drawn = executor.map(draw, tasks)  # this starts all workers
        yield drawn
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
