"""The best evaluation of a run so far, and whether it is time to stop because no better one comes."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError


@dataclass
class BestScore:
    """Remembers the best of the scores that it is shown; more is better.

    Attributes:
        metric: name of the score that is compared, such as "exact_accuracy".
        patience: evaluations without a better score after which to stop; None = never.
        threshold: a better score is better by more than this.
        step: the step of the best score, None before the first.
        scores: all scores of that evaluation.
        waited: evaluations since then.
    """

    metric: str
    patience: int | None = None
    threshold: float = 0.0
    step: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    waited: int = 0

    def show(self, scores: dict[str, float], step: int) -> bool:
        """Takes an evaluation (`eval/...`) into account; True if it is the best one so far.

        Raises:
            ArgumentError: the evaluation has no such score.
        """
        name = f"eval/{self.metric}"
        if name not in scores:
            allowed = ", ".join(score.removeprefix("eval/") for score in scores)
            raise ArgumentError(f"metric_for_best is {self.metric!r}; the evaluation has {allowed}")
        beaten = -math.inf if self.step is None else self.scores[name] + self.threshold
        if scores[name] > beaten:  # NaN never is
            self.step, self.scores, self.waited = step, scores, 0
            return True
        self.waited += 1
        return False

    @property
    def give_up(self) -> bool:
        """Whether the patience is at its end."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"step": self.step, "scores": scores_to_json(self.scores), "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.step, self.scores, self.waited = state["step"], scores_from_json(state["scores"]), state["waited"]


def scores_to_json(scores: dict[str, float]) -> dict[str, float | None]:
    """None for NaN (a score of nothing), for which JSON has no number."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def scores_from_json(scores: dict[str, float | None]) -> dict[str, float]:
    """The other way round."""
    return {name: math.nan if value is None else value for name, value in scores.items()}
