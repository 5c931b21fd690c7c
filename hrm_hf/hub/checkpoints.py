"""Checks a checkpoint before its weights are loaded: is it whole, is it a puzzle model, do its parts fit.

Only the heads of the weight files are read, so that the check of a puzzle table of gigabytes takes a moment.
"""

import json
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import CheckpointError, HrmError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.shown_value import one_line, shown
from .hub_errors import check_repo_id, clear_hub_errors, is_hub_id

# Suffixes of files that torch.save and pickle write: loading them can run code.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

# Entries of a config.json that transformers follows when it loads a model: to other files, to code on the Hub, to
# other kinds of weights. No model of this package has them.
REFUSED_SETTINGS = (
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
    *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
    *("configuration_files", "quantization_config"),
)

# Dtypes of weights, as safetensors files name them.
WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")

MAX_JSON_BYTES = 64 << 20  # of config.json or an index of weights
_MAX_SHOWN = 5  # names listed in a message


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
    if not os.path.isdir(folder):
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
    config = _read_config(folder)
    files = weight_files(folder)
    _check_shapes(folder, config, files)
    _check_processor(HrmProcessor.from_pretrained(folder), config)
    return files


def load_checkpoint(
    name: str | PathLike, dtype: torch.dtype | None = None, **hub_arguments: Any
) -> HrmForPuzzleSolving:
    """Loads a model, from safetensors alone; what does not fit is told before any weight is loaded, in one line.

    Args:
        name: folder or id on the Hub.
        dtype: of the weights; None = as they are stored.
        hub_arguments: revision, token, cache_dir and so on, as `from_pretrained` takes them.
    Returns:
        The model on the CPU, ready to answer.
    Raises:
        CheckpointError: there is none, it is no puzzle model, its weights are missing, damaged or only there as files
            that can run code, or a tensor is missing, unknown, of another shape than config.json asks for, of no
            floating dtype, or holds values that are not finite.
    """
    name = str(name)
    if not os.path.isdir(name) and not is_hub_id(name):
        raise CheckpointError(f"there is no folder {name}, and it is no owner/name of the Hub")
    check_puzzle_model(name, **hub_arguments)
    config = _read_config(name, **hub_arguments)
    folder = Path(name) if Path(name).is_dir() else _fetch_weights(name, hub_arguments)
    _check_shapes(folder, config, weight_files(folder), name)
    shows_progress = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        with clear_hub_errors(name):
            model = HrmForPuzzleSolving.from_pretrained(
                name,
                config=config,
                use_safetensors=True,
                **({} if dtype is None else {"dtype": dtype}),
                **hub_arguments,
            )
    except HrmError:
        raise
    except Exception as error:  # what transformers raises on foreign files depends on the files
        raise CheckpointError(f"{name} cannot be loaded: {one_line(error)}") from error
    finally:
        if shows_progress:
            enable_progress_bar()
    _check_finite(name, model)
    return model


def _check_finite(name: str, model: HrmForPuzzleSolving) -> None:
    for key, tensor in model.state_dict().items():
        if not all(bound.isfinite() for bound in torch.aminmax(tensor)):  # NaN is the least and the largest of all
            raise CheckpointError(f"{name}: the tensor {key} holds NaN or infinity; take a checkpoint from before")


def _fetch_weights(name: str, hub_arguments: dict[str, Any]) -> Path:
    """The folder of the cache that holds a repository's safetensors files, fetched if need be."""

    def fetch(filename: str) -> Path | None:
        path = cached_file(name, filename, _raise_exceptions_for_missing_entries=False, **hub_arguments)
        return None if path is None else Path(path)

    try:
        with clear_hub_errors(name):
            path = fetch(SAFE_WEIGHTS_NAME)
            if path is None:
                path = fetch(SAFE_WEIGHTS_INDEX_NAME)
                if path is None:
                    raise CheckpointError(_no_weights(f"the model {name} on the Hub"))
                for shard in _shard_names(path):
                    if fetch(shard) is None:
                        raise CheckpointError(f"{name} lacks {shard}, which {SAFE_WEIGHTS_INDEX_NAME} names")
    except HrmError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the weights of {name} cannot be fetched: {one_line(error)}") from error
    return path.parent


def _read_config(name: str | PathLike, **hub_arguments: Any) -> HrmConfig:
    try:
        with clear_hub_errors(str(name)):
            return HrmConfig.from_pretrained(name, **hub_arguments)
    except HrmError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # of the strict dataclass, or whatever transformers raises on foreign entries
        raise CheckpointError(f"{Path(name) / 'config.json'}: {one_line(error.__cause__ or error)}") from error


