"""Reads collections of ARC tasks from a folder or a zip, in the layout of the original repositories or of Kaggle.

Original: `data/training/*.json`, `data/evaluation/*.json`, and `corpus/<Concept>/*.json` (training), one task a file,
at any depth. Kaggle: `<set>_challenges.json` and `<set>_solutions.json`, many tasks a file. All other files are left
alone. Zips are read in memory and never unpacked to disk.
"""

import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ...files import parse_json, read_within
from ...games.arc_task import ArcTask, parse_task
from ...hrm.arc import FRAME_SHAPE
from ...hrm.errors import DataError, PuzzleError
from ...hrm.puzzle_identifiers import BLANK_NAME

TRAINING, EVALUATION = "training", "evaluation"
MAX_FILE_BYTES = 16_000_000  # of one JSON file, once unpacked: the largest of the published collections has about 6 MB
MAX_TOTAL_BYTES = 200_000_000  # of all JSON files of a zip, once unpacked
_CHALLENGES, _SOLUTIONS = "_challenges.json", "_solutions.json"
_LAYOUTS = "data/training/*.json, data/evaluation/*.json, corpus/*/*.json, *_challenges.json with *_solutions.json"
_Candidate = tuple[str, str, str, Callable[[], object]]


@dataclass(frozen=True)
class CollectedTask:
    """A task, its split, and where it is from: the collection's name and the file (and task) in it.

    split: TRAINING, all of whose pairs train; EVALUATION, whose test pairs are the test split; in a mixture also
    arc_mixture.BOTH.
    """

    task: ArcTask
    split: str
    collection: str
    member: str

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def source(self) -> str:
        return f"{self.collection}: {self.member}"


@dataclass(frozen=True)
class ArcCollection:
    """What a folder or zip holds: tasks in the order of their names, a line per bad task left out, and notes."""

    name: str
    tasks: tuple[CollectedTask, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def read_collection(
    path: str | os.PathLike, frame_shape: tuple[int, int] = FRAME_SHAPE, skip_bad: bool = False
) -> ArcCollection:
    """Read and check every task of a folder or a zip.

    frame_shape: the largest grid. Raises DataError naming the file, and for a bad task also the task, the pair and the
    cell: a path that is neither folder nor zip; a pipe, a device or a link that leads out of the folder; a damaged or
    encrypted zip; files above the limits; a challenges file without its solutions or the reverse; no task at all; a
    task that `parse_task` refuses, with other numbers of solutions than of test inputs, without train pairs, or with a
    name that cannot stand in a puzzle file. With `skip_bad` such tasks are left out and listed; all other errors stay.
    """
    path = Path(path)
    above: Sequence[str] = ()
    if path.is_dir():
        above = path.resolve().parts[-2:]  # so that data/training itself, or corpus, may be given too
        files, name = _read_folder(path, above), path.resolve().name
    elif path.is_file():
        files, name = _read_zip(path), path.stem
    else:
        raise DataError(f"{path}: there is no such file or folder")
    tasks, left_out, notes = [], [], []
    for task_name, split, member, load in _candidates(path, above, files, notes):
        try:
            task = parse_task(task_name, load(), max_shape=frame_shape)
            if not task.train:
                raise DataError(f"task {task.name} has no train pairs")
            if "/" in task.name or task.name in (".", BLANK_NAME):
                raise DataError(f"task {task.name}: a name must not hold '/' nor be '.' or {BLANK_NAME!r}")
            tasks.append(CollectedTask(task, split, name, member))
        except (DataError, PuzzleError) as error:
            message = f"{path}: {member!r}: {error}"
            if not skip_bad:
                raise DataError(message) from None
            left_out.append(message)
    if not tasks and not left_out and not notes:
        raise DataError(f"{path} holds no ARC task; looked for {_LAYOUTS}")
    tasks.sort(key=lambda task: (task.name, task.member))
    return ArcCollection(name, tuple(tasks), tuple(left_out), tuple(notes))


def _read_folder(path: Path, above: Sequence[str]) -> dict[str, bytes]:
    """Member -> content of each file of a known layout."""
    files = {}
    for folder, _, names in os.walk(path):
        for file in (Path(folder, name) for name in names):
            member = file.relative_to(path).as_posix()
            if _is_known(above, member):
                if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(path)):
                    raise DataError(f"{path}: {member!r} is a link that leads out of the folder: put a copy there")
                files[member] = read_within(file, DataError, MAX_FILE_BYTES)
    return files


