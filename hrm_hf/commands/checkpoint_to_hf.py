"""Converts a checkpoint of the published HRM training code into a folder for `from_pretrained`.

    python convert/hrm_checkpoint_to_hf.py --checkpoint FILE_OR_DIR_OR_HUB_ID --output-dir DIR \
        [--config all_config.yaml] [--filename NAME] [--seq-len S | --task sudoku|maze|arc] \
        [--compute-dtype float32|bfloat16] [--identifiers identifiers.json]

Writes config.json and model.safetensors, and where the task is known the processor; for ARC the names of the puzzle
table's rows too, from the identifiers.json of the published data folder. All is read and checked before the folder is
made. Nothing in the files is executed. Bad input ends with one line on stderr and exit code 2.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_hf import HrmProcessor
from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.hrm.errors import ArgumentError, DataError, HrmError
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers
from hrm_hf.hrm.shown_value import one_line
from hrm_hf.original.checkpoints import (
    PUBLISHED_TASKS,
    find_cells,
    model_from_published,
    read_published_config,
    read_published_state_dict,
)
from hrm_hf.original.find_files import find_checkpoint, find_identifiers, find_settings, read_identifier_names


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="state dict (torch.save or .safetensors); or a folder or owner/name on the Hub that holds one as "
        "`checkpoint` or `step_<number>`",
    )
    parser.add_argument("--filename", help="which file of the folder or Hub repository it is")
    parser.add_argument("--config", type=Path, help="its all_config.yaml (default: the one beside it)")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to make; must be empty or new")
    cells = parser.add_mutually_exclusive_group()
    cells.add_argument("--seq-len", type=int, help="cells of a puzzle, where neither shapes nor data_path tell")
    cells.add_argument("--task", choices=tuple(PUBLISHED_TASKS), help="the same, by the name of the task")
    parser.add_argument(
        "--compute-dtype",
        choices=("float32", "bfloat16"),
        help="default: as published, which is also what the way back needs to be exact",
    )
    parser.add_argument(
        "--identifiers",
        type=Path,
        help="identifiers.json: names of the puzzle table's rows (default: that beside --checkpoint, if any)",
    )
    return parser.parse_args(argv)


def convert(arguments: argparse.Namespace) -> None:
    """Reads, checks and writes; says on stdout what was found.

    Raises:
        CheckpointError, ArgumentError, DataError, PuzzleError: bad input; nothing has been written then.
    """
    output_dir = arguments.output_dir
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ArgumentError(f"--output-dir {output_dir} exists and is not an empty folder; name a new one")
    checkpoint = find_checkpoint(arguments.checkpoint, arguments.filename)
    published = read_published_config(arguments.config or find_settings(arguments.checkpoint))
    state_dict = read_published_state_dict(checkpoint)
    cells = find_cells(published, state_dict, arguments.seq_len, arguments.task)
    model = model_from_published(published, state_dict, cells.seq_len, arguments.compute_dtype)

    config = model.config
    names_file = arguments.identifiers or find_identifiers(arguments.checkpoint)
    identifiers = None if names_file is None else PuzzleIdentifiers(read_identifier_names(names_file))
    if identifiers is not None and len(identifiers) != config.num_puzzle_identifiers:
        raise DataError(
            f"{names_file} has {len(identifiers)} names, the puzzle table {config.num_puzzle_identifiers} rows"
        )
    print(f"checkpoint: {checkpoint}")
    print(f"cells: {cells.seq_len} (from {cells.source})")
    print(f"vocabulary: {config.vocab_size}, puzzle identifiers: {config.num_puzzle_identifiers} (from the shapes)")
    print(f"weights: float32, activations: {config.compute_dtype}")
    model.save_pretrained(output_dir)
    if cells.task is not None:
        side = math.isqrt(cells.seq_len)  # every published puzzle is square
        processor = HrmProcessor(task=cells.task, grid_shape=(side, side), puzzle_identifiers=identifiers)
        processor.save_pretrained(output_dir)
    else:
        print("no processor written: the task is not known; puzzles go in as cell codes")
    print(f"written: {output_dir}")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        convert(parse_arguments(argv))
    except (HrmError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
