"""transformers' callbacks on HrmTrainer: when each is called, and that what they ask for is done."""

import json

import pytest
from tiny_models import tiny_model
from training_parts import Rows, arguments, batch
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import DefaultFlowCallback

from hrm_hf import ArgumentError
from hrm_hf.training import HrmTrainer
from hrm_hf.training.states import check_state

EVENTS = ("on_train_begin", "on_step_begin", "on_step_end", "on_log", "on_evaluate", "on_save", "on_train_end")


class Noting(TrainerCallback):
    """Notes every call: the event, the step, and the folder where something was saved."""

    def __init__(self):
        self.calls: list[tuple] = []
        self.kwargs: list[dict] = []

    def __getattribute__(self, name):
        if name not in EVENTS:
            return super().__getattribute__(name)

        def note(args, state, control, **kwargs):
            saved = [kwargs["path"].name] if name == "on_save" else []
            self.calls.append((name.removeprefix("on_"), state.global_step, *saved))
            self.kwargs.append(kwargs | {"state": state, "args": args})

        return note


def trainer_in(run, callbacks, **changes) -> HrmTrainer:
    settings = {"output_dir": str(run), "max_steps": 3, "logging_steps": 2, "eval_steps": 2, "save_steps": 2}
    batches = [batch(0), batch(1)]
    return HrmTrainer(tiny_model(), arguments(**settings | changes), batches, eval_dataset=Rows(), callbacks=callbacks)


