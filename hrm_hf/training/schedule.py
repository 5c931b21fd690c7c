"""The learning-rate schedule: linear warm-up from 0, then a cosine down to a share of the base rate."""

import math


def learning_rate_at(step: int, base_lr: float, warmup_steps: int, total_steps: int, min_ratio: float) -> float:
    """The rate of update number `step`, counted from 1: the published code raises its counter, then reads the rate.

    Args:
        step: number of the update; 0 gives the rate before the first one.
        base_lr: rate at the end of the warm-up.
        warmup_steps: updates of linear warm-up.
        total_steps: updates of the whole run; afterwards the rate stays at its end value (the published cosine would
            rise again).
        min_ratio: end value as a share of base_lr; 1.0 = constant after the warm-up.
    """
    if step < warmup_steps:
        return base_lr * step / max(1, warmup_steps)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return base_lr * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))
