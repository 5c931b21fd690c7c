"""hrm-adapt: hidden tasks in, a submission of the Kaggle form out, whatever the time allows."""

import json
import re
import sys
import time

import numpy as np
import pytest
import torch
from made_up_arc import kaggle_layout, made_up_task, original_layout, write_folder
from paths import ROOT
from processes import run as run_processes
from safetensors.torch import load_file
from scripts import run_here
from tiny_models import perturbed, tiny_model
from training_command import hrm_train
from transformers.integrations.peft import MIN_PEFT_VERSION

from hrm_hf import HrmProcessor, progress
from hrm_hf.commands import adapt, build, evaluate
from hrm_hf.data import PuzzleFile
from hrm_hf.data.trained_rows import trained_on, write_records
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers
from hrm_hf.hrm.voting import RankedAnswer
from hrm_hf.scores.formulas import submission

pytestmark = pytest.mark.usefixtures("process_as_before")

TASKS = {name: made_up_task(seed, num_test=1 + seed % 2, side=3) for seed, name in enumerate(["b", "a", "c"])}
SMALL = ["--num-aug", "3", "--workers", "1", "--cpu-threads", "1", "--global-batch-size", "4", "--steps", "6"]
TABLE = "model.puzzle_embeddings.weight"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained model of frames of 4 x 4, which knows another task."""
    folder = tmp_path_factory.mktemp("checkpoint")
    names = PuzzleIdentifiers([BLANK_NAME, "other", "other_t1_0123456789"])
    processor = HrmProcessor("arc", (4, 4), puzzle_identifiers=names)
    model = perturbed(tiny_model(vocab_size=12, num_puzzle_identifiers=3, H_cycles=1, L_cycles=1))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_records(folder, [{"num_puzzles": 1, "least_digests": ["0" * 16]}])
    return folder


@pytest.fixture(scope="module")
def challenges(tmp_path_factory):
    """Kaggle's file, without solutions."""
    members = kaggle_layout(TASKS, "arc-agi_test")
    del members["arc-agi_test_solutions.json"]
    return write_folder(tmp_path_factory.mktemp("input"), members) / "arc-agi_test_challenges.json"


EMPTY = {"attempt_1": [[0]], "attempt_2": [[0]]}


def hrm_adapt(checkpoint, tasks, output, *more):
    words = ["--checkpoint", checkpoint, "--tasks", tasks, "--output", output, *SMALL, *more]
    return adapt.main([str(word) for word in words])


def check_form(path, tasks=TASKS):
    """What Kaggle asks of a submission; returns it."""
    found = json.loads(path.read_text())
    assert found.keys() == tasks.keys()
    for name, task in tasks.items():
        assert isinstance(found[name], list) and len(found[name]) == len(task["test"])
        for attempts in found[name]:
            assert attempts.keys() == {"attempt_1", "attempt_2"}
            for grid in attempts.values():
                assert isinstance(grid, list) and 1 <= len(grid) <= 30 and 1 <= len(grid[0]) <= 30
                assert all(isinstance(row, list) and len(row) == len(grid[0]) for row in grid)
                assert all(type(cell) is int and 0 <= cell <= 9 for row in grid for cell in row)
    return found


def test_hidden_tasks_end_in_a_submission(checkpoint, challenges, tmp_path, capsys):
    output, work = tmp_path / "submission.json", tmp_path / "work"
    assert hrm_adapt(checkpoint, challenges, output, "--work-dir", work, "--puzzle-learning-rate", 0.03) == 0
    check_form(output)
    printed = capsys.readouterr().out
    for part in (
        "arc-agi_test_challenges: 3 evaluation tasks in arc-agi_test_challenges.json, 3 of them without answers",
        f"3 tasks in 12 variants, 12 of which start as the mean of the rows of {checkpoint}",
        "step 0: 6 demonstrations: cells ",
        "step 6: 6 demonstrations: cells ",
        f"wrote {output}",
    ):
        assert part in printed
    assert "test inputs: " not in printed  # no answer is known

    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, work / "checkpoint-final"))
    rows = after.pop(TABLE)
    mean = before.pop(TABLE)[1:].mean(0)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())  # the network is frozen
    moved = (rows[1:] - mean).abs().max(1).values
    assert len(rows) == 13 and (moved > 0).sum() > 4 and (moved < 6 * 0.04).all()
    assert PuzzleIdentifiers.load(work / "checkpoint-final").names[1] == "a"
    assert PuzzleFile(work / "data" / "test.h5").info.num_rows == (1 + 2 + 1) * 4
    # the demonstrations, and what the checkpoint was trained on before
    assert [record["num_puzzles"] for record in trained_on(str(work / "checkpoint-final"))] == [6, 1]


