"""Scores of solved puzzles over plain arrays, as sums that can be added over batches and processes.

`puzzle_scores` scores one batch, `add_scores` adds batches or processes, `finish` divides at the very end, so the
result does not depend on how the rows were split. Over NumPy arrays: `evaluation.py` and `PuzzleAccuracy` call these.

B rows (puzzles), S cells.
"""

from collections.abc import Mapping

import numpy as np

from ..hrm.errors import ArgumentError
from ..hrm.losses import IGNORE_INDEX


def puzzle_scores(
    predictions: np.ndarray,
    labels: np.ndarray,
    q_halt_logits: np.ndarray | None = None,
    segments: np.ndarray | None = None,
    inputs: np.ndarray | None = None,
    blank_id: int | None = None,
    row_scores: Mapping[str, np.ndarray] | None = None,
) -> dict[str, float]:
    """Score one batch of predicted token ids against its labels.

    A row without labels (padding of the last batch) counts nowhere. The definitions are those of the published
    implementation's evaluation; the score on blank cells is an addition.

    Args:
        predictions: (B, S) integers, predicted token ids.
        labels: (B, S) integers, right token ids, -100 where a cell is not scored.
        q_halt_logits: (B,) floats, adds the sum of "(q_halt >= 0) equals (row is right)".
        segments: (B,) integers, segments that each row took, adds their sum.
        inputs: (B, S) integers, token ids of the questions; with `blank_id` adds the score on blank cells alone.
        blank_id: token id of a blank cell.
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
    _check_shape("predictions", predictions, labels.shape)
    if (inputs is None) != (blank_id is None):
        raise ArgumentError("inputs and blank_id score the blank cells together: give both or neither")

    labelled = labels != IGNORE_INDEX  # (B, S)
    right = (predictions == labels) & labelled  # (B, S)
    cells = labelled.sum(axis=1)  # (B,)
    counted = cells > 0  # (B,)
    row_right = counted & (right.sum(axis=1) == cells)  # (B,)
    shares = right.sum(axis=1) / np.maximum(cells, 1)  # (B,), 0 in rows without labels

    sums = {
        "count": float(counted.sum()),
        "exact_accuracy": float(row_right.sum()),
        "accuracy": float(shares.sum()),
    }
    if q_halt_logits is not None:
        q_halt_logits = np.asarray(q_halt_logits)
        _check_shape("q_halt_logits", q_halt_logits, counted.shape)
        sums["q_halt_accuracy"] = float((((q_halt_logits >= 0) == row_right) & counted).sum())
    if segments is not None:
        segments = np.asarray(segments)
        _check_shape("segments", segments, counted.shape)
        sums["segments"] = float(segments[counted].sum())
    if inputs is not None:
        inputs = np.asarray(inputs)
        _check_shape("inputs", inputs, labels.shape)
        blank = (inputs == blank_id) & labelled  # (B, S)
        sums["blank_right"] = float((right & blank).sum())
        sums["blank_cells"] = float(blank.sum())
    for name, scores in (row_scores or {}).items():
        scores = np.asarray(scores)
        _check_shape(name, scores, counted.shape)
        sums[name] = float(scores[counted].sum())
    return sums


def add_scores(*parts: dict[str, float]) -> dict[str, float]:
    """Add the sums of several batches or processes.

    Raises:
        ArgumentError: no part at all, or parts that hold different scores.
    """
    if not parts:
        raise ArgumentError("no scores to add: give the sums of at least one batch")
    for part in parts:
        if part.keys() != parts[0].keys():
            raise ArgumentError(f"scores {sorted(part)} cannot be added to scores {sorted(parts[0])}")
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def finish(sums: dict[str, float]) -> dict[str, float]:
    """Turn sums into means.

    Args:
        sums: what `puzzle_scores` or `add_scores` returned.

    Returns:
        `count` as it is; `exact_accuracy`, `accuracy`, `q_halt_accuracy` (0 to 1), `segments` and the task's own
        scores as means over the counted rows; `blank_accuracy` as the share of blank cells that are right; NaN where
        there was nothing to divide by.
    """
    means = {"count": sums["count"]}
    for name in sums:
        if name not in ("count", "blank_right", "blank_cells"):
            means[name] = _ratio(sums[name], sums["count"])
    if "blank_cells" in sums:
        means["blank_accuracy"] = _ratio(sums["blank_right"], sums["blank_cells"])
    return means


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ArgumentError(f"{name} have shape {array.shape}; the labels ask for {shape}")
