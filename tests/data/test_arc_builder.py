"""ARC puzzle files: the recorded tiny build, which pairs go where, the variants, and what the bytes depend on."""

import json
import multiprocessing
from dataclasses import replace
from hashlib import sha256

import h5py
import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays
from made_up_arc import made_up_task

from hrm_hf.data import PuzzleFile
from hrm_hf.data.build import arc_builder
from hrm_hf.data.build.arc_builder import build_arc, draw_variants, pair_cells, variant_names
from hrm_hf.data.build.arc_mixture import BOTH
from hrm_hf.data.build.arc_tasks import EVALUATION, TRAINING, CollectedTask
from hrm_hf.games.arc_task import ArcTask, draw_augmentations, parse_task
from hrm_hf.hrm.arc import ArcAugmentation, cut, frame
from hrm_hf.hrm.errors import ArgumentError, DataError, PuzzleError
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME

GOLDEN = paths.GOLDEN / "G"


def collected(name, json_value, split):
    return CollectedTask(parse_task(name, json_value), split, "made up", f"{name}.json")


def some_tasks():
    splits = {"b1": TRAINING, "a": EVALUATION, "c": TRAINING, "b10": EVALUATION, "B2": TRAINING}
    return [
        collected(name, made_up_task(seed, num_train=2 + seed % 2, num_test=1 + seed % 3, side=5), split)
        for seed, (name, split) in enumerate(splits.items())
    ]


def build(folder, tasks, **options):
    return build_arc(folder, tasks, **{"num_aug": 6, "num_workers": 1} | options)


def grids_of(path):
    """name of the variant -> its (input, label) pairs as grids, read through the frames that a model gets."""
    file = PuzzleFile(path)
    numbers = np.arange(file.info.num_rows)
    frames = file.read(*file.locate_rows(numbers)).reshape(-1, 2, *file.info.grid_shape)
    pairs = {}
    for name, pair in zip(file.row_names(numbers), frames, strict=True):
        pairs.setdefault(name, []).append(tuple(cut(side) for side in pair))
    return pairs


def same(pairs, others):
    return len(pairs) == len(others) and all(
        np.array_equal(grid, other)
        for pair, other_pair in zip(pairs, others, strict=True)
        for grid, other in zip(pair, other_pair, strict=True)
    )


def cut_anywhere(frame):
    """The grid of a frame that may have an offset, as training frames do in the recorded build."""
    rows, columns = np.nonzero(frame >= 2)
    return cut(frame[rows.min() :, columns.min() :])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_recorded_build_given_its_variants(tmp_path, monkeypatch):
    config = json.loads((GOLDEN / "config.json").read_text())
    recorded = golden_arrays(GOLDEN / "arc_build.npz")
    names = config["arc_identifiers"]
    variants = {"eval0000": [], "trai0000": []}
    for name in names[1:]:
        task, augmentation = ArcAugmentation.parse(name)
        variants[task].append(augmentation)

    def recorded_variants(task, num_aug, seed):
        chosen = variants[task.name]
        transforms = np.array([augmentation.transform for augmentation in chosen], np.uint8)
        return transforms, np.array([augmentation.colours for augmentation in chosen], np.uint8)

    monkeypatch.setattr(arc_builder, "draw_variants", recorded_variants)
    splits = {"trai0000": TRAINING, "eval0000": EVALUATION}
    infos = build(tmp_path, [collected(name, config[f"arc_task_{name}"], split) for name, split in splits.items()])
    for split, info in zip(("train", "test"), infos, strict=True):
        facts = config[f"arc_{split}_dataset_json"]
        for key in ("pad_id", "ignore_label_id", "blank_identifier_id", "vocab_size", "seq_len"):
            assert getattr(info, key) == facts[key]
        assert info.num_puzzle_identifiers == facts["num_puzzle_identifiers"] == len(names)
        assert (info.num_groups, info.mean_examples) == (facts["total_groups"], facts["mean_puzzle_examples"])
        found = grids_of(tmp_path / f"{split}.h5")
        assert list(found) == [names[identifier] for identifier in recorded[f"{split}.puzzle_identifiers"]]
        starts = recorded[f"{split}.puzzle_indices"]
        for name, start, stop in zip(found, starts, starts[1:], strict=False):
            sides = (recorded[f"{split}.{side}"][start:stop].reshape(-1, 30, 30) for side in ("inputs", "labels"))
            assert same(found[name], [tuple(map(cut_anywhere, pair)) for pair in zip(*sides, strict=True)])
        # Test frames have no random offset, so that they are the same cell by cell.
        if split == "test":
            file = PuzzleFile(tmp_path / "test.h5")
            frames = file.read(*file.locate_rows(np.arange(info.num_rows)))
            assert np.array_equal(frames[:, 0], recorded["test.inputs"])
            assert np.array_equal(frames[:, 1], recorded["test.labels"])
    assert PuzzleFile(tmp_path / "train.h5").identifier_names() == names