def test_answers_that_are_known_are_scored_and_never_trained_on(checkpoint, challenges, tmp_path, capsys):
    folder = write_folder(tmp_path / "tasks", original_layout(TASKS))
    assert hrm_adapt(checkpoint, folder, tmp_path / "known.json") == 0
    printed = capsys.readouterr().out
    assert "tasks: 3 training tasks in data/training" in printed
    for step in (0, 6):
        assert f"step {step}: 4 test inputs: cells " in printed
    assert "with 4 votes pass@1 " in printed and "with 16 votes pass@1 " in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known.json", "tasks"]  # no work folder is left
    assert hrm_adapt(checkpoint, challenges, tmp_path / "hidden.json") == 0
    assert (tmp_path / "hidden.json").read_text() == (tmp_path / "known.json").read_text()


def test_adapting_learns_the_demonstrations(tmp_path, capsys):
    """One task, to paint all in one colour, and a network that can say each: the row has to say which."""
    grids = [np.full((3, 3), colour).tolist() for colour in (1, 2, 3)]
    task = {
        "train": [{"input": g, "output": np.full((3, 3), 7).tolist()} for g in grids],
        "test": [{"input": grids[0]}],
    }
    folder = tmp_path / "checkpoint"
    perturbed(tiny_model(vocab_size=12, num_puzzle_identifiers=3, halt_max_steps=1)).save_pretrained(folder)
    names = PuzzleIdentifiers([BLANK_NAME, "x", "y"])
    HrmProcessor("arc", (4, 4), puzzle_identifiers=names).save_pretrained(folder)
    source = write_folder(tmp_path, {"painted.json": json.dumps(task)}) / "painted.json"
    how = ["--steps", 60, "--num-aug", 0, "--puzzle-learning-rate", 0.1, "--puzzle-weight-decay", 0]
    assert hrm_adapt(folder, source, tmp_path / "submission.json", *how) == 0
    cells = [
        float(line.split("cells ")[1].split(",")[0])
        for line in capsys.readouterr().out.splitlines()
        if "cells" in line
    ]
    assert len(cells) == 2 and cells[1] > cells[0] + 0.2


def test_an_adapter_beside_the_rows(checkpoint, challenges, tmp_path):
    pytest.importorskip("peft", minversion=MIN_PEFT_VERSION)
    work = tmp_path / "work"
    how = ["--lora_rank", 2, "--learning-rate", 1e-2, "--work-dir", work]
    assert hrm_adapt(checkpoint, challenges, tmp_path / "submission.json", *how) == 0
    check_form(tmp_path / "submission.json")
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, work / "checkpoint-final"))
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert TABLE in changed and len(changed) > 3 and all("_proj" in n or "q_head" in n for n in changed - {TABLE})


