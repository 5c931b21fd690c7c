"""Convert a checkpoint of this package into the files of the original HRM or TRM code, depending on the model.

Writes `checkpoint`, the state dict as the original code loads it: torch.save of a plain dict of tensors; with
--safetensors also checkpoint.safetensors, which is safer to pass on; all_config.yaml, with the section `arch`; and
identifiers.json where the rows of the puzzle table have names. This undoes checkpoint-to-hf, exactly.
"""

import argparse
import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from ..hrm.configuration_hrm import COMPUTE_DTYPES
from ..original import checkpoints
from ..original.find_files import CHECKPOINT_FILE, IDENTIFIERS_FILE, SETTINGS_FILE
from .command import Command, refuse_used_folder
from .load import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, help="folder of save_pretrained, or owner/name on the Hub")
    add("--output-dir", type=Path, required=True, help="folder to make; must be empty or new")
    add("--config", type=Path, help="all_config.yaml of an original run: its training settings, which that code needs")
    init_dtype = "dtype of the two initial states (default: bfloat16 if the activations are and no bit is lost)"
    add("--init-dtype", choices=COMPUTE_DTYPES, help=init_dtype)
    add("--safetensors", action="store_true", help="write checkpoint.safetensors too")


def run(args: argparse.Namespace) -> None:
    folder = args.output_dir
    refuse_used_folder(folder)
    published = None if args.config is None else checkpoints.read_published_config(args.config)
    model, processor = load_model(args.checkpoint, dtype=torch.float32)
    state_dict = checkpoints.published_state_dict(model, args.init_dtype)
    settings = checkpoints.published_settings(model.config, processor and processor.task, published)

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict, folder / CHECKPOINT_FILE)
    if args.safetensors:
        save_file(state_dict, folder / f"{CHECKPOINT_FILE}.safetensors")
    (folder / SETTINGS_FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    if processor is not None and processor.puzzle_identifiers is not None:
        names = json.dumps(list(processor.puzzle_identifiers.names))
        (folder / IDENTIFIERS_FILE).write_text(names, encoding="utf-8")
    init_vector = state_dict[checkpoints.PUBLISHED_PREFIX + checkpoints.INIT_VECTORS[0]]
    init_dtype = str(init_vector.dtype).removeprefix("torch.")
    print(f"weights: float32, initial states: {init_dtype}, activations: {model.config.compute_dtype}")
    if init_dtype != model.config.compute_dtype:
        print(f"the original code has one dtype; --init-dtype {model.config.compute_dtype} rounds the states to it")
    if published is None:
        print(f"{SETTINGS_FILE} holds no training settings; --config FILE takes them from an original run")
    print(f"written: {', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}")


COMMAND = Command(__doc__, add_arguments, run)
