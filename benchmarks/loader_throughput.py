"""How fast training batches come from puzzle files, beside a plain path that gives the same batches.

    python benchmarks/loader_throughput.py                    # made-up files: Sudoku-sized and ARC-sized
    python benchmarks/loader_throughput.py --data FILE.h5     # a real file instead

The plain path reads row by row through h5py and copies each grid into its frame line by line. The two take turns; the
medians over all turns and their ratio are printed. Both run in this process alone, on one core. That a loader which is
told a `state_dict` goes on with the very next batch is checked besides.

Beside it stands the published loader's figure, 112 batches of 768 Sudoku rows a second on such a machine.
"""

import argparse
import tempfile
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from side_by_side import Target, benchmark_parser, finish, rounded, start, take_turns

from hrm_hf.data import GridExample, GroupSampler, PuzzleFile, PuzzleSetInfo, PuzzleWriter, training_batches
from hrm_hf.data.schema import NUM_VARIANTS, ROWS_ARE_BOTH, originals_of_block

SWAPPING_TRANSFORMS = (1, 3, 6, 7)
PUBLISHED_BATCHES = 112.0  # a second, of 768 Sudoku rows, on 2 cores


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    print(f"{'file':<24}{'rows':>10}{'MB':>7}{'batches/s':>11}{'rows/s':>12}{'plain rows/s':>14}{'ratio':>8}")
    records = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(path) for path in args.data]
        if not paths:
            paths = [Path(folder) / "sudoku-sized.h5", Path(folder) / "arc-sized.h5"]
            write_sudoku_sized(paths[0], args.groups[0], args.variants, args.seed)
            write_arc_sized(paths[1], args.groups[1], args.variants, args.seed)
        for path in paths:
            check_resume(path, args)
            rate, plain_rate = measure(path, args)
            ratio = rate / plain_rate
            rows, size = PuzzleFile(path).info.num_rows, path.stat().st_size / 1e6
            print(
                f"{path.name:<24}{rows:>10,}{size:>7.0f}{rate / args.batch_size:>11.0f}{rate:>12,.0f}"
                f"{plain_rate:>14,.0f}{ratio:>8.0f}"
            )
            values = {"batches_per_second": rate / args.batch_size, "rows_per_second": rate}
            values |= {"plain_rows_per_second": plain_rate, "ratio": ratio, "megabytes": size}
            records.append({"file": path.name, "rows": rows} | {name: rounded(v) for name, v in values.items()})
    note = f"published: {PUBLISHED_BATCHES:.0f}; resumes exactly (checked)"
    work = f"loader, random batches of {args.batch_size} rows, {records[0]['file']}"
    targets = [Target(work, 5000.0, records[0]["batches_per_second"], "batches/s", note=note)]
    finish("loader_throughput", args, {"batch": args.batch_size, "files": records}, targets)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=7, seconds=60)
    parser.add_argument("--data", nargs="+", default=[], help="puzzle files to time instead of made-up ones")
    parser.add_argument("--batch-size", type=int, default=768)
    parser.add_argument("--batches", type=int, default=100, help="batches a turn of training_batches")
    parser.add_argument("--plain-batches", type=int, default=2, help="batches a turn of the plain path")
    parser.add_argument("--groups", type=int, nargs=2, default=(1000, 100), help="made-up Sudokus and ARC tasks")
    parser.add_argument("--variants", type=int, default=1001, help="variants of each made-up puzzle")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if args.quick:
        args.batch_size, args.batches, args.plain_batches, args.groups, args.variants = 8, 5, 1, (20, 10), 11
    return args


def check_resume(path: Path, args: argparse.Namespace) -> None:
    """Raises AssertionError where a new loader with the state after three batches does not give the fourth."""
    batches = training_batches(path, args.batch_size, args.seed)
    iterator = iter(batches)
    for _ in range(3):
        next(iterator)
    state = batches.state_dict()
    fourth = next(iterator)
    resumed = training_batches(path, args.batch_size, args.seed)
    resumed.load_state_dict(state)
    for name, values in next(iter(resumed)).items():
        np.testing.assert_array_equal(values, fourth[name])


def measure(path: Path, args: argparse.Namespace) -> tuple[float, float]:
    """(rows/s, rows/s of the plain path)."""
    fast = iter(training_batches(path, args.batch_size, args.seed))
    with h5py.File(path, "r") as raw:
        plain = plain_batches(PuzzleFile(path), raw, args.batch_size, args.seed)
        for _ in range(3):  # also the warm-up
            batch, expected = next(fast), next(plain)
            for name in batch:
                np.testing.assert_array_equal(batch[name], expected[name])
        ways = {  # nothing is kept
            "fast": lambda: deque(islice(fast, args.batches), maxlen=0),
            "plain": lambda: deque(islice(plain, args.plain_batches), maxlen=0),
        }
        taken = take_turns(ways, args.pairs, args.seconds, warm_ups=0)
    counts = {"fast": args.batches, "plain": args.plain_batches}
    return tuple(count * args.batch_size / taken[name].median for name, count in counts.items())


