"""Convert a folder of the original data builders into train.h5 and test.h5.

The folder holds train/ and test/ (one of them is enough), each with dataset.json and the arrays all__inputs.npy,
all__labels.npy, all__puzzle_identifiers.npy, all__puzzle_indices.npy and all__group_indices.npy, and beside the two
identifiers.json. The arrays are read as numbers: nothing in the files is executed.

Of an ARC frame the grid that it shows is stored: offsets are drawn anew whenever a batch is read. Puzzle identifiers
stay what they are, so that a checkpoint trained on the folder fits the files.
"""

import argparse
import time

from ..original.data_folders import TASKS, convert_published_folder
from .build_options import add_output_arguments, file_line, time_and_memory
from .command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input-dir", required=True, help="the folder, or a Hub data set owner/name with its files")
    add_output_arguments(parser)
    parser.add_argument("--task", choices=TASKS, required=True, help="what the puzzles are: the folder does not say")


def run(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    for info in convert_published_folder(args.input_dir, args.output_dir, args.task, args.overwrite):
        print(file_line(args.output_dir, info))
    print(time_and_memory(started))


COMMAND = Command(__doc__, add_arguments, run)
