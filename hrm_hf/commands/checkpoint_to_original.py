"""Converts a checkpoint of this package into the files of the published HRM training code.

    python convert/hf_checkpoint_to_hrm.py --checkpoint DIR_OR_HUB_ID --output-dir DIR
        [--config all_config.yaml] [--init-dtype float32|bfloat16] [--safetensors]

Writes `checkpoint`, the state dict as the published code loads it: torch.save of a plain dict of tensors; for anybody
else --safetensors writes checkpoint.safetensors too, which is safer to pass on. Beside it all_config.yaml, with the
section `arch` under the published names, and identifiers.json where the rows of the puzzle table have names.

The way back of convert/hrm_checkpoint_to_hf.py, exact in both directions: float32 tensors stay what they are, and the
two initial states get the published dtype, which is that of the activations. Bad input ends with one line on stderr
and exit code 2.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from transformers.utils import PROCESSOR_NAME, cached_file

from hrm_hf import HrmForPuzzleSolving, HrmProcessor
from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.hrm.errors import ArgumentError, CheckpointError, HrmError
from hrm_hf.hrm.shown_value import one_line
from hrm_hf.hub.checkpoints import load_checkpoint
from hrm_hf.hub.hub_errors import clear_hub_errors
from hrm_hf.original.checkpoints import (
    INIT_VECTORS,
    PUBLISHED_PREFIX,
    published_settings,
    published_state_dict,
    read_published_config,
)
from hrm_hf.original.find_files import CHECKPOINT_FILE, IDENTIFIERS_FILE, SETTINGS_FILE


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder of save_pretrained, or owner/name on the Hub")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to make; must be empty or new")
    parser.add_argument(
        "--config",
        type=Path,
        help="all_config.yaml of a published run, whose settings of training are taken over: the published code wants "
        "them, a checkpoint does not hold them",
    )
    parser.add_argument(
        "--init-dtype",
        choices=("float32", "bfloat16"),
        help="dtype of the two initial states (default: bfloat16 if the activations are and no bit is lost)",
    )
    parser.add_argument(
        "--safetensors",
        action="store_true",
        help="write checkpoint.safetensors too: prefer it wherever the published code itself need not read the file",
    )
    return parser.parse_args(argv)


def convert(arguments: argparse.Namespace) -> None:
    """Reads, checks and writes; says on stdout what was written.

    Raises:
        CheckpointError, ArgumentError: bad input; nothing has been written then.
    """
    output_dir = arguments.output_dir
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ArgumentError(f"--output-dir {output_dir} exists and is not an empty folder; name a new one")
    published = None if arguments.config is None else read_published_config(arguments.config)
    model, processor = load(arguments.checkpoint)
    state_dict = published_state_dict(model, arguments.init_dtype)
    settings = published_settings(model.config, None if processor is None else processor.task, published)
    identifiers = None if processor is None else processor.puzzle_identifiers

    output_dir.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict, output_dir / CHECKPOINT_FILE)
    written = [CHECKPOINT_FILE]
    if arguments.safetensors:
        save_file(state_dict, output_dir / f"{CHECKPOINT_FILE}.safetensors")
        written.append(f"{CHECKPOINT_FILE}.safetensors")
    (output_dir / SETTINGS_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    written.append(SETTINGS_FILE)
    if identifiers is not None:
        (output_dir / IDENTIFIERS_FILE).write_text(json.dumps(list(identifiers.names)), encoding="utf-8")
        written.append(IDENTIFIERS_FILE)
    init_dtype = str(state_dict[PUBLISHED_PREFIX + INIT_VECTORS[0]].dtype).removeprefix("torch.")
    print(f"weights: float32, initial states: {init_dtype}, activations: {model.config.compute_dtype}")
    if init_dtype != model.config.compute_dtype:
        print(
            "the published code keeps the initial states in the dtype of the activations; where it needs that, write "
            f"them so, which rounds them: --init-dtype {model.config.compute_dtype}"
        )
    if published is None:
        print(f"{SETTINGS_FILE} holds no settings of training; --config FILE takes them from a published run")
    print(f"written: {', '.join(written)} in {output_dir}")


def load(checkpoint: str) -> tuple[HrmForPuzzleSolving, HrmProcessor | None]:
    """Model, in float32 on the CPU, and processor, if there is one, of a folder or Hub repository.

    Raises:
        CheckpointError: there is none, its files are damaged, or it is no HRM or not a whole one.
    """
    model = load_checkpoint(checkpoint, dtype=torch.float32)
    try:
        with clear_hub_errors(checkpoint):
            has_processor = cached_file(checkpoint, PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False)
            processor = HrmProcessor.from_pretrained(checkpoint) if has_processor else None
    except HrmError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} cannot be loaded: {one_line(error)}") from error
    return model, processor


def main(argv: Sequence[str] | None = None) -> int:
    try:
        convert(parse_arguments(argv))
    except (HrmError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
