"""A training step, fast beside plain: seconds, ratio, and the share of this machine's matrix products.

    python benchmarks/training_speed.py                                          all cases of a CPU, or of a GPU
    python benchmarks/training_speed.py --cases 27m:8 --dtypes bfloat16 float32  one case in both dtypes
    python benchmarks/training_speed.py --cases 27m:8 --profile                  and where a fast step's time goes

A case is SIZE:BATCH; 27m is the published Sudoku model with 27 M parameters, 1m one of hidden size 128 with 2 + 2
layers; of a GPU also trm, the Tiny Recursive Model of Sudoku, and 256-..., small models of its kind with a mixer or
attention and one or two H cycles. The plain side is benchmarks/plain_twin.py: float32 on a CPU (bfloat16 on a GPU, as
published), its whole step with optimisers, by Q-learning (TRM's kind: by q_halt alone, TRM itself with the average of
its weights). The fast side is HrmTrainer's whole step, from reading a batch to the sums it will log, in
two modes: q-learning takes the same step; halt-only, in the first dtype alone, leaves out the target of q_continue, so
it does less (TRM's kind: the same). All ways of a case take turns. They begin with the same weights, of which those of
the q head are drawn too (fresh ones are 0), and the same batches; the largest relative difference of a loss of the
first step is printed. The results are written after every case; a case that fails stops no other.

"share of peak" is the arithmetic that the mode needs (matrix products alone, see step_flops.py) over the fast step's
median time, over the best rate of matrix products in the same dtype, which grow until the rate does not, measured here
before and after. The targets take the quicker dtype, and of several batch sizes the worst. Where bfloat16 is slower,
it is measured only if --dtypes names it, and the targets are others.
"""

import argparse
import gc
import traceback
from typing import Any

import torch
from kernel_families import profile, profile_tables
from side_by_side import (
    Comparison,
    Target,
    benchmark_parser,
    finish,
    in_words,
    markdown_table,
    rounded,
    start,
    take_turns,
    write_so_far,
)
from step_flops import Peak, in_flops, matmul_peak, training_step_flops
from subjects import (
    DTYPES,
    SIZES,
    add_compile_option,
    add_plain_dtype_option,
    compiles,
    config_of,
    device,
    fast_dtypes,
    fast_trainer,
    loss_difference,
    plain_step,
)
from subjects import in_words as size_in_words

