"""Exact answers over the attempts spent: the numbers, and their plot."""

import os
from collections.abc import Mapping, Sequence

from ..games.picture import check_matplotlib
from ..hrm.processing_hrm import HrmProcessor
from .evaluation import PuzzlePredictions, PuzzleRows, attempt_counts, score_predictions

SCORES = ("exact_accuracy", "valid_path", "segments")  # those that the task has


def attempt_curve(
    predictions: PuzzlePredictions, dataset: PuzzleRows, num_attempts: int, processor: HrmProcessor | None = None
) -> list[dict[str, float]]:
    """`attempts` (at most), `exact_accuracy` and `segments` (mean per row) for each of `attempt_counts`.

    With the processor of a maze model also `valid_path`: the rules accept every path, and the labels are the shortest.
    """
    curve = []
    for column, count in enumerate(attempt_counts(num_attempts)):
        after = (
            predictions.sequences_after[:, column],
            predictions.q_halt_logits,
            predictions.segments_after[:, column],
        )
        scores = score_predictions(PuzzlePredictions(*after), dataset, processor)
        curve.append({"attempts": count} | {name: scores[name] for name in SCORES if name in scores})
    return curve


def save_curves(path: str | os.PathLike, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draws curves by name into a PNG file: exact answers over attempts, and over segments spent.

    Raises ImportError where matplotlib is missing, OSError where the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("attempts", "segments"), strict=True):
        for label, curve in curves.items():
            shares = [100 * row["exact_accuracy"] for row in curve]
            axes.plot([row[name] for row in curve], shares, marker=".", label=label)
        axes.set(xscale="log", xlabel=f"{name} per puzzle", ylim=(0, 102))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("exact answers (%)")
    figure.axes[0].legend()
    figure.savefig(path, format="png", dpi=120)
