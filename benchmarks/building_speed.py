"""Building data sets: seconds and peak memory, beside the published builder's figures.

    python benchmarks/building_speed.py                                    made-up sources
    python benchmarks/building_speed.py --sudoku-source FILE.csv.gz --arc-source ARC-AGI.zip

Sudoku: 1,000 puzzles with 1,000 augmentations each, and 45,451 (made up) with 20 each, from a CSV file to train.h5 and
test.h5. ARC: 20 tasks with 1,000 augmentations each. Each builder runs in a process of its own, some times; the clock
runs from reading the source to the closed files, without the start of Python. Memory is that process's peak, Python
and libraries included, but not the workers that the ARC builder forks (the Sudoku builder has none). Without sources
the Sudokus are generated (just as many as are needed, where the published training file has millions) and the ARC
tasks have random grids (3 pairs to learn from, 1 to test, sides of 3 to 22), a JSON file each.

The published builder is not run here. Its figures (69 s and 3.5 GB, 5.9 s) were measured on 2 cores of such a machine,
and the ratios to them hold only there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import Target, benchmark_parser, finish, peak_memory_mb, rounded, start

PUBLISHED_SUDOKU_SECONDS, PUBLISHED_SUDOKU_MB, PUBLISHED_ARC_SECONDS = 69.0, 3500.0, 5.9
NUM_AUG = 1000
MANY_PUZZLES, MANY_NUM_AUG = 45_451, 20  # few variants of many puzzles
NUM_TEST = 10  # puzzles of the source that go to test.h5


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.child:
        print(json.dumps(build(args)))
        return
    start(args)
    with tempfile.TemporaryDirectory() as folder:
        sudoku, many, arc = (in_own_process(task, Path(folder), args) for task in ("sudoku", "many", "arc"))
    for name, record in (("Sudoku", sudoku), ("Sudoku", many), ("ARC", arc)):
        print(
            f"{name}: {record['puzzles']} x {record['variants']} variants, {record['rows']:,} rows: "
            f"{record['seconds']:.2f} s (median of {record['runs']}), {record['peak_memory_mb']:.0f} MB"
        )
    ratio = PUBLISHED_SUDOKU_SECONDS / sudoku["seconds"], PUBLISHED_ARC_SECONDS / arc["seconds"]
    sudoku["ratio_to_published"], arc["ratio_to_published"] = map(rounded, ratio)
    notes = [f"published: {PUBLISHED_SUDOKU_SECONDS:.0f} s, {ratio[0]:.0f}x; from {sudoku['source']}"]
    notes += [f"published: {PUBLISHED_SUDOKU_MB:,.0f} MB"]
    notes += [f"published: {PUBLISHED_ARC_SECONDS} s, {ratio[1]:.0f}x; from {arc['source']}"]
    targets = [
        Target("build Sudoku 1,000 x 1,001", 2.0, sudoku["seconds"], "s", True, notes[0]),
        Target("build Sudoku 1,000 x 1,001, memory", 500.0, sudoku["peak_memory_mb"], "MB", True, notes[1]),
        Target("build Sudoku 45,451 x 21", 5.0, many["seconds"], "s", True, f"from {many['source']}"),
        Target("build Sudoku 45,451 x 21, bytes by those of its cells", 1.1, many["bytes_by_cells"], "x", True),
        Target("build ARC, 20 tasks x 1,000", 1.0, arc["seconds"], "s", True, notes[2]),
    ]
    finish("building_speed", args, {"sudoku": sudoku, "many": many, "arc": arc}, targets)


def in_own_process(task: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What a child process says of this build; its memory holds nothing else."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", task, "--output-dir", str(folder / task)]
    command += ["--runs", "1" if args.quick else str(args.runs)]
    puzzles, num_aug = (MANY_PUZZLES, MANY_NUM_AUG) if task == "many" else (args.puzzles, NUM_AUG)
    sizes = ["6", "2", "5"] if args.quick else [str(puzzles), str(args.tasks), str(num_aug)]
    for name, size in zip(("--puzzles", "--tasks", "--num-aug"), sizes, strict=True):
        command += [name, size]
    source = {"sudoku": args.sudoku_source, "many": None, "arc": args.arc_source}[task]
    described = source and source.name
    if source is None:
        source = folder / ("arc" if task == "arc" else f"{task}.csv")
        described = write_tasks(source, sizes[1]) if task == "arc" else write_sudokus(source, int(sizes[0]) + NUM_TEST)
    command += ["--arc-source" if task == "arc" else "--sudoku-source", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"building {task} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {"source": described} | json.loads(done.stdout.splitlines()[-1])


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Runs one builder in this process `args.runs` times."""
    seconds = []
    for _ in range(args.runs):
        took, info = build_tasks(args) if args.child == "arc" else build_sudokus(args)
        seconds.append(took)
    size = (Path(args.output_dir) / "train.h5").stat().st_size
    return {
        "puzzles": info.num_groups,
        "variants": info.num_aug + 1,
        "rows": info.num_rows,
        "bytes_by_cells": rounded(size / (info.num_rows * 2 * info.seq_len)),
        "seconds": rounded(statistics.median(seconds)),
        "runs": len(seconds),
        "peak_memory_mb": rounded(peak_memory_mb() or float("nan")),
    }


