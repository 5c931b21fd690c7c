"""Reads collections of ARC tasks from a folder, a zip or a JSON file, in the layouts that people have.

Kaggle: `<set>_challenges.json` and `<set>_solutions.json`, many tasks a file. Original: `data/training/*.json`,
`data/evaluation/*.json`, `data/test/*.json`, and `corpus/<Concept>/*.json` (training), one task a file, at any depth.
Where there is neither, every JSON file that holds a task, a list of pairs (re-arc) or an object of tasks counts: flat
folders, folders of concepts, training/ and evaluation/ without data/. Zips are read in memory, never unpacked to disk.
"""

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from ...files import parse_json, read_within
from ...games.arc_task import ArcTask, check_task_name, parse_pairs, parse_task
from ...hrm.arc import FRAME_SHAPE
from ...hrm.errors import ArgumentError, DataError, PuzzleError
from ...hrm.puzzle_identifiers import BLANK_NAME
from ...hrm.shown_value import shown

TRAINING, EVALUATION = "training", "evaluation"
MAX_FILE_BYTES = 16_000_000  # of one JSON file, once unpacked: the largest of the published collections has about 6 MB
MAX_TOTAL_BYTES = 1_000_000_000  # of all JSON files of a zip, once unpacked: 400 tasks of re-arc have about 600 MB
EXTRA_PAIRS = ("use", "ignore")
_CHALLENGES, _SOLUTIONS = "_challenges.json", "_solutions.json"
_LAYOUTS = (
    "*_challenges.json with *_solutions.json, data/training/*.json, data/evaluation/*.json, corpus/*/*.json, or "
    "JSON files that hold a task (an object with 'train' and 'test'), a list of pairs, or an object of tasks"
)
_SPLIT_OF_WORD = dict.fromkeys(("training", "train"), TRAINING)
_SPLIT_OF_WORD |= dict.fromkeys(("evaluation", "eval", "validation", "valid", "val", "test"), EVALUATION)
_Candidate = tuple[str, str, str, Callable[[], object]]
_Files = dict[str, bytes | DataError]  # member -> its content, or what to raise if it is asked for


