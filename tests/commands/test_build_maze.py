"""hrm-build maze: its sources, what it prints, and one clear line for bad input."""

from pathlib import Path

import numpy as np
import pytest

from hrm_hf.commands.build_maze import COMMAND
from hrm_hf.data.reader import PuzzleFile
from hrm_hf.games.maze_generator import class_keys, generate_mazes
from hrm_hf.hrm.maze import WALL, decode, write

main = COMMAND.main


def write_csv(path, num, seed=0, shape=(5, 5), extra=()):
    mazes = zip(*generate_mazes(num, shape, np.random.default_rng(seed)), strict=True)
    texts = [[write(grid) for grid in pair] for pair in mazes]
    path.write_text("\n".join(["source,question,answer,rating", *(f"toy,{q},{a},1" for q, a in texts), *extra]) + "\n")
    return str(path)


def questions(path):
    file = PuzzleFile(path)
    rows = file.read(*file.locate_rows(np.arange(file.info.num_rows)))
    return decode(rows[:, 0]).reshape(-1, *file.info.grid_shape)


def test_two_csv_files(tmp_path, capsys):
    train, test = write_csv(tmp_path / "a.csv", 6), write_csv(tmp_path / "b.csv", 3, seed=1)
    out = tmp_path / "out"
    arguments = ["--output-dir", str(out), "--train-source", train, "--test-source", test, "--augment"]
    assert main([*arguments, "--subsample-size", "2", "--seed", "5"]) == 0
    train_info, test_info = (PuzzleFile(out / name).info for name in ("train.h5", "test.h5"))
    assert (train_info.num_groups, train_info.num_rows, train_info.seed) == (2, 16, 5)
    assert (test_info.num_groups, test_info.num_rows) == (3, 3)
    printed = capsys.readouterr().out
    assert "train.h5: 2 puzzles, 16 variants, 16 rows of 5x5 cells" in printed and "peak memory" in printed
    assert "labels of the 2 train mazes read: all are paths, 2 shortest ones, 2 follow the rule" in printed
    assert "labels of the 3 test mazes read: all are paths, 3 shortest ones, 3 follow the rule" in printed
    assert "0 of 3 test puzzles equal a training puzzle" in printed and "left out" not in printed
    assert "a.csv: question from column 'question', answer from column 'answer'" in printed
    assert main(arguments) == 2
    assert "already exists" in capsys.readouterr().err
    both = write_csv(tmp_path / "c.csv", 3, seed=1, extra=Path(train).read_text().splitlines()[1:3])
    arguments += ["--overwrite", "--test-source", both]
    assert main(arguments) == 2
    assert (
        "2 of 5 test puzzles equal a training puzzle under a symmetry, the first is row 4" in capsys.readouterr().err
    )
    for choice, num_test in (("drop", 3), ("allow", 5)):
        assert main([*arguments, "--leaks", choice]) == 0
        assert "2 of 5 test puzzles equal a training puzzle" in capsys.readouterr().out
        assert PuzzleFile(out / "test.h5").info.num_rows == num_test


def test_rectangles_from_csv(tmp_path):
    source = write_csv(tmp_path / "a.csv", 4, shape=(4, 6))
    arguments = ["--output-dir", str(tmp_path), "--train-source", source, "--test-source", source]
    assert main([*arguments, "--height", "4", "--width", "6", "--leaks", "allow"]) == 0
    assert PuzzleFile(tmp_path / "train.h5").info.grid_shape == (4, 6)


def test_bad_rows_are_refused_or_skipped_and_listed(tmp_path, capsys):
    bad = ["toy," + "S" * 25 + "," + "S" * 25 + ",1", "toy," + "#" * 25 + "," + "#" * 25 + ",1"]
    source = write_csv(tmp_path / "a.csv", 4, extra=bad)
    arguments = ["--output-dir", str(tmp_path / "out"), "--train-source", source, "--test-source", source]
    assert main(arguments) == 2
    assert "a.csv line 6: the answer does not solve the question: the maze has 25 S" in capsys.readouterr().err
    assert main([*arguments, "--skip-bad", "--leaks", "allow"]) == 0
    ending = capsys.readouterr().out.split("bad rows left out")
    assert ending[0].endswith("\n4 ")  # two in each split
    listed = ending[1].splitlines()[1:]
    assert len(listed) == 4 and "a.csv line 6: " in listed[0] and "25 S" in listed[0] and "no S" in listed[3]
    assert PuzzleFile(tmp_path / "out" / "train.h5").info.num_rows == 4


