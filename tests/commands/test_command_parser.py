"""The parser of the commands: `--option=--` is a missing value, whatever the option; everything else is argparse's."""

import argparse

import pytest

from hrm_hf.commands.command_parser import CommandParser


def parser(**kwargs) -> CommandParser:
    made = CommandParser(**kwargs)
    made.add_argument("--count", "-c", type=int)
    made.add_argument("--source")
    made.add_argument("words", nargs="*")
    return made


@pytest.mark.parametrize("word", ["--count=--", "--source=--", "-c=--"])
def test_two_dashes_are_no_value(word, capsys):
    with pytest.raises(SystemExit) as left:
        parser().parse_args([word])
    assert left.value.code == 2
    assert f"argument {word[:-3]}: expected a value, not '--'" in capsys.readouterr().err
    with pytest.raises(argparse.ArgumentError, match="expected a value, not '--'"):
        parser(exit_on_error=False).parse_args([word])


def test_the_command_line_is_read_where_no_words_are_given(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["program", "--count=--"])
    with pytest.raises(SystemExit):
        parser().parse_args()
    assert "expected a value" in capsys.readouterr().err


def test_everything_else_is_as_ever():
    args = parser().parse_args(["--count=3", "--source=a=--", "x=--", "--", "--count=--"])
    assert (args.count, args.source, args.words) == (3, "a=--", ["x=--", "--count=--"])
