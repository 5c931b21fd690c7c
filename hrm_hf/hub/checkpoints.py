"""Loads a checkpoint from a folder or the Hub, after a check: is it a puzzle model, is it whole, do its parts fit?

The check reads only the heads of the weight files, so it takes a moment even for a puzzle table of gigabytes. Nothing
in a file leads elsewhere: weights are safetensors alone, and of config.json only the fields of HrmConfig count.
"""

import os
import re
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError, safe_open
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..files import one_line, read_json
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import CheckpointError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.pipeline_puzzle import check_finite
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.shown_value import shown
from .hub_errors import clear_hub_errors, is_hub_id

# as save_pretrained names them
WEIGHT_FILES = (SAFE_WEIGHTS_NAME, "model-*-of-*.safetensors", SAFE_WEIGHTS_INDEX_NAME)
TRAINING_DATA = "training_data.json"  # which puzzles the weights were trained on, see hrm_hf/data/trained_rows.py
_FLOATING = ("F64", "F32", "F16", "BF16")  # as safetensors files name them


def load_checkpoint(
    name: str | PathLike, dtype: torch.dtype | None = None, **hub_arguments: Any
) -> HrmForPuzzleSolving:
    """Loads a model to the CPU, from safetensors alone; what does not fit is told in one line first.

    Args:
        name: folder or id on the Hub.
        dtype: of the weights; None = as they are stored.
        hub_arguments: revision, token, cache_dir and so on, as `hf_hub_download` takes them.
    Raises:
        CheckpointError: there is none, it is no puzzle model, its weights are missing, damaged or only there as files
            that can run code, they do not fit config.json, or a tensor holds NaN or infinity.
    """
    name = str(name)
    folder = check_puzzle_model(name, **hub_arguments)
    if not os.path.isdir(name):
        with clear_hub_errors(name):
            folder = Path(snapshot_download(name, allow_patterns=list(WEIGHT_FILES), **hub_arguments))
    config = read_config(folder)
    _check_weights(folder, config)
    shows_progress = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        model = HrmForPuzzleSolving.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True)
    except Exception as error:  # what transformers raises on foreign files depends on the files
        raise CheckpointError(f"{name} cannot be loaded: {one_line(error)}") from error
    finally:
        if shows_progress:
            enable_progress_bar()
    check_finite(model, name)
    return model


def check_checkpoint(folder: str | Path) -> list[Path]:
    """The weight files of a checkpoint in order, and their index where there are several.

    Raises CheckpointError where config.json, weights and processor_config.json are not whole or do not fit.
    """
    if not os.path.isdir(folder):
        raise CheckpointError(f"there is no folder {one_line(folder)}")
    config = read_config(check_puzzle_model(folder))
    HrmProcessor.from_pretrained(folder).check_fits(config)
    return _check_weights(Path(folder), config)


def check_puzzle_model(name: str | PathLike, **hub_arguments: Any) -> Path:
    """The folder of a checkpoint, for one on the Hub that of its config.json in the cache.

    Raises CheckpointError if there is none, if it has no readable config.json, or if it is a model of another type.
    """
    name = str(name)
    if os.path.isdir(name):
        path = Path(name, CONFIG_NAME)
        run = path.parent.absolute().parent if path.parent.name.startswith("state-") else path.parent
        if not path.exists() and (inner := sorted(run.glob(f"checkpoint-*/{CONFIG_NAME}"))):
            kind = "a run" if run == path.parent else "a saved state"
            raise CheckpointError(f"{name} is the folder of {kind}; name a checkpoint, such as {inner[-1].parent}")
    elif is_hub_id(name):
        with clear_hub_errors(name):
            path = Path(hf_hub_download(name, CONFIG_NAME, **hub_arguments))
    else:
        raise CheckpointError(f"there is no folder {one_line(name)}, and it is no owner/name of the Hub")
    found = read_json(path, CheckpointError).get("model_type")
    if found != HrmConfig.model_type:
        found = f"its config.json has the model_type {shown(found)}, not 'hrm'"
        raise CheckpointError(f"{name} is no puzzle model: {found}")
    return path.parent


def read_config(folder: Path) -> HrmConfig:
    """The fields of HrmConfig in a config.json, without what transformers follows beside them: attention kernels and
    other code on the Hub, other files, other kinds of weights. Raises CheckpointError for values that do not fit.
    """
    settings = read_json(folder / CONFIG_NAME, CheckpointError)
    try:
        return HrmConfig(**{key: settings[key] for key in HrmConfig.__annotations__ if key in settings})
    except Exception as error:  # of the strict dataclass, which names the field, or of a value that cannot be compared
        raise CheckpointError(f"{folder / CONFIG_NAME}: {one_line(error.__cause__ or error)}") from error


def _weight_files(folder: Path) -> list[Path]:
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    if not index.is_file():
        advice = "Other files can run code and are not read: save the model again by save_pretrained"
        raise CheckpointError(f"{folder} has no weights: neither {SAFE_WEIGHTS_NAME} nor {index.name}. {advice}")
    weight_map = read_json(index, CheckpointError).get("weight_map")
    shards = list(weight_map.values()) if isinstance(weight_map, dict) else [weight_map]
    for shard in shards:
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise CheckpointError(f"{index} names {shown(shard)}; allowed: safetensors files that lie beside it")
    return [*(folder / shard for shard in sorted(set(shards))), index]


def _check_weights(folder: Path, config: HrmConfig) -> list[Path]:
    """The weight files and their index; refuses other tensors, shapes and dtypes than the configuration asks for."""
    try:
        with torch.device("meta"):
            asked = {key: tuple(tensor.shape) for key, tensor in HrmForPuzzleSolving(config).state_dict().items()}
    except Exception as error:  # sizes that no tensor can have
        raise CheckpointError(f"{folder / CONFIG_NAME}: {one_line(error)}") from error
    files = _weight_files(folder)
    found: dict[str, tuple[int, ...] | str] = {}
    for path in files:
        if path.name == SAFE_WEIGHTS_INDEX_NAME:
            continue
        try:
            with safe_open(path, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(key)
                    shape, dtype = tuple(part.get_shape()), str(part.get_dtype())
                    found[key] = shape if dtype in _FLOATING else f"{dtype} {shape}"
        except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
            damage = f"is missing, damaged or cut short ({one_line(error)})"
            raise CheckpointError(f"{path} {damage}: fetch or save it again") from error
    for key in (*asked, *sorted(found)):
        held, wanted = found.get(key, "nothing"), asked.get(key, "nothing")
        if held != wanted:
            unlike = f"the weights hold {held}, but config.json asks for {wanted}"
            raise CheckpointError(f"{folder}: of the tensor {one_line(key)} {unlike}")
    return files
