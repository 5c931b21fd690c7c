"""The metric of solved puzzles and right cells, against a case worked out by hand, by import and by path."""

from pathlib import Path

import evaluate
import numpy as np
import pytest

import hrm_hf.scores.puzzle_accuracy
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.scores.puzzle_accuracy import PuzzleAccuracy

# Right; half right; right in its only labelled cell; without labels.
LABELS = np.array([[2, 3, 4, 5], [2, 3, 4, 5], [-100, -100, 4, -100], [-100, -100, -100, -100]])
PREDICTIONS = np.array([[2, 3, 4, 5], [2, 3, 5, 4], [-100, 9, 4, 9], [2, 3, 4, 5]])
Q_HALT = np.array([0.0, 3.0, -1.0, -5.0])  # right (0 says halt), wrong, wrong, not counted
SHARES = {"exact_accuracy": pytest.approx(2 / 3), "accuracy": pytest.approx(2.5 / 3)}


def test_metric_by_import(tmp_path):
    assert PuzzleAccuracy(cache_dir=str(tmp_path)).compute(predictions=PREDICTIONS, references=LABELS) == SHARES


def test_metric_by_path_in_batches_and_with_halting(tmp_path):
    metric = evaluate.load(str(Path(hrm_hf.scores.puzzle_accuracy.__file__)), cache_dir=str(tmp_path))
    for rows in (slice(0, 1), slice(1, 4)):
        metric.add_batch(predictions=PREDICTIONS[rows], references=LABELS[rows])
    assert metric.compute(q_halt_logits=Q_HALT) == SHARES | {"q_halt_accuracy": pytest.approx(1 / 3)}


def test_shapes_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ArgumentError, match=r"predictions have shape \(4, 3\)"):
        PuzzleAccuracy(cache_dir=str(tmp_path)).compute(predictions=PREDICTIONS[:, :3], references=LABELS)
