"""ARC tasks: reading one with its checks, and drawing augmentations for it."""

from typing import NamedTuple

import numpy as np

from ..hrm.arc import AUGMENTED_NAME, FRAME_SHAPE, NUM_COLOURS, parse_side
from ..hrm.errors import PuzzleError
from ..hrm.shown_value import shown

_MAX_NAME = 200  # characters of a task's name


class ArcTask(NamedTuple):
    """One task: (input, output) pairs of grids (h, w) uint8; the output of a test pair is None where it is hidden."""

    name: str
    train: list[tuple[np.ndarray, np.ndarray]]
    test: list[tuple[np.ndarray, np.ndarray | None]]

    @property
    def is_hidden(self) -> bool:
        """Whether the answer to any test input is missing."""
        return any(answer is None for _, answer in self.test)


def parse_task(
    name: str, task: object, max_shape: tuple[int, int] = FRAME_SHAPE, may_be_hidden: bool = False
) -> ArcTask:
    """A task's JSON object {"train": [{"input": rows, "output": rows}, ...], "test": [...]} -> ArcTask.

    Other keys are ignored. may_be_hidden: test pairs without "output", or with null, are taken. Raises PuzzleError
    naming the task, the pair (counted from 1) and the cell: for a grid that `parse_grid` refuses, a missing part, a
    task without test pairs, a name that `check_task_name` refuses.
    """
    check_task_name(name)
    if not isinstance(task, dict):
        raise PuzzleError(f"task {name}: a {type(task).__name__} is no task: give an object with 'train' and 'test'")
    train = parse_pairs(name, "train", task.get("train"), max_shape)
    test = parse_pairs(name, "test", task.get("test"), max_shape, may_be_hidden)
    if not test:
        raise PuzzleError(f"task {name} has no test pairs: a task has at least one")
    return ArcTask(name, train, test)


def check_task_name(name: object) -> None:
    """Raises PuzzleError for a name that is not printable ASCII or that reads as the name of an augmented task."""
    is_text = isinstance(name, str) and name.isascii() and name.isprintable() and name == name.strip()
    if not is_text or not 1 <= len(name) <= _MAX_NAME:  # it becomes a line of a file
        allowed = f"1 to {_MAX_NAME} characters of printable ASCII, without blanks at the ends"
        raise PuzzleError(f"{shown(name)} is no name for a task: expected {allowed}")
    if AUGMENTED_NAME.fullmatch(name):
        raise PuzzleError(f"task {name}: names of the form <task>_t<k>_<10 digits> are kept for augmented tasks")


def parse_pairs(
    name: str, part: str, pairs: object, max_shape: tuple[int, int] = FRAME_SHAPE, may_be_hidden: bool = False
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """A JSON list of pairs -> grids, with the checks of `parse_task`; `part` names the list in a PuzzleError."""
    if not isinstance(pairs, list | tuple):
        raise PuzzleError(f"task {name}: {part!r} must be a list of pairs, got a {type(pairs).__name__}")
    parsed = []
    for number, pair in enumerate(pairs, start=1):
        place = f"task {name}, {part} pair {number}"
        is_hidden = may_be_hidden and isinstance(pair, dict) and pair.get("output") is None
        question = parse_side(pair, "input", place, max_shape)
        parsed.append((question, None if is_hidden else parse_side(pair, "output", place, max_shape)))
    return parsed


def draw_augmentations(num: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform transforms (num,) uint8 and colours (num, 10) uint8, permutations that leave 0 as it is."""
    transforms = generator.integers(0, 8, num, dtype=np.uint8)
    colours = np.tile(np.arange(NUM_COLOURS, dtype=np.uint8), (num, 1))
    colours[:, 1:] = generator.permuted(colours[:, 1:], axis=1)
    return transforms, colours
