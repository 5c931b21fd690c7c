"""hrm-build arc: its sources, what it prints, and one clear line for bad input."""

import json

import pytest
from made_up_arc import kaggle_layout, made_up_task, original_layout, write_folder, write_zip

from hrm_hf.commands.build_arc import COMMAND
from hrm_hf.data import PuzzleFile

main = COMMAND.main
TASKS = {name: made_up_task(seed) for seed, name in enumerate("abcdef")}


def pick(names):
    return {name: TASKS[name] for name in names}


def arguments(out, *more):
    return ["--output-dir", str(out), "--num-aug", "3", "--workers", "1", *map(str, more)]


def test_a_mixture_of_a_zip_a_folder_and_kaggle_files(tmp_path, capsys):
    zipped = write_zip(tmp_path / "one.zip", original_layout(pick("ab"), pick("c")))
    concepts = write_folder(tmp_path / "two", {f"corpus/D/{name}.json": json.dumps(TASKS[name]) for name in "da"})
    kaggle = write_folder(tmp_path / "three", kaggle_layout(pick("fe"), "arc-agi_evaluation"))
    out = tmp_path / "out"
    assert main(arguments(out, zipped, concepts, "--source", kaggle, "--seed", 5)) == 0
    train, test = (PuzzleFile(out / name) for name in ("train.h5", "test.h5"))
    assert train.puzzle_ids == list("abcdef") and test.puzzle_ids == list("cef")
    assert (train.info.num_aug, train.info.seed, train.info.grid_shape) == (3, 5, (30, 30))
    printed = capsys.readouterr().out
    for part in (
        "6 tasks (3 training, 3 evaluation) with 12 train and 6 test pairs",
        "train.h5: 6 puzzles, 24 variants, 60 rows of 30x30 cells, ",
        "peak memory",
        "note: 1 tasks occur again with equal content and count once",
        "0 tasks left out",
    ):
        assert part in printed
    first = {name: (out / name).read_bytes() for name in ("train.h5", "test.h5")}
    again = ["--output-dir", str(tmp_path / "again"), "--num-aug", "3", "--seed", "5", "--workers", "2"]
    assert main([*again, str(zipped), str(concepts), str(kaggle)]) == 0
    assert first == {name: (tmp_path / "again" / name).read_bytes() for name in first}
    capsys.readouterr()
    assert main(arguments(out, zipped)) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(arguments(out, concepts, "--overwrite")) == 0
    assert "no test.h5: there is no evaluation task" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["train.h5"]


def test_a_leak_is_refused_with_the_names_dropped_or_allowed(tmp_path, capsys):
    sources = [
        write_zip(tmp_path / "one.zip", original_layout(pick("a"), pick("bc"))),
        write_zip(tmp_path / "two.zip", original_layout(pick("bd") | {"z": TASKS["c"]})),
    ]
    assert main(arguments(tmp_path / "out", *sources)) == 2
    error = capsys.readouterr().err
    assert "2 evaluation tasks would be trained on: b, c (first: two: data/training/b.json" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
    assert main(arguments(tmp_path / "drop", *sources, "--leaks", "drop")) == 0
    assert PuzzleFile(tmp_path / "drop" / "train.h5").puzzle_ids == list("abcd")
    printed = capsys.readouterr().out
    assert "2 tasks left out:" in printed
    assert "  dropped: two: data/training/z.json trains on test pairs of one: data/evaluation/c.json" in printed
    assert main(arguments(tmp_path / "allow", *sources, "--leaks", "allow")) == 0
    assert PuzzleFile(tmp_path / "allow" / "train.h5").puzzle_ids == list("abcdz")
    assert PuzzleFile(tmp_path / "allow" / "test.h5").puzzle_ids == list("bc")
    assert "note: allowed: the test pairs of 2 evaluation tasks" in capsys.readouterr().out


def test_bad_tasks_are_left_out_by_choice_and_listed(tmp_path, capsys):
    ragged = made_up_task(0) | {"test": [{"input": [[1, 2], [3]], "output": [[1]]}]}
    large = made_up_task(0) | {"test": [{"input": [[1] * 9], "output": [[1]]}]}
    one = write_folder(tmp_path / "one", original_layout(pick("ab") | {"ragged": ragged}, {"large": large}))
    two = write_folder(tmp_path / "two", original_layout({"b": TASKS["c"]}, pick("d")))
    more = [one, two, "--frame-size", 8]
    assert main(arguments(tmp_path / "out", *more)) == 2
    assert "task large, test pair 1, input: the grid has 1 x 9 cells" in capsys.readouterr().err
    assert main(arguments(tmp_path / "out", *more, "--skip-bad")) == 0
    printed = capsys.readouterr().out
    assert "3 tasks left out:" in printed
    for part in ("task large, test pair 1", "task ragged, test pair 1, input: row 2", "task b of two: "):
        assert f"{part}" in printed
    train = PuzzleFile(tmp_path / "out" / "train.h5")
    assert train.puzzle_ids == list("abd") and train.info.grid_shape == (8, 8)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "no source is given"),
        (["none.zip"], "none.zip: there is no such file or folder"),
        (["FOLDER", "--num-aug", "-1"], "num_aug is -1"),
        (["FOLDER", "--seed", "-1"], "seed is -1"),
        (["FOLDER", "--workers", "0"], "num_workers 0"),
        (["FOLDER", "--frame-size", "0"], "--frame-size is 0"),
        (["FOLDER", "--frame-size", "2"], "allowed are grids from 1 x 1 to 2 x 2"),
        (["EMPTY"], "holds no ARC task"),
    ],
)
def test_bad_arguments_end_with_one_line_and_code_2(tmp_path, capsys, more, message):
    (tmp_path / "empty").mkdir()
    places = {"FOLDER": str(write_folder(tmp_path / "a", original_layout(TASKS))), "EMPTY": str(tmp_path / "empty")}
    assert main(arguments(tmp_path / "out", *(places.get(word, word) for word in more))) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_test_challenges_are_built_and_what_was_found_is_said(tmp_path, capsys):
    challenges = kaggle_layout(pick("ab"), "arc-agi_test")["arc-agi_test_challenges.json"]
    source = write_folder(tmp_path / "a", {"arc-agi_test_challenges.json": challenges})
    assert main(arguments(tmp_path / "out", source, "--extra-pairs", "use")) == 0
    said = "a: 2 evaluation tasks in arc-agi_test_challenges.json, 2 of them without answers\n"
    assert capsys.readouterr().out.startswith(said)
    assert PuzzleFile(tmp_path / "out" / "test.h5").puzzle_ids == ["a", "b"]
