"""Puzzles solved exactly, and right cells, as a metric of `evaluate`: by import, or `evaluate.load` with this file.

`evaluate` copies this file elsewhere, hence the absolute imports.
"""

from collections.abc import Sequence

import evaluate

from hrm_hf.scores.formulas import finish, puzzle_scores
from hrm_hf.scores.metric_info import metric_info


class PuzzleAccuracy(evaluate.Metric):
    """Puzzles solved exactly, and right cells; `compute` takes and gives what stands here.

    A puzzle without any labelled cell does not count.

    Args:
        predictions: (N, S) integers, predicted token ids, one row per puzzle.
        references: (N, S) integers, right token ids; -100 marks a cell that is not scored.
        q_halt_logits: optional (N,) floats, the model's halting values.
        segments: optional (N,) integers, segments that each puzzle took.

    Returns:
        exact_accuracy: share of puzzles with every labelled cell right, 0 to 1.
        accuracy: mean over puzzles of the share of right cells, 0 to 1.
        q_halt_accuracy: only with q_halt_logits; share of puzzles where (q_halt >= 0) says whether the puzzle is
            right.
        segments: only with segments; their mean over the puzzles.

    Raises:
        ArgumentError: shapes that do not fit.

    metric_cards/puzzle_accuracy.md has an example.
    """

    def _info(self) -> evaluate.MetricInfo:
        description = "Share of puzzles solved exactly, and mean share of right cells, for predicted token ids."
        return metric_info(self, description, "arXiv:2506.21734")

    def _compute(
        self,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        q_halt_logits: Sequence[float] | None = None,
        segments: Sequence[int] | None = None,
    ) -> dict[str, float]:
        scores = finish(puzzle_scores(predictions, references, q_halt_logits=q_halt_logits, segments=segments))
        return {name: scores[name] for name in scores if name != "count"}
