"""ARC votes: the answers to all variants of a test input, their augmentations undone, ranked as answers to the input.

Equal grids are one answer. Answers are ranked by (votes, mean confidence).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from .arc import FIRST_COLOUR_ID, FRAME_SHAPE, ArcAugmentation, cut_sizes
from .errors import ArgumentError

_CHUNK_ROWS = 4096  # frames cut at once: bounds the memory

AnswerKey = tuple[str, int]  # a task's name and the number of its test input, from 0
_Identity = tuple[tuple[int, int], bytes]  # of a grid: its shape and its bytes, row by row


@dataclass(frozen=True)
class RankedAnswer:
    """An answer to one test input: its grid (h, w) uint8, how often it was given, and its mean confidence."""

    grid: np.ndarray
    votes: int
    confidence: float


def rank_answers(grids: Sequence[np.ndarray], confidences: Sequence[float]) -> list[RankedAnswer]:
    """The different grids among candidates for one test input, best first: by votes, then by mean confidence.

    grids: colours (h, w), 0 x 0 a candidate like any other; confidences: one finite number for each. What is equal in
    both is ordered by the grids themselves, so that the order of the candidates never matters. Raises ArgumentError
    if the numbers of grids and confidences differ or a confidence is not finite.
    """
    candidates = defaultdict(list)
    for grid, confidence in zip(grids, _checked_confidences(confidences, len(grids), "grids"), strict=True):
        candidates[_identity(grid)].append(confidence)
    return _ranked(candidates)


def vote(
    sequences: np.ndarray,
    confidences: Sequence[float],
    names: Sequence[str],
    test_indices: Sequence[int],
    frame_shape: tuple[int, int] = FRAME_SHAPE,
) -> dict[AnswerKey, list[RankedAnswer]]:
    """Ranks the answers to each test input over all its variants, as `rank_answers` does.

    sequences: (N, S) integer token ids, predicted frames row by row, S = H * W of `frame_shape`. confidences: (N,)
    finite numbers, the sigmoid of q_halt. names: N identifier names, which tell task and augmentation. test_indices:
    (N,) which test input of its task a row answers, from 0. Rows may come in any order. Raises ArgumentError where
    these do not fit each other, PuzzleError for a name of an augmentation that does not exist.
    """
    sequences, test_indices = np.asarray(sequences), np.asarray(test_indices, dtype=None if len(test_indices) else int)
    height, width = frame_shape
    if sequences.ndim != 2 or sequences.shape[1] != height * width or sequences.dtype.kind not in "iu":
        raise ArgumentError(
            f"sequences must be integers (N, {height * width}) for frames of {height} x {width}, "
            f"got {sequences.dtype} of shape {sequences.shape}"
        )
    confidences = _checked_confidences(confidences, len(sequences), "sequences")
    for name, values in (("names", names), ("test_indices", test_indices)):
        if len(values) != len(sequences):
            raise ArgumentError(f"{len(sequences)} sequences and {len(values)} {name}: give one for each")
    if test_indices.dtype.kind not in "iu" or (test_indices < 0).any():
        raise ArgumentError(f"test_indices must be integers from 0, got {test_indices.dtype}, {test_indices.min()}")
    parse_name = cache(ArcAugmentation.parse)  # each name has several rows
    candidates: dict[AnswerKey, dict[_Identity, list[float]]] = defaultdict(lambda: defaultdict(list))
    for start in range(0, len(sequences), _CHUNK_ROWS):
        frames = sequences[start : start + _CHUNK_ROWS].reshape(-1, height, width)
        for row, (rows, columns) in enumerate(cut_sizes(frames).tolist(), start):
            task, augmentation = parse_name(names[row])
            grid = augmentation.undo(frames[row - start, :rows, :columns] - FIRST_COLOUR_ID)
            candidates[task, int(test_indices[row])][_identity(grid)].append(confidences[row])
    return {key: _ranked(found) for key, found in candidates.items()}


def _identity(grid: np.ndarray) -> _Identity:
    grid = np.asarray(grid, np.uint8)
    return grid.shape, grid.tobytes()  # row by row whatever the memory order


def _ranked(candidates: Mapping[_Identity, list[float]]) -> list[RankedAnswer]:
    """The answers, best first, from the confidences of each grid."""
    answers = []
    for (shape, cells), found in sorted(candidates.items()):
        grid = np.frombuffer(cells, np.uint8).reshape(shape).copy()
        mean = math.fsum(found) / len(found)  # fsum is exact, so the order of the rows does not matter
        answers.append(RankedAnswer(grid, len(found), mean))
    return sorted(answers, key=lambda answer: (-answer.votes, -answer.confidence))


def _checked_confidences(confidences: Sequence[float], num: int, of: str) -> list[float]:
    values = np.asarray(confidences, np.float64)
    if values.shape != (num,):
        raise ArgumentError(f"{num} {of} and confidences of shape {values.shape}: give one for each")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise ArgumentError(f"confidences must be finite, got {values[row]} in row {row}")
    return values.tolist()
