"""The models and batches that the benchmarks measure, and both ways of training them from the same weights.

"27m" is the published Sudoku model, "1m" a small one (hidden 128, 2 + 2 layers), "tiny" one for quick runs.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from plain_twin import PlainHrm, PlainTraining

from hrm_hf import ArgumentError, HrmConfig
from hrm_hf.training import HrmTrainer, HrmTrainingArguments, seeded_model
from hrm_hf.training.compiled import check_compiler

SIZES: dict[str, dict[str, int]] = {
    "27m": {},
    "1m": dict(hidden_size=128, num_attention_heads=4, puzzle_emb_ndim=128, H_layers=2, L_layers=2),
    "tiny": dict(
        hidden_size=32, num_attention_heads=2, puzzle_emb_ndim=32, H_layers=1, L_layers=1, seq_len=16, vocab_size=6
    ),
}
SIZE_IN_WORDS = {"27m": "27 M", "1m": "1 M", "tiny": "tiny model"}
RATES = dict(weight_decay=1.0, puzzle_weight_decay=1.0, halt_exploration_prob=0.1)


def config_of(size: str, **changes: Any) -> HrmConfig:
    """The configuration of a size, with fields changed."""
    return HrmConfig(**{**SIZES[size], **changes})


def device() -> torch.device:
    """Where the trainer puts its model."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


@dataclass(frozen=True)
class TrainingSides:
    """A plain and a fast training step, from the same weights and on the same batches.

    Attributes:
        plain, fast: one whole step each.
        loss_difference: of the first step's lm loss and q_halt loss, relative, the larger one.
        trainer: the fast side's.
    """

    plain: Callable[[], object]
    fast: Callable[[], object]
    loss_difference: float
    trainer: HrmTrainer


def training_sides(
    size: str,
    rows: int,
    dtype: str = "float32",
    plain_dtype: str = "float32",
    halting: str = "q_learning",
    seed: int = 0,
    **options: Any,
) -> TrainingSides:
    """Both sides, each after its first step, so that what is made once is made.

    Args:
        size: key of SIZES.
        rows: the batch.
        dtype, plain_dtype: of the activations of each side.
        halting: of the fast side; the plain one always learns by Q-learning.
        options: further `HrmTrainingArguments` of the fast side, None = their default.
    """
    config = config_of(size, compute_dtype=dtype, halting=halting)
    model = seeded_model(config, seed)
    twin = PlainHrm(config_of(size), getattr(torch, plain_dtype), device()).load(model.state_dict())
    training = PlainTraining(twin, **RATES)
    args = training_arguments(global_batch_size=rows, max_steps=10**6, warmup_steps=0, seed=seed, **RATES, **options)
    trainer = HrmTrainer(model, args, train_batches=[])
    plain_batches, fast_batches = (made_up_batches(config, rows, seed=seed) for _ in range(2))

    def fast() -> dict[str, torch.Tensor]:
        sums = trainer.training_step(next(fast_batches))
        trainer.optimizer_step()
        return sums

    def plain() -> dict[str, float]:
        return training.step(next(plain_batches))

    of_plain, of_fast = plain(), fast()
    differences = [abs(float(of_fast[name]) / of_plain[name] - 1) for name in ("lm_loss", "q_halt_loss")]
    return TrainingSides(plain, fast, max(differences), trainer)


def training_arguments(**options: Any) -> HrmTrainingArguments:
    """HrmTrainingArguments from options of which None means the default."""
    return HrmTrainingArguments(**{name: value for name, value in options.items() if value is not None})


def add_compile_option(parser: argparse.ArgumentParser) -> None:
    """--compile and --no-compile, for `compiles`."""
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="torch.compile on the fast side (default: if it works here; not in quick runs)",
    )


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
