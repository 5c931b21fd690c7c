"""The Hierarchical Reasoning Model: mixer -> block -> level -> HrmModel (one segment) -> HrmForPuzzleSolving.

arXiv 2506.21734; with other fields of the config the Tiny Recursive Model (arXiv 2510.04871). Where a paper and its
published code differ, this file follows the code, as do the published checkpoints.

Shapes: B batch, S cells, P prefix positions (the puzzle vector), T = P + S, D hidden, N heads, K = D / N,
V vocabulary, E width of the puzzle table, F inner width of the SwiGLU.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_hrm import HrmConfig
from .errors import ArgumentError, PuzzleError
from .halting import q_continue_targets as targets_of_q_continue
from .halting import select_rows
from .keywords import refuse_keywords
from .losses import IGNORE_INDEX, segment_losses
from .solving import PuzzleSlots, SolvedRow, check_count, on_device, solve_queue

WRITTEN_OUT_POSITIONS = 256  # see attention_function
TRUNCATED_NORMAL_STD = 0.87962566103423978  # standard deviation of N(0, 1) cut at +-2


class HrmCarry(NamedTuple):
    """The recurrent states that a segment hands to the next one, detached, in the compute dtype."""

    z_H: torch.Tensor  # (B, T, D)
    z_L: torch.Tensor  # (B, T, D)


Rotary = tuple[torch.Tensor, torch.Tensor]  # cos, sin: (T, K) float32


@dataclass
class HrmModelOutput(ModelOutput):
    """Output of one segment of [`HrmModel`]."""

    last_hidden_state: torch.Tensor | None = None  # (B, T, D) in the compute dtype, the high-level state with gradient
    carry: HrmCarry | None = None  # both states, detached


@dataclass
class HrmOutput(ModelOutput):
    """Output of one segment of [`HrmForPuzzleSolving`]."""

    loss: torch.Tensor | None = None  # () mean over the rows of `SegmentLosses.total`; only with labels
    logits: torch.Tensor | None = None  # (B, S, V) in the compute dtype
    q_halt_logits: torch.Tensor | None = None  # (B,) float32
    q_continue_logits: torch.Tensor | None = None  # (B,) float32
    carry: HrmCarry | None = None  # what to give to the next segment


@dataclass
class HrmSolveOutput(ModelOutput):
    """Output of [`HrmForPuzzleSolving.solve`], from the last segment of each row."""

    sequences: torch.Tensor | None = None  # (B, S) int64 codes of the answer
    segments: torch.Tensor | None = None  # (B,) int64, segments spent
    q_halt_logits: torch.Tensor | None = None  # (B,) float32; its sigmoid is the confidence


def rms_norm(hidden: torch.Tensor, eps: float, axis: int = -1) -> torch.Tensor:
    """Root-mean-square norm over one axis, no learnable scale; float32 inside, the input's dtype outside."""
    wide = hidden.float()
    return (wide * torch.rsqrt(wide.square().mean(axis, keepdim=True) + eps)).to(hidden.dtype)


