"""Checkpoints of the published HRM and TRM training code, in both directions: a state dict and an `all_config.yaml`.

The names and shapes of the tensors are one table (`published_tensors`), read from either side, and so are the settings
(`SETTINGS`, `FAMILIES`). Nothing is guessed: an unknown tensor or setting is an error, so that a checkpoint of another
model cannot pass for one of these. Both ways are exact for checkpoints as the published code saves them, float32 with
the two initial states in the dtype of the activations: there and back gives the same tensors, whichever side one
starts from. Other dtypes are read too, as float32, and come back as that.

`published` is what `read_published_config` gives, `arch` its mapping of that name, `state_dict` what
`read_published_state_dict` gives, `family` as `find_family` takes it.
"""

import logging
import math
import re
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path, PureWindowsPath
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from ..files import one_line, read_within
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import ArgumentError, CheckpointError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.shown_value import is_integer, shown
from ..progress import get_logger

logger = get_logger(__name__)
_TABLE = "puzzle_emb.weights"

# What the published code saves: torch.compile, the loss head and the model of one segment each wrap the next.
PUBLISHED_PREFIX = "_orig_mod.model.inner."

# Parts that may stand before the names, in any number and order: compiling and distributed training wrap too.
_WRAPPERS = re.compile(r"^(?:(?:_orig_mod|module|model|inner)\.)*")

# Entries under which people save a state dict among other things.
NESTED_NAMES = ("model", "state_dict", "model_state_dict")

# Tensors that a checkpoint may hold and that no model needs: the puzzle rows of the last training batch; what rotary
# positions are computed from the settings.
DROPPED_TENSORS = ("puzzle_emb.local_weights", "puzzle_emb.local_ids")
_ROTARY = re.compile(r"(?:.+\.)?rotary_emb\.\w+_cached")

# Entries of `arch` and the fields of HrmConfig, in both families; the loss is translated apart, and shapes tell the
# other sizes.
_SIZES = ("hidden_size", "expansion", "puzzle_emb_ndim", "L_layers", "H_cycles", "L_cycles")
_OTHERS = ("halt_max_steps", "pos_encodings", "rope_theta", "rms_norm_eps")
SETTINGS = {name: name for name in (*_SIZES, *_OTHERS)}
SETTINGS |= {"num_heads": "num_attention_heads", "forward_dtype": "compute_dtype"}
DEFAULTS = {"rope_theta": 10000.0, "rms_norm_eps": 1e-5, "forward_dtype": "bfloat16"}  # of the published code


class Family(NamedTuple):
    """What one of the published codes has of its own."""

    title: str
    ignored: dict[str, Any]  # entries of `arch` that change no outcome, with what that code needs to find there
    settings: dict[str, str]  # further entries of `arch` and the fields of HrmConfig
    defaults: dict[str, Any]  # of these entries
    fields: dict[str, tuple]  # of HrmConfig with the values that they have there; where no entry says more, the first


_TRM_SETTINGS = {"mlp_t": "mixer", "no_ACT_continue": "halting", "puzzle_emb_len": "num_prefix_positions"}
FAMILIES = {
    "hrm": Family(
        "HRM",
        {"name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1", "halt_exploration_prob": 0.1},
        {"H_layers": "H_layers"},
        {},
        {
            "shared_levels": (False,),
            "gradient_span": ("last_updates",),
            "halting": ("q_learning",),
            "mixer": ("attention",),
            "pos_encodings": ("rope", "learned"),
            "num_prefix_positions": (None,),
        },
    ),
    "trm": Family(
        "the Tiny Recursive Model",
        {
            "name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
            "halt_exploration_prob": 0.1,
            "H_layers": 0,
        },
        _TRM_SETTINGS,
        {"mlp_t": False, "no_ACT_continue": True, "puzzle_emb_len": 16},
        {"shared_levels": (True,), "gradient_span": ("last_cycle",)},
    ),
}
# Values of entries that HrmConfig calls otherwise.
_VALUES = {
    "mlp_t": {False: "attention", True: "mlp"},
    "no_ACT_continue": {False: "q_learning", True: "halt_only"},
    "puzzle_emb_len": {0: None},
}

