"""Where the published code's files lie: a file, a folder, or a repository of the Hub, of which only what is needed is
fetched. Knows names of files, not what is in them; only the list of puzzle names is read here.
"""

import os
import re
from pathlib import Path

from huggingface_hub import hf_hub_download, list_repo_files, snapshot_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..files import read_json
from ..hrm.errors import CheckpointError, DataError
from ..hrm.shown_value import shown
from ..hub.hub_errors import clear_hub_errors, is_hub_id

CHECKPOINT_FILE = "checkpoint"  # name in the published repositories; the training code itself writes step_<number>
SETTINGS_FILE = "all_config.yaml"
IDENTIFIERS_FILE = "identifiers.json"


def find_checkpoint(checkpoint: str | os.PathLike, filename: str | None = None) -> Path:
    """The local path of a checkpoint's state dict.

    Args:
        checkpoint: the file itself; or a folder or Hub repository with a file `CHECKPOINT_FILE`, or else exactly one
            step_<number>.
        filename: which file of the folder or repository it is, if by another name.
    Raises:
        CheckpointError: there is no such file, or several may be meant; candidates are named.
    """
    name = os.fspath(checkpoint)
    if not os.path.isdir(name) and not is_hub_id(name):
        if filename is not None:
            raise CheckpointError(f"{name} is neither a folder nor a Hub repository: --filename needs one")
        return Path(name)
    path = find_file(name, filename or CHECKPOINT_FILE)
    if path is None and filename is None:
        with clear_hub_errors(name):
            names = sorted(os.listdir(name)) if os.path.isdir(name) else list_repo_files(name)
        steps = [file for file in names if re.fullmatch(r"step_\d+", file)]
        if len(steps) != 1:
            reason = "several checkpoints" if steps else f"no file {CHECKPOINT_FILE} or step_<number>"
            raise CheckpointError(f"{name} has {reason}: choose from {shown(steps or names)} with --filename")
        path = find_file(name, steps[0])
    if path is None:
        raise CheckpointError(f"{name} has no file {filename or steps[0]}")
    return path


def find_settings(checkpoint: str | os.PathLike) -> Path:
    """The local path of the `SETTINGS_FILE` of a checkpoint; CheckpointError if it is not there."""
    path = find_file(checkpoint, SETTINGS_FILE)
    if path is None:
        raise CheckpointError(f"there is no {SETTINGS_FILE} beside {checkpoint}: give --config")
    return path


def find_data_folder(name: str | os.PathLike) -> Path:
    """The local path of a folder of published data, or of one fetched from the Hub; DataError if there is neither."""
    name = os.fspath(name)
    if os.path.isdir(name):
        return Path(name)
    if not is_hub_id(name):
        raise DataError(f"{name}: there is no such folder, and it is no Hub data set owner/name")
    patterns = [IDENTIFIERS_FILE, *(f"{split}/{file}" for split in ("train", "test") for file in ("*.json", "*.npy"))]
    with clear_hub_errors(name, DataError, "dataset"):
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))


def read_identifier_names(path: str | os.PathLike) -> list[str]:
    """The names in an `IDENTIFIERS_FILE`, in the order of the puzzle table; DataError for other content."""
    names = read_json(path, DataError, list, max_bytes=10**9)  # ARC with 1,000 variants a task: about a million names
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} must hold a list of names")
    return names


def find_file(checkpoint: str | os.PathLike, filename: str) -> Path | None:
    """The local path of a file in a folder or Hub repository, or beside a file; None if there is none."""
    checkpoint = os.fspath(checkpoint)
    if is_hub_id(checkpoint):
        with clear_hub_errors(checkpoint):
            try:
                return Path(hf_hub_download(checkpoint, filename))
            except RemoteEntryNotFoundError:
                return None
    path = Path(checkpoint if os.path.isdir(checkpoint) else Path(checkpoint).parent, filename)
    return path if os.path.isfile(path) else None
