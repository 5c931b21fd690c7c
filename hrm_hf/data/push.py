"""Publishes puzzle files as a data set on the Hub."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from ..hrm.errors import DataError
from ..hub.dataset_card import dataset_card
from ..hub.hub_errors import check_can_push, check_repo_id
from ..hub.push import place, upload
from .reader import PuzzleFile

SPLITS = ("train", "test")
_SHARED_FACTS = ("task", "vocabulary", "grid_shape", "box_shape", "pad_id", "eos_id", "ignore_label_id")


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
    """Publishes a folder's train.h5 and test.h5 with a data set card, in one commit; the folder is left as it is.

    Both files are read through before anything is sent. A data set that exists gets a further commit; a file that
    the Hub holds already is not sent again, so that a push that broke off can be repeated.

    Args:
        data_dir: folder with train.h5 and test.h5, as hrm_hf.data.build writes them.
        repo_id: owner/name.
        license, source: for the card: the licence in the Hub's spelling ("mit", "cc-by-4.0", ...), and where the
            puzzles are from, in words.
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
    for split, file in zip(SPLITS, files, strict=True):
        file.check_cells()
        if file.info.split != split:
            raise DataError(f"{file.path}: split is {file.info.split!r}, by its name it should be {split!r}")
    for name in _SHARED_FACTS:
        first, second = (getattr(file.info, name) for file in files)
        if first != second:
            raise DataError(f"{files[1].path}: {name} is {second!r}, that of {files[0].path.name} is {first!r}")
    card = dataset_card(files, repo_id, license=license, source=source)
    if not dry_run:
        token = check_can_push(repo_id, token, DataError, "dataset")
    with TemporaryDirectory(prefix="hrm-hf-push-") as made:
        (Path(made) / "README.md").write_text(card, encoding="utf-8")
        for file in files:
            place(file.path, Path(made))
        if not dry_run:
            message = "Puzzle files and their card"
            upload(made, repo_id, token, message, private=private, repo_type="dataset", kind=DataError)
        return [(path.name, path.stat().st_size) for path in sorted(Path(made).iterdir())]
