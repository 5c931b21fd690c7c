"""Converts a folder of the published data builders into OUTPUT_DIR/train.h5 and OUTPUT_DIR/test.h5.

    python convert/hrm_data_to_hdf5.py --input-dir DIR_OR_HUB_ID --output-dir DIR --task sudoku|maze|arc

The folder holds train/ and test/ (one of them is enough), each with dataset.json and the arrays all__inputs.npy,
all__labels.npy, all__puzzle_identifiers.npy, all__puzzle_indices.npy and all__group_indices.npy, and beside the two
identifiers.json. The arrays are read as numbers: nothing in the files is executed.

Sudokus and mazes are stored value for value. ARC frames are stored as the grids that they show: the random offsets of
training frames are left out, since they are drawn anew whenever a batch is read. Identifiers stay what they are, so
that a checkpoint trained on the folder fits the files. Bad input ends with one line on stderr and exit code 2.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.data.build.build_report import peak_memory
from hrm_hf.hrm.errors import HrmError
from hrm_hf.original.data_folders import TASKS, convert_published_folder


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input-dir", required=True, help="the folder, or a Hub data set owner/name with its files")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for train.h5 and test.h5")
    parser.add_argument("--task", choices=TASKS, required=True, help="what the puzzles are: the folder does not say")
    parser.add_argument("--overwrite", action="store_true", help="replace train.h5 and test.h5 if they exist")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        infos = convert_published_folder(
            arguments.input_dir, arguments.output_dir, arguments.task, arguments.overwrite
        )
    except (HrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for info in infos:
        path = arguments.output_dir / f"{info.split}.h5"
        print(
            f"{path}: {info.num_groups} groups, {info.num_puzzles} puzzles, {info.num_rows} rows, "
            f"{info.num_puzzle_identifiers} identifiers, {path.stat().st_size} bytes"
        )
    print(f"peak memory {peak_memory()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
