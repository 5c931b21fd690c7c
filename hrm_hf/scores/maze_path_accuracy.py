"""Mazes solved by any path, and by a shortest one, as a metric of `evaluate`: import it, or `evaluate.load` this file.

Exact match with the label asks for one of very many shortest paths; these shares say what a model that misses it did.
`evaluate` copies this file elsewhere, hence the absolute imports.
"""

import inspect
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hrm.maze import check_grid_shape, decode, path_checks
from hrm_hf.scores.puzzle_accuracy import CITATION

_DESCRIPTION = """Share of predicted mazes that show a valid path from S to G, and share that show a shortest one.
A maze without any labelled cell (all -100: padding of a batch) does not count."""


class MazePathAccuracy(evaluate.Metric):
    """Mazes whose prediction shows a path; `compute` takes and gives what stands here, `add_batch` takes all but
    grid_shape.

    Args:
        predictions: (N, S) integers, predicted token ids, one row per maze.
        references: (N, S) integers, right token ids; they only tell which rows count: those that are not all -100.
        questions: (N, S) integers, token ids of the questions.
        grid_shape: (rows, cols) of a maze, rows * cols = S.

    Returns:
        valid_path: share of mazes whose prediction keeps the question and marks one path from S to G, 0 to 1.
        shortest_path: share of mazes whose prediction does so with as few steps as possible, 0 to 1.

    Raises:
        ArgumentError: shapes that do not fit.
        PuzzleError: a grid_shape that is no size of a maze.

    Examples:
        >>> from hrm_hf.scores.maze_path_accuracy import MazePathAccuracy
        >>> metric = MazePathAccuracy()
        >>> maze, path = [3, 2, 2, 4, 1, 2, 2, 2], [3, 5, 5, 4, 1, 2, 2, 2]  # "S  G" over "#   "
        >>> metric.compute(
        ...     predictions=[path, maze], references=[path, path], questions=[maze, maze], grid_shape=(2, 4)
        ... )
        {'valid_path': 0.5, 'shortest_path': 0.5}
    """

    def _info(self) -> evaluate.MetricInfo:
        cells = datasets.Sequence(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description="\n" + inspect.cleandoc(self.__doc__),
            features=datasets.Features({"predictions": cells, "references": cells, "questions": cells}),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        questions: Sequence[Sequence[int]],
        grid_shape: tuple[int, int],
    ) -> dict[str, float]:
        rows, cols = check_grid_shape(grid_shape)
        predictions, references, questions = arrays = [np.asarray(a) for a in (predictions, references, questions)]
        for name, array in zip(("predictions", "references", "questions"), arrays, strict=True):
            if array.ndim != 2 or array.shape[1] != rows * cols:
                raise ArgumentError(f"{name} have the shape {array.shape}; expected (mazes, {rows} * {cols} cells)")
        counted = (references != -100).any(axis=1)  # (N,)
        if not counted.any():
            return {"valid_path": float("nan"), "shortest_path": float("nan")}
        valid, shortest = path_checks(
            *(decode(ids[counted]).reshape(-1, rows, cols) for ids in (questions, predictions))
        )
        return {"valid_path": float(valid.mean()), "shortest_path": float(shortest.mean())}
