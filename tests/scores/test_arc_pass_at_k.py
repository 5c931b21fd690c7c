"""ARC's pass@k as a metric of the `evaluate` library: by import, in batches and by path."""

from pathlib import Path

import evaluate
import numpy as np
import pytest

import hrm_hf.scores.arc_pass_at_k
from hrm_hf.hrm import arc
from hrm_hf.hrm.arc import ArcAugmentation
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.scores.arc_pass_at_k import ArcPassAtK

A, B, C = np.array([[1, 2, 3]]), np.array([[1], [2], [3]]), np.array([[7, 0], [0, 7]])
SHAPE = (3, 3)
# Name, test index, predicted grid, right grid, confidence. Task a: found at 2 for its second input; b: by confidence.
ROWS = [
    ("a", 0, A, A, 0.5),
    ("a", 1, C, B, 0.9),
    ("a_t1_0213456789", 1, C, B, 0.9),
    ("a_t6_0213456789", 1, B, B, 0.1),
    ("b", 0, C, C, 0.6),
    ("b_t3_0234567891", 0, A, C, 0.5),
    ("c", 0, A, B, 1.0),
]
EXPECTED = {"pass@1": pytest.approx(1 / 3), "pass@2": pytest.approx(2 / 3)}


def inputs(rows):
    def framed(name, grid):
        return arc.frame(ArcAugmentation.parse(name)[1].apply(grid), SHAPE).ravel().astype(np.int64)

    references = np.array([framed(name, right) for name, _, _, right, _ in rows])
    return {
        "predictions": np.array([framed(name, grid) for name, _, grid, _, _ in rows]),
        "references": np.where(references == arc.PAD_ID, -100, references),
        "names": [row[0] for row in rows],
        "test_indices": [row[1] for row in rows],
        "confidences": [row[4] for row in rows],
    }


def test_scores_by_hand(tmp_path):
    metric = ArcPassAtK(cache_dir=str(tmp_path))
    assert metric.compute(**inputs(ROWS), ks=[1, 2], frame_shape=SHAPE) == EXPECTED


def test_batches_in_another_order_score_the_same(tmp_path):
    metric = ArcPassAtK(cache_dir=str(tmp_path))
    for rows in (ROWS[4:], ROWS[1:4], ROWS[:1]):
        metric.add_batch(**inputs(rows))
    assert metric.compute(ks=[1, 2], frame_shape=SHAPE) == EXPECTED


def test_usual_ks_and_frames(tmp_path):
    frames = [arc.frame(A).ravel()]
    scores = ArcPassAtK(cache_dir=str(tmp_path)).compute(
        predictions=frames, references=frames, names=["a"], test_indices=[0], confidences=[0.5]
    )
    assert scores == dict.fromkeys(["pass@1", "pass@2", "pass@5", "pass@10", "pass@100", "pass@1000"], 1.0)


def test_references_that_disagree_are_refused(tmp_path):
    rows = [("a", 0, A, A, 0.5), ("a_t1_0213456789", 0, A, B, 0.5)]
    with pytest.raises(ArgumentError, match="task a, test 0: the references of its variants do not agree"):
        ArcPassAtK(cache_dir=str(tmp_path)).compute(**inputs(rows), frame_shape=SHAPE)


def test_metric_by_path(tmp_path):
    metric = evaluate.load(str(Path(hrm_hf.scores.arc_pass_at_k.__file__)), cache_dir=str(tmp_path))
    assert metric.compute(**inputs(ROWS), ks=[1, 2], frame_shape=SHAPE) == EXPECTED
