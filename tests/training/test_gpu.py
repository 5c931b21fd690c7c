"""What only a CUDA device shows: the same steps and solutions as on the CPU."""

import pytest
import torch
from golden_fixtures import GOLDEN
from safetensors.torch import load_file
from tiny_models import perturbed, some_inputs, tiny_model
from training_parts import Rows, arguments, batch
from transformers import BitsAndBytesConfig

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.scores.compiled import compiled_block
from hrm_hf.scores.evaluation import predict_puzzles
from hrm_hf.training import HrmTrainer
from hrm_hf.training.states import newest_state, read_tree

# torch's compiler advises TensorFloat32 for products in float32, which would change the numbers compared here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")]


def test_solving_on_the_gpu_gives_the_same_answers():
    model = perturbed(tiny_model())
    want = model.solve(some_inputs(12), halt=False)
    got = model.cuda().solve(some_inputs(12).cuda(), halt=False)
    assert torch.equal(got.sequences.cpu(), want.sequences)
    torch.testing.assert_close(got.q_halt_logits.cpu(), want.q_halt_logits, rtol=0, atol=1e-3)


def test_compiled_blocks_on_the_gpu_give_the_same_answers():
    model, inputs = perturbed(tiny_model()).cuda(), some_inputs(12).cuda()
    want = model.solve(inputs, halt=False)
    run_block = compiled_block(model.device, any_batch_size=True)
    for rows in (12, 7):
        got = model.solve(inputs[:rows], halt=False, run_block=run_block)
        torch.testing.assert_close(got.q_halt_logits, want.q_halt_logits[:rows], rtol=0, atol=1e-3)


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


@pytest.mark.parametrize("halting", ["q_learning", "halt_only"])
def test_compiled_steps_on_the_gpu_are_the_plain_ones(halting):
    found = []
    for compile in (False, True):
        args = arguments(compile=compile, learning_rate=1e-3)
        trainer = HrmTrainer(perturbed(tiny_model(halting=halting)), args, [])
        sums = []
        for step in range(3):
            sums.append(trainer.training_step(batch(step))["lm_loss"].item())
            trainer.optimizer_step()
        found.append(sums)
    assert found[1] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_the_queue_on_the_gpu_answers_every_row(compute_dtype):
    model = perturbed(tiny_model()).cuda()
    alone = predict_puzzles(model, Rows(), batch_size=11, halt=True, compute_dtype=compute_dtype)
    refilled = predict_puzzles(model, Rows(), batch_size=3, halt=True, compute_dtype=compute_dtype)
    assert len(refilled) == 11 and (refilled.segments >= 1).all()
    assert (alone.sequences == refilled.sequences).mean() > 0.9  # equal up to rounding


def test_a_run_on_the_gpu_goes_on(tmp_path):
    def train(run, resume="never", steps=6):
        args = arguments(output_dir=str(run), max_steps=steps, lr_min_ratio=1.0, state_steps=1, ema_decay=0.9)
        args.resume = resume
        HrmTrainer(tiny_model(), args, [batch(0), batch(1)]).train()
        return read_tree(newest_state(run)[0], "state")["model"]

    unbroken = train(tmp_path / "unbroken")
    train(tmp_path / "run", steps=3)
    for name, tensor in train(tmp_path / "run", "auto").items():
        torch.testing.assert_close(tensor, unbroken[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_quantised_by_bitsandbytes_solve(bits):
    pytest.importorskip("bitsandbytes")
    checkpoint = GOLDEN / "sudoku_4x4"
    puzzles = load_file(checkpoint / "puzzles.safetensors")
    how = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    model = HrmForPuzzleSolving.from_pretrained(checkpoint, quantization_config=how, device_map={"": 0})
    assert model.model.H_level.layers[0].mlp.down_proj.weight.dtype in (torch.int8, torch.uint8)
    solved = model.solve(puzzles["input_ids"].long().cuda()).sequences.cpu() == puzzles["labels"]
    assert solved.all(-1).float().mean() > (0.99 if bits == 8 else 0.9)
