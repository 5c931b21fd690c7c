"""Data sets on the Hugging Face Hub: single files of them, puzzle files by a data set's id, and the way up.

Downloads lie in the Hub's cache, by commit: what is there already is not fetched again, what has changed is, and with
HF_HUB_OFFLINE=1 (or no network) the cached files serve.
"""

import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..data.reader import PuzzleFile
from ..hrm.errors import ArgumentError, DataError
from .dataset_card import dataset_card
from .hub_errors import check_can_push, check_repo_id, clear_hub_errors, is_hub_id

SPLITS = ("train", "test")
_SHARED_FACTS = ("task", "vocabulary", "grid_shape", "box_shape", "pad_id", "eos_id", "ignore_label_id")


def fetch_dataset_file(repo_id: str, filename: str) -> Path:
    """The local path of a file of a Hub data set, downloaded if it is not cached yet. Raises DataError if it cannot
    be had.
    """
    try:
        with clear_hub_errors(repo_id, DataError, "dataset"):
            return Path(hf_hub_download(repo_id, filename, repo_type="dataset"))
    except DataError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):
            raise DataError(f"the data set {repo_id} has no file {filename}") from error
        raise DataError(f"{filename} could not be fetched: {error}") from error


def puzzle_file_path(name: str | os.PathLike, split: str = "train") -> Path:
    """Where a puzzle file lies on this machine, fetched if need be.

    Args:
        name: a file; or a folder with train.h5 and test.h5; or, as a str, the id of a Hub data set with these files,
            owner/name. What exists here wins over the Hub.
        split: "train" or "test": which file of a folder or data set. A single file is what it is.
    Raises:
        ArgumentError: another split.
        DataError: neither is there; the Hub is asked for owner/name alone.
    """
    if split not in SPLITS:
        raise ArgumentError(f"split is {split!r}, allowed are {' and '.join(map(repr, SPLITS))}")
    if isinstance(name, str) and is_hub_id(name):
        try:
            return fetch_dataset_file(name, f"{split}.h5")
        except DataError as error:
            raise DataError(f"there is no file or folder {name!r} here, and on the Hub: {error}") from error
    path = Path(name)
    if path.is_dir():
        path = path / f"{split}.h5"
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder, nor is it the id of a Hub data set (owner/name)")
    return path


def push_puzzles(
    data_dir: str | os.PathLike,
    repo_id: str,
    *,
    license: str,
    source: str,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> list[tuple[str, int]]:
    """Publish a folder's train.h5 and test.h5 with a data set card, in one commit; the folder is left as it is.

    Both files are read through before anything is sent. A data set that exists gets a further commit; a file that
    the Hub holds already is not sent again, so that a push that broke off can be repeated.

    Args:
        data_dir: folder with train.h5 and test.h5, as the builders in convert/ write them.
        repo_id: owner/name.
        license: identifier of the licence, in the Hub's spelling ("mit", "cc-by-4.0", ...); stated in the card.
        source: where the puzzles are from, in words; stated in the card.
        private: make the data set private if it is new.
        dry_run: send nothing, ask nothing of the network.
        token: of the Hub; None = the one that is logged in.

    Returns:
        What was sent, or would be: (name, bytes) of each file.

    Raises:
        ArgumentError: an id that is not owner/name, an empty licence or source, what cannot be a token.
        DataError: files that are missing, damaged or of different tasks; no token; a refusal of the Hub;
            `private` for a data set that is public already.
    """
    check_repo_id(repo_id)
    files = [PuzzleFile(Path(data_dir) / f"{split}.h5") for split in SPLITS]
    _check_pair(files)
    card = dataset_card(files, repo_id, license=license, source=source).encode()
    sent = [("README.md", len(card))] + [(file.path.name, file.path.stat().st_size) for file in files]
    if dry_run:
        return sent
    token = check_can_push(repo_id, token, DataError, "dataset")
    operations = [CommitOperationAdd("README.md", card)]
    operations += [CommitOperationAdd(file.path.name, str(file.path)) for file in files]
    api = HfApi(token=token)
    with clear_hub_errors(repo_id, DataError, "dataset"):
        # private=None: a new one is as the owner's account has it
        api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type="dataset").private:
            raise DataError(f"the data set {repo_id} exists already and is public: nothing was sent")
        api.create_commit(repo_id, operations, commit_message="Puzzle files and their card", repo_type="dataset")
    return sent


def _check_pair(files: list[PuzzleFile]) -> None:
    """Raise DataError unless every cell of the files is allowed, and they are the two splits of one task."""
    first = files[0].info
    for split, file in zip(SPLITS, files, strict=True):
        file.check_cells()
        if file.info.split != split:
            raise DataError(f"{file.path}: split is {file.info.split!r}, by its name it should be {split!r}")
        for name in _SHARED_FACTS:
            if getattr(file.info, name) != getattr(first, name):
                raise DataError(
                    f"{file.path}: {name} is {getattr(file.info, name)!r}, that of {files[0].path.name} is "
                    f"{getattr(first, name)!r}"
                )
