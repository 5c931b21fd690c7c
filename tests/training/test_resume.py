"""A run that goes on from a saved state: equal to the unbroken one, and refused where it would be another run."""

import hashlib
import json
import logging
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from run_records import broken_at, log_of, without_clocks
from safetensors.torch import load_file
from tiny_models import TINY_RECURSIVE, tiny_model
from training_parts import Rows, arguments, batch

from hrm_hf import ArgumentError, CheckpointError, DataError
from hrm_hf.data import training_batches
from hrm_hf.data.build.sudoku_builder import build_sudoku, generate_rows
from hrm_hf.progress import show_messages
from hrm_hf.training import HrmTrainer, RunFolder
from hrm_hf.training.batch_stream import BatchStream
from hrm_hf.training.best_score import BestScore
from hrm_hf.training.run_folder import choose_run_dir
from hrm_hf.training.states import check_state, read_json_tree, read_tree
from hrm_hf.training.stop_requests import StoppedBySignal


@pytest.fixture(autouse=True)
def messages():
    """All messages are shown, as commands show them."""
    show_messages()
    yield
    logging.getLogger("transformers.hrm_hf").setLevel(logging.NOTSET)


def contents(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()} - {".lock"}


def assert_same_run(run: Path, other: Path, step: int) -> None:
    """Log, exported weights and every tensor and number of the last state are equal, but for the clocks."""
    assert log_of(run) == log_of(other)
    ours, theirs = (folder / f"state-{step:08d}" for folder in (run, other))
    for state in (ours, theirs):
        check_state(state)
    assert contents(ours) == contents(theirs)
    for name in ("state", "process-00000-of-00001"):
        assert (ours / f"{name}.safetensors").read_bytes() == (theirs / f"{name}.safetensors").read_bytes()
        a, b = (without_clocks(read_json_tree(state, name)) for state in (ours, theirs))
        a.pop("run_id", None), b.pop("run_id", None)
        assert a == b
    a, b = (load_file(folder / "checkpoint-final" / "model.safetensors") for folder in (run, other))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("puzzles")
    train, test = generate_rows(6, 2, (2, 2), 8, seed=0)
    build_sudoku(folder, train, test, num_aug=3, seed=0)
    return folder


def trainer_in(
    run: Path, puzzles: Path, resume: str = "never", trainer_class=HrmTrainer, options=None, **changes
) -> HrmTrainer:
    """Passes of 3 batches, a log line every 2 steps, an average and two accumulation parts."""
    settings = {
        "output_dir": str(run),
        "max_steps": 9,
        "learning_rate": 0.01,
        "lr_min_ratio": 0.1,
        "warmup_steps": 3,
        "logging_steps": 2,
        "eval_steps": 3,
        "save_steps": 3,
        "ema_decay": 0.9,
        "gradient_accumulation_steps": 2,
        "state_steps": 1,
        "state_limit": 20,
        "halt_exploration_prob": 0.5,
    }
    args = arguments(**settings | changes, resume=resume)
    batches = training_batches(puzzles, args.global_batch_size, seed=3, epochs_per_pass=2)
    facts = {"train": "a checksum"}
    return trainer_class(tiny_model(**(options or {})), args, batches, eval_dataset=Rows(), data_facts=facts)


