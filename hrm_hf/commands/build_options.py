"""What the build commands share: arguments, where puzzles come from, and what is printed at the end."""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..data.build.puzzle_csv import GENERATE, is_hub_id
from ..data.schema import PuzzleSetInfo
from ..hrm.errors import ArgumentError


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every build command."""
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for train.h5 and test.h5")
    parser.add_argument("--overwrite", action="store_true", help="replace train.h5 and test.h5 if they exist")


def add_shared_arguments(parser: argparse.ArgumentParser, hub_source: str, puzzles: str) -> None:
    """Arguments of building Sudokus and of building mazes; hub_source: the default source."""
    add_output_arguments(parser)
    add = parser.add_argument
    add("--train-source", default=hub_source, help="owner/name, FILE or generate")
    add("--test-source", help="owner/name or FILE; see above for the default")
    add("--subsample-size", type=int, help=f"draw this many training {puzzles} (default: all)")
    add("--seed", type=int, default=0, help="of every random choice (default 0)")
    add("--num-puzzles", type=int, help=f"generate: training {puzzles} (default 1000)")


def generator_options(
    args: argparse.Namespace, defaults: dict[str, Any], not_of_generator: Iterable[str]
) -> dict[str, Any] | None:
    """What the generator is asked for, None where the puzzles come from elsewhere. Raises ArgumentError for a negative
    seed, or an option that does not go with the train source.

    defaults: of the options that only the generator has. not_of_generator: names of options that it does not have.
    """
    if args.seed < 0:
        raise ArgumentError(f"--seed is {args.seed}; it must be 0 or more")
    generates = args.train_source == GENERATE
    for name in not_of_generator if generates else defaults:
        if getattr(args, name) not in (None, False):
            relation = "does not go with" if generates else "needs"
            raise ArgumentError(f"--{name.replace('_', '-')} {relation} --train-source {GENERATE}")
    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    return defaults | given if generates else None


def test_source(args: argparse.Namespace, options: str = "--test-source") -> str:
    """Where the test puzzles come from, by default the Hub data set of the training puzzles. Raises ArgumentError if
    those are of a file; `options` are those that name the test puzzles then.
    """
    if args.test_source is None and not is_hub_id(args.train_source):
        raise ArgumentError(f"no test puzzles: with --train-source {args.train_source} also give {options}")
    return args.test_source or args.train_source


def file_line(folder: Path, info: PuzzleSetInfo) -> str:
    """One line on a puzzle file: what it holds, and its bytes."""
    path, (rows, cols) = folder / f"{info.split}.h5", info.grid_shape
    held = f"{info.num_groups} puzzles, {info.num_puzzles} variants, {info.num_rows} rows of {rows}x{cols} cells"
    return f"{path}: {held}, {info.num_puzzle_identifiers} identifiers, {path.stat().st_size} bytes"


def time_and_memory(started: float) -> str:
    """Seconds since `started`, a value of `time.perf_counter`, and the most memory that this process and the largest
    of its workers have held, what they share included.
    """
    words = f"{time.perf_counter() - started:.1f} seconds"
    if sys.platform == "win32":
        return words
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    own, worker = (resource.getrusage(each).ru_maxrss * unit / 1e6 for each in whose)
    return f"{words}, peak memory {own:.0f} MB" + (f", of the largest worker {worker:.0f} MB" if worker else "")


def print_list(lines: list[str], what: str) -> None:
    """Prints how many there are, and each on a line."""
    print(f"{len(lines)} {what}{':' if lines else ''}", *lines, sep="\n  ")
