"""How cost grows: steps a second and memory over batch, cells, cycles, gradients, segments and processes.

    python benchmarks/scaling.py                              all six, under 5 minutes on 2 cores
    python benchmarks/scaling.py --only batch cells           some of them
    python benchmarks/scaling.py --size 27m --dtype bfloat16  the published size (slow on a CPU)

batch, cells (81 to 900), cycles (H x L) and gradients (the three values of gradient_span, with 3x6 cycles as in the
Tiny Recursive Model) count training steps, Q-learning; segments counts batches solved without
halting; processes shares one global batch among processes on a CPU, each with its part of the threads (the plain side
is one process). Beside the fast way stand the plain twin and the limit: the peak of matrix products in the fast side's
dtype over the arithmetic. Every point runs in processes of its own: one for both speeds, in turns, and one for the
memory of each side (its peak, weights and libraries included; on a GPU what PyTorch held there). Of several processes
the peaks are added up, what they share counted once. Equal work of two dimensions is measured once.

The table goes to scaling.md beside the result file, the plot to scaling.png, if matplotlib is there (extra `plot`).
"""

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from plain_twin import plain_solve
from side_by_side import (
    be_rank,
    benchmark_parser,
    finish,
    free_port,
    markdown_table,
    peak_memory_mb,
    rounded,
    save_plot,
    seconds_of,
    shared_memory_mb,
    start,
    take_turns,
    usable_cores,
)
from step_flops import Peak, matmul_peak, solving_flops, training_step_flops
from subjects import (
    DTYPES,
    add_compile_option,
    add_plain_dtype_option,
    compiles,
    config_of,
    device,
    fast_trainer,
    made_up_batches,
    plain_step,
    twin_of,
)

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.training import HrmTrainer, seeded_model

DIMENSIONS = ("batch", "cells", "cycles", "gradients", "segments", "processes")
COLUMNS = ["dimension", "value", "batch", "fast/s", "plain/s", "ratio", "limit/s", "share", "fast MB", "plain MB"]
GRADIENT_SPANS = ("last_updates", "last_cycle", "segment")


@dataclass(frozen=True)
class Point:
    """One place to measure at: the value of a dimension, and everything that it means."""

    dimension: str
    value: int | str
    rows: int
    changes: dict[str, int | str] = field(default_factory=dict)  # of the config
    segments: int = 0  # 0: a training step
    processes: int = 1


def points(quick: bool) -> list[Point]:
    """All of them, each dimension from cheap to dear."""
    cycles = [(1, 1), (2, 2)] if quick else [(1, 1), (2, 2), (2, 4), (4, 4)]
    every = [Point("batch", rows, rows) for rows in ((1, 2) if quick else (1, 4, 16, 64))]
    every += [Point("cells", cells, 4, {"seq_len": cells}) for cells in ((9, 16) if quick else (81, 225, 400, 900))]
    every += [Point("cycles", f"{h}x{low}", 4, {"H_cycles": h, "L_cycles": low}) for h, low in cycles]
    deep = {"H_cycles": 2, "L_cycles": 2} if quick else {"H_cycles": 3, "L_cycles": 6}
    every += [Point("gradients", span, 16, {"gradient_span": span, **deep}) for span in GRADIENT_SPANS]
    every += [Point("segments", number, 4, segments=number) for number in ((1, 2) if quick else (1, 4, 16))]
    every += [Point("processes", number, 4 if quick else 16, processes=number) for number in (1, 2)]
    return every


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    # This process only starts others and must not compute: a process whose threads have run is no good one to fork.
    start(args)
    peak, args.compile = in_child(peak_of, args), in_child(compiles, args)
    how = f"{args.size}, {args.dtype}{', compiled' if args.compile else ''}"
    print(f"{how}, limit from matrix products: {peak}\n")
    print(line(COLUMNS), flush=True)
    records, known = [], {}
    for point in points(args.quick):
        if point.dimension in args.only and not (point.processes > 1 and torch.cuda.is_available()):
            config = config_of(args.size, **point.changes)
            work = (config.to_json_string(), point.rows, point.segments, point.processes)
            if work not in known:
                known[work] = measure(point, peak.rate, args)
            records.append({"dimension": point.dimension, "value": point.value, **known[work]})
            print(line(row_of(records[-1])), flush=True)
    record = {"how": how, **peak.record(), "points": records}
    finish("scaling", args, record, [], table(records, f"{how}, {peak}"), partial(draw, records, how))


