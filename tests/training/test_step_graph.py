"""A pass as a graph beside the plain pass, with a stand-in for the graph that the CPU can run."""

import logging
import weakref
from types import SimpleNamespace

import pytest
import torch
from recorded_steps import check_six_recorded_steps
from tiny_models import TINY_RECURSIVE, perturbed, tiny_model
from training_parts import Rows, arguments, batch

from hrm_hf.progress import show_messages
from hrm_hf.training import HrmTrainer
from hrm_hf.training.finite_watch import stored_values
from hrm_hf.training.states import newest_state, read_tree
from hrm_hf.training.step_graph import StepGraph
from hrm_hf.training.steps import TrainingSteps


@pytest.fixture(autouse=True)
def messages():
    """All messages are shown, as commands show them."""
    show_messages()
    yield
    logging.getLogger("transformers.hrm_hf").setLevel(logging.NOTSET)


class StandIn:
    """Captures for a model: a replay calls again and puts all into the memory of the captured call, as a graph does.

    Attributes:
        captures, replays: how many there were.
        spoil: called with the captured result after each replay.
    """

    def __init__(self, model, spoil=lambda result: None):
        self.model, self.spoil = model, spoil
        self.captures = self.replays = 0

    def __call__(self, call):
        self.captures += 1
        result = call()
        memory = self._written(result)
        for tensor in memory:  # a capture computes nothing
            tensor.fill_(True if tensor.dtype == torch.bool else -7)

        def replay():
            self.replays += 1
            for tensor, new in zip(memory, self._written(call()), strict=True):
                tensor.copy_(new)
            for parameter in self.model.parameters():
                parameter.grad = None
            self.spoil(result)

        return replay, result

    def _written(self, result) -> list[torch.Tensor]:
        found = [result.row_losses, *result.slots.state_dict().values(), *result.sums.values()]
        for gradient in (p.grad for p in self.model.parameters() if p.grad is not None):
            found += [gradient._indices(), gradient._values()] if gradient.is_sparse else [gradient]
        return found


def trainer_of(graph: bool, model=None, **changes) -> HrmTrainer:
    model = model or perturbed(tiny_model())
    trainer = HrmTrainer(model, arguments(max_grad_norm=0.5, ema_decay=0.9, **changes), [])
    if graph:
        trainer.graph = StepGraph(trainer.model, StandIn(trainer.model))
    return trainer


def one_step(trainer: HrmTrainer, seed: int) -> dict[str, torch.Tensor]:
    """A copy of all that a step leaves: sums, gradients, slots, weights."""
    sums = trainer.training_step(batch(seed))
    found = {f"sum of {name}": value for name, value in sums.items()}
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = stored_values(parameter.grad).clone()
    trainer.optimizer_step()
    found |= {f"slots {name}": value.clone() for name, value in trainer.slots[0].state_dict().items()}
    return found | {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("run", ["D", "K"])
@pytest.mark.parametrize("variant", ["noexplore", "explore"])
def test_six_recorded_steps_by_a_graph(monkeypatch, run, variant):
    made = []

    def step_graph(steps):
        made.append(StandIn(steps.model))
        return StepGraph(steps.model, made[-1])

    monkeypatch.setattr(TrainingSteps, "_step_graph", step_graph)
    check_six_recorded_steps(variant, run)
    assert [(graph.captures, graph.replays) for graph in made] == [(1, 6)]


@pytest.mark.parametrize("changes", [{}, TINY_RECURSIVE, {"puzzle_emb_ndim": 0, "compute_dtype": "bfloat16"}])
def test_steps_by_a_graph_are_the_plain_ones(changes):
    ours, theirs = (trainer_of(graph, perturbed(tiny_model(**changes))) for graph in (True, False))
    for step in range(4):
        assert_equal(one_step(ours, step), one_step(theirs, step))
    assert (ours.graph.capture.captures, ours.graph.capture.replays) == (1, 4)


def test_a_step_by_a_graph_leaves_the_sums_of_the_one_before():
    trainer = trainer_of(True)
    first = trainer.training_step(batch(0))
    kept = {name: value.clone() for name, value in first.items()}
    trainer.optimizer_step()
    trainer.training_step(batch(1))
    assert_equal(first, kept)


def test_every_depth_is_captured_once():
    how = {"depth_schedule": "0:2x1,0.5:3x2", "max_steps": 6}
    ours, theirs = (trainer_of(graph, **how) for graph in (True, False))
    for step in range(6):
        assert_equal(one_step(ours, step), one_step(theirs, step))
    assert (ours.graph.capture.captures, ours.graph.capture.replays) == (2, 6)


def test_a_run_by_graphs_is_the_plain_run_and_goes_on(tmp_path):
    """With evaluations, which swap the average in and out, and the best weights at the end."""

    def train(name, graph, steps=6, resume="never"):
        how = {"max_steps": steps, "lr_min_ratio": 1.0, "state_steps": 1, "optimizer": "muon", "eval_steps": 2}
        args = arguments(output_dir=str(tmp_path / name), ema_decay=0.9, early_stopping_patience=9, **how)
        args.resume = resume
        trainer = HrmTrainer(tiny_model(), args, [batch(0), batch(1)], eval_dataset=Rows())
        if graph:
            trainer.graph = StepGraph(trainer.model, StandIn(trainer.model))
        trainer.train()
        if graph:
            assert trainer.graph.capture.captures == 1 and trainer.graph.capture.replays >= 3
        own = read_tree(newest_state(tmp_path / name)[0], "process-00000-of-00001")["slots"]
        return read_tree(newest_state(tmp_path / name)[0], "state")["model"] | own

    plain = train("plain", False)
    assert_equal(train("unbroken", True), plain)
    train("broken", True, steps=3)
    assert_equal(train("broken", True, resume="auto"), plain)


def test_weights_that_are_loaded_or_replaced_count():
    ours, theirs = trainer_of(True), trainer_of(False)
    captures = []
    other = {name: value + 0.01 for name, value in perturbed(tiny_model(), seed=9).state_dict().items()}
    for step in range(5):
        for trainer in (ours, theirs):
            weight = trainer.model.lm_head.weight
            if step == 1:
                trainer.model.load_state_dict(other)
            elif step == 2:
                weight.data = weight.detach() * 2  # elsewhere in memory
            elif step == 4:
                trainer.model.config.halting_loss_weight = 0.1
        assert_equal(one_step(ours, step), one_step(theirs, step))
        captures.append(ours.graph.capture.captures)
    assert captures == [1, 1, 2, 2, 3]


def test_what_is_frozen_or_moved_is_captured_anew():
    trainer, captures, older = trainer_of(True), [], None
    for step in range(4):
        if step == 1:
            trainer.model.lm_head.weight.requires_grad_(False)
        elif step == 2:
            trainer.model.model.z_H_init.data = trainer.model.model.z_H_init.clone()
        one_step(trainer, step)
        captures.append(trainer.graph.capture.captures)
        if step == 0:
            older = weakref.ref(trainer.graph.captured)
    assert captures == [1, 2, 3, 3] and older() is None


def test_gradients_that_are_there_are_added_to():
    ours, theirs = trainer_of(True), trainer_of(False)
    for trainer in (ours, theirs):
        trainer.training_step(batch(0))
        trainer.optimizer_step()
        trainer.training_step(batch(1))
    assert_equal(one_step(ours, 2), one_step(theirs, 2))


def cannot_capture(call):
    call()
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("raises", "RuntimeError: operation not permitted when stream is capturing"),
        ("losses", "the losses are not those of the plain pass"),
        ("nan", "the losses are not those of the plain pass"),
        ("gradient", "the gradients of lm_head.weight are not those of the plain pass"),
    ],
)
def test_where_a_graph_does_not_work_the_plain_steps_go_on(capsys, fault, why):
    ours, theirs = trainer_of(True), trainer_of(False)
    captured = {}

    def spoil(result):
        if fault == "losses":
            result.row_losses[1] += 0.5
        elif fault == "nan":
            result.row_losses[1] = float("nan")
        else:
            captured["gradient"].mul_(1.1)

    stand_in = StandIn(ours.model, spoil)

    def capture(call):
        if fault == "raises":
            return cannot_capture(call)
        replay, result = stand_in(call)
        captured["gradient"] = ours.model.lm_head.weight.grad
        return replay, result

    ours.graph = StepGraph(ours.model, capture)
    for step in range(3):
        assert_equal(one_step(ours, step), one_step(theirs, step))
    lines = [line for line in capsys.readouterr().err.splitlines() if "compile" in line]
    assert len(lines) == 1 and lines[0].endswith(f"there is no CUDA graph ({why})")
    assert stand_in.captures == (fault != "raises")