def check_puzzle_model(name: str | PathLike, **hub_arguments: Any) -> None:
    """Refuses a folder or a repository that holds no Hierarchical Reasoning Model, before anything else is loaded.

    Args:
        name: folder or id on the Hub.
        hub_arguments: revision, token, cache_dir and so on, as `from_pretrained` takes them.
    Raises:
        CheckpointError: there is none, it has no readable config.json, or it is a model of another type.
    """
    folder = Path(name)
    if os.path.isdir(folder):
        if not os.path.lexists(folder / "config.json"):
            raise CheckpointError(f"{name} has no config.json: it is no checkpoint of a model")
        settings = _read_json(folder / "config.json")
    else:
        check_repo_id(str(name), CheckpointError)
        try:
            with clear_hub_errors(str(name)):
                settings, _ = PretrainedConfig.get_config_dict(str(name), **hub_arguments)
        except HrmError:
            raise
        except Exception as error:  # as above
            raise CheckpointError(f"{name}: its config.json cannot be read: {one_line(error)}") from error
    found = settings.get("model_type") if isinstance(settings, dict) else None
    if found != HrmConfig.model_type:
        raise CheckpointError(
            f"{name} is no puzzle model: its config.json has the model_type {shown(found)}, not "
            f"{HrmConfig.model_type!r}"
        )
    if refused := [entry for entry in REFUSED_SETTINGS if settings.get(entry) is not None]:
        raise CheckpointError(
            f"{name}: config.json has {refused[0]} {shown(settings[refused[0]])}, which no puzzle model has: take the "
            "entry out"
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
        raise CheckpointError(_no_weights(str(folder), sorted(path.name for path in folder.iterdir())))
    names = _shard_names(index)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - _MAX_SHOWN} more" if len(missing) > _MAX_SHOWN else ""
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing[:_MAX_SHOWN])}{more}, which {SAFE_WEIGHTS_INDEX_NAME} names"
        )
    return [*(folder / name for name in names), index]


def _no_weights(where: str, files: Sequence[str] = ()) -> str:
    """The line for weights that are not there as safetensors; files: what is there, as far as it is known."""
    message = f"{where} has no weights: neither {SAFE_WEIGHTS_NAME} nor {SAFE_WEIGHTS_INDEX_NAME}"
    pickles = [name for name in files if Path(name).suffix.lower() in PICKLE_SUFFIXES]
    if pickles:
        message += f", only {', '.join(pickles)}, which can run code and was not read"
    return f"{message}; save the model again by save_pretrained, which writes safetensors"


def _shard_names(index: Path) -> list[str]:
    """The files that an index of weights names, sorted. Raises CheckpointError for an index that is damaged."""
    try:
        names = set(_read_json(index)["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is damaged: it has no weight_map of tensors to files") from error
    for name in names:
        plain = isinstance(name, str) and name.isprintable() and Path(name).name == name
        if not plain or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {shown(name)}; allowed: safetensors files that lie beside it")
    return sorted(names)


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise CheckpointError(f"{path} has more than {MAX_JSON_BYTES} bytes: it is none of a puzzle model")
        return json.loads(data.decode("utf-8"))
    except HrmError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {one_line(error)}") from error


def _check_shapes(folder: Path, config: HrmConfig, files: list[Path], name: str | None = None) -> None:
    """Raises CheckpointError for a tensor that is missing, unknown or of another shape than the configuration's.

    Args:
        files: as `weight_files` gives them.
        name: what the user calls the checkpoint, if not by its folder.
    """
    name = str(folder) if name is None else name
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in HrmForPuzzleSolving(config).state_dict().items()}
    except Exception as error:  # sizes that do not fit each other, or entries that only transformers knows
        raise CheckpointError(f"{Path(name) / 'config.json'}: {one_line(error)}") from error
    found: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for path in files:
        if path.suffix != ".safetensors":  # the index
            continue
        try:
            with safe_open(path, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(key)
                    found[key], dtypes[key] = tuple(part.get_shape()), str(part.get_dtype())
        except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
            raise CheckpointError(
                f"{path} is damaged or cut short ({one_line(error)}): fetch or save it again"
            ) from error
    for key, shape in expected.items():
        if key not in found:
            raise CheckpointError(f"{name} lacks the tensor {key} of shape {shape}, which its config.json asks for")
        if found[key] != shape:
            raise CheckpointError(
                f"{name}: the tensor {key} has the shape {found[key]}, but config.json asks for {shape}"
            )
        if dtypes[key] not in WEIGHT_DTYPES:
            raise CheckpointError(
                f"{name}: the tensor {key} has the dtype {dtypes[key]}; allowed: {', '.join(WEIGHT_DTYPES)}"
            )
    if unknown := sorted(set(found) - set(expected)):
        raise CheckpointError(
            f"{name} holds the tensor {one_line(unknown[0])}, which the model of its config.json has not"
        )


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
