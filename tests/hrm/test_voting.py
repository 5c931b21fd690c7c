"""Voting on made-up predictions whose votes, ranks and scores are known by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hrm_hf.data.build.arc_builder import variant_names
from hrm_hf.games.arc_task import draw_augmentations
from hrm_hf.hrm import arc
from hrm_hf.hrm.arc import ArcAugmentation
from hrm_hf.hrm.errors import ArgumentError, PuzzleError
from hrm_hf.hrm.voting import vote
from hrm_hf.scores.formulas import pass_at_k, submission

A, B, C = np.array([[1, 2, 3]]), np.array([[1], [2], [3]]), np.array([[7, 0], [0, 7]])
EMPTY = np.zeros((0, 0), np.uint8)
SHAPE = (5, 6)


def rows_of(ranked):
    return [(answer.grid.tolist(), answer.votes, answer.confidence) for answer in ranked]


def cast(votes, shape=SHAPE):
    """The inputs of `vote`, from (identifier name, test index, grid as in the original task, confidence)."""
    frames, names, tests, confidences = [], [], [], []
    for name, test, grid, confidence in votes:
        _, augmentation = ArcAugmentation.parse(name)
        frames.append(arc.frame(augmentation.apply(np.asarray(grid)), shape).ravel())
        names.append(name)
        tests.append(test)
        confidences.append(confidence)
    return np.array(frames), np.array(confidences), names, np.array(tests), shape


def rank_answers(grids, confidences):
    """The ranked answers to one test input of a task that nothing augments."""
    ranked = vote(*cast([("a", 0, grid, confidence) for grid, confidence in zip(grids, confidences, strict=True)]))
    return ranked.get(("a", 0), [])


def variants(task, num, seed=1):
    """The bare name and num - 1 different augmentations."""
    transforms, colours = draw_augmentations(num - 1, np.random.default_rng(seed))
    return [task, *map(bytes.decode, variant_names(task, transforms, colours).tolist())]


def test_votes_rank_before_confidence_and_confidence_before_the_rest():
    ranked = rank_answers([A, B, C, B, C], [0.9, 0.1, 0.2, 0.3, 0.4])
    assert rows_of(ranked) == [
        (C.tolist(), 2, pytest.approx(0.3)),
        (B.tolist(), 2, pytest.approx(0.2)),
        (A.tolist(), 1, 0.9),
    ]
    assert all(answer.grid.dtype == np.uint8 for answer in ranked)


def test_the_same_cells_in_another_shape_are_another_answer():
    assert [answer.votes for answer in rank_answers([A, B, A.reshape(1, 3)], [0.5, 0.5, 0.5])] == [2, 1]


def test_memory_order_and_dtype_do_not_matter():
    ranked = rank_answers([C, np.asfortranarray(C), C.T.astype(np.int32).T], [1, 0, 0.5])
    assert rows_of(ranked) == [(C.tolist(), 3, 0.5)]


def test_ties_are_broken_the_same_whatever_the_order():
    candidates = [(A, 0.5), (B, 0.5), (C, 0.5), (EMPTY, 0.5)]
    orders = [rows_of(rank_answers(*zip(*order, strict=True))) for order in itertools.permutations(candidates)]
    assert len(orders) == 24 and all(order == orders[0] for order in orders)


def test_means_do_not_depend_on_the_order_of_the_rows():
    confidences = np.random.default_rng(3).random(101)
    ranked = {
        rank_answers([A] * 101, np.random.default_rng(seed).permutation(confidences))[0].confidence
        for seed in range(50)
    }
    assert len(ranked) == 1


def test_no_candidates_no_answers():
    assert vote(np.zeros((0, 30), np.uint8), [], [], [], SHAPE) == {}


def test_an_empty_grid_is_a_candidate():
    frames, confidences, names, tests, shape = cast([("a", 0, A, 0.9)])
    nothing = np.zeros((2, 30), np.uint8)
    ranked = vote(
        np.concatenate([frames, nothing]), [0.9, 0.1, 0.2], ["a", "a_t1_0213456789", "a_t6_0987654321"], [0] * 3, shape
    )
    assert [(answer.grid.shape, answer.votes) for answer in ranked["a", 0]] == [((0, 0), 2), ((1, 3), 1)]
    assert pass_at_k(ranked, {("a", 0): A}, (1, 2)) == {"pass@1": 0.0, "pass@2": 1.0}


def test_known_votes_give_known_ranks_and_scores():
    names = variants("a", 6)
    ranked = vote(
        *cast(
            [
                # task a: C three times, B twice, A (right) once
                *((name, 0, C, 0.2) for name in names[:3]),
                *((name, 0, B, 0.9) for name in names[3:5]),
                (names[5], 0, A, 1.0),
                # task b: right by confidence only
                ("b", 0, B, 0.6),
                ("b_t3_0234567891", 0, A, 0.5),
                # task c: never right
                ("c", 0, A, 0.9),
            ]
        )
    )
    assert [(answer.grid.tolist(), answer.votes) for answer in ranked["a", 0]] == [
        (C.tolist(), 3),
        (B.tolist(), 2),
        (A.tolist(), 1),
    ]
    answers = {("a", 0): A, ("b", 0): B, ("c", 0): C}
    assert pass_at_k(ranked, answers) == {
        "pass@1": pytest.approx(1 / 3),
        "pass@2": pytest.approx(1 / 3),
        "pass@5": pytest.approx(2 / 3),
        "pass@10": pytest.approx(2 / 3),
        "pass@100": pytest.approx(2 / 3),
        "pass@1000": pytest.approx(2 / 3),
    }


def test_an_answer_right_under_one_augmentation_only_has_the_rank_it_deserves():
    names = variants("a", 20)
    wrong = [np.full((2, 3), colour) for colour in range(1, 10)]
    # Nine wrong answers twice each, the right one once: rank 10, unless its confidence beats another single vote.
    votes = [(names[i], 0, wrong[i % 9], 0.5) for i in range(18)]
    votes += [(names[18], 0, A, 0.8), (names[19], 0, B, 0.7)]
    ranked = vote(*cast(votes))
    assert rows_of(ranked["a", 0])[9] == (A.tolist(), 1, 0.8) and len(ranked["a", 0]) == 11
    assert pass_at_k(ranked, {("a", 0): A}, (9, 10)) == {"pass@9": 0.0, "pass@10": 1.0}
    assert pass_at_k(ranked, {("a", 0): B}, (10, 11)) == {"pass@10": 0.0, "pass@11": 1.0}


def test_both_test_inputs_must_be_found():
    ranked = vote(
        *cast([("a", 0, A, 0.5), ("a", 1, C, 0.9), ("a_t2_0213456789", 1, C, 0.9), ("a_t4_0213456789", 1, B, 0.9)])
    )
    assert list(ranked) == [("a", 0), ("a", 1)]
    answers = {("a", 0): A, ("a", 1): B}
    assert pass_at_k(ranked, answers, (1, 2)) == {"pass@1": 0.0, "pass@2": 1.0}
    assert pass_at_k(ranked, answers | {("a", 1): EMPTY}, (1, 1000)) == {"pass@1": 0.0, "pass@1000": 0.0}
    # One of two tests found is no half point: another task that is right makes one of two tasks.
    assert pass_at_k(ranked | {("b", 0): ranked["a", 0]}, answers | {("b", 0): A}, (1,)) == {"pass@1": 0.5}


def test_a_test_input_without_predictions_or_candidates_is_not_found():
    ranked = vote(*cast([("a", 0, A, 0.5)]))
    assert pass_at_k(ranked, {("a", 0): A, ("a", 1): A}, (1000,)) == {"pass@1000": 0.0}
    assert pass_at_k({("a", 0): []}, {("a", 0): A}, (1,)) == {"pass@1": 0.0}
    assert pass_at_k({}, {("a", 0): A}, (1,)) == {"pass@1": 0.0}
    assert pass_at_k(ranked, {("a", 0): A}, (1,)) == {"pass@1": 1.0}


def made_up_tasks(num, generator, shape):
    """(task, test index) -> right answer; every second task has two test inputs."""
    return {
        (f"task{i}", test): generator.integers(0, 10, generator.integers(1, np.array(shape) + 1), dtype=np.uint8)
        for i in range(num)
        for test in range(1 + i % 2)
    }


@pytest.mark.parametrize("shape", [(30, 30), (4, 4)])
def test_a_perfect_predictor_scores_all(shape):
    answers = made_up_tasks(30, np.random.default_rng(4), shape)
    answers["full", 0] = np.random.default_rng(5).integers(0, 10, shape, dtype=np.uint8)  # fills the frame: no EOS
    ranked = vote(
        *cast(
            [
                (name, test, answer, 0.5)
                for (task, test), answer in answers.items()
                for name in variants(task, 21, seed=len(task))
            ],
            shape,
        )
    )
    assert pass_at_k(ranked, answers) == dict.fromkeys((f"pass@{k}" for k in (1, 2, 5, 10, 100, 1000)), 1.0)
    assert {len(found) for found in ranked.values()} == {1} and {found[0].votes for found in ranked.values()} == {21}


def plain_vote(sequences, confidences, names, tests, shape):
    """Cut, undo and group row by row with the public functions."""
    candidates = {}
    for sequence, confidence, name, test in zip(sequences, confidences, names, tests, strict=True):
        task, augmentation = ArcAugmentation.parse(name)
        grid = augmentation.undo(arc.cut(sequence.reshape(shape)))
        candidates.setdefault((task, int(test)), []).append((grid, float(confidence)))
    return {key: plain_ranking(found) for key, found in candidates.items()}


def plain_ranking(found):
    """What `rows_of` gives for the ranked answers, from (grid, confidence) of each row."""
    different = {(grid.shape, grid.astype(np.uint8).tobytes()): grid for grid, _ in found}
    rows = []
    for identity, grid in different.items():
        mine = [confidence for other, confidence in found if np.array_equal(other, grid)]
        rows.append((-len(mine), -sum(mine) / len(mine), identity, grid.tolist()))
    return [(grid, -votes, -mean) for votes, mean, _, grid in sorted(rows)]


@given(
    arrays.arrays(np.int64, (12, 6), elements=st.one_of(st.integers(2, 4), st.integers(-3, 14)), fill=st.just(2)),
    st.randoms(use_true_random=False),
)
def test_vote_matches_a_plain_version_in_any_order_of_rows(sequences, random):
    names = [random.choice(["a", "b", "a_t1_0213456789", "b_t7_0321456789"]) for _ in range(12)]
    tests = np.array([random.randrange(2) for _ in range(12)])
    confidences = np.array([random.choice([0.25, 0.5]) for _ in range(12)])
    expected = plain_vote(sequences, confidences, names, tests, (2, 3))
    order = np.array(random.sample(range(12), 12))
    for rows in (np.arange(12), order):
        ranked = vote(sequences[rows], confidences[rows], [names[i] for i in rows], tests[rows], (2, 3))
        assert {key: rows_of(found) for key, found in ranked.items()} == expected


def test_chunks_of_rows_are_joined(monkeypatch):
    answers = made_up_tasks(5, np.random.default_rng(6), (5, 5))
    inputs = cast([(name, k[1], grid, 0.5) for k, grid in answers.items() for name in variants(k[0], 4)])
    whole = {key: rows_of(found) for key, found in vote(*inputs).items()}
    monkeypatch.setattr("hrm_hf.hrm.voting._CHUNK_ROWS", 3)
    assert {key: rows_of(found) for key, found in vote(*inputs).items()} == whole


def test_submission_holds_two_attempts_for_each_test_input():
    ranked = vote(
        *cast([("b", 0, A, 0.5), ("a", 1, C, 0.9), ("a_t2_0213456789", 1, C, 0.9), ("a_t4_0213456789", 1, B, 0.9)])
    )
    assert submission(ranked) == {
        "a": [
            {"attempt_1": [[0]], "attempt_2": [[0]]},  # no predictions for the first test input
            {"attempt_1": C.tolist(), "attempt_2": B.tolist()},
        ],
        "b": [{"attempt_1": A.tolist(), "attempt_2": [[0]]}],
    }
    assert list(submission(ranked)) == ["a", "b"]
    assert submission({("c", 0): rank_answers([EMPTY, A, A], [1, 1, 1])}) == {
        "c": [{"attempt_1": A.tolist(), "attempt_2": [[0]]}]
    }


def test_bad_arguments_are_named():
    frames, confidences, names, tests, shape = cast([("a", 0, A, 0.5), ("b", 0, B, 0.5)])
    for arguments, message in (
        ((frames[:, :-1], confidences, names, tests, shape), r"\(N, 30\) for frames of 5 x 6, got uint8.*\(2, 29\)"),
        ((frames.astype(float), confidences, names, tests, shape), "float64"),
        ((frames, confidences[:1], names, tests, shape), "2 sequences and 1 confidences"),
        ((frames, [0.5, np.nan], names, tests, shape), "finite, got nan in row 1"),
        ((frames, confidences, names[:1], tests, shape), "2 sequences and 1 names"),
        ((frames, confidences, names, [0], shape), "2 sequences and 1 test_indices"),
        ((frames, confidences, names, [0, -1], shape), "test_indices must be integers from 0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            vote(*arguments)
    with pytest.raises(PuzzleError, match="a_t9_0123456789"):
        vote(frames, confidences, ["b", "a_t9_0123456789"], tests, shape)
    with pytest.raises(ArgumentError, match="at least one right answer"):
        pass_at_k({}, {})
    with pytest.raises(ArgumentError, match="k must be at least 1"):
        pass_at_k({}, {("a", 0): A}, (0, 1))
