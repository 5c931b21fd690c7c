"""ARC votes: the answers to all variants of a test input, their augmentations undone, ranked as answers to it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

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


def vote(
    sequences: np.ndarray,
    confidences: Sequence[float],
    names: Sequence[str],
    test_indices: Sequence[int],
    frame_shape: tuple[int, int] = FRAME_SHAPE,
) -> dict[AnswerKey, list[RankedAnswer]]:
    """The different answers to each test input over all its variants, best first: by votes, then by mean confidence.

    sequences: (N, S) integer token ids, predicted frames row by row, S = H * W of `frame_shape`. confidences: (N,)
    finite numbers, the sigmoid of q_halt. names: N identifier names, which tell task and augmentation. test_indices:
    (N,) which test input of its task a row answers, from 0. A grid of 0 x 0 is an answer like any other. What is equal
    in votes and confidence is ordered by the grids themselves, so the order of the rows never matters. Raises
    ArgumentError where the arguments do not fit each other, PuzzleError for a name of no augmentation.
    """
    sequences, test_indices = np.asarray(sequences), np.asarray(test_indices, dtype=None if len(test_indices) else int)
    height, width = frame_shape
    if sequences.ndim != 2 or sequences.shape[1] != height * width or sequences.dtype.kind not in "iu":
        raise ArgumentError(
            f"sequences must be integers (N, {height * width}) for frames of {height} x {width}, "
            f"got {sequences.dtype} of shape {sequences.shape}"
        )
    for name, values in (("confidences", confidences), ("names", names), ("test_indices", test_indices)):
        if len(values) != len(sequences):
            raise ArgumentError(f"{len(sequences)} sequences and {len(values)} {name}: give one for each")
    confidences = np.asarray(confidences, np.float64)
    if not np.isfinite(confidences).all():
        row = int(np.argmin(np.isfinite(confidences)))
        raise ArgumentError(f"confidences must be finite, got {confidences[row]} in row {row}")
    if test_indices.dtype.kind not in "iu" or (test_indices < 0).any():
        raise ArgumentError(f"test_indices must be integers from 0, got {test_indices.dtype}, {test_indices.min()}")
    parse_name = cache(ArcAugmentation.parse)  # each name has several rows
    candidates: dict[AnswerKey, dict[_Identity, list[float]]] = defaultdict(lambda: defaultdict(list))
    for start in range(0, len(sequences), _CHUNK_ROWS):
        frames = sequences[start : start + _CHUNK_ROWS].reshape(-1, height, width)
        for row, (rows, columns) in enumerate(cut_sizes(frames).tolist(), start):
            task, augmentation = parse_name(names[row])
            grid = augmentation.undo(frames[row - start, :rows, :columns] - FIRST_COLOUR_ID)
            # tobytes goes row by row, whatever the memory order
            candidates[task, int(test_indices[row])][grid.shape, grid.tobytes()].append(float(confidences[row]))
    return {
        key: [
            RankedAnswer(np.frombuffer(cells, np.uint8).reshape(shape).copy(), votes, confidence)
            for (shape, cells), votes, confidence in ranked(found)
        ]
        for key, found in candidates.items()
    }


def ranked(candidates: Mapping[Any, Sequence[float]]) -> list[tuple[Any, int, float]]:
    """(answer, votes, mean confidence) of each answer, best first, from the confidences that it was given with.

    By votes, then by mean confidence, then by the answers themselves, which can be ordered.
    """
    # fsum is exact, so the order of the rows does not matter
    answers = [(answer, len(found), math.fsum(found) / len(found)) for answer, found in sorted(candidates.items())]
    return sorted(answers, key=lambda answer: (-answer[1], -answer[2]))
