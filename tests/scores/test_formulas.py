"""Scores against cases worked out by hand, their additivity, and the metric of the `evaluate` library."""

import math

import numpy as np
import pytest

from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.scores.formulas import add_scores, finish, puzzle_scores

# Four rows of four cells: right; half right; right in its only labelled cell; without labels. Code 1 is blank.
LABELS = np.array([[2, 3, 4, 5], [2, 3, 4, 5], [-100, -100, 4, -100], [-100, -100, -100, -100]])
PREDICTIONS = np.array([[2, 3, 4, 5], [2, 3, 5, 4], [-100, 9, 4, 9], [2, 3, 4, 5]])
INPUTS = np.array([[2, 1, 1, 5], [2, 1, 1, 5], [1, 1, 1, 1], [1, 1, 1, 1]])
Q_HALT = np.array([0.0, 3.0, -1.0, -5.0])  # right (0 says halt), wrong, wrong, not counted
SEGMENTS = np.array([1, 4, 2, 16])


def scores_of(rows: slice) -> dict[str, float]:
    return puzzle_scores(PREDICTIONS[rows], LABELS[rows], Q_HALT[rows], SEGMENTS[rows], INPUTS[rows], blank_id=1)


def test_scores_of_a_batch_worked_out_by_hand():
    assert finish(scores_of(slice(None))) == pytest.approx(
        {
            "count": 3,
            "exact_accuracy": 2 / 3,
            "accuracy": (1 + 0.5 + 1) / 3,
            "q_halt_accuracy": 1 / 3,
            "segments": 7 / 3,
            "blank_accuracy": (2 + 1 + 1) / (2 + 2 + 1),
        }
    )


def test_splitting_into_batches_changes_nothing():
    parts = [scores_of(slice(start, start + 1)) for start in range(4)]
    assert add_scores(*parts) == pytest.approx(scores_of(slice(None)))


def test_only_what_was_given_is_scored():
    assert set(finish(puzzle_scores(PREDICTIONS, LABELS))) == {"count", "exact_accuracy", "accuracy"}


def test_nothing_counted_is_nan_not_zero():
    means = finish(scores_of(slice(3, 4)))
    assert means.pop("count") == 0
    assert all(math.isnan(value) for value in means.values())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"predictions": PREDICTIONS[:, :3]}, r"predictions have shape \(4, 3\).*\(4, 4\)"),
        ({"labels": LABELS[0]}, r"labels have shape \(4,\)"),
        ({"q_halt_logits": Q_HALT[:, None]}, r"q_halt_logits have shape \(4, 1\).*\(4,\)"),
        ({"segments": SEGMENTS[:2]}, r"segments have shape \(2,\)"),
        ({"inputs": INPUTS[:2]}, r"inputs have shape \(2, 4\)"),
        ({"blank_id": None}, "inputs and blank_id"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changed, named):
    arguments = dict(predictions=PREDICTIONS, labels=LABELS, q_halt_logits=Q_HALT, segments=SEGMENTS)
    arguments |= dict(inputs=INPUTS, blank_id=1)
    with pytest.raises(ArgumentError, match=named):
        puzzle_scores(**(arguments | changed))


def test_scores_of_different_kinds_do_not_add():
    with pytest.raises(ArgumentError, match="q_halt_accuracy"):
        add_scores(scores_of(slice(0, 2)), puzzle_scores(PREDICTIONS[2:], LABELS[2:]))
    with pytest.raises(ArgumentError, match="at least one"):
        add_scores()
