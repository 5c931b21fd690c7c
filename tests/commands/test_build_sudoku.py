"""hrm-build sudoku: its sources, what it prints, and one clear line for bad input."""

import numpy as np
import pytest

from hrm_hf.commands.build_sudoku import COMMAND
from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.games.sudoku_symmetry import SudokuSymmetries, class_keys
from hrm_hf.hrm.sudoku import decode, write

main = COMMAND.main


def write_csv(path, num, seed=0):
    questions, answers = generate(num, (2, 2), np.random.default_rng(seed))
    lines = [f"toy,{write(q)},{write(a)},{row}" for row, (q, a) in enumerate(zip(questions, answers, strict=True))]
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
        (["--train-source", "FILE", "--num-test", "1", "--num-aug", "-1"], "num_aug is -1"),
        (["--train-source", "FILE", "--num-test", "1", "--question-column", "x"], "no column 'x' (--question-column)"),
        (["--train-source", "FILE", "--num-test", "1", "--box-shape", "2by2"], "box_shape is '2by2'"),
        (["--train-source", "FILE", "--num-test", "1", "--box-shape", "3x3"], "a.csv line 2: the question: "),
        (
            ["--train-source", "generate", "--size", "8", "--box-shape", "3x3"],
            "allowed for size 8: 1x8, 2x4, 4x2, 8x1",
        ),
        (["--train-source", "generate", "--size", "7"], "size is 7, which has no boxes; box_shape 1x7"),
        (["--train-source", "generate", "--size", "10000000000"], "size is 10000000000; allowed are 2 to"),
        (["--train-source", "generate", "--several-solutions", "drop"], "--several-solutions does not go with"),
        (["--train-source", "generate", "--test-source", "FILE"], "--test-source does not go with"),
        (["--train-source", "generate", "--answer-column", "x"], "--answer-column does not go with"),
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


def write_lines(path, grids):
    path.write_text("\n".join(map(write, grids)) + "\n")
    return str(path)


def test_a_list_without_answers_is_solved(tmp_path, capsys):
    questions, answers = generate(5, (2, 3), np.random.default_rng(0))
    train, test = write_lines(tmp_path / "a.sdm", questions[:3]), write_lines(tmp_path / "b.sdm", questions[3:])
    out = tmp_path / "out"
    assert main(["--output-dir", str(out), "--train-source", train, "--test-source", test]) == 0
    for split, part in (("train", answers[:3]), ("test", answers[3:])):
        labels = decode(load_puzzles(out / f"{split}.h5")[:]["labels"]).reshape(-1, 6, 6)
        np.testing.assert_array_equal(labels, part)
    assert "a.sdm: question from column 1; no answer and no rating" in capsys.readouterr().out


def test_puzzles_with_several_solutions(tmp_path, capsys):
    questions, answers = generate(6, (2, 2), np.random.default_rng(0))
    questions[1], questions[4] = 0, np.where(answers[4] < 3, 0, answers[4])
    lines = [f"{write(q)},{write(a)}" for q, a in zip(questions, answers, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["puzzle,solution", *lines]))
    test = write_lines(tmp_path / "b.sdm", generate(3, (2, 2), np.random.default_rng(7))[0])
    arguments = [
        "--output-dir",
        str(tmp_path / "out"),
        "--train-source",
        str(tmp_path / "a.csv"),
        "--test-source",
        test,
    ]
    for choice in ([], ["--several-solutions", "refuse"]):
        assert main([*arguments, *choice]) == 2
        error = capsys.readouterr().err
        assert f"2 of 6 puzzles have several solutions, the first is row 2 of {tmp_path}/a.csv" in error
        assert not (tmp_path / "out").exists()
    assert main([*arguments, "--several-solutions", "drop", "--subsample-size", "4"]) == 0
    assert "2 of 6 puzzles have several solutions and were left out" in capsys.readouterr().out
    np.testing.assert_array_equal(grids(tmp_path / "out" / "train.h5"), questions[[0, 2, 3, 5]])
    assert main([*arguments, "--several-solutions", "keep", "--overwrite"]) == 0
    np.testing.assert_array_equal(grids(tmp_path / "out" / "train.h5"), questions)


def test_what_was_not_searched_for_a_second_solution_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hrm_hf.commands.build_sudoku.SEARCH_STEPS", 1)
    arguments = ["--output-dir", str(tmp_path), "--train-source", write_csv(tmp_path / "a.csv", 6), "--num-test", "2"]
    assert main(arguments) == 0
    assert "4 were not searched to the end for a second one" in capsys.readouterr().out
    assert main([*arguments, "--several-solutions", "refuse", "--overwrite"]) == 0
    assert "not searched" not in capsys.readouterr().out


def test_puzzles_that_train_and_test_share(tmp_path, capsys):
    questions, _ = generate(9, (2, 3), np.random.default_rng(0))
    shared = SudokuSymmetries.draw((2, 3), 2, np.random.default_rng(1)).apply(questions[:2])[[0, 1], [0, 1]]
    train = write_lines(tmp_path / "a.sdm", questions[:6])
    test = write_lines(tmp_path / "b.sdm", np.concatenate([questions[6:], shared]))
    out = tmp_path / "out"
    arguments = ["--output-dir", str(out), "--train-source", train, "--test-source", test]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"2 of 5 test puzzles equal a training puzzle under a symmetry, the first is row 4 of {test}" in error
    assert "--leaks drop" in error and error.count("\n") == 1 and not out.exists()
    assert main([*arguments, "--leaks", "drop"]) == 0
    assert "2 of 5 test puzzles equal a training puzzle under a symmetry and were left out" in capsys.readouterr().out
    np.testing.assert_array_equal(grids(out / "test.h5"), questions[6:])
    assert len(grids(out / "train.h5")) == 6
    assert main([*arguments, "--leaks", "allow", "--overwrite"]) == 0
    assert len(grids(out / "test.h5")) == 5
    assert main([*arguments[:-1], train, "--leaks", "drop", "--overwrite"]) == 2
    assert "no test puzzle is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "box_shape"),
    [(["--size", "8"], (2, 4)), (["--size", "6", "--box-shape", "3x2"], (3, 2)), (["--box-shape", "1x5"], (1, 5))],
)
def test_box_shapes_of_the_generator_and_of_tables(tmp_path, words, box_shape):
    out, n = tmp_path / "out", box_shape[0] * box_shape[1]
    arguments = ["--output-dir", str(out), "--train-source", "generate", "--num-puzzles", "3", "--num-test", "2"]
    assert main([*arguments, *words]) == 0
    assert PuzzleFile(out / "train.h5").info.box_shape == box_shape
    puzzles = grids(out / "train.h5")
    assert puzzles.shape == (3, n, n)
    again, boxes = tmp_path / "again", "x".join(map(str, box_shape))
    arguments = ["--output-dir", str(again), "--train-source", write_lines(tmp_path / "a.sdm", puzzles)]
    arguments += ["--test-source", write_lines(tmp_path / "b.sdm", grids(out / "test.h5")), "--box-shape", boxes]
    assert main(arguments) == 0
    assert PuzzleFile(again / "train.h5").info.box_shape == box_shape
    for part in ("input_ids", "labels"):
        want, found = (load_puzzles(folder / "train.h5")[:][part] for folder in (out, again))
        np.testing.assert_array_equal(want, found)
