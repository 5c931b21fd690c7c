"""What the build commands share: arguments, where puzzles come from, and what is printed at the end."""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..data.build.arc_mixture import LEAK_CHOICES
from ..data.build.puzzle_table import GENERATE, Columns, is_hub_id
from ..data.schema import PuzzleSetInfo
from ..hrm.errors import ArgumentError, PuzzleError
from ..hrm.sudoku import SYMBOLS, check_box_shape

COLUMN_ROLES = Columns._fields
LEAKS = "if test puzzles equal training puzzles under a symmetry: refuse (default), drop those of the test, or allow"


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
    for role in COLUMN_ROLES:
        none = "" if role == "question" else "; none: read none"
        add(f"--{role}-column", metavar="NAME", help=f"name or number of the column of {role}s{none}")
    add("--leaks", choices=LEAK_CHOICES, default="refuse", help=LEAKS)
    add("--subsample-size", type=int, help=f"draw this many training {puzzles} (default: all)")
    add("--seed", type=int, default=0, help="of every random choice (default 0)")
    add("--num-puzzles", type=int, help=f"generate: training {puzzles} (default 1000)")


def generator_options(
    args: argparse.Namespace, defaults: dict[str, Any], not_of_generator: Iterable[str]
) -> dict[str, Any] | None:
    """What the generator is asked for, None where the puzzles come from elsewhere. Raises ArgumentError for a negative
    seed, or an option that does not go with the train source.

    defaults: of the options that only the generator has. not_of_generator: names of options that it does not have,
    beside those of every table.
    """
    if args.seed < 0:
        raise ArgumentError(f"--seed is {args.seed}; it must be 0 or more")
    generates = args.train_source == GENERATE
    of_tables = ("test_source", *(f"{role}_column" for role in COLUMN_ROLES), *not_of_generator)
    for name in of_tables if generates else defaults:
        if getattr(args, name) not in (None, False):
            relation = "does not go with" if generates else "needs"
            raise ArgumentError(f"--{name.replace('_', '-')} {relation} --train-source {GENERATE}")
    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    return defaults | given if generates else None


def columns_of(args: argparse.Namespace) -> Columns:
    """Which columns of a table the arguments name."""
    return Columns(*(getattr(args, f"{role}_column") for role in COLUMN_ROLES))


def test_source(args: argparse.Namespace, options: str = "--test-source") -> str:
    """Where the test puzzles come from, by default the Hub data set of the training puzzles. Raises ArgumentError if
    those are of a file; `options` are those that name the test puzzles then.
    """
    if args.test_source is None and not is_hub_id(args.train_source):
        raise ArgumentError(f"no test puzzles: with --train-source {args.train_source} also give {options}")
    return args.test_source or args.train_source


def read_box_shape(text: str) -> tuple[int, int]:
    """The box shape that a text such as "3x2" names. Raises ArgumentError for any other text, or too large boxes."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and side.isascii() and len(side) < 4 for side in sides):
        raise ArgumentError(f"box_shape is {text!r}; allowed are rows x columns of a box, such as 3x2")
    try:
        return check_box_shape((int(sides[0]), int(sides[1])))
    except PuzzleError as error:
        raise ArgumentError(str(error)) from error


def box_shape_of(size: int, text: str | None) -> tuple[int, int]:
    """The box shape of puzzles of this size: that of `read_box_shape`; None: as square as can be, 8x8 has 2x4.

    Raises ArgumentError for a size without such boxes, and for boxes that do not fit it.
    """
    if not 2 <= size < len(SYMBOLS):
        raise ArgumentError(f"size is {size}; allowed are 2 to {len(SYMBOLS) - 1}")
    shapes = [(rows, size // rows) for rows in range(1, size + 1) if size % rows == 0]
    if text is not None:
        if (shape := read_box_shape(text)) not in shapes:
            allowed = ", ".join(f"{rows}x{cols}" for rows, cols in shapes)
            raise ArgumentError(f"box_shape is {text!r}; allowed for size {size}: {allowed}")
        return shape
    shape = max(shape for shape in shapes if shape[0] <= shape[1])
    if shape[0] == 1:
        raise ArgumentError(f"size is {size}, which has no boxes; box_shape 1x{size} asks for puzzles without")
    return shape


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