def test_which_pairs_go_where_in_every_variant(tmp_path):
    tasks = {task.name: task for task in some_tasks()}
    tasks["c"] = replace(tasks["c"], split=BOTH)
    infos = build(tmp_path, list(tasks.values()), frame_shape=(6, 6))
    found = [grids_of(tmp_path / name) for name in ("train.h5", "test.h5")]
    for pairs, in_train in zip(found, (True, False), strict=True):
        for name, of_variant in pairs.items():
            task_name, augmentation = ArcAugmentation.parse(name)
            task = tasks[task_name]
            wanted = task.task.train if in_train else []
            wanted = wanted + (task.task.test if not in_train or task.split != EVALUATION else [])
            assert same(of_variant, [tuple(map(augmentation.apply, pair)) for pair in wanted])
        per_task = [ArcAugmentation.task_of(name) for name in pairs]
        names = sorted(tasks) if in_train else ["a", "b10", "c"]
        assert per_task == [name for name in names for _ in range(7)]
        assert [name for name in pairs if name in tasks] == names
    assert [info.num_groups for info in infos] == [5, 3]
    asked = {str([grid.tolist() for grid in pair]) for pairs in found[1].values() for pair in pairs}
    assert asked.isdisjoint(
        str([grid.tolist() for grid in pair])
        for name, pairs in found[0].items()
        for pair in pairs
        if tasks[ArcAugmentation.task_of(name)].split == EVALUATION
    )


def test_what_the_files_say(tmp_path):
    tasks = some_tasks()
    train, test = build(tmp_path, tasks, seed=3)
    assert (train.task, train.split, train.eos_id, train.grid_shape) == ("arc", "train", 1, (30, 30))
    assert (test.split, test.num_aug, test.seed) == ("test", 6, 3)
    assert train.vocabulary == ("PAD", "EOS", *"0123456789")
    assert train.num_puzzle_identifiers == test.num_puzzle_identifiers == 1 + 5 * 7
    names = PuzzleFile(tmp_path / "train.h5").identifier_names()
    assert names[0] == BLANK_NAME and names[1::7] == ["B2", "a", "b1", "b10", "c"]
    in_test = PuzzleFile(tmp_path / "test.h5").identifier_names()
    assert all(name in ("", names[identifier]) for identifier, name in enumerate(in_test))
    with h5py.File(tmp_path / "train.h5") as file:
        metadata = file["puzzles/b1/metadata"]
        attributes = {key: metadata.attrs[key] for key in ("source", "split", "num_train_pairs")}
        assert attributes == {"source": "made up: b1.json", "split": "training", "num_train_pairs": 2}
        for row, name in enumerate(metadata["name"][:]):
            augmentation = ArcAugmentation(metadata["transform"][row], tuple(metadata["colours"][row]))
            assert ArcAugmentation.parse(name.decode()) == ("b1", augmentation)


