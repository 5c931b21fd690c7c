"""What all commands share: how a command runs, what its exit code says, and how one command holds several."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..files import one_line
from ..hrm.errors import ArgumentError, HrmError
from ..progress import show_messages
from ..training.processes import ProcessLostError
from ..training.stop_requests import StoppedBySignal


class Command(NamedTuple):
    """A command of its own, or a sub-command."""

    description: str  # what --help says; its first line stands in the list of sub-commands
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]  # `run_as_command` turns what it raises into a line and an exit code

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command with these words, None = the process's. Returns the exit code."""
        parser = argparse.ArgumentParser(**help_as_written(self.description))
        self.add_arguments(parser)
        return run_as_command(lambda words: self.run(parser.parse_args(words)), argv)


def one_of(commands: Mapping[str, Command], description: str) -> Command:
    """The command whose first word names one of these."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
        for name, command in commands.items():
            first_line = command.description.split("\n", 1)[0]
            subparser = subparsers.add_parser(name, help=first_line, **help_as_written(command.description))
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)

    return Command(description, add_arguments, lambda args: args.run(args))


def help_as_written(description: str) -> dict[str, Any]:
    """Arguments of a parser whose --help keeps the lines of the description."""
    return {"description": description, "formatter_class": argparse.RawDescriptionHelpFormatter}


def run_as_command(run: Callable[[list[str]], None], argv: Sequence[str] | None = None) -> int:
    """Hands a command its words, None = the process's; bad input and Ctrl-C become one line on stderr.

    Returns the exit code: 0, 2 after bad input, and after a signal 128 + its number: 130 (Ctrl-C), 143 (SIGTERM), and
    141 (SIGPIPE) where the reader of stdout has ended, with no word on it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    show_messages()
    try:
        for word in words[: words.index("--")] if "--" in words else words:
            if word.startswith("-") and word.endswith("=--") and word.count("=") == 1:
                # argparse before Python 3.13 reads it as an empty list, whatever the option's type is.
                raise ArgumentError(f"argument {word[:-3]}: expected a value, not '--'")
        run(words)
        print(end="", flush=True)
    except BrokenPipeError:  # the reader of stdout has ended, as `head` does; Python flushes once more at its end
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE
    except ProcessLostError:  # has said so itself: the main process, which would, may be the lost one
        return 2
    except (HrmError, OSError, ImportError) as error:  # a missing file, a library that is not installed
        _say(f"error: {one_line(error)}")
        return 2
    except StoppedBySignal as stopped:  # the run has said so, and has saved
        return stopped.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    return 0


def refuse_used_folder(path: Path) -> None:
    """Raises ArgumentError for an output folder that is a file or holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ArgumentError(f"--output-dir {path} exists and is not an empty folder; name a new one")


def _say(words: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(words, file=sys.stderr)
