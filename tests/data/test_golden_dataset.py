"""The recorded data set of the published code: its evaluation batches value by value, its training batches by their
properties (the published code draws from other generators).
"""

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays

from hrm_hf.data import PuzzleSetInfo, PuzzleWriter, load_puzzles, training_batches

GOLDEN = golden_arrays(paths.GOLDEN / "G" / "puzzle_dataset.npz")
GLOBAL_BATCH, EPOCHS_PER_PASS, SEED = 4, 2, 41
STARTS = GOLDEN["source.group_indices"]
IDENTIFIERS = GOLDEN["source.puzzle_identifiers"]  # every puzzle of the recorded set has one example and its own
GROUP_OF = dict(zip(IDENTIFIERS.tolist(), np.repeat(np.arange(len(STARTS) - 1), np.diff(STARTS)).tolist()))
NAMES = {"inputs": "input_ids", "labels": "labels", "puzzle_identifiers": "puzzle_identifiers"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The recorded rows as a puzzle file: a puzzle_id for each group, its puzzles as variants."""
    assert (np.diff(GOLDEN["source.puzzle_indices"]) == 1).all()
    info = PuzzleSetInfo(
        task="recorded",
        split="train",
        vocab_size=6,
        vocabulary=tuple("012345"),
        grid_shape=(1, 3),
        num_aug=0,
        seed=0,
        num_puzzle_identifiers=15,
    )
    cells = np.stack([GOLDEN["source.inputs"], GOLDEN["source.labels"]], axis=1)
    path = tmp_path_factory.mktemp("recorded") / "train.h5"
    with PuzzleWriter(path, info) as writer:
        for group, (start, stop) in enumerate(zip(STARTS[:-1], STARTS[1:])):
            identifiers = IDENTIFIERS[start:stop]
            names = np.array([f"puzzle{identifier}" for identifier in identifiers], dtype="S")
            writer.add_puzzle(
                f"{group}", [cells[start:stop]], "variants", {}, {"identifier": identifiers, "name": names}
            )
    return path


def recorded(split, world_size, rank, pass_index):
    """The recorded batches of one pass, under this package's names."""
    prefix, batches = f"{split}.world{world_size}.rank{rank}.pass{pass_index}.batch", []
    while f"{prefix}{len(batches)}.inputs" in GOLDEN:
        batches.append({ours: GOLDEN[f"{prefix}{len(batches)}.{theirs}"] for theirs, ours in NAMES.items()})
    return batches


@pytest.mark.parametrize(("world_size", "rank"), [(1, 0), (2, 0), (2, 1)])
@pytest.mark.parametrize("pass_index", [0, 1])
def test_evaluation_batches_are_the_recorded_ones(path, world_size, rank, pass_index):
    puzzles, part = load_puzzles(path), GLOBAL_BATCH // world_size
    expected = recorded("test", world_size, rank, pass_index)
    assert len(expected) == -(-len(puzzles) // GLOBAL_BATCH)
    for number, batch in enumerate(expected):
        rows = puzzles[number * GLOBAL_BATCH : (number + 1) * GLOBAL_BATCH]
        missing = GLOBAL_BATCH - len(rows["row"])
        for name, filler in (("input_ids", 0), ("labels", -100), ("puzzle_identifiers", 0)):
            padding = np.full((missing, *rows[name].shape[1:]), filler)
            ours = np.concatenate([rows[name], padding])[rank * part : (rank + 1) * part]
            np.testing.assert_array_equal(ours, batch[name])


def global_batches(batches_of_ranks):
    """Batches of every rank -> [(identifiers, inputs, labels) of each global batch]."""
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in NAMES.values()}
        for parts in zip(*batches_of_ranks, strict=True)
    ]


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("pass_index", [0, 1])
def test_training_batches_share_the_properties_of_the_recorded_ones(path, world_size, pass_index):
    loaders = [
        training_batches(path, GLOBAL_BATCH, SEED, rank, world_size, EPOCHS_PER_PASS) for rank in range(world_size)
    ]
    for loader in loaders:
        loader.set_epoch(pass_index)
    ours = global_batches(loaders)
    published = global_batches([recorded("train", world_size, rank, pass_index) for rank in range(world_size)])
    puzzles = load_puzzles(path)[:]
    row_of = {identifier: row for row, identifier in enumerate(puzzles["puzzle_identifiers"].tolist())}
    for batches in (ours, published):
        # 2 epochs of 7 groups are 14 rows: 3 whole batches, the last 2 rows are dropped.
        assert [len(batch["input_ids"]) for batch in batches] == [GLOBAL_BATCH] * 3
        identifiers = np.concatenate([batch["puzzle_identifiers"] for batch in batches]).tolist()
        groups = [GROUP_OF[identifier] for identifier in identifiers]
        assert sorted(groups[:7]) == list(range(7))  # an epoch visits every group once
        assert len(set(groups[7:])) == 5
        rows = [row_of[identifier] for identifier in identifiers]
        for name in ("input_ids", "labels"):
            np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), puzzles[name][rows])


def test_the_sequence_of_global_batches_does_not_depend_on_the_number_of_processes(path):
    for load in (
        lambda world, rank: recorded("train", world, rank, 1),
        lambda world, rank: training_batches(path, GLOBAL_BATCH, SEED, rank, world, EPOCHS_PER_PASS),
    ):
        one, two = (global_batches([load(world, rank) for rank in range(world)]) for world in (1, 2))
        assert len(one) == len(two) == 3
        for batch, other in zip(one, two, strict=True):
            for name in batch:
                np.testing.assert_array_equal(batch[name], other[name])


def test_every_variant_is_drawn_in_time(path):
    batches = training_batches(path, 7, SEED, epochs_per_pass=60)  # a batch is an epoch
    drawn = set(np.concatenate([batch["puzzle_identifiers"] for batch in batches]).tolist())
    assert drawn == set(IDENTIFIERS.tolist())
