"""Pushes a checkpoint, or any folder, to the Hub. The checkpoint's folder stays as it is.

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

from ..files import read_json
from ..hrm.errors import ArgumentError, CheckpointError, HrmError
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import FILE_NAME, PuzzleIdentifiers
from .checkpoints import WEIGHT_FILES, check_checkpoint, load_checkpoint, read_config
from .hub_errors import check_can_push, check_repo_id, clear_hub_errors
from .model_card import REQUIRED, VALUES_NAME, read_card_values, write_model_card
from .travelling_code import add_code

# What a push takes out where it sends none: left over from an earlier push, such files would be loaded with the new
# ones, or tell of another run.
REPLACED = (*WEIGHT_FILES, FILE_NAME, "metrics.jsonl", "training_arguments.json", VALUES_NAME)
REPLACED += ("sudoku_generator.py", "sudoku_solver.py", "sudoku_symmetry.py")  # version 0.1.0 sent them with the code

# The sentence in a card about a puzzle table that was cut; a later cut replaces it.
_CUT = (
    "The puzzle table holds {} of the {} rows that it was trained with; the numbers above were measured with all of "
    "them."
)
_CUT_BEFORE = re.compile(re.escape(_CUT).replace(r"\{\}", r"(\d+)"))

# Arguments of a run that say where it ran or what became of it, not how it was trained.
NOT_SENT = ("output_dir", "push_to_hub", "hub_private", "report_to")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


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

    The card is filled again, from the values measured then, to name the repository; a card that was changed by hand is
    sent as it is, except for that name.

    Args:
        folder: the checkpoint, as training exports it.
        repo_id: "owner/name"; the repository is made if there is none.
        private: make it a private one.
        dry_run: send nothing and ask nobody; say only what would be sent.
        revision: branch to push to, made if there is none; None = main.
        with_code: send the package's code too, for those who have only transformers (`trust_remote_code=True`); a
            checkpoint that carries code already is always sent with it, that of this version of the package.
        puzzle_table: "all" rows, "none" but the blank one, or names of ARC tasks whose rows (all augmentations) are
            kept beside the blank one.
        max_shard_size: weights larger than this are cut into several files, for instance "500MB".
        token: of the Hub; None = the one of `hf auth login` or HF_TOKEN.
        run_dir: the folder of the training run; None = the one that the checkpoint lies in, if it is one.

    Returns:
        (path in the repository, bytes) of every file, by path.

    Raises:
        ArgumentError: a value that is not allowed.
        CheckpointError: a checkpoint that is not whole, or whatever the Hub refuses, in one line.
    """
    check_repo_id(repo_id)
    if not dry_run:
        token = check_can_push(repo_id, token)
    with TemporaryDirectory(prefix="hrm-hf-push-") as made:
        files = collect(Path(folder), Path(made), repo_id, with_code, puzzle_table, max_shard_size, run_dir)
        if not dry_run:
            message = "Push a checkpoint of hrm_hf"
            upload(made, repo_id, token, message, replaces=REPLACED, private=private, revision=revision)
        return [(path.name, path.stat().st_size) for path in files]


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
    """Sends all files of a folder in one commit.

    Args:
        message: of the commit.
        replaces: patterns of files that the commit takes out of the repository where the folder has none of the name.
        private: make the repository private if it is new.
        revision: branch to push to, made if there is none; None = main.
        repo_type: "model" or "dataset".
    Raises:
        HrmError: of that kind: what the Hub refuses, or `private` for a repository that is public already.
    """
    api = HfApi(token=token)
    with clear_hub_errors(repo_id, kind, repo_type):
        # private=None: a new one is as the owner's account has it
        api.create_repo(repo_id, repo_type=repo_type, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise kind(
                f"the repository {repo_id} exists and is public: nothing was sent; make it private in its settings on "
                "the Hub first, or choose another name"
            )
        if revision is not None:
            api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type=repo_type,
            revision=revision,
            commit_message=message,
            delete_patterns=list(replaces),
        )


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
    """Puts everything that a repository shall hold into `made`, an empty folder; see `push_checkpoint`.

    Args:
        location: what the card's usage snippet loads.
    Returns:
        The files in `made`, by name.
    """
    limit = _bytes(max_shard_size)
    weights = check_checkpoint(folder)
    processor = HrmProcessor.from_pretrained(folder)
    num_rows = read_config(folder).num_puzzle_identifiers
    rows = _kept_rows(processor, puzzle_table, num_rows)
    cut = (len(rows), num_rows) if len(rows) < num_rows else None
    if cut is not None or any(path.stat().st_size > limit for path in weights):
        model = load_checkpoint(folder)
        if cut is not None:
            model.rearrange_puzzle_table(rows)
            names = processor.puzzle_identifiers
            if names is not None:
                processor.puzzle_identifiers = PuzzleIdentifiers([names.names[row] for row in rows])
        model.save_pretrained(made, max_shard_size=limit)
        processor.save_pretrained(made)
    else:
        for path in (*weights, *(folder / name for name in ("config.json", "processor_config.json", FILE_NAME))):
            place(path, made)
    if with_code := with_code or "auto_map" in read_json(folder / "config.json", CheckpointError):
        add_code(made)
    _write_card(folder, made, location, cut, with_code)
    _copy_records(folder, made, run_dir)
    return sorted(made.iterdir())


