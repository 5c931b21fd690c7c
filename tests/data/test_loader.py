"""The data sets over puzzle files: rows to browse, batches to train on, their slices for ranks, and exact
resumption.
"""

import importlib
import inspect
import json
import os
import pickle
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from tiny_models import tiny_model
from transformers import Trainer, TrainingArguments, default_data_collator

from hrm_hf.data import (
    FileRows,
    GridExample,
    GroupSampler,
    PuzzleFile,
    PuzzleSetInfo,
    PuzzleWriter,
    load_puzzles,
    loader,
    total_steps,
    training_batches,
)
from hrm_hf.hrm.errors import ArgumentError, DataError

SEQ_LEN, VOCAB = 4, 6
ARRAYS = {
    "a": ("variants", np.random.default_rng(0).integers(0, VOCAB, (5, 2, SEQ_LEN), dtype=np.uint8)),
    "b": ("puzzles", np.random.default_rng(1).integers(0, VOCAB, (12, 2, SEQ_LEN), dtype=np.uint8)),
}
ROWS = np.concatenate([cells for _, cells in ARRAYS.values()])  # (17, 2, S)


def write(path, arrays=ARRAYS, overwrite=False):
    info = PuzzleSetInfo(
        task="toy",
        split="train",
        vocab_size=VOCAB,
        vocabulary=tuple("PABCDE"),
        grid_shape=(2, 2),
        num_aug=4,
        seed=0,
    )
    with PuzzleWriter(path, info, overwrite) as writer:
        for puzzle_id, (rows_are, cells) in arrays.items():
            writer.add_puzzle(puzzle_id, [cells], rows_are, {}, {})
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "toy.h5")


def write_grids(path, num_examples):
    """A file of native grids: group g has num_examples[g] examples and 3 variants, with identifiers from 1 on."""
    info = PuzzleSetInfo(
        task="grids",
        split="train",
        vocab_size=VOCAB,
        vocabulary=tuple("PEABCD"),
        grid_shape=(5, 5),
        num_aug=2,
        seed=0,
        num_puzzle_identifiers=1 + 3 * len(num_examples),
        eos_id=1,
    )
    generator = np.random.default_rng(2)
    with PuzzleWriter(path, info) as writer:
        for group, count in enumerate(num_examples):
            shapes = generator.integers(1, 5, (count, 2, 2))
            cells = [generator.integers(2, VOCAB, (3, pair.prod(axis=1).sum()), dtype=np.uint8) for pair in shapes]
            identifiers = np.arange(1 + 3 * group, 4 + 3 * group, dtype=np.int32)
            writer.add_puzzle(
                f"{group:03d}",
                [GridExample(array, *map(tuple, pair)) for array, pair in zip(cells, shapes, strict=True)],
                "variants",
                {},
                {
                    "transform": np.array([0, 1, 4], dtype=np.uint8),
                    "identifier": identifiers,
                    "name": np.array([f"task{identifier}" for identifier in identifiers], dtype="S"),
                },
            )
    return path


def test_training_batches_do_not_show_how_puzzles_are_packed(tmp_path):
    cells = np.random.default_rng(3).integers(0, VOCAB, (30, 2, SEQ_LEN), dtype=np.uint8)
    paths = [write(tmp_path / "single.h5", {f"{n:02d}": ("variants", cells[3 * n : 3 * n + 3]) for n in range(10)})]
    paths.append(tmp_path / "blocks.h5")
    with PuzzleWriter(paths[1], PuzzleFile(paths[0]).info) as writer:
        for start, stop in ((0, 12), (12, 30)):
            block = [cells[start:stop]]
            writer.add_puzzle(f"{start:02d}", block, "puzzles with variants", {"num_variants": 3}, {})
    single, blocks = (training_batches(path, 4, seed=5) for path in paths)
    for _, one, other in zip(range(20), single, blocks, strict=False):
        same(one, other)
    resumed = training_batches(paths[1], 4, seed=5)
    resumed.load_state_dict(single.state_dict())  # a run started on one goes on with the other
    same(next(iter(resumed)), next(islice(iter(training_batches(paths[0], 4, seed=5)), 20, None)))
    same(*(load_puzzles(path)[:] for path in paths))