def _read_zip(path: Path) -> dict[str, bytes]:
    """As `_read_folder`; nothing is unpacked to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if _is_known((), info.filename)]
            for info in members:
                # zipfile unpacks other methods without a bound on memory.
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(f"{path}: the member {info.filename!r} is neither stored nor deflated")
                if (size := info.file_size) > MAX_FILE_BYTES:
                    raise DataError(f"{path}: {info.filename!r} has {size} bytes, allowed are {MAX_FILE_BYTES}")
            if (total := sum(info.file_size for info in members)) > MAX_TOTAL_BYTES:
                raise DataError(f"{path}: the tasks have {total} bytes together, allowed are {MAX_TOTAL_BYTES}")
            return {info.filename: archive.read(info) for info in members}
    except DataError:
        raise
    except Exception as error:  # what zipfile raises for a damaged archive depends on the damage
        raise DataError(f"{path} is not a folder, and cannot be read as a zip: {error}") from error


def _is_known(above: Sequence[str], member: str) -> bool:
    """Whether a file belongs to a layout; hidden files and what macOS adds to zips do not."""
    parts = PurePosixPath(member).parts
    if not member.endswith(".json") or "__MACOSX" in parts or any(part.startswith(".") for part in parts):
        return False
    folders = (*above, *parts[:-1])
    return member.endswith((_CHALLENGES, _SOLUTIONS)) or _split_of_folder(folders) is not None


def _split_of_folder(folders: Sequence[str]) -> str | None:
    if tuple(folders[-2:]) in (("data", TRAINING), ("data", EVALUATION)):
        return folders[-1]
    return TRAINING if len(folders) >= 2 and folders[-2] == "corpus" else None


def _candidates(path: Path, above: Sequence[str], files: dict[str, bytes], notes: list[str]) -> Iterator[_Candidate]:
    """Tasks before they are read: (name, split, member, function that gives the JSON value or raises DataError)."""
    for member, content in sorted(files.items()):
        if member.endswith(_CHALLENGES):
            yield from _kaggle_candidates(path, files, member, notes)
        elif member.endswith(_SOLUTIONS):
            challenges = member.removesuffix(_SOLUTIONS) + _CHALLENGES
            if challenges not in files:
                raise DataError(f"{path}: {member!r} lacks its challenges {challenges!r}")
        else:
            pure = PurePosixPath(member)
            split = _split_of_folder((*above, *pure.parts[:-1]))
            yield pure.stem, split, member, partial(parse_json, content, "the file", DataError, object)


def _kaggle_candidates(path: Path, files: dict[str, bytes], member: str, notes: list[str]) -> Iterator[_Candidate]:
    stem = member.removesuffix(_CHALLENGES)
    words = re.split(r"[-_. ]", PurePosixPath(stem).name)
    answers = stem + _SOLUTIONS
    if answers not in files:
        if "test" in words:
            notes.append(f"{path}: {member!r} has no solutions and is left out")
            return
        raise DataError(f"{path}: {member!r} lacks its solutions {answers!r}")
    challenges, solutions = (parse_json(files[name], f"{path}: {name!r}", DataError) for name in (member, answers))
    if unasked := sorted(set(solutions) - set(challenges)):
        raise DataError(f"{path}: {answers!r} has task {unasked[0]!r}, which {member!r} lacks")
    split = EVALUATION if EVALUATION in words or "test" in words else TRAINING
    for name in sorted(challenges):
        load = partial(_with_answers, name, challenges[name], solutions.get(name), answers)
        yield name, split, f"{member}: {name}", load


def _with_answers(name: str, challenge: object, answers: object, solutions_member: str) -> object:
    """The task in its original form: the answers put into its test pairs."""
    questions = challenge.get("test") if isinstance(challenge, dict) else None
    if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
        return challenge  # what is wrong with it, parse_task says
    if not isinstance(answers, list) or len(answers) != len(questions):
        found = len(answers) if isinstance(answers, list) else "no"
        counts = f"{len(questions)} test inputs, but {found} answers in {solutions_member!r}"
        raise DataError(f"task {name!r} has {counts}: expected a list of one per test input")
    pairs = [question | {"output": answer} for question, answer in zip(questions, answers, strict=True)]
    return challenge | {"test": pairs}