@pytest.fixture(scope="module")
def unbroken(puzzles, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    trainer_in(run, puzzles).train()
    assert {path.name for path in run.glob("state-*")} == {f"state-{step:08d}" for step in range(10)}
    return run


@pytest.mark.parametrize("step", range(10))
def test_going_on_from_any_step_is_the_unbroken_run(unbroken, puzzles, tmp_path, step, capsys):
    run = broken_at(unbroken, step, tmp_path / "run")
    scores = trainer_in(run, puzzles, "auto").train()
    assert_same_run(run, unbroken, 9)
    assert scores == read_json_tree(unbroken / "state-00000009", "state")["scores"]
    assert f"state-{step:08d} (the newest one), step {step}" in capsys.readouterr().err


def test_a_tiny_recursive_model_goes_on_as_the_unbroken_run(puzzles, tmp_path):
    how = {"options": TINY_RECURSIVE | {"gradient_span": "segment"}, "ema_warmup": False}
    trainer_in(tmp_path / "whole", puzzles, **how).train()
    run = broken_at(tmp_path / "whole", 4, tmp_path / "run")
    trainer_in(run, puzzles, "auto", **how).train()
    assert_same_run(run, tmp_path / "whole", 9)
    with pytest.raises(ArgumentError, match="training.ema_warmup was False, now it is True"):
        trainer_in(run, puzzles, "auto", options=how["options"]).train()


GROWING = {"options": TINY_RECURSIVE | {"token_loss": "softmax", "label_smoothing": 0.2, "halting_loss_weight": 0.05}}
GROWING |= {"optimizer": "muon", "max_grad_norm": 0.5, "ema_warmup": False}


@pytest.mark.parametrize("step", [2, 5])
def test_growing_depth_and_muon_go_on_as_the_unbroken_run(puzzles, tmp_path, step):
    how = GROWING | {"depth_schedule": "0:1x1,0.3:2x1,0.6:2x2"}
    trainer_in(tmp_path / "whole", puzzles, **how).train()
    run = broken_at(tmp_path / "whole", step, tmp_path / "run")
    trainer_in(run, puzzles, "auto", **how).train()
    assert_same_run(run, tmp_path / "whole", 9)
    assert read_json_tree(run / "state-00000009", "state")["depths"] == [[0, 1, 1], [3, 2, 1], [6, 2, 2]]
    changed = {"muon_momentum": 0.9, "depth_schedule": "0:1x1,0.6:2x2"}
    with pytest.raises(ArgumentError, match="training.depth_schedule was .*training.muon_momentum was 0.95"):
        trainer_in(run, puzzles, "auto", **how | changed).train()


def test_the_stages_of_a_run_made_longer_stay_where_they_were(puzzles, tmp_path):
    how = GROWING | LONGER | {"logging_steps": 1, "save_steps": None, "eval_steps": None}
    trainer_in(tmp_path / "run", puzzles, max_steps=4, depth_schedule="0:1x1,0.5:2x2", **how).train()
    longer = trainer_in(tmp_path / "run", puzzles, "auto", depth_schedule="0:1x1,0.5:2x2", **how)
    longer.train()
    whole = trainer_in(tmp_path / "whole", puzzles, depth_schedule="0:1x1,0.2:2x2", **how)
    whole.train()
    assert longer.step == whole.step == 9 and longer.depths == whole.depths == [[0, 1, 1], [2, 2, 2]]
    weights = longer.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.model.state_dict().items())


class Interrupted(HrmTrainer):
    """Gets Ctrl-C in the second segment of the evaluation of one step."""

    at = 3

    def evaluate(self, halt=False):
        segments = iter(range(100))

        def segment(*_):
            if self.step == self.at and next(segments) == 1:
                os.kill(os.getpid(), signal.SIGINT)

        hook = self.model.model.register_forward_hook(segment)
        try:
            return super().evaluate(halt)
        finally:
            hook.remove()


@pytest.mark.parametrize("step", [3, 9])
def test_an_evaluation_that_a_signal_broke_off_is_done_when_the_run_goes_on(unbroken, puzzles, tmp_path, step, capsys):
    run = tmp_path / "run"
    trainer = trainer_in(run, puzzles, trainer_class=Interrupted)
    trainer.at = step
    with pytest.raises(StoppedBySignal):
        trainer.train()
    assert trainer.step == step and (run / f"checkpoint-{step}" / "model.safetensors").is_file()
    assert f"stopped by SIGINT at step {step}. The last saved state is that of step {step}" in capsys.readouterr().err
    assert [line["step"] for line in log_of(run) if "eval/accuracy" in line] == list(range(3, step, 3))
    del trainer
    trainer_in(run, puzzles, "auto").train()
    assert_same_run(run, unbroken, 9)
    assert (run / "checkpoint-3").is_dir() and "the run is finished" not in capsys.readouterr().err


def test_the_first_state_that_is_whole_is_taken(unbroken, puzzles, tmp_path, capsys):
    run = broken_at(unbroken, 5, tmp_path / "run")
    (run / "state-00000005" / "state.safetensors").unlink()
    (run / "state-00000004" / "state.json").write_text("{}")
    trainer_in(run, puzzles, "auto").train()
    assert_same_run(run, unbroken, 9)
    said = capsys.readouterr().err
    assert {path.name for path in run.glob("left-*")} == {"left-state-00000004", "left-state-00000005"}
    assert "skipped" in said and "state.safetensors is missing" in said
    assert "state-00000003 (the newest complete one), step 3" in said


