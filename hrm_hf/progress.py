"""What long work tells on the terminal while it goes on: a bar, or a line now and then, and messages.

A terminal that was closed, or a pipe whose reader has ended, ends no work. Of several processes only the first speaks.
"""

import io
import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

SECONDS_BETWEEN_LINES = 30.0
_NAME = "transformers.hrm_hf"  # below transformers' own logger, so that its verbosity rules here too


def progress(
    work: Iterable | None = None,
    description: str = "",
    unit: str = "it",
    total: int | None = None,
    initial: int = 0,
    leave: bool = False,
) -> tqdm:
    """A tqdm bar on stderr with rate and time left; where stderr is no terminal, an INFO message every 30 seconds.

        with progress(description="evaluation", unit="rows", total=len(rows)) as bar:
            bar.update(256)

    Args:
        work: what is gone through; None: the caller counts, with `update`.
        unit: what is counted, in the plural.
        total: how many there are, None = len(work) if it has one; `initial` of them were done before.
        leave: whether the bar stays on the terminal at the end.
    """
    how: dict[str, Any] = {"leave": leave, "dynamic_ncols": True, "file": _STDERR}
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        interval = SECONDS_BETWEEN_LINES
        form = "{desc}: {n_fmt}/{total_fmt} {unit}, {rate_fmt}, {elapsed} so far, {remaining} left{postfix}"
        how = {"leave": False, "file": _Lines(), "bar_format": form}
        how |= {"mininterval": interval, "maxinterval": interval, "delay": interval, "miniters": 0}
    return _Bar(work, description, total=total, initial=initial, unit=unit, disable=not _is_first_process(), **how)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module of ours, called with `__name__`.

    Warnings are shown; `transformers.logging.set_verbosity_info()` and commands (see `show_messages`) show more.
    """
    return transformers_logging.get_logger(name.replace("hrm_hf", _NAME, 1))


def show_messages() -> None:
    """Commands call this first: messages of level INFO are shown as well; transformers' own and its bars are not."""
    transformers_logging.disable_progress_bar()
    logging.getLogger(_NAME).setLevel(logging.INFO)


class _Bar(tqdm):
    # tqdm's own lock is several, taken one after the other: a Ctrl-C in between leaves one taken for ever.
    _lock = threading.RLock()

    def tick(self, *_: Any) -> None:
        """A forward hook: nothing more is done, but the clock may ask for another line."""
        self.update(0)


class _Stderr:
    """sys.stderr as it is at the moment; what it can no longer take is dropped."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: closed
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class _Lines(io.TextIOBase):
    """Takes what tqdm writes and gives it to the log."""

    def write(self, text: str) -> int:
        if words := text.strip():
            get_logger(__name__).info(words)
        return len(text)


class _Handler(logging.Handler):
    """Writes messages above the bars that there are."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_first_process():
            _Bar.write(self.format(record), file=_STDERR)


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


_STDERR = _Stderr()
_logger = transformers_logging.get_logger(_NAME)
_logger.addHandler(_Handler())
_logger.propagate = False
