"""The dtype to compute in: what is asked for, what the model was trained in, what is quicker here."""

import logging
from types import SimpleNamespace

import pytest
import torch
from tiny_models import perturbed, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from training_parts import Rows, arguments

from hrm_hf import ArgumentError, HrmConfig
from hrm_hf.hrm import compute_dtype
from hrm_hf.hrm.compute_dtype import CLEARLY, bfloat16_speed, chosen_dtype
from hrm_hf.training import HrmModelArguments, HrmTrainer
from hrm_hf.training.processes import agreed_dtype
from hrm_hf.training.resuming import dtype_of_run

CPU = torch.device("cpu")
INPUTS = torch.randint(1, 6, (4, 16), generator=torch.Generator().manual_seed(0))
SLOWER = "products in bfloat16 are 8.0 times slower than in float32 on this CPU"


@pytest.fixture
def speed(monkeypatch):
    """Sets how many times as fast as float32 bfloat16 is."""
    return lambda value: monkeypatch.setattr(compute_dtype, "_speed", lambda *_: value)


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
        (None, "bfloat16", 0.125, "float32", f"{SLOWER}: computing in float32"),
        (
            "bfloat16",
            "float32",
            0.125,
            "bfloat16",
            f"{SLOWER}: computing in bfloat16 (compute_dtype 'float32' is quicker)",
        ),
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
    monkeypatch.setattr(compute_dtype, "_speed", lambda *_: pytest.fail("measured"))
    alone = SimpleNamespace(device=CPU, gather=lambda own: own)
    assert agreed_dtype(None, HrmConfig(), alone) == "float32"
    assert chosen_dtype("float32", HrmConfig(compute_dtype="bfloat16"), CPU) == "float32"
    assert chosen_dtype(None, HrmConfig(), CPU) == "float32"


@pytest.mark.parametrize("odd", ["float16", "Auto", 16, ["auto"]])
def test_another_value_is_one_line(odd):
    with pytest.raises(ArgumentError, match="allowed: 'float32', 'bfloat16', 'auto', None for the model's own"):
        chosen_dtype(odd, HrmConfig(), CPU)


def test_the_speed_is_measured_once_for_each_shape_and_device(monkeypatch):
    measured = []

    def seconds(dtype, width, outer, device):
        measured.append((dtype, width, outer, device))
        busy = 100.0 if len(measured) < 3 else 0.0  # another program, at first
        return {torch.float32: 3.0, torch.bfloat16: 1.5}[dtype] + busy

    monkeypatch.undo()
    monkeypatch.setattr(compute_dtype, "_seconds", seconds)
    compute_dtype._speed.cache_clear()
    try:
        config = HrmConfig(hidden_size=32, num_attention_heads=4)
        assert [bfloat16_speed(config, torch.device(name)) for name in ("cpu", "cpu")] == [2.0, 2.0]
        sizes = (32, 2 * config.intermediate_size, torch.empty(0).device)
        assert {each[1:] for each in measured} == {sizes} and len(measured) == 8
        assert [each[0] for each in measured].count(torch.bfloat16) == 4
        bfloat16_speed(HrmConfig(hidden_size=64), CPU)
        assert len(measured) == 16
    finally:
        compute_dtype._speed.cache_clear()


def test_a_measurement_that_fails_leaves_the_number_of_threads(monkeypatch):
    monkeypatch.undo()
    threads, during = torch.get_num_threads(), []

    def unknown(*_):
        during.append(torch.get_num_threads())
        raise TypeError("this device has no bfloat16")

    monkeypatch.setattr(compute_dtype, "_seconds", unknown)
    torch.set_num_threads(2)
    try:
        with pytest.raises(TypeError):
            compute_dtype._speed.__wrapped__(16, 16, CPU)
        assert (during, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)


class Products(TorchDispatchMode):
    """Notes dtype and shapes of every matrix product."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten.mm.default:
            self.found.append((args[0].dtype, tuple(args[0].shape), tuple(args[1].shape)))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_timed_is_a_product_and_its_two_gradients(dtype):
    state = torch.random.get_rng_state()
    with Products() as products:
        assert compute_dtype._seconds(dtype, 16, 512, CPU) > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    (forward, of_input, of_weight), rows = products.found, products.found[0][1][0]
    assert rows >= 128 and forward == (dtype, (rows, 16), (16, 512))
    assert of_input == (dtype, (rows, 512), (512, 16)) and of_weight == (dtype, (512, rows), (rows, 16))


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


def test_arguments_alone_cannot_say_what_auto_is():
    """The processes of a run have to agree on it."""
    with pytest.raises(ArgumentError, match="compute_dtype is 'auto'; allowed are 'float32', 'bfloat16'"):
        HrmModelArguments(compute_dtype="auto").to_config(11, 81, 1)


def test_a_trainer_says_where_its_dtype_is_slower(speed, said):
    speed(0.125)
    model = tiny_model(compute_dtype="bfloat16")
    HrmTrainer(model, arguments(), [])
    assert said() == [f"{SLOWER}: computing in bfloat16 (compute_dtype 'float32' is quicker)"]
    assert model.config.compute_dtype == "bfloat16"


def test_a_trainer_is_scored_in_the_dtype_that_it_trains_in(speed, monkeypatch):
    speed(0.125)
    asked = []
    monkeypatch.setattr("hrm_hf.training.trainer.evaluate_puzzles", lambda *_, **how: asked.append(how) or {})
    HrmTrainer(tiny_model(compute_dtype="bfloat16"), arguments(), [], eval_dataset=Rows()).evaluate()
    assert [how["compute_dtype"] for how in asked] == ["bfloat16"]


def test_a_run_that_resumes_keeps_the_dtype_that_it_began_with(speed, monkeypatch, tmp_path):
    speed(0.125)
    alone = SimpleNamespace(device=CPU, gather=lambda own: own, is_main_process=True, num_processes=1)
    for saved, taken in ((None, "float32"), ({"compute_dtype": "bfloat16"}, "bfloat16")):
        monkeypatch.setattr("hrm_hf.training.resuming.saved_architecture", lambda folder, saved=saved: saved)
        for asked in (None, "auto"):
            model_config = HrmConfig(compute_dtype="bfloat16")
            assert dtype_of_run(asked, model_config, alone, tmp_path) == taken
            assert dtype_of_run(asked, model_config, alone, None) == "float32"
        assert dtype_of_run("float32", HrmConfig(), alone, tmp_path) == "float32"


@pytest.mark.parametrize("others, taken", [(3.0, "bfloat16"), (0.125, "float32")])
def test_the_process_that_bfloat16_serves_least_decides(speed, others, taken):
    speed(4.0)
    together = SimpleNamespace(device=CPU, gather=lambda own: torch.cat([own, own.new_tensor([others])]))
    assert agreed_dtype("auto", HrmConfig(), together) == taken
