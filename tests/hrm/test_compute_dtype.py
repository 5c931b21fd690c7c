"""The dtype to compute in: what is asked for, what the model was trained in, what is quicker here."""

import logging
from types import SimpleNamespace

import pytest
import torch
from tiny_models import perturbed, tiny_model
from training_parts import arguments

from hrm_hf import ArgumentError, HrmConfig
from hrm_hf.hrm import compute_dtype
from hrm_hf.hrm.compute_dtype import CLEARLY, bfloat16_speed, chosen_dtype
from hrm_hf.training import HrmModelArguments, HrmTrainer
from hrm_hf.training.processes import agreed_dtype

CPU = torch.device("cpu")
INPUTS = torch.randint(1, 6, (4, 16), generator=torch.Generator().manual_seed(0))
SLOWER = "bfloat16 is 8.0 times slower than float32 on this cpu"


@pytest.fixture
def speed(monkeypatch):
    """Sets how many times as fast as float32 bfloat16 is."""
    return lambda value: monkeypatch.setattr(compute_dtype, "bfloat16_speed", lambda *_: value)


@pytest.fixture
def said(caplog):
    """The lines so far. Each is said once in a process: `warning_once` forgets here what earlier tests said."""
    logging.Logger.warning_once.cache_clear()
    logging.getLogger("transformers").propagate = True
    yield lambda: [record.getMessage() for record in caplog.records]
    logging.getLogger("transformers").propagate = False


@pytest.mark.parametrize(
    "asked, own, times, taken, line",
    [
        ("auto", "float32", 3.0, "bfloat16", None),
        ("auto", "bfloat16", 3.0, "bfloat16", None),
        ("auto", "bfloat16", 0.125, "float32", None),
        ("auto", "bfloat16", CLEARLY - 0.01, "float32", None),  # no clear gain
        (None, "float32", 3.0, "float32", None),
        (None, "bfloat16", 3.0, "bfloat16", None),
        (None, "bfloat16", 0.9, "bfloat16", None),  # no clear loss
        (None, "bfloat16", 0.125, "float32", f"{SLOWER}: float32 is taken"),
        ("bfloat16", "float32", 0.125, "bfloat16", f"{SLOWER}: compute_dtype 'auto' takes the quicker one"),
        ("bfloat16", "bfloat16", 0.9, "bfloat16", None),
        ("float32", "bfloat16", 3.0, "float32", None),
    ],
)
def test_what_is_taken_and_said(speed, said, asked, own, times, taken, line):
    speed(times)
    config = HrmConfig(compute_dtype=own)
    assert [chosen_dtype(asked, config, CPU) for _ in range(2)] == [taken] * 2
    assert len(said()) == (line is not None) and (line or "") in "".join(said())
    assert config.compute_dtype == own


def test_float32_is_taken_without_measuring(monkeypatch):
    monkeypatch.setattr(compute_dtype, "bfloat16_speed", lambda *_: pytest.fail("measured"))
    assert chosen_dtype("float32", HrmConfig(compute_dtype="bfloat16"), CPU) == "float32"
    assert chosen_dtype(None, HrmConfig(), CPU) == "float32"


@pytest.mark.parametrize("odd", ["float16", "Auto", 16, ["auto"]])
def test_another_value_is_one_line(odd):
    with pytest.raises(ArgumentError, match="allowed: 'float32', 'bfloat16', 'auto', None for the model's own"):
        chosen_dtype(odd, HrmConfig(), CPU)


def test_the_speed_is_measured_once_for_each_shape_and_device(monkeypatch):
    measured = []

    def seconds(dtype, width, outer, device):
        measured.append((width, outer, device))
        return {torch.float32: 3.0, torch.bfloat16: 1.5}[dtype] + (
            100.0 if len(measured) < 3 else 0.0
        )  # busy at first

    monkeypatch.undo()
    monkeypatch.setattr(compute_dtype, "_seconds", seconds)
    bfloat16_speed.cache_clear()
    try:
        assert [bfloat16_speed(32, 64, CPU), bfloat16_speed(32, 64, CPU)] == [2.0, 2.0]
        assert len(measured) == 12 and set(measured) == {(32, 128, CPU)}
        bfloat16_speed(64, 64, CPU)
        assert len(measured) == 24
    finally:
        bfloat16_speed.cache_clear()


def test_a_real_measurement_leaves_the_generator_alone(monkeypatch):
    monkeypatch.undo()
    state = torch.random.get_rng_state()
    assert 0.0 < bfloat16_speed.__wrapped__(16, 16, CPU) < 1e4
    assert torch.equal(torch.random.get_rng_state(), state)


def answers(model, **how):
    return model.solve(INPUTS, halt=False, max_segments=2, **how).q_halt_logits


@pytest.mark.parametrize("times, taken", [(3.0, "bfloat16"), (0.125, "float32")])
def test_solving_takes_it(speed, said, times, taken):
    speed(times)
    model, same = (perturbed(tiny_model(compute_dtype=dtype)) for dtype in ("bfloat16", "float32"))
    want = answers(model, compute_dtype=taken)
    assert not torch.equal(answers(model, compute_dtype="float32"), answers(model, compute_dtype="bfloat16"))
    assert torch.equal(answers(model), want)
    assert torch.equal(answers(model, compute_dtype="auto"), want)
    assert torch.equal(answers(same, compute_dtype="auto"), want)
    assert torch.equal(answers(same), answers(model, compute_dtype="float32"))
    assert model.config.compute_dtype == "bfloat16"


@pytest.mark.parametrize("times, taken", [(3.0, "bfloat16"), (0.125, "float32")])
def test_arguments_make_a_config_of_what_is_quicker(monkeypatch, speed, times, taken):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    speed(times)
    config = HrmModelArguments(compute_dtype="auto").to_config(11, 81, 1)
    assert config.compute_dtype == taken


def test_a_trainer_says_where_its_dtype_is_slower(speed, said):
    speed(0.125)
    model = tiny_model(compute_dtype="bfloat16")
    HrmTrainer(model, arguments(), [])
    assert said() == [f"{SLOWER}: compute_dtype 'auto' takes the quicker one"]
    assert model.config.compute_dtype == "bfloat16"


@pytest.mark.parametrize("others, taken", [(3.0, "bfloat16"), (0.125, "float32")])
def test_the_process_that_bfloat16_serves_least_decides(speed, others, taken):
    speed(4.0)
    together = SimpleNamespace(device=CPU, gather=lambda own: torch.cat([own, own.new_tensor([others])]))
    assert agreed_dtype("auto", HrmConfig(), together) == taken
