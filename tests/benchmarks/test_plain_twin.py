"""The plain twin of the benchmarks equals the recorded runs of the published implementation, and ours equals it."""

import pytest
import torch
from golden_fixtures import (
    GOLDEN,
    golden_batch,
    golden_config,
    golden_json,
    golden_tensors,
    recorded_parameters,
)
from paths import ROOT
from plain_twin import TABLE, PlainHrm, PlainTraining, plain_solve, token_losses  # noqa: E402

from hrm_hf import HrmConfig, HrmForPuzzleSolving
from hrm_hf.original.checkpoints import convert_state_dict, read_published_state_dict
from hrm_hf.training import HrmTrainer, HrmTrainingArguments, seeded_model
from hrm_hf.training.slots import ExplorationDraws

D_RECORD = golden_json("D/config.json")
SMALL = dict(vocab_size=6, seq_len=16, hidden_size=32, num_attention_heads=2, H_layers=2, L_layers=1)


def close(ours, theirs, relative=1e-5, absolute=0.0):
    torch.testing.assert_close(ours, theirs, rtol=relative, atol=absolute, check_dtype=False)


def golden_twin(recorded: dict, weights: str) -> PlainHrm:
    config = golden_config(recorded)
    return PlainHrm(config).load(convert_state_dict(read_published_state_dict(GOLDEN / weights), config))


def small_model(**changes) -> HrmForPuzzleSolving:
    """Fresh, but with q heads and puzzle vectors that say something."""
    config = HrmConfig(**{**SMALL, "num_puzzle_identifiers": 4, "puzzle_emb_ndim": 40, "halt_max_steps": 3, **changes})
    model = seeded_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.q_head.weight.normal_(generator=generator)
        model.q_head.bias.zero_()
        if config.puzzle_emb_ndim:
            model.model.puzzle_embeddings.weight.normal_(generator=generator)
    return model


def small_batch(rows: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (rows, 16), generator=generator)
    return {
        "input_ids": torch.randint(0, 6, (rows, 16), generator=generator),
        "labels": labels.masked_fill(labels == 0, -100),
        "puzzle_identifiers": torch.randint(0, 4, (rows,), generator=generator),
    }


@pytest.mark.parametrize("case", ["A", "B", "C", "I", "J"])
def test_recorded_forward_passes(case):
    recorded = golden_json(f"{case}/config.json")
    want = golden_tensors(f"{case}/eval.safetensors")
    twin = golden_twin(recorded["config"], f"{case}/weights.safetensors")
    batch = {name: value.long() for name, value in golden_batch(want).items()}
    carry = twin.initial_carry(len(batch["labels"]))
    for segment in range(1, recorded["act_steps"] + 1):
        with torch.no_grad():
            carry, logits, q_halt, q_continue = twin.segment(carry, batch)
        got = {"logits": logits, "z_H": carry[0], "z_L": carry[1]}
        got |= {"q_halt_logits": q_halt, "q_continue_logits": q_continue}
        for name, value in got.items():
            close(value, want[f"step{segment}.{name}"], relative=0, absolute=3e-5)
    sequences, last_q_halt = plain_solve(twin, batch["input_ids"], batch["puzzle_identifiers"], recorded["act_steps"])
    assert torch.equal(sequences, logits.argmax(-1))
    assert torch.equal(last_q_halt, q_halt)


@pytest.mark.parametrize("variant", ["noexplore", "explore"])
def test_six_recorded_steps(variant):
    recorded = D_RECORD["config"]
    training = PlainTraining(
        golden_twin(recorded, "D/init.safetensors"),
        lr=recorded["lr"],
        weight_decay=recorded["weight_decay"],
        puzzle_lr=recorded["puzzle_emb_lr"],
        puzzle_weight_decay=recorded["puzzle_emb_weight_decay"],
        halt_exploration_prob=D_RECORD["variants"][variant]["halt_exploration_prob"],
    )
    weights, config = training.twin.weights, training.twin.config
    compared_gradients = compared_parameters = 0
    for step, scalars in enumerate(D_RECORD["variants"][variant]["scalars"], start=1):
        want = golden_tensors(f"D/{variant}/step{step}.safetensors")
        sums = training.step(golden_batch(want), (want["draw.rand"], want["draw.randint"]))
        close(sums["lm_loss"] + 0.5 * (sums["q_halt_loss"] + sums["q_continue_loss"]), scalars["loss"])
        assert sums.keys() == scalars["metrics"].keys()
        for name, value in scalars["metrics"].items():
            close(sums[name], value, absolute=1e-9)
        assert torch.equal(training.halted, want["carry.halted"].bool())
        assert torch.equal(training.steps, want["carry.steps"])
        for ours, theirs in {"input_ids": "inputs", "labels": "labels"}.items():
            assert torch.equal(training.data[ours], want[f"carry.data.{theirs}"].long())
        for ours, name in zip(training.carry, ("z_H", "z_L"), strict=True):
            close(ours, want[f"carry.{name}"], absolute=3e-5)
        for name, gradient in recorded_parameters(want, config, "grad").items():
            close(weights[name].grad, gradient, absolute=3e-5 * gradient.abs().max().item())
            compared_gradients += 1
        for name, value in recorded_parameters(want, config, "param").items():
            close(weights[name], value, relative=0, absolute=1e-6 if name == TABLE else 1e-5)
            compared_parameters += 1
    assert compared_parameters == 2 * len(weights)
    assert compared_gradients == (2 * len(training.trained) if variant == "noexplore" else 0)


