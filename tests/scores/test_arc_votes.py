"""From an ARC file and answers to its rows to votes, through the builder, the reader, frames and the cut."""

import numpy as np
import pytest
from made_up_arc import made_up_task

from hrm_hf import DataError
from hrm_hf.data import FileRows, PuzzleFile, PuzzleSetInfo, PuzzleWriter
from hrm_hf.data.build.arc_builder import build_arc
from hrm_hf.data.build.arc_tasks import EVALUATION, CollectedTask
from hrm_hf.games.arc_task import parse_task
from hrm_hf.scores.evaluation import PuzzlePredictions, arc_votes, score_predictions
from hrm_hf.scores.formulas import pass_at_k


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> PuzzleFile:
    """Three evaluation tasks with 1, 2 and 3 test inputs, in 9 variants each."""
    folder = tmp_path_factory.mktemp("arc")
    tasks = [
        CollectedTask(parse_task(name, made_up_task(seed, num_test=seed)), EVALUATION, "made up", name)
        for seed, name in ((1, "one"), (2, "two"), (3, "three"))
    ]
    build_arc(folder, tasks, num_aug=8, num_workers=1, frame_shape=(6, 6))
    return PuzzleFile(folder / "test.h5")


def predictions(sequences: np.ndarray, q_halt: np.ndarray | None = None) -> PuzzlePredictions:
    rows = len(sequences)
    q_halt = np.zeros(rows, np.float32) if q_halt is None else q_halt
    return PuzzlePredictions(sequences, q_halt, np.ones(rows, np.int32))


def labels_of(file: PuzzleFile) -> np.ndarray:
    return file.read(*file.locate_rows(np.arange(file.info.num_rows)))[:, 1]


def test_perfect_answers_win_every_task(file):
    ranked, answers = arc_votes(file, predictions(labels_of(file)))
    assert len(answers) == 1 + 2 + 3 and set(ranked) == set(answers)
    assert pass_at_k(ranked, answers, ks=(1,)) == {"pass@1": 1.0}
    assert all(found[0].votes == 9 and found[0].confidence == 0.5 for found in ranked.values())


def test_an_answer_that_is_right_once_has_the_rank_it_deserves(file):
    labels = labels_of(file)
    _, variants, _ = file.row_places(np.arange(len(labels)))
    once = np.where((variants == 3)[:, None], labels, 0).astype(np.uint8)  # PAD alone is cut to an empty grid
    assert pass_at_k(*arc_votes(file, predictions(once)), ks=(1, 2)) == {"pass@1": 0.0, "pass@2": 1.0}


def test_rows_that_are_left_out_have_no_answer(file):
    ranked, answers = arc_votes(file, predictions(labels_of(file)[:9]))  # "one" is the first task by name
    assert set(ranked) == set(answers) == {("one", 0)}


def test_tasks_with_a_hidden_answer_have_votes_and_no_score(tmp_path):
    half = made_up_task(2, num_test=2)
    del half["test"][1]["output"]
    tasks = [
        CollectedTask(parse_task(name, json, may_be_hidden=True), EVALUATION, "made up", name)
        for name, json in (("one", made_up_task(1)), ("half", half))
    ]
    build_arc(tmp_path, tasks, num_aug=3, num_workers=1, frame_shape=(6, 6))
    hidden = PuzzleFile(tmp_path / "test.h5")
    found = predictions(hidden.read(*hidden.locate_rows(np.arange(hidden.info.num_rows)))[:, 0])
    ranked, answers = arc_votes(hidden, found)
    assert set(ranked) == {("one", 0), ("half", 0), ("half", 1)} and set(answers) == {("one", 0)}
    scores = score_predictions(found, FileRows(hidden))
    assert scores["count"] == 4 + 4  # no row without an answer


def test_rows_may_be_chosen(file):
    labels = labels_of(file)
    numbers = np.flatnonzero(file.row_places(np.arange(len(labels)))[1] == 0)
    ranked, answers = arc_votes(file, predictions(labels[numbers]), numbers)
    assert len(answers) == 1 + 2 + 3 and pass_at_k(ranked, answers, ks=(1,)) == {"pass@1": 1.0}


def test_what_cannot_be_voted_on_is_refused(tmp_path):
    cells = np.full((2, 2, 4), 2, dtype=np.uint8)
    for task, message in (("arc", "no identifier names"), ("toy", "it holds the task 'toy'")):
        info = PuzzleSetInfo(task, "test", 12, tuple("abcdefghijkl"), (2, 2), num_aug=0, seed=0)
        with PuzzleWriter(tmp_path / f"{task}.h5", info) as writer:
            writer.add_puzzle("a", [cells], "puzzles", {}, {})
        with pytest.raises(DataError, match=message):
            arc_votes(PuzzleFile(tmp_path / f"{task}.h5"), predictions(cells[:, 0]))
