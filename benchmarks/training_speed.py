"""A training step, fast beside plain: seconds, ratio, and the share of this machine's matrix products.

    python benchmarks/training_speed.py                                          all cases (on a GPU: 27m:768)
    python benchmarks/training_speed.py --cases 27m:8 --dtypes bfloat16 float32  one case in both dtypes
    python benchmarks/training_speed.py --cases 27m:8 --profile                  and where a fast step's time goes

A case is SIZE:BATCH; 27m is the published Sudoku model with 27 M parameters, 1m one of hidden size 128 with 2 + 2
layers. The plain side is benchmarks/plain_twin.py: float32 on a CPU (bfloat16 on a GPU, as published), Q-learning, its
whole step with optimisers. The fast side is HrmTrainer's whole step, from reading a batch to the sums it will log, in
two modes: q-learning takes the same step; halt-only, in the first dtype alone, leaves out the target of q_continue, so
it does less. All ways of a case take turns. They begin with the same weights, of which those of the q head are drawn
too (fresh ones are 0), and the same batches; the largest relative difference of a loss of the first step is printed.

"share of peak" is the arithmetic that the mode needs (matrix products alone, see step_flops.py) over the fast step's
median time, over the best rate of large matrix products in the same dtype, measured here before and after. The targets
take the quicker dtype, and of several batch sizes the worst.
"""

import argparse
import gc
from functools import partial
from typing import Any

import torch
from side_by_side import (
    Comparison,
    Target,
    benchmark_parser,
    finish,
    in_words,
    markdown_table,
    profile,
    rounded,
    start,
    take_turns,
)
from step_flops import matmul_peak, training_step_flops
from subjects import (
    SIZE_IN_WORDS,
    SIZES,
    PlainSide,
    add_compile_option,
    compiles,
    device,
    fast_trainer,
    loss_difference,
    whole_step,
)

BOTH = ("bfloat16", "float32")
CPU_CASES = {"27m:8": BOTH, "27m:32": BOTH[:1], "1m:64": BOTH}  # and the dtypes of the fast side
GPU_CASES = {"27m:768": BOTH[:1]}
MODES = ("q-learning", "halt-only")
GPU_AIMS = (("q-learning", 20.0), ("halt-only", 30.0))  # steps a second on one H200


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    args.compile = compiles(args)
    on_gpu = torch.cuda.is_available()
    usual = GPU_CASES if on_gpu else CPU_CASES
    cases = ["tiny:4"] if args.quick else args.cases or list(usual)
    plain_dtype = args.plain_dtype or ("bfloat16" if on_gpu else "float32")
    records = []
    for case in cases:
        size, rows = case.split(":")
        dtypes = args.dtypes or usual.get(case, BOTH[:1])
        for record in measure(size, int(rows), dtypes, plain_dtype, args):
            records.append(record)
            print(line(record), flush=True)
        gc.collect()
    finish("training_speed", args, {"cases": records}, targets(records, on_gpu), table(records))


