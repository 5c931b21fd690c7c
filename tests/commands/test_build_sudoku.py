"""hrm-build sudoku: its sources, what it prints, and one clear line for bad input."""

import numpy as np
import pytest

from hrm_hf.commands.build_sudoku import COMMAND
from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.games.sudoku_symmetry import class_keys
from hrm_hf.hrm.sudoku import decode, to_string

main = COMMAND.main


def write_csv(path, num, seed=0):
    questions, answers = generate(num, (2, 2), np.random.default_rng(seed))
    lines = [
        f"toy,{to_string(q)},{to_string(a)},{row}" for row, (q, a) in enumerate(zip(questions, answers, strict=True))
    ]
    path.write_text("\n".join(["source,question,answer,rating", *lines]) + "\n")
    return str(path)


def grids(path):
    return decode(load_puzzles(path)[:]["input_ids"]).reshape(-1, *PuzzleFile(path).info.grid_shape)


def test_two_csv_files(tmp_path, capsys):
    train, test = write_csv(tmp_path / "a.csv", 6), write_csv(tmp_path / "b.csv", 3, seed=1)
    out = tmp_path / "out"
    arguments = ["--output-dir", str(out), "--train-source", train, "--test-source", test, "--num-aug", "4"]
    assert main([*arguments, "--subsample-size", "2", "--min-difficulty", "1", "--seed", "5"]) == 0
    train_info, test_info = (PuzzleFile(out / name).info for name in ("train.h5", "test.h5"))
    assert (train_info.num_groups, train_info.num_rows, train_info.seed) == (2, 10, 5)
    assert (test_info.num_groups, test_info.num_rows) == (2, 2)
    printed = capsys.readouterr().out
    assert "train.h5: 2 puzzles, 10 variants, 10 rows" in printed and "peak memory" in printed
    assert main(arguments) == 2
    assert "already exists" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize("how_many", [["--num-test", "3"], ["--test-fraction", "0.3"]])
def test_one_csv_file_split_by_class(tmp_path, how_many):
    source = write_csv(tmp_path / "a.csv", 10)
    assert main(["--output-dir", str(tmp_path), "--train-source", source, *how_many]) == 0
    train, test = grids(tmp_path / "train.h5"), grids(tmp_path / "test.h5")
    assert (len(train), len(test)) == (7, 3)
    assert not set(class_keys(train, (2, 2))) & set(class_keys(test, (2, 2)))


def test_the_generator_gives_fair_splits(tmp_path):
    arguments = [
        "--output-dir",
        str(tmp_path),
        "--train-source",
        "generate",
        "--num-puzzles",
        "40",
        "--num-test",
        "10",
    ]
    assert main([*arguments, "--size", "4", "--max-givens", "7", "--num-aug", "1"]) == 0
    train, test = grids(tmp_path / "train.h5"), grids(tmp_path / "test.h5")
    assert (len(train), len(test)) == (80, 10)
    assert ((np.concatenate([train, test]) != 0).sum(axis=(1, 2)) <= 7).all()
    assert not set(class_keys(train, (2, 2))) & set(class_keys(test, (2, 2)))


def test_a_missing_hub_file_is_told_with_the_ways_out(tmp_path, capsys):
    assert main(["--output-dir", str(tmp_path / "out")]) == 2  # the tests run without network
    error = capsys.readouterr().err
    for part in ("sapientinc/sudoku-extreme", "train.csv", "--train-source FILE", "--train-source generate"):
        assert part in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-source", "FILE"], "--test-source, --num-test or --test-fraction"),
        (["--train-source", "FILE", "--num-test", "1", "--test-fraction", "0.1"], "exclude each other"),
        (["--train-source", "FILE", "--num-test", "1", "--test-source", "FILE"], "exclude each other"),
        (["--train-source", "FILE", "--num-test", "4"], "allowed are 1 to 3"),
        (["--train-source", "FILE", "--test-fraction", "1.5"], "--test-fraction is 1.5"),
        (["--train-source", "FILE", "--num-test", "1", "--size", "4"], "--size needs --train-source generate"),
        (["--train-source", "FILE", "--num-test", "1", "--seed", "-1"], "--seed is -1"),
        (["--train-source", "none.csv", "--num-test", "1"], "none.csv: there is no such file"),
        (["--train-source", "generate", "--test-source", "FILE"], "--test-source does not go with"),
        (["--train-source", "generate", "--num-puzzles", "0"], "0 training and 500 test puzzles"),
        (["--train-source", "generate", "--max-givens", "1", "--num-puzzles", "2"], "givens"),
    ],
)
def test_bad_arguments_end_with_one_line_and_code_2(tmp_path, capsys, arguments, message):
    source = write_csv(tmp_path / "a.csv", 4)
    arguments = [source if argument == "FILE" else argument for argument in arguments]
    assert main(["--output-dir", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
