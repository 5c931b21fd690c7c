"""The examples, at a size that takes seconds: each once as a user runs it, else within this process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from paths import ROOT
from scripts import run, run_here
from transformers import pipeline

from hrm_hf import ArgumentError, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.commands.training_run import read_arguments
from hrm_hf.commands.training_tasks import SudokuArguments
from hrm_hf.data import load_puzzles
from hrm_hf.games.sudoku_symmetry import class_keys
from hrm_hf.hrm.sudoku import decode
from hrm_hf.scores.compiled import compiled_block

SMALL = "--size 4 --num_train 40 --num_test 10 --max_steps 3 --global_batch_size 8 --hidden_size 32"
SMALL += " --cpu_threads 1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """The main job through `accelerate launch`, small; the run folder and what it printed."""
    folder = tmp_path_factory.mktemp("train") / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", str(ROOT / "examples" / "train_sudoku.py")]
    done = subprocess.run(
        [*launch, *SMALL.split(), "--ema_decay", "0.9", "--compute-dtype", "float32", "--output_dir", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder, done.stdout


def test_the_main_job_leaves_a_whole_checkpoint(trained):
    folder, said = trained
    checkpoint = folder / "checkpoint-final"
    assert {path.name for path in checkpoint.iterdir()} == {
        "README.md",
        "card_values.json",
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "training_data.json",
    }
    assert "on 10 unseen puzzles: count 10.0000, exact_accuracy" in said
    assert "loaded back, solves" in said and "segment(s), confidence" in said

    last = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-1]
    card = ModelCard.load(checkpoint / "README.md")
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert measured["exact_accuracy"] == last["eval/exact_accuracy"]
    assert measured["blank_accuracy"] == last["eval/blank_accuracy"]
    run_record = json.loads((folder / "run.json").read_text())
    assert run_record["arguments"]["max_steps"] == 3 and run_record["data"]["num_groups"] == 40


def test_no_test_puzzle_equals_a_training_puzzle(trained):
    keys = []
    for split in ("train", "test"):
        rows = load_puzzles(trained[0] / "data" / f"{split}.h5")[:]
        originals = rows["input_ids"][rows["variant"] == 0]
        keys.append(class_keys(decode(originals).reshape(-1, 4, 4), (2, 2)))
    assert len(keys[0]) == len(set(keys[0])) == 40 and len(set(keys[1])) == 10
    assert not set(keys[0]) & set(keys[1])


def test_the_checkpoint_solves_through_the_pipeline(trained):
    solver = pipeline("puzzle-solving", model=str(trained[0] / "checkpoint-final"))
    result = solver("1...|....|....|....".replace("|", ""))
    assert set(result) == {"solution", "segments", "confidence", "valid"} and len(result["solution"]) == 16


def test_evaluate_checkpoint(trained):
    folder, _ = trained
    arguments = ["--checkpoint", str(folder / "checkpoint-final"), "--data", str(folder / "data" / "test.h5")]
    said = run("examples/evaluate_checkpoint.py", *arguments, "--halt", "--batch-size", "4", "--limit", "7").stdout
    assert ": 7 puzzles in" in said and "blank_accuracy" in said and "guessing" in said
    assert re.search(r"^[\d.]+ puzzles/s; [\d.]+ of \d+ segments per puzzle, [\d.]+ % saved$", said, re.MULTILINE)
    said = run_here(
        "examples/evaluate_checkpoint.py", *arguments, "--compute-dtype", "bfloat16", "--limit", "7"
    ).stdout
    assert re.search(r"^bfloat16 beside float32: [0-7] of the first 7 answers are equal$", said, re.MULTILINE)


def test_evaluate_checkpoint_compiled(trained, compiler, monkeypatch):
    folder, _ = trained
    arguments = ["--checkpoint", str(folder / "checkpoint-final"), "--data", str(folder / "data" / "test.h5")]
    compiled = []

    def recorded(device, **how):
        block, calls = compiled_block(device, **how), []
        compiled.append((how, calls))
        return lambda *args: calls.append(1) or block(*args)

    monkeypatch.setattr("hrm_hf.commands.evaluate.compiled_block", recorded)
    said = run_here("examples/evaluate_checkpoint.py", *arguments, "--compile", "--batch-size", "4", "--halt").stdout
    assert re.search(
        r"^float32, compiled, beside float32: (9|10) of the first 10 answers are equal$", said, re.MULTILINE
    )
    ((how, calls),) = compiled
    assert how == {"any_batch_size": True} and calls


def test_hrm_solve(trained):
    checkpoint = str(trained[0] / "checkpoint-final")
    said = run("hrm_hf.commands.solve", "--checkpoint", checkpoint, "1... .... .... ...2").stdout
    assert "segment(s), confidence" in said
    wrong = run("hrm_hf.commands.solve", "--checkpoint", checkpoint, "11.. .... .... ....", expect=2)
    assert "error: the digit 1 stands twice in row 1" in wrong.stderr and "Traceback" not in wrong.stderr


def test_wrong_use_of_train_sudoku_is_one_line(trained, tmp_path):
    folder, _ = trained
    cases = [
        (["--output_dir", str(folder)], "holds another run"),
        (["--recipe", str(tmp_path / "no.yaml")], "there is no recipe"),
        (["--recipe", "sudoku_extrem_1k"], "did you mean sudoku_extreme_1k?"),
        (["--data_dir", str(tmp_path)], "there is no such file"),
        (["--global_batch_size", "7", "--gradient_accumulation_steps", "2"], "7 is not divisible by"),
    ]
    for arguments, message in cases:
        if "--output_dir" not in arguments:
            arguments += ["--output_dir", str(tmp_path / "out")]
        said = run_here("examples/train_sudoku.py", *SMALL.split(), *arguments, expect=2).stderr
        assert message in said and "Traceback" not in said, said


def test_a_file_of_another_size_is_refused(trained, tmp_path):
    other = tmp_path / "other"
    HrmProcessor(task="sudoku", grid_shape=(6, 6)).save_pretrained(other)
    config = HrmForPuzzleSolving.from_pretrained(trained[0] / "checkpoint-final").config
    config.seq_len, config.vocab_size = 36, 8
    HrmForPuzzleSolving(config).save_pretrained(other)
    data = str(trained[0] / "data" / "test.h5")
    said = run_here("examples/evaluate_checkpoint.py", "--checkpoint", str(other), "--data", data, expect=2).stderr
    assert "vocab_size is 6, the model's is 8" in said


def test_the_recipe_follows_the_size():
    data, _, training = read_arguments(SudokuArguments, [])
    assert (data.size, data.recipe, training.max_steps) == (6, "sudoku_6x6", 1000)
    for size, prefix in ((4, 2), (9, 7)):
        data, model, _ = read_arguments(SudokuArguments, ["--size", str(size)])
        assert (data.size, model.num_prefix_positions) == (size, prefix)


def test_the_command_line_changes_what_goes_with_an_argument_of_the_recipe():
    fast = ["--recipe", "sudoku_fast"]
    assert read_arguments(SudokuArguments, [*fast, "--muon-learning-rate", "0.01"])[2].muon_learning_rate == 0.01
    ours = read_arguments(SudokuArguments, ["--recipe", "sudoku_trm_mlp", "--ema_warmup", "true"])[2]
    assert (ours.ema_decay, ours.ema_warmup) == (0.999, True)
    _, model, training = read_arguments(SudokuArguments, [*fast, "--H-cycles", "2"])
    assert (model.H_cycles, training.depth_schedule) == (2, None)


def test_variants_are_stored_or_drawn():
    stored = ["--online-augmentation", "false"]
    for words, num, drawn in (([], 0, True), (stored, 1000, False), ([*stored, "--num-aug", "5"], 5, False)):
        data, *_ = read_arguments(SudokuArguments, words)
        assert (data.num_aug, data.online_augmentation) == (num, drawn)
    hrm = ["--recipe", str(ROOT / "benchmarks" / "recipes" / "hrm_sudoku_6x6.yaml")]
    assert read_arguments(SudokuArguments, [*hrm, *stored])[0].num_aug == 500
    unheeded = ["--num-aug", "5", "--data-dir", "somewhere", "--recipe", "sudoku_6x6"]
    assert read_arguments(SudokuArguments, unheeded)[0].online_augmentation
    for words in (["--num-aug", "5"], [*hrm, "--online-augmentation", "true"]):
        with pytest.raises(
            ArgumentError, match=r"num_aug is \d+, but online_augmentation is True: set it to false, or"
        ):
            read_arguments(SudokuArguments, words)
