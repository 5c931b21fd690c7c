"""`accelerate launch --mixed_precision`: followed or refused, never passed over."""

import json
import os
import subprocess
import sys

import pytest
from accelerate.state import AcceleratorState
from paths import ROOT
from scripts import run_here
from tiny_models import tiny_model
from training_parts import arguments

from hrm_hf import ArgumentError
from hrm_hf.commands import evaluate
from hrm_hf.commands.training_run import read_arguments
from hrm_hf.commands.training_tasks import SudokuArguments
from hrm_hf.training import HrmTrainer, make_accelerator

SMALL = "--num_train 40 --num_test 10 --max_steps 2 --global_batch_size 8 --hidden_size 32 --cpu_threads 1"
ASKED = "ACCELERATE_MIXED_PRECISION"


@pytest.fixture(autouse=True)
def fresh_state():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bf16_of_the_launcher_sets_the_compute_dtype_and_says_so(tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    launch += ["--mixed_precision", "bf16", "--dynamo_backend", "no", str(ROOT / "examples" / "train_sudoku.py")]
    done = subprocess.run(
        [*launch, *SMALL.split(), "--output_dir", str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[0] == "compute_dtype bfloat16, which accelerate launch asks for"
    config = json.loads((tmp_path / "run" / "checkpoint-final" / "config.json").read_text())
    assert config["compute_dtype"] == "bfloat16"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["arguments"]["compute_dtype"] == "bfloat16"


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_what_no_model_computes_in_is_one_line(monkeypatch, tmp_path, precision):
    monkeypatch.setenv(ASKED, precision)
    said = run_here("examples/train_sudoku.py", *SMALL.split(), "--output_dir", str(tmp_path / "run"), expect=2).stderr
    asks = f"accelerate launch asks for the mixed precision {precision}, in which no model of hrm_hf computes"
    assert said.splitlines() == [f"error: {asks}: give --mixed_precision bf16 or no"]
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match=asks):
        make_accelerator(arguments())


def test_another_dtype_by_recipe_or_command_line_is_refused_by_name(monkeypatch, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("compute_dtype: float32\nmax_steps: 1\n")
    recipe = ["--recipe", str(path)]
    monkeypatch.setenv(ASKED, "no")
    assert read_arguments(SudokuArguments, recipe)[1].compute_dtype == "float32"
    monkeypatch.setenv(ASKED, "bf16")
    asks = "accelerate launch asks for the mixed precision bf16, but"
    with pytest.raises(ArgumentError, match=f"{asks} the recipe {path} names the compute_dtype float32"):
        read_arguments(SudokuArguments, recipe)
    for words in (["--compute_dtype", "float32"], ["--compute-dtype=float32"]):
        with pytest.raises(ArgumentError, match=f"{asks} the command line names the compute_dtype float32"):
            read_arguments(SudokuArguments, words)
    for words in ([], [*recipe, "--compute-dtype", "bfloat16"], ["--recipe", "sudoku_extreme_1k"]):
        assert read_arguments(SudokuArguments, [*words, "--max_steps", "1"])[1].compute_dtype == "bfloat16"


def test_no_leaves_a_recipe_its_bfloat16(monkeypatch):
    monkeypatch.setenv(ASKED, "no")
    assert read_arguments(SudokuArguments, ["--recipe", "sudoku_extreme_1k"])[1].compute_dtype == "auto"
    recipe = ["--recipe", "sudoku_extreme_1k", "--compute-dtype", "bfloat16"]
    assert read_arguments(SudokuArguments, recipe)[1].compute_dtype == "bfloat16"


def test_a_trainer_of_ones_own_needs_the_model_to_compute_so(monkeypatch):
    monkeypatch.setenv(ASKED, "bf16")
    HrmTrainer(tiny_model(compute_dtype="bfloat16"), arguments(), [])
    with pytest.raises(ArgumentError, match="but the model's config names the compute_dtype float32"):
        HrmTrainer(tiny_model(), arguments(), [])


def test_an_evaluation_follows_too(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(ASKED, "bf16")
    monkeypatch.setattr(evaluate, "puzzle_file_path", lambda *_: pytest.fail("the dtype is checked first"))
    command = ["--checkpoint", str(tmp_path), "--data", str(tmp_path), "--compute-dtype", "float32"]
    assert evaluate.main(command) == 2
    assert "but --compute-dtype names the compute_dtype float32" in capsys.readouterr().err
