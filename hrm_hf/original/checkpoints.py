"""Checkpoints of the published HRM training code, in both directions: a state dict and an `all_config.yaml`.

The names and shapes of the tensors are one table (`published_tensors`), read from either side, and so are the settings
(`SETTINGS`). Nothing is guessed: an unknown tensor or setting is an error, so that a checkpoint of another model
cannot pass for an HRM. Both ways are exact for checkpoints as the published code saves them, float32 with the two
initial states in the dtype of the activations: there and back gives the same tensors, whichever side one starts from.
Other dtypes are read too, as float32, and come back as that.
"""

import math
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from ..files import read_within
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import ArgumentError, CheckpointError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.shown_value import one_line, shown

# What the published code saves: torch.compile, the loss head and the model of one segment each wrap the next.
PUBLISHED_PREFIX = "_orig_mod.model.inner."

# Parts that may stand before the names, in any number and order: compiling and distributed training wrap too.
WRAPPERS = ("_orig_mod", "module", "model", "inner")
_WRAPPED = re.compile(rf"(?:(?:{'|'.join(WRAPPERS)})\.)*")

_MAX_SHOWN = 12  # names listed in a message
_MAX_SETTINGS_BYTES = 1 << 18  # of an all_config.yaml, which has one or two thousand

_ALWAYS_THERE = "embed_tokens.embedding_weight"  # every HRM has this tensor: what stands before it is the prefix

# Tensors that a training checkpoint may hold and that no model needs: the puzzle rows of the last training batch.
DROPPED_TENSORS = ("puzzle_emb.local_weights", "puzzle_emb.local_ids")

# Entries of `arch` that change neither weights nor inference, with what the published code needs to find there.
IGNORED_ARCH_ENTRIES = {"name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1", "halt_exploration_prob": 0.1}


class Setting(NamedTuple):
    """One row of the table of settings."""

    ours: str  # field of HrmConfig
    kind: type
    default: Any = None  # of the published code where the entry is missing; None = it must be there


# Entries of `arch`; the loss is translated apart, and shapes tell the other sizes.
SETTINGS = {
    "hidden_size": Setting("hidden_size", int),
    "num_heads": Setting("num_attention_heads", int),
    "expansion": Setting("expansion", float),
    "H_layers": Setting("H_layers", int),
    "L_layers": Setting("L_layers", int),
    "H_cycles": Setting("H_cycles", int),
    "L_cycles": Setting("L_cycles", int),
    "puzzle_emb_ndim": Setting("puzzle_emb_ndim", int),
    "halt_max_steps": Setting("halt_max_steps", int),
    "pos_encodings": Setting("pos_encodings", str),
    "rope_theta": Setting("rope_theta", float, 10000.0),
    "rms_norm_eps": Setting("rms_norm_eps", float, 1e-5),
    "forward_dtype": Setting("compute_dtype", str, "bfloat16"),
}

TOKEN_LOSSES = {"stablemax_cross_entropy": "stablemax", "softmax_cross_entropy": "softmax"}
LOSS_HEAD = "losses@ACTLossHead"

# Vectors that the published code keeps in the dtype of the activations; all other tensors are float32 there.
INIT_VECTORS = ("H_init", "L_init")

EXACT_IN_FLOAT32 = (torch.float32, torch.bfloat16, torch.float16)


class PublishedTensor(NamedTuple):
    """One row of the key table."""

    published: str  # name in the published file, without a prefix
    ours: str  # name in HrmForPuzzleSolving's state dict
    shape: tuple[int, ...]


class PublishedTask(NamedTuple):
    """The size of a task's puzzles in the published data sets."""

    seq_len: int  # cells S
    vocab_size: int  # V


class Cells(NamedTuple):
    """The number of cells of a checkpoint, the task where it is known, and how they were found."""

    seq_len: int
    task: str | None
    source: str


PUBLISHED_TASKS = {
    "sudoku": PublishedTask(seq_len=81, vocab_size=11),
    "maze": PublishedTask(seq_len=900, vocab_size=6),
    "arc": PublishedTask(seq_len=900, vocab_size=12),
}


