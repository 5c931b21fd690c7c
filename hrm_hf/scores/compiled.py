"""torch.compile of one block that serves for all, so that it takes seconds and not minutes.

The products run at their peak anyway; compiling fuses what lies between them (norms, rotation, SwiGLU, softmax).
"""

import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType

import torch

from ..hrm.errors import ArgumentError
from ..hrm.modeling_hrm import HrmBlock


def compiled_block(device: torch.device, any_batch_size: bool = False) -> Callable:
    """`HrmBlock.forward` compiled: a `run_block` for `forward`, `solve`, `solve_queue` and `predict_puzzles`.

    It is compiled when called, once for each model shape, dtype and gradient mode. After eight times torch raises, so
    let each model have its own. Hooks on the blocks are not seen, and gradient checkpointing is not done.

    Args:
        device: where the model is.
        any_batch_size: False: another batch size compiles it again: training. True: for all sizes, in up to three
            parts (the first size, all others, a single row): solving, where halted rows leave.
    Raises:
        ArgumentError: torch.compile does not work here (on a CPU it needs a C++ compiler, on CUDA Triton).
    """
    check_compiler(device)
    # On a CPU the pattern matcher would put the fused attention back that `attention_function` avoids.
    options = {"pattern_matcher": False} if device.type == "cpu" else None
    # The compiler counts by code object: with one for all, all trainers of a process would share the limit of eight.
    # (torch.compile's isolate_recompiles does the same from torch 2.12 on.)
    plain = HrmBlock.forward
    forward = FunctionType(
        plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    return torch.compile(forward, fullgraph=True, dynamic=None if any_batch_size else False, options=options)


@cache
def check_compiler(device: torch.device) -> None:
    """Compiles one addition, once for each device; ArgumentError if that does not work."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler warns of deprecated parts of its own
            torch.compile(lambda x: x + 1, fullgraph=True)(torch.zeros(2, device=device))
    except Exception as error:  # whatever the toolchain raises: compilers missing, too old, or without headers
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ways = "install a C++ compiler (on CUDA Triton too), or leave compile out"
        raise ArgumentError(f"torch.compile does not work here ({said}): {ways}") from error
