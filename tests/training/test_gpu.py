"""What only a CUDA device shows: the same steps and solutions as on the CPU."""

import copy
import warnings

import pytest
import torch
from golden_fixtures import GOLDEN
from safetensors.torch import load_file
from tiny_models import TINY_RECURSIVE, perturbed, some_inputs, tiny_model
from training_parts import Rows, arguments, batch
from transformers import BitsAndBytesConfig

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.hrm.losses import log_stablemax
from hrm_hf.progress import show_messages
from hrm_hf.scores.compiled import compiled_block
from hrm_hf.scores.evaluation import predict_puzzles
from hrm_hf.training import AdamATan2, HrmTrainer
from hrm_hf.training.finite_watch import stored_values
from hrm_hf.training.states import newest_state, read_tree
from hrm_hf.training.step_graph import TOLERANCE

# torch's compiler advises TensorFloat32 for products in float32, which would change the numbers compared here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")]


@pytest.fixture(autouse=True)
def compiled_anew():
    """torch 2.11 counts what all tests of a process compile of one function, and refuses the ninth."""
    torch.compiler.reset()


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


@pytest.mark.parametrize("compile", [False, True])
def test_a_run_on_the_gpu_goes_on(tmp_path, compile):
    def train(run, resume="never", steps=6):
        how = {"lr_min_ratio": 1.0, "state_steps": 1, "ema_decay": 0.9, "compile": compile}
        args = arguments(output_dir=str(run), max_steps=steps, **how)
        args.resume = resume
        HrmTrainer(tiny_model(), args, [batch(0), batch(1)]).train()
        return read_tree(newest_state(run)[0], "state")["model"]

    unbroken = train(tmp_path / "unbroken")
    train(tmp_path / "run", steps=3)
    for name, tensor in train(tmp_path / "run", "auto").items():
        torch.testing.assert_close(tensor, unbroken[name], rtol=0, atol=1e-4)


ROWS = 300  # more than 4,096 cells: there the embedding's gradient takes another way


def gradients(trainer: HrmTrainer) -> dict[str, torch.Tensor]:
    """Copies, of the puzzle table in the order of the rows."""
    return {name: stored_values(p.grad).clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("changes", "compute_dtype"), [({}, "float32"), ({}, "bfloat16"), (TINY_RECURSIVE, "bfloat16")]
)
def test_steps_by_a_graph_on_the_gpu_are_the_plain_ones(changes, compute_dtype):
    """Same weights in every step: after an update they would drift apart by rounding."""
    model = perturbed(tiny_model(compute_dtype=compute_dtype, **changes))
    how = {"compile": True, "max_grad_norm": 0.5, "max_steps": 8, "global_batch_size": ROWS}
    ours, theirs = (HrmTrainer(copy.deepcopy(model), arguments(**how), []) for _ in range(2))
    theirs.graph = None
    for step in range(4):
        theirs.model.load_state_dict(ours.model.state_dict())
        theirs.slots.load_state_dict(ours.slots.state_dict())
        got, want = (trainer.training_step(batch(step, ROWS)) for trainer in (ours, theirs))
        for name, value in want.items():
            torch.testing.assert_close(got[name], value, rtol=1e-3, atol=1e-3)
        got, want = gradients(ours), gradients(theirs)
        assert got.keys() == want.keys()
        bound = 1e-3 if compute_dtype == "float32" else TOLERANCE
        for name, gradient in want.items():
            assert (got[name] - gradient).norm() <= bound * gradient.norm(), (name, step)
        for trainer in (ours, theirs):
            trainer.optimizer_step()
        assert ours.graph.captured is not None and ours.graph.captured.replays == step + 1


def test_every_depth_is_a_graph_on_the_gpu(capsys):
    show_messages()
    args = arguments(compile=True, depth_schedule="0:2x1,0.5:3x2", max_steps=6)
    trainer = HrmTrainer(perturbed(tiny_model()), args, [batch(0), batch(1)])
    trainer.train()
    assert trainer.graph.captured.replays == 3  # of the second depth
    assert capsys.readouterr().err.count("each step's pass is one CUDA graph") == 1


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("optimizer", ["adam_atan2", "muon"])
def test_a_step_waits_for_nothing_on_the_gpu(compile, optimizer):
    how = {"compile": compile, "optimizer": optimizer, "max_grad_norm": 0.5, "ema_decay": 0.9, "max_steps": 8}
    args = arguments(global_batch_size=ROWS, **how)
    trainer = HrmTrainer(perturbed(tiny_model()), args, [batch(0, ROWS), batch(1, ROWS)])
    for _ in range(2):
        trainer.run_step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.run_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_adam_atan2_on_the_gpu_is_that_on_the_cpu():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) for shape in ((96, 64), (2, 64), (2,))]
    found = []
    for device, compiled in (("cpu", False), ("cuda", False), ("cuda", True)):
        parameters = [torch.nn.Parameter(value.to(device)) for value in values]
        optimizer = AdamATan2(parameters, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1, compiled=compiled)
        for step in range(1, 5):
            for parameter, value in zip(parameters, values, strict=True):
                parameter.grad = (value.flip(0) / step).to(device)
            optimizer.step()
        found.append([parameter.detach().cpu() for parameter in parameters])
    for others in found[1:]:
        for ours, theirs in zip(others, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_stablemax_without_float64_on_the_gpu(monkeypatch):
    logits = 6 * torch.randn(3000, 12, generator=torch.Generator().manual_seed(0)).cuda()
    want = log_stablemax(logits)
    monkeypatch.setattr("hrm_hf.hrm.losses.widest_float", lambda device: torch.float32)
    got = log_stablemax(logits)
    assert got.dtype == torch.float32 and ((got - want).abs() <= 1e-6 * want.abs().clamp(min=1)).all()


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


def asks_for_a_value(sums: dict[str, torch.Tensor]) -> None:
    sums["count"].item()


def breaks_a_capture(sums: dict[str, torch.Tensor]) -> None:
    torch.cuda.synchronize()


# The last of this file, as what it breaks may stay broken in its process where this package is wrong about CUDA.
@pytest.mark.parametrize("fault", [asks_for_a_value, breaks_a_capture])
def test_a_capture_that_fails_on_the_gpu_harms_nothing(monkeypatch, capsys, fault):
    stream = torch.cuda.current_stream()
    found = []
    for spoilt in (False, True):
        trainer = HrmTrainer(perturbed(tiny_model()), arguments(compile=True), [])
        segment = trainer._segment

        def with_fault(*args, segment=segment):
            losses, slots, sums = segment(*args)
            fault(sums)
            return losses, slots, sums

        if spoilt:
            monkeypatch.setattr(trainer, "_segment", with_fault)
        else:
            trainer.graph = None
        for step in range(3):
            sums = trainer.training_step(batch(step))
            trainer.optimizer_step()
        found.append(sums["lm_loss"].item())
    assert trainer.graph.captured is None and torch.cuda.current_stream() == stream
    assert capsys.readouterr().err.count("there is no CUDA graph") == 1
    assert found[1] == pytest.approx(found[0], rel=1e-3)