CPU_CASES = {"27m:8": 2, "27m:32": 1, "1m:64": 2}  # and how many of `fast_dtypes` at the most
SMALL_MIXER, SMALL_ATTENTION = ([f"256-{mixer}-h1:512", f"256-{mixer}-h2:512"] for mixer in ("mixer", "attention"))
GPU_CASES = dict.fromkeys(["27m:768", *SMALL_MIXER, "trm:768", *SMALL_ATTENTION], 1)
QUICK_CASES = ["tiny:4", "tiny-trm:4"]
MODES = ("q-learning", "halt-only")
COLUMNS = ["size", "batch", "mode", "dtype", "plain", "fast (quartiles)", "turns", "ratio", "share of peak"]
# The least ratio on a CPU, by the dtype that is the quicker one there: where that is float32, the twin stands at three
# quarters of the peak already.
CPU_RATIOS = {
    "bfloat16": {("27m", "q-learning"): 2.0, ("27m", "halt-only"): 3.2, ("1m", "q-learning"): 2.0},
    "float32": {("27m", "q-learning"): 1.05, ("27m", "halt-only"): 1.6, ("1m", "q-learning"): 1.0},
}
# On one H100 or H200
GPU_STEPS = {"q-learning": 20.0, "halt-only": 30.0}  # a second, 27 M, batch 768
GPU_SHARE = 60.0  # percent of the peak, 27 M
GPU_SMALL_STEPS = 120.0  # a second, batch 512: 3 times the 40 that were taken before launches were saved
GPU_SMALL_RATIO = 1.15  # one H cycle over two: a third more arithmetic
GPU_TRM_RATIO = 1.5  # to the plain twin, batch 768


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    args.compile = compiles(args)
    on_gpu = torch.cuda.is_available()
    usual = GPU_CASES if on_gpu else CPU_CASES
    cases = args.cases or (QUICK_CASES if args.quick else list(usual))
    records, failed = [], []
    print(", ".join(COLUMNS), flush=True)
    for case in cases:
        size, rows = case.split(":")
        dtypes = args.dtypes or fast_dtypes(config_of(size))[: usual.get(case, 1)]
        try:
            for record in measure(size, int(rows), dtypes, args):
                records.append(record)
                row = ", ".join(map(str, row_of(record)))
                print(f"{row}; first losses differ by {record['first_loss_difference']:.1e}", flush=True)
        except Exception as error:  # of whatever kind: the other cases may work
            traceback.print_exc()
            failed.append(f"{case}: {type(error).__name__}")
        # What is compiled for a case is not kept for the next: torch raises after eight of a function.
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()
        result = {"cases": records, "failed": failed}, targets(records, on_gpu), table(records)
        write_so_far("training_speed", args, *result)
    finish("training_speed", args, *result)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measure(size: str, rows: int, dtypes: tuple[str, ...], args: argparse.Namespace) -> list[dict[str, Any]]:
    """One case: a record for each mode and dtype, all timed in turns with the same plain side."""
    plain = plain_step(size, rows, args.plain_dtype, args.seed)
    of_plain = plain()
    fast = {}
    for mode in modes_of(size, args.modes):
        for dtype in dtypes if mode == modes_of(size)[0] else dtypes[:1]:
            trainer = fast_trainer(size, rows, dtype, args.seed, args.compile, halting=mode.replace("-", "_"))
            fast[mode, dtype] = trainer, loss_difference(of_plain, trainer.run_step())

    def peaks() -> dict[str, Peak]:
        return {dtype: matmul_peak(getattr(torch, dtype), device(), args.quick) for dtype in dtypes}

    before = peaks()
    ways = {"plain": plain} | {key: trainer.run_step for key, (trainer, _) in fast.items()}
    taken = take_turns(ways, args.pairs, args.seconds)
    peak_of = {dtype: max(peak, before[dtype]) for dtype, peak in peaks().items()}
    records = []
    for (mode, dtype), (trainer, difference) in fast.items():
        flops = training_step_flops(trainer.model.config, rows, q_continue_target=mode == "q-learning")
        seconds, peak = taken[mode, dtype].median, peak_of[dtype]
        records.append(
            {
                "size": size,
                "batch": rows,
                "mode": mode,
                "dtype": dtype,
                "plain_dtype": args.plain_dtype,
                "compile": trainer.args.compile,
                **Comparison(taken["plain"], taken[mode, dtype]).record(),
                "steps_per_second": rounded(1 / seconds),
                "first_loss_difference": rounded(difference),
                "gflop": rounded(flops / 1e9),
                "gflop_per_second": rounded(flops / seconds / 1e9),
                **peak.record(),
                "share_of_peak_percent": rounded(100 * flops / seconds / peak.rate),
            }
        )
        if args.profile:
            print(f"\n{size}, batch {rows}, {mode}, {dtype}:")
            records[-1]["profile"] = profile(ways[mode, dtype])
    return records


def modes_of(size: str, asked: list[str] | tuple[str, ...] = MODES) -> list[str]:
    """Those of the asked modes that the size has: TRM and its kind know no Q-learning."""
    return [mode for mode in asked if mode == "halt-only" or SIZES[size].get("halting") != "halt_only"]


def row_of(record: dict[str, Any]) -> list[Any]:
    """One case, under COLUMNS."""
    plain, fast = record["plain"], record["fast"]
    spread = f"{in_words(fast['median'])} ({in_words(fast['low'])} to {in_words(fast['high'])})"
    row = [size_in_words(record["size"]), *(record[name] for name in ("batch", "mode", "dtype"))]
    row += [in_words(plain["median"]), spread, fast["count"]]
    return [*row, f"{record['ratio']:.2f}x", share_of_peak(record).partition(" = ")[2]]


def share_of_peak(record: dict[str, Any]) -> str:
    """561 TFLOP/s = 71 % of 790 TFLOP/s at 8192 x 8192 x 8192."""
    rate, peak = 1e9 * record["gflop_per_second"], Peak(1e9 * record["peak_gflop_per_second"], record["peak_size"])
    return f"{in_flops(rate)} = {peak.share(rate)}"


def table(records: list[dict[str, Any]]) -> str:
    """All cases, in Markdown, then their profiles."""
    parts = [markdown_table(COLUMNS, [row_of(record) for record in records])]
    for record in records:
        if found := record.get("profile"):
            head = f"{size_in_words(record['size'])}, batch {record['batch']}, {record['mode']}, {record['dtype']}:"
            parts += [head, profile_tables(found)]
    return "\n\n".join(parts)


