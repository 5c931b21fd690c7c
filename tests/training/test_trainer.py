"""HrmTrainer: what it refuses, what moves, ties between steps and slots, records and exports."""

import json
import os
import signal

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from datasets import Dataset, DatasetDict
from tiny_models import perturbed, tiny_model
from training_parts import Rows, arguments, batch

from hrm_hf import ArgumentError, CheckpointError, DataError, HrmForPuzzleSolving, HrmProcessor, PuzzleError
from hrm_hf.scores.evaluation import evaluate_puzzles
from hrm_hf.training import HrmTrainer, RunFolder, make_accelerator, share_cpu_cores
from hrm_hf.training.finite_watch import NonFiniteError
from hrm_hf.training.slots import ExplorationDraws


def test_refuses_weights_that_are_not_float32():
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is torch.bfloat16: load the model with dtype="):
        HrmTrainer(tiny_model().to(torch.bfloat16), arguments(), [])


def test_refuses_what_does_not_fit():
    with pytest.raises(ArgumentError, match="max_steps is not set"):
        HrmTrainer(tiny_model(), arguments(max_steps=None), [])
    with pytest.raises(ArgumentError, match="4 is not divisible by 1 processes x 3"):
        HrmTrainer(tiny_model(), arguments(gradient_accumulation_steps=3), [])
    with pytest.raises(DataError, match="a training batch has 3 rows; this process expects 4"):
        HrmTrainer(tiny_model(), arguments(), []).training_step(batch(0, rows=3))
    with pytest.raises(DataError, match="gives no whole batch in a pass"):
        HrmTrainer(tiny_model(), arguments(), []).train()
    with pytest.raises(ArgumentError, match="save_steps is 2, but there is no output_dir"):
        HrmTrainer(tiny_model(), arguments(save_steps=2), [])
    with pytest.raises(PuzzleError, match="labels holds 6, which is outside the vocabulary"):
        wrong = batch(0) | {"labels": torch.full((4, 16), 6)}
        HrmTrainer(tiny_model(), arguments(), []).training_step(wrong)
    with pytest.raises(DataError, match="the shapes must be equal"):
        HrmTrainer(tiny_model(), arguments(), []).training_step(batch(0) | {"labels": batch(0, 3)["labels"]})


def test_refuses_single_puzzles_as_batches_and_what_is_no_rows_to_evaluate_on():
    rows = Dataset.from_dict({name: value.tolist() for name, value in batch(0).items()})
    with pytest.raises(ArgumentError, match="train_batches is a Dataset of single puzzles; give what training_batch"):
        HrmTrainer(tiny_model(), arguments(), rows)
    for wrong in ("data/sudoku", DatasetDict(test=rows), rows.to_iterable_dataset(), [batch(0)], rows.to_dict()):
        with pytest.raises(ArgumentError, match=rf"eval_dataset is a {type(wrong).__name__}; give what load_puzzles"):
            HrmTrainer(tiny_model(), arguments(), [batch(0)], eval_dataset=wrong)
    HrmTrainer(tiny_model(), arguments(max_steps=1), [batch(0)], eval_dataset=rows).train()


def test_a_run_without_a_folder_names_no_other_one():
    model = tiny_model()
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(NonFiniteError, match="No state is saved, as there is no output_dir"):
        HrmTrainer(model, arguments(), [batch(0)]).train()


def test_a_warm_up_that_outlasts_the_run_is_said(capsys):
    for warmup_steps, said in ((2, False), (3, True)):
        HrmTrainer(tiny_model(), arguments(max_steps=2, warmup_steps=warmup_steps), [batch(0), batch(1)]).train()
        assert ("warmup_steps is 3, but the run has 2 steps" in capsys.readouterr().err) == said


def test_refuses_accelerators_that_would_change_the_steps():
    with pytest.raises(ArgumentError, match="gradient_accumulation_steps is 2; HrmTrainer needs 1"):
        HrmTrainer(tiny_model(), arguments(), [], Accelerator(gradient_accumulation_steps=2))


def test_refuses_trackers_that_are_not_there():
    with pytest.raises(ArgumentError, match="report_to names 'wandbb', which is no tracker; allowed are"):
        make_accelerator(arguments(report_to=["wandbb"]))
    missing = sorted(set(LOGGER_TYPE_TO_CLASS) - {str(tracker.value) for tracker in get_available_trackers()})
    with pytest.raises(ArgumentError, match=f"report_to names '{missing[0]}', which is not installed: pip install"):
        make_accelerator(arguments(report_to=[missing[0]]))
    assert make_accelerator(arguments(report_to=["none"])).log_with == []


