"""ARC tasks: read and refused, and augmentations drawn for them."""

import numpy as np
import pytest

from hrm_hf.games.arc_task import draw_augmentations, parse_task
from hrm_hf.hrm.errors import PuzzleError


def pair(value=1):
    return {"input": [[value, 2], [3, 4]], "output": [[value]]}


def test_parse_task():
    task = parse_task("abc", {"train": [pair(), pair(5)], "test": [pair(7)], "name": "ignored"})
    assert task.name == "abc" and len(task.train) == 2 and len(task.test) == 1
    assert task.train[1][0].tolist() == [[5, 2], [3, 4]] and task.test[0][1].tolist() == [[7]]


@pytest.mark.parametrize(
    "task, message",
    [
        ({"train": [pair()], "test": []}, "task abc has no test pairs"),
        ({"train": [pair()]}, "task abc: 'test' must be a list of pairs, got a NoneType"),
        ({"test": [pair()]}, "task abc: 'train' must be"),
        ([pair()], "task abc: a list is no task"),
        ({"train": [pair(), [[1]]], "test": [pair()]}, "task abc, train pair 2 has no 'input': expected an object"),
        ({"train": [pair()], "test": [pair(), pair(10)]}, "task abc, test pair 2, input: 10 at row 1, column 1"),
        (
            {"train": [{"input": [[1]], "output": [[1, 2], [3]]}], "test": [pair()]},
            "train pair 1, output: row 2 has 1",
        ),
        ({"train": [{"output": [[1]]}], "test": [pair()]}, "train pair 1 has no 'input'"),
        ({"train": [{"input": [[1] * 31], "output": [[1]]}], "test": [pair()]}, "train pair 1, input: .*1 x 31 cells"),
    ],
)
def test_parse_task_names_task_pair_and_cell(task, message):
    with pytest.raises(PuzzleError, match=message):
        parse_task("abc", task)


@pytest.mark.parametrize(
    "name", ["", " a", "a\n", "a\tb", "t\u00e4sk", None, "abc_t1_0123456789", "abc_t9_0000000000"]
)
def test_parse_task_refuses_names_that_no_list_of_names_can_keep(name):
    with pytest.raises(PuzzleError, match="name"):
        parse_task(name, {"train": [pair()], "test": [pair()]})


def test_draws_are_uniform_repeatable_and_leave_colour_0():
    transforms, colours = draw_augmentations(8000, np.random.default_rng(2))
    assert transforms.dtype == colours.dtype == np.uint8 and colours.shape == (8000, 10)
    assert np.abs(np.bincount(transforms, minlength=8) - 1000).max() < 200
    assert not colours[:, 0].any() and (np.sort(colours) == np.arange(10)).all()
    counts = np.stack([np.bincount(column, minlength=10)[1:] for column in colours[:, 1:].T])
    assert np.abs(counts - 8000 / 9).max() < 200
    again = draw_augmentations(8000, np.random.default_rng(2))
    np.testing.assert_array_equal(again[0], transforms)
    np.testing.assert_array_equal(again[1], colours)
