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
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..files import read_json
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import CheckpointError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.shown_value import one_line, shown
from .hub_errors import clear_hub_errors, is_hub_id

WEIGHT_FILES = (
    SAFE_WEIGHTS_NAME,
    "model-*-of-*.safetensors",
    SAFE_WEIGHTS_INDEX_NAME,
)  # as save_pretrained names them
WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")  # floating, as safetensors files name them


def load_checkpoint(
    name: str | PathLike, dtype: torch.dtype | None = None, **hub_arguments: Any
) -> HrmForPuzzleSolving:
    """Loads a model, from safetensors alone; what does not fit is told before any weight is loaded, in one line.

    Args:
        name: folder or id on the Hub.
        dtype: of the weights; None = as they are stored.
        hub_arguments: revision, token, cache_dir and so on, as `hf_hub_download` takes them.
    Returns:
        The model on the CPU, ready to answer.
    Raises:
        CheckpointError: there is none, it is no puzzle model, its weights are missing, damaged or only there as files
            that can run code, they do not fit config.json, or a tensor holds NaN or infinity.
    """
    name = str(name)
    folder = check_puzzle_model(name, **hub_arguments)
    if not os.path.isdir(name):
        with clear_hub_errors(name):
            folder = Path(snapshot_download(name, allow_patterns=list(WEIGHT_FILES), **hub_arguments))
    config = read_config(folder, name)
    check_weights(folder, config, name)
    shows_progress = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        model = HrmForPuzzleSolving.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True)
    except Exception as error:  # what transformers raises on foreign files depends on the files
        raise CheckpointError(f"{name} cannot be loaded: {one_line(error)}") from error
    finally:
        if shows_progress:
            enable_progress_bar()
    for key, tensor in model.state_dict().items():
        if not all(bound.isfinite() for bound in torch.aminmax(tensor)):  # NaN is the least and the largest of all
            raise CheckpointError(f"{name}: the tensor {key} holds NaN or infinity; take a checkpoint from before")
    return model


def check_checkpoint(folder: str | Path) -> list[Path]:
    """Refuses a folder whose config.json, weights (as safetensors) and processor_config.json do not make a checkpoint.

    Returns:
        The weight files in order, and their index where there are several.
    Raises:
        CheckpointError: naming the file or the tensor that is wrong.
    """
    if not os.path.isdir(folder):
        raise CheckpointError(
            f"there is no folder {folder}; a checkpoint is a folder such as runs/.../checkpoint-final"
        )
    folder = check_puzzle_model(folder)
    config = read_config(folder)
    files = check_weights(folder, config)
    HrmProcessor.from_pretrained(folder).check_fits(config)
    return files


def check_puzzle_model(name: str | PathLike, **hub_arguments: Any) -> Path:
    """Refuses a folder or a repository that holds no Hierarchical Reasoning Model, before anything else is loaded.

    Args:
        name: folder or id on the Hub.
        hub_arguments: revision, token, cache_dir and so on, as `hf_hub_download` takes them.
    Returns:
        The folder; of the Hub's, the one in the cache that its config.json lies in.
    Raises:
        CheckpointError: there is none, it has no readable config.json, or it is a model of another type.
    """
    name = str(name)
    if os.path.isdir(name):
        path = Path(name, CONFIG_NAME)
        if not os.path.lexists(path):
            raise CheckpointError(f"{name} has no config.json: it is no checkpoint of a model")
    elif is_hub_id(name):
        with clear_hub_errors(name):
            try:
                path = Path(hf_hub_download(name, CONFIG_NAME, **hub_arguments))
            except RemoteEntryNotFoundError as error:
                raise CheckpointError(f"{name} has no config.json: it is no checkpoint of a model") from error
    else:
        raise CheckpointError(f"there is no folder {one_line(name)}, and it is no owner/name of the Hub")
    found = read_json(path, CheckpointError).get("model_type")
    if found != HrmConfig.model_type:
        raise CheckpointError(
            f"{name} is no puzzle model: its config.json has the model_type {shown(found)}, not "
            f"{HrmConfig.model_type!r}"
        )
    return path.parent


def read_config(folder: Path, name: str | None = None) -> HrmConfig:
    """The fields of HrmConfig in a config.json, without what transformers follows beside them: attention kernels and
    other code on the Hub, other files, other kinds of weights.

    Args:
        name: what the user calls the checkpoint, if not by its folder.
    Raises:
        CheckpointError: a field of another type, or sizes that do not fit each other.
    """
    settings = read_json(folder / CONFIG_NAME, CheckpointError)
    try:
        return HrmConfig(**{key: settings[key] for key in HrmConfig.__annotations__ if key in settings})
    except Exception as error:  # of the strict dataclass, which names the field, or of a value that cannot be compared
        raise CheckpointError(f"{name or folder}: config.json: {one_line(error.__cause__ or error)}") from error


def weight_files(folder: Path, name: str | None = None) -> list[Path]:
    """model.safetensors, or all shards and their index.

    Args:
        name: what the user calls the checkpoint, if not by its folder.
    Raises:
        CheckpointError: neither is there, the index is damaged, or a shard is missing.
    """
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        others = ", ".join(sorted(path.name for path in folder.glob("pytorch_model*")))
        raise CheckpointError(
            f"{name or folder} has no weights: neither {SAFE_WEIGHTS_NAME} nor {SAFE_WEIGHTS_INDEX_NAME}"
            + (f", only {others}, which can run code and was not read" if others else "")
            + "; save the model again by save_pretrained, which writes safetensors"
        )
    weight_map = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} is damaged: it has no weight_map of tensors to files")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise CheckpointError(f"{index} names {shown(shard)}; allowed: safetensors files that lie beside it")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{name or folder} lacks {shard}, which {SAFE_WEIGHTS_INDEX_NAME} names")
    return [*(folder / shard for shard in sorted(set(weight_map.values()))), index]


def check_weights(folder: Path, config: HrmConfig, name: str | None = None) -> list[Path]:
    """As `weight_files`; raises CheckpointError too unless they hold the tensors of the configuration's model, each of
    its shape and of a floating dtype.
    """
    files = weight_files(folder, name)
    name = name or str(folder)
    try:
        with torch.device("meta"):
            asked = {key: tuple(tensor.shape) for key, tensor in HrmForPuzzleSolving(config).state_dict().items()}
    except Exception as error:  # sizes that no tensor can have
        raise CheckpointError(f"{name}: config.json: {one_line(error)}") from error
    found: dict[str, tuple[int, ...] | str] = {}
    for path in files:
        if path.suffix != ".safetensors":  # the index
            continue
        try:
            with safe_open(path, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(key)
                    shape, dtype = tuple(part.get_shape()), str(part.get_dtype())
                    found[key] = shape if dtype in WEIGHT_DTYPES else f"{dtype} {shape}"
        except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
            raise CheckpointError(
                f"{path} is damaged or cut short ({one_line(error)}): fetch or save it again"
            ) from error
    for key in (*asked, *sorted(found)):
        held, wanted = found.get(key, "nothing"), asked.get(key, "nothing")
        if held != wanted:
            raise CheckpointError(
                f"{name}: of the tensor {one_line(key)} the weights hold {held}, but config.json asks for {wanted}"
            )
    return files
