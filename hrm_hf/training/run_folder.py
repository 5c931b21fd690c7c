"""The folder of a training run: what was run (run.json), how it went (metrics.jsonl), what came out (checkpoint-*).

Beside them lie the saved states that a run resumes from (see states.py).
"""

import json
import os
import platform
import shutil
import sys
import time
import weakref
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..files import finish_folder, mend_folders, partial_folder, read_json, remove, start_folder, write_whole
from ..hrm.errors import ArgumentError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hub.checkpoints import TRAINING_DATA
from .adapters import has_adapter, merged
from .states import is_state_name, state_steps

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
ADAPTER = "adapter"  # in a checkpoint: its adapter alone
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "h5py", "numpy")


def choose_run_dir(resume: str, output_dir: str | None, name: str, root: str | Path = "runs") -> Path:
    """The folder that a run starts or resumes in.

    resume: "never", "auto", or a run's folder or one of its states; ArgumentError for no folder, or another one than
    `output_dir`. output_dir: None = a folder under `root` whose name begins with `name`: with "auto" the newest run
    there, unless it is finished or has no state, else a new one. Older runs are left alone.
    """
    if resume not in ("never", "auto"):
        path = Path(resume)
        allowed = "allowed: never, auto, or the folder of a run or of a state"
        if not path.is_dir():
            raise ArgumentError(f"resume is {resume!r}, but there is no such folder; {allowed}")
        run_dir = path.absolute().parent if is_state_name(path.name) else path
        if not holds_run(run_dir):
            raise ArgumentError(f"resume is {resume!r}, but {run_dir} holds no run; {allowed}")
        if output_dir is not None and Path(output_dir).resolve() != run_dir.resolve():
            raise ArgumentError(f"resume {resume} is not in output_dir {output_dir}: pass only one of them")
        return run_dir
    if output_dir is not None:
        return Path(output_dir)
    runs = sorted(Path(root).glob(f"{name}-*/run.json"), key=lambda path: path.stat().st_mtime)
    if resume == "auto" and runs and not _is_finished(runs[-1]) and state_steps(runs[-1].parent):
        return runs[-1].parent
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [Path(root) / stem, *(Path(root) / f"{stem}-{i}" for i in range(2, 100))]
    return next(path for path in candidates if not path.exists())


def _is_finished(run_json: Path) -> bool:
    try:
        return "finished" in read_json(run_json, ArgumentError)
    except ArgumentError:
        return False


class RunFolder:
    """Writes the records of one run. Only the main process makes one.

    Args:
        path: the folder; made if missing. `data/` may already stand in it.
        reopen: True: the folder may hold a run, which resumes.
    Raises:
        ArgumentError: the folder holds another run or other files, or another process works in it.
    """

    def __init__(self, path: str | Path, reopen: bool = False):
        self.path = Path(path).absolute()
        if not (reopen and holds_run(self.path)):
            check_run_dir(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, os.close, _lock(self.path))
        mend_folders(self.path)
        self._log_file = self.path / "metrics.jsonl"
        self.last_export: Path | None = None  # the checkpoint that was saved last
        self.with_exports: list[Path] = []  # files that go into every checkpoint
        self._unwritten = ""  # log lines for which there was no room yet

    def describe(self, **what: Any) -> None:
        """Writes run.json: these facts, command, versions, machine; under "before" what a resumed run had there."""
        record = {
            **what,
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime()),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
            "machine": machine_in_words(),
        }
        file = self.path / "run.json"
        if file.exists():
            try:
                earlier = read_json(file, ArgumentError)
                record["before"] = [*earlier.pop("before", []), earlier]
            except (ArgumentError, TypeError):
                record["before"] = "run.json could not be read"
        write_whole(file, json.dumps(record, indent=2, default=str) + "\n")

    def finish(self) -> None:
        """Marks the run as finished in run.json: nothing is left to resume."""
        file = self.path / "run.json"
        record = read_json(file, ArgumentError)
        record["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_whole(file, json.dumps(record, indent=2) + "\n")

    def log(self, line: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl. Where that raises OSError, the line is written with the next one."""
        self._unwritten += json.dumps(line) + "\n"
        data = self._unwritten.encode()
        with self._log_file.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(data) < len(data):
                    raise OSError(f"{self._log_file}: no room for another line")
            except OSError:
                file.truncate(end)  # no half line
                raise
        self._unwritten = ""

    def go_on(self, lines: list[dict[str, float]]) -> None:
        """Sets metrics.jsonl back to the lines that there were when the state was saved."""
        write_whole(self._log_file, "".join(json.dumps(line) + "\n" for line in lines))

    def export(self, name: str, model: HrmForPuzzleSolving, processor: Any | None) -> Path:
        """Saves model (safetensors, config.json) and processor in a folder of this name, in place of one there is.

        Of a model with an adapter it saves the merged weights, and the adapter by itself in the folder adapter/.
        Raises OSError if it could not be written; what was there stays.
        """
        try:
            partial = start_folder(self.path / name)
            merged(model).save_pretrained(partial)
            if has_adapter(model):
                model.save_pretrained(partial / ADAPTER)
            if processor is not None:
                processor.save_pretrained(partial)
            for path in self.with_exports:
                shutil.copy(path, partial)
            return self._put(name)
        except (SafetensorError, OSError) as error:
            remove(partial_folder(self.path / name))
            raise OSError(f"{name} could not be written: {error}") from error

    def copy_export(self, source: str, name: str) -> Path:
        """Makes the checkpoint `name` a copy of the checkpoint `source`."""
        shutil.copytree(self.path / source, start_folder(self.path / name), dirs_exist_ok=True)
        return self._put(name)

    def _put(self, name: str) -> Path:
        finish_folder(self.path / name)
        self.last_export = self.path / name
        return self.last_export


def _lock(folder: Path) -> int:
    """Holds the folder, in which two runs would remove each other's files, until the descriptor is closed.

    Raises ArgumentError if another process holds it.
    """
    file = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT, 0o666)
    if fcntl is not None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise ArgumentError(f"the output folder {folder} is in use: another process trains in it") from error
        except OSError:  # a file system without locks
            pass
    return file


def holds_run(folder: Path) -> bool:
    """Whether there is a run in this folder."""
    return folder.is_dir() and (
        any((folder / name).exists() for name in ("run.json", "metrics.jsonl")) or bool(state_steps(folder))
    )


def check_run_dir(path: Path) -> None:
    """Raises ArgumentError for a folder that holds anything but what a run writes before run.json."""
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"the output folder {path} is a file")
    entries = path.iterdir() if path.is_dir() else []
    early = ("data", LOCK, TRAINING_DATA)
    found = sorted(each.name for each in entries if each.name not in early and not each.match(".*.partial"))
    if "run.json" in found:
        how = "choose another folder, or resume that run with --resume auto"
        raise ArgumentError(f"the output folder {path} holds another run (run.json): {how}")
    if found:
        raise ArgumentError(f"the output folder {path} is not empty (it holds {found[0]}): choose another folder")


def machine_in_words() -> str:
    """Processor count and accelerator of this machine, without its name."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
