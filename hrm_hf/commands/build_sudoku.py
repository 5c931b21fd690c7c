"""Build Sudoku data, OUTPUT_DIR/train.h5 and OUTPUT_DIR/test.h5, from CSV files, a Hub data set, or the generator.

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
import sys
import time
from pathlib import Path

from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.data.build.build_report import file_line, peak_memory
from hrm_hf.data.build.puzzle_csv import GENERATE, csv_file, is_hub_id
from hrm_hf.data.build.sudoku_builder import SudokuRows, build_sudoku, generate_rows, hold_out, read_csv
from hrm_hf.hrm.errors import ArgumentError, HrmError
from hrm_hf.hrm.sudoku import BOX_SHAPE_OF_SIZE

DEFAULT_NUM_TEST = 500  # of generated puzzles


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code (2 after bad input, with one line on stderr)."""
    args = parse_arguments(arguments)
    started = time.perf_counter()
    try:
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
    except (HrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for info in infos:
        print(file_line(Path(args.output_dir) / f"{info.split}.h5", info))
    print(f"{time.perf_counter() - started:.1f} seconds, peak memory {peak_memory()}")
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", required=True, help="folder for train.h5 and test.h5")
    parser.add_argument("--train-source", default="sapientinc/sudoku-extreme", help="owner/name, FILE or generate")
    parser.add_argument("--test-source", help="owner/name or FILE; see above for the default")
    parser.add_argument("--num-test", type=int, help="hold out (or generate) this many test puzzles")
    parser.add_argument("--test-fraction", type=float, help="hold out this part of the train source, 0 to 1")
    parser.add_argument("--subsample-size", type=int, help="draw this many training puzzles (default: all)")
    parser.add_argument("--num-aug", type=int, default=0, help="augmented variants per training puzzle (default 0)")
    parser.add_argument(
        "--min-difficulty", type=int, default=0, help="keep rows rated at least N, both splits (default 0: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")
    parser.add_argument("--size", type=int, choices=sorted(BOX_SHAPE_OF_SIZE), help="generate: n of n x n (default 4)")
    parser.add_argument("--num-puzzles", type=int, help="generate: training puzzles (default 1000)")
    parser.add_argument("--max-givens", type=int, help="generate: at most this many givens per puzzle (default: any)")
    parser.add_argument("--overwrite", action="store_true", help="replace train.h5 and test.h5 if they exist")
    return parser.parse_args(arguments)


def gather_rows(args: argparse.Namespace) -> tuple[SudokuRows, SudokuRows]:
    """(train, test) from whatever the arguments name."""
    if args.seed < 0:
        raise ArgumentError(f"--seed is {args.seed}, allowed are 0 and above")
    if args.train_source == GENERATE:
        return generated_rows(args)
    for name in ("size", "num_puzzles", "max_givens"):
        if getattr(args, name) is not None:
            raise ArgumentError(f"--{name.replace('_', '-')} belongs to --train-source {GENERATE}")
    holds_out = args.num_test is not None or args.test_fraction is not None
    if args.num_test is not None and args.test_fraction is not None:
        raise ArgumentError("--num-test and --test-fraction exclude each other")
    if holds_out and args.test_source is not None:
        raise ArgumentError("--test-source and --num-test or --test-fraction exclude each other")
    test_source = args.test_source
    if test_source is None and not holds_out:
        if not is_hub_id(args.train_source):
            raise ArgumentError(
                f"no test puzzles: beside --train-source {args.train_source} "
                "give --test-source, --num-test or --test-fraction"
            )
        test_source = args.train_source
    train = read_csv(csv_file(args.train_source, "train"))
    if not holds_out:
        return train, read_csv(csv_file(test_source, "test"))
    if args.min_difficulty > 0:  # before holding out, so that as many test puzzles as asked for remain
        train = train.select(train.ratings >= args.min_difficulty)
    if args.test_fraction is not None and not 0 < args.test_fraction < 1:
        raise ArgumentError(f"--test-fraction is {args.test_fraction}, allowed is between 0 and 1")
    num_test = args.num_test if args.num_test is not None else round(args.test_fraction * len(train))
    return hold_out(train, num_test, args.seed)


def generated_rows(args: argparse.Namespace) -> tuple[SudokuRows, SudokuRows]:
    """Puzzles of the generator, no two of them equal under a symmetry, so that any split of them is fair."""
    for name in ("test_source", "test_fraction"):
        if getattr(args, name) is not None:
            raise ArgumentError(
                f"--{name.replace('_', '-')} does not go with --train-source {GENERATE}: give --num-test"
            )
    num_train = 1000 if args.num_puzzles is None else args.num_puzzles
    num_test = DEFAULT_NUM_TEST if args.num_test is None else args.num_test
    box_shape = BOX_SHAPE_OF_SIZE[4 if args.size is None else args.size]
    return generate_rows(num_train, num_test, box_shape, args.max_givens, args.seed)


if __name__ == "__main__":
    sys.exit(main())
