"""The queue of puzzles: the answers of the plain loop, whatever the batch size, order and company, bit for bit."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TINY_RECURSIVE, perturbed, plain_solve, some_inputs, tiny_model

from hrm_hf import ArgumentError, HrmForPuzzleSolving, PuzzleError
from hrm_hf.hrm.configuration_hrm import COMPUTE_DTYPES
from hrm_hf.hrm.solving import PuzzleSlots, solve_queue
from hrm_hf.training import HrmModelArguments

NUM_ROWS = 24
INPUTS = some_inputs(NUM_ROWS, 4)
IDENTIFIERS = torch.arange(NUM_ROWS) % 4
MAX_SEGMENTS = 6


def restless_model(**changes):
    """Away from its start, so that puzzles halt after different numbers of segments."""
    return perturbed(tiny_model(**{"num_puzzle_identifiers": 4, "hidden_size": 48} | changes), seed=5)


MODELS = {
    (attention, positions): restless_model(attn_implementation=attention, pos_encodings=positions)
    for attention, positions in (("sdpa", "rope"), ("sdpa", "learned"), ("eager", "rope"))
}
MODELS["mlp", "none"] = restless_model(**TINY_RECURSIVE)
MODEL = MODELS["sdpa", "rope"]


def queue_answers(model, rows, batch_size, **how):
    """(sequences, segments, q_halt_logits) of these rows, in their order."""
    queue = [(INPUTS[row].numpy(), int(IDENTIFIERS[row])) for row in rows]
    solved = list(solve_queue(model, queue, batch_size, **{"max_segments": MAX_SEGMENTS} | how))
    return tuple(np.array(values) for values in zip(*(row[:3] for row in solved), strict=True))


@pytest.fixture(scope="module")
def alone():
    """Every row solved alone, by model and dtype."""
    found = {}

    def answers(name, dtype="float32"):
        if (name, dtype) not in found:
            parts = [queue_answers(MODELS[name], [row], 1, compute_dtype=dtype) for row in range(NUM_ROWS)]
            found[name, dtype] = tuple(map(np.concatenate, zip(*parts, strict=True)))
        return found[name, dtype]

    return answers


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@settings(max_examples=6)
@given(rows=st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, max_size=40), batch_size=st.integers(1, 45))
def test_a_puzzle_is_answered_the_same_in_any_batch_order_and_company(alone, name, dtype, rows, batch_size):
    want = alone(name, dtype)
    got = queue_answers(MODELS[name], rows, batch_size, compute_dtype=dtype)
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, theirs[rows])


def test_the_answers_are_those_of_the_plain_loop(alone):
    segments = alone(("sdpa", "rope"))[1]
    assert len(set(segments.tolist())) >= 3 and segments.max() == MAX_SEGMENTS  # else the tests here show little
    model = restless_model(num_puzzle_identifiers=1)  # the plain loop asks about identifier 0
    queue = [(row.numpy(), 0) for row in INPUTS]
    for halt in (True, False):
        want = plain_solve(model, INPUTS, MAX_SEGMENTS, halt)
        got = list(solve_queue(model, queue, 7, MAX_SEGMENTS, halt))
        for mine, (sequence, spent, q_halt_logit) in zip(got, want, strict=True):
            assert mine.segments == spent and mine.sequence.tolist() == sequence.tolist()
            assert mine.q_halt_logit == pytest.approx(q_halt_logit.item(), abs=1e-5)


def test_a_puzzle_halts_by_the_rule_of_its_model(alone):
    """Of every q_halt there is one of the plain run by segments: halt-only stops at the first above 0."""
    by_q_halt = restless_model(halting="halt_only")
    q_halt, carry = [], None
    with torch.no_grad():
        for _ in range(MAX_SEGMENTS):
            out = by_q_halt(INPUTS, IDENTIFIERS, carry=carry)
            carry = out.carry
            q_halt.append(out.q_halt_logits)
    above = torch.stack(q_halt) > 0  # (segments, N)
    above[-1] = True
    _, segments, _ = queue_answers(by_q_halt, range(NUM_ROWS), 7)
    assert segments.tolist() == (above.int().argmax(0) + 1).tolist()
    assert segments.tolist() != alone(("sdpa", "rope"))[1].tolist()


def test_solve_gives_what_the_queue_gives(alone):
    want = alone(("sdpa", "rope"))
    out = MODEL.solve(INPUTS, IDENTIFIERS, max_segments=MAX_SEGMENTS)
    for mine, theirs in zip((out.sequences, out.segments, out.q_halt_logits), want, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)


class CountedRows:
    """Counts what the model is asked for: rows through the core, positions through the two heads, rows embedded."""

    def __init__(self, monkeypatch, model):
        self.segments, self.embedded, self.cells, self.q_values = [], 0, [], []
        model.lm_head.register_forward_hook(lambda head, asked, _: self.cells.append(asked[0].shape[:-1]))
        model.q_head.register_forward_hook(lambda head, asked, _: self.q_values.append(len(asked[0])))
        core, embed = model.model.forward, model.model.embed

        def forward(*args, inputs_embeds, **kwargs):
            self.segments.append(len(inputs_embeds))
            return core(*args, inputs_embeds=inputs_embeds, **kwargs)

        def counted_embed(input_ids, *args):
            self.embedded += len(input_ids)
            return embed(input_ids, *args)

        monkeypatch.setattr(model.model, "forward", forward)
        monkeypatch.setattr(model.model, "embed", counted_embed)


@pytest.mark.parametrize("batch_size", [1, 5, NUM_ROWS])
def test_no_segment_is_spent_on_a_solved_puzzle(monkeypatch, batch_size):
    model = restless_model()
    asked = CountedRows(monkeypatch, model)
    _, segments, _ = queue_answers(model, range(NUM_ROWS), batch_size)
    assert sum(asked.segments) == segments.sum() < MAX_SEGMENTS * NUM_ROWS
    assert asked.embedded == NUM_ROWS
    waiting_until_the_end = asked.segments[:-MAX_SEGMENTS]
    assert set(waiting_until_the_end) <= {batch_size}  # slots are full as long as there is a queue


def test_without_halting_the_batches_are_whole(monkeypatch):
    model = restless_model()
    asked = CountedRows(monkeypatch, model)
    _, segments, _ = queue_answers(model, range(NUM_ROWS), 10, halt=False)
    assert asked.segments == [10] * MAX_SEGMENTS + [10] * MAX_SEGMENTS + [4] * MAX_SEGMENTS
    assert set(segments.tolist()) == {MAX_SEGMENTS}
    assert asked.cells == [(10, 17), (10, 17), (4, 17)]  # no head is asked before the last segment
    assert len(asked.q_values) == 3


def test_no_product_of_few_rows_where_positions_are_enough(monkeypatch):
    """12 positions of 9 cells and 3 prefix vectors: the products keep 12 rows or more even for a puzzle alone."""
    model = restless_model(seq_len=9, puzzle_emb_ndim=3 * 48)
    asked = CountedRows(monkeypatch, model)
    out = model.solve(INPUTS[:1, :9], max_segments=MAX_SEGMENTS)
    assert out.sequences.shape == (1, 9)
    assert asked.cells == [(1, 12)] and min(asked.q_values) >= 12


def test_a_queue_is_read_as_answers_are_taken():
    read = []

    def rows():
        for row in range(NUM_ROWS):
            read.append(row)
            yield INPUTS[row].numpy(), 0

    answers = solve_queue(MODEL, rows(), batch_size=4, max_segments=1)
    assert read == []
    next(answers)
    assert read == [0, 1, 2, 3]
    assert len(list(answers)) == NUM_ROWS - 1
    assert list(solve_queue(MODEL, [], batch_size=4)) == []


def test_slots_take_puzzles_at_any_time():
    slots = PuzzleSlots(MODEL, MAX_SEGMENTS, halt=True, compute_dtype=None)
    slots.add([10], INPUTS[:1], IDENTIFIERS[:1])
    slots.add([20, 30], INPUTS[1:3], IDENTIFIERS[1:3])
    found = {}
    while len(slots) > 0:
        done = slots.run_segment()
        if done is None:
            continue
        found |= zip(done.keys.tolist(), done.sequences.tolist(), strict=True)
        if len(found) < 5:  # more than there is room for
            slots.add([40, 50], INPUTS[3:5], IDENTIFIERS[3:5])
    want = MODEL.solve(INPUTS[:5], IDENTIFIERS[:5], max_segments=MAX_SEGMENTS)
    assert found == dict(zip((10, 20, 30, 40, 50), want.sequences.tolist(), strict=True))


def test_bfloat16_gives_equal_solutions_where_the_answer_is_clear():
    """A model trained for a moment on an easy task: to answer with the digits of the question."""
    model = restless_model()
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
    model.model.puzzle_embeddings.requires_grad_(False)  # its gradient is sparse
    model.q_head.requires_grad_(False)  # its random values halt the rows at different segments
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(5):
        carry = None
        for _ in range(MAX_SEGMENTS):
            out = model(INPUTS, IDENTIFIERS, carry=carry)
            carry = out.carry
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), INPUTS.flatten()).backward()
            optimizer.step()
    exact, coarse = (queue_answers(model, range(NUM_ROWS), 8, compute_dtype=name) for name in ("float32", "bfloat16"))
    np.testing.assert_array_equal(exact[0], INPUTS)
    np.testing.assert_array_equal(coarse[0], exact[0])
    assert len(set(exact[1].tolist())) > 1
    assert not np.array_equal(exact[2], coarse[2])  # it was bfloat16


def test_the_dtype_asked_for_is_that_of_a_model_with_it_in_its_config():
    changed = restless_model(compute_dtype="bfloat16")
    for mine, theirs in ((MODEL, changed), (changed, MODEL)):
        asked = queue_answers(mine, range(NUM_ROWS), 8, compute_dtype=theirs.config.compute_dtype)
        for got, want in zip(asked, queue_answers(theirs, range(NUM_ROWS), 8), strict=True):
            np.testing.assert_array_equal(got, want)
    assert (MODEL.config.compute_dtype, changed.config.compute_dtype) == ("float32", "bfloat16")


class OtherHeads(HrmForPuzzleSolving):
    """Reads the states in its own way: other cells, and the values of halting the wrong way round."""

    def cell_logits(self, hidden):
        return -super().cell_logits(hidden)

    def q_logits(self, first_state):
        return super().q_logits(first_state)[::-1]


def subclassed(model):
    other = OtherHeads(model.config).eval()
    other.load_state_dict(model.state_dict())
    return other


def hooked(model):
    model.lm_head.register_forward_hook(lambda head, _, logits: -logits)
    model.q_head.register_forward_hook(lambda head, _, values: values.flip(-1))
    return model


class Negated(torch.nn.Module):
    def __init__(self, head, flipped):
        super().__init__()
        self.head, self.flipped = head, flipped

    def forward(self, states):
        return self.head(states).flip(-1) if self.flipped else -self.head(states)


def wrapped(model):
    """Heads that have no weight of their own, as those of an adapter or a quantised model."""
    model.lm_head, model.q_head = Negated(model.lm_head, False), Negated(model.q_head, True)
    return model


@pytest.mark.parametrize("change", [subclassed, hooked, wrapped])
def test_solving_reads_the_heads_that_forward_reads(change):
    model = change(restless_model(num_puzzle_identifiers=1))
    want = plain_solve(model, INPUTS, MAX_SEGMENTS, True)
    unchanged = restless_model(num_puzzle_identifiers=1).solve(INPUTS, max_segments=MAX_SEGMENTS)
    assert unchanged.segments.tolist() != [spent for _, spent, _ in want]
    out = model.solve(INPUTS, max_segments=MAX_SEGMENTS)
    queue = list(solve_queue(model, [(row.numpy(), 0) for row in INPUTS], 7, MAX_SEGMENTS))
    for row, (sequence, spent, q_halt_logit) in enumerate(want):
        assert out.sequences[row].tolist() == queue[row].sequence.tolist() == sequence.tolist()
        assert out.segments[row] == queue[row].segments == spent
        assert queue[row].q_halt_logit == pytest.approx(q_halt_logit.item(), abs=1e-5)


GOOD = [(row.numpy(), 0) for row in INPUTS]
REFUSED = {
    "code": ((np.full(16, 6), 0), "input_ids holds 6, which is outside the vocabulary: allowed are 0 to 5"),
    "length": ((np.ones(15, dtype=int), 0), r"input_ids has shape \(1, 15\); expected \(batch, 16\)"),
    "dtype": ((np.ones(16), 0), "input_ids has dtype torch.float64; expected integers"),
    "bool cells": ((np.ones(16, dtype=bool), 0), "input_ids has dtype torch.bool; expected integers"),
    "ragged": (([1, [2]], 0), r"it is \(\[1, a list\], 0\); expected \(input_ids, puzzle identifier\)"),
    "no pair": (7, r"it is 7; expected \(input_ids, puzzle identifier\)"),
    "identifier": ((GOOD[0][0], 4), "puzzle_identifiers holds 4, which is outside the puzzle table"),
    "no identifier": ((GOOD[0][0], None), r"it is \(a ndarray, None\); expected \(input_ids, puzzle identifier\)"),
    "bool": ((GOOD[0][0], True), "puzzle_identifiers has dtype torch.bool; expected integers"),
    "huge": ((GOOD[0][0], 2**63), r"it is \(a ndarray, 9223372036854775808\); expected \(input_ids"),
}


def answers_and_error(rows, batch_size, **how):
    found = []
    try:
        for row in solve_queue(MODEL, rows, batch_size, MAX_SEGMENTS, **how):
            found.append((row.sequence.tolist(), row.segments, row.q_halt_logit))
    except Exception as error:
        return found, error
    return found, None


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_row_is_named_after_the_answers_to_all_before_it(case):
    bad, named = REFUSED[case]
    want, error = answers_and_error(GOOD[:9], 8)
    assert error is None
    for batch_size in (1, 8, NUM_ROWS):
        found, error = answers_and_error([*GOOD[:9], bad, *GOOD[10:]], batch_size)
        assert found == want
        with pytest.raises(PuzzleError, match=f"^row 9 of the queue: {named}"):
            raise error


def test_rows_of_several_dtypes_share_a_refill():
    kinds = (np.uint8, np.int64, np.uint64, np.int32)
    queue = [(GOOD[row][0].astype(kinds[row % 4]), (0, np.int16(0))[row % 2]) for row in range(NUM_ROWS)]
    assert answers_and_error(queue, NUM_ROWS) == answers_and_error(GOOD, NUM_ROWS)


@pytest.mark.parametrize("batch_size", [1, 4, NUM_ROWS])
def test_a_queue_that_breaks_gives_the_answers_to_what_it_gave(batch_size):
    asked = []

    def rows():
        yield from GOOD[:6]
        asked.append(True)
        raise OSError("the disk is gone")

    found, error = answers_and_error(rows(), batch_size)
    assert found == answers_and_error(GOOD[:6], batch_size)[0]
    assert str(error) == "the disk is gone" and asked == [True]


def test_rows_that_cannot_be_added_lose_none_at_work(monkeypatch):
    model = restless_model(num_puzzle_identifiers=1)
    embed, added = model.model.embed, []

    def full_memory(input_ids, *args):
        added.append(len(input_ids))
        if len(added) == 3:
            raise MemoryError
        return embed(input_ids, *args)

    monkeypatch.setattr(model.model, "embed", full_memory)
    solved, found = solve_queue(model, GOOD, 4, MAX_SEGMENTS), []
    with pytest.raises(MemoryError):
        for row in solved:
            found.append(row)
    assert len(found) == sum(added[:2]) and len(added) == 3
    assert [row.segments for row in found] == model.solve(INPUTS, max_segments=MAX_SEGMENTS).segments.tolist()[
        : len(found)
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.uint64])
def test_cells_of_every_integer_dtype(dtype):
    queue = [(cells.astype(dtype), np.int32(0)) for cells, _ in GOOD[:3]]
    assert answers_and_error(queue, 2) == answers_and_error(GOOD[:3], 2)
    if dtype == np.uint16:
        assert MODEL.solve(INPUTS.to(torch.uint16)).sequences.tolist() == MODEL.solve(INPUTS).sequences.tolist()
        with pytest.raises(PuzzleError, match="input_ids has dtype torch.complex64; expected integers"):
            MODEL.solve(INPUTS.to(torch.complex64))


def test_refuses_what_is_not_allowed():
    with pytest.raises(ArgumentError, match="compute_dtype is 'float16'; allowed: 'float32', 'bfloat16'"):
        MODEL.solve(INPUTS, compute_dtype="float16")
    for odd in (["float32"], np.array(["float32", "float32"])):
        with pytest.raises(ArgumentError, match="compute_dtype is a|compute_dtype is \\['float32'\\]"):
            MODEL.solve(INPUTS, compute_dtype=odd)
    for odd, named in ((0, "0"), (-1, "-1"), (2.5, "2.5"), (3.0, "3.0"), ("2", "'2'"), (True, "True")):
        with pytest.raises(ArgumentError, match=f"batch_size is {named}; allowed: integers from 1 to"):
            solve_queue(MODEL, [], batch_size=odd)
        for halt in (True, False):
            with pytest.raises(ArgumentError, match=f"max_segments is {named}; allowed: integers from 1 to"):
                MODEL.solve(INPUTS, max_segments=odd, halt=halt)
    with pytest.raises(ArgumentError, match="batch_size is None"):
        solve_queue(MODEL, [], batch_size=None)


def test_the_dtypes_to_compute_in_stand_in_one_place():
    for name in COMPUTE_DTYPES:
        assert restless_model(compute_dtype=name).solve(INPUTS[:1], compute_dtype=name).sequences.shape == (1, 16)
    assert get_args(get_type_hints(HrmModelArguments)["compute_dtype"]) == (*COMPUTE_DTYPES, "auto")