def _kept_rows(processor: HrmProcessor, puzzle_table: str | Sequence[str], num_rows: int) -> list[int]:
    """Rows of the puzzle table to keep, in their order.

    Raises:
        ArgumentError: neither "all" nor "none" nor tasks, or tasks although the rows have no names.
        PuzzleError: a task that is not in the table; names that are near are listed.
    """
    asked = [puzzle_table] if isinstance(puzzle_table, str) else list(puzzle_table)
    if asked == ["all"]:
        return list(range(num_rows))
    if asked == ["none"]:
        return [0]
    if not asked or {"all", "none"} & set(asked):
        raise ArgumentError(f"puzzle_table is {' '.join(asked)!r}; allowed: all, none, or names of tasks")
    if processor.puzzle_identifiers is None:
        raise ArgumentError(
            f"puzzle_table names tasks ({asked[0]}), but the rows of this checkpoint's puzzle table have no names; "
            "allowed: all, none"
        )
    rows = {0}
    for task in asked:
        variants = processor.puzzle_identifiers.variants_of(task)
        if not variants:
            processor.find_identifier(task)  # its error lists the names that are near
            raise ArgumentError(f"puzzle_table names {task!r}, which is no task but a variant of one; name the task")
        rows |= {row for _, row in variants}
    return sorted(rows)


def _write_card(folder: Path, made: Path, location: str, cut: tuple[int, int] | None, with_code: bool) -> None:
    """Writes the card for this repository from the values of the run; a card that was changed by hand stays as it is.

    Args:
        cut: (rows of the puzzle table that are sent, rows that the checkpoint has); None = all are sent.
    Raises:
        CheckpointError: neither values nor a card.
    """
    values, card = read_card_values(folder), folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else None
    if values is None and text is None:
        raise CheckpointError(
            f"{folder} has no model card, and no {VALUES_NAME} to fill one from: write it with "
            f"hrm_hf.hub.model_card.write_model_card, which needs {', '.join(REQUIRED)}, or put a README.md there"
        )
    limitations = [] if values is None else [str(each) for each in values.get("limitations") or ()]
    sentence = None
    if cut is not None:
        before = _CUT_BEFORE.search(" ".join([*limitations, text or ""]))  # tells how many rows there once were
        sentence = _CUT.format(cut[0], cut[1] if before is None else before[2])
        limitations = [*(each for each in limitations if not _CUT_BEFORE.fullmatch(each)), sentence]
    if values is not None:
        changed = text not in (None, write_model_card(made, **values).read_text(encoding="utf-8"))
        here = {"location": location, "with_code": with_code, "limitations": limitations}
        write_model_card(made, **(values | here))
        if not changed:
            return
        if values.get("location"):
            text = text.replace(json.dumps(values["location"]), json.dumps(location))
    if sentence is not None:
        text, replaced = _CUT_BEFORE.subn(sentence, text)
        text = text if replaced else f"{text.rstrip()}\n\n{sentence}\n"
    (made / card.name).write_text(text, encoding="utf-8")


def _copy_records(folder: Path, made: Path, run_dir: str | Path | None) -> None:
    """Puts training_arguments.json and metrics.jsonl into `made`, from the folder of the run or from an earlier push.

    Raises:
        ArgumentError: run_dir was given and is not the folder of a run.
        CheckpointError: a damaged run.json.
    """
    source = folder.absolute().parent if run_dir is None else Path(run_dir)
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


def _bytes(size: str) -> int:
    """A size as people write it, in bytes: "500MB" = 500,000,000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(size).strip(), flags=re.IGNORECASE)
    number = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if number < 1:
        raise ArgumentError(f"max_shard_size is {size!r}; allowed: a number with KB, MB, GB or TB, such as 500MB")
    return number
