"""Build Sudoku files, train.h5 and test.h5, from CSV files, a Hub data set or the generator.

A source is one of
  owner/name    a Hub data set with the files train.csv and test.csv (default: sapientinc/sudoku-extreme)
  FILE          a CSV file, plain or .gz, with the columns source,question,answer,rating
  generate      (--train-source only) puzzles made here, each with exactly one solution;
                see --size, --num-puzzles, --max-givens

Where the test puzzles come from: with a Hub train source, from the same data set; with a CSV file, from --test-source,
or with --num-test N or --test-fraction F from the file itself, never splitting puzzles that are equal under a Sudoku
symmetry; with the generator, --num-test N puzzles are generated, none equal to a training puzzle under a symmetry.
"""

import argparse
import time

from ..data.build.puzzle_csv import csv_file
from ..data.build.sudoku_builder import SudokuRows, build_sudoku, generate_rows, hold_out, read_csv
from ..hrm.errors import ArgumentError
from ..hrm.sudoku import BOX_SHAPE_OF_SIZE
from .build_options import add_shared_arguments, file_line, generator_options, test_source, time_and_memory
from .command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser, "sapientinc/sudoku-extreme", "puzzles")
    add = parser.add_argument
    add("--num-test", type=int, help="hold out (or generate) this many test puzzles")
    add("--test-fraction", type=float, help="hold out this part of the train source, 0 to 1")
    add("--num-aug", type=int, default=0, help="augmented variants per training puzzle (default 0)")
    add("--min-difficulty", type=int, default=0, help="keep rows rated at least N, both splits (default 0: all)")
    add("--size", type=int, choices=sorted(BOX_SHAPE_OF_SIZE), help="generate: n of n x n (default 4)")
    add("--max-givens", type=int, help="generate: at most this many givens per puzzle (default: any)")


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    names = ("num_aug", "subsample_size", "min_difficulty", "seed", "overwrite")
    infos = build_sudoku(args.output_dir, *gather_rows(args), **{name: getattr(args, name) for name in names})
    for info in infos:
        print(file_line(args.output_dir, info))
    print(time_and_memory(started))


def gather_rows(args: argparse.Namespace) -> tuple[SudokuRows, SudokuRows]:
    """(train, test) from whatever the arguments name; no two generated puzzles are equal under a symmetry."""
    defaults = {"size": 4, "num_puzzles": 1000, "max_givens": None}
    options = generator_options(args, defaults, ("test_source", "test_fraction"))
    if options is not None:
        num_test = 500 if args.num_test is None else args.num_test
        box_shape = BOX_SHAPE_OF_SIZE[options["size"]]
        return generate_rows(options["num_puzzles"], num_test, box_shape, options["max_givens"], args.seed)
    ways = ("test_source", "num_test", "test_fraction")
    given = [f"--{name.replace('_', '-')}" for name in ways if getattr(args, name) is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)} exclude each other")
    if args.test_fraction is not None and not 0 < args.test_fraction < 1:
        raise ArgumentError(f"--test-fraction is {args.test_fraction}; it must be between 0 and 1")
    holds_out = args.num_test is not None or args.test_fraction is not None
    source = None if holds_out else test_source(args, "--test-source, --num-test or --test-fraction")
    train = read_csv(csv_file(args.train_source, "train"))
    if source is not None:
        return train, read_csv(csv_file(source, "test"))
    if args.min_difficulty > 0:  # before holding out, so that as many test puzzles as asked for remain
        train = train.select(train.ratings >= args.min_difficulty)
    num_test = args.num_test if args.num_test is not None else round(args.test_fraction * len(train))
    return hold_out(train, num_test, args.seed)


COMMAND = Command(__doc__, add_arguments, run)