@dataclass(frozen=True)
class CollectedTask:
    """A task, its split, and where it is from: the collection's name and the file (and task) in it.

    split: TRAINING, all of whose pairs train; EVALUATION, whose test pairs are the test split; in a mixture also
    arc_mixture.BOTH. A task with a hidden answer is always EVALUATION.
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
    """What a folder, zip or file holds: tasks in the order of their names, a line per bad task left out, and notes.

    found: one line on what was found where. bad: name -> number of test inputs of each bad task that was left out.
    """

    name: str
    tasks: tuple[CollectedTask, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    found: str = ""
    bad: dict[str, int] = field(default_factory=dict)


def read_collection(
    path: str | os.PathLike,
    frame_shape: tuple[int, int] = FRAME_SHAPE,
    skip_bad: bool = False,
    extra_pairs: str = "ignore",
) -> ArcCollection:
    """Read and check every task of a folder, a zip or a JSON file (of one task or many; solutions may lie beside it).

    frame_shape: the largest grid. extra_pairs: whether further lists of pairs in a task, such as "arc-gen", train
    ("use") or not ("ignore"); what was done with them is noted. Raises DataError naming the file, and for a bad task
    also the task, the pair and the cell: a path that is none of these; a pipe, a device or a link that leads out of
    the folder; a damaged or encrypted zip; files above the limits; in a folder, challenges other than test challenges
    without their solutions, or solutions without challenges; no task at all; a task that `parse_task` refuses, with
    other numbers of solutions than of test inputs, without train pairs, or with a name that cannot stand in a puzzle
    file. With `skip_bad` such tasks are left out and listed; all other errors stay. Raises ArgumentError for another
    `extra_pairs`.
    """
    if extra_pairs not in EXTRA_PAIRS:
        raise ArgumentError(f"extra_pairs is {extra_pairs!r}, allowed are {', '.join(EXTRA_PAIRS)}")
    path = Path(path)
    alone = path.suffix == ".json" and path.is_file()  # a JSON file was named, not the folder around it
    above: tuple[str, ...] = ()  # folders, so that data/training itself, or corpus, may be given too
    if path.is_dir():
        above = path.resolve().parts[-2:]
        (files, num_others), name = _read_folder(path, above), path.resolve().name
    elif alone:
        above, name, num_others = path.resolve().parts[-3:-1], path.stem, 0
        files = {path.name: read_within(path, DataError, MAX_FILE_BYTES)}
        solutions = path.name.removesuffix(_CHALLENGES) + _SOLUTIONS
        if path.name.endswith(_CHALLENGES) and path.with_name(solutions).is_file():
            files[solutions] = read_within(path.with_name(solutions), DataError, MAX_FILE_BYTES)
    elif path.is_file():
        (files, num_others), name = _read_zip(path), path.stem
    else:
        raise DataError(f"{path}: there is no such file or folder")
    tasks, left_out, notes, bad = [], [], [], {}
    extra: dict[str, int] = defaultdict(int)  # kind -> pairs
    candidates, without_task = _candidates(path, above, files, alone)
    for task_name, split, member, load in candidates:
        value = None
        try:
            value = load()
            task = _parsed(task_name, value, frame_shape)
            for kind, pairs in value.items() if isinstance(value, dict) else ():
                if kind not in ("train", "test") and _are_pairs(pairs):
                    extra[kind] += len(pairs)
                    if extra_pairs == "use":
                        kind = kind if kind.isprintable() and len(kind) <= 50 else shown(kind)  # a key of the file
                        task.train.extend(new_pairs(parse_pairs(task_name, kind, pairs, frame_shape), task))
            tasks.append(CollectedTask(task, EVALUATION if task.is_hidden else split, name, member))
        except (DataError, PuzzleError) as error:
            message = f"{path}: {member!r}: {error}"
            if not skip_bad:
                raise DataError(f"{message} (--skip-bad leaves bad tasks out)") from None
            left_out.append(message)
            asked = value.get("test") if isinstance(value, dict) else None
            bad[task_name] = len(asked) if isinstance(asked, list) else 1
    if not tasks and not left_out:
        raise DataError(f"{path} holds no ARC task; looked for {_LAYOUTS}")
    used = "are left out: extra pairs can be used (--extra-pairs use)"
    if extra_pairs == "use":
        used = "train, but for copies of the task's own pairs"
    for kind, number in sorted(extra.items()):
        notes.append(f"{path}: {number} {shown(kind)} pairs {used}")
    tasks.sort(key=lambda task: (task.name, task.member))
    found = _in_words(name, tasks, num_others + without_task)
    return ArcCollection(name, tuple(tasks), tuple(left_out), tuple(notes), found, bad)


def _parsed(name: str, value: object, frame_shape: tuple[int, int]) -> ArcTask:
    """A task, or a list of pairs, which is one of demonstrations alone."""
    if _are_pairs(value):
        check_task_name(name)
        task = ArcTask(name, parse_pairs(name, "train", value, frame_shape), [])
    else:
        task = parse_task(name, value, max_shape=frame_shape, may_be_hidden=True)
    if not task.train:
        raise DataError(f"task {name} has no train pairs")
    if "/" in name or name in (".", BLANK_NAME):
        raise DataError(f"task {name}: a name must not hold '/' nor be '.' or {BLANK_NAME!r}")
    return task


def new_pairs(pairs: Sequence[tuple], task: ArcTask) -> list[tuple]:
    """Those whose input is none of the task's own: a copy of a test pair must not train."""
    own = {(grid.shape, grid.tobytes()) for grid, _ in task.train + task.test}
    return [pair for pair in pairs if (pair[0].shape, pair[0].tobytes()) not in own]