def measure(point: Point, peak: float, args: argparse.Namespace) -> dict[str, Any]:
    """Speeds and memory at a point."""
    plain, fast = in_child(speeds, args, point)
    sides = {"plain": plain_way, "fast": fast_way}
    memory = {name: in_child(memory_of, args, point, way) for name, way in sides.items()}
    config = config_of(args.size, **point.changes)
    flops = training_step_flops(config, point.rows)
    if point.processes > 1:
        fast, memory["fast"] = in_processes(point, args)
    elif point.segments:
        flops = solving_flops(config, point.rows, point.segments)
    return {
        "batch": point.rows,
        "fast_per_second": rounded(1 / fast),
        "plain_per_second": rounded(1 / plain),
        "ratio": rounded(plain / fast),
        "limit_per_second": rounded(peak / flops),
        "share_of_limit": rounded(flops / fast / peak),
        "fast_mb": rounded(memory["fast"]),
        "plain_mb": rounded(memory["plain"]),
    }


def row_of(record: dict[str, Any]) -> list[Any]:
    """One point, under COLUMNS."""
    row = [record[name] for name in ("dimension", "value", "batch", "fast_per_second", "plain_per_second")]
    row += [f"{record['ratio']:.2f}x", record["limit_per_second"], f"{record['share_of_limit']:.0%}"]
    return [*row, f"{record['fast_mb']:.0f}", f"{record['plain_mb']:.0f}"]


def line(row: list[Any]) -> str:
    return "".join(f"{cell!s:>13}" for cell in row)


def table(records: list[dict[str, Any]], how: str) -> str:
    """All points, in Markdown."""
    counted = "training steps a second; of segments: batches solved a second"
    return f"{how}; {counted}\n\n{markdown_table(COLUMNS, [row_of(record) for record in records])}"


# What runs in processes of its own


def peak_of(args: argparse.Namespace) -> Peak:
    return matmul_peak(getattr(torch, args.dtype), device(), args.quick)


def plain_way(point: Point, args: argparse.Namespace) -> Callable[[], object]:
    """The plain twin's call of what is counted, in one process."""
    if not point.segments:
        return plain_step(args.size, point.rows, args.plain_dtype, **point.changes)
    model, given = fresh_model(point, args)
    twin = twin_of(model, args.plain_dtype)
    return lambda: plain_solve(twin, *given, segments=point.segments)


def fast_way(point: Point, args: argparse.Namespace) -> Callable[[], object]:
    """Ours."""
    if not point.segments:
        return trainer_of(point, args).run_step
    model, given = fresh_model(point, args)
    return lambda: model.solve(*given, max_segments=point.segments, halt=False, compute_dtype=args.dtype)


def fresh_model(point: Point, args: argparse.Namespace) -> tuple[HrmForPuzzleSolving, list[torch.Tensor]]:
    """A model, and the puzzles that it is given."""
    config = config_of(args.size, **point.changes)
    batch = next(made_up_batches(config, point.rows))
    given = [batch[name].to(device()) for name in ("input_ids", "puzzle_identifiers")]
    return seeded_model(config, seed=0).to(device()).eval(), given


def trainer_of(point: Point, args: argparse.Namespace) -> HrmTrainer:
    return fast_trainer(args.size, point.rows, args.dtype, compile=args.compile, **point.changes)


def speeds(args: argparse.Namespace, point: Point) -> tuple[float, float]:
    """Median seconds (plain, fast)."""
    taken = take_turns({"plain": plain_way(point, args), "fast": fast_way(point, args)}, args.pairs, args.seconds)
    return taken["plain"].median, taken["fast"].median


