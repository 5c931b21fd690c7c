"""The losses of one segment: token losses (stablemax, softmax), the two halting losses and their sum per row.

One value per row: who calls averages. arXiv 2506.21734 section 2; reductions as in the published code.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

IGNORE_INDEX = -100


class SegmentLosses(NamedTuple):
    """Losses of each row; `q_continue` is None where no target was given."""

    lm: torch.Tensor  # (B,) token loss averaged over the row's labelled cells
    q_halt: torch.Tensor  # (B,)
    q_continue: torch.Tensor | None  # (B,)

    def total(self, halting_weight: float = 0.5) -> torch.Tensor:
        """lm + halting_weight * (q_halt + q_continue), (B,)."""
        halting = self.q_halt if self.q_continue is None else self.q_halt + self.q_continue
        return self.lm + halting_weight * halting


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype of sums and of stablemax there: float64, but float32 on Apple's GPUs, which have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def log_stablemax(logits: torch.Tensor) -> torch.Tensor:
    """log(s(x) / sum s(x)) over the last axis, with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below.

    logits (..., V) of any float dtype -> (..., V) in `widest_float`; in float32 within 1e-6 of float64, relatively
    below -1. Each branch sees 0 for the other's arguments: 1 / (1 - x) has no gradient at 1, which bfloat16 hits.
    """
    logits = logits.to(widest_float(logits.device))
    is_below = logits < 0  # and no clamp, whose gradient at exactly 0 depends on the version of torch
    below, above = logits.where(is_below, 0.0), logits.where(~is_below, 0.0)
    if logits.dtype == torch.float32:
        s = torch.where(is_below, 1 / (1 - below), 1 + above)
        return (s / s.sum(-1, keepdim=True)).log()
    log_s = torch.where(is_below, -torch.log1p(-below), torch.log1p(above))
    return log_s - torch.logsumexp(log_s, dim=-1, keepdim=True)


def token_losses(logits: torch.Tensor, labels: torch.Tensor, kind: str, smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy of every cell, (B, S); 0 where the label is -100. Label smoothing applies to softmax alone.

    logits: (B, S, V), any float dtype; labels: (B, S) int64; kind: "stablemax" (`widest_float`), "softmax" (float32).
    """
    if kind == "softmax":
        logits = logits.float().transpose(1, 2)
        return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none", label_smoothing=smoothing)
    labelled = labels != IGNORE_INDEX
    log_probabilities = log_stablemax(logits)
    picked = log_probabilities.gather(-1, labels.where(labelled, 0).unsqueeze(-1)).squeeze(-1)  # (B, S)
    return -picked.where(labelled, 0.0)


def rows_solved(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B,) bool: whether the largest logit of every labelled cell is its label; a row without labels counts as solved.

    logits: (B, S, V); labels: (B, S) int64.
    """
    return ((logits.argmax(-1) == labels) | (labels == IGNORE_INDEX)).all(-1)


def segment_losses(
    logits: torch.Tensor,
    q_halt_logits: torch.Tensor,
    q_continue_logits: torch.Tensor,
    labels: torch.Tensor,
    token_loss: str,
    q_continue_targets: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> SegmentLosses:
    """All losses of one segment, per row.

    logits: (B, S, V); q_halt_logits, q_continue_logits: (B,) float32; labels: (B, S) int64, -100 = ignored;
    token_loss, smoothing: see `token_losses`; q_continue_targets: (B,) probabilities, or None for no q_continue term.
    """
    num_labels = (labels != IGNORE_INDEX).sum(-1)  # (B,)
    lm = token_losses(logits, labels, token_loss, smoothing).sum(-1) / num_labels.clamp(min=1)
    solved = rows_solved(logits, labels).to(q_halt_logits.dtype)
    q_halt = F.binary_cross_entropy_with_logits(q_halt_logits, solved, reduction="none")
    q_continue = None
    if q_continue_targets is not None:
        targets = q_continue_targets.to(q_continue_logits.dtype)
        q_continue = F.binary_cross_entropy_with_logits(q_continue_logits, targets, reduction="none")
    return SegmentLosses(lm, q_halt, q_continue)