def test_only_damaged_states_are_refused(unbroken, puzzles, tmp_path):
    run = broken_at(unbroken, 0, tmp_path / "run")
    log = run / "state-00000000" / "state.json"
    log.write_bytes(log.read_bytes() + b"\n")
    with pytest.raises(CheckpointError, match="no complete saved state: .*state.json is damaged"):
        trainer_in(run, puzzles, "auto").train()


def test_a_state_can_be_named(unbroken, puzzles, tmp_path, capsys):
    run = broken_at(unbroken, 6, tmp_path / "run")
    trainer_in(run, puzzles, str(run / "state-00000004")).train()
    assert "state-00000006 is newer and kept as left-state-00000006" in capsys.readouterr().err
    assert (run / "left-state-00000006").is_dir()
    assert_same_run(run, unbroken, 9)


def test_another_run_is_refused_with_all_differences(unbroken, puzzles, tmp_path):
    run = broken_at(unbroken, 3, tmp_path / "run")
    with pytest.raises(ArgumentError) as refused:
        trainer_in(run, puzzles, "auto", learning_rate=0.02, halt_exploration_prob=0.1, max_steps=10).train()
    for difference in (
        "training.learning_rate was 0.01, now it is 0.02",
        "training.halt_exploration_prob was 0.5, now it is 0.1",
        "training.max_steps was 9, now it is 10",
    ):
        assert difference in str(refused.value)
    with pytest.raises(ArgumentError, match="model.L_cycles was 2, now it is 3"):
        trainer = trainer_in(run, puzzles, "auto")
        trainer.model.config.L_cycles = 3
        trainer.train()
    with pytest.raises(ArgumentError, match="data.train was 'a checksum', now it is 'another'"):
        trainer = trainer_in(run, puzzles, "auto")
        trainer.data_facts = {"train": "another"}
        trainer.train()
    assert {path.name for path in run.glob("state-*")} == {f"state-{step:08d}" for step in range(4)}


@pytest.mark.parametrize(
    ("part", "value"), [("facts", None), ("facts", [1]), ("best", None), ("best", {}), ("step", None)]
)
def test_a_state_without_what_a_run_needs_is_one_line(unbroken, puzzles, tmp_path, part, value):
    run = broken_at(unbroken, 4, tmp_path / "run")
    state = run / "state-00000004"
    tree = read_json_tree(state, "state") | {part: value}
    if value is None:
        del tree[part]
    content = json.dumps(tree)
    (state / "state.json").write_text(content)
    manifest = json.loads((state / "manifest.json").read_text())
    (record,) = (each for each in manifest["files"] if each["name"] == "state.json")
    record |= {"size": len(content), "sha256": hashlib.sha256(content.encode()).hexdigest()}
    (state / "manifest.json").write_text(json.dumps(manifest) + "\n")
    check_state(state)
    with pytest.raises(CheckpointError, match="state-00000004 is not whole"):
        trainer_in(run, puzzles, resume="auto").train()


def test_what_changes_no_result_may_differ(unbroken, puzzles, tmp_path):
    run = broken_at(unbroken, 4, tmp_path / "run")
    trainer = trainer_in(run, puzzles, "auto", gradient_accumulation_steps=1, logging_steps=3, eval_steps=None)
    trainer.train()
    ours, theirs = (read_tree(folder / "state-00000009", "state")["model"] for folder in (run, unbroken))
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=0, atol=1e-5)


LONGER = {"lr_min_ratio": 1.0, "logging_steps": 3, "eval_steps": 3, "save_steps": 2}


@pytest.fixture(scope="module")
def long(puzzles, tmp_path_factory) -> Path:
    """A run of 9 steps at a constant rate."""
    run = tmp_path_factory.mktemp("long") / "run"
    trainer_in(run, puzzles, **LONGER).train()
    return run


