"""hrm-evaluate says when it scores puzzles that the checkpoint was trained on; and 16x16 puzzles are trained on."""

import json

import numpy as np
import pytest
import training_command

from hrm_hf.commands import build, evaluate
from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.data.trained_rows import describe_puzzles, seen_in_words, write_records
from hrm_hf.games.sudoku_solver import solve
from hrm_hf.hrm.sudoku import decode
from hrm_hf.hub.checkpoints import TRAINING_DATA
from hrm_hf.hub.push import collect

pytestmark = pytest.mark.usefixtures("process_as_before")
TINY = "--hidden-size 32 --num-attention-heads 2 --H-layers 1 --L-layers 1 --halt-max-steps 2 --cpu-threads 1"
TINY += " --global-batch-size 8 --warmup-steps 1 --eval-batch-size 8"


def built(folder, *words):
    assert build.main(["sudoku", "--output-dir", str(folder), "--train-source", "generate", *map(str, words)]) == 0
    return folder


def trained(run, *words, steps=1):
    words = [*TINY.split(), "--output-dir", run, "--max-steps", steps, *words]
    assert training_command.hrm_train("sudoku", *words) == 0
    return run / "checkpoint-final"


def evaluated(checkpoint, data):
    training_command.reset_accelerate()
    return evaluate.main(["--checkpoint", str(checkpoint), "--data", str(data), "--batch-size", "64"])


def test_scoring_what_was_trained_on_is_said(tmp_path, capsys):
    data = built(tmp_path / "data", "--size", 4, "--num-puzzles", 20, "--num-test", 6, "--num-aug", 2)
    checkpoint = trained(tmp_path / "run", "--data-dir", data)
    capsys.readouterr()
    assert evaluated(checkpoint, data / "train.h5") == 0
    assert "was trained on 20 of these 20 puzzles" in capsys.readouterr().out
    assert evaluated(checkpoint, data / "test.h5") == 0
    assert "was trained on" not in capsys.readouterr().out
    other = built(tmp_path / "other", "--size", 4, "--num-puzzles", 5, "--num-test", 2, "--seed", 1)
    then = trained(tmp_path / "then", "--data-dir", other, "--init_from", checkpoint)
    capsys.readouterr()
    for trained_on, number in ((other, 5), (data, 20)):  # by the run itself, and by the one it started from
        assert evaluated(then, trained_on / "train.h5") == 0
        assert f"was trained on {number} of these {number} puzzles" in capsys.readouterr().out
    (tmp_path / "made").mkdir()
    assert TRAINING_DATA in [path.name for path in collect(then, tmp_path / "made", "you/name")]
    for record in ({"num_puzzles": 3}, {"num_puzzles": 1, "least_digests": ["-1"]}, 3):
        (then / TRAINING_DATA).write_text(json.dumps([record]))
        assert evaluated(then, data / "test.h5") == 2
        assert f"{TRAINING_DATA} is damaged" in capsys.readouterr().err
    (then / TRAINING_DATA).unlink()
    assert evaluated(then, data / "train.h5") == 0


def test_a_run_whose_test_is_what_it_trains_on_says_so(tmp_path, capsys):
    data = built(tmp_path / "data", "--size", 4, "--num-puzzles", 6, "--num-test", 2)
    (data / "test.h5").write_bytes((data / "train.h5").read_bytes())
    checkpoint = trained(tmp_path / "run", "--data-dir", data)
    said = capsys.readouterr().out
    assert "was trained on 6 of these 6 puzzles" in said and "on 6 puzzles: count 6.0000" in said
    card = (checkpoint / "README.md").read_text()
    assert "trained on 6 of these 6 puzzles" in card and "held-out" not in card


def test_a_file_as_data_dir_is_refused(tmp_path, capsys):
    data = built(tmp_path / "data", "--size", 4, "--num-puzzles", 6, "--num-test", 2)
    words = [*TINY.split(), "--output-dir", tmp_path / "run", "--data-dir", data / "train.h5", "--max-steps", 1]
    assert training_command.hrm_train("sudoku", *words) == 2
    assert "train.h5 is a file; name the folder of train.h5 and test.h5" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_of_many_puzzles_a_sample_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.data.trained_rows._KEPT", 50)
    data = built(tmp_path / "data", "--size", 4, "--num-puzzles", 400, "--num-test", 100)
    train, test = (PuzzleFile(data / f"{split}.h5") for split in ("train", "test"))
    records = [describe_puzzles(train)]
    assert records[0]["num_puzzles"] == 400 and len(records[0]["least_digests"]) == 50
    assert seen_in_words(records, train, np.arange(400)) == "about 100% of these 400 puzzles (50 of 50 compared)"
    assert seen_in_words(records, test, np.arange(100)) is None


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_starts_anew_in_its_folder_names_its_own_puzzles(tmp_path, begun):
    """A run was killed before its first state, or even before run.json, and is repeated with other data."""
    data, run = built(tmp_path / "data", "--size", 4, "--num-puzzles", 5, "--num-test", 2), tmp_path / "run"
    run.mkdir()
    if begun:
        (run / "run.json").write_text("{}")
    write_records(run, [{"num_puzzles": 1, "least_digests": ["0" * 16]}])
    checkpoint = trained(run, "--data-dir", data, *(["--resume", "auto"] if begun else []))
    said = json.loads((checkpoint / TRAINING_DATA).read_text())
    assert said == [describe_puzzles(PuzzleFile(data / "train.h5"))]


def test_pieces_of_variants_alone_have_no_digests(tmp_path, monkeypatch):
    data = built(tmp_path / "data", "--size", 4, "--num-puzzles", 7, "--num-test", 2, "--num-aug", 5)
    file = PuzzleFile(data / "train.h5")
    whole = describe_puzzles(file)
    monkeypatch.setattr("hrm_hf.data.trained_rows._CHUNK_ROWS", 4)
    assert describe_puzzles(file) == whole and whole["num_puzzles"] == 7


def test_16x16_puzzles_of_the_generator_are_trained_on_and_solved(tmp_path):
    words = [
        "--size",
        16,
        "--box_shape",
        "4x4",
        "--num-train",
        2,
        "--num-test",
        1,
        "--num-aug",
        2,
        "--online-augmentation",
        "false",
    ]
    checkpoint = trained(tmp_path / "run", *words, steps=2)
    file = PuzzleFile(tmp_path / "run" / "data" / "train.h5")
    assert file.info.box_shape == (4, 4) and file.info.num_rows == 6
    rows = load_puzzles(file.path)[:]
    questions, labels = (decode(rows[name]).reshape(-1, 16, 16) for name in ("input_ids", "labels"))
    for question, label in zip(questions, labels, strict=True):
        count, answer = solve(question, (4, 4))
        assert count == 1 and (answer == label).all()
    assert evaluated(checkpoint, tmp_path / "run" / "data" / "test.h5") == 0
