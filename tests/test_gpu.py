"""What only a CUDA device shows: the same steps and solutions as on the CPU."""

import pytest
import torch
from test_modeling import perturbed, some_inputs, tiny_model
from test_trainer import arguments, batch

from hrm_hf.training import HrmTrainer

pytestmark = pytest.mark.gpu


def test_solving_on_the_gpu_gives_the_same_answers():
    model = perturbed(tiny_model())
    want = model.solve(some_inputs(12), halt=False)
    got = model.cuda().solve(some_inputs(12).cuda(), halt=False)
    assert torch.equal(got.sequences.cpu(), want.sequences)
    torch.testing.assert_close(got.q_halt_logits.cpu(), want.q_halt_logits, rtol=0, atol=1e-3)


def test_training_on_the_gpu_goes_the_same_way():
    on_cpu = perturbed(tiny_model())(**batch(0)).loss
    trainer = HrmTrainer(perturbed(tiny_model()), arguments(), [])
    assert trainer.accelerator.device.type == "cuda"
    sums = trainer.training_step(batch(0))
    got = (sums["lm_loss"] + 0.5 * sums["q_halt_loss"]).item() / 4
    assert got == pytest.approx(on_cpu.item(), rel=1e-4)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.optimizer_step()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in trainer.model.named_parameters())


def test_bfloat16_activations_train_on_the_gpu():
    trainer = HrmTrainer(perturbed(tiny_model(compute_dtype="bfloat16")), arguments(), [])
    sums = trainer.training_step(batch(0))
    trainer.optimizer_step()
    assert torch.isfinite(sums["lm_loss"]) and trainer.slots[0].carry.z_H.dtype == torch.bfloat16
