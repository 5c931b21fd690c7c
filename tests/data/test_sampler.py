"""The group sampler: the rules of the published code (compared by properties, and with a plain loop), and exact
resumption.
"""

import json
from collections import Counter
from itertools import islice

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays

from hrm_hf.data import GroupSampler
from hrm_hf.hrm.errors import ArgumentError

GOLDEN = paths.GOLDEN / "G" / "puzzle_dataset.npz"
ONES = np.ones(10, dtype=np.int64)
VARIANTS = np.array([1, 3, 2, 5, 1, 4, 2])
EXAMPLES = np.array([2, 1, 4, 3, 1, 5, 2])


def plain_batches(variants, examples, batch_size, seed, epochs):
    """The rules as a plain loop that uses the sampler's random numbers: lists of (group, variant, example, first)."""
    batches, batch = [], []
    for epoch in range(epochs):
        generator = np.random.default_rng([seed, 0, epoch])
        order = generator.permutation(len(variants)).tolist()
        chosen = dict(zip(order, generator.integers(0, variants[order]).tolist(), strict=True))
        while order:
            # The sampler draws one number per example of the groups that it looks at to fill the batch.
            visited = []
            while order and len(batch) + sum(examples[group] for group in visited) < batch_size:
                visited.append(order.pop(0))
            for group in visited:
                keys = generator.random(examples[group])
                shuffled = sorted(range(examples[group]), key=lambda index, keys=keys: keys[index])
                for place, example in enumerate(shuffled):
                    if len(batch) < batch_size:
                        batch.append((group, chosen[group], example, place == 0))
            if len(batch) == batch_size:
                batches.append(batch)
                batch = []
    return batches


@pytest.mark.parametrize("batch_size", [1, 3, 8, 40])
def test_equals_the_plain_loop(batch_size):
    drawn = [
        list(zip(*map(np.ndarray.tolist, draw), strict=True))
        for draw in GroupSampler(VARIANTS, EXAMPLES, batch_size, 5, 4)
    ]
    assert drawn == plain_batches(VARIANTS, EXAMPLES, batch_size, 5, 4)
    assert len(drawn) >= 1


def test_an_epoch_visits_each_group_once_with_all_examples_of_one_variant():
    draw = next(GroupSampler(VARIANTS, EXAMPLES, int(EXAMPLES.sum()), 3, 1))  # one epoch is one batch
    rows = list(zip(*draw, strict=True))
    assert Counter(draw.groups.tolist()) == dict(enumerate(EXAMPLES.tolist()))
    assert len({(group, variant) for group, variant, *_ in rows}) == len(VARIANTS)
    assert len(set(rows)) == len(rows)
    assert sorted(draw.groups[draw.first].tolist()) == list(range(len(VARIANTS)))


def test_the_row_that_opens_a_visit_is_a_random_example():
    variants, examples = np.array([1, 2]), np.array([3, 1])
    opened = Counter()
    for seed in range(900):
        draw = next(GroupSampler(variants, examples, 4, seed, 1))
        assert draw.first.sum() == 2 and draw.first[0]
        opened[int(draw.examples[draw.first & (draw.groups == 0)][0])] += 1
    assert sorted(opened) == [0, 1, 2]
    assert all(abs(count - 300) < 5 * np.sqrt(300) for count in opened.values())


def test_where_groups_have_one_example_every_row_opens_a_visit():
    assert all(draw.first.all() for draw in GroupSampler(ONES * 3, ONES, 4, 0, 2))


def test_variants_examples_and_orders_are_uniform():
    variants, examples = np.array([3, 3]), np.array([2, 2])
    draws = [next(GroupSampler(variants, examples, 4, seed, 1)) for seed in range(3000)]
    first_groups = Counter(int(draw.groups[0]) for draw in draws)
    first_examples = Counter(int(draw.examples[0]) for draw in draws)
    chosen = Counter(int(draw.variants[0]) for draw in draws)
    for counts, classes in ((first_groups, 2), (first_examples, 2), (chosen, 3)):
        expected = 3000 / classes
        assert len(counts) == classes
        assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values())


def test_what_does_not_fit_is_dropped_and_the_next_batch_takes_the_next_group():
    sampler = GroupSampler(np.ones(6, dtype=np.int64), np.full(6, 3), 4, 0, 1)
    first, second, third = sampler
    for draw in (first, second, third):  # 3 examples of one group, 1 of the next, whose other 2 are dropped
        assert sorted(Counter(draw.groups.tolist()).values()) == [1, 3]
    assert len(set(np.concatenate([first.groups, second.groups, third.groups]).tolist())) == 6


