"""ARC's pass@k as a metric of the `evaluate` library: by import, or `evaluate.load` with this file.

`evaluate` copies this file elsewhere, hence the absolute imports. It keeps every row: for a full evaluation call
`voting.vote` on arrays instead.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from hrm_hf.hrm.arc import FRAME_SHAPE
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hrm.voting import vote
from hrm_hf.scores.formulas import KS, pass_at_k
from hrm_hf.scores.metric_info import metric_info


class ArcPassAtK(evaluate.Metric):
    """ARC tasks solved within k answers; `compute` takes and gives what stands here, `add_batch` takes the first five
    (see `formulas.pass_at_k`).

    Args:
        predictions: (N, S) integers, predicted token ids, one row per variant of a test input.
        references: (N, S) integers, right token ids of the same variant; PAD and EOS may be -100.
        names: N identifier names, "<task>" or "<task>_t<k>_<10 digits>".
        test_indices: (N,) integers, which test input of its task a row answers, from 0.
        confidences: (N,) floats, the sigmoid of q_halt; they rank answers with equal votes.
        ks: numbers of answers allowed, by default 1, 2, 5, 10, 100, 1000.
        frame_shape: rows and columns of a frame, by default (30, 30).

    Returns:
        pass@k for each k: share of the tasks, 0 to 1.

    Raises:
        ArgumentError: the references of a test input's variants disagree, or the shapes do not fit.

    metric_cards/arc_pass_at_k.md has an example.
    """

    def _info(self) -> evaluate.MetricInfo:
        description = "Share of ARC tasks solved within k answers, which the variants of a task vote for."
        columns = {"names": "string", "test_indices": "int64", "confidences": "float64"}
        features = {name: datasets.Value(dtype) for name, dtype in columns.items()}
        return metric_info(self, description, "arXiv:1911.01547", **features)

    def _compute(
        self,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        names: Sequence[str],
        test_indices: Sequence[int],
        confidences: Sequence[float],
        ks: Sequence[int] = KS,
        frame_shape: tuple[int, int] = FRAME_SHAPE,
    ) -> dict[str, float]:
        # The references vote too: where all variants of a test input agree, that is its answer.
        right = vote(np.asarray(references), np.ones(len(names)), names, test_indices, frame_shape)
        for (task, test_index), answers in right.items():
            if len(answers) != 1:
                raise ArgumentError(f"task {task}, test {test_index}: the references of its variants do not agree")
        ranked = vote(np.asarray(predictions), confidences, names, test_indices, frame_shape)
        return pass_at_k(ranked, {key: answers[0].grid for key, answers in right.items()}, ks)