@pytest.fixture
def grids_path(tmp_path):
    return write_grids(tmp_path / "grids.h5", [4, 1, 3, 2])


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_rows_are_those_of_the_file(path):
    puzzles = load_puzzles(path)
    assert isinstance(puzzles, datasets.Dataset) and len(puzzles) == 17
    row = puzzles[7]
    assert row["input_ids"].dtype == row["labels"].dtype == np.int64
    np.testing.assert_array_equal(row["input_ids"], ROWS[7, 0])
    np.testing.assert_array_equal(row["labels"], np.where(ROWS[7, 1] == 0, -100, ROWS[7, 1].astype(int)))
    assert (row["puzzle_identifiers"], row["row"], row["group"], row["variant"], row["example"]) == (0, 7, 3, 0, 0)
    assert (ROWS[:, 1] == 0).any()


def test_slices_lists_and_selections(path):
    puzzles = load_puzzles(path)
    for batch, rows in (
        (puzzles[2:9], range(2, 9)),
        (puzzles[[16, 0, 3]], [16, 0, 3]),
        (puzzles.select([4, 8])[:], [4, 8]),
        (puzzles.filter(lambda row: row["variant"] == 2)[:], [2]),
    ):
        np.testing.assert_array_equal(batch["input_ids"], ROWS[list(rows), 0])
        assert batch["row"].tolist() == list(rows)
        assert batch["puzzle_identifiers"].shape == (len(rows),)


def test_map_sees_cells_and_its_columns_stay(path):
    mapped = load_puzzles(path).map(lambda row: {"blanks": int((row["input_ids"] == 1).sum())})
    assert mapped[3]["blanks"] == int((ROWS[3, 0] == 1).sum())
    np.testing.assert_array_equal(mapped[3]["input_ids"], ROWS[3, 0])


def test_the_collate_function_of_torch_takes_the_rows(path):
    batch = next(iter(torch.utils.data.DataLoader(load_puzzles(path), batch_size=3)))
    assert batch["labels"].dtype == torch.int64 and batch["labels"].shape == (3, SEQ_LEN)


COLUMNS = ("input_ids", "labels", "puzzle_identifiers")


@pytest.fixture(params=["whole frames", "native grids"])
def either(request):
    return request.getfixturevalue("path" if request.param == "whole frames" else "grids_path")


def read_plainly(path):
    """COLUMNS of all rows, past the data sets."""
    file = PuzzleFile(path)
    places = file.locate_rows(np.arange(file.info.num_rows))
    cells = file.read(*places).astype(np.int64)
    labels = np.where(cells[:, 1] == file.info.ignore_label_id, -100, cells[:, 1])
    return dict(zip(COLUMNS, (cells[:, 0], labels, file.puzzle_identifiers(*places)), strict=True))


def check(values, truth, rows):
    """A batch, or anything that holds COLUMNS, has the values of these rows, all of them integers."""
    for name in COLUMNS:
        column = np.stack([np.asarray(value) for value in values[name]])
        assert column.dtype.kind in "iu", name
        np.testing.assert_array_equal(column, truth[name][rows], err_msg=name)


FORMATS = {"torch": torch.int64, "numpy": np.dtype("int64"), None: None}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_every_column_however_it_is_asked(either, form):
    truth, puzzles = read_plainly(either), load_puzzles(either).with_format(form)
    check(puzzles[2:9], truth, np.arange(2, 9))
    check(puzzles[[9, 0]], truth, [9, 0])
    check(puzzles, truth, slice(None))  # puzzles["input_ids"] and so on
    check({name: [puzzles[4][name]] for name in COLUMNS}, truth, [4])
    check({name: [row[name] for row in puzzles] for name in COLUMNS}, truth, slice(None))
    check(next(puzzles.iter(batch_size=3)), truth, np.arange(3))
    if form:
        for values in (puzzles[4], puzzles[:2], {name: puzzles[name][:] for name in COLUMNS}):
            assert {values[name].dtype for name in COLUMNS} == {FORMATS[form]}
    with_some = puzzles.with_format("torch", columns=["labels"])[:2]
    assert with_some.keys() == {"labels"} and with_some["labels"].dtype == torch.int64


@pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")  # datasets' own, of its `sort`
@pytest.mark.parametrize("form", FORMATS)
def test_every_way_to_choose_rows_keeps_the_columns(either, form):
    truth, puzzles = read_plainly(either), load_puzzles(either)
    split = puzzles.train_test_split(test_size=0.4, seed=0)
    for some in (
        puzzles.select([8, 4, 4]),
        puzzles.select(range(3, 7)),
        puzzles.skip(2).take(3),
        puzzles.shard(num_shards=2, index=1),
        puzzles.shuffle(seed=1),
        puzzles.filter(lambda row: row["input_ids"][0] < 4),
        puzzles.sort("example", reverse=True),
        puzzles.flatten_indices(),
        puzzles.map(lambda row: {"blanks": (row["input_ids"] == 1).sum()}),
        puzzles.map(lambda batch: {"first": batch["labels"][:, 0]}, batched=True, batch_size=3),
        datasets.concatenate_datasets([puzzles.select([5, 6]), puzzles]),
        *split.values(),
        *split.filter(lambda row: row["variant"] < 2).shuffle(seed=2).values(),
        datasets.DatasetDict({"train": puzzles}).with_format("torch")["train"],
    ):
        some = some.with_format(form)
        assert len(some)
        check(some, truth, np.asarray(some["row"]))
        check(some[:], truth, np.asarray(some["row"]))


def test_every_way_to_store_rows_keeps_the_columns(either, tmp_path):
    truth, puzzles = read_plainly(either), load_puzzles(either)
    puzzles.save_to_disk(tmp_path / "saved")
    puzzles.to_parquet(tmp_path / "puzzles.parquet")
    puzzles.to_json(tmp_path / "puzzles.jsonl")
    for stored in (
        datasets.load_from_disk(tmp_path / "saved"),
        datasets.Dataset.from_parquet(str(tmp_path / "puzzles.parquet")),
        datasets.Dataset.from_json(str(tmp_path / "puzzles.jsonl")),
        pickle.loads(pickle.dumps(puzzles)),
        datasets.Dataset.from_pandas(puzzles.to_pandas()),
        datasets.Dataset.from_list(puzzles.to_list()),
    ):
        check(stored, truth, slice(None))
    check(puzzles.to_pandas(), truth, slice(None))
    check(puzzles.to_dict(), truth, slice(None))
    streamed = puzzles.to_iterable_dataset(num_shards=2)
    for rows in (list(streamed), list(streamed.with_format("torch")), list(streamed.map(lambda row: row).take(5))):
        check({name: [row[name] for row in rows] for name in COLUMNS}, truth, np.arange(len(rows)))


@pytest.mark.parametrize(("workers", "way"), [(0, None), (2, "fork"), (2, "spawn")])
def test_workers_give_the_columns(grids_path, workers, way):
    truth, puzzles = read_plainly(grids_path), load_puzzles(grids_path)
    for given in (puzzles, puzzles.with_format("torch")) if way != "spawn" else (puzzles,):
        how = {"num_workers": workers, "multiprocessing_context": way, "timeout": 120 if workers else 0}
        loader = torch.utils.data.DataLoader(given, batch_size=7, **how)
        for number, batch in enumerate(loader):
            check(batch, truth, np.arange(len(puzzles))[7 * number :][:7])
            assert {batch[name].dtype for name in COLUMNS} == {torch.int64}
        assert number == (len(puzzles) - 1) // 7


@pytest.mark.parametrize("form", FORMATS)
def test_the_trainer_of_transformers_takes_what_the_model_takes(path, tmp_path, form):
    truth, puzzles = read_plainly(path), load_puzzles(path).with_format(form)
    model = tiny_model(vocab_size=VOCAB, seq_len=SEQ_LEN)
    args = TrainingArguments(str(tmp_path / "run"), per_device_eval_batch_size=6, report_to=[], use_cpu=True)
    trainer = Trainer(model, args, train_dataset=puzzles, eval_dataset=puzzles)
    assert args.remove_unused_columns and trainer.data_collator is default_data_collator
    assert next(iter(trainer.get_train_dataloader())).keys() == set(COLUMNS)
    batch = next(iter(trainer.get_eval_dataloader()))
    check(batch, truth, np.arange(6))
    assert {batch[name].dtype for name in COLUMNS} == {torch.int64} and batch.keys() == set(COLUMNS)
    assert model(**batch).loss.isfinite()