def test_batches_cross_epochs_and_the_last_incomplete_one_is_dropped():
    batches = list(GroupSampler(ONES, ONES, 4, 0, epochs_per_pass=3))  # 30 rows
    assert [len(batch.groups) for batch in batches] == [4] * 7
    rows = np.concatenate([batch.groups for batch in batches])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:20].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:20].tolist()


def test_a_batch_may_be_larger_than_an_epoch():
    draw = next(GroupSampler(ONES, ONES, 25, 0))
    assert sorted(Counter(draw.groups.tolist()).values()) == [2] * 5 + [3] * 5


def test_the_published_batches_have_the_same_properties():
    golden = golden_arrays(GOLDEN)
    starts, identifiers = golden["source.group_indices"], golden["source.puzzle_identifiers"]
    group_of = dict(
        zip(identifiers.tolist(), np.repeat(np.arange(len(starts) - 1), np.diff(starts)).tolist(), strict=True)
    )
    sizes = np.diff(starts).astype(np.int64)
    for pass_index in range(2):
        prefix = f"train.world1.rank0.pass{pass_index}."
        names = sorted(n for n in golden if n.startswith(prefix) and n.endswith("puzzle_identifiers"))
        published = [[group_of[identifier] for identifier in golden[name].tolist()] for name in names]
        sampler = GroupSampler(sizes, np.ones_like(sizes), 4, 41, epochs_per_pass=2, pass_index=pass_index)
        ours = [draw.groups.tolist() for draw in sampler]
        assert [len(batch) for batch in ours] == [len(batch) for batch in published]
        for batches in (ours, published):  # the first epoch is whole, the second begins in the same batch
            rows = sum(batches, [])
            assert sorted(rows[:7]) == list(range(7))
            assert len(set(rows[7:])) == len(rows[7:]) == 5


@pytest.mark.parametrize(("variants", "examples"), [(VARIANTS, EXAMPLES), (ONES * 4, ONES), (ONES, ONES)])
@pytest.mark.parametrize("taken", [0, 1, 5, 9])
def test_a_saved_state_continues_exactly(variants, examples, taken):
    sampler = GroupSampler(variants, examples, 6, 1, epochs_per_pass=20)
    list(islice(sampler, taken))
    state = json.loads(json.dumps(sampler.state_dict()))
    rest = list(sampler)
    resumed = GroupSampler(variants, examples, 6, 1, epochs_per_pass=20)
    resumed.load_state_dict(state)
    again = list(resumed)
    assert len(again) == len(rest) > 0
    for one, other in zip(rest, again, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)
    resumed.load_state_dict(sampler.state_dict())  # at the end of the pass
    assert next(resumed, None) is None


def test_draws_of_others_from_the_generator_are_part_of_the_state():
    def batch_and_noise(sampler):
        draw = next(sampler)
        return draw.examples.tolist(), sampler.generator.random()

    sampler = GroupSampler(VARIANTS, EXAMPLES, 3, 1)
    batch_and_noise(sampler)
    state = sampler.state_dict()
    expected = batch_and_noise(sampler)
    resumed = GroupSampler(VARIANTS, EXAMPLES, 3, 1)
    resumed.load_state_dict(state)
    assert batch_and_noise(resumed) == expected


def test_seeds_passes_and_epochs_differ():
    def first(seed, pass_index):
        return tuple(next(GroupSampler(ONES, ONES, 10, seed, 1, pass_index)).groups.tolist())

    assert len({first(seed, pass_index) for seed in range(3) for pass_index in range(3)}) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "seed 1, this data set is sampled with 2"),
        ({"global_batch_size": 5}, "global_batch_size 6"),
        ({"num_variants": ONES[:9], "num_examples": ONES[:9]}, "num_groups 10"),
    ],
)
def test_a_state_of_another_sequence_is_refused(change, message):
    arguments = {"num_variants": ONES, "num_examples": ONES, "global_batch_size": 6, "seed": 1}
    state = GroupSampler(**arguments).state_dict()
    with pytest.raises(ArgumentError, match=message):
        GroupSampler(**(arguments | change)).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_batch_size": 0}, "global_batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"epochs_per_pass": 0}, "epochs_per_pass is 0"),
        ({"epochs_per_pass": 2, "global_batch_size": 21}, "20 examples, fewer than one global batch of 21"),
    ],
)
def test_arguments_that_cannot_work_are_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        GroupSampler(**({"num_variants": ONES, "num_examples": ONES, "global_batch_size": 6, "seed": 1} | change))