def test_a_config_that_changes_in_every_step_is_not_captured_for_ever(capsys):
    ours, theirs = trainer_of(True), trainer_of(False)
    for step in range(6):
        for trainer in (ours, theirs):
            trainer.model.config.halting_loss_weight = 0.1 * (step + 1)
        assert_equal(one_step(ours, step), one_step(theirs, step))
    assert ours.graph.capture.captures == 3
    assert capsys.readouterr().err.count("were others in every step") == 1


@pytest.mark.parametrize("of", ["module", "gradient"])
def test_no_graph_where_it_would_not_call_hooks(capsys, of):
    ours, theirs, seen = trainer_of(True), trainer_of(False), []
    assert_equal(one_step(ours, 0), one_step(theirs, 0))
    before = ours.graph.capture.replays
    if of == "module":
        ours.model.lm_head.register_forward_hook(lambda *given: seen.append(of))
    else:
        ours.model.lm_head.weight.register_hook(lambda gradient: seen.append(of))
    for step in (1, 2):
        assert_equal(one_step(ours, step), one_step(theirs, step))
    assert ours.graph.capture.replays == before and len(seen) == 2
    assert capsys.readouterr().err.count("the model has hooks, which a graph would not call") == 1


@pytest.mark.parametrize(
    ("device", "processes", "parts", "said"),
    [
        ("cuda", 1, 1, None),
        ("cuda", 2, 1, "blocks and optimiser are compiled; a CUDA graph of the pass needs one process"),
        ("cuda", 1, 2, "blocks and optimiser are compiled; a CUDA graph of the pass needs one process"),
        ("cpu", 1, 1, "blocks and optimiser are compiled\n"),
    ],
)
def test_one_line_says_what_compile_takes(capsys, device, processes, parts, said):
    model = tiny_model()
    steps = SimpleNamespace(
        args=arguments(compile=True, gradient_accumulation_steps=parts),
        accelerator=SimpleNamespace(device=torch.device(device)),
        model=model,
        distributed_model=model if processes == 1 else torch.nn.Sequential(model),
    )
    graph = TrainingSteps._step_graph(steps)
    assert (graph is None) == (said is not None)
    assert (said or "") in capsys.readouterr().err


def test_the_line_of_a_graph_comes_once(capsys):
    trainer = trainer_of(True, depth_schedule="0:2x1,0.5:3x2", max_steps=4)
    for step in range(4):
        one_step(trainer, step)
    assert capsys.readouterr().err.count("each step's pass is one CUDA graph") == 1
