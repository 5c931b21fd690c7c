"""The folder of a training run: what was run (run.json), how it went (metrics.jsonl), what came out (checkpoint-*)."""

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError
from ..modeling_hrm import HrmForPuzzleSolving

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "h5py", "numpy")


def new_run_dir(root: str | Path, name: str) -> Path:
    """A folder under `root` that does not exist yet: the name with date and time."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [Path(root) / stem, *(Path(root) / f"{stem}-{i}" for i in range(2, 100))]
    return next(path for path in candidates if not path.exists())


class RunFolder:
    """Writes the records of one run. Only the main process makes one.

    Args:
        path: the folder; made if missing. `data/` may already stand in it.
    Attributes:
        last_export: the checkpoint that was saved last, None before the first.
    Raises:
        ArgumentError: the folder holds another run or other files.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        check_run_dir(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.last_export: Path | None = None
        self._started = time.time()

    def describe(self, **what: Any) -> None:
        """Writes run.json: the given facts beside command, versions and machine."""
        record = {
            **what,
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._started)),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "machine": machine_in_words(),
        }
        (self.path / "run.json").write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")

    def log(self, step: int, values: dict[str, float]) -> None:
        """Appends one line to metrics.jsonl."""
        line = {"step": step, "seconds": round(time.time() - self._started, 3), **values}
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def export(self, name: str, model: HrmForPuzzleSolving, processor: Any | None) -> Path:
        """Saves model (safetensors, config.json) and processor in a folder of this name."""
        folder = self.path / name
        model.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
        self.last_export = folder
        return folder


def check_run_dir(path: Path) -> None:
    """Refuses a folder that holds anything but `data/`.

    Raises:
        ArgumentError: naming what is in the way.
    """
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"the output folder {path} is a file")
    found = sorted(entry.name for entry in path.iterdir() if entry.name != "data") if path.is_dir() else []
    if "run.json" in found:
        raise ArgumentError(f"the output folder {path} holds another run (run.json): choose a new --output-dir")
    if found:
        raise ArgumentError(f"the output folder {path} is not empty (it holds {found[0]}): choose a new --output-dir")


def machine_in_words() -> str:
    """Processor count and accelerator of this machine, without its name."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