def test_output_dir_is_where_the_run_goes(tmp_path):
    HrmTrainer(tiny_model(), arguments(output_dir=str(tmp_path / "run")), [batch(0)]).train()
    assert (tmp_path / "run" / "checkpoint-final" / "model.safetensors").is_file()
    with pytest.raises(ArgumentError, match="is not empty"):
        HrmTrainer(tiny_model(), arguments(output_dir=str(tmp_path / "run")), [batch(0)])


@pytest.mark.parametrize("changes", [{}, {"pos_encodings": "learned", "puzzle_emb_ndim": 70}, {"puzzle_emb_ndim": 0}])
def test_every_weight_moves_in_one_step_and_buffers_do_not(changes):
    model = perturbed(tiny_model(**changes))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = HrmTrainer(model, arguments(learning_rate=1e-2), [])
    trainer.training_step(batch(0))
    trainer.optimizer_step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.endswith("_init"), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_loss_of_a_step_is_the_models_own():
    options = {"halting": "halt_only", "token_loss": "softmax", "label_smoothing": 0.2, "halting_loss_weight": 0.05}
    model = perturbed(tiny_model(**options))
    own = model(**batch(0)).loss
    trainer = HrmTrainer(model, arguments(), [])
    trainer.training_step(batch(0))
    torch.testing.assert_close(trainer.row_losses[0].mean(), own, check_dtype=False)
    for name, before in (("label_smoothing", 0.0), ("halting_loss_weight", 0.5)):
        other = perturbed(tiny_model(**options | {name: before}))
        assert not torch.isclose(other(**batch(0)).loss, own)


def test_untouched_puzzle_rows_stay():
    model = perturbed(tiny_model(num_puzzle_identifiers=5))
    before = model.model.puzzle_embeddings.weight.detach().clone()
    trainer = HrmTrainer(model, arguments(puzzle_learning_rate=0.1), [])
    trainer.training_step(batch(0) | {"puzzle_identifiers": torch.tensor([1, 1, 3, 1])})
    trainer.optimizer_step()
    moved = (model.model.puzzle_embeddings.weight.detach() != before).any(-1)
    assert moved.tolist() == [False, True, False, True, False]


def test_slots_keep_their_puzzle_until_they_halt():
    model = tiny_model(halt_max_steps=3)  # q values are equal at the start: nothing halts before the limit
    trainer = HrmTrainer(model, arguments(halt_exploration_prob=0.0, learning_rate=0.0), [])
    first = batch(0)
    for step in (1, 2, 3):
        trainer.training_step(batch(0) if step == 1 else batch(step))
        slots = trainer.slots[0]
        assert torch.equal(slots.data["input_ids"], first["input_ids"]) and slots.steps.tolist() == [step] * 4
        assert slots.halted.tolist() == [step == 3] * 4
    trainer.training_step(batch(4))
    assert torch.equal(trainer.slots[0].data["input_ids"], batch(4)["input_ids"])
    assert trainer.slots[0].steps.tolist() == [1] * 4


def test_a_model_of_one_segment_trains_without_a_q_continue_loss():
    trainer = HrmTrainer(tiny_model(halt_max_steps=1), arguments(), [])
    sums = trainer.training_step(batch(0))
    assert "q_continue_loss" not in sums and trainer.slots[0].halted.all()
    assert trainer.model.q_head.weight.grad[0].abs().sum() > 0


def test_draws_come_from_the_seed_alone():
    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        trainer = HrmTrainer(perturbed(tiny_model()), arguments(halt_exploration_prob=1.0, seed=7), [])
        for step in range(5):
            trainer.training_step(batch(step))
            trainer.optimizer_step()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_exploration_draws_can_be_given():
    model = perturbed(tiny_model())
    with torch.no_grad():
        model.q_head.weight.zero_()
        model.q_head.bias.copy_(torch.tensor([1.0, 0.0]))  # wants to halt at once
    trainer = HrmTrainer(model, arguments(halt_exploration_prob=0.5), [])
    draws = ExplorationDraws(torch.tensor([0.4, 0.6, 0.4, 0.9]), torch.tensor([2, 2, 3, 3], dtype=torch.int32))
    trainer.training_step(batch(0), draws)
    assert trainer.slots[0].halted.tolist() == [False, True, False, True]


