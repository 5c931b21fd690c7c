"""The saved training states of a run: a torn save is never taken for a state, a damaged state never read.

A state is a folder `state-<step, 8 digits>` of files (see `state_files`) and of manifest.json, which lists each of
them with size and sha256 and carries a checksum of its own. Until the last file is on the disk the folder is called
`.state-<step>.partial`; one rename makes it a state. What the files mean is not known here.

A save, of which the main process does all but the writing of files:

    start_state -> write_tensors, write_json, write_bytes, in any process -> seal_state -> prune_states
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...hrm.errors import ArgumentError, CheckpointError
from .state_files import (
    FILE_NAME_LIMIT,
    MANIFEST,
    FileRecord,
    check_content,
    check_file,
    is_file_name,
    parse_json,
    parse_tensors,
    read_checked,
    sync_folder,
    write_bytes,
    write_json,
    write_new,
    write_tensors,
)

__all__ = [
    "FORMAT_VERSION",
    "FileRecord",
    "SavedState",
    "drop_partial",
    "newest_state",
    "open_state",
    "partial_folder",
    "prune_states",
    "seal_state",
    "start_state",
    "write_bytes",
    "write_json",
    "write_tensors",
]

FORMAT = "hrm_hf training state"
FORMAT_VERSION = 1
MANIFEST_LIMIT = 1 << 20  # bytes, thousands of files; a longer one is not read
MAX_STEP = 99_999_999

STATE_NAME = re.compile(r"state-([0-9]{8})", re.ASCII)
PARTIAL_NAME = re.compile(r"\.state-[0-9]{8}\.partial", re.ASCII)
REPLACED_NAME = re.compile(r"\.(state-[0-9]{8})\.replaced", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


# saving


def partial_folder(run_dir: Path, step: int) -> Path:
    """Where the state of this step is put together; only the path.

    Raises:
        ArgumentError: a step that is no whole number from 0 to 99,999,999.
    """
    return run_dir / f".{_state_name(step)}.partial"


def start_state(run_dir: Path, step: int) -> Path:
    """Makes the empty folder that a state is put together in, and removes what broken saves have left.

    Args:
        run_dir: exists.
    Raises:
        ArgumentError: see `partial_folder`.
        OSError: a folder cannot be made or removed.
    """
    folder = partial_folder(run_dir, step)
    drop_partial(run_dir)
    folder.mkdir()
    return folder


def seal_state(run_dir: Path, step: int, records: Iterable[FileRecord]) -> Path:
    """Makes a state of what `start_state` began, after all writers are done.

    A state of the same step is replaced: the old one is moved aside, the new one takes its name. Should the run end
    between the two, the next `newest_state`, `start_state` or `drop_partial` puts the old one back.

    Args:
        records: what the write functions of all processes returned.
    Returns:
        The state's folder.
    Raises:
        CheckpointError: the folder does not hold exactly these files; no state has changed.
        OSError: manifest or folder cannot be written; no state is lost.
    """
    partial = partial_folder(run_dir, step)
    files = sorted(records)
    _check_records(partial, files)
    _check_listing(partial, files)
    body = {"format": FORMAT, "version": FORMAT_VERSION, "step": step, "files": [file._asdict() for file in files]}
    manifest = _with_checksum(body)
    if len(manifest) > MANIFEST_LIMIT:
        raise CheckpointError(f"{partial}: {len(files)} files are too many for a {MANIFEST} of {MANIFEST_LIMIT} bytes")
    write_new(partial / MANIFEST, manifest)
    sync_folder(partial)
    state = run_dir / _state_name(step)
    aside = run_dir / f".{state.name}.replaced"
    if os.path.lexists(state):
        os.rename(state, aside)
    os.rename(partial, state)
    sync_folder(run_dir)
    if os.path.lexists(aside):
        _remove(aside)
    return state


def drop_partial(run_dir: Path) -> None:
    """Removes what broken saves have left; a state whose replacement was broken off gets its name back.

    Raises:
        OSError: something cannot be renamed or removed.
    """
    _put_back(run_dir)
    for path in sorted(run_dir.iterdir()):
        if PARTIAL_NAME.fullmatch(path.name) or REPLACED_NAME.fullmatch(path.name):
            _remove(path)


def prune_states(run_dir: Path, keep: int, also: Collection[int] = ()) -> None:
    """Removes all states but the newest ones; a damaged one counts like any other.

    Args:
        keep: how many, at least 1.
        also: further steps to keep.
    Raises:
        ArgumentError: `keep` below 1.
        OSError: a folder cannot be renamed or removed.
    """
    if keep < 1:
        raise ArgumentError(f"{keep} states cannot be kept: at least 1")
    doomed = [step for step in state_steps(run_dir)[keep:] if step not in also]
    for step in doomed:  # a state half removed must not have the name of one
        partial = partial_folder(run_dir, step)
        if os.path.lexists(partial):
            _remove(partial)
        os.rename(run_dir / _state_name(step), partial)
    if doomed:
        sync_folder(run_dir)
    for step in doomed:
        _remove(partial_folder(run_dir, step))


# reading


@dataclass(frozen=True)
class SavedState:
    """A state that `open_state` found whole; only made there. Each file is checked once more as it is read.

    It can be sent to the other processes of the run, which then read only what they need.
    """

    path: Path
    step: int
    records: dict[str, FileRecord]

    def names(self) -> list[str]:
        """The files, sorted, without manifest.json."""
        return sorted(self.records)

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a file on the CPU, sorted by name, in memory of their own. Needs twice the file's size.

        Raises:
            CheckpointError: no such file, changed since the state was opened, or no safetensors.
        """
        return parse_tensors(self._read(name), self.path / name)

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file.

        Raises:
            CheckpointError: no such file, changed since the state was opened, or no strict JSON object.
        """
        return parse_json(self._read(name), self.path / name)

    def _read(self, name: str) -> bytes:
        if name not in self.records:
            raise CheckpointError(f"{self.path} has no file {name!r}; it has {', '.join(self.names())}")
        return read_checked(self.path, self.records[name])

    def bytes(self, name: str) -> bytes:  # the last method: below it `bytes` is no longer the type
        """The bytes of a file.

        Raises:
            CheckpointError: no such file, or changed since the state was opened.
        """
        return self._read(name)


def state_steps(run_dir: Path) -> list[int]:
    """The steps of everything that is called like a state, newest first."""
    named = (STATE_NAME.fullmatch(path.name) for path in run_dir.iterdir())
    return sorted((int(match[1]) for match in named if match), reverse=True)


def is_state_name(name: str) -> bool:
    """Whether a folder of this name is, or claims to be, a state."""
    return STATE_NAME.fullmatch(name) is not None


def open_state(path: Path) -> SavedState:
    """Opens a state after every byte of it was checked against its manifest.

    Args:
        path: the folder `state-<step>` itself, no link to it.
    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    named = STATE_NAME.fullmatch(Path(os.path.abspath(path)).name)
    if named is None:
        raise CheckpointError(f"{path} is no saved state: such a folder is called state- and 8 digits")
    try:
        if not os.path.lexists(path):
            raise CheckpointError(f"there is no saved state {path}")
        if path.is_symlink() or not path.is_dir():
            raise CheckpointError(f"{path} is a link or a file; a saved state is a folder")
        step, files = _read_manifest(path / MANIFEST)
        if step != int(named[1]):
            raise CheckpointError(f"{path / MANIFEST} is of step {str(step)[:20]}, not of its folder's")
        _check_records(path, files)
        _check_listing(path, files, MANIFEST)
        for record in files:
            check_content(path, record)
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    return SavedState(path, step, {record.name: record for record in files})


