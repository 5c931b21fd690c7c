"""The best model that a recipe gives in so many seconds, all included: data, compiling, training, evaluating.

    python benchmarks/timed_learning.py --seconds 240
    python benchmarks/timed_learning.py --seconds 240 --data DIR --recipe FILE.yaml

Trains on train.h5 of --data and scores on its test.h5, which training does not see; without --data on 9x9 Sudokus made
here. A valid.h5 beside them is scored ten times on the way: exact_over_minutes.

A short run of the recipe first says how long a step takes at every depth, and what else takes time; then the recipe
runs with as many steps as fit, so that its schedules end in time. Should it be slower than expected, it is stopped,
and what it exports then is scored. Run, checkpoint and result are left in --results.
"""

import argparse
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from recipe_runs import hrm_train, step_seconds
from side_by_side import RESULTS, benchmark_parser, finish, one_line, rounded, start, usable_cores, write_so_far
from subjects import add_compile_option, compiles, device

from hrm_hf import HrmForPuzzleSolving, HrmProcessor
from hrm_hf.data import FileRows, PuzzleFile
from hrm_hf.data.build.sudoku_builder import build_sudoku, generate_rows
from hrm_hf.hrm.sudoku import BOX_SHAPE_OF_SIZE
from hrm_hf.scores.evaluation import evaluate_puzzles

