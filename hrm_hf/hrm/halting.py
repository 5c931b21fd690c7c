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
    """Draws for `num_slots` slots: first the uniform reals, then the integers.

    With `halt_max_steps` = 1 there is nothing to explore and every integer is 1.
    """
    uniform = torch.rand(num_slots, generator=generator, device=generator.device)
    low = min(2, halt_max_steps)
    min_steps = torch.randint(
        low, halt_max_steps + 1, (num_slots,), generator=generator, device=generator.device, dtype=torch.int32
    )
    return ExplorationDraws(uniform, min_steps)


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
    """Which slots stop after this segment.

    Args:
        steps: (B,) int32, segments done on the slot's puzzle, this one included.
        q_halt_logits, q_continue_logits: (B,).
        min_steps: (B,) int32 from `exploration_min_steps`; steps equal to it may halt.
        halt_max_steps: the limit at which every slot stops.
        halting: the model's rule, see `wants_to_halt`.
    Returns:
        (B,) bool.
    """
    last = steps >= halt_max_steps
    if halt_max_steps == 1:
        return last
    return last | (wants_to_halt(q_halt_logits, q_continue_logits, halting) & (steps >= min_steps))


def q_continue_targets(
    next_q_halt_logits: torch.Tensor,
    next_q_continue_logits: torch.Tensor,
    steps: torch.Tensor,
    halt_max_steps: int,
) -> torch.Tensor:
    """What q_continue should have said: the value of one more segment, whose q logits are given.

    Args:
        next_q_halt_logits, next_q_continue_logits: (B,), of a segment run on the NEW carry without gradient.
        steps: (B,) int32 after this segment. At the limit the next segment could only halt (whether the slot halted
            for another reason does not matter).
    Returns:
        (B,) probabilities.
    """
    best = torch.maximum(next_q_halt_logits, next_q_continue_logits)
    return torch.sigmoid(next_q_halt_logits.where(steps >= halt_max_steps, best))


def select_rows(use_new: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """Row b of `new` where use_new[b], else of `old`: a selection, so NaN in the rows left out does no harm.

    Args:
        use_new: (B,) bool.
        new, old: (B, ...) or, for `new`, anything that broadcasts to it.
    """
    return torch.where(use_new.view(-1, *([1] * (old.ndim - 1))), new, old)
