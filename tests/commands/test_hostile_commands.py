"""The commands that make puzzle files, with any values on the command line: files, or one line and exit code 2."""

import pytest
from hostile_inputs import examples, nothing_written_outside, result_or_documented
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_arc import made_up_task, original_layout, write_folder

from hrm_hf.commands import build_arc, build_maze, build_sudoku

VALUES = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "4",
    "9" * 20,
    "9" * 5000,
    "-" + "9" * 20,
    "nan",
    "inf",
    "-inf",
    "0.5",
    "1e3",
    "x",
    "",
]
VALUES += ["9223372036854775808", "generate", "a/b", "\ud800", "\x1b[2J", "--", "-h", "é"]
SIZES = ["--size=4", "--num-puzzles=2", "--num-test=1"]
COMMANDS = {
    "sudoku": (
        build_sudoku,
        ["--train-source=generate", *SIZES],
        ["num-puzzles", "num-test", "size", "max-givens", "num-aug", "subsample-size", "min-difficulty", "seed"]
        + ["test-fraction", "test-source"],
    ),
    "maze": (
        build_maze,
        ["--train-source=generate", *SIZES],
        ["num-puzzles", "num-test", "size", "min-steps", "min-wall-share", "max-wall-share", "subsample-size", "seed"]
        + ["height", "width", "augment"],
    ),
    "arc": (build_arc, ["tasks", "--num-aug=1", "--workers=1"], ["num-aug", "seed", "frame-size", "leaks", "source"]),
}


@pytest.mark.parametrize("name", COMMANDS)
@settings(max_examples=examples(15))
@given(data=st.data())
def test_any_values(tmp_path, capsys, monkeypatch, name, data):
    monkeypatch.chdir(tmp_path)
    command, given_, options = COMMANDS[name]
    write_folder(tmp_path / "tasks", original_layout({"one": made_up_task(1, side=2)}))
    argv = [*given_, "--output-dir=out", "--overwrite"]
    for _ in range(data.draw(st.integers(1, 3))):
        argv.append(f"--{data.draw(st.sampled_from(options))}={data.draw(st.sampled_from(VALUES))}")
    with nothing_written_outside(tmp_path, tmp_path / "out"):
        code = result_or_documented(lambda: command.COMMAND.main(argv), SystemExit)
    assert code in (None, 0, 2)
    said = capsys.readouterr().err
    assert code != 2 or said.splitlines()[-1].startswith("error: ")
