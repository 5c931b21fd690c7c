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
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
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
    of_sudoku = f"published: {PUBLISHED_SUDOKU_SECONDS:.0f} s, {ratio[0]:.0f}x; from {sudoku['source']}"
    of_memory = f"published: {PUBLISHED_SUDOKU_MB:,.0f} MB"
    of_arc = f"published: {PUBLISHED_ARC_SECONDS} s, {ratio[1]:.0f}x; from {arc['source']}"
    targets = [
        Target("build Sudoku 1,000 x 1,001", 2.0, sudoku["seconds"], "s", True, of_sudoku),
        Target("build Sudoku 1,000 x 1,001, memory", 500.0, sudoku["peak_memory_mb"], "MB", True, of_memory),
        Target("build Sudoku 45,451 x 21", 5.0, many["seconds"], "s", True, f"from {many['source']}"),
        Target("build Sudoku 45,451 x 21, bytes by those of its cells", 1.1, many["bytes_by_cells"], "x", True),
        Target("build ARC, 20 tasks x 1,000", 1.0, arc["seconds"], "s", True, of_arc),
    ]
    finish("building_speed", args, {"sudoku": sudoku, "many": many, "arc": arc}, targets)


def in_own_process(task: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one builder, in a process of its own, so that its peak memory is the builder's."""
    runs, puzzles, tasks, num_aug = args.runs, args.puzzles, args.tasks, NUM_AUG
    if task == "many":
        puzzles, num_aug = MANY_PUZZLES, MANY_NUM_AUG
    if args.quick:
        runs, puzzles, tasks, num_aug = 1, 6, 2, 5
    source = {"sudoku": args.sudoku_source, "many": None, "arc": args.arc_source}[task]
    described = source and source.name
    if source is None:
        source = folder / ("tasks" if task == "arc" else f"{task}.csv")
        described = write_tasks(source, tasks) if task == "arc" else write_sudokus(source, puzzles + NUM_TEST)
    builder, count = (build_tasks, tasks) if task == "arc" else (build_sudokus, puzzles)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return {"source": described} | pool.submit(
            build, builder, runs, source, folder / task, count, num_aug
        ).result()


def build(builder: Callable, runs: int, source: Path, output_dir: Path, count: int, num_aug: int) -> dict[str, Any]:
    """Runs a builder in this process so many times."""
    seconds = []
    for _ in range(runs):
        took, info = builder(source, output_dir, count, num_aug)
        seconds.append(took)
    return {
        "puzzles": info.num_groups,
        "variants": info.num_aug + 1,
        "rows": info.num_rows,
        "bytes_by_cells": rounded((output_dir / "train.h5").stat().st_size / (info.num_rows * 2 * info.seq_len)),
        "seconds": rounded(statistics.median(seconds)),
        "runs": runs,
        "peak_memory_mb": rounded(peak_memory_mb()),
    }


def build_sudokus(source: Path, output_dir: Path, count: int, num_aug: int) -> tuple[float, Any]:
    from hrm_hf.data.build.sudoku_builder import build_sudoku, read_table

    started = time.perf_counter()
    test, train = read_table(source).split(NUM_TEST)
    infos = build_sudoku(output_dir, train, test, num_aug, count, seed=0, overwrite=True)
    return time.perf_counter() - started, infos[0]


def build_tasks(source: Path, output_dir: Path, count: int, num_aug: int) -> tuple[float, Any]:
    from hrm_hf.data.build.arc_builder import build_arc
    from hrm_hf.data.build.arc_tasks import read_collection

    started = time.perf_counter()
    tasks = read_collection(source).tasks[:count]
    infos = build_arc(output_dir, tasks, num_aug, seed=42, overwrite=True)
    return time.perf_counter() - started, infos[0]


def write_tasks(folder: Path, count: int) -> str:
    """A JSON file for each task: 3 + 1 pairs of random grids. Returns what it is, in words."""
    generator = np.random.default_rng(0)

    def pair() -> dict[str, list[list[int]]]:
        return {name: generator.integers(0, 10, generator.integers(3, 23, 2)).tolist() for name in ("input", "output")}

    of_split = folder / "data" / "training"
    of_split.mkdir(parents=True)
    for number in range(count):
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
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
