"""The saved states of a run on the disk: a torn save is never taken for a state, a damaged state never read.

A state is a folder `state-<step, 8 digits>` of trees. A tree is nested dicts: its tensors lie in NAME.safetensors, all
else in NAME.json. manifest.json lists the files with size and sha256. Until the last file is on the disk the folder is
called `.state-<step>.partial`; one rename makes it a state. What the trees mean is not known here.

    start_state -> write_tree, in any process -> seal_state -> prune_states
    newest_state or check_state -> read_tree, in any process
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from ..files import finish_folder, mend_folders, one_line, partial_folder, read_json, remove, start_folder, sync
from ..hrm.errors import ArgumentError, CheckpointError

FORMAT = "hrm_hf training state"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
MAX_STEP = 99_999_999
MAX_TREE_BYTES = 2**30  # of a tree's JSON, which holds the log of the whole run
SEPARATOR = "|"  # of the keys that lead to a tensor

STATE_NAME = re.compile(r"state-([0-9]{8})", re.ASCII)
FILE_NAME = re.compile(r"[a-z0-9_-]{1,80}\.(safetensors|json)", re.ASCII)


class FileRecord(NamedTuple):
    """A file as it was written: name in the state's folder, size in bytes, sha256 in hexadecimal digits."""

    name: str
    size: int
    sha256: str


def start_state(run_dir: Path, step: int) -> Path:
    """Makes the empty folder that a state is put together in, and removes what broken saves have left."""
    mend_folders(run_dir)
    return start_folder(run_dir / state_name(step))


def write_tree(folder: Path, name: str, tree: dict[str, Any]) -> list[FileRecord]:
    """Writes NAME.safetensors and NAME.json into the folder from `start_state`; they are on the disk at the return.

    tree: dicts of dicts, tensors and what JSON holds; NaN comes back as NaN, a tuple as a list. Raises ArgumentError
    for a key that is no string or a value that JSON cannot hold, OSError where a file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    rest = _without_tensors(tree, (), tensors)
    try:
        text = json.dumps(rest) + "\n"
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} cannot be saved as JSON: {error}") from error
    paths = [folder / f"{name}.safetensors", folder / f"{name}.json"]
    try:
        save_file(tensors, paths[0])
        paths[1].write_text(text, encoding="utf-8")
        for path in paths:
            sync(path)
        return [FileRecord(path.name, path.stat().st_size, _sha256(path)) for path in paths]
    except SafetensorError as error:
        raise OSError(f"{paths[0]}: {error}") from error


def seal_state(run_dir: Path, step: int, records: Iterable[FileRecord]) -> Path:
    """Makes a state of what `start_state` began, after all writers are done; one of the same step is replaced.

    records: what `write_tree` returned on all processes. Raises CheckpointError where the folder does not hold exactly
    these files, OSError where it cannot be written; no state is lost.
    """
    state, files = run_dir / state_name(step), sorted(records)
    _check_listing(partial_folder(state), files)
    body = {"format": FORMAT, "version": FORMAT_VERSION, "step": step, "files": [file._asdict() for file in files]}
    (partial_folder(state) / MANIFEST).write_text(json.dumps(body) + "\n", encoding="utf-8")
    finish_folder(state)
    return state


def prune_states(run_dir: Path, keep: int, also: Collection[int] = ()) -> None:
    """Removes all states but the newest `keep` and the steps in `also`; a damaged one counts like any other."""
    doomed = [run_dir / state_name(step) for step in state_steps(run_dir)[keep:] if step not in also]
    for state in doomed:  # a state half removed must not have the name of one
        remove(partial_folder(state))
        os.rename(state, partial_folder(state))
    if doomed:
        sync(run_dir)
    for state in doomed:
        remove(partial_folder(state))


def read_json_tree(state: Path, name: str) -> dict[str, Any]:
    """The tree without its tensors. Raises CheckpointError as `read_tree` does."""
    return read_json(state / f"{name}.json", CheckpointError, max_bytes=MAX_TREE_BYTES)


def read_tree(state: Path, name: str) -> dict[str, Any]:
    """What `write_tree` wrote into a checked state, tensors on the CPU. Raises CheckpointError for anything else."""
    tree, file = read_json_tree(state, name), state / f"{name}.safetensors"
    try:
        for place, tensor in load(file.read_bytes()).items():
            *way, last = place.split(SEPARATOR)
            inner = tree
            for key in way:
                inner = inner.setdefault(key, {})
            inner[last] = tensor
    # all but the first: heads that safetensors lets pass, but torch cannot make tensors of
    except (SafetensorError, OSError, LookupError, TypeError, RuntimeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{file} is no safetensors file: {one_line(error)}") from error
    return tree


def state_steps(run_dir: Path) -> list[int]:
    """The steps of everything that is called like a state, newest first."""
    named = (STATE_NAME.fullmatch(path.name) for path in run_dir.iterdir())
    return sorted((int(match[1]) for match in named if match), reverse=True)


def is_state_name(name: str) -> bool:
    """Whether a folder of this name is, or claims to be, a state."""
    return STATE_NAME.fullmatch(name) is not None


def check_state(state: Path) -> None:
    """Checks every byte of a state against its manifest. Raises CheckpointError, naming the file and its damage."""
    named = STATE_NAME.fullmatch(Path(os.path.abspath(state)).name)
    if named is None:
        raise CheckpointError(f"{state} is no saved state: such a folder is called state- and 8 digits")
    try:
        if not os.path.lexists(state):
            raise CheckpointError(f"there is no saved state {state}")
        if state.is_symlink() or not state.is_dir():
            raise CheckpointError(f"{state} is a link or a file; a saved state is a folder")
        step, files = _read_manifest(state / MANIFEST)
        if step != int(named[1]):
            raise CheckpointError(f"{state / MANIFEST} is of step {str(step)[:20]}, not of its folder's")
        _check_listing(state, files, MANIFEST)
        for record in files:
            if _sha256(state / record.name) != record.sha256:
                raise CheckpointError(f"{state / record.name} is damaged: its sha256 is not the one in {MANIFEST}")
    except OSError as error:
        raise CheckpointError(f"{error.filename or state} cannot be read: {error.strerror}") from error


def newest_state(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest complete state, None where there are none, and why each newer one was skipped.

    Raises CheckpointError, with all reasons, where there are states, but none is complete.
    """
    if not run_dir.is_dir():
        return None, []
    damages = []
    for step in state_steps(run_dir):
        try:
            check_state(run_dir / state_name(step))
            return run_dir / state_name(step), damages
        except CheckpointError as error:
            damages.append(str(error))
    if damages:
        raise CheckpointError(f"{run_dir} has no complete saved state: {'; '.join(damages)}")
    return None, []