def rotary_tables(num_positions: int, head_dim: int, theta: float, device: torch.device) -> Rotary:
    """cos and sin of the rotary angles, (T, K) float32 each; the two halves of K hold the same angles (as in Llama).

    They are no buffers: those would be lost on loading, and computing them costs nothing beside a segment.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequencies = 1.0 / theta**exponents  # (K / 2,)
    angles = torch.outer(torch.arange(num_positions, dtype=torch.float32, device=device), frequencies)  # (T, K / 2)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def apply_rotary_pos_emb(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates x (B, N, T, K) by its positions; float32 inside, the input's dtype outside."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out; query, key, value (B, N, T, K) -> (B, T, N, K) and the weights (B, N, T, T)."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2), weights


def attention_function(implementation: str, query: torch.Tensor) -> Callable:
    """The attention of this name in transformers' interface.

    For "sdpa" in bfloat16 on a CPU and up to a few hundred positions it is the written-out one: the fused kernel takes
    twice as long there, and six to ten times with its gradient (measured with PyTorch 2.13).
    """
    on_cpu_in_bfloat16 = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if implementation == "sdpa" and on_cpu_in_bfloat16 and query.shape[2] <= WRITTEN_OUT_POSITIONS:
        return eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)


def linear(in_features: int, out_features: int, bias: bool = False) -> nn.Linear:
    """A linear layer that computes in the dtype of its input, whatever that of its weights.

    It is an `nn.Linear` with methods of its own and no subclass: torch's `quantize_dynamic` passes subclasses over.
    """
    return _with_own_methods(nn.Linear(in_features, out_features, bias=bias))


def _with_own_methods(layer: nn.Linear) -> nn.Linear:
    layer.kept_weight = None  # a `_Kept`, inside `KeptWeights`
    layer.forward = MethodType(_linear_forward, layer)  # a partial would have torch.compile compile each layer's block
    layer.__reduce_ex__ = MethodType(_reduce, layer)  # pickle and deepcopy take no such methods
    layer._replicate_for_data_parallel = MethodType(_replicate, layer)
    return layer


def _reduce(layer: nn.Linear, protocol: int) -> tuple:
    return _restore, ({name: value for name, value in vars(layer).items() if not isinstance(value, MethodType)},)


def _restore(state: dict) -> nn.Linear:
    layer = nn.Linear.__new__(nn.Linear)
    layer.__setstate__(state)
    return _with_own_methods(layer)


def _replicate(layer: nn.Linear) -> nn.Linear:
    return _with_own_methods(nn.Module._replicate_for_data_parallel(layer))


def _linear_forward(layer: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    bias = None if layer.bias is None else layer.bias.to(hidden.dtype)
    return F.linear(hidden, _weight_in(hidden.dtype, layer), bias)


def _weight_in(dtype: torch.dtype, layer: nn.Linear) -> torch.Tensor:
    """The layer's weight in this dtype: the kept one, if it carries the gradient that is asked for."""
    kept, weight = layer.kept_weight, layer.weight
    if kept is None or kept.cast.dtype != dtype or not (torch.compiler.is_compiling() or kept.is_of(weight)):
        return weight.to(dtype)
    has_gradient = kept.cast.requires_grad or not (weight.requires_grad and torch.is_grad_enabled())
    return kept.cast if has_gradient else weight.to(dtype)


class _Kept(NamedTuple):
    cast: torch.Tensor
    weight: torch.Tensor
    thread: int

    def is_of(self, weight: torch.Tensor) -> bool:
        """Whether this thread keeps it, for this very weight: adapters and pruning may put another in its place."""
        return weight is self.weight and self.thread == threading.get_ident()


class KeptWeights:
    """Context in which a model's linear layers read their weights as they were cast when this was made.

    So each is cast once. It may be entered again until the weights change; other threads do not see it, and within
    another such context it does nothing. Weights that are elsewhere (offloaded, on "meta") are cast when they come.

    Raises:
        ArgumentError: another dtype than float32 for layers of `quantize_dynamic`.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        self._casts: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]] = []  # layer, weight, its cast
        for layer in () if torch.compiler.is_compiling() else model.modules():  # the compiler casts once by itself
            if "kept_weight" in vars(layer):
                weight = layer.weight
                if weight.dtype != dtype and not weight.is_meta:
                    self._casts.append((layer, weight, _weight_in(dtype, layer)))
            elif dtype != torch.float32 and type(layer).__module__.startswith("torch.ao.nn.quantized.dynamic"):
                raise ArgumentError("layers of quantize_dynamic take float32 alone: set compute_dtype to 'float32'")

    def __enter__(self) -> None:
        self._entered: list[tuple[nn.Linear, _Kept]] = []
        for layer, weight, cast in self._casts:
            if (kept := layer.kept_weight) is None or kept.cast is not cast or not kept.is_of(weight):
                layer.kept_weight = _Kept(cast, weight, threading.get_ident())
                self._entered.append((layer, layer.kept_weight))

    def __exit__(self, *error: object) -> None:
        for layer, kept in self._entered:
            if layer.kept_weight is kept:  # else another thread has put its own there
                layer.kept_weight = None


class HrmAttention(nn.Module):
    """Bidirectional attention with one fused input projection, by transformers' attention interface."""

    def __init__(self, config: HrmConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.head_dim
        self.scaling = self.head_dim**-0.5
        self.is_causal = False  # the interface takes True when this is missing
        self.qkv_proj = linear(config.hidden_size, 3 * config.hidden_size)  # rows: query, key, value
        self.o_proj = linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor, rotary: Rotary | None, first: int | None = None) -> torch.Tensor:
        """(B, T, D) -> (B, T, D), or (B, first, D) when only the first positions are asked for."""
        batch, positions, width = hidden.shape
        qkv = self.qkv_proj(hidden).view(batch, positions, 3, -1, self.head_dim)  # (B, T, 3, N, K)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, N, T, K) each
        query = query[:, :, :first]
        if rotary is not None:
            cos, sin = rotary
            query = apply_rotary_pos_emb(query, cos[:first], sin[:first])
            key = apply_rotary_pos_emb(key, cos, sin)
        attention = attention_function(self.config._attn_implementation, key)
        mixed, _ = attention(self, query, key, value, None, scaling=self.scaling, dropout=0.0)  # (B, T, N, K)
        return self.o_proj(mixed.reshape(batch, -1, width))


