"""A training step, fast beside plain: seconds, ratio, and the share of this machine's matrix products.

    python benchmarks/training_speed.py                                  all cases (on a GPU: 27m:768)
    python benchmarks/training_speed.py --cases 27m:8 --dtype float32    one case in another dtype
    python benchmarks/training_speed.py --cases 27m:8 --profile          and where the fast step's time goes

A case is SIZE:BATCH; 27m is the published Sudoku model with 27 M parameters, 1m one of hidden size 128 with 2 + 2
layers. The plain side is benchmarks/plain_twin.py: float32 on a CPU (bfloat16 on a GPU, as published), Q-learning, its
whole step with optimisers. The fast side is HrmTrainer, in two modes: q-learning takes the same step; halt-only leaves
out the target of q_continue, so it does less. Both begin with the same weights and batches, and the difference of
their first losses is printed.

"share of peak" is the arithmetic that the mode needs (matrix products alone, see step_flops.py) over the fast step's
median time, over the best rate of large matrix products in the same dtype, measured here before and after.
"""

import argparse
import gc
from typing import Any

import torch
from side_by_side import Target, benchmark_parser, compare, finish, rounded, start
from step_flops import matmul_peak, training_step_flops
from subjects import SIZE_IN_WORDS, SIZES, add_compile_option, compiles, training_sides

CPU_CASES = ["27m:8", "27m:32", "1m:64"]
GPU_CASES = ["27m:768"]
DTYPE_OF_SIZE = {"27m": "bfloat16", "1m": "bfloat16", "tiny": "float32"}
MODES = ("q-learning", "halt-only")
GPU_AIMS = (("q-learning", 20.0), ("halt-only", 30.0))  # steps a second on one H200


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    args.compile = compiles(args)
    on_gpu = torch.cuda.is_available()
    cases = ["tiny:4"] if args.quick else args.cases or (GPU_CASES if on_gpu else CPU_CASES)
    plain_dtype = args.plain_dtype or ("bfloat16" if on_gpu else "float32")
    records = []
    for case in cases:
        size, rows = case.split(":")
        dtype = args.dtype or ("bfloat16" if on_gpu else DTYPE_OF_SIZE[size])
        for mode in args.modes:
            records.append(measure(size, int(rows), mode, dtype, plain_dtype, args))
            print(line(records[-1]), flush=True)
            gc.collect()
    finish("training_speed", args, {"cases": records}, targets(records, on_gpu))


def measure(size: str, rows: int, mode: str, dtype: str, plain_dtype: str, args: argparse.Namespace) -> dict[str, Any]:
    """One case in one mode."""
    halting = mode.replace("-", "_")
    sides = training_sides(size, rows, dtype, plain_dtype, halting, args.seed, compile=args.compile)
    config, where = sides.trainer.model.config, sides.trainer.model.device
    before = matmul_peak(getattr(torch, dtype), where, args.quick)
    compared = compare(sides.plain, sides.fast, args.pairs, args.seconds)
    peak = max(before, matmul_peak(getattr(torch, dtype), where, args.quick))
    if args.profile:
        profile(sides.fast)
    flops = training_step_flops(config, rows, q_continue_target=mode == "q-learning")
    rate = flops / compared.fast.median
    return {
        "size": size,
        "batch": rows,
        "mode": mode,
        "dtype": dtype,
        "plain_dtype": plain_dtype,
        "compile": sides.trainer.args.compile,
        **compared.record(),
        "steps_per_second": rounded(1 / compared.fast.median),
        "first_loss_difference": rounded(sides.loss_difference),
        "gflop": rounded(flops / 1e9),
        "gflop_per_second": rounded(rate / 1e9),
        "peak_gflop_per_second": rounded(peak / 1e9),
        "share_of_peak_percent": rounded(100 * rate / peak),
    }


def profile(step: Any) -> None:
    """Prints the operations that a step spends most of its time in."""
    with torch.profiler.profile() as recorded:
        step()
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(recorded.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=50))


def line(record: dict[str, Any]) -> str:
    """One case in one line."""
    plain, fast = (record[side]["median"] for side in ("plain", "fast"))
    return (
        f"{record['size']:>5} batch {record['batch']:<4} {record['mode']:<11} {record['dtype']:<9}"
        f"{' compiled' if record['compile'] else ''} plain {plain:.3f} s, fast {fast:.3f} s "
        f"({record['fast']['low']:.3f} to {record['fast']['high']:.3f}, {record['fast']['count']}x), "
        f"ratio {record['ratio']:.2f}; {record['gflop_per_second']:.0f} of {record['peak_gflop_per_second']:.0f} "
        f"GFLOP/s = {record['share_of_peak_percent']:.0f} %; "
        f"first losses differ by {record['first_loss_difference']:.1e}"
    )


def targets(records: list[dict[str, Any]], on_gpu: bool) -> list[Target]:
    """The targets that these cases can answer; of several batch sizes the worst ratio counts."""

    def of(size: str, mode: str) -> list[dict[str, Any]]:
        return [record for record in records if (record["size"], record["mode"]) == (size, mode)]

    found = []
    if on_gpu:
        for mode, aim in GPU_AIMS:
            for record in of("27m", mode):
                note = f"{record['dtype']}, {record['ratio']:.2f}x the plain twin"
                work = f"{torch.cuda.get_device_name()}, Sudoku, batch {record['batch']}, {mode}"
                found.append(Target(work, aim, record["steps_per_second"], "steps/s", note=note))
        return found
    for size, mode, aim in (("27m", "q-learning", 2.0), ("27m", "halt-only", 3.2), ("1m", "q-learning", 2.0)):
        matching = of(size, mode)
        if matching:
            worst = min(matching, key=lambda record: record["ratio"])
            batches = ", ".join(str(record["batch"]) for record in matching)
            work = f"training step, {SIZE_IN_WORDS[size]}, batch {batches}, {mode}"
            found.append(Target(work, aim, worst["ratio"], note=f"{worst['dtype']}, worst at batch {worst['batch']}"))
    share = of("27m", "q-learning")
    if share:
        largest = max(share, key=lambda record: record["batch"])
        note = f"{largest['dtype']}, batch {largest['batch']}, q-learning"
        work = "share of the matmul peak in a 27 M training step"
        found.append(Target(work, 65.0, largest["share_of_peak_percent"], "%", note=note))
    for mode, aim in GPU_AIMS:
        found.append(Target(f"one H200, Sudoku, batch 768, {mode}", aim, None, "steps/s", note="no GPU here"))
    return found


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=10, seconds=20)
    parser.add_argument("--cases", nargs="+", metavar="SIZE:BATCH", help=f"sizes: {', '.join(SIZES)}")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the fast side (default: by size)")
    parser.add_argument("--plain-dtype", choices=["float32", "bfloat16"], help="of the plain side")
    add_compile_option(parser)
    parser.add_argument("--profile", action="store_true", help="print where a fast step's time goes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    for case in args.cases or []:
        size, _, rows = case.partition(":")
        if size not in SIZES or not rows.isdecimal() or int(rows) < 1:
            parser.error(f"--cases {case}: a case is SIZE:BATCH with a size of {', '.join(SIZES)} and a batch of 1 up")
    return args


if __name__ == "__main__":
    main()
