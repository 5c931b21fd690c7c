"""Solving puzzles, fast beside plain: without halting, with a trained model that halts by itself, and a long queue.

    python benchmarks/solving_speed.py                                     trains a 4x4 Sudoku model first
    python benchmarks/solving_speed.py --only no-halt queue                trains none
    python benchmarks/solving_speed.py --checkpoint DIR --data FILE.h5     a trained model and its test puzzles
    python benchmarks/solving_speed.py --only no-halt --profile            the published model's size alone, and where
                                                                           its time goes

no-halt: 27 M parameters, 16 segments for every puzzle, `model.solve(halt=False)` with compiled blocks beside the plain
twin, and what the ratio would be if matrix products at their peak were all there is.

trained: all puzzles of a data set through `predict_puzzles(halt=True)`, where every puzzle ends at its own halt, in
float32 and, unless it is slower here, in bfloat16, beside the plain twin, which runs the published evaluation's 16
segments for each. Exact accuracy of all is printed, the mean number of segments, what halting alone allows (16 over
that mean), and the puzzles a second. The target takes the quicker dtype among those that lose no more than 0.5 points.
Without --checkpoint HRM's 4x4 recipe (recipes/) is trained here, a minute or two on two cores, to halt within 16
segments, on 1,200 puzzles, and solves 1,000 others, none of which equals a training puzzle under a symmetry.

queue (on a GPU, or with --only): 27 M parameters at the batch sizes of a GPU, with halting, through `predict_puzzles`
and compiled blocks, beside the twin's 16 segments. A fresh model never halts, and no trained one of this size comes
along, so it gets a q head that halts by chance: after each segment one of --mean-segments puzzles halts. The answers
mean nothing and are not scored. Puzzles a second of both sides count, as the twin gets fewer.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernel_families import profile, profile_tables
from plain_twin import plain_solve
from recipe_runs import hrm_train
from side_by_side import (
    Comparison,
    Target,
    benchmark_parser,
    finish,
    markdown_table,
    one_line,
    rounded,
    start,
    take_turns,
    usable_cores,
    write_so_far,
)
from step_flops import matmul_peak, solving_flops
from subjects import (
    DTYPES,
    SIZES,
    Rows,
    add_compile_option,
    add_plain_dtype_option,
    compiles,
    config_of,
    device,
    fast_dtypes,
    made_up_batches,
    twin_of,
)
from subjects import in_words as size_in_words

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.data import load_puzzles
from hrm_hf.scores.compiled import compiled_block
from hrm_hf.scores.evaluation import PuzzlePredictions, predict_puzzles
from hrm_hf.training import seeded_model

SEGMENTS = 16  # of the published evaluation
# The least ratios, by the dtype that is the quicker one here
NO_HALT_RATIOS, TRAINED_RATIOS = {"bfloat16": 2.5, "float32": 1.0}, {"bfloat16": 8.0, "float32": 7.0}
POINTS = 0.5  # of exact accuracy that a mode may lose
PARTS = ("no-halt", "trained", "queue")
QUEUE_BATCHES = (1024, 4096)  # of a GPU
QUEUE_LENGTH = 4  # batches of puzzles
QUEUE_RATIO = 8.0  # to the plain evaluation, one GPU
RECIPE = Path(__file__).parent / "recipes" / "hrm_sudoku_4x4.yaml"
RECIPE_IN_WORDS = "4x4 Sudoku, trained here"


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    record: dict[str, Any] = {}
    found: list[Target] = []
    if "queue" in args.only:
        record["queue"] = []
        for rows in args.queue_batches:
            record["queue"].append(queue(rows, args))
            print(f"queue: {one_line(record['queue'][-1])}\n", flush=True)
            write_so_far("solving_speed", args, record, queue_targets(record["queue"]), table(record))
    if "no-halt" in args.only:
        record["no_halt"] = without_halting(args)
        print(f"no-halt: {one_line(record['no_halt'])}\n", flush=True)
        found.append(no_halt_target(record["no_halt"]))
    found += queue_targets(record.get("queue", []))
    write_so_far("solving_speed", args, record, found, table(record))
    if "trained" in args.only:
        with tempfile.TemporaryDirectory() as folder:
            record["trained"] = trained(args, Path(folder))
        print(f"trained: {one_line(record['trained'])}", flush=True)
        for dtype, mode in record["trained"]["modes"].items():
            print(f"{dtype}: {one_line(mode)}", flush=True)
        found += trained_targets(record["trained"])
    finish("solving_speed", args, record, found, table(record))


def without_halting(args: argparse.Namespace) -> dict[str, Any]:
    """All segments for a batch of made-up puzzles."""
    size, rows = ("tiny", 4) if args.quick else (args.size, args.batch_size)
    config = config_of(size)
    model = seeded_model(config, seed=0).to(device()).eval()
    twin = twin_of(model, args.plain_dtype)
    batch = {name: value.to(device()) for name, value in next(made_up_batches(config, rows)).items()}
    given = (batch["input_ids"], batch["puzzle_identifiers"])

    def plain() -> torch.Tensor:
        return plain_solve(twin, *given, segments=SEGMENTS)[0]

    run_block = compiled_block(device()) if compiles(args) else None

    def fast(**how: Any) -> torch.Tensor:
        how = dict(max_segments=SEGMENTS, compute_dtype=args.dtype, run_block=run_block) | how
        return model.solve(*given, halt=False, **how).sequences

    # As written in float32: over 16 segments fresh weights amplify any other rounding, trained ones (below) do not.
    plain_answers, fast_answers = plain(), fast(compute_dtype="float32", run_block=None)
    after_one = (plain_solve(twin, *given, segments=1)[0] == fast(max_segments=1)).float().mean().item()
    if args.plain_dtype != "float32":
        plain_answers = plain_solve(twin_of(model), *given)[0]
    same = (plain_answers == fast_answers).float().mean().item()
    fast()  # compiles
    compared = Comparison(**take_turns({"plain": plain, "fast": fast}, args.pairs, args.seconds, warm_ups=0))
    profiled = {"profile": profile(fast)} if args.profile else {}
    work = solving_flops(config, rows, SEGMENTS)
    rate = work / compared.fast.median
    peak = matmul_peak(getattr(torch, args.dtype), device(), args.quick)
    return {
        "size": size,
        "batch": rows,
        "segments": SEGMENTS,
        "dtype": args.dtype,
        "compiled": run_block is not None,
        "plain_dtype": args.plain_dtype,
        **compared.record(),
        "equal_cells_in_float32_percent": rounded(100 * same),
        "equal_cells_after_one_segment_percent": rounded(100 * after_one),
        "gflop_per_second": rounded(rate / 1e9),
        **peak.record(),
        "peak_alone_allows": rounded(compared.plain.median / (work / peak.rate)),
        **profiled,
    }


def queue(rows: int, args: argparse.Namespace) -> dict[str, Any]:
    """A queue of made-up puzzles, `rows` at work, with a model that halts; beside all segments of the twin."""
    size = "tiny" if args.quick else args.size
    config = config_of(size)
    model = seeded_model(config, seed=0).to(device()).eval()
    batch = next(made_up_batches(config, QUEUE_LENGTH * rows))
    twin = twin_of(model, args.plain_dtype)
    model.q_head = HaltsByChance(args.mean_segments)
    given = [batch[name][:rows].to(device()) for name in ("input_ids", "puzzle_identifiers")]
    puzzles = Rows({name: values.numpy() for name, values in batch.items()})
    run_block = compiled_block(device(), any_batch_size=True) if compiles(args) else None

    def plain() -> torch.Tensor:
        return plain_solve(twin, *given, segments=SEGMENTS)[0]

    def fast() -> PuzzlePredictions:
        how = dict(halt=True, max_segments=SEGMENTS, compute_dtype=args.dtype, run_block=run_block)
        return predict_puzzles(model, puzzles, rows, **how)

    segments = float(fast().segments.mean())  # compiles
    taken = take_turns({"plain": plain, "fast": fast}, args.pairs, args.seconds)
    per_second = {"plain": rows / taken["plain"].median, "fast": len(puzzles) / taken["fast"].median}
    peak = matmul_peak(getattr(torch, args.dtype), device(), args.quick)
    rate = solving_flops(config, 1, 1) * segments * per_second["fast"]
    return {
        "size": size,
        "batch": rows,
        "puzzles": len(puzzles),
        "dtype": args.dtype,
        "compiled": run_block is not None,
        "plain_dtype": args.plain_dtype,
        "mean_segments": rounded(segments),
        "halting_alone_allows": rounded(SEGMENTS / segments),
        "plain_puzzles_per_second": rounded(per_second["plain"]),
        "puzzles_per_second": rounded(per_second["fast"]),
        "ratio": rounded(per_second["fast"] / per_second["plain"]),
        "gflop_per_second": rounded(rate / 1e9),
        **peak.record(),
        **({"profile": profile(fast)} if args.profile else {}),
    }


class HaltsByChance(torch.nn.Module):
    """A q head with which a puzzle halts after each segment with the chance 1 / mean."""

    def __init__(self, mean: float):
        super().__init__()
        self.chance, self.draws = 1 / mean, torch.Generator(device()).manual_seed(0)

    def forward(self, states: torch.Tensor) -> torch.Tensor:  # (B, D) -> (B, 2): q_halt, q_continue
        q_halt = self.chance - torch.rand(len(states), generator=self.draws, device=states.device)
        return torch.stack((q_halt, torch.zeros_like(q_halt)), dim=-1)


def trained(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A trained model on a data set: halting by itself, in one or both dtypes, and all segments in the twin."""
    checkpoint, data = (args.checkpoint, args.data) if args.checkpoint else train_small_model(folder, args)
    model = HrmForPuzzleSolving.from_pretrained(checkpoint, dtype=torch.float32).to(device()).eval()
    twin = twin_of(model, args.plain_dtype)
    dataset = load_puzzles(data, split="test")
    dataset = dataset.select(range(min(len(dataset), args.puzzles)))
    starts = range(0, len(dataset), args.eval_batch_size)

    def plain() -> np.ndarray:
        answers = []
        for first in starts:
            rows = dataset[first : first + args.eval_batch_size]
            inputs, identifiers = (
                torch.as_tensor(rows[name], device=device()) for name in ("input_ids", "puzzle_identifiers")
            )
            answers.append(plain_solve(twin, inputs, identifiers, segments=SEGMENTS)[0].cpu().numpy())
        return np.concatenate(answers)

    def fast(dtype: str) -> PuzzlePredictions:
        how = dict(halt=True, max_segments=SEGMENTS, compute_dtype=dtype)
        return predict_puzzles(model, dataset, args.eval_batch_size, **how)

    labels = dataset[:]["labels"]
    plain_exact = exact_percent(plain(), labels)
    predictions = {dtype: fast(dtype) for dtype in fast_dtypes(model.config)}
    ways = {"plain": plain} | {dtype: partial(fast, dtype) for dtype in predictions}
    taken = take_turns(ways, args.pairs, args.seconds, warm_ups=0)
    name = Path(args.checkpoint).name if args.checkpoint else RECIPE_IN_WORDS
    parameters = sum(parameter.numel() for parameter in model.parameters())
    modes = {}
    for dtype, prediction in predictions.items():
        compared = Comparison(taken["plain"], taken[dtype])
        segments, exact = float(prediction.segments.mean()), exact_percent(prediction.sequences, labels)
        modes[dtype] = {
            **compared.record(),
            "exact_percent": rounded(exact),
            "mean_segments": rounded(segments),
            "segments_saved_percent": rounded(100 * (1 - segments / SEGMENTS)),
            "halting_alone_allows": rounded(SEGMENTS / segments),
            "puzzles_per_second": rounded(len(dataset) / compared.fast.median),
        }
    return {
        "model": name,
        "parameters": parameters,
        "puzzles": len(dataset),
        "batch": args.eval_batch_size,
        "plain_dtype": args.plain_dtype,
        "plain_exact_percent": rounded(plain_exact),
        "modes": modes,
    }


