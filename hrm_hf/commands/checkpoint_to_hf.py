"""Convert a checkpoint of the original HRM or TRM code into a folder for `from_pretrained`.

Writes config.json and model.safetensors, and where the task is known the processor; for ARC the names of the puzzle
table's rows too, from the identifiers.json of the original data folder. All is read and checked before the folder is
made. Nothing in the files is executed.
"""

import argparse
import math
from pathlib import Path

from ..hrm.configuration_hrm import COMPUTE_DTYPES
from ..hrm.errors import ArgumentError, DataError
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import PuzzleIdentifiers
from ..original import checkpoints, find_files
from ..original.checkpoints import FAMILIES, NESTED_NAMES, PUBLISHED_TASKS
from .command import Command, refuse_used_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    state_dict = "state dict (torch.save or .safetensors), or a folder or owner/name on the Hub that holds one as "
    add("--checkpoint", required=True, help=state_dict + "`checkpoint` or `step_<number>`")
    add("--filename", help="which file of the folder or Hub repository it is")
    add("--config", type=Path, help="its all_config.yaml (default: the one beside it)")
    add("--output-dir", type=Path, required=True, help="folder to make; must be empty or new")
    add(
        "--family", choices=tuple(FAMILIES), help="whose checkpoint it is (default: as arch.name in its settings says)"
    )
    default = f"the file itself, or its {', '.join(NESTED_NAMES[:-1])} or {NESTED_NAMES[-1]}"
    add("--key", help=f"entry that holds the state dict, such as ema or model.state_dict (default: {default})")
    cells = parser.add_mutually_exclusive_group()
    cells.add_argument("--seq-len", type=int, help="cells of a puzzle, where neither shapes nor data_path tell")
    cells.add_argument("--task", choices=tuple(PUBLISHED_TASKS), help="the same, by the name of the task")
    dtype = "dtype of the activations (default: the original one, with which the way back is exact)"
    add("--compute-dtype", choices=COMPUTE_DTYPES, help=dtype)
    add("--identifiers", type=Path, help="names of the puzzle table's rows (default: identifiers.json beside it)")


def run(args: argparse.Namespace) -> None:
    refuse_used_folder(args.output_dir)
    checkpoint = find_files.find_checkpoint(args.checkpoint, args.filename)
    published = checkpoints.read_published_config(args.config or find_files.find_settings(args.checkpoint))
    state_dict = checkpoints.read_published_state_dict(checkpoint, args.key)
    cells = checkpoints.find_cells(published, state_dict, args.seq_len, args.task, args.family)
    if args.identifiers is not None and cells.task is None:
        raise ArgumentError("--identifiers needs a known task, for the names go with its processor: give --task")
    model = checkpoints.model_from_published(published, state_dict, cells.seq_len, args.compute_dtype, args.family)
    config = model.config
    names_file = args.identifiers or find_files.find_file(args.checkpoint, find_files.IDENTIFIERS_FILE)
    identifiers = None if names_file is None else PuzzleIdentifiers(find_files.read_identifier_names(names_file))
    if identifiers is not None and len(identifiers) != config.num_puzzle_identifiers:
        rows = config.num_puzzle_identifiers
        raise DataError(f"{names_file} has {len(identifiers)} names, the puzzle table {rows} rows")
    print(f"checkpoint: {checkpoint}\ncells: {cells.seq_len} (from {cells.source})")
    print(f"vocabulary: {config.vocab_size}, puzzle identifiers: {config.num_puzzle_identifiers} (from the shapes)")
    print(f"weights: float32, activations: {config.compute_dtype}")
    model.save_pretrained(args.output_dir)
    if cells.task is not None:
        side = math.isqrt(cells.seq_len)  # every original puzzle is square
        processor = HrmProcessor(task=cells.task, grid_shape=(side, side), puzzle_identifiers=identifiers)
        processor.save_pretrained(args.output_dir)
    else:
        print("no processor written: the task is not known; puzzles go in as cell codes")
    print(f"written: {args.output_dir}")


COMMAND = Command(__doc__, add_arguments, run)
