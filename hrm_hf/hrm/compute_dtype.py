"""The dtype to compute in. A CPU with instructions for bfloat16 multiplies it several times as fast as float32, one
without them several times as slowly. So this is measured, once for each device.
"""

import time
from collections.abc import Callable
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


def chosen_dtype(asked: str | None, config: Any, device: torch.device, of_all: Callable = float) -> str:
    """What a model of this HrmConfig computes in, "float32" or "bfloat16"; a line says where bfloat16 is slower.

    asked: one of these; "auto": bfloat16 where it is clearly faster; None: the config's, but not a bfloat16 that is
    clearly slower; else ArgumentError. of_all: from this process's `bfloat16_speed` that on which all of a run agree.
    """
    if asked is not None and not (isinstance(asked, str) and asked in (*COMPUTE_DTYPES, "auto")):
        allowed = ", ".join(map(repr, COMPUTE_DTYPES))
        raise ArgumentError(f"compute_dtype is {shown(asked)}; allowed: {allowed}, 'auto', None for the model's own")
    if "float32" in (asked, asked or config.compute_dtype):
        return "float32"
    speed = of_all(bfloat16_speed(config.hidden_size, config.intermediate_size, device))
    if asked == "auto":
        return "bfloat16" if speed > CLEARLY else "float32"
    if speed < 1 / CLEARLY:
        slower = f"bfloat16 is {1 / speed:.1f} times slower than float32 on this {device.type}"
        if asked is None:
            logger.warning_once(f"{slower}: float32 is taken (compute_dtype 'bfloat16' insists on the model's own)")
            return "float32"
        logger.warning_once(f"{slower}: compute_dtype 'auto' takes the quicker one")
    return "bfloat16"


@cache
def bfloat16_speed(width: int, inner_width: int, device: torch.device) -> float:
    """How many times as fast as in float32 a SwiGLU's first products, forward and backward, are in bfloat16."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(6):  # in turns, so that another program's work slows both
        for dtype, taken in seconds.items():
            taken.append(_seconds(dtype, width, 2 * inner_width, device))
    return median(seconds[torch.float32]) / median(seconds[torch.bfloat16])


@torch.no_grad()
def _seconds(dtype: torch.dtype, width: int, outer: int, device: torch.device) -> float:
    rows = (1 if device.type == "cpu" else 64) * (1 + 2**26 // (width * outer))  # some milliseconds
    hidden, weight = (torch.ones(size, width, dtype=dtype, device=device) for size in (rows, outer))
    hidden[0, 0].item()  # waits for the device
    started = time.perf_counter()
    gradient = torch.nn.functional.linear(hidden, weight)
    results = gradient.mm(weight), gradient.T.mm(hidden)
    results[-1][0, 0].item()
    return time.perf_counter() - started
