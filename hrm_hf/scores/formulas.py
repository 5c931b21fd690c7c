"""Scores over plain arrays: of solved puzzles, as sums that can be added over batches and processes, and ARC's pass@k.

`finish` divides at the very end, so the result does not depend on how the rows were split. B rows, S cells.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..hrm.errors import ArgumentError
from ..hrm.losses import IGNORE_INDEX
from ..hrm.voting import AnswerKey, RankedAnswer

_COUNTS = ("count", "blank_right", "blank_cells")  # sums that are no scores of rows
KS = (1, 2, 5, 10, 100, 1000)  # ranks that papers report; 2 is the headline


def puzzle_scores(
    predictions: np.ndarray,
    labels: np.ndarray,
    q_halt_logits: np.ndarray | None = None,
    segments: np.ndarray | None = None,
    inputs: np.ndarray | None = None,
    blank_id: int | None = None,
    row_scores: Mapping[str, np.ndarray] | None = None,
) -> dict[str, float]:
    """Scores one batch of predicted token ids against its labels, as the published implementation does.

    A row without labels (padding of the last batch) counts nowhere. The score on blank cells is an addition.

    Args:
        predictions: (B, S) integers, predicted token ids.
        labels: (B, S) integers, right token ids, -100 where a cell is not scored.
        q_halt_logits: (B,) floats, adds the sum of "(q_halt >= 0) equals (row is right)".
        segments: (B,) integers, segments that each row took, adds their sum.
        inputs, blank_id: (B, S) token ids of the questions, and that of a blank cell; add the score on blank cells.
        row_scores: further scores of the task, (B,) each, by name; adds their sums.
    Returns:
        Sums as floats: `count` (rows with labels), `exact_accuracy` (rows with every labelled cell right), `accuracy`
        (sum over rows of the share of right cells), and where asked for `q_halt_accuracy`, `segments`, `blank_right`
        and `blank_cells` (labelled cells whose input is blank), and the names of `row_scores`.
    Raises:
        ArgumentError: shapes that do not fit, or only one of `inputs` and `blank_id`.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if labels.ndim != 2:
        raise ArgumentError(f"labels have shape {labels.shape}; allowed: (rows, cells)")
    if (inputs is None) != (blank_id is None):
        raise ArgumentError("inputs and blank_id score the blank cells together: give both or neither")
    of_rows = {"q_halt_logits": q_halt_logits, "segments": segments} | dict(row_scores or {})
    for name, array in ({"predictions": predictions, "inputs": inputs} | of_rows).items():
        asked = labels.shape[: 1 if name in of_rows else 2]
        if array is not None and np.shape(array) != asked:
            raise ArgumentError(f"{name} have shape {np.shape(array)}; the labels ask for {asked}")

    labelled = labels != IGNORE_INDEX  # (B, S)
    right = (predictions == labels) & labelled  # (B, S)
    cells = labelled.sum(axis=1)  # (B,)
    counted = cells > 0  # (B,)
    row_right = right.sum(axis=1) == cells  # (B,)
    scores = {"exact_accuracy": row_right, "accuracy": right.sum(axis=1) / np.maximum(cells, 1)}  # (B,) each
    if q_halt_logits is not None:
        scores["q_halt_accuracy"] = (np.asarray(q_halt_logits) >= 0) == row_right
    if segments is not None:
        scores["segments"] = segments
    scores |= row_scores or {}
    sums = {"count": float(counted.sum())}
    sums |= {name: float(np.asarray(values)[counted].sum()) for name, values in scores.items()}
    if inputs is not None:
        blank = (np.asarray(inputs) == blank_id) & labelled  # (B, S)
        sums |= {"blank_right": float((right & blank).sum()), "blank_cells": float(blank.sum())}
    return sums


def add_scores(*parts: dict[str, float]) -> dict[str, float]:
    """Adds the sums of batches or processes; ArgumentError without any, or if they hold different scores."""
    if not parts:
        raise ArgumentError("no scores to add: give the sums of at least one batch")
    for part in parts:
        if part.keys() != parts[0].keys():
            raise ArgumentError(f"scores {sorted(part)} cannot be added to scores {sorted(parts[0])}")
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def finish(sums: dict[str, float]) -> dict[str, float]:
    """Turns the sums of `puzzle_scores` or `add_scores` into means.

    `count` stays as it is; `blank_accuracy` is the share of blank cells that are right; all others become means over
    the counted rows. NaN where there is nothing to divide by.
    """
    means = {name: _ratio(value, sums["count"]) for name, value in sums.items() if name not in _COUNTS}
    if "blank_cells" in sums:
        means["blank_accuracy"] = _ratio(sums["blank_right"], sums["blank_cells"])
    return {"count": sums["count"]} | means


def pass_at_k(
    ranked: Mapping[AnswerKey, Sequence[RankedAnswer]],
    answers: Mapping[AnswerKey, np.ndarray],
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """{"pass@1": ..., ...}: the share of tasks, 0 to 1, with the right answer to every test input among the first k.

    ranked: from `voting.vote`. answers: right grids by (task, test input); they say which tasks count. Raises
    ArgumentError without answers or for a k below 1.
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

    A grid there has at least one cell: [[0]] stands for a missing answer and for one of 0 x 0.
    """
    num_tests: dict[str, int] = {}
    for task, test in ranked:
        num_tests[task] = max(test + 1, num_tests.get(task, 0))

    def attempt(task: str, test: int, rank: int) -> list[list[int]]:
        answers = ranked.get((task, test), ())
        return answers[rank].grid.tolist() if rank < len(answers) and answers[rank].grid.size else [[0]]

    return {
        task: [{f"attempt_{i + 1}": attempt(task, test, i) for i in range(2)} for test in range(num_tests[task])]
        for task in sorted(num_tests)
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
