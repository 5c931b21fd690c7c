"""What all commands share: console scripts, sub-commands, exit codes, and one line for what is wrong."""

import argparse
import configparser
import importlib
import os
import runpy
import sys

import pytest
from paths import ROOT

from hrm_hf import ArgumentError
from hrm_hf.commands.command import Command, one_of, run_as_command
from hrm_hf.commands.load import refuse_mistyped_path


def console_scripts() -> dict[str, str]:
    """Name -> module:function, as setup.cfg declares them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    return dict(line.replace(" ", "").split("=") for line in lines)


def help_of(main, capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_every_console_script_can_be_imported_and_helps(capsys):
    scripts = console_scripts()
    assert sorted(scripts) == [
        f"hrm-{name}" for name in ("adapt", "build", "convert", "evaluate", "push", "solve", "train")
    ]
    for name, place in scripts.items():
        module, function = place.split(":")
        assert module == f"hrm_hf.commands.{name.removeprefix('hrm-')}"
        assert help_of(getattr(importlib.import_module(module), function), capsys).startswith("usage: ")


@pytest.mark.parametrize(
    ("command", "words", "option"),
    [
        ("build", ["sudoku"], "--train-source"),
        ("build", ["maze"], "--min-wall-share"),
        ("build", ["arc"], "--leaks"),
        ("train", ["sudoku"], "--max-givens"),
        ("train", ["maze"], "--max-wall-share"),
        ("train", ["arc"], "--learning-rate"),
        ("convert", ["checkpoint-to-hf"], "--compute-dtype"),
        ("convert", ["checkpoint-to-original"], "--init-dtype"),
        ("convert", ["data-to-hdf5"], "--task"),
        ("push", ["checkpoint"], "--puzzle-table"),
        ("push", ["data"], "--license"),
    ],
)
def test_sub_commands_help(capsys, command, words, option):
    main = importlib.import_module(f"hrm_hf.commands.{command}").main
    said = help_of(main, capsys, *words)
    assert option in said and words[0] in said.split("[-h]")[0]
    assert words[0] in help_of(main, capsys)


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")) + sorted((ROOT / "convert").glob("*.py")))
def test_the_scripts_of_the_repository_are_the_commands(script, capsys, monkeypatch):
    if script.stem == "own_puzzle":
        return  # an example of its own, see test_examples_maze_arc.py
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(script), run_name="__main__")
    assert left.value.code == 0 and len(script.read_text().splitlines()) <= 12
    assert capsys.readouterr().out.startswith(f"usage: {script.name} [-h] ")


def raising(error: BaseException):
    def run(words):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ArgumentError("two\nlines"), 2, "error: two lines\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: [Errno 2] No such file: 'x'\n"),
        (ImportError("pip install it"), 2, "error: pip install it\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes(error, code, said, capsys):
    assert run_as_command(raising(error), []) == code
    assert capsys.readouterr() == ("", said)


def test_a_reader_of_stdout_that_has_ended_is_no_error(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run_as_command(lambda words: print("nobody reads this"), []) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_an_error_of_the_program_is_no_bad_input():
    with pytest.raises(ValueError, match="a mistake"):
        run_as_command(raising(ValueError("a mistake")), [])


def toy_command() -> tuple[Command, list[argparse.Namespace]]:
    seen: list[argparse.Namespace] = []

    def add_arguments(parser):
        parser.add_argument("--count", "-c", type=int)
        parser.add_argument("--source")
        parser.add_argument("words", nargs="*")

    return Command("Count.\n\nMore.", add_arguments, seen.append), seen


@pytest.mark.parametrize("word", ["--count=--", "--source=--", "-c=--"])
def test_two_dashes_are_no_value(word, capsys, monkeypatch):
    command, seen = toy_command()
    expected = f"error: argument {word[:-3]}: expected a value, not '--'\n"
    assert command.main([word]) == 2 and capsys.readouterr().err == expected
    assert one_of({"toy": command}, "Toys.").main(["toy", word]) == 2 and capsys.readouterr().err == expected
    monkeypatch.setattr("sys.argv", ["program", word])
    assert command.main() == 2 and capsys.readouterr().err == expected
    assert seen == []


def test_everything_else_is_as_argparse_reads_it(capsys):
    command, seen = toy_command()
    assert command.main(["--count=3", "--source=a=--", "x=--", "--", "--count=--"]) == 0
    assert (seen[0].count, seen[0].source, seen[0].words) == (3, "a=--", ["x=--", "--count=--"])
    with pytest.raises(SystemExit) as left:
        one_of({"toy": command}, "Toys.").main(["toi"])
    assert left.value.code == 2 and "invalid choice: 'toi'" in capsys.readouterr().err


def test_a_mistyped_path_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    refuse_mistyped_path("runs/one")
    refuse_mistyped_path("owner/name")
    with pytest.raises(ArgumentError, match="there is no runs/two in the folder runs; for the one on the Hub"):
        refuse_mistyped_path("runs/two")


@pytest.mark.parametrize("command", ["solve", "evaluate"])
@pytest.mark.parametrize("name", ["runs/two", "./two", "~/two", "/two/three", "runs/a/b", "../x"])
def test_mistyped_checkpoints_are_refused_at_once(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("hrm_hf.hub.hub_errors.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the Hub was asked"))
    main = importlib.import_module(f"hrm_hf.commands.{command}").main
    more = ["1" * 16] if command == "solve" else ["--data", str(ROOT / "setup.cfg")]
    assert main(["--checkpoint", name, *more]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_every_package_and_recipe_is_in_a_wheel():
    """setup.cfg finds packages by their __init__.py and data by its patterns: what has neither is in no wheel."""
    package = ROOT / "hrm_hf"
    without = [path.parent for path in package.rglob("*.py") if not (path.parent / "__init__.py").exists()]
    assert without == []
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = set()
    for name, patterns in setup["options.package_data"].items():
        folder = ROOT / name.replace(".", "/")
        declared |= {path for pattern in patterns.split() for path in folder.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files == declared
