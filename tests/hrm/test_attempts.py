"""Attempts: what each strategy asks, which answer counts, and that neither batch nor company changes it."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sudoku_grids import ANSWER, QUESTION, SHAPES, full_grid
from tiny_models import TINY, TINY_RECURSIVE, perturbed, tiny_model
from transformers import pipeline

from hrm_hf import ArgumentError, CheckpointError, HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.hrm.attempts import MAX_ATTEMPTS, MOST_PINS, Attempts, Draws, Thought, Tried, mix32
from hrm_hf.hrm.puzzle_codecs import CODECS
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers
from hrm_hf.hrm.sudoku import CODEC, check_givens, is_solution
from hrm_hf.hrm.symmetry import dihedral

SUDOKU_4 = HrmProcessor(grid_shape=(4, 4))
SUDOKU_9 = HrmProcessor(grid_shape=(9, 9))
MAZE = HrmProcessor(task="maze", grid_shape=(3, 3))
ARC = HrmProcessor(task="arc", grid_shape=(3, 3))
PUZZLES = [
    "1..4..1..1..4..1",
    "1...............",
    "..3..2.......1..",
    "12..34..........",
    "..............4.",
    "4..1.14..4..1..4",
]
MODEL = perturbed(tiny_model(**TINY_RECURSIVE), seed=3)
QUESTION_IDS, ANSWER_IDS = SUDOKU_9.encode(QUESTION), SUDOKU_9.encode(ANSWER)


def solve(puzzles, batch_size=8, processor=SUDOKU_4, model=MODEL, how=None, **asked):
    rows = [(processor.encode(puzzle), 0) for puzzle in puzzles]
    return list(model.solve_queue(rows, batch_size, attempts=Attempts(processor, **asked), **(how or {})))


def plain(row):
    """An answer as something that compares."""
    steps = [
        (step.attempt, step.segment, step.sequence.tolist(), step.q_halt_logit, step.pinned) for step in row.steps
    ]
    tried = [(each.sequence.tolist(), *each[1:]) for each in row.tried]
    return row.sequence.tolist(), *row[1:4], tried, steps


def sure_of(sequence, vocab_size):
    """Probabilities (S, V) of a model that is sure."""
    return np.eye(vocab_size)[sequence]


def test_the_hash_is_the_published_one():
    """Values of the page's attempts.js: both must draw the same."""
    assert [mix32(value) for value in (0, 1, 2, 0xFFFFFFFF)] == [0, 1753845952, 3507691905, 1734902346]
    draws = Draws(7, 1, 2, 3)
    assert [round(draws.uniform() * 2**32) for _ in range(2)] == [910599696, 4136071198]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), st.integers(1, 30))
def test_draws_depend_on_their_keys_alone(keys, length):
    first, second = Draws(*keys), Draws(*keys)
    assert sorted(first.permutation(length).tolist()) == list(range(length))
    second.permutation(length)
    assert first.uniform() == second.uniform()
    weights = np.arange(length, dtype=float)
    weights[-1] = 1.0
    assert weights[first.choice(weights)] > 0


def test_draws_are_even():
    draws = Draws(1)
    orders = Counter(tuple(draws.permutation(3).tolist()) for _ in range(6000))
    assert set(orders) == set(itertools.permutations(range(3))) and min(orders.values()) > 850
    chosen = Counter(draws.choice(np.array([1.0, 0.0, 3.0])) for _ in range(4000))
    assert 900 < chosen[0] < 1100 and chosen[1] == 0


@pytest.mark.parametrize("box_shape", SHAPES)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_symmetry_turns_solved_sudokus_into_solved_ones(box_shape, seed):
    grid = full_grid(box_shape)
    ids = grid.ravel().astype(np.int64) + 1
    sources, names = CODECS["sudoku"].symmetry(grid.shape, box_shape, Draws(seed).permutation)
    turned = names[ids[sources]]
    assert sorted(sources) == list(range(ids.size)) and sorted(names) == list(range(len(grid) + 2))
    assert is_solution(np.zeros_like(grid), CODEC.decode(turned.reshape(grid.shape)), box_shape)


