"""The models and batches that the benchmarks measure, and both ways of training them from the same weights.

"27m" is the published Sudoku model, "1m" a small one (hidden 128, 2 + 2 layers), "trm" the Tiny Recursive Model of
Sudoku, "256-..." small ones of its kind, with one or two cycles; the "tiny" ones are for quick runs.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
from plain_twin import PlainHrm, PlainTraining

from hrm_hf import ArgumentError, HrmConfig, HrmForPuzzleSolving
from hrm_hf.hrm.compute_dtype import chosen_dtype
from hrm_hf.scores.compiled import check_compiler
from hrm_hf.training import HrmTrainer, HrmTrainingArguments, seeded_model

RECURSIVE = dict(shared_levels=True, L_layers=2, gradient_span="last_cycle", halting="halt_only")
MIXER, ATTENTION = dict(mixer="mlp", pos_encodings="none"), dict(mixer="attention", pos_encodings="rope")
SMALL = RECURSIVE | dict(
    hidden_size=256, num_attention_heads=4, puzzle_emb_ndim=256, num_prefix_positions=7, L_cycles=3
)
SIZES: dict[str, dict[str, Any]] = {
    "27m": {},
    "1m": dict(hidden_size=128, num_attention_heads=4, puzzle_emb_ndim=128, H_layers=2, L_layers=2),
    "tiny": dict(
        hidden_size=32, num_attention_heads=2, puzzle_emb_ndim=32, H_layers=1, L_layers=1, seq_len=16, vocab_size=6
    ),
    "trm": RECURSIVE | MIXER | dict(num_prefix_positions=16, H_cycles=3, L_cycles=6),
    "256-mixer-h1": SMALL | MIXER | dict(H_cycles=1),
    "256-mixer-h2": SMALL | MIXER | dict(H_cycles=2),
    "256-attention-h1": SMALL | ATTENTION | dict(H_cycles=1),
    "256-attention-h2": SMALL | ATTENTION | dict(H_cycles=2),
}
SIZES["tiny-trm"] = SIZES["tiny"] | RECURSIVE | MIXER | dict(num_prefix_positions=2)
SIZE_IN_WORDS = {"27m": "27 M", "1m": "1 M", "trm": "TRM, 5 M", "tiny": "tiny model", "tiny-trm": "tiny TRM"}
AVERAGED = {"trm": 0.999, "tiny-trm": 0.999}  # decay of the average of the weights, which is a part of TRM's step
DTYPES = ("bfloat16", "float32")  # of the fast side
RATES = dict(weight_decay=1.0, puzzle_weight_decay=1.0, halt_exploration_prob=0.1)


def in_words(size: str) -> str:
    """A size in the tables."""
    return SIZE_IN_WORDS.get(size, size)


def config_of(size: str, **changes: Any) -> HrmConfig:
    """The configuration of a size, with fields changed."""
    return HrmConfig(**{**SIZES[size], **changes})


def device() -> torch.device:
    """Where the trainer puts its model."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_dtypes(config: HrmConfig) -> tuple[str, ...]:
    """The dtypes of the fast side, first what `compute_dtype auto` takes: no bfloat16 where it is the slower one."""
    return DTYPES if chosen_dtype("auto", config, device()) == "bfloat16" else DTYPES[1:]


def made_up_batches(config: HrmConfig, rows: int, count: int = 4, seed: int = 0) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of random cells, a third of them blank: the time of a step does not depend on what it reads."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        labels = torch.randint(2, config.vocab_size, (rows, config.seq_len), generator=generator)
        blank = torch.rand(labels.shape, generator=generator) < 1 / 3
        identifiers = torch.randint(0, config.num_puzzle_identifiers, (rows,), generator=generator)
        batches.append(
            {"input_ids": labels.masked_fill(blank, 1), "labels": labels, "puzzle_identifiers": identifiers}
        )
    return cycle(batches)


class Rows(dict[str, np.ndarray]):
    """Arrays (N, ...) by name, as `predict_puzzles` reads rows: a slice gives those of some rows."""

    def __len__(self) -> int:
        return len(self["input_ids"])

    def __getitem__(self, key: str | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else Rows({name: self[name][key] for name in self})


def twin_of(model: HrmForPuzzleSolving, dtype: str = "float32") -> PlainHrm:
    """The plain twin with a model's weights and activations in this dtype."""
    return PlainHrm(model.config, getattr(torch, dtype), device()).load(model.state_dict())


def plain_step(size: str, rows: int, dtype: str, seed: int = 0, **changes: Any) -> Callable[[], dict[str, float]]:
    """Training steps of the plain twin as its paper has them: by Q-learning, TRM and its kind by q_halt alone.

    Args:
        size: key of SIZES.
        rows: the batch.
        dtype: of the activations.
        changes: fields of the config.
    """
    config = config_of(size, **changes)
    training = PlainTraining(twin_of(awake_model(config, seed), dtype), **RATES, ema_decay=AVERAGED.get(size))
    batches = made_up_batches(config, rows, seed=seed)
    return lambda: training.step(next(batches))


def fast_trainer(
    size: str, rows: int, dtype: str = "float32", seed: int = 0, compile: bool = False, **changes: Any
) -> HrmTrainer:
    """A trainer with the weights and batches of the `plain_step` of these arguments; its `run_step` is a whole step,
    from reading a batch to adding up what it will log. One of several processes reads its part of the batch.
    """
    config = config_of(size, compute_dtype=dtype, **changes)
    options = {"ema_decay": AVERAGED[size], "ema_warmup": False} if size in AVERAGED else {}
    options |= dict(global_batch_size=rows, max_steps=10**6, warmup_steps=0, seed=seed, compile=compile)
    args = HrmTrainingArguments(**RATES, **options)
    here = args.local_batch_size(int(os.environ.get("WORLD_SIZE", "1")))
    return HrmTrainer(awake_model(config, seed), args, train_batches=made_up_batches(config, here, seed=seed))


def loss_difference(plain: dict[str, float], fast: dict[str, torch.Tensor]) -> float:
    """The largest relative difference of a loss that both have."""
    names = [name for name in plain if name.endswith("_loss") and name in fast]
    return max(abs(float(fast[name]) / plain[name] - 1) for name in names)


def awake_model(config: HrmConfig, seed: int) -> HrmForPuzzleSolving:
    """A fresh model whose q head reads the state: a fresh one's weights are 0, and its losses the same whatever the
    state is.
    """
    model = seeded_model(config, seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(model.q_head.weight.shape, generator=generator) * config.hidden_size**-0.5
        model.q_head.weight.copy_(weight)
        model.q_head.bias.zero_()
    return model


def add_compile_option(parser: argparse.ArgumentParser) -> None:
    """--compile and --no-compile, for `compiles`."""
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="torch.compile on the fast side (default: if it works here; not in quick runs)",
    )


def add_plain_dtype_option(parser: argparse.ArgumentParser) -> None:
    """--plain-dtype; by default bfloat16 on a GPU, as published."""
    usual = "bfloat16" if torch.cuda.is_available() else "float32"
    words = "of the plain side (default: float32, on a GPU bfloat16)"
    parser.add_argument("--plain-dtype", choices=DTYPES, default=usual, help=words)


def compiles(args: argparse.Namespace) -> bool:
    """Whether the fast side is compiled: as told, else where the compiler works; says so where it does not."""
    if args.compile is not None or args.quick:
        return bool(args.compile)
    try:
        check_compiler(device())
    except ArgumentError as error:
        print(f"without compiling: {error}", flush=True)
        return False
    return True
