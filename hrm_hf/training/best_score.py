"""The best evaluation of a run so far, and whether it is time to stop because no better one comes."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..hrm.errors import ArgumentError


@dataclass
class BestScore:
    """Remembers the best of the scores that it is shown; more is better, and NaN is never the best.

    Progress is a score that is higher by more than `threshold` than that of the last progress.
    """

    metric: str  # the score that is compared, such as "exact_accuracy"
    patience: int | None = None  # evaluations without progress after which to stop; None = never
    threshold: float = 0.0
    step: int | None = None  # of the best score; None before the first
    scores: dict[str, float] = field(default_factory=dict)  # all of that evaluation
    waited: int = 0  # evaluations since the last progress
    progress: float | None = None  # score of the last progress; None before the first

    def check(self, scores: dict[str, float]) -> None:
        """Raises ArgumentError for scores (`eval/...`) without the metric."""
        if f"eval/{self.metric}" not in scores:
            allowed = ", ".join(score.removeprefix("eval/") for score in scores)
            raise ArgumentError(f"metric_for_best is {self.metric!r}; the evaluation has {allowed}")

    def beaten_by(self, scores: dict[str, float]) -> bool:
        """Whether this evaluation is the best one so far."""
        self.check(scores)
        name = f"eval/{self.metric}"
        return scores[name] > (-math.inf if self.step is None else self.scores[name])

    def show(self, scores: dict[str, float], step: int, kept: bool = True) -> None:
        """Takes an evaluation into account; `kept`: as the best one, if it is that, for its weights are safe."""
        if kept and self.beaten_by(scores):
            self.step, self.scores = step, scores
        value = scores[f"eval/{self.metric}"]
        if value > (-math.inf if self.progress is None else self.progress + self.threshold):
            self.progress, self.waited = value, 0
        else:
            self.waited += 1

    @property
    def give_up(self) -> bool:
        """Whether the patience is at its end."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What the next evaluations are compared with."""
        return {"step": self.step, "scores": self.scores, "waited": self.waited, "progress": self.progress}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.scores = state["step"], state["scores"]
        self.waited, self.progress = state["waited"], state["progress"]
