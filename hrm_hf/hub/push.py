"""Pushes a checkpoint, a page, or any folder, to the Hub. The folder itself stays as it is.

A push that was interrupted can simply be repeated: what has arrived is not sent again, and the repository changes in
one commit at the end.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from transformers.utils.hub import convert_file_size_to_int

from ..files import one_line, read_json
from ..hrm.errors import ArgumentError, CheckpointError, HrmError
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import FILE_NAME, PuzzleIdentifiers
from .checkpoints import TRAINING_DATA, WEIGHT_FILES, check_checkpoint, load_checkpoint, read_config
from .hub_errors import check_can_push, check_repo_id, clear_hub_errors
from .model_card import VALUES_NAME, write_model_card
from .puzzle_embeddings import rearrange_puzzle_table
from .travelling_code import add_code

# Files of an earlier push, which would be loaded with the new ones or tell of another run; code of version 0.1.0.
REPLACED = (*WEIGHT_FILES, FILE_NAME, TRAINING_DATA, "metrics.jsonl", "training_arguments.json", VALUES_NAME)
REPLACED += ("sudoku_generator.py", "sudoku_solver.py", "sudoku_symmetry.py", "sudoku_units.py")

# Arguments of a run that do not say how it was trained.
NOT_SENT = ("output_dir", "push_to_hub", "hub_private", "report_to")


def push_checkpoint(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    dry_run: bool = False,
    revision: str | None = None,
    with_code: bool = False,
    puzzle_table: str | Sequence[str] = "all",
    max_shard_size: str = "5GB",
    token: str | None = None,
    run_dir: str | Path | None = None,
) -> list[tuple[str, int]]:
    """Sends a checkpoint with its processor, its model card and the records of its run to a repository on the Hub.

    The card is filled again to name the repository; one that was changed by hand is sent as it is but for that name.

    Args:
        folder: the checkpoint, as training exports it.
        repo_id: "owner/name"; the repository is made if there is none.
        private: make it a private one.
        dry_run: send nothing and ask nobody; say only what would be sent.
        revision: branch to push to, made if there is none; None = main.
        with_code: send this package's code too, for `trust_remote_code=True`; always done where code lies there.
        puzzle_table: "all" rows, "none" but the blank one, or the ARC tasks whose rows are kept beside the blank one.
        max_shard_size: weights larger than this are cut into several files, for instance "500MB".
        token: of the Hub; None = the one of `hf auth login` or HF_TOKEN.
        run_dir: the folder of the training run; None = the one that the checkpoint lies in, if it is one.
    Returns:
        (path in the repository, bytes) of every file, by path.
    Raises:
        ArgumentError: a value that is not allowed.
        CheckpointError: a checkpoint that is not whole, or whatever the Hub refuses.
    """
    check_repo_id(repo_id)
    if not dry_run:
        token = check_can_push(repo_id, token)
    with TemporaryDirectory(prefix="hrm-hf-push-") as made:
        files = collect(Path(folder), Path(made), repo_id, with_code, puzzle_table, max_shard_size, run_dir)
        if not dry_run:
            where = {"private": private, "revision": revision}
            upload(made, repo_id, token, "Push a checkpoint of hrm_hf", replaces=REPLACED, **where)
        return [(path.name, path.stat().st_size) for path in files]


def push_space(
    folder: str | Path, repo_id: str, private: bool = False, dry_run: bool = False, token: str | None = None
) -> list[tuple[str, int]]:
    """Sends a page, as examples/space/build.py builds it, to a static Space, which then holds these files alone.

    Args:
        folder: of the page; its README.md is the card of the Space.
        repo_id, private, dry_run, token: as in `push_checkpoint`.
    Returns:
        (path in the repository, bytes) of every file, by path.
    Raises:
        ArgumentError: a value that is not allowed, or a folder that is no page.
        CheckpointError: whatever the Hub refuses.
    """
    check_repo_id(repo_id)
    folder = Path(folder)
    for name in ("README.md", "index.html", "segment.onnx"):
        if not (folder / name).is_file():
            raise ArgumentError(f"{folder} is no page: it has no {name}; examples/space/build.py builds one")
    if not dry_run:
        token = check_can_push(repo_id, token, repo_type="space")
        upload(folder, repo_id, token, "Push a page", replaces=("*",), private=private, repo_type="space")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def upload(
    folder: str | Path,
    repo_id: str,
    token: str,
    message: str,
    *,
    replaces: Sequence[str] = (),
    private: bool = False,
    revision: str | None = None,
    repo_type: str = "model",
    kind: type[HrmError] = CheckpointError,
) -> None:
    """Sends all files of a folder in one commit, which removes other files that match `replaces`.

    Raises an error of that kind for what the Hub refuses, and for `private` where the repository is public already.
    """
    api = HfApi(token=token)
    with clear_hub_errors(repo_id, kind, repo_type):
        # private=None: a new one is as the owner's account has it
        sdk = "static" if repo_type == "space" else None
        api.create_repo(repo_id, repo_type=repo_type, private=private or None, exist_ok=True, space_sdk=sdk)
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise kind(f"{repo_id} exists and is public: nothing was sent; make it private on the Hub first")
        if revision is not None:
            api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
        how = {"repo_type": repo_type, "revision": revision, "commit_message": message}
        api.upload_folder(repo_id=repo_id, folder_path=folder, delete_patterns=list(replaces), **how)


def place(path: Path, folder: Path) -> None:
    """Puts a file, if it exists, into a folder that is to be sent: as a link, or a copy where there are no links."""
    if not path.is_file():
        return
    try:
        (folder / path.name).symlink_to(path.resolve())
    except OSError:
        shutil.copy(path, folder)


def collect(
    folder: Path,
    made: Path,
    location: str,
    with_code: bool = False,
    puzzle_table: str | Sequence[str] = "all",
    max_shard_size: str = "5GB",
    run_dir: str | Path | None = None,
) -> list[Path]:
    """Puts all files of the repository `location` into `made`, an empty folder, and gives them by name."""
    try:
        limit = convert_file_size_to_int(max_shard_size)
    except ValueError:
        limit = 0
    if limit < 1:
        raise ArgumentError(f"max_shard_size is {max_shard_size!r}; allowed: an integer with KB, MB or GB, as 500MB")
    weights = check_checkpoint(folder)
    processor = HrmProcessor.from_pretrained(folder)
    num_rows = read_config(folder).num_puzzle_identifiers
    rows = _kept_rows(processor, puzzle_table, num_rows)
    is_cut = len(rows) < num_rows
    if is_cut or any(path.stat().st_size > limit for path in weights):
        model = load_checkpoint(folder)
        if is_cut:
            rearrange_puzzle_table(model, rows)
            names = processor.puzzle_identifiers
            if names is not None:
                processor.puzzle_identifiers = PuzzleIdentifiers([names.names[row] for row in rows])
        model.save_pretrained(made, max_shard_size=limit)
        processor.save_pretrained(made)
    else:
        for path in (*weights, *(folder / name for name in ("config.json", "processor_config.json", FILE_NAME))):
            place(path, made)
    place(folder / TRAINING_DATA, made)
    if with_code := with_code or "auto_map" in read_json(folder / "config.json", CheckpointError):
        add_code(made)
    cut = f"The puzzle table was cut from {num_rows} rows to {len(rows)} after the numbers were measured."
    _write_card(folder, made, location, [cut] if is_cut else [], with_code)
    _copy_records(folder, made, run_dir)
    return sorted(made.iterdir())


def _kept_rows(processor: HrmProcessor, puzzle_table: str | Sequence[str], num_rows: int) -> list[int]:
    """Rows of the puzzle table to keep, in their order."""
    asked = [puzzle_table] if isinstance(puzzle_table, str) else list(puzzle_table)
    if asked == ["all"]:
        return list(range(num_rows))
    rows = {0}
    for task in asked if asked != ["none"] else ():
        variants = processor.puzzle_identifiers.variants_of(task) if processor.puzzle_identifiers else ()
        if not variants:
            raise ArgumentError(f"puzzle_table names {task!r}; allowed: all, none, or tasks of the puzzle table")
        rows |= {row for _, row in variants}
    return sorted(rows)


def _write_card(folder: Path, made: Path, location: str, limitations: list[str], with_code: bool) -> None:
    """Fills the card again; one that was changed by hand stays but for the location and the added limitations."""
    path, card = folder / VALUES_NAME, folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else None
    if path.is_file():
        values = read_json(path, CheckpointError)
        try:
            changed = text not in (None, write_model_card(made, **values).read_text(encoding="utf-8"))
            added = {"limitations": [*(values.get("limitations") or ()), *limitations]}
            write_model_card(made, **(values | added | {"location": location, "with_code": with_code}))
        except (HrmError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{path} does not fill a card: {one_line(error)}") from error
        if not changed:
            return
        text = text.replace(json.dumps(values.get("location") or location), json.dumps(location))
    elif text is None:
        raise CheckpointError(f"{folder} has no README.md: write one with hrm_hf.hub.model_card.write_model_card")
    text = "\n\n".join([text.rstrip(), *limitations]) + "\n" if limitations else text
    (made / card.name).write_text(text, encoding="utf-8")


def _copy_records(folder: Path, made: Path, run_dir: str | Path | None) -> None:
    """Puts training_arguments.json and metrics.jsonl into `made`, from the run's folder or from an earlier push."""
    source = Path(run_dir or folder.absolute().parent)
    record = source / "run.json"
    if record.is_file():
        try:
            sent = _training_arguments(read_json(record, CheckpointError))
        except (KeyError, AttributeError) as error:
            raise CheckpointError(f"{record} is no record of a run: it has no arguments") from error
        (made / "training_arguments.json").write_text(json.dumps(sent, indent=2) + "\n", encoding="utf-8")
    elif run_dir is not None:
        raise ArgumentError(f"run_dir is {run_dir}, which holds no run.json; name the folder of a training run")
    else:
        source = folder  # the records of an earlier push lie beside the weights
        place(folder / "training_arguments.json", made)
    place(source / "metrics.jsonl", made)


def _training_arguments(run: dict[str, Any]) -> dict[str, Any]:
    """What others may know of a run's record: arguments, data, versions and the kind of machine, but no paths."""
    arguments = {name: value for name, value in run["arguments"].items() if name not in NOT_SENT}
    for name, value in arguments.items():
        # data_dir may be an id of the Hub; a folder is no id, even where it looks like one
        if isinstance(value, str) and not (name == "data_dir" and run.get("data_is_hub_id") is True):
            arguments[name] = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    kept = {name: run[name] for name in ("data", "num_processes", "python", "packages", "machine") if name in run}
    return {"arguments": arguments} | kept
