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
from ..hub.hub_errors import clear_hub_errors, is_hub_id

CHECKPOINT_FILE = "checkpoint"  # name in the published repositories; the training code itself writes step_<number>
SETTINGS_FILE = "all_config.yaml"
IDENTIFIERS_FILE = "identifiers.json"
_DATA_FILES = [
    IDENTIFIERS_FILE,
    *(f"{split}/{name}" for split in ("train", "test") for name in ("dataset.json", "all__*.npy")),
]
_MAX_NAMES_BYTES = 10**9  # of identifiers.json: with 1,000 variants a task ARC has some 30 million
_MAX_SHOWN = 12  # names listed in a message


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
    if os.path.isdir(name):
        return Path(name, filename or _choose(name, sorted(os.listdir(name))))
    if is_hub_id(name):
        path = _fetch(name, filename or CHECKPOINT_FILE)
        if path is None and filename is None:
            with clear_hub_errors(name):
                names = list_repo_files(name)
            path = _fetch(name, _choose(f"the model {name} on the Hub", names))
        if path is None:
            raise CheckpointError(f"the model {name} on the Hub has no file {filename}")
        return path
    if filename is not None:
        raise CheckpointError(f"{name} is no folder and no Hub repository, of which {filename} could be a file")
    return Path(name)


def find_settings(checkpoint: str | os.PathLike) -> Path:
    """The local path of the `SETTINGS_FILE` beside a checkpoint that `find_checkpoint` accepts.

    Raises:
        CheckpointError: it is not there.
    """
    name = os.fspath(checkpoint)
    if is_hub_id(name):
        path = _fetch(name, SETTINGS_FILE)
    else:
        path = Path(name if os.path.isdir(name) else Path(name).parent, SETTINGS_FILE)
    if path is None or not os.path.isfile(path):
        raise CheckpointError(f"there is no {SETTINGS_FILE} beside {name}: give --config")
    return path


def find_identifiers(checkpoint: str | os.PathLike) -> Path | None:
    """The local path of the `IDENTIFIERS_FILE` in the folder or Hub repository of a checkpoint, if there is one."""
    name = os.fspath(checkpoint)
    if is_hub_id(name):
        return _fetch(name, IDENTIFIERS_FILE)
    path = Path(name, IDENTIFIERS_FILE)
    return path if os.path.isfile(path) else None


def find_data_folder(name: str | os.PathLike) -> Path:
    """The local path of a folder of published data; of a Hub data set, the files of one are fetched.

    Raises:
        DataError: there is neither.
    """
    name = os.fspath(name)
    if os.path.isdir(name):
        return Path(name)
    if not is_hub_id(name):
        raise DataError(f"{name}: there is no such folder, and it is no Hub data set owner/name")
    with clear_hub_errors(name, DataError, "dataset"):
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=_DATA_FILES))


def read_identifier_names(path: str | os.PathLike) -> list[str]:
    """The names in an `IDENTIFIERS_FILE`, a list in the order of the puzzle table's rows.

    Raises:
        DataError: a file that is missing or holds something else.
    """
    names = read_json(path, DataError, list, _MAX_NAMES_BYTES)
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} must hold a list of names")
    return names


def _fetch(repo_id: str, filename: str) -> Path | None:
    """The local path of a file of a repository; None if the repository has none of the name."""
    with clear_hub_errors(repo_id):
        try:
            return Path(hf_hub_download(repo_id, filename))
        except RemoteEntryNotFoundError:
            return None


def _choose(where: str, names: list[str]) -> str:
    """The one name that a checkpoint has among these."""
    if CHECKPOINT_FILE in names:
        return CHECKPOINT_FILE
    steps = [name for name in names if re.fullmatch(r"step_\d+", name)]
    if len(steps) == 1:
        return steps[0]
    found = steps or names
    more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    reason = "several checkpoints" if steps else f"no file {CHECKPOINT_FILE} or step_<number>"
    listed = ", ".join(found[:_MAX_SHOWN]) or "no files"
    raise CheckpointError(f"{where} has {reason}: name one with --filename; there are {listed}{more}")
