"""What attempts buy: exact answers over attempts and segments spent, for each strategy, and how true confidence is.

    python benchmarks/attempts.py easy=EASY.csv.gz 17-clue=CLUES.csv.gz hardest=HARDEST.csv.gz
    python benchmarks/attempts.py hardest=HARDEST.csv.gz --puzzles 200 --compared 0

Each KIND=FILE is a table of Sudokus with answers, of which the last 1,000 rows are asked (--puzzles), once as they are
and with up to 64 attempts of the strategy "auto"; then the first 100 of these (--compared) by every strategy, one of
which is nothing but further segments, with up to 16 attempts. 50 are timed one by one in the dtype of the model's
config; the rest is computed in bfloat16 (--compute-dtype). About an hour on two cores.

The tables go to attempts.md beside the result file, the curves to attempts.png.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import Target, benchmark_parser, finish, markdown_table, rounded, seconds_of, start
from subjects import Rows

from hrm_hf import HrmForPuzzleSolving, HrmProcessor, pretrained
from hrm_hf.data.build.sudoku_builder import read_table
from hrm_hf.hrm.attempts import STRATEGIES, Attempts
from hrm_hf.hrm.configuration_hrm import COMPUTE_DTYPES
from hrm_hf.scores.attempt_curve import attempt_curve, save_curves
from hrm_hf.scores.evaluation import PuzzlePredictions, predict_puzzles, score_predictions

AIMS = {"easy": (99.9, 100.0), "17-clue": (95.0, 99.9), "hardest": (50.0, 99.0)}  # percent: one pass, with attempts
BATCH_SIZE = 64
BINS = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)  # of confidence


def read_puzzles(path: Path, num: int) -> Rows:
    """The last Sudokus of a table, as token ids."""
    table = read_table(path)
    questions, answers = (
        np.asarray(grids[-num:]).reshape(-1, 81).astype(np.int64) + 1 for grids in (table.questions, table.answers)
    )
    return Rows(input_ids=questions, labels=answers, puzzle_identifiers=np.zeros(len(questions), np.int64))


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    model = HrmForPuzzleSolving.from_pretrained(args.model).eval()
    processor = HrmProcessor.from_pretrained(args.model)
    results = {kind: measure(kind, Path(path), model, processor, args) for kind, path in args.kinds}
    record = {"attempts": args.attempts, "compute_dtype": args.compute_dtype, "kinds": results}
    finish("attempts", args, record, targets(results), tables(results), partial(draw, results))


def draw(results: dict[str, dict[str, Any]], folder: Path) -> None:
    save_curves(folder / "attempts.png", {f"{kind}, auto": result["auto"] for kind, result in results.items()})
    for kind, result in results.items():
        if result["strategies"]:
            save_curves(folder / f"attempts_{kind}.png", result["strategies"])


def measure(
    kind: str, path: Path, model: HrmForPuzzleSolving, processor: HrmProcessor, args: argparse.Namespace
) -> dict[str, Any]:
    puzzles = read_puzzles(path, args.puzzles)
    how = {"batch_size": BATCH_SIZE, "halt": True, "compute_dtype": args.compute_dtype}
    plain = predict_puzzles(model, puzzles, **how)
    one_pass = score_predictions(plain, puzzles)
    result: dict[str, Any] = {"file": path.name, "puzzles": len(puzzles)}
    result["one_pass"] = {name: rounded(one_pass[name]) for name in ("exact_accuracy", "segments", "q_halt_accuracy")}
    result["reliability"] = reliability(plain, puzzles)
    result["auto"] = curve(model, processor, puzzles, args.attempts, "auto", how)
    print(kind, result["one_pass"], result["auto"][-1], flush=True)
    compared, result["strategies"] = puzzles[: args.compared], {}
    for strategy in STRATEGIES[1:] if args.compared else ():
        result["strategies"][strategy] = curve(model, processor, compared, args.compared_attempts, strategy, how)
        print(kind, strategy, result["strategies"][strategy][-1], flush=True)
    result["seconds"] = seconds_each(model, processor, puzzles[: args.timed], args)
    return result


def curve(
    model: HrmForPuzzleSolving, processor: HrmProcessor, puzzles: Rows, num: int, strategy: str, how: dict[str, Any]
) -> list[dict[str, float]]:
    """See `attempt_curve`."""
    attempts = Attempts(processor, num, strategy, select="rules")
    points = attempt_curve(predict_puzzles(model, puzzles, attempts=attempts, **how), puzzles, num)
    return [{name: rounded(value) for name, value in point.items()} for point in points]


def reliability(predictions: PuzzlePredictions, puzzles: Rows) -> list[dict[str, float]]:
    """In each bin of confidence: answers, their mean confidence, and the share that is exact."""
    confidence = 1 / (1 + np.exp(-predictions.q_halt_logits.astype(np.float64)))
    exact = (predictions.sequences == puzzles["labels"]).all(axis=1)
    bins = np.clip(np.digitize(confidence, BINS) - 1, 0, len(BINS) - 2)
    rows = []
    for number in range(len(BINS) - 1):
        inside = bins == number
        if inside.any():
            shares = {"confidence": rounded(confidence[inside].mean()), "exact": rounded(exact[inside].mean())}
            rows.append({"from": BINS[number], "to": BINS[number + 1], "answers": int(inside.sum())} | shares)
    return rows


def seconds_each(
    model: HrmForPuzzleSolving, processor: HrmProcessor, puzzles: Rows, args: argparse.Namespace
) -> dict[str, float]:
    """Median and worst of puzzles that are solved one by one, with attempts."""

    def solve(question: np.ndarray) -> None:
        next(model.solve_queue([(question, 0)], 1, attempts=Attempts(processor, args.attempts)))

    times = [seconds_of(partial(solve, question)) for question in puzzles["input_ids"]]
    dtype = model.config.compute_dtype
    return {"dtype": dtype, "median": rounded(statistics.median(times)), "worst": rounded(max(times))}


def targets(results: dict[str, dict[str, Any]]) -> list[Target]:
    found = []
    for kind, result in results.items():
        if kind in AIMS:
            shares = result["one_pass"]["exact_accuracy"], result["auto"][-1]["exact_accuracy"]
            words = "one pass", f"at most {result['auto'][-1]['attempts']:.0f} attempts"
            for word, aim, share in zip(words, AIMS[kind], shares, strict=True):
                found.append(Target(f"{kind}, {word}", aim, 100 * share, "%", note=f"{result['puzzles']} puzzles"))
    return found


def tables(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: one pass and auto, the strategies, and the reliability of confidence."""
    parts, rows = [], []
    for kind, result in results.items():
        points, seconds = result["auto"], result["seconds"]
        shares = [f"{100 * point['exact_accuracy']:.1f} %" for point in points]
        one = f"{100 * result['one_pass']['exact_accuracy']:.1f} %"
        spent = f"{result['one_pass']['segments']:.1f}", f"{points[-1]['segments']:.1f}"
        rows.append(
            [kind, result["puzzles"], one, *shares, *spent, f"{seconds['median']:.2f}", f"{seconds['worst']:.2f}"]
        )
    counts = [f"{point['attempts']:.0f}" for point in points]
    columns = ["puzzles", "number", "one pass", *counts]
    columns += ["segments, one pass", "with attempts", "s, median", "s, worst"]
    parts.append(
        f"Exact answers in one pass, and after so many attempts at the most (auto):\n\n{markdown_table(columns, rows)}"
    )
    rows = []
    for kind, result in results.items():
        for strategy, points in result["strategies"].items():
            shares = [f"{100 * point['exact_accuracy']:.0f} %" for point in points]
            rows.append([kind, strategy, *shares, f"{points[-1]['segments']:.0f}"])
    if rows:
        counts = [f"{point['attempts']:.0f}" for point in points]
        heads = ["puzzles", "strategy", *counts, "segments"]
        parts.append(f"The strategies, on the first of these puzzles:\n\n{markdown_table(heads, rows)}")
    rows = [
        [kind, f"{row['from']:g} to {row['to']:g}", row["answers"], f"{row['confidence']:.3f}", f"{row['exact']:.3f}"]
        for kind, result in results.items()
        for row in result["reliability"]
    ]
    heads = ["puzzles", "confidence", "answers", "mean confidence", "share exact"]
    parts.append(f"How true the confidence of one pass is:\n\n{markdown_table(heads, rows)}")
    return "\n\n".join(parts)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=1, seconds=0)
    add = parser.add_argument
    add("kinds", nargs="+", metavar="KIND=FILE", help="name and table; the names easy, 17-clue and hardest have aims")
    add("--model", default=pretrained("sudoku-9x9"), help="folder of the model (default: the one of the package)")
    add("--puzzles", type=int, default=1000, help="last rows of each file (1000)")
    add("--attempts", type=int, default=64, help="of auto (64)")
    add("--compared", type=int, default=100, help="puzzles for every strategy (100)")
    add("--compared-attempts", type=int, default=16, help="attempts of every strategy (16)")
    add("--timed", type=int, default=50, help="puzzles that are timed one by one (50)")
    add("--compute-dtype", choices=COMPUTE_DTYPES, default="bfloat16", help="of all but the timed ones (bfloat16)")
    args = parser.parse_args(arguments)
    if args.quick:
        args.puzzles, args.attempts, args.compared, args.compared_attempts, args.timed = 3, 2, 2, 2, 1
    args.kinds = [kind.partition("=")[::2] for kind in args.kinds]
    for kind, path in args.kinds:
        if not path or not Path(path).is_file():
            parser.error(f"{kind}={path}: give KIND=FILE, a name and a table of Sudokus")
    return args


if __name__ == "__main__":
    main()