def test_the_bytes_depend_on_tasks_and_options_alone(tmp_path):
    tasks = some_tasks()
    build(tmp_path / "one", tasks)
    build(tmp_path / "two", tasks[::-1], num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    build(tmp_path / "seed", tasks, seed=43)
    assert contents(tmp_path / "one")["train.h5"] != contents(tmp_path / "seed")["train.h5"]


def test_a_task_has_the_same_variants_beside_any_others():
    task = some_tasks()[0].task
    first, again = draw_variants(task, 20, 42), draw_variants(task, 20, 42)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = draw_variants(task._replace(name="other"), 20, 42)
    assert not np.array_equal(first[1], other[1])


def plain_variants(task, num_aug, generator):
    """As the rules read: one draw after the other, variants told apart as sets of pairs of nested lists."""

    def content(augmentation):
        return sorted([augmentation.apply(grid).tolist() for grid in pair] for pair in task.train + task.test)

    transforms, colours = draw_augmentations(num_aug, generator)
    plain = ArcAugmentation()
    chosen, contents = [plain], [content(plain)]
    for _ in range(5):
        for transform, colour_map in zip(transforms, colours, strict=True):
            augmentation = ArcAugmentation(transform, tuple(colour_map))
            if len(chosen) <= num_aug and content(augmentation) not in contents:
                chosen.append(augmentation)
                contents.append(content(augmentation))
        transforms, colours = draw_augmentations(num_aug, generator)
    return chosen


# Few variants: symmetric grids with one or two colours, pairs that a transform swaps, shapes that alone differ.
FEW_VARIANTS = {
    "one colour": ([([[1]], [[1]])], 9),
    "two colours": ([([[1]], [[2]])], 72),
    "only 0": ([([[0]], [[0, 0], [0, 0]])], 1),
    "turned": ([([[0]], [[0, 0]])], 2),
    "swapped pairs": ([([[0, 0]], [[0]]), ([[0], [0]], [[0]])], 1),
    "cells equal, shapes not": ([([[0, 0]], [[0], [0]])], 2),
}


@pytest.mark.parametrize("kind", FEW_VARIANTS)
@pytest.mark.parametrize("num_aug", [3, 60])
def test_variants_are_all_different_and_as_many_as_there_are(kind, num_aug):
    pairs, num_different = FEW_VARIANTS[kind]
    pairs = [{"input": question, "output": answer} for question, answer in pairs]
    task = parse_task("few", {"train": pairs[:1], "test": pairs[1:] or pairs[:1]})

    variants = draw_variants(task, num_aug, 42)
    generator = np.random.default_rng([42, int(sha256(b"few").hexdigest(), 16)])
    plain = plain_variants(task, num_aug, generator)
    assert [(int(k), tuple(map(int, colours))) for k, colours in zip(*variants, strict=True)] == [
        (augmentation.transform, augmentation.colours) for augmentation in plain
    ]
    assert len(plain) <= min(num_different, num_aug + 1)
    if num_different <= 10 < num_aug:
        assert len(plain) == num_different


def test_rows_and_names_equal_those_of_one_augmentation_at_a_time():
    task = parse_task("t", made_up_task(5, side=6))
    generator = np.random.default_rng(0)
    transforms, colours = draw_augmentations(50, generator)
    transforms[:8], colours[:8] = np.arange(8), np.arange(10)
    names = variant_names("some-task", transforms, colours)
    cells = pair_cells(task.train[0], transforms, colours)
    for row, (transform, colour_map) in enumerate(zip(transforms, colours, strict=True)):
        augmentation = ArcAugmentation(transform, tuple(colour_map))
        assert ArcAugmentation.parse(names[row].decode()) == ("some-task", augmentation)
        grids = [augmentation.apply(grid) for grid in task.train[0]]
        assert np.array_equal(cells[row], np.concatenate([grid.reshape(-1) + 2 for grid in grids]))
        assert np.array_equal(cut(frame(grids[0])), grids[0])
    assert names[0] == b"some-task"


def test_without_augmentation_and_without_evaluation_tasks(tmp_path):
    tasks = some_tasks()
    build(tmp_path, tasks, num_aug=0)
    assert list(grids_of(tmp_path / "train.h5")) == sorted(task.name for task in tasks)
    training = [task for task in tasks if task.split == TRAINING]
    with pytest.raises(ArgumentError, match="already exists"):
        build(tmp_path, training)
    train, test = build(tmp_path, training, overwrite=True)
    assert test is None and train.num_groups == 3
    assert [path.name for path in tmp_path.iterdir()] == ["train.h5"]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_interrupt_leaves_no_partial_file_and_no_worker(tmp_path, monkeypatch, num_workers):
    build(tmp_path, some_tasks()[:2])
    before = contents(tmp_path)

    def interrupted(task_name, transforms, colours):
        if task_name == "c":
            raise KeyboardInterrupt
        return variant_names(task_name, transforms, colours)

    monkeypatch.setattr(arc_builder, "variant_names", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, some_tasks(), num_workers=num_workers, overwrite=True)
    assert contents(tmp_path) == before
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_aug": -1}, "num_aug is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"num_workers": 0}, "num_workers 0"),
        ({"tasks": []}, "no task to build from"),
        ({"tasks": some_tasks() + some_tasks()[:1]}, "task b1 is given twice: made up: b1.json, made up: b1.json"),
    ],
)
def test_arguments_that_are_not_allowed(tmp_path, options, message):
    options = {"tasks": some_tasks()} | options
    with pytest.raises(ArgumentError, match=message):
        build(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_grids_that_do_not_fit_and_pairs_without_answer(tmp_path):
    pair = {"input": [[1] * 7], "output": [[1]]}
    wide = collected("wide", {"train": [pair], "test": [pair]}, TRAINING)
    with pytest.raises(DataError, match="example 0 of puzzle 'wide': the input grid has 7 x 1 cells once turned"):
        build(tmp_path, [*some_tasks(), wide], frame_shape=(6, 30))
    open_task = ArcTask("open", wide.task.train, [(np.ones((1, 1), np.uint8), None)])
    with pytest.raises(PuzzleError, match="task open has a pair without output, which cannot train"):
        build(tmp_path, [replace(wide, task=open_task)])
    assert list(tmp_path.iterdir()) == []