# at these steps nothing is due (in the warm-up), an export, a log line with an evaluation, and an export again
@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_a_finished_run_made_longer_is_the_unbroken_one(long, puzzles, tmp_path, first):
    run = tmp_path / "run"
    trainer_in(run, puzzles, max_steps=first, **LONGER).train()
    assert log_of(run)[-1].keys() >= {"step", "eval/accuracy"} and log_of(run)[-1]["step"] == first
    before = (run / "checkpoint-final" / "model.safetensors").read_bytes()
    trainer_in(run, puzzles, "auto", max_steps=first + 3, **LONGER).train()  # and once more
    assert (run / "checkpoint-final" / "model.safetensors").read_bytes() != before
    trainer_in(run, puzzles, str(run), max_steps=9, **LONGER).train()
    assert_same_run(run, long, 9)
    assert contents(run) == contents(long)
    for name in ("checkpoint-best", "checkpoint-2", "checkpoint-4"):
        ours, theirs = (folder / name / "model.safetensors" for folder in (run, long))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_a_run_whose_rate_falls_is_not_made_longer(unbroken, puzzles, tmp_path):
    run = broken_at(unbroken, 9, tmp_path / "run")
    said = "max_steps was 9, now it is 12.* because its learning rate falls until step 9 .lr_min_ratio 0.1.: for "
    with pytest.raises(ArgumentError, match=f"{said}.*--init_from with a checkpoint in {run}"):
        trainer_in(run, puzzles, "auto", max_steps=12).train()


def test_a_run_made_shorter_ends_where_it_is_or_is_refused(long, puzzles, tmp_path):
    run = broken_at(long, 5, tmp_path / "run")
    with pytest.raises(ArgumentError, match="max_steps is 4, but .*state-00000005 is of step 5: pass that many"):
        trainer_in(run, puzzles, "auto", max_steps=4, **LONGER).train()
    trainer = trainer_in(run, puzzles, "auto", max_steps=5, **LONGER)
    scores = trainer.train()
    assert trainer.step == trainer.final_step == 5 and "eval/accuracy" in scores
    assert log_of(run)[-2]["train/lr"] == 0.01 and log_of(run)[-1]["step"] == 5
    trainer_in(run, puzzles, "auto", max_steps=9, **LONGER).train()
    assert_same_run(run, long, 9)


class ScoredBySteps(HrmTrainer):
    """The scores of the steps 2, 4, 6, 8 fall; those of odd steps are high."""

    def evaluate(self, halt=False):
        return {"eval/accuracy": {2: 0.5, 4: 0.25, 6: 0.2, 8: 0.1}.get(self.step, 1.0)}


def test_the_end_of_a_run_made_longer_does_not_count_for_early_stopping(tmp_path):
    def train(name: str, max_steps: int, resume: str = "never") -> HrmTrainer:
        settings = {"output_dir": str(tmp_path / name), "max_steps": max_steps, "eval_steps": 2, "state_steps": 1}
        settings |= {"metric_for_best": "accuracy", "early_stopping_patience": 3, "resume": resume, "state_limit": 20}
        batches = [batch(0), batch(1)]
        trainer = ScoredBySteps(tiny_model(), arguments(**settings), batches, eval_dataset=Rows())
        trainer.train()
        return trainer

    unbroken = train("unbroken", 20)
    assert (unbroken.step, unbroken.final_step) == (8, 2)
    first = train("run", 5)
    assert (first.step, first.final_step, first.scores) == (5, 5, {"eval/accuracy": 1.0})  # the best of them
    final = load_file(tmp_path / "run" / "checkpoint-final" / "model.safetensors")
    assert all(torch.equal(tensor, final[name]) for name, tensor in first.model.state_dict().items())
    again = train("run", 5, "auto")
    assert (again.final_step, again.scores) == (5, {"eval/accuracy": 1.0})
    assert train("run", 20, "auto").final_step == 2
    assert_same_run(tmp_path / "run", tmp_path / "unbroken", 8)
    stopped = train("run", 30, "auto")  # a run that gave up stays so
    assert (stopped.step, stopped.final_step) == (8, 2)


@pytest.mark.parametrize("more", [0, 5])
def test_an_evaluation_at_the_end_that_a_signal_broke_off(puzzles, tmp_path, long, more):
    run = tmp_path / "run"
    trainer = trainer_in(run, puzzles, trainer_class=Interrupted, max_steps=4, **LONGER)
    trainer.at = 4
    with pytest.raises(StoppedBySignal):
        trainer.train()
    del trainer
    trainer_in(run, puzzles, "auto", max_steps=4 + more, **LONGER).train()
    assert log_of(run)[-1]["step"] == 4 + more and "eval/accuracy" in log_of(run)[-1]
    if more:
        assert_same_run(run, long, 9)