class HrmMLP(nn.Module):
    """SwiGLU over the last axis, with one fused gate and up projection."""

    def __init__(self, width: int, inner_width: int):
        super().__init__()
        self.gate_up_proj = linear(width, 2 * inner_width)  # rows: gate, up
        self.down_proj = linear(inner_width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)  # (..., F) each
        return self.down_proj(F.silu(gate) * up)


class HrmBlock(GradientCheckpointingLayer):
    """Post-norm block: a mixer of positions, then SwiGLU, each with its residual inside the norm."""

    def __init__(self, config: HrmConfig):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.self_attn = self.mlp_t = None
        # CODEPATH: HRM's models, and TRM's for mazes and ARC, have attention; TRM's for Sudoku the mlp.
        if config.mixer == "attention":
            self.self_attn = HrmAttention(config)
        else:
            self.mlp_t = HrmMLP(config.num_positions, config.mixer_size)  # over T, the same for every channel
        self.mlp = HrmMLP(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: torch.Tensor, rotary: Rotary | None, first: int | None = None) -> torch.Tensor:
        """(B, T, D) -> (B, T, D), or (B, first, D) when only the first positions are asked for."""
        if self.mlp_t is None:
            hidden = rms_norm(hidden[:, :first] + self.self_attn(hidden, rotary, first), self.eps)
        else:  # its norm, over T, needs every position; torch multiplies a view otherwise where there are gradients
            mixed = self.mlp_t(hidden.transpose(1, 2).contiguous()).transpose(1, 2)
            hidden = rms_norm(hidden + mixed, self.eps, axis=1)[:, :first]
        return rms_norm(hidden + self.mlp(hidden), self.eps)


class HrmLevel(nn.Module):
    """A stack of blocks; its input is the level's own state plus an injection."""

    def __init__(self, config: HrmConfig, num_layers: int):
        super().__init__()
        self.layers = nn.ModuleList([HrmBlock(config) for _ in range(num_layers)])

    def forward(
        self,
        state: torch.Tensor,
        injection: torch.Tensor,
        rotary: Rotary | None,
        run_block: Callable | None = None,
        first: int | None = None,
    ) -> torch.Tensor:
        """(B, T, D), twice -> (B, T, D), or (B, first, D) when only the first positions are asked for."""
        hidden = state + injection
        for layer in self.layers if first is None else self.layers[:-1]:
            hidden = layer(hidden, rotary) if run_block is None else run_block(layer, hidden, rotary)
        return hidden if first is None else self.layers[-1](hidden, rotary, first)


class HrmPuzzleTable(nn.Embedding):
    """A vector for every puzzle identifier.

    With `sparse` set its gradient is a sparse tensor, which few optimisers take. HrmTrainer sets it: the table of ARC
    has 450 M values.
    """

    def __init__(self, config: HrmConfig):
        super().__init__(config.num_puzzle_identifiers, config.puzzle_emb_ndim)