def test_a_broken_off_adaptation_goes_on(checkpoint, challenges, tmp_path, capsys, monkeypatch):
    """In the dtype that it began with, for the votes too."""
    monkeypatch.setattr("hrm_hf.hrm.compute_dtype._speed", lambda *_: 3.0)
    auto, votes_in = ["--compute-dtype", "auto"], set()
    predict = adapt.predict_puzzles
    monkeypatch.setattr(
        adapt, "predict_puzzles", lambda *args, **how: votes_in.add(how["compute_dtype"]) or predict(*args, **how)
    )
    whole = tmp_path / "whole"
    assert hrm_adapt(checkpoint, challenges, tmp_path / "whole.json", "--work-dir", whole, *auto) == 0
    output, work = tmp_path / "submission.json", tmp_path / "work"
    first = ["--work-dir", work, "--steps", 3, *auto]
    assert hrm_adapt(checkpoint, challenges, output, *first) == 0
    capsys.readouterr()
    monkeypatch.setattr("hrm_hf.hrm.compute_dtype._speed", lambda *_: 0.125)
    assert hrm_adapt(checkpoint, challenges, output, "--resume", work, *auto) == 0  # as the trainer says
    said = capsys.readouterr()
    assert votes_in == {"bfloat16"} and "compute_dtype bfloat16, with which the run began" in said.err
    assert "step 3" in said.err and "step 6: 6 demonstrations" in said.out
    assert output.read_text() == (tmp_path / "whole.json").read_text()
    tables = [load_file(folder / "checkpoint-final" / "model.safetensors")[TABLE] for folder in (whole, work)]
    assert torch.equal(*tables)
    assert hrm_adapt(checkpoint, challenges, output, "--work-dir", work, "--num-aug", 2, *auto) == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert output.read_text() == (tmp_path / "whole.json").read_text()


@pytest.mark.parametrize("seconds", [1e-9, 2.0])
def test_whatever_the_time_the_submission_is_valid(seconds, checkpoint, challenges, tmp_path, capsys):
    output = tmp_path / "submission.json"
    started = time.monotonic()
    assert hrm_adapt(checkpoint, challenges, output, "--steps", 100_000, "--minutes", seconds / 60) == 0
    assert time.monotonic() - started < seconds + 10
    check_form(output)


def test_the_bar_counts_the_steps_that_there_is_time_for(checkpoint, challenges, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.2)
    assert hrm_adapt(checkpoint, challenges, tmp_path / "submission.json", "--steps", 100_000, "--minutes", 0.08) == 0
    totals = [int(total) for total in re.findall(r"training: \d+/(\d+) steps", capsys.readouterr().err)]
    assert totals and totals[-1] < 10_000