def test_a_file_is_converted_once_however_many_parts_it_takes(either, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(loader, "_CELLS_AT_ONCE", 3 * PuzzleFile(either).info.seq_len)
    check(load_puzzles(either), read_plainly(either), slice(None))
    (cached,) = (tmp_path / "cache").rglob("*.arrow")
    made = cached.stat()
    copy = tmp_path / "copy.h5"
    copy.write_bytes(either.read_bytes())
    check(load_puzzles(copy), read_plainly(either), slice(None))
    assert cached.stat() == made and [cached] == list((tmp_path / "cache").rglob("*.arrow"))


@pytest.mark.parametrize("part", [0, 10, 300, -1])
def test_a_damaged_cache_is_named(path, tmp_path, monkeypatch, part):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    whole = len(load_puzzles(path))
    (cached,) = (tmp_path / "cache").rglob("*.arrow")
    content = cached.read_bytes()
    cached.unlink()
    cached.write_bytes(content[:part])
    try:
        assert len(load_puzzles(path)) == whole and part == -1  # of the end mark alone
    except DataError as error:
        assert str(cached) in str(error) and "Delete the file if it is damaged" in str(error)


def test_a_cache_that_cannot_be_written_is_named(path, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(DataError, match="Not a directory.*or set HF_DATASETS_CACHE to a folder that has room"):
        load_puzzles(path)


def test_what_commands_score_is_what_people_load(either):
    puzzles, rows = load_puzzles(either), FileRows(PuzzleFile(either), np.array([8, 2, 5]))
    assert len(rows) == 3 and len(FileRows(PuzzleFile(either))) == len(puzzles)
    for part in (slice(None), slice(1, 9), slice(0, 3, 2)):
        same({name: rows[part][name] for name in puzzles.column_names}, puzzles[[8, 2, 5][part]])


def test_a_changed_file_is_not_taken_for_the_old_one(path, tmp_path):
    def first_cell(row):
        return {"first": int(row["input_ids"][0])}

    cache = str(tmp_path / "cache.arrow")
    old = load_puzzles(path)
    fingerprint = old._fingerprint
    assert load_puzzles(path)._fingerprint == fingerprint
    old.map(first_cell, cache_file_name=cache)
    changed = {name: (rows_are, (cells + 1) % VOCAB) for name, (rows_are, cells) in ARRAYS.items()}
    write(path, changed, overwrite=True)
    os.utime(path, ns=(1, 1))  # as if the clock had stood still or been set back
    new = load_puzzles(path)
    assert new._fingerprint != fingerprint
    assert new.map(first_cell)[0]["first"] == changed["a"][1][0, 0, 0]


def test_batches_are_what_the_sampler_draws(path):
    file, batches = PuzzleFile(path), training_batches(path, 6, seed=3)
    assert isinstance(batches, datasets.IterableDataset)
    assert batches.puzzle_info == file.info
    count = 0
    for batch in islice(batches, 20):
        assert {name: (array.shape, str(array.dtype)) for name, array in batch.items()} == {
            "input_ids": ((6, SEQ_LEN), "int64"),
            "labels": ((6, SEQ_LEN), "int64"),
            "puzzle_identifiers": ((6,), "int64"),
        }
        for array in batch.values():
            assert array.flags.writeable and array.flags.c_contiguous
            torch.from_numpy(array)
        pairs = np.stack([batch["input_ids"], np.where(batch["labels"] == -100, 0, batch["labels"])], axis=1)
        assert (pairs[:, None] == ROWS).all(axis=(2, 3)).any(axis=1).all()
        count += 1
    assert count == 20


def test_grids_are_shifted_but_for_the_first_pair_of_a_visit(grids_path):
    file, shifted = PuzzleFile(grids_path), 0
    draws = GroupSampler(*file.group_counts(), 6, seed=3, epochs_per_pass=40)
    for batch in training_batches(grids_path, 6, seed=3, epochs_per_pass=40):
        draw = next(draws)
        places = file.locate(draw.groups, draw.variants, draw.examples)
        shifts = draws.generator.random((6, 2))
        shifts[draw.first] = 0
        frames = file.read(*places, shifts).astype(np.int64)
        unshifted = file.read(*places)
        np.testing.assert_array_equal(batch["input_ids"], frames[:, 0])
        np.testing.assert_array_equal(batch["labels"], np.where(frames[:, 1] == 0, -100, frames[:, 1]))
        np.testing.assert_array_equal(batch["puzzle_identifiers"], 1 + 3 * draw.groups + draw.variants)
        np.testing.assert_array_equal(frames[draw.first], unshifted[draw.first])
        shifted += int((frames != unshifted).any(axis=(1, 2)).sum())
    assert next(draws, None) is None and shifted > 40


def test_grids_with_one_example_per_variant_stay_in_the_corner(tmp_path):
    path = write_grids(tmp_path / "single.h5", [1] * 7)
    corner = load_puzzles(path)[:]
    rows = {
        (identifier, tuple(ids)) for identifier, ids in zip(corner["puzzle_identifiers"], corner["input_ids"].tolist())
    }
    for batch in training_batches(path, 7, seed=0, epochs_per_pass=5):
        found = zip(batch["puzzle_identifiers"].tolist(), map(tuple, batch["input_ids"].tolist()), strict=True)
        assert set(found) <= rows


def test_rows_of_grids_stand_in_the_corner_and_know_their_identifier_and_example(grids_path):
    puzzles, file = load_puzzles(grids_path), PuzzleFile(grids_path)
    assert set(puzzles.column_names) == {*COLUMNS, "row", "group", "variant", "example"}
    everything = puzzles[:]
    frames = file.read(*file.locate_rows(np.arange(len(puzzles))))
    np.testing.assert_array_equal(everything["input_ids"], frames[:, 0])
    np.testing.assert_array_equal(everything["example"][:12], [0, 1, 2, 3] * 3)
    np.testing.assert_array_equal(
        everything["puzzle_identifiers"], 1 + 3 * everything["group"] + everything["variant"]
    )
    assert (puzzles[20]["example"], puzzles[20]["puzzle_identifiers"]) == (2, 8)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_hold_the_contiguous_parts_of_the_same_global_batches(path, world_size):
    whole = training_batches(path, 6, seed=3, epochs_per_pass=4)
    parts = [training_batches(path, 6, 3, rank, world_size, epochs_per_pass=4) for rank in range(world_size)]
    count = 0
    for batch, *local in zip(whole, *parts, strict=True):
        same(batch, {name: np.concatenate([part[name] for part in local]) for name in batch})
        count += 1
    assert count == 13 * 4 // 6


def test_a_saved_state_continues_exactly_whatever_the_number_of_processes(path):
    batches = training_batches(path, 4, seed=9)
    iterator = iter(batches)
    for _ in range(11):
        next(iterator)
    state = json.loads(json.dumps(batches.state_dict()))
    expected = list(islice(iterator, 8))
    resumed = [training_batches(path, 4, 9, rank, 2) for rank in range(2)]
    for part in resumed:
        part.load_state_dict(state)
    for batch, *local in zip(expected, *resumed):
        same(batch, {name: np.concatenate([part[name] for part in local]) for name in batch})


@pytest.mark.parametrize("taken", [0, 5])
def test_shifts_of_grids_continue_exactly_whatever_the_number_of_processes(grids_path, taken):
    batches = training_batches(grids_path, 6, seed=9, epochs_per_pass=9)
    iterator = iter(batches)
    for _ in range(taken):
        next(iterator)
    state = json.loads(json.dumps(batches.state_dict()))
    expected = list(iterator)
    for world_size in (1, 2, 3):
        resumed = [training_batches(grids_path, 6, 9, rank, world_size, 9) for rank in range(world_size)]
        for part in resumed:
            part.load_state_dict(state)
        count = 0
        for batch, *local in zip(expected, *resumed, strict=True):
            same(batch, {name: np.concatenate([part[name] for part in local]) for name in batch})
            count += 1
        assert count == len(expected) > 5


def test_a_state_far_into_a_run_continues_at_once(path):
    """Were past batches drawn again, this would take years."""
    batches = training_batches(path, 4, seed=9)
    state = batches.state_dict()
    state["examples_iterable"]["epoch"] = 10**9
    batches.load_state_dict(state)
    iterator = iter(batches)
    next(iterator)
    after = batches.state_dict()["examples_iterable"]
    assert (after["epoch"], after["cursor"]) == (10**9, 4)


def test_passes_repeat_until_set_epoch_and_resume_inside_a_later_pass(path):
    batches = training_batches(path, 4, seed=9, epochs_per_pass=2)
    first, again = list(batches), list(batches)
    for one, other in zip(first, again, strict=True):
        same(one, other)
    batches.set_epoch(3)
    iterator = iter(batches)
    third_pass_start = next(iterator)
    assert any((third_pass_start[name] != first[0][name]).any() for name in first[0])
    state = batches.state_dict()
    resumed = training_batches(path, 4, seed=9, epochs_per_pass=2)
    resumed.load_state_dict(state)
    for one, other in zip(iterator, resumed, strict=True):
        same(one, other)


def test_map_take_pickle_and_a_worker_process(path):
    batches = training_batches(path, 4, seed=9)
    expected = list(islice(batches, 2))
    for batch, other in zip(expected, pickle.loads(pickle.dumps(batches)).take(2), strict=True):
        same(batch, other)
    sums = [row["sum"] for row in batches.map(lambda batch: {"sum": int(batch["input_ids"].sum())}).take(2)]
    assert sums == [int(batch["input_ids"].sum()) for batch in expected]
    mapped = batches.map(lambda batch: {"first": batch["input_ids"][0]})
    iterator = iter(mapped)
    next(iterator)
    resumed = batches.map(lambda batch: {"first": batch["input_ids"][0]})
    resumed.load_state_dict(mapped.state_dict())
    for batch, other in zip(islice(resumed, 3), iterator):
        same(batch, other)
    workers = torch.utils.data.DataLoader(
        batches.take(2), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    for batch, other in zip(expected, workers, strict=True):
        same(batch, {name: np.asarray(array) for name, array in other.items()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"global_batch_size": 5, "world_size": 2}, "global_batch_size 5 .* world_size 2"),
        ({"global_batch_size": 0}, "global_batch_size is 0"),
        ({"global_batch_size": 4, "rank": 2, "world_size": 2}, "rank is 2 of world_size 2"),
        ({"global_batch_size": 27, "epochs_per_pass": 2}, "26 examples"),
    ],
)
def test_arguments_that_cannot_work_are_refused(path, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        training_batches(path, seed=0, **arguments)


def test_states_and_files_that_do_not_fit_are_refused(path, tmp_path):
    state = training_batches(path, 4, seed=1).state_dict()
    with pytest.raises(ArgumentError, match="seed 1"):
        training_batches(path, 4, seed=2).load_state_dict(state)
    with pytest.raises(DataError, match="no such file"):
        training_batches(tmp_path / "none.h5", 4, seed=1)
    with pytest.raises(DataError, match="it is a folder"):
        PuzzleFile(tmp_path)
    content = bytearray(path.read_bytes())
    file = PuzzleFile(path)
    content[file.stores["offset"][1] + 5] = VOCAB
    path.write_bytes(content)
    for load in (load_puzzles, lambda path: training_batches(path, 4, seed=1)):
        with pytest.raises(DataError, match="holds the code 6 in label cell 1"):
            load(path)


def test_this_version_of_datasets_asks_for_what_the_batches_offer(monkeypatch):
    def is_asked_for(member):
        function = member.fget if isinstance(member, property) else member
        return inspect.isfunction(function) and "NotImplementedError" in inspect.getsource(function)

    base = datasets.iterable_dataset._BaseExamplesIterable
    asked = {name for name, member in vars(base).items() if is_asked_for(member)}
    missing = asked - vars(loader._BatchIterable).keys()
    assert asked and not missing, f"datasets {datasets.__version__} asks a source of examples for {missing}"
    monkeypatch.delattr(datasets.iterable_dataset, "_BaseExamplesIterable")
    with pytest.raises(
        ImportError, match=f"datasets {datasets.__version__} is not supported yet: install datasets 5.2"
    ):
        importlib.reload(loader)


def test_total_steps_as_published():
    info = PuzzleSetInfo(
        task="toy",
        split="train",
        vocab_size=1,
        vocabulary=("PAD",),
        grid_shape=(1, 1),
        num_aug=0,
        seed=0,
        num_groups=1000,
        num_puzzles=1_001_000,
        num_rows=1_001_000,
    )
    assert total_steps(20_000, info, 768) == 26_041  # the published Sudoku run
    assert total_steps(3, info, 7) == 428