def targets(records: list[dict[str, Any]], on_gpu: bool) -> list[Target]:
    """The targets that these cases can answer: in the quicker dtype, of several batch sizes the worst ratio, and a
    share of the peak for each. On a CPU also those of a GPU, not measured.
    """
    if on_gpu:
        return gpu_targets(records, "not run")

    def of(size: str, mode: str) -> list[dict[str, Any]]:
        return [record for record in records if (record["size"], record["mode"]) == (size, mode)]

    def quickest(size: str, mode: str) -> list[dict[str, Any]]:
        batches = dict.fromkeys(record["batch"] for record in of(size, mode))
        return [max((r for r in of(size, mode) if r["batch"] == batch), key=lambda r: r["ratio"]) for batch in batches]

    found = []
    quicker = min((record["dtype"] for record in records), default="float32")  # no bfloat16 where it is the slower one
    for (size, mode), aim in CPU_RATIOS[quicker].items():
        matching = quickest(size, mode)
        if matching:
            worst = min(matching, key=lambda record: record["ratio"])
            ratios = ", ".join(f"{record['ratio']:.2f}x at {record['batch']}" for record in matching)
            others = [f"{r['dtype']} {r['ratio']:.2f}x at {r['batch']}" for r in of(size, mode) if r not in matching]
            work = f"training step, {size_in_words(size)}, {mode}"
            note = "; ".join([f"{worst['dtype']}: {ratios}", *others])
            found.append(Target(work, aim, worst["ratio"], note=note))
    for record in quickest("27m", "q-learning"):
        work = f"share of the matmul peak, training step, 27 M, batch {record['batch']}"
        found.append(Target(work, 65.0, record["share_of_peak_percent"], "%", note=f"{record['dtype']}, q-learning"))
    return found + gpu_targets([], "no GPU here")


def gpu_targets(records: list[dict[str, Any]], without: str) -> list[Target]:
    """The targets of one GPU; without a record the note is `without`."""
    by_ratio = sorted(records, key=lambda record: record["ratio"])  # the quicker dtype counts
    known = {(record["size"], record["batch"], record["mode"]): record for record in by_ratio}
    found = []

    def add(work: str, aim: float, unit: str, measured: float | None, note: str) -> None:
        found.append(Target(f"one GPU: {work}", aim, measured, unit, note=without if measured is None else note))

    for mode in MODES:
        record, work = known.get(("27m", 768, mode), {}), f"27 M, batch 768, {mode}"
        note = f"{record.get('dtype')}, {record.get('ratio', 0):.2f}x the plain twin"
        add(work, GPU_STEPS[mode], "steps/s", record.get("steps_per_second"), note)
        note = share_of_peak(record) if record else ""
        add(f"{work}, share of the peak", GPU_SHARE, "%", record.get("share_of_peak_percent"), note)
    for mixer in ("mixer", "attention"):
        steps = [
            known.get((f"256-{mixer}-h{cycles}", 512, "halt-only"), {}).get("steps_per_second") for cycles in (1, 2)
        ]
        both = None not in steps
        work, note = f"D 256, {mixer}, batch 512, H 1 and 2", " and ".join(f"{value or 0:.1f}" for value in steps)
        add(work, GPU_SMALL_STEPS, "steps/s", min(steps) if both else None, f"{note} steps/s")
        add(f"D 256, {mixer}, H 1 beside H 2", GPU_SMALL_RATIO, "x", steps[0] / steps[1] if both else None, "steps/s")
    record = known.get(("trm", 768, "halt-only"), {})
    note = f"{record.get('dtype')}, {record.get('steps_per_second', 0):.1f} steps/s"
    add("TRM, mixer, D 512, H 3, L 6, batch 768", GPU_TRM_RATIO, "x", record.get("ratio"), note)
    return found


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=8, seconds=40)
    parser.add_argument("--cases", nargs="+", metavar="SIZE:BATCH", help=f"sizes: {', '.join(SIZES)}")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="of the fast side (default: by case)")
    add_plain_dtype_option(parser)
    add_compile_option(parser)
    parser.add_argument(
        "--profile", action="store_true", help="where a fast step's time goes, by families of kernels; written too"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    for case in args.cases or []:
        size, _, rows = case.partition(":")
        if size not in SIZES or not rows.isdecimal() or int(rows) < 1:
            parser.error(f"--cases {case}: a case is SIZE:BATCH with a size of {', '.join(SIZES)} and a batch of 1 up")
        if not modes_of(size, args.modes):
            parser.error(f"--cases {case}: {size} is trained by halt-only alone; --modes has {' '.join(args.modes)}")
    return args


if __name__ == "__main__":
    main()
