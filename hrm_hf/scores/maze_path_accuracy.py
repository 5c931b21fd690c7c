"""Mazes solved by any path, and by a shortest one, as a metric of `evaluate`: import it, or `evaluate.load` this file.

Exact match with the label asks for one of very many shortest paths; these shares say what a model that misses it did.
`evaluate` copies this file elsewhere, hence the absolute imports.
"""

from collections.abc import Sequence

import evaluate
import numpy as np

from hrm_hf.games.maze_answers import path_scores
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hrm.maze import check_grid_shape
from hrm_hf.scores.formulas import finish, puzzle_scores
from hrm_hf.scores.metric_info import CELLS, metric_info


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

    metric_cards/maze_path_accuracy.md has an example.
    """

    def _info(self) -> evaluate.MetricInfo:
        description = "Share of mazes whose prediction shows a path from S to G, and a shortest one."
        return metric_info(self, description, "arXiv:2506.21734", questions=CELLS)

    def _compute(
        self,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        questions: Sequence[Sequence[int]],
        grid_shape: tuple[int, int],
    ) -> dict[str, float]:
        rows, cols = check_grid_shape(grid_shape)
        questions, predictions = np.asarray(questions), np.asarray(predictions)
        for name, array in {"predictions": predictions, "questions": questions}.items():
            if array.ndim != 2 or array.shape[1] != rows * cols:
                raise ArgumentError(f"{name} have the shape {array.shape}; expected (mazes, {rows} * {cols} cells)")
        row_scores = path_scores(questions, predictions, (rows, cols))
        scores = finish(puzzle_scores(predictions, references, row_scores=row_scores))
        return {name: scores[name] for name in row_scores}