def test_token_losses_are_the_recorded_ones():
    recorded = golden_tensors("E/losses.safetensors")
    for kind in ("softmax", "stablemax"):
        got = token_losses(recorded["logits"], recorded["labels"].long(), kind)
        close(got, recorded[f"{kind}_cross_entropy.per_token"], relative=1e-6, absolute=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pos_encodings": "learned", "token_loss": "softmax", "puzzle_emb_ndim": 0},
        {"halting": "halt_only"},
        {"token_loss": "softmax", "label_smoothing": 0.2, "halting_loss_weight": 0.05},
        {"shared_levels": True, "gradient_span": "segment", "mixer": "mlp", "pos_encodings": "none"},
        {"gradient_span": "last_cycle", "pos_encodings": "none", "num_prefix_positions": 4, "L_cycles": 3},
    ],
)
def test_the_trainer_takes_the_steps_of_the_twin(changes):
    model = small_model(**changes)
    args = HrmTrainingArguments(
        global_batch_size=6, max_steps=100, warmup_steps=2, learning_rate=1e-4, puzzle_learning_rate=1e-3
    )
    training = PlainTraining(
        PlainHrm(model.config).load(model.state_dict()), lr=1e-4, puzzle_lr=1e-3, warmup_steps=args.warmup_steps
    )
    trainer = HrmTrainer(model, args, train_batches=[])
    generator = torch.Generator().manual_seed(5)
    for step in range(4):
        batch = small_batch(6, seed=step)
        draws = torch.rand(6, generator=generator), torch.randint(2, 4, (6,), generator=generator, dtype=torch.int32)
        plain = training.step(batch, draws)
        sums = trainer.training_step(batch, ExplorationDraws(*draws))
        assert sums.keys() == plain.keys()
        for name, value in plain.items():
            close(sums[name].item(), value, absolute=1e-9)
        for name, parameter in model.named_parameters():
            if name != TABLE:
                gradient = training.twin.weights[name].grad
                close(parameter.grad, gradient, absolute=3e-5 * gradient.abs().max().item())
        trainer.optimizer_step()
        for name, value in model.state_dict().items():
            close(value, training.twin.weights[name], relative=0, absolute=1e-5)


@pytest.mark.parametrize("dtype, segments", [("float32", 4), ("bfloat16", 1)])
def test_solving_without_halting_gives_the_answers_of_the_twin(dtype, segments):
    model = small_model(compute_dtype=dtype).eval()
    twin = PlainHrm(model.config, getattr(torch, dtype)).load(model.state_dict())
    batch = small_batch(7, seed=3)
    solved = model.solve(batch["input_ids"], batch["puzzle_identifiers"], max_segments=segments, halt=False)
    sequences, q_halt = plain_solve(twin, batch["input_ids"], batch["puzzle_identifiers"], segments)
    if dtype == "float32":
        assert torch.equal(solved.sequences, sequences)
        close(solved.q_halt_logits, q_halt, relative=0, absolute=1e-5)
    else:  # fresh weights amplify rounding from segment to segment, so one of them
        assert (solved.sequences == sequences).float().mean() > 0.95
        close(solved.q_halt_logits, q_halt, relative=0.05, absolute=0.05)


def test_the_twin_imports_nothing_of_the_package():
    source = (ROOT / "benchmarks" / "plain_twin.py").read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines()]
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    assert imports == [
        "import math",
        "from typing import Any",
        "import torch",
        "import torch.nn.functional as F",
    ]
