"""The metric of valid and shortest paths, against predictions judged by hand, by import and by path."""

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest

import hrm_hf.scores.maze_path_accuracy
from hrm_hf.hrm.errors import ArgumentError, PuzzleError
from hrm_hf.hrm.maze import CODEC, parse
from hrm_hf.scores.maze_path_accuracy import MazePathAccuracy

SHAPE = (3, 6)
QUESTION, LABEL = "S    #   # #G     ", "S    #o  # #G     "
PREDICTIONS = [
    LABEL,  # the label: shortest
    "Soo  #  o# #Goo   ",  # valid, two steps longer
    QUESTION,  # no path
    "S    #o # #G     ".ljust(18),  # a wall has moved
    "So   #oo # #Go    ",  # a thick path
    LABEL,  # not counted
]


def ids(text):
    return CODEC.encode(parse(text, SHAPE), SHAPE).ravel()


def inputs():
    references = np.stack([ids(LABEL)] * 6)
    references[5] = -100
    return {
        "predictions": np.stack([ids(text) for text in PREDICTIONS]),
        "references": references,
        "questions": np.stack([ids(QUESTION)] * 6),
    }


def test_metric_by_import(tmp_path):
    metric = MazePathAccuracy(cache_dir=str(tmp_path))
    scores = metric.compute(**inputs(), grid_shape=SHAPE)
    assert scores == pytest.approx({"valid_path": 2 / 5, "shortest_path": 1 / 5})


def test_metric_by_path_and_in_batches(tmp_path):
    metric = evaluate.load(str(Path(hrm_hf.scores.maze_path_accuracy.__file__)), cache_dir=str(tmp_path))
    arrays = inputs()
    for rows in (slice(0, 4), slice(4, 6)):
        metric.add_batch(**{name: array[rows] for name, array in arrays.items()})
    assert metric.compute(grid_shape=SHAPE) == pytest.approx({"valid_path": 2 / 5, "shortest_path": 1 / 5})


def test_padding_tokens_are_free_cells_and_only_padding_is_nan(tmp_path):
    metric = MazePathAccuracy(cache_dir=str(tmp_path))
    arrays = {name: array[:1].copy() for name, array in inputs().items()}
    arrays["predictions"][0, 1] = 0  # PAD on a free cell
    assert metric.compute(**arrays, grid_shape=SHAPE) == {"valid_path": 1.0, "shortest_path": 1.0}
    arrays["references"][:] = -100
    assert all(math.isnan(value) for value in metric.compute(**arrays, grid_shape=SHAPE).values())


def test_shapes_that_do_not_fit_are_named(tmp_path):
    metric = MazePathAccuracy(cache_dir=str(tmp_path))
    with pytest.raises(ArgumentError, match=r"predictions have the shape \(6, 18\); expected \(mazes, 3 \* 5 cells"):
        metric.compute(**inputs(), grid_shape=(3, 5))
    with pytest.raises(PuzzleError, match="grid shape is 18"):
        MazePathAccuracy(cache_dir=str(tmp_path / "other")).compute(**inputs(), grid_shape=18)
