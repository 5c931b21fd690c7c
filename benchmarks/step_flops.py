"""How much arithmetic an HRM needs, and how fast this machine multiplies matrices: a step's share of the peak.

Only matrix products count (two operations for a multiplication and an addition), as the rest is some thousandth of
them. A backward pass takes twice its forward one. Shapes as in `hrm_hf.hrm.modeling_hrm`.
"""

import time
from typing import Any

import torch

PEAK_SIZES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 3072))  # m, k, n
QUICK_SIZES = ((256, 256, 256),)


def block_flops(config: Any) -> int:
    """One block on one row of T positions: the mixer (attention's projections and its two products, or a SwiGLU for
    every channel) and the SwiGLU.
    """
    positions, width, inner = config.num_positions, config.hidden_size, config.intermediate_size
    swiglu = 6 * positions * width * inner
    if config.mixer == "mlp":
        return 6 * width * positions * config.mixer_size + swiglu
    return 8 * positions * width * width + 4 * positions * positions * width + swiglu


def first_position_flops(config: Any) -> int:
    """One block on one row where only the first position's outcome is asked for: keys and values of all positions,
    or the whole mixer "mlp", the rest of one.
    """
    positions, width, inner = config.num_positions, config.hidden_size, config.intermediate_size
    if config.mixer == "mlp":
        return 6 * width * positions * config.mixer_size + 6 * width * inner
    return 2 * (positions * 2 * width * width + 2 * width * width + 3 * width * inner) + 4 * positions * width


def level_updates_flops(config: Any, H_updates: int, L_updates: int) -> int:
    """So many updates of the levels on one row."""
    H_layers = config.L_layers if config.shared_levels else config.H_layers
    return block_flops(config) * (H_updates * H_layers + L_updates * config.L_layers)


def logits_flops(config: Any) -> int:
    """The head of the cells on one row."""
    return 2 * config.num_positions * config.hidden_size * config.vocab_size


def q_head_flops(config: Any) -> int:
    """The head of the halting values on one row."""
    return 2 * config.hidden_size * 2


def segment_flops(config: Any) -> int:
    """One segment with its heads, without gradient, on one row."""
    updates = level_updates_flops(config, config.H_cycles, config.H_cycles * config.L_cycles)
    return updates + logits_flops(config) + q_head_flops(config)


def training_step_flops(config: Any, rows: int, q_continue_target: bool = True) -> int:
    """What one training step on `rows` slots needs: a segment, the backward pass of its heads and of the updates that
    carry gradients, and, for the target of q_continue, a second segment without gradient, of which only the q head is
    needed, and so of its last block only the first position.
    """
    all_updates = config.H_cycles, config.H_cycles * config.L_cycles
    updates = {"last_updates": (1, 1), "last_cycle": (1, config.L_cycles), "segment": all_updates}
    with_gradient = level_updates_flops(config, *updates[config.gradient_span])
    with_gradient += logits_flops(config) + q_head_flops(config)
    target = 0
    if q_continue_target:
        target = segment_flops(config) - logits_flops(config) - block_flops(config) + first_position_flops(config)
    return rows * (segment_flops(config) + 2 * with_gradient + target)


def solving_flops(config: Any, rows: int, segments: int) -> int:
    """All segments for `rows` puzzles."""
    return rows * segments * segment_flops(config)


def matmul_peak(dtype: torch.dtype, device: str | torch.device = "cpu", quick: bool = False) -> float:
    """The most operations a second that matrix products reach here in this dtype: the best that some large shapes
    reach in a second (quick: a small shape, at once).
    """
    sizes, seconds = (QUICK_SIZES, 0.0) if quick else (PEAK_SIZES, 1.0)
    rates = []
    for m, k, n in sizes:
        left = torch.randn(m, k, device=device).to(dtype)
        right = torch.randn(n, k, device=device).to(dtype)
        torch.nn.functional.linear(left, right)  # warm-up
        times, until = [], time.perf_counter() + seconds / len(sizes)
        while len(times) < 3 or time.perf_counter() < until:
            _wait(device)
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            _wait(device)
            times.append(time.perf_counter() - started)
        rates.append(2 * m * k * n / min(times))
    return max(rates)


def _wait(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
