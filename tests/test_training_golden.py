"""Six recorded training steps of the published implementation, driven with its recorded draws."""

import pytest
import torch
from golden_fixtures import (
    golden_batch,
    golden_json,
    golden_model,
    golden_tensors,
    golden_training_arguments,
    recorded_parameters,
)

from hrm_hf.hrm.halting import ExplorationDraws
from hrm_hf.training import HrmTrainer
from hrm_hf.training.step_metrics import means

RECORD = golden_json("D/config.json")
TABLE = "model.puzzle_embeddings.weight"


def close(ours, theirs, relative=1e-5, absolute=0.0):
    torch.testing.assert_close(ours, theirs, rtol=relative, atol=absolute, check_dtype=False)


@pytest.mark.parametrize("variant", ["noexplore", "explore"])
def test_six_recorded_steps(variant):
    recorded = RECORD["config"]
    args = golden_training_arguments(recorded, RECORD["variants"][variant]["halt_exploration_prob"])
    trainer = HrmTrainer(golden_model(recorded, "D/init.safetensors"), args, train_batches=[])
    model = trainer.model
    compared_gradients = compared_parameters = 0
    for step, scalars in enumerate(RECORD["variants"][variant]["scalars"], start=1):
        want = golden_tensors(f"D/{variant}/step{step}.safetensors")
        draws = ExplorationDraws(want["draw.rand"], want["draw.randint"])
        sums = trainer.training_step(golden_batch(want), draws)

        loss = sums["lm_loss"] + 0.5 * (sums["q_halt_loss"] + sums["q_continue_loss"])
        close(loss.item(), scalars["loss"])
        assert sums.keys() == scalars["metrics"].keys()
        for name, value in scalars["metrics"].items():
            close(sums[name].item(), value, absolute=1e-9)
        reduced = means({name: value.item() for name, value in sums.items()}, rows=args.global_batch_size)
        for name, value in reduced.items():
            close(value, scalars["reduced"][f"train/{name}"], absolute=1e-9)

        slots = trainer.slots[0]
        assert torch.equal(slots.halted, want["carry.halted"].bool())
        assert torch.equal(slots.steps, want["carry.steps"])
        assert torch.equal(slots.data["input_ids"], want["carry.data.inputs"].long())
        assert torch.equal(slots.data["labels"], want["carry.data.labels"].long())
        assert torch.equal(slots.data["puzzle_identifiers"], want["carry.data.puzzle_identifiers"].long())
        close(slots.carry.z_H, want["carry.z_H"], absolute=3e-5)
        close(slots.carry.z_L, want["carry.z_L"], absolute=3e-5)

        parameters = dict(model.named_parameters())
        for name, gradient in recorded_parameters(want, model.config, "grad").items():
            # relative to the tensor's largest entry: single entries near 0 hold rounding only
            close(parameters[name].grad, gradient, absolute=1e-5 * gradient.abs().max().item())
            compared_gradients += 1
        if "puzzle_local.grad" in want:
            identifiers, rows = trainer.puzzle_optimizer.global_gradient()
            expected = torch.zeros_like(model.model.puzzle_embeddings.weight)
            expected.index_add_(0, want["puzzle_local.ids"].long(), want["puzzle_local.grad"])
            close(rows, expected[identifiers], absolute=1e-5 * expected.abs().max().item())

        trainer.optimizer_step()
        state = model.state_dict()
        for name, value in recorded_parameters(want, model.config, "param").items():
            close(state[name], value, relative=0, absolute=1e-6 if name == TABLE else 1e-5)
            compared_parameters += 1
    assert compared_parameters == 2 * len(model.state_dict())
    assert compared_gradients == (2 * (len(parameters) - 1) if variant == "noexplore" else 0)

    if variant == "noexplore":
        moments = golden_tensors("D/noexplore/optim_after_last.safetensors")
        for kind in ("exp_avg", "exp_avg_sq"):
            wanted = recorded_parameters(moments, model.config, kind)
            assert len(wanted) == len(parameters) - 1
            for name, value in wanted.items():
                got = trainer.dense_optimizer.state[parameters[name]][kind]
                close(got, value, absolute=1e-5 * value.abs().max().item())