def _in_words(name: str, tasks: Sequence[CollectedTask], num_others: int) -> str:
    parts = []
    for split in (TRAINING, EVALUATION):
        of_split = [task for task in tasks if task.split == split]
        # of a member of Kaggle's, "FILE: TASK", the file; of others the folder
        member_of = (task.member.partition(".json: ") for task in of_split)
        places = {m[0] + ".json" if m[1] else PurePosixPath(m[0]).parent.as_posix() for m in member_of}
        where = (
            ", ".join(place if place.isprintable() else shown(place) for place in sorted(places))
            if len(places) <= 3
            else f"{len(places)} folders"
        )
        if of_split:
            where = "" if where == "." else f" in {where}"
            hidden = sum(task.task.is_hidden for task in of_split)
            without = f", {hidden} of them without answers" if hidden else ""
            parts.append(f"{len(of_split)} {split} tasks{where}{without}")
    others = f"; {num_others} other JSON files are left alone" if num_others else ""
    name = name if name.isprintable() else shown(name)
    return f"{name}: {' and '.join(parts) or 'no task'}{others}"


def _read_folder(path: Path, above: Sequence[str]) -> tuple[_Files, int]:
    """Member -> content of each JSON file that may count, or why it cannot be read; and the number of the others."""
    found = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    paths = {member: file for file in found if _is_json(member := file.relative_to(path).as_posix())}
    files: _Files = {}
    total = 0
    for member in _chosen(paths, above):
        try:
            if not Path(os.path.realpath(paths[member])).is_relative_to(os.path.realpath(path)):
                raise DataError(f"{path}: {member!r} is a link that leads out of the folder: put a copy there")
            files[member] = read_within(paths[member], DataError, MAX_FILE_BYTES)
            total += len(files[member])
        except DataError as error:
            files[member] = error
        _check_total(path, total)
    return files, len(paths) - len(files)


def _read_zip(path: Path) -> tuple[_Files, int]:
    """As `_read_folder`; nothing is unpacked to disk."""
    files: _Files = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist() if _is_json(info.filename)}
            for member in _chosen(members, ()):
                # zipfile unpacks other methods without a bound on memory.
                if members[member].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    files[member] = DataError(f"{path}: the member {member!r} is neither stored nor deflated")
                elif (size := members[member].file_size) > MAX_FILE_BYTES:
                    files[member] = DataError(f"{path}: {member!r} has {size} bytes, allowed are {MAX_FILE_BYTES}")
                else:
                    files[member] = b""
            _check_total(path, sum(members[member].file_size for member, content in files.items() if content == b""))
            files = {member: archive.read(member) if content == b"" else content for member, content in files.items()}
    except DataError:
        raise
    except Exception as error:  # what zipfile raises for a damaged archive depends on the damage
        raise DataError(f"{path} is not a folder, and cannot be read as a zip: {error}") from error
    return files, len(members) - len(files)


def _check_total(path: Path, total: int) -> None:
    if total > MAX_TOTAL_BYTES:
        raise DataError(f"{path}: the tasks have {total} bytes together, allowed are {MAX_TOTAL_BYTES}")


def _content(files: _Files, member: str) -> bytes:
    if isinstance(content := files[member], DataError):
        raise content
    return content


def _is_json(member: str) -> bool:
    """Hidden files, and what macOS adds to zips, do not count."""
    parts = PurePosixPath(member).parts
    is_hidden = "__MACOSX" in parts or any(part.startswith(".") for part in parts)
    return member.endswith(".json") and not is_hidden


def _chosen(members: Collection[str], above: Sequence[str]) -> list[str]:
    """In order, those of a published layout; where there are none, all."""
    published = [member for member in members if _is_published(member, above)]
    return sorted(published or members)


def _is_published(member: str, above: Sequence[str]) -> bool:
    return member.endswith((_CHALLENGES, _SOLUTIONS)) or _published_split((*above, *_folders(member))) is not None


def _folders(member: str) -> tuple[str, ...]:
    return PurePosixPath(member).parts[:-1]


def _published_split(folders: Sequence[str]) -> str | None:
    """The split of a file in the layout of the original repositories, None in another."""
    parent, folder = ("", "", *folders)[-2:]
    if parent == "data" and folder in (TRAINING, EVALUATION, "test"):
        return _SPLIT_OF_WORD[folder]
    return TRAINING if parent == "corpus" else None