# Values of TRM's entries that say what HRM always does: HRM in forks of TRM's repository has such entries.
_AS_HRM = {"mlp_t": False, "no_ACT_continue": False, "puzzle_emb_len": 0}

TOKEN_LOSSES = {"stablemax_cross_entropy": "stablemax", "softmax_cross_entropy": "softmax"}

# Fields of HrmConfig that training alone reads and the published codes do not have.
_UNPUBLISHED = ("label_smoothing", "halting_loss_weight", "num_segments")

# Vectors that the published code keeps in the dtype of the activations; all other tensors are float32 there.
INIT_VECTORS = ("H_init", "L_init")

PUBLISHED_TASKS = {"sudoku": (81, 11), "maze": (900, 6), "arc": (900, 12)}  # cells S and cell codes V


class PublishedTensor(NamedTuple):
    """One row of the key table."""

    published: str  # name in the published file, without a prefix
    ours: str  # name in HrmForPuzzleSolving's state dict
    shape: tuple[int, ...]


class Cells(NamedTuple):
    """The number of cells of a checkpoint, the task where it is known, and how they were found."""

    seq_len: int
    task: str | None
    source: str


def published_tensors(config: HrmConfig) -> tuple[PublishedTensor, ...]:
    """The table of all tensors of a model: published name, our name, shape (linear weights are (out, in) in both)."""
    width = config.hidden_size
    if config.mixer == "mlp":
        positions, inner = config.num_positions, config.mixer_size
        block = {"mlp_t.gate_up_proj.weight": (2 * inner, positions), "mlp_t.down_proj.weight": (positions, inner)}
    else:
        block = {"self_attn.qkv_proj.weight": (3 * width, width), "self_attn.o_proj.weight": (width, width)}
    block |= {
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
        table.append((_TABLE, "model.puzzle_embeddings.weight", shape))
    for level, num_layers in (
        ("H_level", 0 if config.shared_levels else config.H_layers),
        ("L_level", config.L_layers),
    ):
        for layer in range(num_layers):
            for name, shape in block.items():
                table.append((f"{level}.layers.{layer}.{name}", f"model.{level}.layers.{layer}.{name}", shape))
    return tuple(PublishedTensor(*row) for row in table)


def read_published_state_dict(path: str | PathLike, key: str | None = None) -> dict[str, torch.Tensor]:
    """Reads a state dict: a `.safetensors` file, or by any other name one of `torch.save` (no code in it is run).

    key: the entry of the file that is the state dict, with dots between the names where it lies deeper; None: the file
        is one, or has one of `NESTED_NAMES`, and a message says which was taken.

    Returns:
        The tensors on the CPU under their published names, without wrappers, `DROPPED_TENSORS` and rotary tables.
    Raises:
        CheckpointError: no such file, a damaged file, or one that holds more than the tensors of one model.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a state dict of torch.save or a .safetensors file")
    content = _load_tensors(path)
    taken = _nested_name(path, content) if key is None else key
    loaded = content if taken is None else _entry(path, content, taken)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}; expected a dict of tensors")
    for name, value in loaded.items():
        dense = isinstance(value, torch.Tensor) and not value.is_nested and value.layout == torch.strided
        if not (isinstance(name, str) and dense and value.device.type == "cpu"):
            by_key = f"name the state dict by --key {'' if taken is None else f'{taken}.'}NAME"
            hint = by_key if isinstance(value, dict) else "save the model's state_dict()"
            raise CheckpointError(f"{path}: {shown(name)} is no named dense tensor; {hint}")
    size, held = path.stat().st_size, sum(tensor.nbytes for tensor in loaded.values())
    if held > size:  # one small storage behind a large shape: the model would be built as large as that
        raise CheckpointError(f"{path} has {size} bytes, but tensors of {held} bytes: it is no plain state dict")
    state_dict = {_WRAPPERS.sub("", name): tensor for name, tensor in loaded.items()}
    if len(state_dict) < len(loaded):
        raise CheckpointError(f"{path} holds several models: some names differ in their prefixes alone")
    if key is None and taken is not None:
        others = [name for name, value in content.items() if name != taken and _is_state_dict(value)]
        note = f"; it also holds {shown(others)}: --key takes another" if others else ""
        logger.log(logging.WARNING if others else logging.INFO, f"{path}: its entry {taken!r} was taken{note}")
    dropped = [name for name in state_dict if name in DROPPED_TENSORS or _ROTARY.fullmatch(name)]
    return {name: tensor for name, tensor in state_dict.items() if name not in dropped}


def _nested_name(path: Path, content: Any) -> str | None:
    """The one of `NESTED_NAMES` under which a file holds a state dict."""
    nested = [name for name in NESTED_NAMES if isinstance(content, dict) and isinstance(content.get(name), dict)]
    if len(nested) > 1:
        raise CheckpointError(f"{path} holds several state dicts: choose from {nested} with --key")
    return nested[0] if nested else None


def _entry(path: Path, content: Any, key: str) -> Any:
    """The entry that a key names: a name, which may hold dots (ema_0.999), or several with dots between them."""
    entry = content
    for name in [key] if isinstance(content, dict) and key in content else key.split("."):
        if not isinstance(entry, dict) or name not in entry:
            held = list(content) if isinstance(content, dict) else content
            raise CheckpointError(f"{path} has no entry {shown(key)}; it holds {shown(held)}")
        entry = entry[name]
    return entry


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(part, torch.Tensor) for part in value.values())


def _load_tensors(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch.save never compresses, and torch.load has no limit
                if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                    raise CheckpointError(f"{path} is no file of torch.save: it holds compressed data")
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # what torch.load raises on foreign bytes depends on the bytes: KeyError, EOFError ...
        if isinstance(error, UnpicklingError) and "unsupported" in str(error).lower():
            reason = f"{path} holds Python objects besides tensors, which could run code: nothing was read"
            ways = "ask its publisher for a plain dict of tensors or a .safetensors file of it"
            raise CheckpointError(f"{reason}; {ways}") from error
        raise CheckpointError(f"{path} is damaged (cut short?) or no file of torch.save or safetensors") from error


def read_published_config(path: str | PathLike) -> dict[str, Any]:
    """Reads an `all_config.yaml`: training settings, and the model's own in the mapping `arch`.

    Raises:
        CheckpointError: no such file, no YAML, more than 256 KiB of it, aliases in it (with which a line stands for
            gigabytes), or no mapping `arch`.
    """
    data = read_within(path, CheckpointError, 1 << 18)
    try:
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.SafeLoader))
        content = None if aliases else yaml.safe_load(data)
    except Exception as error:  # YAMLError, or what Python says to a date, number or depth that is none
        raise CheckpointError(f"{path} is not YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("arch"), dict):
        reason = "an alias (*name)" if aliases else "no mapping 'arch'"
        raise CheckpointError(f"{path} has {reason}; expected the all_config.yaml of a training run")
    return content


def find_family(arch: Mapping[str, Any], state_dict: Mapping[str, torch.Tensor], family: str | None = None) -> str:
    """Which of `FAMILIES` a checkpoint is of: as given, or by `arch.name`, or by what `arch` and the tensors hold.

    Raises:
        CheckpointError: the tensors are of the other one, or `arch.name` is a variant that this package does not have.
    """
    told = _told_family(arch)
    levels = {level for level in ("H_level", "L_level") if any(key.startswith(f"{level}.") for key in state_dict)}
    if family is None:
        family = told or ("trm" if levels == {"L_level"} else "hrm")
    if levels and ("H_level" in levels) != (family == "hrm"):
        other, signs = "hrm", ["the tensors H_level.*"]
        if family == "hrm":
            other, signs = "trm", [f"arch.{entry}" for entry in _entries_of_trm(arch)]
            signs.append("the tensors L_level.* without H_level.*")
        reason = f"{', '.join(signs)} tell of {FAMILIES[other].title}"
        raise CheckpointError(
            f"the checkpoint was taken for {FAMILIES[family].title}, but {reason}: give --family {other}"
        )
    return family


def _told_family(arch: Mapping[str, Any]) -> str | None:
    """The family that `arch` tells: by its name, or by entries that HRM does not have."""
    name = arch.get("name") if isinstance(arch.get("name"), str) else ""
    if variant := re.search(r"trm_(?:singlez|hier\d+)", name):
        raise CheckpointError(f"arch.name is {shown(name)}: {variant[0]} is another model, with other states")
    named = re.search("hrm|trm", name.lower())
    return named[0] if named else "trm" if _entries_of_trm(arch) else None


def _entries_of_trm(arch: Mapping[str, Any]) -> list[str]:
    return [name for name in _TRM_SETTINGS if name in arch and not _changes_nothing(name, arch[name])]


def find_cells(
    published: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    seq_len: int | None = None,
    task: str | None = None,
    family: str | None = None,
) -> Cells:
    """Finds the number of cells S, which a checkpoint with rotary positions does not hold.

    The first of these that is there: `task` or `seq_len`, the `seq_len` that the settings state (as
    `published_settings` does), the shapes of learned positions or of TRM's mixer, a task that `data_path`, or every
    one of `data_paths`, names. Whether it fits the checkpoint shows when the model is built.

    Raises:
        ArgumentError: `task` does not fit the checkpoint, or nothing tells the number of cells.
        CheckpointError: as `find_family`.
    """
    vocab_size = _matrix_shape(state_dict, "embed_tokens.embedding_weight")[0]
    fitting = next((name for name, (_, codes) in PUBLISHED_TASKS.items() if codes == vocab_size), None)
    if task not in (None, fitting):
        raise ArgumentError(f"task is {task!r}, but a checkpoint of {vocab_size} cell codes is of {fitting or 'none'}")
    data_path = published.get("data_paths") or published.get("data_path")
    paths = data_path if isinstance(data_path, list) else [data_path]
    named = fitting if task or all(_names_task(path, fitting) for path in paths) else None
    positions = _num_positions(state_dict)
    if task is not None:
        found, source = PUBLISHED_TASKS[task][0], f"task {task} as given"
    elif seq_len is not None:
        found, source = seq_len, "seq_len as given"
    elif published.get("seq_len") is not None:
        found, source = published["seq_len"], "seq_len of the settings"
    elif positions is not None:
        found = positions[0] - _num_prefix(published["arch"], state_dict, family)
        source = positions[1]
    elif named is not None:
        found, source = PUBLISHED_TASKS[named][0], f"data_path {', '.join(paths)}"
    else:
        reason = f"data_path {shown(data_path)} names no task of {vocab_size} cell codes"
        raise ArgumentError(f"the number of cells is not in the checkpoint, {reason}: give --seq-len or --task")
    return Cells(found, named if named and PUBLISHED_TASKS[named][0] == found else None, source)


def _num_positions(state_dict: Mapping[str, torch.Tensor]) -> tuple[int, str] | None:
    """All positions T, where a shape tells them, and which one does."""
    names = {"embed_pos.embedding_weight": "the learned positions"}
    names["L_level.layers.0.mlp_t.down_proj.weight"] = "the mixer over positions"
    found = ((_matrix_shape(state_dict, name)[0], source) for name, source in names.items() if name in state_dict)
    return next(found, None)


def _num_prefix(arch: Mapping[str, Any], state_dict: Mapping[str, torch.Tensor], family: str | None) -> int:
    """Positions P before the cells."""
    if find_family(arch, state_dict, family) == "trm":
        length = (FAMILIES["trm"].defaults | arch)["puzzle_emb_len"]
        if not is_integer(length) or length < 0:
            raise CheckpointError(f"arch.puzzle_emb_len is {shown(length)}; allowed: integers from 0")
        if length > 0:
            return length
    width = _matrix_shape(state_dict, "embed_tokens.embedding_weight")[1]
    puzzle_width = _matrix_shape(state_dict, _TABLE)[1] if _TABLE in state_dict else arch.get("puzzle_emb_ndim")
    return -(-puzzle_width // width) if is_integer(puzzle_width) else 0  # what is none, the configuration refuses


def _names_task(data_path: Any, task: str | None) -> bool:
    """Whether the last part of a data path names this task, no other one and no other size."""
    name = PureWindowsPath(data_path).name if isinstance(data_path, str) else ""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    if words & PUBLISHED_TASKS.keys() != {task}:
        return False
    side = math.isqrt(PUBLISHED_TASKS[task][0])
    return {word for word in words if re.fullmatch(r"\d+x\d+", word)} <= {f"{side}x{side}"}  # as maze-30x30-hard-1k


def config_from_published(
    arch: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    seq_len: int,
    compute_dtype: str | None = None,
    family: str | None = None,
) -> HrmConfig:
    """Translates `arch`; vocabulary and puzzle identifiers come from the shapes.

    Args:
        seq_len: number of cells S, see `find_cells`.
        compute_dtype: None takes `forward_dtype` from `arch`, or bfloat16, the published default.
        family: see `find_family`.
    Raises:
        CheckpointError: an entry that is missing, unknown or of a value that is not allowed; or as `find_family`.
    """
    own = FAMILIES[find_family(arch, state_dict, family)]
    settings = SETTINGS | own.settings
    loss = arch.get("loss")
    loss_type = loss.get("loss_type") if isinstance(loss, dict) else None
    if not isinstance(loss_type, str) or loss_type not in TOKEN_LOSSES:
        raise CheckpointError(f"arch.loss is {shown(loss)}; its loss_type must be one of {', '.join(TOKEN_LOSSES)}")
    known = {"loss", *settings, *own.ignored}
    if unknown := [name for name in arch if name not in known and not _changes_nothing(name, arch[name])]:
        raise CheckpointError(f"arch holds entries that {own.title} does not have: {shown(unknown)}")
    values = DEFAULTS | own.defaults | arch
    if missing := [name for name in settings if values.get(name) is None]:
        raise CheckpointError(f"arch lacks {', '.join(missing)}")
    if compute_dtype is not None:
        values["forward_dtype"] = compute_dtype
    num_identifiers = _matrix_shape(state_dict, _TABLE)[0] if _TABLE in state_dict else 1
    vocab_size = _matrix_shape(state_dict, "embed_tokens.embedding_weight")[0]
    try:
        fields = {ours: _VALUES.get(name, {}).get(values[name], values[name]) for name, ours in settings.items()}
        fields = {name: allowed[0] for name, allowed in own.fields.items()} | {"H_layers": fields["L_layers"]} | fields
        if fields["mixer"] == "mlp" and fields["pos_encodings"] == "rope":
            fields["pos_encodings"] = "none"  # the published code does not look at it
        for name in ("expansion", "rope_theta", "rms_norm_eps"):  # YAML reads 1e-5, without a dot, as text
            fields[name] = float(fields[name])
        config = HrmConfig(
            vocab_size=vocab_size,
            num_puzzle_identifiers=num_identifiers,
            seq_len=seq_len,
            token_loss=TOKEN_LOSSES[loss_type],
            **fields,
        )
        published_tensors(config)  # fails for sizes beyond all floats
    except (StrictDataclassError, TypeError, ValueError, OverflowError) as error:
        named = [f"{ours} is arch.{name}" for name, ours in settings.items() if name != ours and ours in str(error)]
        reason = "; ".join([one_line(error), *named])
        raise CheckpointError(f"the settings do not describe a model: {reason}") from error
    return config


def _changes_nothing(name: Any, value: Any) -> bool:
    """Whether an entry of `arch` that a family does not have leaves a model what it is."""
    if name in _AS_HRM:
        return value == _AS_HRM[name]
    return isinstance(name, str) and ("dropout" in name and value in (0, None) or name == "causal" and value is False)


def convert_state_dict(state_dict: Mapping[str, torch.Tensor], config: HrmConfig) -> dict[str, torch.Tensor]:
    """Renames published tensors to HrmForPuzzleSolving's names, in float32 (bfloat16 init vectors convert exactly).

    Where a TRM comes without its puzzle table, as people pass it on, its one row is blank, and a warning says so.

    Raises:
        CheckpointError: missing or unexpected names, shapes other than the config's, dtypes that float32 cannot hold.
    """
    if config.shared_levels and config.puzzle_emb_ndim > 0 and _TABLE not in state_dict:
        logger.warning("the checkpoint has no puzzle table: the model gets one blank row, of zeros")
        state_dict = {**state_dict, _TABLE: torch.zeros(1, config.puzzle_emb_ndim)}
    table = {entry.published: entry for entry in published_tensors(config)}
    problems = []
    if missing := [name for name in table if name not in state_dict]:
        problems.append(f"missing: {shown(missing)}")
    if unexpected := [name for name in state_dict if name not in table]:
        problems.append(f"unexpected: {shown(unexpected)}")
    for name in (name for name in table if name in state_dict):
        tensor, shape = state_dict[name], table[name].shape
        if tensor.shape != shape:
            problems.append(f"{name} has shape {tuple(tensor.shape)}, the configuration gives {shape}")
        elif tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            problems.append(f"{name} is {tensor.dtype}, not float32, bfloat16 or float16")
        elif not tensor.isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise CheckpointError(f"the tensors do not fit the configuration; {'; '.join(problems)}")
    return {entry.ours: state_dict[name].to(torch.float32) for name, entry in table.items()}


def load_published(
    checkpoint: str | PathLike,
    config: str | PathLike,
    seq_len: int | None = None,
    task: str | None = None,
    compute_dtype: str | None = None,
    family: str | None = None,
    key: str | None = None,
) -> HrmForPuzzleSolving:
    """Builds the model of a published checkpoint, in evaluation mode, weights in float32.

    Args:
        checkpoint, config: files, see `read_published_state_dict`, which takes `key`, and `read_published_config`.
        seq_len, task, compute_dtype, family: as `find_cells` and `config_from_published` take them, with their errors.
    """
    published, state_dict = read_published_config(config), read_published_state_dict(checkpoint, key)
    cells = find_cells(published, state_dict, seq_len, task, family)
    return model_from_published(published, state_dict, cells.seq_len, compute_dtype, family)


def model_from_published(
    published: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    seq_len: int,
    compute_dtype: str | None = None,
    family: str | None = None,
) -> HrmForPuzzleSolving:
    """`load_published` for files that are already read."""
    config = config_from_published(published["arch"], state_dict, seq_len, compute_dtype, family)
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
        config: of one of `FAMILIES`.
        task: name of its puzzles, if known; it becomes the data_path, TRM's data_paths, where `published` gives none.
        published: settings of the original run, which this package does not keep (rates, batches, data_path); those of
            `arch` that the config knows are replaced.
    Returns:
        The mapping; beside `arch` it states `seq_len`, which the published code takes from its data.
    Raises:
        CheckpointError: a model that neither published code has, or settings of the other one.
    """
    family = "trm" if config.shared_levels else "hrm"
    own, published = FAMILIES[family], dict(published or {})
    others = [name for name, allowed in own.fields.items() if getattr(config, name) not in allowed]
    if config.num_prefix == -(-config.puzzle_emb_ndim // config.hidden_size):  # stated, but as many as None takes
        others = [name for name in others if name != "num_prefix_positions"]
    if others:
        has = "; ".join(f"{name} is {getattr(config, name)!r}, there {own.fields[name][0]!r}" for name in others)
        raise CheckpointError(f"the published code of {own.title} has no such model: {has}")
    if (told := _told_family(published.get("arch", {}))) not in (None, family):
        raise CheckpointError(f"the settings are of {FAMILIES[told].title}, the model is {own.title}")
    if lost := [name for name in _UNPUBLISHED if getattr(config, name) != getattr(HrmConfig, name)]:
        values = ", ".join(f"{name} {getattr(config, name)}" for name in lost)
        logger.warning(f"left out of the settings, for the published code has no such options: {values}")
    losses = {ours: name for name, ours in TOKEN_LOSSES.items()}
    arch = own.ignored | dict(published.get("arch", {}))
    for name, ours in (SETTINGS | own.settings).items():
        values = {field: value for value, field in _VALUES.get(name, {}).items()}
        arch[name] = values.get(getattr(config, ours), getattr(config, ours))
    arch["loss"] = {"name": "losses@ACTLossHead", "loss_type": losses[config.token_loss]}
    if task is not None and not published.keys() & {"data_path", "data_paths"}:
        published |= {"data_paths": [f"data/{task}"]} if family == "trm" else {"data_path": f"data/{task}"}
    return published | {"arch": arch, "seq_len": config.seq_len}


def _matrix_shape(state_dict: Mapping[str, torch.Tensor], name: str) -> tuple[int, int]:
    if name not in state_dict:
        raise CheckpointError(
            f"the checkpoint is of no HRM or TRM: it lacks {name} and holds {shown(list(state_dict))}"
        )
    shape = tuple(state_dict[name].shape)
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"{name} has shape {shape}; expected two axes that are not empty")
    return shape
