"""What long work tells: a bar on a terminal, lines elsewhere, and messages; a terminal that is gone ends nothing."""

import io
import logging
import os
import sys

import pytest
import transformers

from hrm_hf import progress as told
from hrm_hf.progress import get_logger, progress, show_messages

logger = get_logger("hrm_hf.training.trainer")


@pytest.fixture(autouse=True)
def own_level():
    yield
    logging.getLogger("transformers.hrm_hf").setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_messages_above_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for number in progress(range(5), "counting", unit="rows"):
        if number == 3:
            logger.warning("in between")
    shown = terminal.getvalue().replace("\r", "\n").splitlines()
    assert any(line.startswith("counting:   0%|") and "/5 [" in line for line in shown)
    assert "in between" in shown


def test_elsewhere_a_line_comes_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(told, "SECONDS_BETWEEN_LINES", 1e-9)
    with progress(description="counting", unit="rows", total=5, initial=1) as bar:
        bar.update()
    assert capsys.readouterr().err == ""  # lines are messages of level INFO
    show_messages()
    with progress(description="counting", unit="rows", total=5, initial=1) as bar:
        bar.update(2)
        bar.set_postfix(loss="0.5", refresh=False)
        bar.update()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("counting: 3/5 rows, ") and first.endswith(" left")
    assert second.startswith("counting: 4/5 rows, ") and second.endswith("left, loss=0.5")
    monkeypatch.setattr(told, "SECONDS_BETWEEN_LINES", 30.0)
    assert list(progress(range(5), "short")) == [0, 1, 2, 3, 4] and capsys.readouterr().err == ""


def test_the_verbosity_of_transformers_rules(capsys):
    verbosity = transformers.logging.get_verbosity()
    try:
        for level, shown in (("error", ""), ("warning", "w\n"), ("info", "i\nw\n")):
            getattr(transformers.logging, f"set_verbosity_{level}")()
            logger.info("i")
            logger.warning("w")
            assert capsys.readouterr().err == shown
    finally:
        transformers.logging.set_verbosity(verbosity)


def test_only_the_first_process_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    logger.warning("from another process")
    assert progress(range(3)).disable and capsys.readouterr().err == ""


def test_a_reader_that_is_gone_or_a_closed_terminal_ends_nothing(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    gone, closed = open(writing, "w", buffering=1), Terminal()  # noqa: SIM115
    closed.isatty = lambda: True
    closed.close()
    for stream in (gone, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(progress(range(3), "counting")) == [0, 1, 2]
        logger.warning("nobody hears this")
    monkeypatch.undo()
    with pytest.raises(BrokenPipeError):
        gone.close()
