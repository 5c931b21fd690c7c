"""The layouts in which people have ARC tasks: the same tasks from each, and what was found is said."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_up_arc import kaggle_layout, made_up_task, original_layout, write_folder, write_zip
from paths import ROOT

from hrm_hf.data import PuzzleFile
from hrm_hf.data.build.arc_builder import build_arc
from hrm_hf.data.build.arc_mixture import mix_collections
from hrm_hf.data.build.arc_tasks import EVALUATION, TRAINING, read_collection
from hrm_hf.hrm.errors import ArgumentError, DataError

TASKS = {name: made_up_task(seed, num_test=1 + seed % 2) for seed, name in enumerate("abcd")}
TRAINED, TESTED = ({name: TASKS[name] for name in names} for names in ("ab", "cd"))
TEXTS = {name: json.dumps(task) for name, task in TASKS.items()}
HIDDEN = {name: task | {"test": [{"input": pair["input"]} for pair in task["test"]]} for name, task in TESTED.items()}


def in_folders(split_folders, texts=TEXTS):
    return {f"{split_folders[name in 'cd']}{name}.json": text for name, text in texts.items()}


LAYOUTS = {
    "data/": original_layout(TRAINED, TESTED),
    "without data/": in_folders(["training/", "evaluation/"]),
    "deeper": in_folders(["kaggle/input/Training/", "kaggle/input/Evaluation/"]),
    "train and test": in_folders(["train/", "test/"]),
    "train and validation": in_folders(["train/", "validation/"]),
    "words of names": in_folders(["arc_agi_v1_public_train/", "arc_agi_v1_public_eval/"]),
    "sets": in_folders(["training_set/", "evaluation_set/"]),
    "concepts of splits": in_folders(["training/Above/", "evaluation/Below/"]),
    "Kaggle": kaggle_layout(TRAINED, "arc-agi_training") | kaggle_layout(TESTED, "arc-agi_evaluation"),
    "objects of tasks": {"arc_training.json": json.dumps(TRAINED), "arc-evaluation.json": json.dumps(TESTED)},
}
FLAT = {
    "flat": {f"{name}.json": text for name, text in TEXTS.items()},
    "Mini-ARC": {f"data/MiniARC/{name}.json": text for name, text in TEXTS.items()},
    "concepts": {f"Concept{name}/{name}.json": text for name, text in TEXTS.items()},
    "a folder of no test tasks": {f"test_run/{name}.json": text for name, text in TEXTS.items()},
    "corpus": {f"corpus/Concept{name}/{name}.json": text for name, text in TEXTS.items()},
    "an object of tasks": {"all.json": json.dumps(TASKS)},
}


def facts(collection):
    """Name -> split and all grids."""
    return {
        task.name: (
            task.split,
            [[None if grid is None else grid.tolist() for grid in pair] for pair in task.task.train + task.task.test],
        )
        for task in collection.tasks
    }


def expected(splits):
    return {
        name: (splits[name], [[pair["input"], pair.get("output")] for pair in task["train"] + task["test"]])
        for name, task in TASKS.items()
    }


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_with_splits(layout, kind, tmp_path):
    write = write_folder if kind == "folder" else write_zip
    collection = read_collection(write(tmp_path / "some.zip", LAYOUTS[layout]))
    splits = dict.fromkeys("ab", TRAINING) | dict.fromkeys("cd", EVALUATION)
    assert facts(collection) == expected(splits)
    assert "2 training tasks in " in collection.found and " and 2 evaluation tasks in " in collection.found


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("layout", FLAT)
def test_layouts_without_splits_are_training_tasks(layout, kind, tmp_path):
    write = write_folder if kind == "folder" else write_zip
    collection = read_collection(write(tmp_path / "some.zip", FLAT[layout]))
    assert facts(collection) == expected(dict.fromkeys(TASKS, TRAINING))
    assert collection.found.split(":")[1].startswith(" 4 training tasks") and "evaluation" not in collection.found


def test_the_folder_of_a_split_may_be_given_itself(tmp_path):
    write_folder(tmp_path, LAYOUTS["without data/"])
    assert {task.split for task in read_collection(tmp_path / "evaluation").tasks} == {EVALUATION}
    assert {task.split for task in read_collection(tmp_path / "evaluation" / "c.json").tasks} == {EVALUATION}


def test_one_file_of_a_task_or_of_challenges(tmp_path):
    write_folder(tmp_path, {"a.json": TEXTS["a"]} | kaggle_layout(TESTED, "arc-agi_evaluation"))
    assert facts(read_collection(tmp_path / "a.json")).keys() == {"a"}
    challenges = tmp_path / "arc-agi_evaluation_challenges.json"
    answered = read_collection(challenges)
    assert facts(answered) == {
        name: fact for name, fact in expected(dict.fromkeys("abcd", EVALUATION)).items() if name in "cd"
    }
    (tmp_path / "arc-agi_evaluation_solutions.json").unlink()
    hidden = read_collection(challenges)
    assert hidden.found == (
        "arc-agi_evaluation_challenges: 2 evaluation tasks in arc-agi_evaluation_challenges.json, "
        "2 of them without answers"
    )
    assert all(task.task.is_hidden for task in hidden.tasks)


def test_other_files_are_left_alone_and_counted_but_not_a_damaged_task(tmp_path):
    members = FLAT["concepts"] | {"settings.json": "{", "notes/meta.json": '{"version": 1}'}
    members["Concepta/sample_submission.json"] = '{"a": [{"attempt_1": [[0]], "attempt_2": [[0]]}]}'
    members["lists/splits.json"] = '{"train": ["a", "b"], "test": ["c"]}'
    members["__MACOSX/Concepta/._a.json"] = members["Concepta/.hidden.json"] = "\0"
    collection = read_collection(write_folder(tmp_path / "some", members))
    assert collection.found == "some: 4 training tasks in 4 folders; 4 other JSON files are left alone"
    (tmp_path / "some" / "Concepta" / "damaged.json").write_text('{"train"')
    with pytest.raises(DataError, match="'Concepta/damaged.json': the file is not valid JSON"):
        read_collection(tmp_path / "some")
    assert len(read_collection(tmp_path / "some", skip_bad=True).left_out) == 1


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("some.json", TASKS | {"e": {"train": 3, "test": []}}, "'some.json: e': task e: 'train' must be a list"),
        ("x.json", {"train": TASKS["a"]["train"]}, "'x.json': task x: 'test' must be a list of pairs"),
        ("x.json", [*TASKS["a"]["train"], {"input": [[1]]}], "'x.json': task x, train pair 3 has no 'output'"),
        ("x.json", TASKS["a"] | {"test": [{"output": [[1]]}]}, "'x.json': task x, test pair 1 has no 'input'"),
    ],
)
def test_a_bad_task_is_named_where_no_layout_says_that_it_is_one(member, value, message, tmp_path):
    write_folder(tmp_path / "some", {member: json.dumps(value)})
    for path in (tmp_path / "some", tmp_path / "some" / member):
        with pytest.raises(DataError, match=message):
            read_collection(path)
        collection = read_collection(path, skip_bad=True)
        assert len(collection.left_out) == 1 and len(collection.tasks) == (
            4 if value is not None and len(value) > 4 else 0
        )


def test_test_tasks_beside_those_of_the_original_repositories(tmp_path):
    members = original_layout(TRAINED, TESTED) | {"data/test/e.json": json.dumps(HIDDEN["c"])}
    found = read_collection(write_folder(tmp_path / "some", members)).found
    assert found.endswith("3 evaluation tasks in data/evaluation, data/test, 1 of them without answers")


def test_re_arc_lists_of_pairs_are_demonstrations(tmp_path):
    pairs = TASKS["a"]["train"] + TASKS["b"]["train"]
    members = {"re_arc/tasks/a.json": json.dumps(pairs), "re_arc/metadata.json": '{"a": {"n": 4}}'}
    collection = read_collection(write_zip(tmp_path / "re_arc.zip", members))
    (task,) = collection.tasks
    assert task.split == TRAINING and task.task.test == [] and len(task.task.train) == 4
    assert collection.found == "re_arc: 1 training tasks in re_arc/tasks; 1 other JSON files are left alone"
    build_arc(tmp_path / "out", collection.tasks, num_aug=2, num_workers=1)
    assert PuzzleFile(tmp_path / "out" / "train.h5").info.num_rows == 4 * 3
    bad = json.dumps([*pairs, {"input": [[1]], "output": [[11]]}])
    with pytest.raises(DataError, match="task a, train pair 5, output: 11 at row 1, column 1"):
        read_collection(write_zip(tmp_path / "bad.zip", {"a.json": bad}))


def test_re_arc_beside_the_tasks_themselves_is_refused_or_used(tmp_path):
    pairs = TASKS["a"]["train"][:1] + TASKS["b"]["train"]  # the first is the task's own
    sources = [write_folder(tmp_path / "arc", original_layout(TRAINED)), tmp_path / "re_arc"]
    write_folder(sources[1], {"a.json": json.dumps(pairs)})
    collections = [read_collection(source) for source in sources]
    with pytest.raises(DataError, match=r"a\.json differs from .*pairs alone, which can be used"):
        mix_collections(collections)
    mixture = mix_collections(collections, extra_pairs="use")
    assert [len(task.task.train) for task in mixture.tasks] == [4, 2]
    assert mixture.notes == ("3 pairs train as extra pairs of 1 tasks",)


@pytest.mark.parametrize("kind", ["arc-gen", "generated"])
def test_extra_pairs_are_used_or_ignored_and_either_is_said(kind, tmp_path):
    task = TASKS["a"] | {kind: TASKS["b"]["train"] + TASKS["a"]["test"]}  # a copy of its test pair must not train
    source = write_folder(tmp_path / "google", {"task001.json": json.dumps(task)})
    ignored, used = read_collection(source), read_collection(source, extra_pairs="use")
    assert len(ignored.tasks[0].task.train) == 2 and len(used.tasks[0].task.train) == 4
    assert f"3 '{kind}' pairs are left out: extra pairs can be used (--extra-pairs use)" in ignored.notes[0]
    assert f"3 '{kind}' pairs train" in used.notes[0]
    task[kind][0] = {"input": [[1]], "output": [[1], [1, 2]]}
    write_folder(source, {"task001.json": json.dumps(task)})
    assert read_collection(source).notes == ignored.notes  # what is left out need not fit
    with pytest.raises(DataError, match=f"task task001, {kind} pair 1, output: row 2"):
        read_collection(source, extra_pairs="use")
    with pytest.raises(ArgumentError, match="extra_pairs is 'yes', allowed are use, ignore"):
        read_collection(source, extra_pairs="yes")


@pytest.mark.parametrize(
    "members",
    [
        {"arc-agi_test_challenges.json": json.dumps(HIDDEN)},
        {f"test/{name}.json": json.dumps(task) for name, task in HIDDEN.items()},
        {  # null, and a training folder that says otherwise
            f"data/training/{name}.json": json.dumps(
                task | {"test": [pair | {"output": None} for pair in task["test"]]}
            )
            for name, task in HIDDEN.items()
        },
    ],
    ids=["Kaggle", "folder", "null"],
)
def test_tasks_without_answers_are_evaluation_tasks_whose_test_inputs_wait(members, tmp_path):
    collection = read_collection(write_folder(tmp_path / "some", members))
    assert collection.found.endswith("2 of them without answers")
    assert {task.split for task in collection.tasks} == {EVALUATION}
    build_arc(tmp_path / "out", collection.tasks, num_aug=3, num_workers=1, frame_shape=(5, 6))
    train, test = (PuzzleFile(tmp_path / "out" / f"{split}.h5") for split in ("train", "test"))
    assert train.info.num_rows == 2 * 2 * 4 and test.info.num_rows == (1 + 2) * 4
    rows = np.arange(test.info.num_rows)
    assert not test.has_answer(rows).any() and train.has_answer(np.arange(train.info.num_rows)).all()
    frames = test.read(*test.locate_rows(rows))
    assert (frames[:, 1] == test.info.pad_id).all() and (frames[:, 0] > 1).any(axis=1).all()
    grid = np.array(TASKS["c"]["test"][0]["input"])
    assert (frames[0, 0].reshape(5, 6)[: grid.shape[0], : grid.shape[1]] == grid + 2).all()


def test_a_task_whose_answers_are_known_elsewhere_counts_once_with_them(tmp_path):
    """Kaggle's test challenges are, until a submission is scored, copies of public tasks."""
    members = kaggle_layout(TRAINED, "arc-agi_training") | kaggle_layout(TESTED, "arc-agi_evaluation")
    copies = {
        name: task | {"test": [{"input": pair["input"]} for pair in task["test"]]}
        for name, task in TASKS.items()
        if name in "ac"
    }
    members["arc-agi_test_challenges.json"] = json.dumps(copies)
    collection = read_collection(write_folder(tmp_path, members))
    assert len(collection.tasks) == 6
    mixture = mix_collections([collection])
    splits = dict.fromkeys("ab", TRAINING) | dict.fromkeys("cd", EVALUATION)
    assert facts(mixture) == expected(splits)
    assert "2 tasks without answers occur again with answers: these count" in mixture.notes


