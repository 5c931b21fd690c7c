"""The rules of adaptive computation (ACT) as pure functions: when a row halts, explores, and what q_continue learns.

Random draws are arguments, never made inside the rules, so that a test can drive them with recorded ones.
arXiv 2506.21734 section 2 (adaptive computational time); details as in the published code.
"""

from typing import NamedTuple

import torch


class ExplorationDraws(NamedTuple):
    """What one segment of one training batch draws, for every slot."""

    uniform: torch.Tensor  # (B,) float32 in [0, 1)
    min_steps: torch.Tensor  # (B,) int32 in [2, halt_max_steps]


def draw_exploration(num_slots: int, halt_max_steps: int, generator: torch.Generator) -> ExplorationDraws:
    """First the uniform reals, then the integers; with `halt_max_steps` = 1 every integer is 1: nothing to explore."""
    how = {"size": (num_slots,), "generator": generator, "device": generator.device}
    uniform = torch.rand(**how)
    return ExplorationDraws(
        uniform, torch.randint(min(2, halt_max_steps), halt_max_steps + 1, **how, dtype=torch.int32)
    )


def exploration_min_steps(draws: ExplorationDraws, exploration_prob: float) -> torch.Tensor:
    """(B,) int32: the step before which a slot may not halt: the drawn one with `exploration_prob`, else 0."""
    return draws.min_steps.where(draws.uniform < exploration_prob, 0)


def wants_to_halt(
    q_halt_logits: torch.Tensor, q_continue_logits: torch.Tensor, halting: str = "q_learning"
) -> torch.Tensor:
    """(B,) bool: q_halt > q_continue, or q_halt > 0 under "halt_only" (as in the Tiny Recursive Model).

    Strictly: q_halt and q_continue both start at -5, and a tie goes on.
    """
    if halting == "halt_only":
        return q_halt_logits > 0
    return q_halt_logits > q_continue_logits


def training_halt(
    steps: torch.Tensor,
    q_halt_logits: torch.Tensor,
    q_continue_logits: torch.Tensor,
    min_steps: torch.Tensor,
    halt_max_steps: int,
    halting: str = "q_learning",
) -> torch.Tensor:
    """(B,) bool: which slots stop after this segment.

    steps: (B,) int32, segments done on the slot's puzzle, this one included; at `halt_max_steps` every slot stops.
    q_halt_logits, q_continue_logits: (B,). min_steps: (B,) int32 from `exploration_min_steps`; steps equal to it may
    halt. halting: the model's rule, see `wants_to_halt`.
    """
    last = steps >= halt_max_steps
    return last | (wants_to_halt(q_halt_logits, q_continue_logits, halting) & (steps >= min_steps))


def q_continue_targets(
    next_q_halt_logits: torch.Tensor,
    next_q_continue_logits: torch.Tensor,
    steps: torch.Tensor,
    halt_max_steps: int,
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