def _candidates(path: Path, above: Sequence[str], files: _Files, alone: bool) -> tuple[list[_Candidate], int]:
    """Tasks before they are read: (name, split, member, function that gives the JSON value or raises DataError); and
    how many files hold none.
    """
    if not any(_is_published(member, above) for member in files):
        return _any_candidates(path, above[-1:], files, alone)
    found: list[_Candidate] = []
    for member in files:
        if member.endswith(_CHALLENGES):
            found += _kaggle_candidates(path, files, member, alone)
        elif member.endswith(_SOLUTIONS):
            challenges = member.removesuffix(_SOLUTIONS) + _CHALLENGES
            if challenges not in files:
                raise DataError(f"{path}: {member!r} lacks its challenges {challenges!r}")
        else:
            load = partial(parse_json, _content(files, member), "the file", DataError, object)
            split = _published_split((*above, *_folders(member)))
            found.append((PurePosixPath(member).stem, split, member, load))
    return found, 0


def _any_candidates(path: Path, above: Sequence[str], files: _Files, alone: bool) -> tuple[list[_Candidate], int]:
    """As `_candidates`, where no file is in a published layout: what a file holds says whether it counts.

    Beside a task, in one folder, what may be a damaged one is not passed over.
    """
    kinds = {member: _kind_of(content) for member, content in files.items()}
    folders = {_folders(member) for member, kind in kinds.items() if kind in ("task", "pairs")}
    found: list[_Candidate] = []
    num_others = 0
    for member, kind in kinds.items():
        stem = PurePosixPath(member).stem
        splits = [_split_named(stem, is_file=True)] if kind == "tasks" else []
        splits += map(_split_named, reversed((*above, *_folders(member))))
        split = next(filter(None, splits), TRAINING)
        if kind == "tasks":
            many = parse_json(_content(files, member), f"{path}: {member!r}", DataError)
            found += [(name, split, f"{member}: {name}", partial(many.get, name)) for name in sorted(many)]
        elif alone or (_folders(member) in folders and kind != "other"):
            load = partial(parse_json, _content(files, member), "the file", DataError, object)
            found.append((stem, split, member, load))
        else:
            num_others += 1
    return found, num_others


def _split_named(name: str, is_file: bool = False) -> str | None:
    words = _words(name)
    if not is_file and words[-1] != "test":  # test_run is no folder of test tasks
        words = [word for word in words if word != "test"]
    return next((_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD), None)


def _words(name: str) -> list[str]:
    return re.split(r"[-_. ]", name.lower())


def _kind_of(content: bytes | DataError) -> str | None:
    """What a file holds: "task", "pairs" (a list of them), "tasks" (an object of them), "other" (an object of other
    things), None for what may be a damaged task.
    """
    try:
        value = None if isinstance(content, DataError) else parse_json(content, "", DataError, object)
    except DataError:
        return None
    if _are_pairs(value):
        return "pairs"
    if not isinstance(value, dict) or not value:
        return None
    if _is_task(value):
        return "task"
    if any(map(_is_task, value.values())):
        return "tasks"
    return None if {"train", "test"} & value.keys() else "other"


def _is_task(value: object) -> bool:
    """Whether an object has a list with a pair where a task has it. (Lists of names, as in splits.json, have none.)"""
    parts = [value.get("train"), value.get("test")] if isinstance(value, dict) else []
    return any(isinstance(pair, dict) for part in parts if isinstance(part, list) for pair in part)


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and any(
        isinstance(pair, dict) and {"input", "output"} <= pair.keys() for pair in value
    )


def _kaggle_candidates(path: Path, files: _Files, member: str, alone: bool) -> Iterator[_Candidate]:
    stem = member.removesuffix(_CHALLENGES)
    words = _words(PurePosixPath(stem).name)
    answers = stem + _SOLUTIONS
    challenges = parse_json(_content(files, member), f"{path}: {member!r}", DataError)
    if answers not in files:
        if "test" not in words and not alone:
            hint = "; to read its tasks as hidden ones, give the file itself"
            raise DataError(f"{path}: {member!r} lacks its solutions {answers!r}{hint}")
        yield from ((n, EVALUATION, f"{member}: {n}", partial(challenges.get, n)) for n in sorted(challenges))
        return
    solutions = parse_json(_content(files, answers), f"{path}: {answers!r}", DataError)
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