def memory_of(args: argparse.Namespace, point: Point, make: Callable) -> float:
    """MB held at the most by one side alone, over two calls."""
    way = make(point, args)
    for _ in range(2):
        way()
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else peak_memory_mb()


def one_of_many(rank: int, point: Point, port: int, args: argparse.Namespace) -> tuple[float, float, float]:
    """This process's part of a run in several: (median seconds of a step, MB at the most, MB that others hold too)."""
    be_rank(rank, point.processes, port)
    trainer = trainer_of(point, args)
    trainer.run_step()
    taken = statistics.median(seconds_of(trainer.run_step) for _ in range(args.pairs))  # all processes take as many
    trainer.accelerator.wait_for_everyone()
    memory = peak_memory_mb(), shared_memory_mb()
    trainer.accelerator.wait_for_everyone()  # what is shared is so while all are there
    trainer.close()
    trainer.accelerator.end_training()
    return taken, *memory


def in_processes(point: Point, args: argparse.Namespace) -> tuple[float, float]:
    """(seconds of a step, MB of all processes together)."""
    port = free_port()
    calls = [partial(one_of_many, rank, point, port, args) for rank in range(point.processes)]
    seconds, peaks, shared = zip(*in_children(calls, args), strict=True)
    return max(seconds), sum(peaks) - sum(shared) + max(shared)


def in_children(calls: list[Callable[[], Any]], args: argparse.Namespace) -> list[Any]:
    """What the calls return, each from a process of its own with its part of the threads; forked on Linux, so that
    nothing is imported again (with CUDA, which does not survive that, started anew). Calls that do not wait for one
    another may share a process.
    """
    forks = sys.platform == "linux" and not torch.cuda.is_available()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    threads = max(1, (args.threads or usable_cores()) // len(calls))
    with ProcessPoolExecutor(len(calls), context, torch.set_num_threads, (threads,)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def in_child(function: Callable, args: argparse.Namespace, *arguments: Any) -> Any:
    return in_children([partial(function, args, *arguments)], args)[0]


# The plot


def draw(records: list[dict[str, Any]], title: str, folder: Path) -> None:
    """Speeds above, memory below, one column for each dimension."""
    dimensions = [name for name in DIMENSIONS if any(record["dimension"] == name for record in records)]

    def fill(figure: Any, axes: Any) -> None:
        for column, dimension in enumerate(dimensions):
            found = [record for record in records if record["dimension"] == dimension]
            values = [str(record["value"]) for record in found]
            top, bottom = axes[:, column]
            for name, style in (("fast", "o-"), ("plain", "s-"), ("limit", "k--")):
                top.plot(values, [record[f"{name}_per_second"] for record in found], style, label=name)
            for name, style in (("fast", "o-"), ("plain", "s-")):
                bottom.plot(values, [record[f"{name}_mb"] for record in found], style, label=name)
            top.set(yscale="log", title=dimension, ylabel="batches solved/s" if dimension == "segments" else "steps/s")
            highest = max(record[f"{name}_mb"] for record in found for name in ("fast", "plain"))
            bottom.set(ylabel="MB", ylim=(0, 1.1 * highest), xlabel="H x L" if dimension == "cycles" else dimension)
        axes[0, 0].legend()
        figure.suptitle(title)

    save_plot(folder / "scaling.png", 2, len(dimensions), (3.2, 3), fill)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = benchmark_parser(__doc__, pairs=4, seconds=4)
    parser.add_argument("--only", nargs="+", choices=DIMENSIONS, default=list(DIMENSIONS))
    parser.add_argument("--size", choices=("27m", "1m", "tiny"), default="27m" if on_gpu else "1m")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16" if on_gpu else "float32")
    add_plain_dtype_option(parser)
    add_compile_option(parser)
    args = parser.parse_args(arguments)
    if args.quick:
        args.size, args.pairs = "tiny", 2
    return args


if __name__ == "__main__":
    main()