def plain_batches(file: PuzzleFile, raw: h5py.File, batch_size: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """The batches of `training_batches`, row by row. Arrays stay open and small metadata in memory."""
    info, arrays, metadata = file.info, {}, {}
    sampler = GroupSampler(*file.group_counts(), batch_size, seed)
    for draw in sampler:
        shifts = np.zeros((batch_size, 2)) if info.eos_id is None else sampler.generator.random((batch_size, 2))
        input_ids, labels, identifiers = [], [], []
        for store, row, first, shift in zip(
            *file.locate(draw.groups, draw.variants, draw.examples), draw.first, shifts, strict=True
        ):
            name = file.store_name(store)
            puzzle = name.rsplit("/", 2)[0]
            if name not in arrays:
                arrays[name] = raw[name], dict(raw[name].attrs)
            if puzzle not in metadata:
                kept = ("transform", "identifier") if info.eos_id is not None else ()
                metadata[puzzle] = {key: raw[puzzle]["metadata"][key][:] for key in kept}
            array, attributes = arrays[name]
            cells = pair = array[row]
            if info.eos_id is not None:
                shapes = [attributes[key] for key in ("input_shape", "label_shape")]
                if metadata[puzzle]["transform"][row] in SWAPPING_TRANSFORMS:
                    shapes = [shape[::-1] for shape in shapes]
                room = np.array(info.grid_shape) - np.max(shapes, axis=0)
                offset = (0, 0) if first else np.floor(shift * (room + 1)).astype(int)
                cut = shapes[0].prod()
                grids = cells[:cut].reshape(shapes[0]), cells[cut:].reshape(shapes[1])
                pair = [plain_frame(grid, offset, info).reshape(-1) for grid in grids]
            input_ids.append(pair[0].astype(np.int64))
            labels.append(np.where(pair[1] == info.ignore_label_id, -100, pair[1].astype(np.int64)))
            identifiers.append(metadata[puzzle]["identifier"][row] if metadata[puzzle] else info.blank_identifier_id)
        yield {
            "input_ids": np.stack(input_ids),
            "labels": np.stack(labels),
            "puzzle_identifiers": np.array(identifiers, dtype=np.int64),
        }


def plain_frame(grid: np.ndarray, offset: tuple[int, int], info: PuzzleSetInfo) -> np.ndarray:
    frame = np.full(info.grid_shape, info.pad_id, dtype=np.uint8)
    (top, left), (height, width) = offset, grid.shape
    for line in range(height):
        frame[top + line, left : left + width] = grid[line]
        frame[top + line, left + width : left + width + 1] = info.eos_id
    frame[top + height : top + height + 1, left : left + width] = info.eos_id
    return frame


def write_sudoku_sized(path: Path, groups: int, variants: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    vocabulary = ("PAD", ".", *map(str, range(1, 10)))
    step = originals_of_block(variants, 2 * 81)  # as the builder stores them
    with PuzzleWriter(path, PuzzleSetInfo("sudoku", "train", 11, vocabulary, (9, 9), variants - 1, seed)) as writer:
        for part in np.split(np.arange(groups), range(step, groups, step)):
            cells = generator.integers(1, 11, (len(part) * variants, 2, 81), dtype=np.uint8)
            writer.add_puzzle(f"{part[0]:08d}", [cells], ROWS_ARE_BOTH, {NUM_VARIANTS: variants}, {})


def write_arc_sized(path: Path, groups: int, variants: int, seed: int) -> None:
    """Tasks of 3 pairs each with grids of 3 to 22 rows and columns, some 150 cells on average."""
    generator = np.random.default_rng(seed)
    vocabulary = ("PAD", "EOS", *map(str, range(10)))
    how = {"num_puzzle_identifiers": groups * variants + 1, "eos_id": 1}
    info = PuzzleSetInfo("arc", "train", 12, vocabulary, (30, 30), variants - 1, seed, **how)
    with PuzzleWriter(path, info) as writer:
        for group in range(groups):
            transforms = generator.integers(0, 8, variants, dtype=np.uint8)
            transforms[0] = 0
            identifiers = np.arange(1 + group * variants, 1 + (group + 1) * variants, dtype=np.int32)
            examples = []
            for _ in range(3):
                shapes = generator.integers(3, 23, (2, 2))
                cells = generator.integers(2, 12, (variants, shapes.prod(axis=1).sum()), dtype=np.uint8)
                examples.append(GridExample(cells, *map(tuple, shapes)))
            names = np.array([f"task{group:04d}_{variant}" for variant in range(variants)], dtype="S")
            arrays = {"transform": transforms, "identifier": identifiers, "name": names}
            writer.add_puzzle(f"{group:08d}", examples, "variants", {}, arrays)


if __name__ == "__main__":
    main()