def newest_state(run_dir: Path) -> tuple[SavedState | None, list[str]]:
    """The newest state that is whole. A state whose replacement was broken off gets its name back first.

    Returns:
        The state, None where there are none, and a line for each newer one that was passed over, with the reason.
    Raises:
        CheckpointError: there are states, but all are damaged; with all reasons.
        OSError: the run's folder cannot be read, or a state not get its name back.
    """
    if not run_dir.is_dir():
        return None, []
    _put_back(run_dir)
    damages = []
    for step in state_steps(run_dir):
        try:
            return open_state(run_dir / _state_name(step)), damages
        except CheckpointError as error:
            damages.append(str(error))
    if damages:
        raise CheckpointError(f"{run_dir} has no saved state that is whole: {'; '.join(damages)}")
    return None, []


# folders and their names


def _state_name(step: int) -> str:
    if type(step) is not int or not 0 <= step <= MAX_STEP:
        raise ArgumentError(f"{step!r} is no step of a saved state: whole numbers from 0 to {MAX_STEP:,}")
    return f"state-{step:08d}"


def _put_back(run_dir: Path) -> None:
    for path in sorted(run_dir.iterdir()):
        match = REPLACED_NAME.fullmatch(path.name)
        if match and not os.path.lexists(run_dir / match[1]):
            os.rename(path, run_dir / match[1])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# the manifest


