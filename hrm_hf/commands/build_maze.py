"""Build maze data, OUTPUT_DIR/train.h5 and OUTPUT_DIR/test.h5, from CSV files, a Hub data set, or the generator.

A source is one of
  owner/name    a Hub data set with the files train.csv and test.csv (default: sapientinc/maze-30x30-hard-1k)
  FILE          a CSV file, plain or .gz, with the columns source,question,answer,rating; question and answer are
                height * width of the characters "# SGo" (wall, free, start, goal, path), square unless
                --height and --width say otherwise
  generate      (--train-source only) mazes made here, whose shortest way is long;
                see --size, --num-puzzles, --num-test, --min-steps, --min-wall-share, --max-wall-share

Where the test mazes come from: with a Hub train source, from the same data set; with a CSV file, from --test-source;
with the generator, --num-test mazes are generated, none equal to a training maze under a flip or rotation.

Every label must be a path from S to G. A maze mostly has very many shortest paths; the labels of the published data
set choose one by a rule (from S on, the first of Down, Left, Right, Up that is one step nearer to G), and generated
labels follow it too. How many labels are shortest and how many follow the rule is printed.
"""

import argparse
import sys
import time
from pathlib import Path

from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.data.build.build_report import file_line, peak_memory
from hrm_hf.data.build.maze_builder import MazeRows, build_maze, count_labels, generate_rows, read_csv
from hrm_hf.data.build.puzzle_csv import GENERATE, csv_file, is_hub_id
from hrm_hf.games.maze_generator import class_keys
from hrm_hf.hrm.errors import ArgumentError, HrmError

DEFAULT_SIZE, DEFAULT_NUM_TRAIN, DEFAULT_NUM_TEST, DEFAULT_WALL_SHARE = 8, 1000, 500, 0.3  # of generated mazes
DEFAULT_MAX_WALL_SHARE = 0.45


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code (2 after bad input, with one line on stderr)."""
    args = parse_arguments(arguments)
    started = time.perf_counter()
    skipped: list[str] | None = [] if args.skip_bad else None
    try:
        train, test = gather_rows(args, skipped)
        infos = build_maze(
            args.output_dir,
            train,
            test,
            augment=args.augment,
            subsample_size=args.subsample_size,
            seed=args.seed,
            overwrite=args.overwrite,
        )
    except (HrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for info, rows in zip(infos, (train, test), strict=True):
        print(file_line(Path(args.output_dir) / f"{info.split}.h5", info))
        shortest, by_rule = count_labels(rows)
        print(
            f"  labels of the {len(rows)} {info.split} mazes read: all are paths, {shortest} shortest ones, "
            f"{by_rule} follow the rule"
        )
    train_keys = set(class_keys(train.questions))
    shared = sum(key in train_keys for key in class_keys(test.questions))
    print(f"{shared} of {len(test)} test mazes equal a training maze under a flip or rotation")
    print(f"{time.perf_counter() - started:.1f} seconds, peak memory {peak_memory()}")
    if skipped is not None:
        print(f"{len(skipped)} bad rows left out{':' if skipped else ''}")
        for problem in skipped:
            print(f"  {problem}")
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", required=True, help="folder for train.h5 and test.h5")
    parser.add_argument("--train-source", default="sapientinc/maze-30x30-hard-1k", help="owner/name, FILE or generate")
    parser.add_argument("--test-source", help="owner/name or FILE; see above for the default")
    parser.add_argument("--subsample-size", type=int, help="draw this many training mazes (default: all)")
    parser.add_argument(
        "--augment",
        action="store_true",
        help="store each training maze in its 8 dihedral views (default: no). Flips and rotations break the rule by "
        "which the labels are chosen, so that the labels of the views contradict one another: exact matches become "
        "harder to learn",
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")
    parser.add_argument("--size", type=int, help="height and width in cells (generate: default 8)")
    parser.add_argument("--height", type=int, help="rows of a maze, together with --width")
    parser.add_argument("--width", type=int, help="columns of a maze, together with --height")
    parser.add_argument("--num-puzzles", type=int, help=f"generate: training mazes (default {DEFAULT_NUM_TRAIN})")
    parser.add_argument("--num-test", type=int, help=f"generate: test mazes (default {DEFAULT_NUM_TEST})")
    parser.add_argument(
        "--min-steps", type=int, help="generate: least steps from S to G (default: height + width - 4)"
    )
    parser.add_argument(
        "--min-wall-share", type=float, help=f"generate: least share of walls (default {DEFAULT_WALL_SHARE})"
    )
    parser.add_argument(
        "--max-wall-share", type=float, help=f"generate: largest share of walls (default {DEFAULT_MAX_WALL_SHARE})"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out rows that are no maze with a path, and list them at the end"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace train.h5 and test.h5 if they exist")
    return parser.parse_args(arguments)


def gather_rows(args: argparse.Namespace, skipped: list[str] | None) -> tuple[MazeRows, MazeRows]:
    """(train, test) from whatever the arguments name; bad rows go to `skipped` if it is a list."""
    if args.seed < 0:
        raise ArgumentError(f"--seed is {args.seed}, allowed are 0 and above")
    grid_shape = wanted_shape(args)
    if args.train_source == GENERATE:
        return generated_rows(args, grid_shape)
    for name in ("num_puzzles", "num_test", "min_steps", "min_wall_share", "max_wall_share"):
        if getattr(args, name) is not None:
            raise ArgumentError(f"--{name.replace('_', '-')} belongs to --train-source {GENERATE}")
    test_source = args.test_source
    if test_source is None:
        if not is_hub_id(args.train_source):
            raise ArgumentError(f"no test mazes: beside --train-source {args.train_source} give --test-source")
        test_source = args.train_source
    sources = ((args.train_source, "train"), (test_source, "test"))
    train, test = (read_csv(csv_file(source, split), grid_shape, skipped) for source, split in sources)
    return train, test


def wanted_shape(args: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width) as the arguments say, None if they do not."""
    if args.size is not None:
        if args.height is not None or args.width is not None:
            raise ArgumentError("--size and --height with --width exclude each other")
        return args.size, args.size
    if (args.height is None) != (args.width is None):
        raise ArgumentError("--height and --width belong together")
    return None if args.height is None else (args.height, args.width)


def generated_rows(args: argparse.Namespace, grid_shape: tuple[int, int] | None) -> tuple[MazeRows, MazeRows]:
    """Mazes of the generator, no two of them equal under a symmetry, so that any split of them is fair."""
    if args.test_source is not None:
        raise ArgumentError(f"--test-source does not go with --train-source {GENERATE}: give --num-test")
    if args.skip_bad:
        raise ArgumentError(f"--skip-bad does not go with --train-source {GENERATE}, which makes no bad mazes")
    return generate_rows(
        DEFAULT_NUM_TRAIN if args.num_puzzles is None else args.num_puzzles,
        DEFAULT_NUM_TEST if args.num_test is None else args.num_test,
        (DEFAULT_SIZE, DEFAULT_SIZE) if grid_shape is None else grid_shape,
        args.min_steps,
        DEFAULT_WALL_SHARE if args.min_wall_share is None else args.min_wall_share,
        args.seed,
        DEFAULT_MAX_WALL_SHARE if args.max_wall_share is None else args.max_wall_share,
    )


if __name__ == "__main__":
    sys.exit(main())
