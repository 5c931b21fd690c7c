"""From a CSV file to a solved puzzle and back to the original form, through the commands' main functions."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_command import reset_accelerate

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.commands import build, convert, evaluate, push, solve, train
from hrm_hf.commands.training_run import run_training
from hrm_hf.commands.training_tasks import SudokuArguments
from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.hrm.sudoku import write
from hrm_hf.training import HrmTrainer

SMALL = ["--max-steps", "3", "--global-batch-size", "8", "--hidden-size", "32", "--cpu-threads", "1"]


pytestmark = pytest.mark.usefixtures("process_as_before")


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory) -> Path:
    """A CSV file of 20 Sudokus of 4x4."""
    path = tmp_path_factory.mktemp("csv") / "puzzles.csv"
    questions, answers = generate(20, (2, 2), np.random.default_rng(0))
    rows = [f"toy,{write(q)},{write(a)},1" for q, a in zip(questions, answers, strict=True)]
    path.write_text("\n".join(["source,question,answer,rating", *rows]) + "\n")
    return path


def test_the_whole_trip(puzzles, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(main, *words: str) -> str:
        assert main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    said = run(build.main, "sudoku", "--output-dir", "data", "--train-source", str(puzzles), "--num-test", "5")
    assert "train.h5: 15 puzzles, 15 variants, 15 rows of 4x4 cells" in said
    said = run(train.main, "sudoku", "--data-dir", "data", "--output-dir", "run", *SMALL)
    assert "on 5 unseen puzzles: count 5.0000" in said and "loaded back, solves" in said
    checkpoint = str(Path("run", "checkpoint-final"))
    options = ["--save-predictions", "answers.safetensors", "--batch-size", "2"]
    said = run(evaluate.main, "--checkpoint", checkpoint, "--data", "data", *options)
    assert f"{checkpoint} on data: 5 puzzles in" in said and "guessing" in said
    assert load_file("answers.safetensors")["sequences"].shape == (5, 16)
    said = run(solve.main, "--checkpoint", checkpoint, "1... .... .... ...2")
    assert said.startswith("1 . | . .\n") and "segment(s), confidence" in said
    said = run(convert.main, "checkpoint-to-original", "--checkpoint", checkpoint, "--output-dir", "original")
    assert "written: all_config.yaml, checkpoint in original" in said
    run(convert.main, "checkpoint-to-hf", "--checkpoint", "original", "--output-dir", "back", "--seq-len", "16")
    for name, tensor in HrmForPuzzleSolving.from_pretrained(checkpoint).state_dict().items():
        assert torch.equal(tensor, HrmForPuzzleSolving.from_pretrained("back").state_dict()[name]), name
    said = run(push.main, "checkpoint", "--checkpoint", checkpoint, "--repo-id", "you/name", "--dry-run")
    assert "model.safetensors" in said and said.endswith("would be sent to you/name\n")
    stated = ["--license", "mit", "--source", "Made for a test."]
    said = run(push.main, "data", "--data-dir", "data", "--repo-id", "you/name", *stated, "--dry-run")
    assert said.endswith("would be sent to the data set you/name\n") and "train.h5" in said


class FirstBatch(HrmTrainer):
    """Keeps the first batch of the run."""

    def training_step(self, batch, draws=None):
        if self.step == 0:
            type(self).seen = {name: torch.as_tensor(values).clone() for name, values in batch.items()}
        return super().training_step(batch, draws)


def first_batch(*words: str) -> torch.Tensor:
    run_training(SudokuArguments, [*SMALL, "--max-steps", "1", *words], FirstBatch)
    return FirstBatch.seen["input_ids"]


def test_the_seed_reaches_the_generator_and_the_sampler(tmp_path):
    made = ["--num-train", "30", "--num-test", "5"]
    contents = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        first_batch(*made, "--seed", seed, "--output-dir", str(tmp_path / name))
        train_file = tmp_path / name / "data" / "train.h5"
        contents.append(train_file.read_bytes())
        assert PuzzleFile(train_file).info.seed == int(seed)
    assert contents[0] == contents[1] != contents[2]
    rows = [load_puzzles(tmp_path / name / "data" / "train.h5")[:]["input_ids"] for name in "ac"]
    assert not np.array_equal(*rows)

    same_data = ["--data-dir", str(tmp_path / "a" / "data")]
    batches = [
        first_batch(*same_data, "--seed", seed, "--output-dir", str(tmp_path / f"{name}-{seed}"))
        for name, seed in (("d", "1"), ("e", "1"), ("f", "2"))
    ]
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "run"
    reset_accelerate()
    run_training(SudokuArguments, [*SMALL, "--num-train", "20", "--num-test", "200", "--output-dir", str(folder)])
    return folder


def test_ctrl_c_ends_an_evaluation_at_once(trained, tmp_path, capsys):
    asked, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def press_ctrl_c():
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(3.0, press_ctrl_c)
    timer.start()
    words = ["--checkpoint", str(trained / "checkpoint-final"), "--data", str(trained / "data")]
    try:
        code = evaluate.main([*words, "--max-segments", "100000", "--save-predictions", str(tmp_path / "out")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and time.monotonic() - asked[0] < 10
    assert capsys.readouterr() == ("", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_no_half_written_predictions(trained, tmp_path, monkeypatch, capsys):
    def half_written(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("hrm_hf.files.os.fsync", half_written)
    (tmp_path / "out").write_bytes(b"of before")
    words = ["--checkpoint", str(trained / "checkpoint-final"), "--data", str(trained / "data")]
    assert evaluate.main([*words, "--limit", "3", "--save-predictions", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of before"]


def test_predictions_that_cannot_be_written_are_one_line(trained, tmp_path, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hrm_hf.files.os.fsync", full)
    words = ["--checkpoint", str(trained / "checkpoint-final"), "--data", str(trained / "data")]
    assert evaluate.main([*words, "--limit", "3", "--save-predictions", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: [Errno 28] No space left on device")
    assert list(tmp_path.iterdir()) == []
