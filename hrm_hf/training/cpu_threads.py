"""How many threads PyTorch uses on a CPU: `accelerate launch` says 1 to every process that it starts, silently."""

import os

import torch
from accelerate import Accelerator


def share_cpu_cores(accelerator: Accelerator, cpu_threads: int | None) -> None:
    """Gives each process on a CPU its threads; on other devices it changes nothing.

    Args:
        cpu_threads: threads of each process; None = this machine's usable cores, shared out among its processes.
    """
    if accelerator.device.type == "cpu":
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(cpu_threads or max(1, usable // local_processes))