@pytest.mark.parametrize(
    ("size", "shape"), [(["--size", "6"], (6, 6)), (["--height", "4", "--width", "7"], (4, 7)), ([], (8, 8))]
)
def test_the_generator_gives_fair_splits(tmp_path, capsys, size, shape):
    arguments = ["--output-dir", str(tmp_path), "--train-source", "generate", "--num-puzzles", "20", *size]
    assert main([*arguments, "--num-test", "10", "--min-steps", "6", "--min-wall-share", "0.4"]) == 0
    train, test = questions(tmp_path / "train.h5"), questions(tmp_path / "test.h5")
    assert train.shape == (20, *shape) and test.shape == (10, *shape)
    assert (np.concatenate([train, test]) == WALL).mean(axis=(1, 2)).min() >= 0.4
    assert not set(class_keys(train)) & set(class_keys(test))
    assert "20 train mazes read: all are paths, 20 shortest ones, 20 follow the rule" in capsys.readouterr().out


def test_the_help_warns_of_augmentation(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "Flips and rotations break the rule" in " ".join(capsys.readouterr().out.split())


def test_a_missing_hub_file_is_told_with_the_ways_out(tmp_path, capsys):
    assert main(["--output-dir", str(tmp_path / "out")]) == 2  # the tests run without network
    error = capsys.readouterr().err
    for part in ("sapientinc/maze-30x30-hard-1k", "train.csv", "--train-source FILE", "--train-source generate"):
        assert part in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-source", "FILE"], "give --test-source"),
        (["--train-source", "FILE", "--test-source", "none.csv"], "none.csv: there is no such file"),
        (["--train-source", "FILE", "--num-test", "1"], "--num-test needs --train-source generate"),
        (["--train-source", "FILE", "--min-steps", "1"], "--min-steps needs --train-source generate"),
        (["--train-source", "FILE", "--test-source", "FILE", "--seed", "-1"], "--seed is -1"),
        (["--train-source", "FILE", "--test-source", "FILE", "--size", "4"], "this maze has 25 cells; expected 4 x 4"),
        (["--train-source", "FILE", "--test-source", "FILE", "--subsample-size", "9"], "allowed are 1 to 4"),
        (["--train-source", "generate", "--test-source", "FILE"], "--test-source does not go with"),
        (["--train-source", "generate", "--skip-bad"], "--skip-bad does not go with"),
        (["--train-source", "generate", "--num-puzzles", "0"], "0 training and 500 test puzzles"),
        (["--train-source", "generate", "--size", "4", "--height", "4"], "exclude each other"),
        (["--train-source", "generate", "--height", "4"], "--height and --width belong together"),
        (["--train-source", "generate", "--size", "0"], "grid shape is (0, 0)"),
        (["--train-source", "generate", "--min-wall-share", "0.6"], "wall shares from 0.6 to 0.45"),
        (["--train-source", "generate", "--size", "4", "--min-steps", "12"], "min_steps is 12, allowed are 1 to 10"),
        (["--train-source", "generate", "--height", "3", "--width", "5", "--augment"], "only square mazes"),
    ],
)
def test_bad_arguments_end_with_one_line_and_code_2(tmp_path, capsys, arguments, message):
    source = write_csv(tmp_path / "a.csv", 4)
    arguments = [source if argument == "FILE" else argument for argument in arguments]
    if "--augment" in arguments:
        arguments += ["--num-puzzles", "2", "--num-test", "1"]
    assert main(["--output-dir", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