def published_tensors(config: HrmConfig) -> tuple[PublishedTensor, ...]:
    """The table of all tensors of a model: published name, our name, shape (linear weights are (out, in) in both)."""
    width = config.hidden_size
    block = {
        "self_attn.qkv_proj.weight": (3 * width, width),
        "self_attn.o_proj.weight": (width, width),
        "mlp.gate_up_proj.weight": (2 * config.intermediate_size, width),
        "mlp.down_proj.weight": (width, config.intermediate_size),
    }
    table = [
        ("H_init", "model.z_H_init", (width,)),
        ("L_init", "model.z_L_init", (width,)),
        ("embed_tokens.embedding_weight", "model.embed_tokens.weight", (config.vocab_size, width)),
        ("lm_head.weight", "lm_head.weight", (config.vocab_size, width)),
        ("q_head.weight", "q_head.weight", (2, width)),
        ("q_head.bias", "q_head.bias", (2,)),
    ]
    if config.pos_encodings == "learned":
        table.append(("embed_pos.embedding_weight", "model.embed_positions.weight", (config.num_positions, width)))
    if config.puzzle_emb_ndim > 0:
        shape = (config.num_puzzle_identifiers, config.puzzle_emb_ndim)
        table.append(("puzzle_emb.weights", "model.puzzle_embeddings.weight", shape))
    for level, num_layers in (("H_level", config.H_layers), ("L_level", config.L_layers)):
        for layer in range(num_layers):
            for name, shape in block.items():
                table.append((f"{level}.layers.{layer}.{name}", f"model.{level}.layers.{layer}.{name}", shape))
    return tuple(PublishedTensor(*row) for row in table)


def read_published_state_dict(path: str | PathLike) -> dict[str, torch.Tensor]:
    """Reads a state dict, from `torch.save` (by tensors only: no code in the file is run) or safetensors.

    Args:
        path: a `.safetensors` file, or any other name for a file of `torch.save`.
    Returns:
        The tensors on the CPU under their published names, without prefix and without `DROPPED_TENSORS`.
    Raises:
        CheckpointError: no such file, a damaged file, one that holds more than tensors, or no HRM state dict.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file; expected a state dict of torch.save or a .safetensors file")
    loaded = _load_tensors(path)
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}; expected a non-empty dict of tensors")
    if strangers := [name for name, value in loaded.items() if not (isinstance(name, str) and _is_plain(value))]:
        raise CheckpointError(
            f"{path} is no plain state dict: {_listed(strangers)} are not dense tensors under names; save the model's "
            "state_dict()"
        )
    size, held = os.path.getsize(path), sum(tensor.numel() * tensor.element_size() for tensor in loaded.values())
    if held > size:  # one small storage behind a large shape: the model would be built as large as that
        raise CheckpointError(f"{path} has {size} bytes, but tensors of {held} bytes: it is no plain state dict")
    prefix = _find_prefix(path, loaded)
    state_dict = {name.removeprefix(prefix): tensor for name, tensor in loaded.items()}
    return {name: tensor for name, tensor in state_dict.items() if name not in DROPPED_TENSORS}


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor that holds each of its values in memory."""
    return (
        isinstance(value, torch.Tensor)
        and not (value.is_nested or value.is_quantized)
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )


def _check_zip(path: Path) -> None:
    """CheckpointError for a zip whose contents are larger than itself: torch.save never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries) > os.path.getsize(path):
        raise CheckpointError(f"{path} is no file of torch.save: it holds compressed data, which may be of any size")


def _find_prefix(path: Path, names: Iterable[str]) -> str:
    """What stands before every name, of `WRAPPERS` in any order; CheckpointError if that differs or is unknown."""
    known = [name for name in names if name == _ALWAYS_THERE or name.endswith(f".{_ALWAYS_THERE}")]
    if not known:
        raise CheckpointError(f"{path} is no HRM checkpoint: it lacks {_ALWAYS_THERE} and holds {_listed(names)}")
    if len(known) > 1:
        raise CheckpointError(f"{path} mixes prefixes, as of several models: {_listed(known)}")
    prefix = known[0].removesuffix(_ALWAYS_THERE)
    if not _WRAPPED.fullmatch(prefix):
        raise CheckpointError(
            f"{path} has names with the unknown prefix {prefix}: {known[0]}; known are {', '.join(WRAPPERS)}, joined "
            "by dots, and none"
        )
    if outside := [name for name in names if not name.startswith(prefix)]:
        raise CheckpointError(f"{path} holds unexpected tensors without the prefix {prefix}: {_listed(outside)}")
    return prefix


def _load_tensors(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_zip(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # what torch.load raises on foreign bytes depends on the bytes: KeyError, EOFError ...
        if isinstance(error, UnpicklingError) and "unsupported" in str(error).lower():
            raise CheckpointError(
                f"{path} holds Python objects besides tensors; reading them could run code, so nothing was read. "
                "Only a plain dict of tensors, or a .safetensors file of it, is read: ask its publisher for one. If "
                "you trust its origin, load it there and write it with "
                "safetensors.torch.save_file(model.state_dict(), 'checkpoint.safetensors')"
            ) from error
        raise CheckpointError(f"{path} is damaged (cut short?) or no file of torch.save or safetensors") from error


class _SettingsLoader(yaml.SafeLoader):
    """Plain values only; anchors and aliases are refused, with which a line stands for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "an alias (*name) is not allowed here", mark)
        return super().compose_node(parent, index)