def test_a_finished_run_exports_again(unbroken, puzzles, tmp_path):
    run = broken_at(unbroken, 9, tmp_path / "run")
    assert not (run / "checkpoint-final").exists()
    trainer_in(run, puzzles, "auto").train()
    assert_same_run(run, unbroken, 9)


def test_without_a_state_there_is_nothing_to_go_on_from(unbroken, puzzles, tmp_path, capsys):
    trainer = trainer_in(tmp_path / "new", puzzles, "auto", max_steps=1, eval_steps=None)
    assert not trainer.go_on()  # as the commands do, before they write anything
    trainer.train()
    assert capsys.readouterr().err.count("holds no saved state yet: the run starts from the beginning") == 1
    run = broken_at(unbroken, -1, tmp_path / "run")
    for resume in ("auto", str(run)):
        with pytest.raises(CheckpointError, match="holds no saved state to resume from"):
            trainer_in(run, puzzles, resume).train()
    with pytest.raises(ArgumentError, match="resume is auto, but there is no output_dir"):
        HrmTrainer(tiny_model(), arguments(resume="auto"), [batch(0)])


def test_the_newest_states_and_the_best_are_kept(puzzles, tmp_path):
    class Scored(HrmTrainer):
        def evaluate(self, halt=False):
            return {"eval/exact_accuracy": {3: 0.5, 6: 0.25}.get(self.step, 0.125)}

    settings = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 9,
        "eval_steps": 3,
        "state_steps": 1,
        "state_limit": 2,
    }
    Scored(tiny_model(), arguments(**settings), [batch(0), batch(1)], eval_dataset=Rows()).train()
    assert {path.name for path in (tmp_path / "run").glob("state-*")} == {f"state-0000000{n}" for n in (3, 8, 9)}
    best = load_file(tmp_path / "run" / "checkpoint-best" / "model.safetensors")
    at_3 = read_tree(tmp_path / "run" / "state-00000003", "state")["model"]
    assert all(torch.equal(best[name], at_3[name]) for name in best)


def test_early_stopping_ends_with_the_best_weights(tmp_path):
    class Scored(HrmTrainer):
        def evaluate(self, halt=False):
            return {"eval/accuracy": {2: 0.25, 4: 0.5, 6: 0.5, 8: 0.375}.get(self.step, 1.0)}

    settings = {"output_dir": str(tmp_path / "run"), "max_steps": 20, "eval_steps": 2, "ema_decay": 0.9}
    settings |= {"metric_for_best": "accuracy", "early_stopping_patience": 2, "save_steps": 4}
    trainer = Scored(tiny_model(), arguments(**settings), [batch(0), batch(1)], eval_dataset=Rows())
    scores = trainer.train()
    assert trainer.step == 8 and scores == {"eval/accuracy": 0.5}
    final, at_4, at_8 = (
        load_file(tmp_path / "run" / f"checkpoint-{name}" / "model.safetensors") for name in ("final", "4", "8")
    )
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(final[name], at_4[name]) and torch.equal(tensor, at_4[name])
    assert any(not torch.equal(final[name], at_8[name]) for name in final)
    again = Scored(tiny_model(), arguments(**settings, resume="auto"), [batch(0), batch(1)], eval_dataset=Rows())
    assert again.train() == scores and again.step == 8  # a run that gave up does not go on


def test_the_best_score():
    best = BestScore("accuracy", patience=2, threshold=0.1)
    shown = []
    for step, value in enumerate((0.5, 0.55, 0.7, 0.75, 0.1)):
        shown.append(best.beaten_by({"eval/accuracy": value}))
        best.show({"eval/accuracy": value}, step)
    assert shown == [True, True, True, True, False]
    assert (best.step, best.scores) == (3, {"eval/accuracy": 0.75})
    assert (best.progress, best.waited, best.give_up) == (0.7, 2, True)
    best.show({"eval/accuracy": 0.9}, 5, kept=False)
    assert (best.step, best.waited) == (3, 0)  # its weights could not be kept
    best.show({"eval/accuracy": 0.8}, 6)
    assert (best.step, best.progress, best.waited) == (6, 0.9, 1)
    other = BestScore("accuracy", patience=3)
    other.load_state_dict(json.loads(json.dumps(best.state_dict())))
    assert (other.step, other.progress, other.waited) == (6, 0.9, 1)
    with pytest.raises(ArgumentError, match="metric_for_best is 'exact'; the evaluation has accuracy, loss"):
        BestScore("exact").check({"eval/accuracy": 1.0, "eval/loss": 0.0})