def state_name(step: int) -> str:
    """The folder of this step's state. Raises ArgumentError for a step that is no whole number from 0 to MAX_STEP."""
    if type(step) is not int or not 0 <= step <= MAX_STEP:
        raise ArgumentError(f"{step!r} is no step of a saved state: whole numbers from 0 to {MAX_STEP:,}")
    return f"state-{step:08d}"


def _without_tensors(tree: Any, place: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    """The tree without its tensors, which are put into `tensors` under their places, ready to be written."""
    if not isinstance(tree, dict):
        return tree
    rest = {}
    for key, value in tree.items():
        if not isinstance(key, str) or SEPARATOR in key:
            where = SEPARATOR.join(place)
            raise ArgumentError(f"{where}: the key {key!r} cannot be saved: keys must be strings without {SEPARATOR}")
        if isinstance(value, torch.Tensor):
            tensors[SEPARATOR.join((*place, key))] = value.detach().cpu().contiguous()
        else:
            rest[key] = _without_tensors(value, (*place, key), tensors)
    return rest


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # an error of reading names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def _plain_file_size(path: Path) -> int:
    """In bytes. Raises CheckpointError for what is missing or no plain file: a link, a folder, a pipe to wait for."""
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path} is a link, a folder or something else than a plain file")
    return status.st_size


def _check_listing(folder: Path, files: list[FileRecord], *others: str) -> None:
    """Raises CheckpointError unless the folder holds exactly these files in their sizes, and the others."""
    for record in files:
        if not isinstance(record.name, str) or not FILE_NAME.fullmatch(record.name) or record.name == MANIFEST:
            raise CheckpointError(f"{folder}: a file of a state cannot be called {str(record.name)[:100]!r}")
        size = _plain_file_size(folder / record.name)
        if size != record.size:
            wanted = str(record.size)[:20]
            raise CheckpointError(f"{folder / record.name} is damaged: {size} bytes instead of {wanted}")
    unknown = {entry.name for entry in os.scandir(folder)} - {record.name for record in files} - {*others}
    if unknown:
        raise CheckpointError(f"{folder} holds {min(unknown)!r}, which does not belong to it")


def _read_manifest(path: Path) -> tuple[int, list[FileRecord]]:
    """Step and files of a manifest; the files' names are left to `_check_listing`."""
    _plain_file_size(path)
    body = read_json(path, CheckpointError)
    try:
        is_sound = f"{json.dumps(body)}\n".encode() == path.read_bytes()  # any other byte shows
        if body.get("format") != FORMAT:
            raise CheckpointError(f"{path} is of the format {str(body.get('format'))[:80]!r}, not {FORMAT!r}")
        if body.get("version") != FORMAT_VERSION:
            found = f"{path} is of version {str(body.get('version'))[:20]}; this hrm_hf reads version {FORMAT_VERSION}"
            raise CheckpointError(f"{found}: resume with the hrm_hf that saved it, or start a new run")
        step, files = body["step"], [FileRecord(**file) for file in body["files"]]
    except (RecursionError, LookupError, TypeError) as error:  # reading and writing need not bear the same depth
        raise CheckpointError(f"{path} is damaged: {one_line(error)}") from error
    if not is_sound or body.keys() != {"format", "version", "step", "files"} or type(step) is not int:
        raise CheckpointError(f"{path} is damaged: it is not as it was written")
    return step, files
