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

from ..data.build.puzzle_csv import GENERATE, csv_file
from ..data.build.sudoku_builder import SudokuRows, build_sudoku, generate_rows, hold_out, read_csv
from ..hrm.errors import ArgumentError
from ..hrm.sudoku import BOX_SHAPE_OF_SIZE
from .build_options import add_shared_arguments, check_options, chosen, file_line, test_source, time_and_memory
from .command import Command

GENERATOR_DEFAULTS = {"size": 4, "num_puzzles": 1000, "num_test": 500, "max_givens": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser, "sapientinc/sudoku-extreme", "puzzles")
    parser.add_argument("--num-test", type=int, help="hold out (or generate) this many test puzzles")
    parser.add_argument("--test-fraction", type=float, help="hold out this part of the train source, 0 to 1")
    parser.add_argument("--num-aug", type=int, default=0, help="augmented variants per training puzzle (default 0)")
    parser.add_argument(
        "--min-difficulty", type=int, default=0, help="keep rows rated at least N, both splits (default 0: all)"
    )
    parser.add_argument("--size", type=int, choices=sorted(BOX_SHAPE_OF_SIZE), help="generate: n of n x n (default 4)")
    parser.add_argument("--num-puzzles", type=int, help="generate: training puzzles (default 1000)")
    parser.add_argument("--max-givens", type=int, help="generate: at most this many givens per puzzle (default: any)")


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    train, test = gather_rows(args)
    infos = build_sudoku(
        args.output_dir,
        train,
        test,
        num_aug=args.num_aug,
        subsample_size=args.subsample_size,
        min_difficulty=args.min_difficulty,
        seed=args.seed,
        overwrite=args.overwrite,
    )
    for info in infos:
        print(file_line(args.output_dir / f"{info.split}.h5", info))
    print(time_and_memory(started))


def gather_rows(args: argparse.Namespace) -> tuple[SudokuRows, SudokuRows]:
    """(train, test) from whatever the arguments name; no two generated puzzles are equal under a symmetry."""
    check_options(args, ("size", "num_puzzles", "max_givens"), ("test_source", "test_fraction"))
    if args.train_source == GENERATE:
        options = chosen(args, GENERATOR_DEFAULTS)
        box_shape = BOX_SHAPE_OF_SIZE[options["size"]]
        return generate_rows(options["num_puzzles"], options["num_test"], box_shape, options["max_givens"], args.seed)
    ways = {"--test-source": args.test_source, "--num-test": args.num_test, "--test-fraction": args.test_fraction}
    given = [option for option, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)} exclude each other")
    if args.test_fraction is not None and not 0 < args.test_fraction < 1:
        raise ArgumentError(f"--test-fraction is {args.test_fraction}; it must be between 0 and 1")
    holds_out = args.num_test is not None or args.test_fraction is not None
    source = None if holds_out else test_source(args, "--test-source, --num-test or --test-fraction")
    train = read_csv(csv_file(args.train_source, "train"))
    if not holds_out:
        return train, read_csv(csv_file(source, "test"))
    if args.min_difficulty > 0:  # before holding out, so that as many test puzzles as asked for remain
        train = train.select(train.ratings >= args.min_difficulty)
    num_test = args.num_test if args.num_test is not None else round(args.test_fraction * len(train))
    return hold_out(train, num_test, args.seed)


COMMAND = Command(__doc__, add_arguments, run)