@pytest.mark.parametrize("shape", [(3, 3), (2, 4)])
def test_a_symmetry_of_a_maze_is_a_turn_or_a_mirroring(shape):
    cells = np.arange(np.prod(shape)).reshape(shape)
    views = [dihedral(cells, k).ravel().tolist() for k in range(8) if dihedral(cells, k).shape == shape]
    seen = []
    for seed in range(60):
        sources, names = CODECS["maze"].symmetry(shape, None, Draws(seed).permutation)
        assert names.tolist() == list(range(6))
        seen.append(sources.tolist())
    assert all(view in views for view in seen) and all(view in seen for view in views)


@pytest.mark.parametrize(
    ("processor", "question", "answer"), [(SUDOKU_9, QUESTION, ANSWER), (MAZE, "S  # #  G", None)]
)
def test_a_symmetry_is_undone_before_the_answer_counts(processor, question, answer):
    """A model that is sure of the turned question's answer has answered the question."""
    ids = processor.encode(question)
    answer = ids if answer is None else processor.encode(answer)
    thought = Thought(Attempts(processor, 5, "symmetry", "confidence", return_steps=True), ids, max_segments=1)
    vocab, row, asked = processor.vocab_size, None, set()
    rng = np.random.default_rng(0)
    while row is None:
        asked.add(thought.input_ids.tobytes())
        # what the symmetry at work makes of the answer is found from what it makes of the question and of each cell
        sources, names = (
            (np.arange(ids.size), np.arange(vocab)) if thought._sources is None else (thought._sources, thought._ids)
        )
        np.testing.assert_array_equal(thought.input_ids, names[ids[sources]])
        row = thought.after(sure_of(names[answer[sources]], vocab), float(rng.normal()), halts=True)
    assert row.attempts == 5 and len(asked) > 1
    for step in row.steps:
        np.testing.assert_array_equal(step.sequence, answer)