def test_the_average_is_what_is_evaluated_and_exported(tmp_path):
    model = tiny_model()
    folder = RunFolder(tmp_path / "run")
    trainer = HrmTrainer(
        model, arguments(ema_decay=0.9, learning_rate=0.1), [batch(0)], eval_dataset=Rows(), run_folder=folder
    )
    scores = trainer.train()
    loaded = HrmForPuzzleSolving.from_pretrained(tmp_path / "run" / "checkpoint-final")
    averages = dict(
        zip([n for n, _ in model.named_parameters() if "puzzle" not in n], trainer.average.averages, strict=True)
    )
    for name, average in averages.items():
        assert torch.equal(loaded.state_dict()[name], average)
        assert not torch.equal(dict(model.named_parameters())[name], average)
    again = evaluate_puzzles(loaded, Rows())
    assert scores["eval/accuracy"] == pytest.approx(again["accuracy"])


def test_a_run_leaves_its_records_and_exports(tmp_path):
    processor = HrmProcessor(task="sudoku", grid_shape=(4, 4))
    folder = RunFolder(tmp_path / "run")
    folder.describe(arguments={"seed": 0})
    args = arguments(max_steps=4, eval_steps=2, save_steps=2, logging_steps=1, state_limit=1)
    HrmTrainer(tiny_model(), args, [batch(0), batch(1)], None, Rows(), processor, folder).train()
    assert {path.name for path in folder.path.iterdir()} - {".lock"} == {
        "run.json",
        "metrics.jsonl",
        "state-00000002",  # the best evaluation
        "state-00000004",
        "checkpoint-2",
        "checkpoint-best",
        "checkpoint-final",
    }
    for name in ("checkpoint-2", "checkpoint-best", "checkpoint-final"):
        files = {path.name for path in (folder.path / name).iterdir()}
        assert files == {"config.json", "model.safetensors", "processor_config.json"}
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/lm_loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "eval/exact_accuracy" in line] == [2, 4]
    assert {"train/accuracy", "train/steps", "train/q_continue_loss", "train/lr"} <= lines[0].keys()
    assert json.loads((folder.path / "run.json").read_text())["arguments"] == {"seed": 0}


def test_a_folder_of_another_run_is_refused(tmp_path):
    RunFolder(tmp_path).describe()
    with pytest.raises(ArgumentError, match="holds another run"):
        RunFolder(tmp_path)
    (tmp_path / "run.json").rename(tmp_path / "notes.txt")
    with pytest.raises(ArgumentError, match=r"is not empty \(it holds notes.txt\)"):
        RunFolder(tmp_path)
    with pytest.raises(ArgumentError, match="is a file"):
        RunFolder(tmp_path / "notes.txt")


def test_ctrl_c_finishes_the_step_and_exports(tmp_path):
    def interrupted_batches():
        yield batch(0)
        os.kill(os.getpid(), signal.SIGINT)
        yield batch(1)
        raise AssertionError("a third batch was asked for")

    before = signal.getsignal(signal.SIGINT)
    trainer = HrmTrainer(
        tiny_model(), arguments(max_steps=9), interrupted_batches(), run_folder=RunFolder(tmp_path / "run")
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.step == 2 and (tmp_path / "run" / "checkpoint-2" / "model.safetensors").is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_leaves_at_once_and_says_how_to_go_on(tmp_path, capsys):
    def interrupted_batches():
        yield batch(0)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal did not end this")

    run_folder = RunFolder(tmp_path / "run")
    trainer = HrmTrainer(tiny_model(), arguments(max_steps=9), interrupted_batches(), run_folder=run_folder)
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.train()
    assert type(caught.value) is KeyboardInterrupt and not (tmp_path / "run" / "checkpoint-1").exists()
    said = capsys.readouterr().err
    assert "left at once at step 1. The last saved state is that of step 0: to resume from it, repeat the" in said


def test_tensorboard_through_accelerate(tmp_path):
    args = arguments(report_to=["tensorboard"], logging_steps=1)
    accelerator = make_accelerator(args, str(tmp_path))
    HrmTrainer(tiny_model(), args, [batch(0)], accelerator).train()
    accelerator.end_training()
    assert any(path.name.startswith("events.out") for path in tmp_path.rglob("*"))


def test_seeded_models_depend_on_the_seed_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = tiny_model(1), tiny_model(1), tiny_model(2)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_cpu_cores_are_shared_out(monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    share_cpu_cores(Accelerator(cpu=True), None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    share_cpu_cores(Accelerator(cpu=True), None)
    share_cpu_cores(Accelerator(cpu=True), 5)
    assert threads == [8, 2, 5]


def test_processes_that_would_run_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="2 processes were started, but Accelerate runs each one alone"):
        make_accelerator(arguments())
