"""The parser of the project's commands: argparse, but `--option=--` is refused."""

import argparse
import sys
from collections.abc import Sequence


class CommandParser(argparse.ArgumentParser):
    """argparse's parser; before Python 3.13 that one reads `--option=--` as an empty list, whatever the option's type
    is, and a command would meet that list where it expects a number or a path.
    """

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """See argparse; the exit (or argparse.ArgumentError, with exit_on_error=False) is that of a missing value."""
        words = list(sys.argv[1:] if args is None else args)
        for word in words[: words.index("--")] if "--" in words else words:
            option, _, value = word.partition("=")
            if option.startswith("-") and value == "--":
                error = argparse.ArgumentError(None, f"argument {option}: expected a value, not '--'")
                if not self.exit_on_error:
                    raise error
                self.error(str(error))
        return super().parse_known_args(words, namespace)
