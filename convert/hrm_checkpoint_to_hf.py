"""Converts a checkpoint of the published HRM training code into a folder for `from_pretrained`.

    python convert/hrm_checkpoint_to_hf.py --checkpoint FILE --config all_config.yaml --output-dir DIR \
        [--seq-len S | --task sudoku|maze|arc] [--compute-dtype float32|bfloat16] [--identifiers identifiers.json]

Writes config.json and model.safetensors, and where the task is known the processor; for ARC the names of the puzzle
table's rows too, from the identifiers.json of the published data folder. All is read and checked before the folder is
made. Bad input ends with one line on stderr and exit code 2.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_hf import HrmProcessor
from hrm_hf.errors import ArgumentError, DataError, HrmError
from hrm_hf.published_checkpoint import (
    PUBLISHED_TASKS,
    find_cells,
    model_from_published,
    read_published_config,
    read_published_state_dict,
)
from hrm_hf.puzzle_identifiers import PuzzleIdentifiers


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="state dict: torch.save or .safetensors")
    parser.add_argument("--config", type=Path, required=True, help="the all_config.yaml beside it")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to make; must be empty or new")
    cells = parser.add_mutually_exclusive_group()
    cells.add_argument("--seq-len", type=int, help="cells of a puzzle, where neither shapes nor data_path tell")
    cells.add_argument("--task", choices=tuple(PUBLISHED_TASKS), help="the same, by the name of the task")
    parser.add_argument("--compute-dtype", choices=("float32", "bfloat16"), help="default: as published")
    parser.add_argument("--identifiers", type=Path, help="identifiers.json: names of the puzzle table's rows")
    return parser.parse_args(argv)


def convert(arguments: argparse.Namespace) -> None:
    """Reads, checks and writes; says on stdout what was found.

    Raises:
        CheckpointError, ArgumentError: bad input; nothing has been written then.
    """
    output_dir = arguments.output_dir
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ArgumentError(f"--output-dir {output_dir} exists and is not an empty folder; name a new one")
    published = read_published_config(arguments.config)
    state_dict = read_published_state_dict(arguments.checkpoint)
    cells = find_cells(published, state_dict, arguments.seq_len, arguments.task)
    model = model_from_published(published, state_dict, cells.seq_len, arguments.compute_dtype)

    config = model.config
    identifiers = None if arguments.identifiers is None else read_identifiers(arguments.identifiers)
    if identifiers is not None and len(identifiers) != config.num_puzzle_identifiers:
        raise DataError(
            f"{arguments.identifiers} has {len(identifiers)} names, "
            f"the puzzle table {config.num_puzzle_identifiers} rows"
        )
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


def read_identifiers(path: Path) -> PuzzleIdentifiers:
    """The names in a published identifiers.json, a list in the order of the table's rows.

    Raises:
        DataError: a file that is missing or holds something else.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} must hold a list of names")
    return PuzzleIdentifiers(names)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        convert(parse_arguments(argv))
    except (HrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