def exact_percent(sequences: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose every labelled cell is right."""
    return 100 * float(((sequences == labels) | (labels == -100)).all(1).mean())


def train_small_model(folder: Path, args: argparse.Namespace) -> tuple[Path, Path]:
    """Runs HRM's 4x4 recipe with halting within 16 segments; (checkpoint, its test file)."""
    sizes = dict(num_train=1200, num_test=1000, eval_steps=10**6)
    if args.quick:
        sizes = dict(max_steps=3, num_train=40, num_test=20, num_aug=2, hidden_size=32)
    sizes |= dict(halt_max_steps=SEGMENTS, cpu_threads=args.threads or usable_cores())
    print(f"training a model: {RECIPE_IN_WORDS.split(',')[0]}, {RECIPE.name} ...", flush=True)
    run = folder / "run"
    hrm_train(["sudoku", "--recipe", str(RECIPE), *(f"--{name}={size}" for name, size in sizes.items())], run)
    return run / "checkpoint-final", run / "data" / "test.h5"


def table(record: dict[str, Any]) -> str:
    """All parts in Markdown, then their profiles."""
    rows, profiles = [], []

    def add(part: str, size: str, one: dict[str, Any], fast: float, plain: float) -> None:
        rows.append([part, size, one["batch"], one["dtype"], f"{plain:,.0f}", f"{fast:,.0f}", f"{one['ratio']:.2f}x"])
        rows[-1].append(f"{one['mean_segments']:.2f}")
        if found := one.get("profile"):
            profiles.extend([f"{part}, {size}, batch {one['batch']}:", profile_tables(found)])

    if one := record.get("no_halt"):
        rate = [one["batch"] / one[side]["median"] for side in ("fast", "plain")]
        add("no-halt", size_in_words(one["size"]), one | {"mean_segments": SEGMENTS}, *rate)
    for one in record.get("queue", []):
        rate = one["puzzles_per_second"], one["plain_puzzles_per_second"]
        add("queue", size_in_words(one["size"]), one, *rate)
    if one := record.get("trained"):
        for dtype, mode in one["modes"].items():
            plain = mode["puzzles_per_second"] / mode["ratio"]
            add("trained", one["model"], one | mode | {"dtype": dtype}, mode["puzzles_per_second"], plain)
    columns = ["part", "model", "batch", "dtype", "plain puzzles/s", "puzzles/s", "ratio", "mean segments"]
    return "\n\n".join([markdown_table(columns, rows), *profiles])


def no_halt_target(record: dict[str, Any]) -> Target:
    work = f"solving without halting, {SEGMENTS} segments, {size_in_words(record['size'])}, batch {record['batch']}"
    note = record["dtype"] + (" compiled" if record["compiled"] else "")
    note += f"; products at their peak alone would be {record['peak_alone_allows']:.2f}x"
    return Target(work, NO_HALT_RATIOS[record["dtype"]], record["ratio"], note=note)


def queue_targets(records: list[dict[str, Any]]) -> list[Target]:
    """One for each batch size of a GPU."""
    found = []
    known = {(record["size"], record["batch"]): record for record in records}
    for rows in QUEUE_BATCHES:
        work, record = f"one GPU: solving with halting, 27 M, batch {rows:,}", known.get(("27m", rows))
        note = "not run" if torch.cuda.is_available() else "no GPU here"
        if record:
            note = f"{record['puzzles_per_second']:,.0f} puzzles/s; {record['dtype']}, fresh weights made to halt; "
            note += f"mean {record['mean_segments']:.2f} of {SEGMENTS} segments"
        found.append(Target(work, QUEUE_RATIO, record and record["ratio"], note=note))
    return found


def trained_targets(record: dict[str, Any]) -> list[Target]:
    """The ratio, and that it was not bought with accuracy."""
    plain = record["plain_exact_percent"]
    lost = {dtype: plain - mode["exact_percent"] for dtype, mode in record["modes"].items()}
    allowed = [dtype for dtype in lost if lost[dtype] <= POINTS] or list(lost)
    best = max(allowed, key=lambda dtype: record["modes"][dtype]["ratio"])
    mode = record["modes"][best]
    note = f"{record['model']}; {best}; mean {mode['mean_segments']:.2f} of {SEGMENTS} segments"
    for dtype, other in record["modes"].items():
        if dtype != best:
            note += f"; {dtype} {other['ratio']:.2f}x, halting alone allows {other['halting_alone_allows']:.2f}x"
    work = f"solving {record['puzzles']:,} puzzles with a trained model that halts"
    exact = f"exact {mode['exact_percent']:.1f} %, plain {plain:.1f} %"
    points = Target("the same: points of exact accuracy lost", POINTS, lost[best], "points", True, exact)
    aim = TRAINED_RATIOS["bfloat16" if "bfloat16" in record["modes"] else "float32"]
    return [Target(work, aim, mode["ratio"], note=note), points]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = benchmark_parser(__doc__, pairs=5, seconds=30)
    add_compile_option(parser)
    profiled = "no-halt, queue: where the fast side's time goes, by families of kernels: printed and written"
    parser.add_argument("--profile", action="store_true", help=profiled)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS if on_gpu else PARTS[:2]), help="parts to measure"
    )
    parser.add_argument("--size", choices=list(SIZES), default="27m", help="no-halt, queue: the model (default 27m)")
    rows = 1024 if on_gpu else 8
    parser.add_argument("--batch-size", type=int, default=rows, help=f"no-halt: puzzles of the batch (default {rows})")
    parser.add_argument("--dtype", choices=DTYPES, help="no-halt, queue: the fast side (default: the quicker one)")
    parser.add_argument(
        "--queue-batches", type=int, nargs="+", default=list(QUEUE_BATCHES), help="queue: puzzles at work (1024 4096)"
    )
    parser.add_argument("--mean-segments", type=float, default=2.0, help="queue: until a puzzle halts (default 2)")
    parser.add_argument("--checkpoint", type=Path, help="trained: a folder for from_pretrained")
    parser.add_argument("--data", type=Path, help="trained: its test puzzles, a puzzle file")
    parser.add_argument("--puzzles", type=int, default=1000, help="trained: rows of the data at most (default 1000)")
    parser.add_argument("--eval-batch-size", type=int, default=256, help="trained: both sides (default 256)")
    add_plain_dtype_option(parser)
    args = parser.parse_args(arguments)
    args.dtype = args.dtype or fast_dtypes(config_of(args.size))[0]
    if args.quick:
        args.queue_batches = [4]
    if (args.checkpoint is None) != (args.data is None):
        parser.error("--checkpoint and --data go together: the model and its test puzzles")
    return args


if __name__ == "__main__":
    main()
