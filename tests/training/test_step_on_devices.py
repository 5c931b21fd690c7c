"""What a step asks of a device, as far as a CPU can show: it reads no value back, and Apple's GPUs have no float64."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from tiny_models import TINY_RECURSIVE, perturbed, some_inputs, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_parts import arguments, batch

from hrm_hf.progress import show_messages
from hrm_hf.training import HrmTrainer, make_accelerator
from hrm_hf.training.slots import on_device
from hrm_hf.training.step_metrics import MetricsWindow
from hrm_hf.training.steps import TrainingSteps

META = torch.device("meta")
ARCHITECTURES = [
    {},
    TINY_RECURSIVE,
    {"pos_encodings": "learned", "compute_dtype": "bfloat16", "token_loss": "softmax"},
]


class Crossings(TorchDispatchMode):
    """Counts copies to the device that the host would wait for; a value read back raises by itself."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in (*tensors, *results)}
        waits = not (kwargs or {}).get("non_blocking", False)
        self.count += len(devices) > 1 and waits
        return out


@pytest.mark.parametrize("changes", ARCHITECTURES)
@pytest.mark.parametrize("optimizer", ["adam_atan2", "muon"])
def test_no_step_waits_for_the_device(changes, optimizer):
    """On "meta", where a tensor has no values: what asks for one raises."""
    accelerator = SimpleNamespace(
        device=META,
        num_processes=1,
        process_index=0,
        prepare_model=lambda model: model.to(META),
        unwrap_model=lambda model, keep_torch_compile: model,
        no_sync=lambda model: nullcontext(),
        backward=lambda loss: loss.backward(),
    )
    args = arguments(optimizer=optimizer, max_grad_norm=0.5, ema_decay=0.9)
    steps = TrainingSteps(tiny_model(**changes), args, accelerator)
    with Crossings() as crossings:
        for step in range(2):
            sums = steps.training_step(batch(step))
            steps.finite.look(step + 1, sums, steps.row_losses, steps.slots, 0)
            steps.optimizer_step()
    assert crossings.count == 0
    with pytest.raises((RuntimeError, NotImplementedError)):
        sums["lm_loss"].item()


class NoFloat64(TorchDispatchMode):
    """Raises where a tensor is float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            assert not (isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64), function
        return out


@pytest.fixture
def no_float64(monkeypatch):
    """Every device is as Apple's GPUs are."""
    for module in ("hrm.losses", "training.step_metrics"):
        monkeypatch.setattr(f"hrm_hf.{module}.widest_float", lambda device: torch.float32)


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_nothing_is_float64_where_there_is_none(no_float64, changes):
    args = arguments(max_grad_norm=0.5, ema_decay=0.9, logging_steps=1, max_steps=2)
    trainer = HrmTrainer(perturbed(tiny_model(**changes)), args, [batch(0), batch(1)])
    with NoFloat64():
        trainer.train()
        solved = trainer.model.solve(some_inputs(5))
    assert len(solved.sequences) == 5 and trainer.state.log_history[-1]["step"] == 2


def test_losses_without_float64_are_those_with_it(no_float64, monkeypatch):
    found = HrmTrainer(perturbed(tiny_model()), arguments(), []).training_step(batch(0))
    monkeypatch.undo()
    want = HrmTrainer(perturbed(tiny_model()), arguments(), []).training_step(batch(0))
    assert found["lm_loss"].dtype == torch.float32 and want["lm_loss"].dtype == torch.float64
    for name, value in want.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6), name


@pytest.mark.parametrize(
    ("asks", "takes_cpu", "line"),
    [
        (None, True, "takes the CPU, as no one has run hrm_hf on mps yet; ACCELERATE_TORCH_DEVICE=mps asks for it"),
        (
            "mps",
            False,
            "no one has run hrm_hf on mps yet: compare the first losses with those of ACCELERATE_USE_CPU=true",
        ),
    ],
)
def test_apples_gpu_is_taken_where_it_is_asked_for(monkeypatch, capsys, asks, takes_cpu, line):
    given = {}
    accelerator = SimpleNamespace(num_processes=1)
    monkeypatch.setattr("hrm_hf.training.processes.Accelerator", lambda **how: given.update(how) or accelerator)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    if asks is not None:
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", asks)
    show_messages()
    assert make_accelerator(arguments()) is accelerator and given["cpu"] == takes_cpu
    assert capsys.readouterr().err.strip().endswith(line)


def test_the_device_that_the_environment_names_is_taken(process_as_before, monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert make_accelerator(arguments()).device == META


def test_copies_to_mps_wait_and_its_window_holds_float32():
    asked = []
    tensor = SimpleNamespace(is_cuda=False, to=lambda device, non_blocking: asked.append((str(device), non_blocking)))
    for name in ("cpu", "mps"):
        on_device(tensor, torch.device(name))
    assert asked == [("cpu", True), ("mps", False)]

    moved = []
    value = SimpleNamespace(to=lambda *where: moved.append(where))
    MetricsWindow(torch.device("mps")).load_state_dict({"steps": 1, "sums": {"count": value}})
    assert moved == [(torch.device("mps"), torch.float32)]
