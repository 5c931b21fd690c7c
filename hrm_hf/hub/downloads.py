"""Fetches files of data sets on the Hugging Face Hub through its cache, which also serves without a network."""

import os
from pathlib import Path

from huggingface_hub import hf_hub_download

from ..hrm.errors import ArgumentError, DataError
from .hub_errors import clear_hub_errors, is_hub_id


def fetch_dataset_file(repo_id: str, filename: str) -> Path:
    """The local path of a file of a Hub data set, downloaded if it is not cached yet; DataError if that fails."""
    with clear_hub_errors(repo_id, DataError, "dataset"):
        return Path(hf_hub_download(repo_id, filename, repo_type="dataset"))


def puzzle_file_path(name: str | os.PathLike, split: str = "train") -> Path:
    """Where a puzzle file lies on this machine, fetched if need be.

    name: a file; or a folder with train.h5 and test.h5; or, as a str, the id of a Hub data set with these files,
    owner/name. What exists here wins over the Hub. split: which file of a folder or data set.

    Raises ArgumentError for another split, DataError where there is no such file.
    """
    if split not in ("train", "test"):
        raise ArgumentError(f"split is {split!r}, allowed are 'train' and 'test'")
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
