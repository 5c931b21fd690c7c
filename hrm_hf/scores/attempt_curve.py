"""Exact answers over the attempts spent: the numbers, and their plot."""

import os
from collections.abc import Mapping, Sequence

from .evaluation import PuzzlePredictions, PuzzleRows, attempt_counts, score_predictions


def attempt_curve(predictions: PuzzlePredictions, dataset: PuzzleRows, num_attempts: int) -> list[dict[str, float]]:
    """`attempts` (at most), `exact_accuracy` and `segments` (mean per row) for each of `attempt_counts`."""
    curve = []
    for column, count in enumerate(attempt_counts(num_attempts)):
        after = (
            predictions.sequences_after[:, column],
            predictions.q_halt_logits,
            predictions.segments_after[:, column],
        )
        scores = score_predictions(PuzzlePredictions(*after), dataset)
        curve.append({"attempts": count, "exact_accuracy": scores["exact_accuracy"], "segments": scores["segments"]})
    return curve


def save_curves(path: str | os.PathLike, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draws curves by name into a PNG file: exact answers over attempts, and over segments spent.

    Raises ImportError where matplotlib is missing, OSError where the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("curves are drawn with matplotlib, which is missing: pip install hrm-hf[plot]") from error
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
