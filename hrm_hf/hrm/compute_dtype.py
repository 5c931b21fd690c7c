"""The dtype to compute in. Not every CPU has instructions for bfloat16, so its speed is measured once for a device."""

import time
from functools import cache
from statistics import median
from typing import Any

import torch
from transformers.utils import logging

from .configuration_hrm import COMPUTE_DTYPES
from .errors import ArgumentError
from .shown_value import shown

CLEARLY = 1.2  # times as fast
logger = logging.get_logger("transformers.hrm_hf.compute_dtype")


def chosen_dtype(asked: str | None, config: Any, device: torch.device, measure: Any = None) -> str:
    """The dtype in which a model of this HrmConfig computes, "float32" or "bfloat16"; warns of a slow bfloat16.

    asked: one of these; "auto": bfloat16 where it is clearly faster; None: the config's dtype, but float32 where its
    bfloat16 is clearly slower; else ArgumentError. measure: `bfloat16_speed`, or what several processes agree on.
    """
    if asked is not None and not (isinstance(asked, str) and asked in (*COMPUTE_DTYPES, "auto")):
        allowed = ", ".join(map(repr, COMPUTE_DTYPES))
        raise ArgumentError(f"compute_dtype is {shown(asked)}; allowed: {allowed}, 'auto', None for the model's own")
    if "float32" in (asked, asked or config.compute_dtype):
        return "float32"
    speed = (measure or bfloat16_speed)(config, device)
    if asked == "auto" or speed > 1 / CLEARLY:
        return "float32" if asked == "auto" and speed <= CLEARLY else "bfloat16"
    taken, why = ("bfloat16", "'float32' is quicker") if asked else ("float32", "'bfloat16' keeps the model's own")
    slower = f"products in bfloat16 are {1 / speed:.1f} times slower than in float32 on this {device.type.upper()}"
    logger.warning_once(f"{slower}: computing in {taken} (compute_dtype {why})")
    return taken


def bfloat16_speed(config: Any, device: torch.device) -> float:
    """How many times as fast as in float32 a SwiGLU's first products, forward and backward, are in bfloat16."""
    return _speed(config.hidden_size, 2 * config.intermediate_size, torch.empty(0, device=device).device)


@cache
def _speed(width: int, outer: int, device: torch.device) -> float:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # several wait for each other where another program works
        both = torch.float32, torch.bfloat16  # in turns; the first one warms up
        turns = [[_seconds(dtype, width, outer, device) for dtype in both] for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    return median(turn[0] for turn in turns[1:]) / median(turn[1] for turn in turns[1:])


@torch.no_grad()
def _seconds(dtype: torch.dtype, width: int, outer: int, device: torch.device) -> float:
    rows = max(128, 2**26 // (width * outer)) * (1 if device.type == "cpu" else 64)
    hidden, weight = (torch.ones(size, width, dtype=dtype, device=device) for size in (rows, outer))
    hidden[0, 0].item()  # waits for the device
    started = time.perf_counter()
    gradient = torch.nn.functional.linear(hidden, weight)
    (gradient.mm(weight)[0, 0] + gradient.T.mm(hidden)[0, 0]).item()
    return time.perf_counter() - started
