"""Collections of ARC tasks: every layout as folder and as zip, one order, and clear errors for what is bad."""

import json
import zipfile

import numpy as np
import pytest
from made_up_arc import kaggle_layout, made_up_task, original_layout, write_folder, write_zip

from hrm_hf.data.build import arc_tasks
from hrm_hf.data.build.arc_tasks import EVALUATION, TRAINING, read_collection
from hrm_hf.hrm.errors import DataError

TASKS = {name: made_up_task(seed, num_test=1 + seed % 2) for seed, name in enumerate(["d", "b", "a", "c"])}
GOOD = json.dumps(TASKS["a"])


def as_json(task):
    pairs = {part: getattr(task, part) for part in ("train", "test")}
    return {
        part: [{"input": question.tolist(), "output": answer.tolist()} for question, answer in pairs[part]]
        for part in pairs
    }


def read_as(kind, tmp_path, members, **options):
    path = write_zip(tmp_path / "some.zip", members) if kind == "zip" else write_folder(tmp_path / "some", members)
    return read_collection(path, **options)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("top", ["", "ARC-AGI-main/", "two/levels/"])
def test_the_original_layout(kind, top, tmp_path):
    members = original_layout({name: TASKS[name] for name in "db"}, {name: TASKS[name] for name in "ac"})
    members["data/training.txt"] = "d\nb\n"
    members["apps/settings.json"] = members["data/training/.hidden.json"] = "{"
    members["__MACOSX/data/training/b.json"] = "not json"
    collection = read_as(kind, tmp_path, {top + member: text for member, text in members.items()})
    assert [(task.name, task.split) for task in collection.tasks] == [
        ("a", EVALUATION),
        ("b", TRAINING),
        ("c", EVALUATION),
        ("d", TRAINING),
    ]
    assert all(as_json(task.task) == TASKS[task.name] for task in collection.tasks)
    assert collection.tasks[0].source == f"some: {top}data/evaluation/a.json"
    assert collection.left_out == () and collection.notes == ()


def test_concepts_are_training_tasks_and_inner_folders_may_be_given(tmp_path):
    members = {f"corpus/{name.upper()}/{name}.json": json.dumps(TASKS[name]) for name in "ba"}
    write_folder(tmp_path, members | original_layout({}, {"c": TASKS["c"]}))
    for path, names in (("corpus", "ab"), ("corpus/A", "a"), ("data", "c"), ("data/evaluation", "c"), ("", "abc")):
        tasks = read_collection(tmp_path / path).tasks
        assert "".join(task.name for task in tasks) == names
        assert [task.split for task in tasks] == [EVALUATION if name == "c" else TRAINING for name in names]


def test_the_order_of_a_zip_does_not_matter(tmp_path):
    members = original_layout(TASKS)
    forward = read_collection(write_zip(tmp_path / "one.zip", members))
    turned = read_collection(write_zip(tmp_path / "two.zip", dict(reversed(members.items()))))
    assert [task.member for task in forward.tasks] == [task.member for task in turned.tasks]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_kaggle_layout(kind, tmp_path):
    members = kaggle_layout({name: TASKS[name] for name in "db"}, "in/arc-agi_training")
    members |= kaggle_layout({name: TASKS[name] for name in "ac"}, "in/arc-agi_evaluation")
    members["in/arc-agi_test_challenges.json"] = "{}"
    members["in/sample_submission.json"] = "{}"
    collection = read_as(kind, tmp_path, members)
    assert [(task.name, task.split) for task in collection.tasks] == [
        ("a", EVALUATION),
        ("b", TRAINING),
        ("c", EVALUATION),
        ("d", TRAINING),
    ]
    assert all(as_json(task.task) == TASKS[task.name] for task in collection.tasks)
    assert collection.tasks[0].source == "some: in/arc-agi_evaluation_challenges.json: a"
    where = "in/arc-agi_{}_challenges.json"
    split = " and ".join(f"2 {split} tasks in {where.format(split)}" for split in ("training", "evaluation"))
    assert collection.found == f"some: {split}; 1 other JSON files are left alone"
    assert collection.notes == ()


@pytest.mark.parametrize("missing", ["challenges", "solutions"])
def test_kaggle_files_come_in_pairs(missing, tmp_path):
    members = kaggle_layout(TASKS, "arc-agi_evaluation")
    del members[f"arc-agi_evaluation_{missing}.json"]
    with pytest.raises(DataError, match="lacks its") as error:
        read_as("folder", tmp_path, members)
    for name in ("arc-agi_evaluation_challenges.json", "arc-agi_evaluation_solutions.json"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("solutions", "message"),
    [
        ({"a": []}, "task 'a' has 1 test inputs, but 0 answers in 'x_solutions.json'"),
        ({"a": 3}, "task 'a' has 1 test inputs, but no answers"),
        ({}, "task 'a' has 1 test inputs, but no answers"),
        ({"a": [[[1, 11]]]}, r"task a, test pair 1, output: 11 at row 1, column 2"),
        ({"a": [[[1]]], "z": []}, "'x_solutions.json' has task 'z', which 'x_challenges.json' lacks"),
        ([], "'x_solutions.json' holds a JSON list"),
    ],
)
def test_solutions_that_do_not_fit(solutions, message, tmp_path):
    members = kaggle_layout({"a": TASKS["a"]}, "x") | {"x_solutions.json": json.dumps(solutions)}
    with pytest.raises(DataError, match=message):
        read_as("folder", tmp_path, members)