TIMED_STEPS, QUICK_STEPS = 60, 6
INTERVAL = 3  # steps between two log lines of the timed run
EVALUATION_SHARE = 0.1  # of the seconds
SPARE = 0.05  # of the time to train in
EVALUATIONS = 10  # of valid.h5
STOP_SECONDS = 10.0  # from the signal to the end of a checkpoint
TINY = "--hidden_size 32 --num_attention_heads 2 --puzzle_emb_ndim 224 --depth_schedule 0:1x1,0.5:1x2"
QUICK = f"{TINY} --global_batch_size 8 --warmup_steps 2"


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    end = time.monotonic() + args.seconds
    start(args)
    folder = (args.results or RESULTS) / "learning"
    shutil.rmtree(folder, ignore_errors=True)
    data = args.data or make_data(folder / "data", args)
    words = [args.task, "--recipe", args.recipe, "--seed", str(args.seed)]
    words += ["--data-dir", str(training_part(data, folder / "train")), "--compile", str(compiles(args))]
    words += ["--cpu-threads", str(args.threads or usable_cores()), *(QUICK.split() if args.quick else [])]

    steps, interval = (QUICK_STEPS, 1) if args.quick else (TIMED_STEPS, INTERVAL)
    began = time.monotonic()
    timed = ["--max-steps", str(steps), "--eval-steps", str(steps), "--logging-steps", str(interval)]
    lines = hrm_train([*words, *timed], folder / "timed")
    seconds, overhead = step_seconds(lines), overhead_seconds(lines, time.monotonic() - began)
    training_end = end - EVALUATION_SHARE * args.seconds - STOP_SECONDS
    left = (training_end - time.monotonic() - overhead) * (1 - SPARE)
    steps = QUICK_STEPS if args.quick else int(left / seconds)
    print(f"a step takes {1e3 * seconds:.1f} ms, all else {overhead:.0f} s: {steps} steps fit", flush=True)
    if steps < 1:
        raise SystemExit(f"--seconds {args.seconds:g} leaves no time for a step: give more")

    limit = None if args.quick else max(0.0, training_end - time.monotonic())
    words += ["--max-steps", str(steps), "--logging-steps", str(max(1, steps // 100))]
    words += ["--eval-steps", str(max(1, -(-steps // EVALUATIONS)))]
    scored = [line for line in hrm_train(words, folder / "run", limit) if "eval/count" in line]
    for useless in (folder / "timed", folder / "train"):
        shutil.rmtree(useless)
    checkpoint = newest_checkpoint(folder / "run")
    stopped = checkpoint.name != "checkpoint-final"
    record = {
        "recipe": Path(args.recipe).name,
        "data": "generated" if args.data is None else args.data.name,
        "seconds": args.seconds,
        "step_ms": rounded(1e3 * seconds),
        "steps": int(checkpoint.name.rpartition("-")[2]) if stopped else steps,
        "planned_steps": steps,
        "stopped": stopped,
        "checkpoint": str(checkpoint.relative_to(folder.parent)),
        "exact_over_minutes": [[rounded(line["seconds"] / 60), line["eval/exact_accuracy"]] for line in scored],
    }
    write_so_far("timed_learning", args, record, [])
    scores = score(checkpoint, data, args)
    record |= {name: rounded(scores[name]) for name in ("count", "exact_accuracy", "accuracy", "segments")}
    print(one_line(record), flush=True)
    finish("timed_learning", args, record, [])


def make_data(folder: Path, args: argparse.Namespace) -> Path:
    """train.h5 and test.h5 of Sudokus that are made here."""
    size, num_train, num_test = (4, 40, 20) if args.quick else (9, args.num_train, args.num_test)
    began = time.monotonic()
    train, test = generate_rows(num_train, num_test, BOX_SHAPE_OF_SIZE[size], max_givens=None, seed=args.seed)
    folder.mkdir(parents=True)
    build_sudoku(folder, train, test, num_aug=0)
    print(f"{num_train} + {num_test} {size}x{size} Sudokus made in {time.monotonic() - began:.0f} s", flush=True)
    return folder


def training_part(data: Path, folder: Path) -> Path:
    """A folder with train.h5 and, as its test.h5, valid.h5, so that this, and not the test, is scored on the way."""
    folder.mkdir(parents=True)
    (folder / "train.h5").symlink_to((data / "train.h5").resolve())
    if (data / "valid.h5").exists():
        (folder / "test.h5").symlink_to((data / "valid.h5").resolve())
    return folder


def overhead_seconds(lines: list[dict[str, Any]], taken: float) -> float:
    """What a run takes besides its steps, by a short one: the seconds it took, and its log with one score or none."""
    scoring = sum(after["seconds"] - before["seconds"] for before, after in pairwise(lines) if "eval/count" in after)
    return max(0.0, taken - lines[-1]["step"] * step_seconds(lines)) + (EVALUATIONS - 1) * scoring


def newest_checkpoint(run: Path) -> Path:
    """checkpoint-final, or of a run that was stopped the last one."""
    found = sorted(run.glob("checkpoint-[f0-9]*"), key=lambda path: path.stat().st_mtime)  # none is called best
    if not found:
        raise SystemExit("the run left no checkpoint")
    return found[-1]


def score(checkpoint: Path, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """On the first rows of test.h5, every puzzle until its own halt."""
    model = HrmForPuzzleSolving.from_pretrained(checkpoint, dtype=torch.float32).to(device()).eval()
    file = PuzzleFile(data / "test.h5")
    rows = FileRows(file, range(min(args.puzzles, file.info.num_rows)))
    processor = HrmProcessor.from_pretrained(checkpoint)
    return evaluate_puzzles(model, rows, processor, batch_size=args.eval_batch_size, halt=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=1, seconds=240)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with train.h5, test.h5 and perhaps valid.h5")
    parser.add_argument("--recipe", default="sudoku_fast", help="name or file (default sudoku_fast)")
    parser.add_argument("--task", default="sudoku", help="its game (default sudoku)")
    parser.add_argument("--num-train", type=int, default=1000, help="puzzles to make (default 1000)")
    parser.add_argument("--num-test", type=int, default=300, help="others to test on (default 300)")
    parser.add_argument("--puzzles", type=int, default=2000, help="rows of test.h5 to score at most (default 2000)")
    parser.add_argument("--eval-batch-size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    add_compile_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what it started ends with it
    main()
