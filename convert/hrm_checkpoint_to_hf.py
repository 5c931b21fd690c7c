"""Converts a checkpoint of the published HRM training code into a folder for `from_pretrained`.

    python convert/hrm_checkpoint_to_hf.py --checkpoint FILE --config all_config.yaml --output-dir DIR \
        [--seq-len S | --task sudoku|maze|arc] [--compute-dtype float32|bfloat16]

Writes config.json and model.safetensors, and processor_config.json where the task is known and has a processor. All is
read and checked before the folder is made. Bad input ends with one line on stderr and exit code 2.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hrm_hf import HrmProcessor
from hrm_hf.errors import ArgumentError, HrmError
from hrm_hf.published_checkpoint import (
    PUBLISHED_TASKS,
    find_cells,
    model_from_published,
    read_published_config,
    read_published_state_dict,
)

TASKS_WITH_PROCESSOR = ("sudoku",)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="state dict: torch.save or .safetensors")
    parser.add_argument("--config", type=Path, required=True, help="the all_config.yaml beside it")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to make; must be empty or new")
    cells = parser.add_mutually_exclusive_group()
    cells.add_argument("--seq-len", type=int, help="cells of a puzzle, where neither shapes nor data_path tell")
    cells.add_argument("--task", choices=tuple(PUBLISHED_TASKS), help="the same, by the name of the task")
    parser.add_argument("--compute-dtype", choices=("float32", "bfloat16"), help="default: as published")
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
    print(f"cells: {cells.seq_len} (from {cells.source})")
    print(f"vocabulary: {config.vocab_size}, puzzle identifiers: {config.num_puzzle_identifiers} (from the shapes)")
    print(f"weights: float32, activations: {config.compute_dtype}")
    model.save_pretrained(output_dir)
    if cells.task in TASKS_WITH_PROCESSOR:
        HrmProcessor(task=cells.task).save_pretrained(output_dir)
    else:
        print(f"no processor written: the task is {cells.task or 'not known'}; puzzles go in as cell codes")
    print(f"written: {output_dir}")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        convert(parse_arguments(argv))
    except (HrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