BAD_TASKS = {
    "not json": '{"train"',
    "not UTF-8": "\udcff",
    "too deep": "[" * 100_000,
    "too long a number": '{"train": [' + "1" * 5000 + "]}",
    "a list": "[]",
    "no test pairs": json.dumps(TASKS["a"] | {"test": []}),
    "no train pairs": json.dumps(TASKS["a"] | {"train": []}),
    "no output": json.dumps(TASKS["a"] | {"train": [{"input": [[1]]}]}),
    "ragged": json.dumps(TASKS["a"] | {"train": [{"input": [[1, 2], [3]], "output": [[1]]}]}),
    "colour": json.dumps(TASKS["a"] | {"train": [{"input": [[1, 2], [3, 10]], "output": [[1]]}]}),
    "empty": json.dumps(TASKS["a"] | {"train": [{"input": [[]], "output": [[1]]}]}),
    "too large": json.dumps(TASKS["a"] | {"train": [{"input": [[1]], "output": [[0] * 6]}]}),
    "nested cell": json.dumps(TASKS["a"] | {"train": [{"input": [[[1]]], "output": [[1]]}]}),
}
WHAT_IT_SAYS = {
    "not json": "JSON",
    "not UTF-8": "JSON",
    "too deep": "JSON",
    "too long a number": "JSON",
    "a list": "task bad: a list",
    "no test pairs": "task bad has no test pairs",
    "no train pairs": "task bad has no train pairs",
    "no output": "task bad, train pair 1",
    "ragged": "task bad, train pair 1, input: row 2",
    "colour": "10 at row 2, column 2",
    "empty": "task bad, train pair 1, input",
    "too large": "task bad, train pair 1, output: the grid has 1 x 6 cells: allowed are grids from 1 x 1 to 5 x 5",
    "nested cell": "task bad, train pair 1, input: a list at row 1, column 1",
}


@pytest.mark.parametrize("kind", BAD_TASKS)
def test_a_bad_task_is_named_or_skipped_and_listed(kind, tmp_path):
    write_folder(tmp_path, original_layout({"a": TASKS["a"]}))
    bad = tmp_path / "data" / "training" / "bad.json"
    bad.write_bytes(BAD_TASKS[kind].encode(errors="surrogateescape"))
    with pytest.raises(DataError) as error:
        read_collection(tmp_path, frame_shape=(5, 5))
    assert WHAT_IT_SAYS[kind] in str(error.value) and f"{tmp_path}: 'data/training/bad.json': " in str(error.value)
    assert len(str(error.value)) < 500
    collection = read_collection(tmp_path, frame_shape=(5, 5), skip_bad=True)
    assert [task.name for task in collection.tasks] == ["a"]
    assert collection.left_out == (str(error.value).removesuffix(" (--skip-bad leaves bad tasks out)"),)
    assert collection.left_out[0] != str(error.value)  # a refusal says how to go on


@pytest.mark.parametrize("name", ["a/b", ".", "<blank>", "a_t3_0123456789", "", " a", "a\nb", "ä"])
def test_names_that_cannot_stand_in_a_puzzle_file(name, tmp_path):
    write_folder(tmp_path, kaggle_layout({name: TASKS["a"], "good": TASKS["a"]}, "x"))
    with pytest.raises(DataError, match="name"):
        read_collection(tmp_path)
    collection = read_collection(tmp_path, skip_bad=True)
    assert [task.name for task in collection.tasks] == ["good"] and len(collection.left_out) == 1


@pytest.mark.parametrize(
    "member", ["../data/training/x.json", "data/training/../../x.json", "/data/x.json", "C:/x.json"]
)
def test_members_of_a_zip_outside_of_its_folders_are_left_alone(member, tmp_path):
    collection = read_as("zip", tmp_path, original_layout({"a": TASKS["a"]}) | {member: GOOD})
    assert [task.name for task in collection.tasks] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.zip"]


def test_a_zip_that_unpacks_to_far_more_than_it_should(tmp_path, monkeypatch):
    members = {"data/training/a.json": GOOD + " " * arc_tasks.MAX_FILE_BYTES}
    path = write_zip(tmp_path / "some.zip", members)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"'data/training/a.json' has \d+ bytes, allowed are 16000000"):
        read_collection(path, skip_bad=True)
    monkeypatch.setattr(arc_tasks, "MAX_TOTAL_BYTES", 2 * len(GOOD))
    with pytest.raises(DataError, match="bytes together"):
        read_as("zip", tmp_path, original_layout({name: TASKS["a"] for name in "abc"}))


def test_zips_that_are_encrypted_oddly_packed_or_damaged(tmp_path):
    path = tmp_path / "some.zip"
    member = "data/training/a.json"
    write_zip(path, {member: GOOD})
    whole = path.read_bytes()
    encrypted = bytearray(whole)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[whole.index(signature) + offset] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(DataError, match="encrypted"):
        read_collection(path)
    damaged = bytearray(whole)
    damaged[len(whole) // 2 - 60] ^= 255
    for content in (bytes(damaged), whole[: len(whole) // 2], b"no zip"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a zip"):
            read_collection(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(member, GOOD)
    with pytest.raises(DataError, match="neither stored nor deflated"):
        read_collection(path)


def test_a_path_without_tasks(tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder"):
        read_collection(tmp_path / "none")
    for content in ("{}", "[]", '{"train": []}', '[{"input": [[1]]}]', "not json"):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match=r"holds no ARC task; looked for \*_challenges.json"):
            read_collection(tmp_path)


def test_grids_are_uint8(tmp_path):
    task = read_as("folder", tmp_path, original_layout({"a": TASKS["a"]})).tasks[0].task
    assert {grid.dtype for pair in task.train + task.test for grid in pair} == {np.dtype(np.uint8)}