def _with_checksum(body: dict[str, Any]) -> bytes:
    """A manifest as it is written, the only way that is accepted: any other byte, even a blank, shows."""
    checksum = hashlib.sha256(json.dumps(body, allow_nan=False).encode()).hexdigest()
    return (json.dumps({**body, "sha256": checksum}, allow_nan=False) + "\n").encode()


def _read_manifest(path: Path) -> tuple[int, list[FileRecord]]:
    """Step and files of a manifest; what the records say is left to `_check_records`."""
    size = check_file(path)
    if size > MANIFEST_LIMIT:
        raise CheckpointError(f"{path} has {size} bytes; at most {MANIFEST_LIMIT} are read")
    with path.open("rb") as file:
        data = file.read(MANIFEST_LIMIT + 1)
    body = parse_json(data, path)
    body.pop("sha256", None)
    try:
        is_sound = _with_checksum(body) == data
    except RecursionError:  # reading and writing need not bear the same depth
        is_sound = False
    if not is_sound:
        raise CheckpointError(f"{path} is damaged: its own checksum does not fit it")
    if body.get("format") != FORMAT:
        raise CheckpointError(f"{path} is of the format {str(body.get('format'))[:80]!r}, not {FORMAT!r}")
    version = body.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(f"{path} is of version {str(version)[:20]}; this package reads version {FORMAT_VERSION}")
    step, files = body.get("step"), body.get("files")
    if set(body) != {"format", "version", "step", "files"} or type(step) is not int or not isinstance(files, list):
        raise CheckpointError(f"{path} is damaged: it needs format, version, step, files and sha256, and no more")
    if not all(isinstance(file, dict) and set(file) == set(FileRecord._fields) for file in files):
        raise CheckpointError(f"{path} is damaged: each of its files needs name, size and sha256, and no more")
    return step, [FileRecord(**file) for file in files]


def _check_records(folder: Path, files: list[FileRecord]) -> None:
    """Raises CheckpointError for a record that no write function returns, or two of one name."""
    seen = set()
    for name, size, sha256 in files:
        is_sha256 = isinstance(sha256, str) and SHA256.fullmatch(sha256) is not None
        if not is_file_name(name) or type(size) is not int or size < 0 or not is_sha256:
            raise CheckpointError(f"{folder}: the record of the file {str(name)[:FILE_NAME_LIMIT]!r} is not allowed")
        if name in seen:
            raise CheckpointError(f"{folder}: the file {name} is recorded twice")
        seen.add(name)


def _check_listing(folder: Path, files: list[FileRecord], *others: str) -> None:
    """Raises CheckpointError unless the folder holds exactly these files in their sizes, and the others."""
    allowed = {record.name for record in files}.union(others)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in allowed:
                raise CheckpointError(f"{folder} holds {entry.name!r}, which does not belong to it")
    for record in files:
        check_file(folder / record.name, record.size)