def read_published_config(path: str | PathLike) -> dict[str, Any]:
    """Reads an `all_config.yaml`: training settings, and the model's own in the mapping `arch`.

    Raises:
        CheckpointError: no such file, no YAML, one of a size or with entries by reference that no training run
            writes, or no mapping `arch` in it.
    """
    data = read_within(path, CheckpointError, _MAX_SETTINGS_BYTES)
    try:
        content = yaml.load(data, _SettingsLoader)
    except Exception as error:  # YAMLError, or what Python says to a date, number or depth that is none
        raise CheckpointError(f"{path} is not YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("arch"), dict):
        raise CheckpointError(f"{path} has no mapping 'arch'; expected the all_config.yaml of a training run")
    return content


def find_cells(
    published: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    seq_len: int | None = None,
    task: str | None = None,
) -> Cells:
    """Finds the number of cells S, which a checkpoint with rotary positions does not hold.

    In this order: the shape of the learned positions, `task` or `seq_len`, the `seq_len` that the settings state (as
    `published_settings` does), a task that their `data_path` names.

    Args:
        published: what `read_published_config` gave.
        state_dict: what `read_published_state_dict` gave.
    Raises:
        ArgumentError: `seq_len` or `task` does not fit the checkpoint, or nothing tells the number of cells.
    """
    vocab_size = _matrix_shape(state_dict, "embed_tokens.embedding_weight")[0]
    if task is not None and task not in PUBLISHED_TASKS:
        raise ArgumentError(f"task is {task!r}; allowed are {', '.join(PUBLISHED_TASKS)}")
    if task is not None and PUBLISHED_TASKS[task].vocab_size != vocab_size:
        raise ArgumentError(
            f"task {task} has {PUBLISHED_TASKS[task].vocab_size} cell codes, the checkpoint has {vocab_size}"
        )
    if seq_len is not None and seq_len < 1:
        raise ArgumentError(f"seq_len is {shown(seq_len)}; it must be at least 1")
    stated = published.get("seq_len")
    if stated is not None and (type(stated) is not int or stated < 1):
        raise CheckpointError(f"seq_len of the settings is {shown(stated)}; it must be a whole number of at least 1")
    asked = PUBLISHED_TASKS[task].seq_len if task else seq_len
    named = task or _task_named_by(published.get("data_path"), vocab_size)

    if published["arch"].get("pos_encodings") == "learned":
        num_positions, width = _matrix_shape(state_dict, "embed_pos.embedding_weight")
        num_prefix = math.ceil(_setting(published["arch"], "puzzle_emb_ndim") / width)
        found, source = num_positions - num_prefix, "the learned positions"
        if found < 1:
            raise CheckpointError(f"{num_positions} learned positions leave no cell after {num_prefix} of prefix")
        if asked not in (None, found):
            raise ArgumentError(f"{asked} cells were asked for; the checkpoint's learned positions are for {found}")
        if stated not in (None, found):
            raise CheckpointError(f"seq_len of the settings is {stated}, the learned positions give {found}")
    elif asked is not None:
        found, source = asked, f"task {task} as given" if task else "seq_len as given"
    elif stated is not None:
        found, source = stated, "seq_len of the settings"
    elif named is not None:
        found, source = PUBLISHED_TASKS[named].seq_len, f"data_path {published['data_path']}"
    else:
        raise ArgumentError(
            "the number of cells is not in a checkpoint with rotary positions, and data_path "
            f"{shown(published.get('data_path'))} names no task of {vocab_size} cell codes: give --seq-len or --task"
        )
    return Cells(found, named if named and PUBLISHED_TASKS[named].seq_len == found else None, source)


def _task_named_by(data_path: Any, vocab_size: int) -> str | None:
    """The one task that the last part of a data path names, if its size and vocabulary agree; else None."""
    parts = [part for part in re.split(r"[/\\]", data_path if isinstance(data_path, str) else "") if part]
    words = re.split(r"[^a-z0-9]+", parts[-1].lower()) if parts else []
    tasks = [task for task in PUBLISHED_TASKS if task in words]
    if len(tasks) != 1 or PUBLISHED_TASKS[tasks[0]].vocab_size != vocab_size:
        return None
    for word in words:
        grid = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", word)  # as in maze-30x30-hard-1k
        if grid and int(grid[1]) * int(grid[2]) != PUBLISHED_TASKS[tasks[0]].seq_len:
            return None
    return tasks[0]


def config_from_published(
    arch: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    seq_len: int,
    compute_dtype: str | None = None,
) -> HrmConfig:
    """Translates `arch`; vocabulary and puzzle identifiers come from the shapes.

    Args:
        arch: the mapping `arch` of `read_published_config`.
        state_dict: what `read_published_state_dict` gave.
        seq_len: number of cells S, see `find_cells`.
        compute_dtype: None takes `forward_dtype` from `arch`, or bfloat16, the published default.
    Raises:
        CheckpointError: an entry that is missing, unknown or of a value that is not allowed.
    """
    loss = arch.get("loss")
    loss_type = loss.get("loss_type") if isinstance(loss, dict) else None
    if not isinstance(loss_type, str) or loss_type not in TOKEN_LOSSES:
        raise CheckpointError(f"arch.loss is {shown(loss)}; its loss_type must be one of {', '.join(TOKEN_LOSSES)}")
    fields = {setting.ours: _setting(arch, name) for name, setting in SETTINGS.items()}
    if unknown := sorted(map(_name, set(arch) - {"loss", *SETTINGS, *IGNORED_ARCH_ENTRIES})):
        raise CheckpointError(f"arch holds entries that HRM does not have: {_listed(unknown)}")
    if compute_dtype is not None:
        fields["compute_dtype"] = compute_dtype
    has_table = fields["puzzle_emb_ndim"] > 0
    try:
        return HrmConfig(
            vocab_size=_matrix_shape(state_dict, "embed_tokens.embedding_weight")[0],
            num_puzzle_identifiers=_matrix_shape(state_dict, "puzzle_emb.weights")[0] if has_table else 1,
            seq_len=seq_len,
            token_loss=TOKEN_LOSSES[loss_type],
            **fields,
        )
    except StrictDataclassError as error:
        raise CheckpointError(f"arch does not describe a model: {one_line(error)}") from error


def convert_state_dict(state_dict: Mapping[str, torch.Tensor], config: HrmConfig) -> dict[str, torch.Tensor]:
    """Renames published tensors to HrmForPuzzleSolving's names, in float32 (bfloat16 init vectors convert exactly).

    Args:
        state_dict: what `read_published_state_dict` gave.
    Raises:
        CheckpointError: missing or unexpected names, shapes other than the config's, dtypes that float32 cannot hold.
    """
    table = {entry.published: entry for entry in published_tensors(config)}
    problems = []
    if missing := [name for name in table if name not in state_dict]:
        problems.append(f"missing: {_listed(missing)}")
    if unexpected := [name for name in state_dict if name not in table]:
        problems.append(f"unexpected: {_listed(unexpected)}")
    for name in (name for name in table if name in state_dict):
        tensor, shape = state_dict[name], table[name].shape
        if tensor.shape != shape:
            problems.append(f"{name} has shape {tuple(tensor.shape)}, the configuration gives {shape}")
        if tensor.dtype not in EXACT_IN_FLOAT32:
            problems.append(f"{name} is {tensor.dtype}, not float32, bfloat16 or float16")
        elif tensor.numel() and not all(bound.isfinite() for bound in torch.aminmax(tensor)):
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise CheckpointError(f"the tensors do not fit the configuration; {_listed(problems, '; ')}")
    return {entry.ours: state_dict[name].to(torch.float32) for name, entry in table.items()}


def load_published(
    checkpoint: str | PathLike,
    config: str | PathLike,
    seq_len: int | None = None,
    task: str | None = None,
    compute_dtype: str | None = None,
) -> HrmForPuzzleSolving:
    """Builds the model of a published checkpoint, in evaluation mode, weights in float32.

    Args:
        checkpoint: file of the state dict, see `read_published_state_dict`.
        config: its `all_config.yaml`.
        seq_len, task: what tells the number of cells, see `find_cells`.
        compute_dtype: "float32" or "bfloat16"; None takes the published one.
    Raises:
        CheckpointError, ArgumentError: as the functions above.
    """
    published = read_published_config(config)
    state_dict = read_published_state_dict(checkpoint)
    cells = find_cells(published, state_dict, seq_len, task)
    return model_from_published(published, state_dict, cells.seq_len, compute_dtype)


def model_from_published(
    published: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    seq_len: int,
    compute_dtype: str | None = None,
) -> HrmForPuzzleSolving:
    """`load_published` for files that are already read."""
    config = config_from_published(published["arch"], state_dict, seq_len, compute_dtype)
    tensors = convert_state_dict(state_dict, config)
    model = HrmForPuzzleSolving(config)
    model.load_state_dict(tensors)
    return model.eval()


def published_state_dict(model: HrmForPuzzleSolving, init_dtype: str | None = None) -> dict[str, torch.Tensor]:
    """The model's tensors as the published code saves them: the way back of `convert_state_dict`.

    Args:
        model: its weights may have any dtype that float32 holds exactly.
        init_dtype: dtype of the two initial states, "float32" or "bfloat16". The published code keeps them in that of
            its activations. None takes bfloat16 where the config's compute_dtype is that and no bit is lost, as for
            every checkpoint that came from there, else float32.
    Returns:
        Fresh tensors on the CPU, float32 except `INIT_VECTORS`, under the published names with `PUBLISHED_PREFIX`.
    Raises:
        ArgumentError: an init_dtype that is not allowed.
    """
    if init_dtype not in (None, "float32", "bfloat16"):
        raise ArgumentError(f"init_dtype is {init_dtype!r}; allowed are 'float32' and 'bfloat16'")
    own = model.state_dict()
    tensors = {
        name: own[ours].detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, ours, _ in published_tensors(model.config)
    }
    if init_dtype is None:
        exact = all(torch.equal(tensors[name], tensors[name].bfloat16().float()) for name in INIT_VECTORS)
        init_dtype = "bfloat16" if model.config.compute_dtype == "bfloat16" and exact else "float32"
    if init_dtype == "bfloat16":
        tensors |= {name: tensors[name].bfloat16() for name in INIT_VECTORS}
    return {PUBLISHED_PREFIX + name: tensor for name, tensor in tensors.items()}


def published_settings(
    config: HrmConfig, task: str | None = None, published: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of an `all_config.yaml` for a model: the way back of `config_from_published`.

    Args:
        task: name of its puzzles, if known; it becomes the data_path where `published` gives none.
        published: settings of the original run, which this package does not keep (rates, batches, data_path); those of
            `arch` that the config knows are replaced.
    Returns:
        The mapping; beside `arch` it states `seq_len`, which the published code takes from its data.
    Raises:
        CheckpointError: a model that the published code would halt by another rule.
    """
    if config.halting != "q_learning":
        raise CheckpointError(
            f"the model halts by {config.halting!r}; the published code knows 'q_learning' only, and would read a "
            "q_continue that was never trained"
        )
    published = dict(published or {})
    losses = {ours: name for name, ours in TOKEN_LOSSES.items()}
    arch = IGNORED_ARCH_ENTRIES | dict(published.get("arch", {}))
    arch |= {name: getattr(config, setting.ours) for name, setting in SETTINGS.items()}
    loss = arch.get("loss", {})
    if not isinstance(loss, dict):
        raise CheckpointError(f"arch.loss of the settings is {shown(loss)}; expected a mapping")
    arch["loss"] = {"name": LOSS_HEAD} | loss | {"loss_type": losses[config.token_loss]}
    if task is not None:
        published.setdefault("data_path", f"data/{task}")
    return published | {"arch": arch, "seq_len": config.seq_len}


def _matrix_shape(state_dict: Mapping[str, torch.Tensor], name: str) -> tuple[int, int]:
    if name not in state_dict:
        raise CheckpointError(f"the checkpoint lacks {name}, which its configuration asks for")
    shape = tuple(state_dict[name].shape)
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"{name} has shape {shape}; expected two axes that are not empty")
    return shape


def _setting(arch: Mapping[str, Any], name: str) -> Any:
    """An entry of `arch` as `SETTINGS` describes it; YAML reads 1e-5, without a dot, as text."""
    _, kind, default = SETTINGS[name]
    value = arch.get(name, default)
    if value is None:
        raise CheckpointError(f"arch lacks {name}")
    if kind is str:
        if not isinstance(value, str):
            raise CheckpointError(f"arch.{name} is {shown(value)}; expected a name")
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise CheckpointError(f"arch.{name} is {shown(value)}; expected a number")
    if kind is int and not number.is_integer():
        raise CheckpointError(f"arch.{name} is {shown(value)}; expected a whole number")
    return kind(number)


def _name(value: Any) -> str:
    return one_line(value if isinstance(value, str) else shown(value))


def _listed(names: Iterable[Any], separator: str = ", ") -> str:
    names = list(map(_name, names))
    first = separator.join(name if len(name) <= 1000 else f"{name[:1000]}..." for name in names[:_MAX_SHOWN])
    return first if len(names) <= _MAX_SHOWN else f"{first} and {len(names) - _MAX_SHOWN} more"