class HrmPreTrainedModel(PreTrainedModel):
    """Weights in and out (safetensors), initialisation, attention backends."""

    config: HrmConfig
    config_class = HrmConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    _no_split_modules = ["HrmBlock"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over rows: transformers.Trainer divides by its accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = True

    # Every module is named below, and none takes the base class's normal of standard deviation 0.02.
    # trf-ignore: TRF018
    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Truncated normals whose standard deviation AFTER the cut is 1 / sqrt(fan_in) (1 for the init vectors)."""
        if isinstance(module, nn.Linear) and module.bias is not None:  # the q head alone has one
            init.zeros_(module.weight)
            init.constant_(module.bias, -5.0)  # halting starts improbable and independent of the state
        elif isinstance(module, HrmPuzzleTable):
            init.zeros_(module.weight)
        elif isinstance(module, (nn.Linear, nn.Embedding)):  # the latter: tokens, learned positions
            _truncated_normal(module.weight, std=module.weight.shape[1] ** -0.5)
        elif isinstance(module, HrmModel):
            _truncated_normal(module.z_H_init, std=1.0)
            _truncated_normal(module.z_L_init, std=1.0)


def _truncated_normal(tensor: torch.Tensor, std: float) -> None:
    scale = std / TRUNCATED_NORMAL_STD
    init.trunc_normal_(tensor, mean=0.0, std=scale, a=-2 * scale, b=2 * scale)


class HrmModel(HrmPreTrainedModel):
    """The recurrent core: one segment of H_cycles x L_cycles updates, the last of which carry gradients.

    With `config.shared_levels` L_level is both levels, and H_level is None.
    """

    def __init__(self, config: HrmConfig):
        super().__init__(config)
        config.validate_architecture()  # from_pretrained(field=value) sets fields without a check
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = None
        # CODEPATH: the published full-Sudoku recipe learns its positions; all other published models use rope.
        if config.pos_encodings == "learned":
            self.embed_positions = nn.Embedding(config.num_positions, config.hidden_size)
        self.puzzle_embeddings = None
        # CODEPATH: all published models have a table; without one the q head reads the first cell.
        if config.puzzle_emb_ndim > 0:
            self.puzzle_embeddings = HrmPuzzleTable(config)
        # CODEPATH: TRM's models share their levels, HRM's do not.
        self.H_level = None if config.shared_levels else HrmLevel(config, config.H_layers)
        self.L_level = HrmLevel(config, config.L_layers)
        self.z_H_init = nn.Buffer(torch.empty(config.hidden_size))
        self.z_L_init = nn.Buffer(torch.empty(config.hidden_size))
        self.post_init()

    @property
    def compute_dtype(self) -> torch.dtype:
        return getattr(torch, self.config.compute_dtype)

    def initial_carry(self, batch_size: int) -> HrmCarry:
        """The init vectors in the compute dtype, broadcast to (batch_size, T, D)."""
        shape = (batch_size, self.config.num_positions, self.config.hidden_size)
        return HrmCarry(*(start.to(self.compute_dtype).expand(shape) for start in (self.z_H_init, self.z_L_init)))

    def reset_carry(self, carry: HrmCarry, rows: torch.Tensor) -> HrmCarry:
        """The carry with the rows where `rows` (B,) bool is True set back to the init vectors."""
        fresh = self.initial_carry(rows.shape[0])
        return HrmCarry(*(select_rows(rows, new, old) for new, old in zip(fresh, carry, strict=True)))

    def kept_weights(self) -> KeptWeights:
        """Casts every weight once, for all segments until the weights change: `with model.kept_weights(): ...`."""
        return KeptWeights(self, self.compute_dtype)

    def embed(self, input_ids: torch.Tensor, puzzle_identifiers: torch.Tensor | None = None) -> torch.Tensor:
        """The input embedding e: puzzle vector, tokens and learned positions, scaled by sqrt(D).

        input_ids (B, S) int; puzzle_identifiers (B,) int, rows of the puzzle table, None = 0 for all -> (B, T, D) in
        the compute dtype. Raises PuzzleError as `check_inputs` does.
        """
        self.check_inputs(input_ids, puzzle_identifiers)
        config, dtype = self.config, self.compute_dtype
        embeddings = self.embed_tokens(input_ids.long()).to(dtype)  # (B, S, D)
        if self.puzzle_embeddings is not None:
            if puzzle_identifiers is None:
                puzzle_identifiers = input_ids.new_zeros(input_ids.shape[0])
            prefix = self.puzzle_embeddings(puzzle_identifiers.long()).to(dtype)  # (B, E)
            prefix = F.pad(prefix, (0, config.num_prefix * config.hidden_size - config.puzzle_emb_ndim))
            prefix = prefix.view(-1, config.num_prefix, config.hidden_size)  # (B, P, D)
            embeddings = torch.cat((prefix, embeddings), dim=1)  # (B, T, D)
        if self.embed_positions is not None:
            positions = self.embed_positions(torch.arange(config.num_positions, device=embeddings.device)).to(dtype)
            embeddings = 0.707106781 * (embeddings + positions)
        return math.sqrt(config.hidden_size) * embeddings

    def check_inputs(self, input_ids: torch.Tensor, puzzle_identifiers: torch.Tensor | None) -> None:
        """Raises PuzzleError for another number of cells or, on the CPU, codes or identifiers that the model lacks."""
        config = self.config
        if input_ids is None:
            raise PuzzleError("input_ids is missing")
        if input_ids.ndim != 2 or input_ids.shape[1] != config.seq_len:
            raise PuzzleError(f"input_ids has shape {tuple(input_ids.shape)}; expected (batch, {config.seq_len})")
        _check_range("input_ids", input_ids, config.vocab_size, "the vocabulary")
        if puzzle_identifiers is None:
            return
        if puzzle_identifiers.shape != input_ids.shape[:1]:
            shape, expected = tuple(puzzle_identifiers.shape), tuple(input_ids.shape[:1])
            raise PuzzleError(f"puzzle_identifiers has shape {shape}; expected {expected}")
        size = config.num_puzzle_identifiers if self.puzzle_embeddings is not None else None
        _check_range("puzzle_identifiers", puzzle_identifiers, size, "the puzzle table")

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        puzzle_identifiers: torch.Tensor | None = None,
        carry: HrmCarry | None = None,
        inputs_embeds: torch.Tensor | None = None,
        run_block: Callable | None = None,
        **kwargs,
    ) -> HrmModelOutput:
        """Runs one segment; arguments as in [`HrmForPuzzleSolving.forward`]."""
        refuse_keywords(kwargs, HrmModel.forward)
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, puzzle_identifiers)
        z_H, z_L = self.segment(carry, inputs_embeds, run_block)
        return HrmModelOutput(last_hidden_state=z_H, carry=HrmCarry(z_H.detach(), z_L.detach()))

    def segment(
        self,
        carry: HrmCarry | None,
        inputs_embeds: torch.Tensor,
        run_block: Callable | None,
        first: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z_H and z_L (B, T, D) after all cycles of one segment; with `first` z_H ends with its first positions."""
        config, rotary, H_level = self.config, None, self.H_level or self.L_level
        # CODEPATH: learned positions are in the embedding already (the published full-Sudoku recipe).
        if config.pos_encodings == "rope":
            rotary = rotary_tables(config.num_positions, config.head_dim, config.rope_theta, inputs_embeds.device)
        z_H, z_L = self.initial_carry(inputs_embeds.shape[0]) if carry is None else carry
        with self.kept_weights():
            for h_cycle in range(1, config.H_cycles + 1):
                last = h_cycle == config.H_cycles
                for l_cycle in range(1, config.L_cycles + 1):
                    with _gradient(config.gradient_span, last, l_cycle == config.L_cycles):
                        z_L = self.L_level(z_L, z_H + inputs_embeds, rotary, run_block)
                with _gradient(config.gradient_span, last):
                    z_H = H_level(z_H, z_L, rotary, run_block, first if last else None)
        return z_H, z_L


def _gradient(span: str, last_cycle: bool, last_update: bool = True) -> torch.set_grad_enabled:
    """Whether an update carries a gradient: one of the segment, of its last cycle, or the level's very last one."""
    carried = span == "segment" or last_cycle and (span == "last_cycle" or last_update)
    if carried and not torch.compiler.is_compiling():
        torch.clear_autocast_cache()  # torch 2.9 takes weights from it that it cast for an update without gradient
    return torch.set_grad_enabled(carried and torch.is_grad_enabled())


class HrmForPuzzleSolving(HrmPreTrainedModel):
    """HRM with its two heads: the answer's cells, and whether to halt or to continue.

    Training and solving read `self.model` by `cell_logits` and `q_logits`, which call the modules `lm_head` and
    `q_head`. What changes a head (a hook, an adapter, a subclass) belongs there: `solve` does not call `forward`.
    """

    def __init__(self, config: HrmConfig):
        super().__init__(config)
        self.model = HrmModel(config)
        self.lm_head = linear(config.hidden_size, config.vocab_size)
        self.q_head = linear(config.hidden_size, 2, bias=True)
        self.post_init()

    def initial_carry(self, batch_size: int) -> HrmCarry:
        """See [`HrmModel.initial_carry`]."""
        return self.model.initial_carry(batch_size)

    def reset_carry(self, carry: HrmCarry, rows: torch.Tensor) -> HrmCarry:
        """See [`HrmModel.reset_carry`]."""
        return self.model.reset_carry(carry, rows)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        puzzle_identifiers: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        carry: HrmCarry | None = None,
        q_continue_targets: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        num_segments: int | None = None,
        run_block: Callable | None = None,
        **kwargs,
    ) -> HrmOutput:
        """Runs segments, one by default, and both heads after each; the output is that of the last one.

        Args:
            input_ids: (B, S) int, cell codes; may be None when `inputs_embeds` is given.
            puzzle_identifiers: (B,) int, rows of the puzzle table; None = 0.
            labels: (B, S) int64, -100 = ignored; with them the output has a loss, the mean over rows and segments.
            carry: `out.carry` of the segment before; None starts from the init vectors.
            q_continue_targets: (B,) probabilities from `halting.q_continue_targets`, for the last segment alone.
            inputs_embeds: (B, T, D) from [`HrmModel.embed`]: saves embedding the input again.
            num_segments: from 1; None = `config.num_segments`. No gradient passes from a segment to the one before.
            run_block: how a block is run, (block, hidden, rotary) -> hidden, for instance compiled; None = called.
            kwargs: what transformers, Accelerate and PEFT hand to every model and this one does not need.
        Raises:
            PuzzleError: input or labels outside what the model knows.
            TypeError: another keyword, or one that asks for what the model does not give.
            ArgumentError: `num_segments` below 1.
        """
        refuse_keywords(kwargs, HrmForPuzzleSolving.forward)
        config = self.config
        num_segments = config.num_segments if num_segments is None else num_segments
        check_count("num_segments", num_segments)
        segments = []
        with self.model.kept_weights():
            if inputs_embeds is None:
                inputs_embeds = self.model.embed(input_ids, puzzle_identifiers)
            for _ in range(num_segments):
                out = self.model(inputs_embeds=inputs_embeds, carry=carry, run_block=run_block, return_dict=True)
                carry = out.carry
                segments.append((self.cell_logits(out.last_hidden_state), *self.q_logits(out.last_hidden_state[:, 0])))
        loss = None if labels is None else self._loss(segments, labels, q_continue_targets)
        logits, q_halt, q_continue = segments[-1]
        return HrmOutput(loss=loss, logits=logits, q_halt_logits=q_halt, q_continue_logits=q_continue, carry=carry)

    def _loss(self, segments: list[tuple], labels: torch.Tensor, last_targets: torch.Tensor | None) -> torch.Tensor:
        """The mean over rows and segments, of which each is logits, q_halt and q_continue."""
        expected = segments[0][0].shape[:2]
        if labels.shape != expected:
            raise PuzzleError(f"labels has shape {tuple(labels.shape)}; expected {tuple(expected)}")
        self.check_labels(labels)
        config, losses = self.config, []
        for number, segment in enumerate(segments, start=1):
            targets = last_targets if number == len(segments) else None
            # CODEPATH: HRM learns q_continue; models that halt by q_halt alone, as the Tiny Recursive Model, do not.
            if number < len(segments) and config.halting == "q_learning":
                _, *following = segments[number]
                steps = torch.full_like(labels[:, 0], number)
                targets = targets_of_q_continue(*(q.detach() for q in following), steps, config.halt_max_steps)
            of_rows = segment_losses(*segment, labels.long(), config.token_loss, targets, config.label_smoothing)
            losses.append(of_rows.total(config.halting_loss_weight).mean())
        return torch.stack(losses).mean()

    @torch.no_grad()
    def q_logits_ahead(
        self, carry: HrmCarry | None, inputs_embeds: torch.Tensor, run_block: Callable | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """q_halt and q_continue of the segment after `carry`, (B,) float32 each; up to rounding those of `forward`."""
        return self.q_logits(self.model.segment(carry, inputs_embeds, run_block, first=1)[0][:, 0])

    def cell_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The high-level state (B, T, D) -> logits of the answer's cells, (B, S, V) in the compute dtype."""
        return self.lm_head(hidden)[:, self.config.num_prefix :]

    def q_logits(self, first_state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The high-level state's first position (B, D) -> q_halt and q_continue, (B,) float32 each."""
        q_logits = self.q_head(first_state).float()  # (B, 2), computed in the dtype of the state
        return q_logits[:, 0], q_logits[:, 1]

    def check_labels(self, labels: torch.Tensor) -> None:
        """Raises PuzzleError for labels outside the vocabulary; on an accelerator nothing is looked at."""
        _check_range("labels", labels, self.config.vocab_size, "the vocabulary")

    def solve(
        self,
        input_ids: torch.Tensor,
        puzzle_identifiers: torch.Tensor | None = None,
        max_segments: int | None = None,
        halt: bool = True,
        compute_dtype: str | None = None,
        run_block: Callable | None = None,
    ) -> HrmSolveOutput:
        """Answers puzzles, all at once, with as many segments as they need; for many there is `solve_queue`.

        Args:
            input_ids: (B, S) int.
            puzzle_identifiers: (B,) int; None = 0.
            max_segments: segments at the most, from 1; None = `config.halt_max_steps`.
            halt: True: a row stops at its first halt, by the rule of `config.halting`, and leaves the batch; False:
                every row runs all segments and the last one answers (the published evaluation).
            compute_dtype: "float32", "bfloat16", "auto" (the quicker one here) or None: see `chosen_dtype`.
            run_block: see `forward`; compiled blocks change answers by rounding alone.
        Raises:
            ArgumentError: a value that is not allowed.
            PuzzleError: input outside what the model knows.
        """
        slots = PuzzleSlots(self, max_segments, halt, compute_dtype, run_block)
        slots.add(range(len(input_ids)), input_ids, puzzle_identifiers)
        sequences = torch.zeros_like(input_ids, dtype=torch.long)
        segments = np.zeros(len(input_ids), dtype=np.int64)
        q_halt_logits = input_ids.new_zeros(len(input_ids), dtype=torch.float32)
        while len(slots) > 0:
            done = slots.run_segment()
            if done is not None:
                rows = on_device(done.keys, input_ids.device)
                sequences[rows], q_halt_logits[rows] = done.sequences, done.q_halt_logits
                segments[done.keys] = done.segments
        spent = on_device(segments, input_ids.device)
        return HrmSolveOutput(sequences=sequences, segments=spent, q_halt_logits=q_halt_logits)

    def solve_queue(
        self, rows: Iterable[tuple[np.ndarray, int]], batch_size: int, **how: object
    ) -> Iterator[SolvedRow]:
        """Answers any number of puzzles in their order, `batch_size` at work at a time: see `solving.solve_queue`.

        `how`: max_segments, halt, compute_dtype, run_block, as in `solve`; attempts, an `attempts.Attempts`.
        """
        return solve_queue(self, rows, batch_size, **how)


def _check_range(name: str, values: torch.Tensor, size: int | None, what: str) -> None:
    """PuzzleError unless these are integers and, on the CPU, 0 to size - 1 (in labels also -100).

    Elsewhere the numbers are not looked at: the host would wait for the device.
    """
    if values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool:
        raise PuzzleError(f"{name} has dtype {values.dtype}; expected integers")
    if size is None or values.device.type != "cpu" or torch.compiler.is_compiling():
        return
    values = values.long()  # the unsigned types have no minimum
    if name == "labels":
        values = values.masked_fill(values == IGNORE_INDEX, 0)
    if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < size):
        wrong = values[(values < 0) | (values >= size)][0].item()
        raise PuzzleError(f"{name} holds {wrong}, which is outside {what}: allowed are 0 to {size - 1}")
