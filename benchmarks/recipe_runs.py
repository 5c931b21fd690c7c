"""Runs of hrm-train: each in a process of its own, what it logged, and how long its steps took."""

import itertools
import json
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any


def hrm_train(words: list[str], run: Path, seconds: float | None = None) -> list[dict[str, Any]]:
    """Trains into the folder `run`; what it prints goes to <run>.log. Returns the records of metrics.jsonl.

    Args:
        seconds: after so many it is told to stop, and exports what it has by then.
    Raises:
        SystemExit: it failed.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    log = run.with_suffix(".log")
    fixed = ["--output-dir", str(run), "--state-minutes", "0"]
    command = [sys.executable, "-m", "hrm_hf.commands.train", *words, *fixed]
    with log.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.terminate()
            if (code := child.wait()) == 128 + signal.SIGTERM:  # what hrm-train says when it has saved
                code = 0
        finally:
            child.terminate()  # where this process is told to end; else it has ended
    if code:
        raise SystemExit(f"{' '.join(command)}\n{log.read_text(errors='replace')[-2000:]}")
    metrics = run / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []


def step_seconds(lines: list[dict[str, Any]]) -> float:
    """The mean over a run whose depth may grow, without what compiling took: of an interval between two log lines and
    its neighbours the median counts.
    """
    lines = [line for line in lines if "train/lm_loss" in line]
    each = [
        (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
        for before, after in itertools.pairwise(lines)
    ]
    firsts = (min(max(0, place - 1), max(0, len(each) - 3)) for place in range(len(each)))
    return statistics.fmean(statistics.median(each[first : first + 3]) for first in firsts)
