"""What a run says on the terminal. A terminal that was closed, or a pipe whose reader has ended, ends no run."""

import sys
from contextlib import suppress
from typing import Any, TextIO


class Console:
    """A text stream that hands everything on to another and drops what that one can no longer take.

    Args:
        stream: None = standard error as it is now.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stderr if stream is None else stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def say(self, words: str) -> None:
        """Writes a line at once."""
        self.write(words + "\n")
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
