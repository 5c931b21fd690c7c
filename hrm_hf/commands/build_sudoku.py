"""Build Sudoku files, train.h5 and test.h5, from tables, a Hub data set or the generator.

A source is one of
  owner/name    a Hub data set with the files train.csv and test.csv (default: sapientinc/sudoku-extreme)
  FILE          a table: CSV, TSV or ';', with or without header, JSON lines, Parquet, or one puzzle per line (.sdm);
                also in .gz or .zip
  generate      (--train-source only) puzzles made here, each with exactly one solution;
                see --size, --box-shape, --num-puzzles, --max-givens

Columns are found by common names in any case (quizzes, puzzle, question, sudoku, board, input; solutions, solution,
answer, output; rating) or named by --question-column, --answer-column and --rating-column; a number counts columns
from 1. Only questions are needed: answers that are missing are found by an exact search.

Where the test puzzles come from: with a Hub train source, from the same data set; with a file, from --test-source,
or with --num-test N or --test-fraction F from the file itself, never splitting puzzles that are equal under a Sudoku
symmetry; with the generator, --num-test N puzzles are generated, none equal to a training puzzle under a symmetry.
"""

import argparse
import time
from pathlib import Path

from ..data.build.puzzle_rows import check_variants, subsampled, without_leaks
from ..data.build.puzzle_table import Columns, table_file
from ..data.build.sudoku_builder import (
    SudokuRows,
    build_sudoku,
    difficult,
    generate_rows,
    hold_out,
    puzzle_keys,
    read_table,
    with_one_solution,
)
from ..files import refuse_existing
from ..hrm.errors import ArgumentError
from .build_options import (
    add_shared_arguments,
    box_shape_of,
    columns_of,
    file_line,
    generator_options,
    read_box_shape,
    test_source,
    time_and_memory,
)
from .command import Command

SEARCH_STEPS = 500_000  # of each split, about a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_arguments(parser, "sapientinc/sudoku-extreme", "puzzles")
    add = parser.add_argument
    add("--num-test", type=int, help="hold out (or generate) this many test puzzles")
    add("--test-fraction", type=float, help="hold out this part of the train source, 0 to 1")
    add("--num-aug", type=int, default=0, help="augmented variants per training puzzle (default 0)")
    add("--min-difficulty", type=float, default=0, help="keep rows rated at least N, both splits (default 0: all)")
    add("--several-solutions", choices=["refuse", "drop", "keep"], help=SEVERAL)
    add("--size", type=int, help="generate: n of n x n (default 4)")
    add("--box-shape", metavar="RxC", help="rows x columns of a box, such as 4x4 (default: the usual one)")
    add("--max-givens", type=int, help="generate: at most this many givens per puzzle (default: any)")


SEVERAL = (
    "if a puzzle has several solutions: refuse, drop it, or keep it with one of them. Without this option they are "
    "refused, but of many hard puzzles with answers not all are searched for a second one, as that takes minutes; how "
    "many is printed"
)


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    if not args.overwrite:
        refuse_existing(*(args.output_dir / name for name in ("train.h5", "test.h5")))
    train, test = (difficult(rows, args.min_difficulty) for rows in gather_rows(args))
    several, max_steps = args.several_solutions or "refuse", None if args.several_solutions else SEARCH_STEPS
    if several != "drop":  # else as many as asked for are drawn from those that remain
        train = subsampled(train, args.subsample_size, args.seed)
    train, found = with_one_solution(train, several, max_steps)
    print(f"train: {found}")
    if several == "drop":
        train = subsampled(train, args.subsample_size, args.seed)
    test, found = with_one_solution(test, several, max_steps)
    print(f"test: {found}")
    if train.box_shape == test.box_shape:  # else the builder refuses them
        test, found = without_leaks(train, test, puzzle_keys, args.leaks)
        print(found)
    how = {name: getattr(args, name) for name in ("num_aug", "seed", "overwrite")}
    for info in build_sudoku(args.output_dir, train, test, **how):
        print(file_line(args.output_dir, info))
    print(time_and_memory(started))


def gather_rows(args: argparse.Namespace) -> tuple[SudokuRows, SudokuRows]:
    """(train, test) from whatever the arguments name; no two generated puzzles are equal under a symmetry."""
    defaults = {"size": 4, "num_puzzles": 1000, "max_givens": None}
    options = generator_options(args, defaults, ("test_fraction", "several_solutions"))
    check_variants(args.num_aug, args.seed)
    if options is not None:
        num_test = 500 if args.num_test is None else args.num_test
        boxes_alone = args.size is None and args.box_shape is not None
        box_shape = read_box_shape(args.box_shape) if boxes_alone else box_shape_of(options["size"], args.box_shape)
        return generate_rows(options["num_puzzles"], num_test, box_shape, options["max_givens"], args.seed)
    ways = ("test_source", "num_test", "test_fraction")
    given = [f"--{name.replace('_', '-')}" for name in ways if getattr(args, name) is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)} exclude each other")
    if args.test_fraction is not None and not 0 < args.test_fraction < 1:
        raise ArgumentError(f"--test-fraction is {args.test_fraction}; it must be between 0 and 1")
    holds_out = args.num_test is not None or args.test_fraction is not None
    source = None if holds_out else test_source(args, "--test-source, --num-test or --test-fraction")
    box_shape = None if args.box_shape is None else read_box_shape(args.box_shape)
    columns = columns_of(args)
    train = read(table_file(args.train_source, "train"), box_shape, columns)
    if source is not None:
        return train, read(table_file(source, "test"), box_shape, columns)
    train = difficult(train, args.min_difficulty)  # before holding out, so that as many test puzzles remain as asked
    num_test = args.num_test if args.num_test is not None else round(args.test_fraction * len(train))
    return hold_out(train, num_test, args.seed)


def read(path: Path, box_shape: tuple[int, int] | None, columns: Columns) -> SudokuRows:
    """The puzzles of a table; prints which columns were taken."""
    notes: list[str] = []
    rows = read_table(path, box_shape, columns, notes)
    print(*notes, sep="\n")
    return rows


COMMAND = Command(__doc__, add_arguments, run)
