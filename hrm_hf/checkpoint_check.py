"""Checks a checkpoint folder without loading its weights: is it whole, is it a puzzle model, do its parts fit.

Only the heads of the weight files are read, so that the check of a puzzle table of gigabytes takes a moment.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .configuration_hrm import HrmConfig
from .errors import CheckpointError
from .hub_errors import check_repo_id, clear_hub_errors
from .modeling_hrm import HrmForPuzzleSolving
from .processing_hrm import HrmProcessor

# Suffixes of files that torch.save and pickle write: loading them can run code.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def check_checkpoint(folder: str | Path) -> list[Path]:
    """Refuses a checkpoint that would not load, or not safely.

    Args:
        folder: with config.json, the weights as safetensors and processor_config.json.
    Returns:
        The weight files in order, and their index where there are several.
    Raises:
        CheckpointError: naming the file or the tensor that is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no folder {folder}; a checkpoint is a folder such as runs/.../checkpoint-final"
        )
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{folder} holds {', '.join(pickles)}: such files can run code when they are loaded; weights must be "
            "safetensors (convert/hrm_checkpoint_to_hf.py converts published ones), so take these out"
        )
    check_puzzle_model(folder)
    try:
        config = HrmConfig.from_pretrained(folder)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {str(error.__cause__ or error).splitlines()[0]}") from error
    files = weight_files(folder)
    _check_shapes(folder, config, [path for path in files if path.suffix == ".safetensors"])
    _check_processor(HrmProcessor.from_pretrained(folder), config)
    return files


def check_puzzle_model(name: str | PathLike, **hub_arguments: Any) -> None:
    """Refuses a folder or a repository that holds no Hierarchical Reasoning Model, before anything else is loaded.

    Args:
        name: folder or id on the Hub.
        hub_arguments: revision, token, cache_dir and so on, as `from_pretrained` takes them.
    Raises:
        CheckpointError: there is none, it has no readable config.json, or it is a model of another type.
    """
    folder = Path(name)
    if folder.is_dir():
        try:
            settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(f"{name} has no config.json: it is no checkpoint of a model") from error
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder / 'config.json'} cannot be read as JSON: {error}") from error
    else:
        check_repo_id(str(name), CheckpointError)
        with clear_hub_errors(str(name)):
            settings, _ = PretrainedConfig.get_config_dict(str(name), **hub_arguments)
    found = settings.get("model_type") if isinstance(settings, dict) else None
    if found != HrmConfig.model_type:
        raise CheckpointError(
            f"{name} is no puzzle model: its config.json has the model_type {found!r}, not {HrmConfig.model_type!r}"
        )


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or all shards and their index.

    Raises:
        CheckpointError: neither is there, or a shard is missing.
    """
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        raise CheckpointError(f"{folder} has no weights: neither {SAFE_WEIGHTS_NAME} nor {SAFE_WEIGHTS_INDEX_NAME}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is damaged: it has no weight_map of tensors to files") from error
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {SAFE_WEIGHTS_INDEX_NAME} names")
    return [*(folder / name for name in names), index]


def _check_shapes(folder: Path, config: HrmConfig, files: list[Path]) -> None:
    """Raises CheckpointError for a tensor that is missing, unknown or of another shape than the configuration's."""
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in HrmForPuzzleSolving(config).state_dict().items()}
    except ValueError as error:  # sizes that do not fit each other
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as opened:
                found |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged or cut short: {str(error).splitlines()[0]}") from error
    for name, shape in expected.items():
        if name not in found:
            raise CheckpointError(f"{folder} lacks the tensor {name} of shape {shape}, which its config.json asks for")
        if found[name] != shape:
            raise CheckpointError(
                f"{folder}: the tensor {name} has the shape {found[name]}, but config.json asks for {shape}"
            )
    if unknown := sorted(set(found) - set(expected)):
        raise CheckpointError(f"{folder} holds the tensor {unknown[0]}, which the model of its config.json has not")


def _check_processor(processor: HrmProcessor, config: HrmConfig) -> None:
    sizes = (processor.num_cells, processor.vocab_size)
    if sizes != (config.seq_len, config.vocab_size):
        raise CheckpointError(
            f"processor_config.json reads {sizes[0]} cells with {sizes[1]} token ids, but config.json asks for "
            f"{config.seq_len} and {config.vocab_size} (seq_len, vocab_size)"
        )
    names = processor.puzzle_identifiers
    if names is not None and len(names) != config.num_puzzle_identifiers:
        raise CheckpointError(
            f"puzzle_identifiers.txt has {len(names)} names, but the puzzle table {config.num_puzzle_identifiers} rows"
        )
