"""Mixtures of ARC collections: each task once, and no test pair of an evaluation task among the training pairs."""

from copy import deepcopy

import pytest
from made_up_arc import made_up_task

from hrm_hf.data.build.arc_mixture import BOTH, mix_collections
from hrm_hf.data.build.arc_tasks import EVALUATION, TRAINING, ArcCollection, CollectedTask
from hrm_hf.games.arc_task import parse_task
from hrm_hf.hrm.errors import ArgumentError, DataError

TASKS = {name: made_up_task(seed) for seed, name in enumerate("abcd")}


def collect(name, training=None, evaluation=None):
    tasks = [
        CollectedTask(parse_task(task, json), split, name, f"{split}/{task}.json")
        for split, of_split in ((TRAINING, training), (EVALUATION, evaluation))
        for task, json in (of_split or {}).items()
    ]
    return ArcCollection(name, tuple(sorted(tasks, key=lambda task: task.name)), (f"{name} bad",), (f"{name} note",))


def pick(names):
    return {name: TASKS[name] for name in names}


def kept(mixture):
    return [(task.name, task.split, task.collection) for task in mixture.tasks]


def test_equal_tasks_count_once_whatever_the_order_of_their_pairs():
    turned = pick("b")
    turned["b"] = TASKS["b"] | {"train": TASKS["b"]["train"][::-1]}
    mixture = mix_collections([collect("one", pick("cb"), pick("d")), collect("two", pick("a") | turned, pick("d"))])
    assert kept(mixture) == [
        ("a", TRAINING, "two"),
        ("b", TRAINING, "one"),
        ("c", TRAINING, "one"),
        ("d", EVALUATION, "one"),
    ]
    assert mixture.left_out == ("one bad", "two bad")
    assert mixture.notes == ("one note", "two note", "2 tasks occur again with equal content and count once")


@pytest.mark.parametrize("part", ["train", "test"])
def test_different_tasks_of_one_name_are_an_error_or_left_out(part):
    other = deepcopy(pick("b"))
    other["b"][part][0]["output"] = [[1, 2, 3, 4, 5]]
    collections = [collect("one", pick("ab")), collect("two", other)]
    with pytest.raises(DataError, match="task b of two: training/b.json differs from that of one: training/b.json"):
        mix_collections(collections)
    mixture = mix_collections(collections, skip_bad=True)
    assert kept(mixture) == [("a", TRAINING, "one"), ("b", TRAINING, "one")]
    assert mixture.left_out[2:] == ("task b of two: training/b.json differs from that of one: training/b.json",)


def test_a_task_of_the_same_name_leaks_even_if_it_differs():
    other = deepcopy(pick("b"))
    other["b"]["test"][0]["input"] = [[1, 2, 3, 4, 5]]
    collections = [collect("one", pick("a"), pick("b")), collect("two", other)]
    with pytest.raises(DataError, match=r"1 evaluation tasks would be trained on: b \(first: two: training/b.json"):
        mix_collections(collections)
    mixture = mix_collections(collections, leaks="drop")
    assert kept(mixture) == [("a", TRAINING, "one"), ("b", EVALUATION, "one")]
    assert mixture.left_out[2:] == ("dropped: two: training/b.json trains on test pairs of one: evaluation/b.json",)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("evaluation_first", [True, False])
def test_a_pair_leaks_under_another_name(part, evaluation_first):
    other = {"z": deepcopy(TASKS["c"])}
    other["z"][part].append(TASKS["b"]["test"][0])
    collections = [collect("one", pick("a"), pick("b")), collect("two", other | pick("d"))]
    collections = collections if evaluation_first else collections[::-1]
    with pytest.raises(DataError, match="two: training/z.json trains on test pairs of one: evaluation/b.json"):
        mix_collections(collections)
    mixture = mix_collections(collections, leaks="drop")
    assert [task.name for task in mixture.tasks] == ["a", "b", "d"]
    mixture = mix_collections(collections, leaks="allow")
    assert [task.name for task in mixture.tasks] == ["a", "b", "d", "z"]
    assert any(note.startswith("allowed: ") and "z.json" in note for note in mixture.notes)


def test_what_does_not_train_does_not_leak():
    """A test pair of two evaluation tasks, an input without its output, and one pair turned the other way round."""
    other = {"z": deepcopy(TASKS["c"]), "y": deepcopy(TASKS["d"])}
    asked = TASKS["b"]["test"][0]
    other["z"]["test"] = [asked]
    other["y"]["train"] += [{"input": asked["input"], "output": [[1]]}, dict(zip(asked, [*asked.values()][::-1]))]
    collections = [collect("one", evaluation=pick("b")), collect("two", {"y": other["y"]}, {"z": other["z"]})]
    assert [task.name for task in mix_collections(collections).tasks] == ["b", "y", "z"]


def test_a_train_pair_of_another_evaluation_task_leaks():
    other = {"z": deepcopy(TASKS["c"])}
    other["z"]["train"].append(TASKS["b"]["test"][0])
    with pytest.raises(DataError, match="two: evaluation/z.json trains on test pairs of one: evaluation/b.json"):
        mix_collections([collect("one", evaluation=pick("b")), collect("two", evaluation=other)])


def test_a_pair_within_one_collection_is_kept_as_published_and_noted():
    other = {"z": deepcopy(TASKS["c"])}
    other["z"]["train"].append(TASKS["b"]["test"][0])
    mixture = mix_collections([collect("one", other, pick("b"))])
    assert [task.name for task in mixture.tasks] == ["b", "z"]
    assert mixture.notes[1:] == (
        "kept as published: one: training/z.json trains on a test pair of one: evaluation/b.json",
    )


def test_a_task_in_both_splits_of_one_collection_leaks():
    with pytest.raises(DataError, match="would be trained on: b"):
        mix_collections([collect("one", pick("ab"), pick("b"))])


def test_allowed_leaks_train_and_test():
    collections = [collect("one", pick("a"), pick("b")), collect("two", pick("b")), collect("three", pick("b"))]
    mixture = mix_collections(collections, leaks="allow")
    assert kept(mixture) == [("a", TRAINING, "one"), ("b", BOTH, "one")]


def test_many_leaks_are_shown_by_twenty_names_and_their_number():
    tasks = {f"task{number:02d}": made_up_task(number) for number in range(25)}
    with pytest.raises(DataError, match=r"of 25 evaluation tasks .*: task00, .*task19, .*task24 \(first"):
        mix_collections([collect("one", evaluation=tasks), collect("two", tasks)])


def test_another_choice_for_leaks_is_refused():
    with pytest.raises(ArgumentError, match="leaks is 'ignore', allowed are refuse, drop, allow"):
        mix_collections([collect("one", pick("a"))], leaks="ignore")