@given(st.lists(st.integers(0, 9), min_size=81, max_size=81), st.integers(0, 80))
def test_what_a_blank_may_hold_is_what_its_units_leave(cells, place):
    grid = np.array(cells).reshape(9, 9)
    grid.flat[place] = 0
    allowed = CODECS["sudoku"].allowed((grid.ravel().astype(np.int64) + 1), (9, 9), (3, 3))
    row, column = divmod(place, 9)
    box = grid[row // 3 * 3 : row // 3 * 3 + 3, column // 3 * 3 : column // 3 * 3 + 3]
    taken = {*grid[row], *grid[:, column], *box.ravel()}
    assert np.flatnonzero(allowed[place]).tolist() == [digit + 1 for digit in range(1, 10) if digit not in taken]
    assert not allowed[grid.ravel() != 0].any()


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_guesses_keep_the_givens_and_the_rules_and_end(seed):
    rng = np.random.default_rng(seed)
    thought = Thought(Attempts(SUDOKU_9, 3, "guess", seed=seed), QUESTION_IDS, max_segments=100)
    before, row, most = thought.input_ids, None, 0
    for segment in range(1000):
        given_cells = QUESTION_IDS != 1
        np.testing.assert_array_equal(thought.input_ids[given_cells], QUESTION_IDS[given_cells])
        check_givens(CODEC.decode(thought.input_ids.reshape(9, 9)), (3, 3))
        pins = int((thought.input_ids != QUESTION_IDS).sum())
        most = max(most, pins)
        if thought.restart:
            assert pins == (1 if segment else 0)
        else:
            assert pins == int((before != QUESTION_IDS).sum()) + (len(thought._tried) > 0)
        before, thought.restart = thought.input_ids, False
        row = thought.after(rng.dirichlet(np.ones(11), 81), 0.0, halts=False)
        if row is not None:
            break
    assert row.attempts == 3 and 1 <= most <= MOST_PINS
    assert not any(each.accepted for each in row.tried) and row.segments == row.tried[-1].segments == segment + 1


def test_a_guess_that_failed_is_drawn_less_often():
    """Four open cells, two of which may hold two digits alike: a first guess that failed comes again less often."""
    question = ANSWER_IDS.copy()
    question[[0, 1, 9, 10]] = 1
    probabilities = np.full((81, 11), 1e-9)
    probabilities[np.arange(81), ANSWER_IDS] = 0.9
    again = 0
    for seed in range(400):
        thought = Thought(Attempts(SUDOKU_9, 3, "guess", seed=seed), question, max_segments=1)
        pins = []
        for _ in range(2):
            thought.after(probabilities[:, ::-1], 0.0, halts=True)  # no answer that the rules accept
            thought._first = probabilities
            pins.append(int(np.flatnonzero(thought.input_ids != question)[0]))
        again += pins[0] == pins[1]
    # 1/4 without trust; with it the failed cell has a quarter of the weight of each other one: 1/13
    assert 15 < again < 50


def test_the_first_answer_that_the_rules_accept_ends_the_work():
    wrong = ANSWER_IDS.copy()
    wrong[2] = wrong[2] % 9 + 2
    for strategy in ("guess", "noise", "segments"):
        thought = Thought(Attempts(SUDOKU_9, 4, strategy), QUESTION_IDS, max_segments=2)
        assert thought.after(sure_of(wrong, 11), 5.0, halts=False) is None
        assert thought.after(sure_of(wrong, 11), 5.0, halts=False) is None  # the end of the first attempt
        row = thought.after(sure_of(ANSWER_IDS, 11), -5.0, halts=False)
        np.testing.assert_array_equal(row.sequence, ANSWER_IDS)
        assert (row.attempts, row.segments, row.q_halt_logit) == (2, 3, -5.0)
        assert [each.accepted for each in row.tried] == [False, True]
    thought = Thought(Attempts(SUDOKU_9, 1, select="rules"), QUESTION_IDS, max_segments=5)
    assert thought.after(sure_of(wrong, 11), 5.0, halts=True).attempts == 1


def test_which_answer_counts():
    def tried(value, logit, halted=False, accepted=False):
        return Tried(np.array([value]), logit, halted, accepted, 0)

    all_tried = [
        tried(1, 0.5),
        tried(2, 3.0),
        tried(3, 0.1, halted=True),
        tried(1, 0.2),
        tried(4, -1.0, accepted=True),
    ]
    assert Attempts(SUDOKU_4, 5, select="rules").choose(all_tried).sequence == [4]
    for select, want in {"rules": 2, "confidence": 2, "vote": 1, "first_halt": 3}.items():
        assert Attempts(SUDOKU_4, 5, select=select).choose(all_tried[:4]).sequence == [want]
    assert Attempts(SUDOKU_4, 5, select="first_halt").choose(all_tried[:2]).sequence == [2]
    assert Attempts(SUDOKU_4, 5, select="rules").choose(all_tried[:4]).sequence == [2]
    even = [tried(1, 0.0), tried(2, 1.0)]
    assert Attempts(SUDOKU_4, 5, select="vote").choose(even).sequence == [2]  # of equal votes the surer one


@pytest.mark.parametrize("strategy", ["guess", "symmetry", "noise", "segments"])
@pytest.mark.parametrize("select", ["rules", "vote"])
def test_an_answer_depends_on_no_other_puzzle(strategy, select):
    asked = dict(num_attempts=5, strategy=strategy, select=select, seed=11, return_steps=True)
    together = [plain(row) for row in solve(PUZZLES, 6, **asked)]
    assert together == [plain(row) for row in solve(PUZZLES, 2, **asked)]
    assert together == [plain(solve([puzzle], 1, **asked)[0]) for puzzle in PUZZLES]
    assert together[::-1] == [plain(row) for row in solve(PUZZLES[::-1], 4, **asked)]
    assert any(row[3] > 1 for row in together)


@pytest.mark.parametrize("strategy", ["guess", "symmetry", "noise", "segments"])
def test_the_slots_ask_what_a_plain_loop_asks(strategy):
    """Each puzzle alone, one forward call per segment on the whole input, its carry taken along by hand."""
    asked = dict(num_attempts=4, strategy=strategy, select="rules", seed=2)
    for puzzle, row in zip(PUZZLES, solve(PUZZLES, 4, **asked), strict=True):
        ids = SUDOKU_4.encode(puzzle)
        thought, carry, answer = Thought(Attempts(SUDOKU_4, **asked), ids, MODEL.config.halt_max_steps), None, None
        while answer is None:
            if thought.restart:
                carry = type(MODEL.initial_carry(1))(*thought.start(MODEL.initial_carry(1)))
            thought.restart = False
            with torch.no_grad():
                out = MODEL(torch.from_numpy(thought.input_ids)[None], carry=carry)
            carry = out.carry
            halts = bool(out.q_halt_logits[0] > 0)
            answer = thought.after(out.logits[0].double().softmax(-1).numpy(), out.q_halt_logits[0].item(), halts)
        assert answer.attempts == row.attempts and answer.segments == row.segments
        for own, other in zip(answer.tried, row.tried, strict=True):
            np.testing.assert_array_equal(own.sequence, other.sequence)
            assert own.q_halt_logit == pytest.approx(other.q_halt_logit, abs=1e-4)


@pytest.mark.parametrize("strategy", ["guess", "symmetry", "noise"])
def test_another_seed_draws_otherwise_and_the_first_attempt_is_the_plain_question(strategy):
    asked = dict(num_attempts=3, strategy=strategy, select="confidence", return_steps=True)
    rows, others = (solve(PUZZLES, seed=seed, **asked) for seed in (0, 1))
    assert [plain(row) for row in rows] != [plain(row) for row in others]
    inputs = torch.from_numpy(np.stack([SUDOKU_4.encode(puzzle) for puzzle in PUZZLES]))
    alone = MODEL.solve(inputs)
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(row.tried[0].sequence, alone.sequences[place])
        assert (
            row.tried[0].segments == alone.segments[place] and row.tried[0].q_halt_logit == alone.q_halt_logits[place]
        )


def test_further_segments_go_on_where_the_attempt_before_stood():
    asked = dict(num_attempts=3, strategy="segments", select="confidence")
    rows = solve(PUZZLES, how={"max_segments": 2, "halt": False}, **asked)
    inputs = torch.from_numpy(np.stack([SUDOKU_4.encode(puzzle) for puzzle in PUZZLES]))
    for number in range(3):
        longer = MODEL.solve(inputs, max_segments=2 * number + 2, halt=False)
        for place, row in enumerate(rows):
            np.testing.assert_array_equal(row.tried[number].sequence, longer.sequences[place])
            assert row.tried[number].segments == 2 * number + 2


@pytest.mark.parametrize(
    ("processor", "asked", "message"),
    [
        (SUDOKU_4, dict(num_attempts=0), "num_attempts is 0; allowed: integers from 1 to 1024"),
        (SUDOKU_4, dict(num_attempts=MAX_ATTEMPTS + 1), "num_attempts is 1025; allowed: integers from 1 to 1024"),
        (SUDOKU_4, dict(num_attempts=True), "num_attempts is True"),
        (
            SUDOKU_4,
            dict(strategy="luck"),
            "strategy is 'luck'; allowed: 'auto', 'guess', 'symmetry', 'noise', 'segments'",
        ),
        (
            SUDOKU_4,
            dict(select=["vote"]),
            r"select is \['vote'\]; allowed: 'rules', 'confidence', 'vote', 'first_halt'",
        ),
        (SUDOKU_4, dict(seed=-1), "seed is -1; allowed: integers from 0 to 4294967295"),
        (
            MAZE,
            dict(strategy="guess"),
            "strategy is 'guess', which 'maze' does not offer; allowed: 'symmetry', ",
        ),
        (ARC, dict(strategy="symmetry"), "'arc' does not offer; allowed: 'noise', 'segments'"),
        (
            ARC,
            dict(select="rules"),
            "select is 'rules', but 'arc' has no rules to check; allowed: \\('confidence'",
        ),
    ],
)
def test_what_a_game_cannot_offer_is_refused(processor, asked, message):
    with pytest.raises(ArgumentError, match=message):
        Attempts(processor, **asked)


def test_the_views_of_a_maze_are_asked_once_each():
    """There are 8: after them no attempt is left, however many were allowed."""
    model = perturbed(tiny_model(seq_len=9))
    (row,) = solve(["S## #   G"], processor=MAZE, model=model, num_attempts=50, strategy="symmetry", select="vote")
    assert row.attempts == 8
    (row,) = solve(["S       G"], processor=MAZE, model=model, num_attempts=50, strategy="symmetry", select="vote")
    assert row.attempts == 4  # transposed it is itself, and turned it is another


def test_the_first_halt_ends_the_work():
    for strategy in ("guess", "segments"):
        thought = Thought(Attempts(SUDOKU_9, 9, strategy, "first_halt"), QUESTION_IDS, max_segments=2)
        wrong = sure_of(np.roll(ANSWER_IDS, 1), 11)
        assert [thought.after(wrong, 1.0, halts=False) for _ in range(2)] == [None, None]
        row = thought.after(wrong, -3.0, halts=True)
        assert (row.attempts, row.segments, row.q_halt_logit) == (2, 3, -3.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attempts_in_a_stream_are_those_of_a_list_in_either_dtype(dtype):
    solver = pipeline("puzzle-solving", model=MODEL, processor=SUDOKU_4, compute_dtype=dtype, num_attempts=3)
    alone = [solver(puzzle) for puzzle in PUZZLES]
    assert solver(PUZZLES) == alone and list(solver(iter(PUZZLES), batch_size=2)) == alone


def test_attempts_of_another_model_or_of_no_kind_are_refused():
    rows = [(SUDOKU_4.encode(PUZZLES[0]), 0)]
    with pytest.raises(CheckpointError, match="the model reads 16 cells"):
        list(MODEL.solve_queue(rows, 1, attempts=Attempts(SUDOKU_9, 2)))
    with pytest.raises(ArgumentError, match=r"attempts is 4; allowed: an Attempts\(processor, ...\), None"):
        list(MODEL.solve_queue(rows, 1, attempts=4))


def test_a_codec_without_blanks_cannot_guess(monkeypatch):
    own = replace(CODECS["sudoku"], blank_id=None)
    monkeypatch.setitem(CODECS, "sudoku", own)
    assert Attempts(SUDOKU_4, 2).strategy == "symmetry"
    monkeypatch.setitem(CODECS, "sudoku", replace(own, symmetry=None, is_solution=None))
    assert (Attempts(SUDOKU_4, 2).strategy, Attempts(SUDOKU_4, 2).select) == ("noise", "vote")


def test_auto_takes_what_the_game_offers():
    found = [(Attempts(each, 2).strategy, Attempts(each, 2).select) for each in (SUDOKU_4, MAZE, ARC)]
    assert found == [("guess", "rules"), ("symmetry", "rules"), ("noise", "vote")]


def test_the_pipeline_tells_attempts_and_steps():
    solver = pipeline("puzzle-solving", model=MODEL, processor=SUDOKU_4, num_attempts=4)
    result = solver(PUZZLES[0], seed=5, return_steps=True)
    (row,) = solve(PUZZLES[:1], num_attempts=4, seed=5, return_steps=True)
    assert set(result) == {"solution", "segments", "confidence", "valid", "attempts", "steps"}
    assert (result["segments"], result["attempts"], len(result["steps"])) == (row.segments, row.attempts, row.segments)
    before = np.array([int(cell) for cell in PUZZLES[0].replace(".", "0")]).reshape(4, 4)
    for step, own in zip(result["steps"], row.steps, strict=True):
        now = np.array([int(cell) for cell in step["solution"].replace(".", "0")]).reshape(4, 4)
        assert step["changed"] == np.argwhere(now != before).tolist()
        assert step["pinned"] == [[cell // 4, cell % 4] for cell in own.pinned]
        np.testing.assert_array_equal(np.ravel(step["cell_confidence"]), own.cell_confidence)
        assert (step["attempt"], step["segment"]) == (own.attempt, own.segment)
        before = now
    assert "steps" not in solver(PUZZLES[0]) and solver(PUZZLES[3], num_attempts=1)["attempts"] == 1
    for asked, message in {
        ("num_attempts", "many"): "num_attempts is 'many'",
        ("return_steps", 1): "return_steps is 1; allowed: True, False",
        ("strategy", "luck"): "strategy is 'luck'",
    }.items():
        with pytest.raises(ArgumentError, match=message):
            solver(PUZZLES[0], **dict([asked]))
    with pytest.raises(ArgumentError, match="select says how to ask again: give num_attempts too"):
        pipeline("puzzle-solving", model=MODEL, processor=SUDOKU_4)(PUZZLES[0], select="vote")


@pytest.mark.parametrize("token_loss", ["stablemax", "softmax"])
def test_steps_tell_the_probabilities_that_the_model_was_trained_with(token_loss):
    model = perturbed(tiny_model(token_loss=token_loss))
    (row,) = solve(PUZZLES[:1], model=model, how={"max_segments": 1}, num_attempts=1, return_steps=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(SUDOKU_4.encode(PUZZLES[0]))[None]).logits.double()[0]
    s = torch.where(logits < 0, 1 / (1 - logits), logits + 1) if token_loss == "stablemax" else logits.exp()
    want = (s / s.sum(-1, keepdim=True)).amax(-1)
    np.testing.assert_allclose(row.steps[0].cell_confidence, want.numpy(), rtol=1e-5)


def test_steps_alone_change_no_answer():
    solver = pipeline("puzzle-solving", model=MODEL, processor=SUDOKU_4)
    for puzzle in PUZZLES:
        result = solver(puzzle, return_steps=True)
        steps = result.pop("steps")
        assert len(steps) == result["segments"] and steps[-1]["solution"] == result["solution"]
        assert result == solver(puzzle) | {"attempts": 1}


def test_steps_of_an_arc_grid_have_its_shape_and_a_whole_task_is_not_asked_again():
    config = HrmConfig(**TINY | dict(vocab_size=12, seq_len=9, num_puzzle_identifiers=2, puzzle_emb_ndim=32))
    torch.manual_seed(0)
    names = HrmProcessor(task="arc", grid_shape=(3, 3), puzzle_identifiers=PuzzleIdentifiers(["<blank>", "task"]))
    solver = pipeline("puzzle-solving", model=HrmForPuzzleSolving(config), processor=names)
    result = solver({"puzzle": [[1, 2], [3, 4]], "puzzle_identifier": "task"}, num_attempts=2, return_steps=True)
    assert result["attempts"] == 2 and result["valid"] is None
    for step in result["steps"]:
        assert np.shape(step["cell_confidence"])[:1] == np.shape(step["solution"])[:1]
    with pytest.raises(
        ArgumentError, match="num_attempts is for single grids; a whole ARC task is asked under its variants"
    ):
        solver({"task": {"test": [{"input": [[1]]}]}, "name": "task"}, num_attempts=2)
