"""ARC scoring over plain arrays: the answers to all variants of a task vote for the answer to the task itself.

Each predicted frame is cut to its grid and its augmentation undone; equal grids are one answer. Answers are ranked by
(votes, mean confidence), and a task counts at k when each of its test inputs has its right answer among the first k.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .arc import FIRST_COLOUR_ID, FRAME_SHAPE, ArcAugmentation, cut_sizes
from .errors import ArgumentError
from .symmetry import inverse_dihedral

KS = (1, 2, 5, 10, 100, 1000)  # ranks that papers report; 2 is the headline

_CHUNK_ROWS = 4096  # frames cut at once: bounds the memory
_NO_ANSWER = [[0]]  # what a submission holds where there is no candidate, or one of 0 x 0

AnswerKey = tuple[str, int]  # a task's name and the number of its test input, from 0


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
    _check_confidences(confidences, len(grids), "grids")
    groups = _Groups()
    for grid, confidence in zip(grids, np.asarray(confidences, np.float64).tolist(), strict=True):
        groups.add(None, np.asarray(grid, np.uint8), confidence)
    return groups.ranked().get(None, [])


def vote(
    sequences: np.ndarray,
    confidences: np.ndarray,
    names: Sequence[str],
    test_indices: Sequence[int],
    frame_shape: tuple[int, int] = FRAME_SHAPE,
) -> dict[AnswerKey, list[RankedAnswer]]:
    """Ranks the answers to each test input over all its variants.

    sequences: (N, S) integer token ids, predicted frames row by row, S = H * W of `frame_shape`. confidences: (N,)
    finite numbers, the sigmoid of q_halt. names: N identifier names, which tell task and augmentation. test_indices:
    (N,) which test input of its task a row answers, from 0. Rows may come in any order. Raises ArgumentError where
    these do not fit each other, PuzzleError for a name of an augmentation that does not exist.
    """
    sequences = np.asarray(sequences)
    height, width = frame_shape
    if sequences.ndim != 2 or sequences.shape[1] != height * width or sequences.dtype.kind not in "iu":
        raise ArgumentError(
            f"sequences must be integers (N, {height * width}) for frames of {height} x {width}, "
            f"got {sequences.dtype} of shape {sequences.shape}"
        )
    _check_confidences(confidences, len(sequences), "sequences")
    for name, values in (("names", names), ("test_indices", test_indices)):
        if len(values) != len(sequences):
            raise ArgumentError(f"{len(sequences)} sequences and {len(values)} {name}: give one for each")
    confidences = np.asarray(confidences, np.float64).tolist()
    test_indices = np.asarray(test_indices)
    if len(test_indices) and (test_indices.dtype.kind not in "iu" or test_indices.min() < 0):
        raise ArgumentError(f"test_indices must be integers from 0, got {test_indices.dtype}, {test_indices.min()}")
    test_indices = test_indices.tolist()
    undo_of: dict[str, tuple[str, int, np.ndarray]] = {}
    groups = _Groups()
    for start in range(0, len(sequences), _CHUNK_ROWS):
        frames = sequences[start : start + _CHUNK_ROWS].reshape(-1, height, width)
        for row, (rows, columns) in enumerate(cut_sizes(frames).tolist(), start):
            task, transform, colour_of_id = _undo(names[row], undo_of)
            grid = inverse_dihedral(colour_of_id[frames[row - start, :rows, :columns]], transform)
            groups.add((task, test_indices[row]), grid, confidences[row])
    return groups.ranked()


def pass_at_k(
    ranked: Mapping[AnswerKey, Sequence[RankedAnswer]],
    answers: Mapping[AnswerKey, np.ndarray],
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """{"pass@1": ..., ...}: the share of tasks, 0 to 1, with the right answer to every test input among the first k.

    answers: right grids by (task, test input); they say which tasks count. A test input that `ranked` does not have,
    or has no answer for, is not found. Raises ArgumentError without answers or for a k below 1.
    """
    if not answers:
        raise ArgumentError("pass@k needs at least one right answer")
    if any(k < 1 for k in ks):
        raise ArgumentError(f"k must be at least 1, got {tuple(ks)}")
    worst_rank: dict[str, float] = {}  # from 0; infinite where an answer was not found
    for key, answer in answers.items():
        rank = next((i for i, found in enumerate(ranked.get(key, ())) if np.array_equal(found.grid, answer)), math.inf)
        worst_rank[key[0]] = max(rank, worst_rank.get(key[0], 0))
    return {f"pass@{k}": sum(rank < k for rank in worst_rank.values()) / len(worst_rank) for k in ks}


def submission(ranked: Mapping[AnswerKey, Sequence[RankedAnswer]]) -> dict[str, list[dict[str, list[list[int]]]]]:
    """The two best answers to each test input in the form of Kaggle's submission.json, tasks sorted by name.

    {task: [{"attempt_1": rows, "attempt_2": rows} for each test input up to the last one known]}. A grid there has at
    least one cell: [[0]] stands for a missing answer and for one of 0 x 0.
    """
    num_tests: dict[str, int] = {}
    for task, test_index in ranked:
        num_tests[task] = max(test_index + 1, num_tests.get(task, 0))
    return {
        task: [
            {f"attempt_{i + 1}": _attempt(ranked.get((task, test_index), ()), i) for i in range(2)}
            for test_index in range(num_tests[task])
        ]
        for task in sorted(num_tests)
    }


class _Groups:
    """Candidates by test input and grid: the grid's shape and bytes are its identity."""

    def __init__(self) -> None:
        self._confidences: dict[Hashable, dict[tuple[tuple[int, int], bytes], list[float]]] = {}

    def add(self, key: Hashable, grid: np.ndarray, confidence: float) -> None:
        identity = (grid.shape, grid.tobytes())  # tobytes is row by row whatever the memory order
        self._confidences.setdefault(key, {}).setdefault(identity, []).append(confidence)

    def ranked(self) -> dict:
        return {
            key: [
                RankedAnswer(np.frombuffer(cells, np.uint8).reshape(shape).copy(), votes, confidence)
                for (shape, cells), votes, confidence in sorted(
                    # fsum is exact, so the mean does not depend on the order of the rows.
                    ((identity, len(c), math.fsum(c) / len(c)) for identity, c in candidates.items()),
                    key=lambda entry: (-entry[1], -entry[2], entry[0]),
                )
            ]
            for key, candidates in self._confidences.items()
        }


def _undo(name: str, undo_of: dict[str, tuple[str, int, np.ndarray]]) -> tuple[str, int, np.ndarray]:
    """Task, dihedral transform to undo, and original colour by token id; kept, as each name has several rows."""
    if name not in undo_of:
        task, augmentation = ArcAugmentation.parse(name)
        colours = np.argsort(augmentation.colours).astype(np.uint8)
        colour_of_id = np.concatenate([np.zeros(FIRST_COLOUR_ID, np.uint8), colours])
        undo_of[name] = task, augmentation.transform, colour_of_id
    return undo_of[name]


def _attempt(answers: Sequence[RankedAnswer], rank: int) -> list[list[int]]:
    if rank >= len(answers) or not answers[rank].grid.size:
        return [list(row) for row in _NO_ANSWER]
    return answers[rank].grid.tolist()


def _check_confidences(confidences: Sequence[float], num: int, of: str) -> None:
    values = np.asarray(confidences, np.float64)
    if values.shape != (num,):
        raise ArgumentError(f"{num} {of} and confidences of shape {values.shape}: give one for each")
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values)))
        raise ArgumentError(f"confidences must be finite, got {values[bad]} in row {bad}")