def measure(
    size: str, rows: int, dtypes: tuple[str, ...], plain_dtype: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """One case: a record for each mode and dtype, all timed in turns with the same plain side."""
    plain = PlainSide(size, rows, plain_dtype, args.seed)
    of_plain = plain.step()
    fast = {}
    for mode in args.modes:
        for dtype in dtypes if mode == "q-learning" else dtypes[:1]:
            trainer = fast_trainer(size, rows, dtype, mode.replace("-", "_"), args.seed, compile=args.compile)
            fast[mode, dtype] = trainer, loss_difference(of_plain, whole_step(trainer))
    peaks = {dtype: matmul_peak(getattr(torch, dtype), device(), args.quick) for dtype in dtypes}
    ways = {"plain": plain.step} | {key: partial(whole_step, trainer) for key, (trainer, _) in fast.items()}
    taken = take_turns(ways, args.pairs, args.seconds)
    peaks = {
        dtype: max(peak, matmul_peak(getattr(torch, dtype), device(), args.quick)) for dtype, peak in peaks.items()
    }
    records = []
    for (mode, dtype), (trainer, difference) in fast.items():
        if args.profile:
            print(f"\n{mode}, {dtype}:")
            profile(ways[mode, dtype])
        flops = training_step_flops(trainer.model.config, rows, q_continue_target=mode == "q-learning")
        seconds = taken[mode, dtype].median
        records.append(
            {
                "size": size,
                "batch": rows,
                "mode": mode,
                "dtype": dtype,
                "plain_dtype": plain_dtype,
                "compile": trainer.args.compile,
                **Comparison(taken["plain"], taken[mode, dtype]).record(),
                "steps_per_second": rounded(1 / seconds),
                "first_loss_difference": rounded(difference),
                "gflop": rounded(flops / 1e9),
                "gflop_per_second": rounded(flops / seconds / 1e9),
                "peak_gflop_per_second": rounded(peaks[dtype] / 1e9),
                "share_of_peak_percent": rounded(100 * flops / seconds / peaks[dtype]),
            }
        )
    return records


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


def table(records: list[dict[str, Any]]) -> str:
    """All cases, in Markdown."""
    columns = ["size", "batch", "mode", "dtype", "plain", "fast (quartiles)", "turns", "ratio", "share of peak"]
    rows = []
    for record in records:
        plain, fast = record["plain"], record["fast"]
        spread = f"{in_words(fast['median'])} ({in_words(fast['low'])} to {in_words(fast['high'])})"
        row = [SIZE_IN_WORDS[record["size"]], *(record[name] for name in ("batch", "mode", "dtype"))]
        row += [in_words(plain["median"]), spread, fast["count"]]
        rows.append([*row, f"{record['ratio']:.2f}x", f"{record['share_of_peak_percent']:.0f} %"])
    return markdown_table(columns, rows)


def targets(records: list[dict[str, Any]], on_gpu: bool) -> list[Target]:
    """The targets that these cases can answer: in the quicker dtype, of several batch sizes the worst ratio, and a
    share of the peak for each.
    """

    def of(size: str, mode: str) -> list[dict[str, Any]]:
        return [record for record in records if (record["size"], record["mode"]) == (size, mode)]

    def quickest(size: str, mode: str) -> list[dict[str, Any]]:
        batches = dict.fromkeys(record["batch"] for record in of(size, mode))
        return [max((r for r in of(size, mode) if r["batch"] == batch), key=lambda r: r["ratio"]) for batch in batches]

    found = []
    if on_gpu:
        for mode, aim in GPU_AIMS:
            for record in quickest("27m", mode):
                note = f"{record['dtype']}, {record['ratio']:.2f}x the plain twin"
                work = f"{torch.cuda.get_device_name()}, Sudoku, batch {record['batch']}, {mode}"
                found.append(Target(work, aim, record["steps_per_second"], "steps/s", note=note))
        return found
    for size, mode, aim in (("27m", "q-learning", 2.0), ("27m", "halt-only", 3.2), ("1m", "q-learning", 2.0)):
        matching = quickest(size, mode)
        if matching:
            worst = min(matching, key=lambda record: record["ratio"])
            ratios = ", ".join(f"{record['ratio']:.2f}x at {record['batch']}" for record in matching)
            others = [f"{r['dtype']} {r['ratio']:.2f}x at {r['batch']}" for r in of(size, mode) if r not in matching]
            work = f"training step, {SIZE_IN_WORDS[size]}, {mode}"
            note = "; ".join([f"{worst['dtype']}: {ratios}", *others])
            found.append(Target(work, aim, worst["ratio"], note=note))
    for record in quickest("27m", "q-learning"):
        work = f"share of the matmul peak, training step, 27 M, batch {record['batch']}"
        found.append(Target(work, 65.0, record["share_of_peak_percent"], "%", note=f"{record['dtype']}, q-learning"))
    for mode, aim in GPU_AIMS:
        found.append(Target(f"one H200, Sudoku, batch 768, {mode}", aim, None, "steps/s", note="no GPU here"))
    return found


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=8, seconds=40)
    parser.add_argument("--cases", nargs="+", metavar="SIZE:BATCH", help=f"sizes: {', '.join(SIZES)}")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=BOTH, help="of the fast side (default: by case)")
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