def test_the_training_leaves_time_to_the_votes(checkpoint, challenges, tmp_path, monkeypatch):
    """As much as they ask for, a third of all at most; the clock that ends the training knows."""
    assert adapt.seconds_of_votes(30.0, minutes=10) == 30 and adapt.seconds_of_votes(900.0, minutes=10) == 200
    monkeypatch.setattr(adapt, "seconds_of_votes", lambda asked, minutes: 60 * minutes)  # all of it
    steps = []
    train = adapt.HrmTrainer.train

    def counted(trainer):
        train(trainer)
        steps.append(trainer.step)

    monkeypatch.setattr(adapt.HrmTrainer, "train", counted)
    assert hrm_adapt(checkpoint, challenges, tmp_path / "submission.json", "--steps", 100_000, "--minutes", 0.5) == 0
    assert steps[0] <= 1


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("broken", ["build_arc", "predict_puzzles"])
def test_a_valid_submission_is_there_before_the_first_answer(
    broken, named, checkpoint, challenges, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "submission.json"
    how = ["--work-dir", tmp_path / "work"] if named else []

    def look(*args, **kwargs):
        check_form(output)
        raise KeyboardInterrupt

    monkeypatch.setattr(adapt, broken, look)
    assert hrm_adapt(checkpoint, challenges, output, *how) == 130
    assert check_form(output)["a"][1] == EMPTY
    assert (f"{output} is valid; the same command goes on" in capsys.readouterr().err) == (broken != "build_arc")
    monkeypatch.undo()
    capsys.readouterr()
    assert hrm_adapt(checkpoint, challenges, output, *how) == 0  # the same command goes on
    assert capsys.readouterr().err.count("holds no saved state yet") == (broken != "build_arc")
    assert check_form(output)["a"][1] != EMPTY


@pytest.mark.parametrize(("before", "after"), [(1, 0), (4, 2), (0, 0)])
def test_what_the_time_sufficed_for_is_in_the_submission(
    before, after, checkpoint, challenges, tmp_path, monkeypatch, capsys
):
    """`before` and `after` training: how many answers there was time for. Nothing takes an answer away."""
    sizes = iter([*[1] * before, *([0] * (before < 4)), 0, *[1] * after, 0, 0])  # a 0 for the demonstrations
    monkeypatch.setattr(adapt.Adaptation, "fitting_rows", lambda self, end: next(sizes))

    def no_empty_answer(ranked):  # an untrained model gives some
        return json.loads(json.dumps(submission(ranked)).replace("[[0]]", "[[5]]"))

    monkeypatch.setattr(adapt, "submission", no_empty_answer)
    output = tmp_path / "submission.json"
    assert hrm_adapt(checkpoint, challenges, output) == 0
    attempts = [attempts for tests in check_form(output).values() for attempts in tests]
    assert 4 - attempts.count(EMPTY) == before
    printed = capsys.readouterr().out
    assert f"the time is up: {after} of 16 variants of the test inputs have voted" in printed
    assert (f"with empty attempts for {4 - before} of 4 test inputs" in printed) == (before < 4)


def test_a_run_that_goes_on_keeps_the_votes_until_there_are_better_ones(checkpoint, challenges, tmp_path, monkeypatch):
    output, how = tmp_path / "submission.json", ["--work-dir", tmp_path / "work"]
    assert hrm_adapt(checkpoint, challenges, output, *how, "--steps", 3) == 0
    voted = output.read_text()
    monkeypatch.setattr(adapt.HrmTrainer, "train", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert hrm_adapt(checkpoint, challenges, output, *how) == 130
    assert output.read_text() == voted
    output.write_text("mine")  # nor is what is no submission of these tasks overwritten
    assert hrm_adapt(checkpoint, challenges, output, *how) == 2
    assert output.read_text() == "mine"


def test_bad_tasks_get_empty_attempts_where_that_is_asked_for(checkpoint, tmp_path, capsys):
    """A submission must hold all tasks, also those that this checkpoint cannot answer."""
    large = {"train": TASKS["a"]["train"], "test": [{"input": [[1] * 5]}, {"input": [[1]]}]}
    tasks = TASKS | {"large": large, "odd": {"train": 3, "test": [{"input": [[1]]}]}}
    source = write_folder(tmp_path, {"arc_test_challenges.json": json.dumps(tasks)}) / "arc_test_challenges.json"
    output = tmp_path / "submission.json"
    assert hrm_adapt(checkpoint, source, output) == 2
    assert "'arc_test_challenges.json: large': task large, test pair 1, input" in capsys.readouterr().err
    assert not output.exists()
    assert hrm_adapt(checkpoint, source, output, "--skip-bad") == 0
    found = check_form(output, tasks)
    assert found["large"] == [EMPTY, EMPTY] and found["odd"] == [EMPTY] and EMPTY not in found["a"]
    printed = capsys.readouterr().out
    assert "2 tasks left out:" in printed and "with empty attempts for 3 of 7 test inputs" in printed
    write_folder(tmp_path, {"arc_test_challenges.json": json.dumps({"large": large})})
    assert hrm_adapt(checkpoint, source, tmp_path / "none.json", "--skip-bad") == 2
    assert "none of the tasks can be answered; the first: " in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()


def test_hidden_tasks_are_built_trained_on_and_submitted_by_the_other_commands(challenges, tmp_path, capsys):
    data, run, output = tmp_path / "data", tmp_path / "run", tmp_path / "submission.json"
    how = ["--num-aug", "1", "--workers", "1", "--frame-size", "4"]
    assert build.main(["arc", "--output-dir", str(data), *how, str(challenges)]) == 0
    sizes = "--hidden-size 32 --num-attention-heads 2 --H-layers 1 --L-layers 1 --halt-max-steps 2 --cpu-threads 1"
    words = ["--data-dir", data, "--output-dir", run, "--max-steps", 2, "--global-batch-size", 4, "--eval-steps", 1]
    assert hrm_train("arc", *sizes.split(), *words) == 0  # there is nothing to score
    assert "eval/" not in (run / "metrics.jsonl").read_text()
    capsys.readouterr()
    words = ["--checkpoint", run / "checkpoint-final", "--data", data / "test.h5", "--submission", output]
    assert evaluate.main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert "4 of 4 test inputs are of tasks with hidden answers, which pass@k leaves out" in printed
    assert "pass@" not in printed.replace("which pass@k", "") and "exact_accuracy" not in printed
    check_form(output)


def test_two_processes_give_the_same_submission(checkpoint, challenges, tmp_path):
    words = ["--checkpoint", checkpoint, "--tasks", challenges, *SMALL]
    one = [*words, "--output", tmp_path / "one.json"]
    run_here("examples/adapt_arc.py", *map(str, one))
    two = [ROOT / "examples" / "adapt_arc.py", *words, "--output", tmp_path / "two.json"]
    run_processes([str(word) for word in two], processes=2)
    assert check_form(tmp_path / "two.json") == check_form(tmp_path / "one.json")


def test_two_processes_stop_by_the_clock(checkpoint, challenges, tmp_path):
    words = ["--checkpoint", checkpoint, "--tasks", challenges, *SMALL, "--steps", 100_000, "--minutes", 0.05]
    words += ["--output", tmp_path / "submission.json", "--work-dir", tmp_path / "work"]
    started = time.monotonic()
    run_processes([str(word) for word in [ROOT / "examples" / "adapt_arc.py", *words]], processes=2)
    assert time.monotonic() - started < 60
    check_form(tmp_path / "submission.json")


def test_what_cannot_be_adapted_is_one_line_and_writes_nothing(checkpoint, challenges, tmp_path, capsys, monkeypatch):
    def refused(*more, tasks=challenges, model=checkpoint):
        assert hrm_adapt(model, tasks, tmp_path / "submission.json", *more) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("error: ")
        return error

    assert "--minutes is 0.0; it must be more than 0" in refused("--minutes", 0)
    assert "--steps is 0; it must be 1 or more" in refused("--steps", 0)
    assert "--workers is 0; it must be 1 or more" in refused("--workers", 0)
    assert "seed is -1: allowed are" in refused("--seed", -1)
    assert "--learning-rate is that of the adapter: give --lora-rank too" in refused("--learning-rate", 1e-3)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "peft", None)
        assert "lora_rank needs PEFT: pip install" in refused("--lora-rank", 2)
    assert "there is no such file or folder" in refused(tasks=tmp_path / "nosuch.json")
    large = write_folder(
        tmp_path / "in", {"large.json": json.dumps(made_up_task(1) | {"test": [{"input": [[1] * 5]}]})}
    )
    assert "large, test pair 1, input: the grid has 1 x 5 cells: allowed are grids from 1 x 1 to 4 x 4" in refused(
        tasks=large / "large.json"
    )
    pairs = write_folder(tmp_path / "in", {"pairs.json": json.dumps(TASKS["a"]["train"])})
    assert "task pairs has no test input" in refused(tasks=pairs / "pairs.json")
    for name, task, sizes in (("sudoku", "sudoku", {}), ("table", "arc", {"puzzle_emb_ndim": 0})):
        folder = tmp_path / "in" / name
        processor = HrmProcessor(task, (4, 4), (2, 2) if task == "sudoku" else None)
        tiny_model(vocab_size=processor.vocab_size, **sizes).save_pretrained(folder)
        processor.save_pretrained(folder)
        said = refused(model=folder)
        assert ("is of the task 'sudoku'" if name == "sudoku" else "has no puzzle table") in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]

    (tmp_path / "submission.json").write_text("mine")
    assert "submission.json already exists: name another file, or pass --overwrite" in refused()
    assert (tmp_path / "submission.json").read_text() == "mine"
    (tmp_path / "in" / "work").mkdir()
    (tmp_path / "in" / "work" / "mine.txt").write_text("mine")
    said = refused("--work-dir", tmp_path / "in" / "work", "--overwrite")
    assert "is not empty (it holds mine.txt)" in said and "--output-dir" not in said  # an option of other commands
    assert (tmp_path / "submission.json").read_text() == "mine"


def test_the_form_check_is_that_of_the_writer(tmp_path):
    ranked = {("b", 0): [RankedAnswer(np.ones((2, 3), np.uint8), 1, 0.5)], ("a", 1): [], ("c", 0): [], ("a", 0): []}
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(submission(ranked)))
    check_form(path)