def test_a_score_of_nothing_is_never_the_best_and_can_be_saved():
    best = BestScore("accuracy", patience=9)
    for step, value in enumerate((math.nan, -1.0, math.nan)):
        best.show({"eval/accuracy": value, "eval/blank": math.nan}, step)
    assert (best.step, best.waited) == (1, 1)
    other = BestScore("accuracy")
    other.load_state_dict(json.loads(json.dumps(best.state_dict())))
    assert other.scores["eval/accuracy"] == -1.0 and math.isnan(other.scores["eval/blank"])


def test_batches_without_a_state_of_their_own_are_drawn_again():
    batches = [{"number": np.array(i)} for i in range(3)]
    stream = BatchStream(batches)
    drawn = [int(next(stream)["number"]) for _ in range(5)]
    assert drawn == [0, 1, 2, 0, 1]
    other = BatchStream(batches)
    other.load_state_dict(stream.state_dict())
    assert [int(next(other)["number"]) for _ in range(4)] == [2, 0, 1, 2]
    with pytest.raises(CheckpointError, match="stands after batch 2 of a pass, but .* end after 1"):
        BatchStream(batches[:1]).load_state_dict(stream.state_dict())
    with pytest.raises(CheckpointError, match="batch 2 of the pass is another one than when the state was saved"):
        BatchStream(batches[1:]).load_state_dict(stream.state_dict())
    with pytest.raises(DataError, match="gives no whole batch in a pass"):
        next(BatchStream([]))


def test_a_shuffling_loader_goes_on_in_its_order():
    rows = [{"number": torch.tensor(i)} for i in range(8)]

    def stream() -> BatchStream:
        return BatchStream(torch.utils.data.DataLoader(rows, batch_size=2, shuffle=True))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        whole = stream()
        drawn = [next(whole)["number"].tolist() for _ in range(6)]
        torch.manual_seed(5)
        broken = stream()
        for _ in range(5):
            next(broken)
        state = broken.state_dict()
        torch.manual_seed(6)
        other = stream()
        other.load_state_dict(state)
        assert next(other)["number"].tolist() == drawn[5]


@pytest.mark.parametrize("before", range(8))
def test_batches_with_a_state_go_on_across_passes(puzzles, before):
    def stream() -> BatchStream:
        return BatchStream(training_batches(puzzles, 4, seed=3, epochs_per_pass=2))

    whole = stream()
    rows = [next(whole)["input_ids"] for _ in range(10)]
    broken = stream()
    for _ in range(before):
        next(broken)
    other = stream()
    other.load_state_dict(broken.state_dict())
    for i in range(before, 10):
        assert np.array_equal(next(other)["input_ids"], rows[i])


def test_which_folder_a_run_goes_on_in(tmp_path):
    old, new = tmp_path / "maze-1", tmp_path / "maze-2"
    for folder in (old, new):
        RunFolder(folder).describe()
        (folder / "state-00000003").mkdir()
    (old / "run.json").touch()
    assert choose_run_dir("auto", None, "maze", tmp_path) == old
    assert choose_run_dir("auto", None, "arc", tmp_path).name.startswith("arc-")
    assert choose_run_dir("auto", str(new), "maze", tmp_path) == new
    finished = RunFolder(old, reopen=True)
    finished.describe()
    finished.finish()
    assert choose_run_dir("auto", None, "maze", tmp_path) not in (old, new)  # the newest is finished
    assert choose_run_dir(str(new), None, "maze", tmp_path) == new
    assert choose_run_dir(str(new / "state-00000003"), None, "maze", tmp_path) == new
    with pytest.raises(ArgumentError, match="nothing', but there is no such folder; allowed: never, auto, or"):
        choose_run_dir(str(tmp_path / "nothing"), None, "maze", tmp_path)
    with pytest.raises(ArgumentError, match="not in output_dir"):
        choose_run_dir(str(new), str(old), "maze", tmp_path)


