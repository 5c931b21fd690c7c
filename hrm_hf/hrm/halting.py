"""The rules of adaptive computation (ACT) as pure functions: when a row halts, and what q_continue learns.

arXiv 2506.21734 section 2; details as in the published code.
"""

import torch


def wants_to_halt(
    q_halt_logits: torch.Tensor, q_continue_logits: torch.Tensor, halting: str = "q_learning"
) -> torch.Tensor:
    """(B,) bool: q_halt > q_continue, or q_halt > 0 under "halt_only" (as in the Tiny Recursive Model).

    Strictly: q_halt and q_continue both start at -5, and a tie goes on.
    """
    return q_halt_logits > (0 if halting == "halt_only" else q_continue_logits)


def q_continue_targets(
    next_q_halt_logits: torch.Tensor, next_q_continue_logits: torch.Tensor, steps: torch.Tensor, halt_max_steps: int
) -> torch.Tensor:
    """(B,) probabilities: what q_continue should have said, the value of one more segment.

    next_q_halt_logits, next_q_continue_logits: (B,), of a segment run on the NEW carry without gradient. steps: (B,)
    int32 after this segment; at the limit the next one could only halt, for whatever reason the slot halted now.
    """
    best = torch.maximum(next_q_halt_logits, next_q_continue_logits)
    return torch.sigmoid(next_q_halt_logits.where(steps >= halt_max_steps, best))


def select_rows(use_new: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """Row b of `new` where use_new[b], else of `old`: a selection, so NaN in the rows left out does no harm.

    use_new: (B,) bool; old: (B, ...); new: anything that broadcasts to it.
    """
    return torch.where(use_new.view(-1, *([1] * (old.ndim - 1))), new, old)
