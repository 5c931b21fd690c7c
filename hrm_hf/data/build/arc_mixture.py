"""Puts several ARC collections together: each task once, and no answer of the test split among the training pairs.

Collections overlap: ARC-AGI-2 took over most of ARC-AGI, and has many of its evaluation tasks in its training set. To
train on them is to have seen the answers that the score asks for.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from ...games.arc_task import ArcTask
from ...hrm.errors import ArgumentError, DataError
from .arc_tasks import EVALUATION, TRAINING, ArcCollection, CollectedTask, new_pairs

BOTH = "both"  # the split of a task whose test pairs train and test, which only `leaks="allow"` gives
LEAK_CHOICES = ("refuse", "drop", "allow")


@dataclass(frozen=True)
class Leak:
    """`copy`, a task of collection number `collection`, brings a test pair of `evaluation` into training."""

    evaluation: CollectedTask
    copy: CollectedTask
    collection: int

    def __str__(self) -> str:
        return f"{self.copy.source} trains on test pairs of {self.evaluation.source}"


def mix_collections(
    collections: Sequence[ArcCollection], leaks: str = "refuse", skip_bad: bool = False, extra_pairs: str = "ignore"
) -> ArcCollection:
    """All tasks of the collections as one, each name once.

    Equal copies of a task (the same train pairs and the same test pairs, in any order) count once, the first given. A
    task with hidden answers gives way to a copy of its name that has them. With extra_pairs "use" the pairs of a task
    that has nothing else (re-arc) become train pairs of the task of its name, but for copies of its own pairs.
    Different tasks of one name: DataError naming both; with `skip_bad` the first given stays and the others are left
    out and listed. leaks, see `find_leaks`: "refuse" raises DataError with the names; "drop" leaves the copies that
    train out and lists them; "allow" keeps them and notes it, a task that then trains and tests gets the split BOTH.
    Raises ArgumentError for another word.
    """
    if leaks not in LEAK_CHOICES:
        raise ArgumentError(f"leaks is {leaks!r}, allowed are {', '.join(LEAK_CHOICES)}")
    left_out = [line for collection in collections for line in collection.left_out]
    notes = [line for collection in collections for line in collection.notes]
    collections = _without_answered(collections, notes)
    if extra_pairs == "use":
        collections = _with_extra_pairs(collections, notes)
    found = find_leaks(collections)
    notes += _leaks_as_published(collections)
    if found:
        names = sorted({leak.evaluation.name for leak in found})
        trained = f"the test pairs of {len(names)} evaluation tasks would be trained on: {', '.join(names)}"
        trained += f" (first: {found[0]})"
        if leaks == "refuse":
            ways = "Drop the copies (leaks: drop), or allow them (leaks: allow): the scores then mean little"
            raise DataError(f"{trained}. {ways}")
        if leaks == "allow":
            notes.append(f"allowed: {trained}")
    dropped = {(leak.collection, leak.copy.source): leak for leak in found} if leaks == "drop" else {}
    left_out += [f"dropped: {leak}" for leak in dropped.values()]
    by_name: dict[str, CollectedTask] = {}
    num_equal = 0
    for number, collection in enumerate(collections):
        for task in collection.tasks:
            if (number, task.source) in dropped:
                continue
            first = by_name.setdefault(task.name, task)
            if first is task:
                continue
            if _content(first.task) == _content(task.task):
                num_equal += 1
                if first.split != task.split:
                    by_name[task.name] = replace(first, split=BOTH)
                continue
            message = f"task {task.name} of {task.source} differs from that of {first.source}"
            if not skip_bad and not (first.task.test and task.task.test):
                hint = "has pairs alone, which can be used beside those of the other (extra pairs: use)"
                raise DataError(f"{message}: one of them {hint}")
            if not skip_bad:
                raise DataError(f"{message}: leave one of them out, or ask for bad tasks to be skipped")
            left_out.append(message)
    if num_equal:
        notes.append(f"{num_equal} tasks occur again with equal content and count once")
    tasks = tuple(by_name[name] for name in sorted(by_name))
    return ArcCollection(" + ".join(each.name for each in collections), tasks, tuple(left_out), tuple(notes))


def _without_answered(collections: Sequence[ArcCollection], notes: list[str]) -> list[ArcCollection]:
    """The collections without the tasks with hidden answers of which another one of the same name has the answers."""

    def asked(task: CollectedTask) -> tuple:
        hidden = [(question, None) for question, _ in task.task.test]
        return task.name, *map(tuple, _content(task.task._replace(test=hidden)))

    hidden = [task for collection in collections for task in collection.tasks if task.task.is_hidden]
    names = {task.name for task in hidden}
    known = {
        asked(task)
        for collection in collections
        for task in collection.tasks
        if task.name in names and not task.task.is_hidden
    }
    given_up = {id(task) for task in hidden if asked(task) in known}
    if given_up:
        notes.append(f"{len(given_up)} tasks without answers occur again with answers: these count")
    return [_keeping(collection, lambda task: id(task) not in given_up) for collection in collections]


def _with_extra_pairs(collections: Sequence[ArcCollection], notes: list[str]) -> list[ArcCollection]:
    """The collections with the pairs of tasks that are nothing but pairs put into the tasks of their names."""
    whole = {task.name for collection in collections for task in collection.tasks if task.task.test}
    extra: dict[str, list] = defaultdict(list)
    for collection in collections:
        for task in collection.tasks:
            if not task.task.test and task.name in whole:
                extra[task.name] += task.task.train
    if extra:
        notes.append(f"{sum(map(len, extra.values()))} pairs train as extra pairs of {len(extra)} tasks")

    def extended(task: CollectedTask) -> CollectedTask:
        more = new_pairs(extra[task.name], task.task) if task.name in extra else []
        return replace(task, task=task.task._replace(train=task.task.train + more)) if more else task

    kept = [_keeping(collection, lambda task: task.task.test or task.name not in extra) for collection in collections]
    return [replace(collection, tasks=tuple(map(extended, collection.tasks))) for collection in kept]


def _keeping(collection: ArcCollection, keep: Callable[[CollectedTask], object]) -> ArcCollection:
    return replace(collection, tasks=tuple(task for task in collection.tasks if keep(task)))


def find_leaks(collections: Sequence[ArcCollection]) -> list[Leak]:
    """Every copy through which an evaluation task's test pairs would be trained on, in the order of the collections.

    A copy is a training task of the same name, in any collection, or a task of another collection, whatever its name
    and split, one of whose training pairs equals one of the test pairs. (Within a collection pairs are not compared:
    ARC-AGI has one such pair as published.)
    """
    evaluation_of_name: dict[str, CollectedTask] = {}
    tested: dict[bytes, list[tuple[int, CollectedTask]]] = defaultdict(list)  # test pair -> who asks for it
    for number, collection in enumerate(collections):
        for task in collection.tasks:
            if task.split == EVALUATION:
                evaluation_of_name.setdefault(task.name, task)
                for key in _pair_keys(task.task.test):
                    tested[key].append((number, task))
    found = []
    for number, collection in enumerate(collections):
        for task in collection.tasks:
            is_named = task.split == TRAINING and task.name in evaluation_of_name
            asking = [evaluation_of_name[task.name]] if is_named else []
            asking += [
                evaluation
                for key in _training_keys(task)
                for its_number, evaluation in tested.get(key, ())
                if its_number != number
                and not (task.split == EVALUATION and _content(task.task) == _content(evaluation.task))
            ]
            if asking:
                found.append(Leak(asking[0], task, number))
    return found


def _leaks_as_published(collections: Sequence[ArcCollection]) -> list[str]:
    """A note for each evaluation task one of whose test pairs trains through another task of its own collection."""
    notes = []
    for collection in collections:
        trained = {key: task for task in collection.tasks for key in _training_keys(task)}
        notes += [
            f"kept as published: {trained[key].source} trains on a test pair of {task.source}"
            for task in collection.tasks
            if task.split == EVALUATION
            for key in _pair_keys(task.task.test)
            if key in trained and trained[key].name != task.name
        ]
    return notes


def _training_keys(task: CollectedTask) -> list[bytes]:
    return _pair_keys(task.task.train + (task.task.test if task.split == TRAINING else []))


def _pair_keys(pairs: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> list[bytes]:
    """One key per pair, equal for equal grids alone; a hidden answer equals none but another one."""
    contents = (b"".join(_grid_key(grid) for grid in pair) for pair in pairs)
    return [blake2b(content, digest_size=16).digest() for content in contents]


def _grid_key(grid: np.ndarray | None) -> bytes:
    return b"" if grid is None else np.array(grid.shape, "<u4").tobytes() + grid.tobytes()


def _content(task: ArcTask) -> tuple[list[bytes], list[bytes]]:
    """Equal for tasks with the same train pairs and the same test pairs, each in any order."""
    return sorted(_pair_keys(task.train)), sorted(_pair_keys(task.test))