# Beside the checkout, where there is such a folder
SHARED = next((up / "shared" / "data" for up in ROOT.parents if (up / "shared" / "data").is_dir()), None)


@pytest.mark.skipif(SHARED is None, reason="the published collections are not here")
@pytest.mark.parametrize("name", ["ARC-AGI", "ARC-AGI-2", "ConceptARC"])
def test_the_published_collections_in_every_layout(name, tmp_path):
    with zipfile.ZipFile(SHARED / f"{name}.zip") as archive:
        texts = {info.filename: archive.read(info) for info in archive.infolist() if info.filename.endswith(".json")}
    whole = read_collection(SHARED / f"{name}.zip")
    grids = {task.name: _digest(task) for task in whole.tasks}
    splits = {task.name: task.split for task in whole.tasks}
    assert len(grids) == len(texts)

    def read(layout, place):
        for member, text in texts.items():
            path = tmp_path / layout / place(Path(member))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        return read_collection(tmp_path / layout)

    as_it_is = read("unpacked", lambda member: member)
    without_data = read("without", lambda member: Path(*member.parts[-2:]))
    flat = read("flat", lambda member: member.name)
    mini = read("mini", lambda member: Path("data", "MiniARC", member.name))
    kaggle = tmp_path / "kaggle"
    for split in set(splits.values()):
        of_split = {Path(m).stem: json.loads(text) for m, text in texts.items() if splits[Path(m).stem] == split}
        write_folder(kaggle, kaggle_layout(of_split, f"arc-agi_{split}"))
    for collection in (as_it_is, without_data, flat, mini, read_collection(kaggle)):
        assert {task.name: _digest(task) for task in collection.tasks} == grids
    for collection in (as_it_is, without_data, read_collection(kaggle)):
        assert {task.name: task.split for task in collection.tasks} == splits
    assert {task.split for task in flat.tasks + mini.tasks} == {TRAINING}


def _digest(task):
    return [[(grid.shape, grid.tobytes()) for grid in pair] for pair in task.task.train + task.task.test]