def test_every_call_in_its_order(tmp_path):
    noting = Noting()
    trainer = trainer_in(tmp_path / "run", [noting])
    trainer.train()
    assert noting.calls == [
        ("train_begin", 0),
        ("save", 0, "state-00000000"),
        ("step_begin", 0),
        ("step_end", 1),
        ("step_begin", 1),
        ("step_end", 2),
        ("log", 2),
        ("log", 2),
        ("save", 2, "checkpoint-best"),
        ("evaluate", 2),
        ("save", 2, "checkpoint-2"),
        ("save", 2, "state-00000002"),
        ("step_begin", 2),
        ("step_end", 3),
        ("save", 3, "state-00000003"),  # a longer run resumes there, and knows nothing of the end
        ("log", 3),
        ("log", 3),
        ("evaluate", 3),
        ("save", 3, "checkpoint-final"),
        ("train_end", 3),
    ]
    logs = [kwargs["logs"] for call, kwargs in zip(noting.calls, noting.kwargs, strict=True) if call[0] == "log"]
    assert ["train/lm_loss" in each for each in logs] == [True, False, True, False]
    metrics = [kwargs["metrics"] for kwargs in noting.kwargs if "metrics" in kwargs]
    assert metrics == [logs[1], logs[3]] and "eval/exact_accuracy" in logs[1]
    state, last = noting.kwargs[-1]["state"], noting.kwargs[-1]
    assert state.max_steps == 3 and state.best_global_step == trainer.best.step == 2
    assert state.best_metric == logs[1]["eval/exact_accuracy"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert state.log_history == [json.loads(line) for line in lines] and len(lines) == 4
    assert last["model"] is trainer.model and last["args"] is trainer.args


def test_a_class_is_made_into_a_callback_and_a_history_goes_on(tmp_path):
    trainer_in(tmp_path / "run", [], max_steps=2, lr_min_ratio=1.0).train()
    longer = trainer_in(tmp_path / "run", [Noting], max_steps=4, lr_min_ratio=1.0, resume="auto")
    longer.train()
    (noting,) = longer.callbacks
    assert noting.calls[0] == ("train_begin", 2) and noting.calls[-1] == ("train_end", 4)
    assert [line["step"] for line in longer.state.log_history] == [2, 2, 4, 4]


class Stopping(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 2


def test_a_callback_stops_the_run_and_it_is_saved(tmp_path):
    trainer = trainer_in(tmp_path / "run", [Stopping()], max_steps=9, eval_steps=9, save_steps=9, state_minutes=0)
    trainer.train()
    check_state(tmp_path / "run" / "state-00000002")
    assert trainer.step == 2
    assert (tmp_path / "run" / "checkpoint-final" / "model.safetensors").is_file()
    again = trainer_in(tmp_path / "run", [], max_steps=9, eval_steps=9, save_steps=9, resume="auto")
    again.train()
    assert again.step == 9


class Asking(TrainerCallback):
    """Asks for everything at the end of step 1, and turns off what is due at step 2."""

    def on_step_end(self, args, state, control, **kwargs):
        asked = state.global_step == 1
        control.should_log = control.should_evaluate = control.should_save = asked
        return control


def test_what_a_callback_asks_for_is_done(tmp_path):
    noting = Noting()
    how = {"max_steps": 9, "logging_steps": 2, "eval_steps": 2, "save_steps": None, "state_steps": 2}
    trainer = trainer_in(tmp_path / "run", [Asking(), Stopping(), noting], **how)
    trainer.train()
    assert noting.calls == [
        ("train_begin", 0),
        ("save", 0, "state-00000000"),
        ("step_begin", 0),
        ("step_end", 1),
        ("log", 1),
        ("log", 1),
        ("save", 1, "checkpoint-best"),
        ("evaluate", 1),
        ("save", 1, "checkpoint-1"),
        ("save", 1, "state-00000001"),
        ("step_begin", 1),
        ("step_end", 2),
        ("save", 2, "state-00000002"),  # because the run stops
        ("save", 2, "checkpoint-final"),
        ("train_end", 2),
    ]


def test_an_evaluation_that_has_no_rows_is_refused():
    trainer = HrmTrainer(tiny_model(), arguments(), [batch(0)], callbacks=[Asking()])
    with pytest.raises(ArgumentError, match="a callback set should_evaluate, but there is no eval_dataset"):
        trainer.train()


@pytest.mark.parametrize("callback", [PrinterCallback, ProgressCallback])
def test_the_callbacks_of_transformers_print_what_is_logged(tmp_path, capsys, callback):
    trainer_in(tmp_path / "run", [callback]).train()
    assert capsys.readouterr().out.count("'train/lm_loss'") == 2


@pytest.mark.parametrize("callback", [EarlyStoppingCallback, EarlyStoppingCallback(early_stopping_patience=3)])
def test_early_stopping_by_a_callback_is_refused_before_a_folder_is_made(tmp_path, callback):
    with pytest.raises(ArgumentError, match="EarlyStoppingCallback .* set early_stopping_patience"):
        trainer_in(tmp_path / "run", [callback])
    assert not (tmp_path / "run").exists()


def test_a_callback_that_needs_another_argument_is_refused_by_name(tmp_path):
    trainer = trainer_in(tmp_path / "run", [DefaultFlowCallback])
    with pytest.raises(ArgumentError, match="DefaultFlowCallback needs logging_first_step, of transformers' Trainer"):
        trainer.train()


class Mistaken(TrainerCallback):
    def on_log(self, args, state, control, logs, **kwargs):
        logs.nothing()


def test_a_mistake_in_a_callback_is_not_put_into_other_words(tmp_path):
    with pytest.raises(AttributeError, match="'dict' object has no attribute 'nothing'"):
        trainer_in(tmp_path / "run", [Mistaken]).train()


class SavingAfterEvaluation(TrainerCallback):
    def on_evaluate(self, args, state, control, **kwargs):
        control.should_save = True


def test_a_save_asked_for_after_an_evaluation_is_a_state_and_no_checkpoint(tmp_path):
    how = {"eval_steps": None, "save_steps": None, "max_steps": 2, "state_minutes": 0}
    trainer = trainer_in(tmp_path / "run", [AskingToEvaluate, SavingAfterEvaluation], **how)
    trainer.train()
    check_state(tmp_path / "run" / "state-00000001")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-final"]


class AskingToEvaluate(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_evaluate = True
