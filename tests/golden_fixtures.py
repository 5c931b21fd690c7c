"""Reads the recorded numbers of the published implementation (tests/golden) into this package's names."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from hrm_hf import HrmConfig, HrmForPuzzleSolving
from hrm_hf.original.published_checkpoint import convert_state_dict, published_tensors, read_published_state_dict
from hrm_hf.training import HrmTrainingArguments

GOLDEN = Path(__file__).parent / "golden"


def golden_json(name: str) -> dict | list:
    return json.loads((GOLDEN / name).read_text())


def golden_tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / name)


def golden_config(recorded: dict) -> HrmConfig:
    """HrmConfig from the recorded configuration of a run."""
    same = "seq_len hidden_size expansion H_layers L_layers H_cycles L_cycles vocab_size halt_max_steps"
    same += " num_puzzle_identifiers puzzle_emb_ndim pos_encodings"
    return HrmConfig(
        **{name: recorded[name] for name in same.split()},
        num_attention_heads=recorded["num_heads"],
        token_loss=recorded["loss_type"].removesuffix("_cross_entropy"),
    )


def golden_model(recorded: dict, weights: str) -> HrmForPuzzleSolving:
    """The model of a recorded run with the recorded weights."""
    model = HrmForPuzzleSolving(golden_config(recorded))
    model.load_state_dict(convert_state_dict(read_published_state_dict(GOLDEN / weights), model.config))
    return model


def golden_training_arguments(recorded: dict, exploration_prob: float) -> HrmTrainingArguments:
    """Arguments of a recorded training run: constant rates, betas (0.9, 0.95)."""
    return HrmTrainingArguments(
        global_batch_size=recorded["batch_size"],
        max_steps=100,
        learning_rate=recorded["lr"],
        puzzle_learning_rate=recorded["puzzle_emb_lr"],
        weight_decay=recorded["weight_decay"],
        puzzle_weight_decay=recorded["puzzle_emb_weight_decay"],
        warmup_steps=0,
        lr_min_ratio=1.0,
        halt_exploration_prob=exploration_prob,
    )


def golden_batch(tensors: dict[str, torch.Tensor], rows: slice = slice(None)) -> dict[str, torch.Tensor]:
    """The batch that was fed to a recorded step."""
    return {
        "input_ids": tensors["batch.inputs"][rows],
        "labels": tensors["batch.labels"][rows],
        "puzzle_identifiers": tensors["batch.puzzle_identifiers"][rows],
    }


def recorded_parameters(tensors: dict, config: HrmConfig, kind: str) -> dict[str, torch.Tensor]:
    """The recorded tensors `{kind}.<published name>` under this package's names."""
    prefix = f"{kind}._orig_mod.model.inner."
    return {
        entry.ours: tensors[prefix + entry.published]
        for entry in published_tensors(config)
        if prefix + entry.published in tensors
    }
