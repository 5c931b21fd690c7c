"""compute_dtype auto in the commands: what was taken is said and written down, and a run keeps it."""

import json
import logging

import pytest
from scripts import run_here

from hrm_hf.hrm import compute_dtype

SMALL = "--compute-dtype auto --num_train 40 --num_test 10 --max_steps 2 --global_batch_size 8 --hidden_size 32"


def set_speed(monkeypatch, value):
    """Sets how many times as fast as float32 bfloat16 is, for all that ask."""
    monkeypatch.setattr(compute_dtype, "_speed", lambda *_: value)
    logging.Logger.warning_once.cache_clear()


def trained(folder, *more):
    return run_here("examples/train_sudoku.py", *SMALL.split(), "--output_dir", str(folder), *more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of a run where bfloat16 is quicker and of one where it is slower."""
    folder = tmp_path_factory.mktemp("runs")
    for name, times in {"bfloat16": 3.0, "float32": 0.125}.items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            set_speed(monkeypatch, times)
            said = trained(folder / name).stderr
        fast = {"bfloat16": "3.0 times as fast as", "float32": "8.0 times slower than"}[name]
        assert f"compute_dtype {name} (auto: products in bfloat16 are {fast} in float32 here)" in said.splitlines()
    return folder


def test_what_was_taken_is_written_down_and_kept(runs, monkeypatch, tmp_path):
    for name in ("bfloat16", "float32"):
        folder = runs / name
        assert json.loads((folder / "run.json").read_text())["arguments"]["compute_dtype"] == name
        assert json.loads((folder / "checkpoint-final" / "config.json").read_text())["compute_dtype"] == name
        assert f"| `compute_dtype` | {name} |" in (folder / "checkpoint-final" / "README.md").read_text()

    set_speed(monkeypatch, 0.125)  # the run goes on with what it began with
    said = trained(runs / "bfloat16", "--resume", "auto").stderr
    assert "compute_dtype bfloat16, with which the run began" in said.splitlines()
    # a new one that starts from its weights takes what is quicker
    start = ["--init_from", str(runs / "bfloat16" / "checkpoint-final"), "--data-dir", str(runs / "bfloat16" / "data")]
    words = ["--max_steps", "1", "--global_batch_size", "8"]
    said = run_here("examples/train_sudoku.py", *start, *words, "--output_dir", str(tmp_path / "new"))
    assert "compute_dtype float32 (" in said.stderr


@pytest.mark.parametrize("times, taken", [(0.125, "float32"), (3.0, "bfloat16")])
def test_an_evaluation_takes_what_is_quicker_and_says_so(runs, monkeypatch, times, taken):
    set_speed(monkeypatch, times)
    words = ["--checkpoint", str(runs / "bfloat16" / "checkpoint-final"), "--data", str(runs / "bfloat16" / "data")]
    done = run_here("examples/evaluate_checkpoint.py", *words)
    assert f" s, in {taken}\n" in done.stdout and "answers are equal" not in done.stdout
    assert (
        "products in bfloat16 are 8.0 times slower than in float32 on this CPU: computing in float32" in done.stderr
    ) == (taken == "float32")
