"""Sums over the slots of a training segment, which add up over micro-batches, processes and steps; their means."""

from typing import Any

import torch

from ..hrm.losses import IGNORE_INDEX, SegmentLosses, rows_solved, widest_float

LOSS_NAMES = ("lm_loss", "q_halt_loss", "q_continue_loss")


@torch.no_grad()
def segment_sums(
    losses: SegmentLosses,
    logits: torch.Tensor,
    q_halt_logits: torch.Tensor,
    labels: torch.Tensor,
    steps: torch.Tensor,
    halted: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Losses summed over all rows, scores summed over the halted rows that have labels (as in the published code).

    losses: per row. logits: (B, S, V); labels: (B, S); q_halt_logits, steps, halted: (B,).

    Returns scalars in `widest_float`: count, accuracy (sum over rows of the share of right cells), exact_accuracy,
    q_halt_accuracy, steps, and the losses that were computed.
    """
    labelled = labels != IGNORE_INDEX  # (B, S)
    right = labelled & (logits.argmax(-1) == labels)
    num_labels = labelled.sum(-1)
    counted = halted & (num_labels > 0)  # (B,)
    exact = rows_solved(logits, labels)
    values = {
        "count": torch.ones_like(num_labels),
        "accuracy": right.sum(-1) / num_labels.clamp(min=1),
        "exact_accuracy": exact,
        "q_halt_accuracy": (q_halt_logits >= 0) == exact,
        "steps": steps,
    }
    dtype = widest_float(logits.device)
    sums = {name: value.where(counted, 0).sum(dtype=dtype) for name, value in values.items()}
    for name, rows in zip(LOSS_NAMES, losses, strict=True):
        if rows is not None:
            sums[name] = rows.sum(dtype=dtype)
    return sums


def means(sums: dict[str, float], rows: int) -> dict[str, float]:
    """Losses per row (`rows` slots went into the sums), scores per halted labelled row (0 where none halted)."""
    count = max(sums["count"], 1)
    return {name: value / (rows if name in LOSS_NAMES else count) for name, value in sums.items() if name != "count"}


class MetricsWindow:
    """The sums of one process since the last log line."""

    def __init__(self, device: torch.device):
        self.device = device
        self.sums: dict[str, torch.Tensor] = {}  # 0-d, in `widest_float`
        self.steps = 0

    def add(self, sums: dict[str, torch.Tensor]) -> None:
        self.sums = {name: self.sums.get(name, 0) + value for name, value in sums.items()}
        self.steps += 1

    def clear(self) -> None:
        self.sums, self.steps = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {"steps": self.steps, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.sums = {name: value.to(self.device, widest_float(self.device)) for name, value in state["sums"].items()}