def test_what_a_broken_export_left_is_cleared_away(tmp_path):
    RunFolder(tmp_path / "run").describe()
    for name in (".checkpoint-best.replaced", ".checkpoint-final.partial", ".checkpoint-7.replaced", "checkpoint-7"):
        (tmp_path / "run" / name).mkdir()
    RunFolder(tmp_path / "run", reopen=True)
    assert contents(tmp_path / "run") == {"run.json", "checkpoint-best", "checkpoint-7"}


def test_what_a_broken_save_left_is_cleared_away(unbroken, puzzles, tmp_path):
    run = broken_at(unbroken, 9, tmp_path / "run")
    (run / "state-00000001").rename(run / ".state-00000001.partial")
    trainer_in(run, puzzles, "auto", state_limit=2).train()
    best = read_json_tree(run / "state-00000009", "state")["best"]["step"]
    kept = {f"state-{step:08d}" for step in (8, 9, best)}
    assert contents(run) == kept | {"metrics.jsonl", "checkpoint-final"}


def test_a_run_killed_while_it_wrote_its_description_can_start_again(tmp_path):
    (tmp_path / ".run.json.123.partial").touch()
    RunFolder(tmp_path).describe()
    assert contents(tmp_path) == {"run.json"}


def test_a_best_score_whose_weights_could_not_be_exported_is_not_the_best(tmp_path, capsys):
    class Scored(HrmTrainer):
        def evaluate(self, halt=False):
            return {"eval/accuracy": {2: 0.25, 4: 0.5}.get(self.step, 0.125)}

        def export(self, name):
            if name == "checkpoint-best" and self.step == 4:
                raise OSError("no room")
            super().export(name)

    settings = {"output_dir": str(tmp_path / "run"), "max_steps": 6, "eval_steps": 2, "early_stopping_patience": 5}
    settings |= {"metric_for_best": "accuracy"}
    trainer = Scored(tiny_model(), arguments(**settings), [batch(0), batch(1)], eval_dataset=Rows())
    assert trainer.train() == {"eval/accuracy": 0.25}
    assert "no room\n" in capsys.readouterr().err
    final = load_file(tmp_path / "run" / "checkpoint-final" / "model.safetensors")
    at_2 = read_tree(tmp_path / "run" / "state-00000002", "state")["model"]
    assert all(torch.equal(final[name], at_2[name]) for name in final)


def test_a_metric_that_does_not_exist_is_refused_before_the_first_step(tmp_path):
    args = arguments(output_dir=str(tmp_path / "run"), eval_steps=2, metric_for_best="acuracy")
    trainer = HrmTrainer(tiny_model(), args, [batch(0)], eval_dataset=Rows())
    with pytest.raises(ArgumentError, match="metric_for_best is 'acuracy'; the evaluation has count, exact_accuracy"):
        trainer.train()
    assert trainer.step == 0


def test_facts_that_cannot_be_saved_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="data_facts cannot be saved as JSON"):
        HrmTrainer(tiny_model(), arguments(), [batch(0)], data_facts={"path": tmp_path})


def test_a_state_of_another_folder_is_refused(unbroken, puzzles, tmp_path):
    with pytest.raises(ArgumentError, match="not in output_dir"):
        trainer_in(tmp_path / "run", puzzles, str(unbroken)).train()


@pytest.mark.parametrize("changes", [{"puzzle_emb_ndim": 0}, {"halt_max_steps": 1}, {"halting": "halt_only"}])
def test_other_models_go_on_too(tmp_path, changes):
    def train(run: Path, resume: str = "never") -> None:
        settings = {"output_dir": str(run), "max_steps": 5, "state_steps": 1, "state_limit": 9, "ema_decay": 0.5}
        args = arguments(**settings, resume=resume)
        HrmTrainer(tiny_model(**changes), args, [batch(0), batch(1)]).train()

    train(tmp_path / "run")
    train(broken_at(tmp_path / "run", 2, tmp_path / "again"), "auto")
    assert_same_run(tmp_path / "again", tmp_path / "run", 5)


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path):
    held = RunFolder(tmp_path)
    child = os.fork()  # locks belong to a process
    if child == 0:
        try:
            RunFolder(tmp_path)
        except ArgumentError as error:
            os._exit(0 if "is in use: another process trains in it" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0 and held.path == tmp_path
