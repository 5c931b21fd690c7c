"""How much arithmetic an HRM needs, and how fast this machine multiplies matrices: a step's share of the peak.

Only matrix products count (two operations for a multiplication and an addition), as the rest is some thousandth of
them. A backward pass takes twice its forward one. Shapes as in `hrm_hf.hrm.modeling_hrm`.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from side_by_side import seconds_of

PEAK_SIZES = (1024, 2048, 4096, 8192, 16384)  # rows, columns and depth of the products
QUICK_SIZES = (256,)
PEAK_GAIN = 1.03  # a doubling that gains less ends the search
PEAK_SECONDS = 1.2  # in all
PEAK_CALLS = 2  # of each size at least


@dataclass(frozen=True, order=True)
class Peak:
    """The most operations a second of matrix products, and at which size: size x size x size."""

    rate: float
    size: int

    def __str__(self) -> str:
        return f"{in_flops(self.rate)} at {self.size} x {self.size} x {self.size}"

    def share(self, rate: float) -> str:
        """71 % of 790 TFLOP/s at 8192 x 8192 x 8192."""
        return f"{100 * rate / self.rate:.0f} % of {self}"

    def record(self) -> dict[str, Any]:
        """For a result file."""
        return {"peak_gflop_per_second": float(f"{self.rate / 1e9:.4g}"), "peak_size": self.size}


def in_flops(rate: float) -> str:
    """202 GFLOP/s, 790 TFLOP/s."""
    return f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"


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


def matmul_peak(dtype: torch.dtype, device: str | torch.device = "cpu", quick: bool = False) -> Peak:
    """The best rate of square matrix products in this dtype here. They double until the rate stops growing, or the
    next would take more than the time that is left, or its memory (quick: a small one, at once).
    """
    until = time.perf_counter() + (0.0 if quick else PEAK_SECONDS)
    best = Peak(0.0, 0)
    for size in QUICK_SIZES if quick else PEAK_SIZES:
        if best.size and (PEAK_CALLS + 1) * 2 * size**3 / best.rate > until - time.perf_counter():
            break
        try:
            rate = _product_rate(size, dtype, device, min(until, time.perf_counter() + PEAK_SECONDS / 5))
        except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a RuntimeError of its own on a CPU
            if best.size and "memory" in str(error).lower():
                break
            raise
        grows = rate > PEAK_GAIN * best.rate
        best = max(best, Peak(rate, size))
        if not grows:
            break
    return best


def _product_rate(size: int, dtype: torch.dtype, device: str | torch.device, until: float) -> float:
    """Operations a second, from the quickest of some products."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    torch.nn.functional.linear(left, right)  # warm-up
    times = []
    while len(times) < PEAK_CALLS or time.perf_counter() < until:
        times.append(seconds_of(lambda: torch.nn.functional.linear(left, right)))
    return 2 * size**3 / min(times)
