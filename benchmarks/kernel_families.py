"""Where a call's time goes, by families of kernels: products, attention, the rest, the optimiser, and idle.

The optimiser is what runs within `torch.optim.Optimizer.step`. Names do not tell: clipping and the average of the
weights, which are of the rest, call the same kernels. On a GPU kernels are counted, and idle is the rest of the time
that the calls take without the profiler, which makes launches slower: the device waits for the host. On a CPU
operations are counted, each without those that it calls, and idle is the remainder of the wall time: Python. Compiled
code between products counts there as the rest, by its graph.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from side_by_side import in_words, markdown_table, rounded, seconds_of

# The first that is found in a name. Kernels of cuBLAS, CUTLASS, cuDNN and Triton; operations of PyTorch on a CPU.
PATTERNS = {
    "attention": r"flash|fmha|sdpa|attention|scaled_dot_product",
    "products": r"gemm|gemv|nvjet|cutlass|xmma|wgmma|splitk|matmul|mkl|onednn|triton_(tem|mm)|\b(add|b|badd)?b?mm\b",
}
FAMILIES = ("products", "attention", "the rest", "optimiser", "idle")
OPTIMIZER_STEP = "Optimizer.step#"  # what torch.optim names the range of a step
LARGEST = 10  # names in the second table
CALLS_ON_GPU = 3  # one after the other, as in training, where the host runs ahead


@dataclass(frozen=True)
class Kernel:
    """One piece of work: its name, when it began and how long it took, in seconds.

    Attributes:
        in_optimizer: whether it was at work within an optimiser's step.
    """

    name: str
    start: float
    seconds: float
    in_optimizer: bool

    @property
    def family(self) -> str:
        """One of FAMILIES, but idle."""
        if self.in_optimizer:
            return "optimiser"
        name = self.name.lower()
        return next((family for family, pattern in PATTERNS.items() if re.search(pattern, name)), "the rest")


def by_family(kernels: list[Kernel], wall: float, busy: float, calls: int = 1) -> dict[str, Any]:
    """The profile for a result file: seconds, percent and number of kernels of each family, per call.

    Args:
        wall: seconds of all calls.
        busy: of these, those in which any kernel was at work.
    """
    seconds, counts, names = defaultdict(float), defaultdict(int), defaultdict(float)
    for kernel in kernels:
        seconds[kernel.family] += kernel.seconds
        counts[kernel.family] += 1
        names[kernel.family, kernel.name] += kernel.seconds
    seconds["idle"] = max(wall - busy, 0.0)
    families = {
        family: {
            "seconds": rounded(seconds[family] / calls),
            "percent": rounded(100 * seconds[family] / wall if wall else 0.0, 3),
            "kernels": rounded(counts[family] / calls),
        }
        for family in FAMILIES
    }
    largest = sorted(names.items(), key=lambda item: -item[1])[:LARGEST]
    return {
        "seconds": rounded(wall / calls),
        "families": families,
        "largest": [
            {"family": family, "name": name[:100], "seconds": rounded(taken / calls)}
            for (family, name), taken in largest
        ],
    }


def busy_seconds(kernels: Iterable[Kernel]) -> float:
    """How long at least one was at work; kernels of several streams overlap."""
    busy = until = 0.0
    for kernel in sorted(kernels, key=lambda kernel: kernel.start):
        end = kernel.start + kernel.seconds
        busy += max(0.0, end - max(kernel.start, until))
        until = max(until, end)
    return busy


def profile(work: Callable[[], object]) -> dict[str, Any]:
    """Runs `work` under PyTorch's profiler, prints both tables and returns what `by_family` does.

    Where the profiler does not work it says so and returns an empty dict: what was measured without it counts.
    """
    on_gpu = torch.cuda.is_available()
    calls = CALLS_ON_GPU if on_gpu else 1

    def all_calls() -> None:
        for _ in range(calls):
            work()

    unwatched = seconds_of(all_calls) if on_gpu else 0.0
    try:
        with torch.profiler.profile() as recorded:
            watched = seconds_of(all_calls)
    except RuntimeError as error:
        print(f"no profile: {error}", flush=True)
        return {}
    kernels = kernels_of(recorded.events(), on_gpu)
    busy = busy_seconds(kernels) if on_gpu else sum(kernel.seconds for kernel in kernels)
    if not kernels:  # a machine may forbid it (CUPTI)
        print("no profile: the profiler saw no kernel", flush=True)
        return {}
    record = by_family(kernels, unwatched if on_gpu else watched, busy, calls)
    print(profile_tables(record), flush=True)
    return record


def kernels_of(events: Iterable[Any], on_gpu: bool) -> list[Kernel]:
    """Of the profiler's events what ran on the GPU, but no named ranges; on the CPU, each without what it called."""
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    here = [(event, event.time_range) for event in events if event.device_type == kind]
    steps = [time for event, time in here if event.name.startswith(OPTIMIZER_STEP)]
    if on_gpu and here and not steps:
        print("the profiler saw no optimiser step: what one took counts as the rest", flush=True)
    return [
        Kernel(
            event.name,
            time.start / 1e6,
            (time.elapsed_us() if on_gpu else event.self_cpu_time_total) / 1e6,
            any(step.start <= time.start < step.end for step in steps),
        )
        for event, time in here
        if not (on_gpu and (event.is_user_annotation or event.name.startswith(OPTIMIZER_STEP)))
    ]


def profile_tables(record: dict[str, Any]) -> str:
    """Families, then the kernels that take most, in Markdown."""
    families = [
        [family, in_words(of["seconds"]), f"{of['percent']:.1f} %", f"{of['kernels']:.0f}"]
        for family, of in record["families"].items()
    ]
    largest = [[of["family"], in_words(of["seconds"]), of["name"]] for of in record["largest"]]
    tables = [
        markdown_table(["family", f"of {in_words(record['seconds'])}", "share", "kernels"], families),
        markdown_table(["family", "seconds", "largest kernels"], largest),
    ]
    return "\n\n".join(tables)