def build_sudokus(args: argparse.Namespace) -> tuple[float, Any]:
    from hrm_hf.data.build.sudoku_builder import build_sudoku, read_table

    started = time.perf_counter()
    rows = read_table(args.sudoku_source)
    test, train = (rows.select(part) for part in np.split(np.arange(len(rows)), [NUM_TEST]))
    infos = build_sudoku(args.output_dir, train, test, args.num_aug, args.puzzles, seed=0, overwrite=True)
    return time.perf_counter() - started, infos[0]


def build_tasks(args: argparse.Namespace) -> tuple[float, Any]:
    from hrm_hf.data.build.arc_builder import build_arc
    from hrm_hf.data.build.arc_tasks import read_collection

    started = time.perf_counter()
    tasks = read_collection(args.arc_source).tasks[: args.tasks]
    infos = build_arc(args.output_dir, tasks, args.num_aug, seed=42, overwrite=True)
    return time.perf_counter() - started, infos[0]


def write_tasks(folder: Path, count: str) -> str:
    """A JSON file for each task: 3 + 1 pairs of random grids. Returns what it is, in words."""
    generator = np.random.default_rng(0)

    def pair() -> dict[str, list[list[int]]]:
        return {name: generator.integers(0, 10, generator.integers(3, 23, 2)).tolist() for name in ("input", "output")}

    of_split = folder / "data" / "training"
    of_split.mkdir(parents=True)
    for number in range(int(count)):
        task = {"train": [pair() for _ in range(3)], "test": [pair()]}
        (of_split / f"task{number:04d}.json").write_text(json.dumps(task), encoding="utf-8")
    return f"{count} made-up tasks"


def write_sudokus(path: Path, count: int) -> str:
    """A CSV file of 9x9 puzzles: images of a few generated ones under random symmetries, which are sooner made.

    Returns what it is, in words.
    """
    from hrm_hf.games.sudoku_generator import generate
    from hrm_hf.games.sudoku_symmetry import SudokuSymmetries
    from hrm_hf.hrm.sudoku import write

    generator = np.random.default_rng(0)
    questions, answers = generate(5, (3, 3), generator)
    lines = []
    for question, answer in zip(questions, answers, strict=True):
        symmetries = SudokuSymmetries.draw((3, 3), -(-count // len(questions)), generator)
        for images in symmetries.apply(np.stack([question, answer])):
            lines.append(",".join(["made up", *map(write, images), "0"]))
    path.write_text("\n".join(["source,question,answer,rating", *lines[:count]]) + "\n", encoding="utf-8")
    return f"a made-up CSV of {count:,} rows"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=1, seconds=0)
    parser.add_argument(
        "--sudoku-source", type=Path, help="CSV file: source, question, answer, rating (default: generated)"
    )
    parser.add_argument("--arc-source", type=Path, help="folder or zip with ARC tasks (default: random grids)")
    parser.add_argument("--puzzles", type=int, default=1000, help="Sudokus (default 1000)")
    parser.add_argument("--tasks", type=int, default=20, help="ARC tasks (default 20)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each builder (default 3)")
    for name in ("--child", "--output-dir"):  # what a child process is told
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--num-aug", type=int, default=NUM_AUG, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
