"""Build maze files, train.h5 and test.h5, from tables, a Hub data set or the generator.

A source is one of
  owner/name    a Hub data set with the files train.csv and test.csv (default: sapientinc/maze-30x30-hard-1k)
  FILE          a table with a header: CSV, TSV or ';', JSON lines or Parquet, also in .gz or .zip, with a column
                question (or maze, puzzle, input) and, unless answers shall follow the rule below, answer (or
                solution, output), or those that --question-column and --answer-column name. A maze is height *
                width of the characters "# SGo" (wall, free, start, goal, path) or of numbers, square unless
                --height and --width say otherwise
  generate      (--train-source only) mazes made here, whose shortest way is long;
                see --size, --num-puzzles, --num-test, --min-steps, --min-wall-share, --max-wall-share

Where the test mazes come from: with a Hub train source, from the same data set; with a file, from --test-source;
with the generator, --num-test mazes are generated, none equal to a training maze under a flip or rotation.

Every label must be a path from S to G. Of many shortest paths the published labels choose one by a rule (from S on,
the first of Down, Left, Right, Up that is one step nearer to G), and so do generated labels. The command prints how
many labels are shortest paths and how many follow the rule.
"""

import argparse
import time

from ..data.build.maze_builder import build_maze, count_labels, generate_rows, read_table
from ..data.build.puzzle_rows import PuzzleRows, subsampled, without_leaks
from ..data.build.puzzle_table import table_file
from ..games.maze_generator import class_keys
from ..hrm.errors import ArgumentError
from .build_options import (
    add_shared_arguments,
    columns_of,
    file_line,
    generator_options,
    print_list,
    test_source,
    time_and_memory,
)
from .command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser, "sapientinc/maze-30x30-hard-1k", "mazes")
    add = parser.add_argument
    add(
        "--augment",
        action="store_true",
        help="store each training maze in its 8 dihedral views. Flips and rotations break the rule by which the "
        "labels are chosen: the labels of the views contradict one another, and exact matches become harder to learn",
    )
    add("--size", type=int, help="height and width in cells (generate: default 8)")
    add("--height", type=int, help="rows of a maze, together with --width")
    add("--width", type=int, help="columns of a maze, together with --height")
    add("--wall", type=int, choices=[0, 1], help="the wall in mazes of numbers (default: what joins S and G is free)")
    add("--num-test", type=int, help="generate: test mazes (default 500)")
    add("--min-steps", type=int, help="generate: least steps from S to G (default: height + width - 4)")
    add("--min-wall-share", type=float, help="generate: least share of walls (default 0.3)")
    add("--max-wall-share", type=float, help="generate: largest share of walls (default 0.45)")
    add("--skip-bad", action="store_true", help="leave out rows that are no maze with a path; list them at the end")


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    skipped: list[str] | None = [] if args.skip_bad else None
    train, test = gather_rows(args, skipped)
    train = subsampled(train, args.subsample_size, args.seed)
    if train.grid_shape == test.grid_shape:  # else the builder refuses them
        test, found = without_leaks(train, test, lambda rows: class_keys(rows.questions), args.leaks)
        print(found)
    names = ("augment", "seed", "overwrite")
    infos = build_maze(args.output_dir, train, test, **{name: getattr(args, name) for name in names})
    for info, rows in zip(infos, (train, test), strict=True):
        print(file_line(args.output_dir, info))
        shortest, by_rule = count_labels(rows)
        rule = f"all are paths, {shortest} shortest ones, {by_rule} follow the rule"
        print(f"  labels of the {len(rows)} {info.split} mazes read: {rule}")
    print(time_and_memory(started))
    if skipped is not None:
        print_list(skipped, "bad rows left out")


def gather_rows(args: argparse.Namespace, skipped: list[str] | None) -> tuple[PuzzleRows, PuzzleRows]:
    """(train, test) from whatever the arguments name; bad rows go to `skipped` if it is a list. No two generated mazes
    are equal under a symmetry.
    """
    defaults = {"num_puzzles": 1000, "num_test": 500, "min_steps": None, "min_wall_share": 0.3, "max_wall_share": 0.45}
    options = generator_options(args, defaults, ("skip_bad", "wall"))
    sides = args.height, args.width
    if args.size is not None and sides != (None, None):
        raise ArgumentError("--size and --height with --width exclude each other")
    if (args.height is None) != (args.width is None):
        raise ArgumentError("--height and --width belong together")
    if None in sides:
        sides = None if args.size is None else (args.size, args.size)
    if options is not None:
        numbers = options.pop("num_puzzles"), options.pop("num_test")
        return generate_rows(*numbers, sides or (8, 8), seed=args.seed, **options)
    sources = ((args.train_source, "train"), (test_source(args), "test"))
    how = {
        "grid_shape": sides,
        "skipped": skipped,
        "columns": columns_of(args),
        "notes": (notes := []),
        "wall": args.wall,
    }
    train, test = (read_table(table_file(source, split), **how) for source, split in sources)
    print(*notes, sep="\n")
    return train, test


COMMAND = Command(__doc__, add_arguments, run)
