"""ARC tasks in folders and zips, in both layouts, that are damaged or malicious: tasks, or a reason."""

import json
import os
import warnings
import zipfile
from contextlib import suppress
from io import BytesIO

import pytest
from hostile_inputs import TOKENS, examples, mutated, mutated_text, nothing_written_outside, result_or_documented
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_arc import kaggle_layout, made_up_task, original_layout, write_folder, write_zip

from hrm_hf.data import PuzzleFile
from hrm_hf.data.build.arc_builder import build_arc
from hrm_hf.data.build.arc_mixture import mix_collections
from hrm_hf.data.build.arc_tasks import read_collection
from hrm_hf.hrm.errors import DataError, HrmError

TASKS = {f"task{number}": made_up_task(number, side=3) for number in range(3)}
ORIGINAL = original_layout({"task0": TASKS["task0"]}, {"task1": TASKS["task1"]})
KAGGLE = kaggle_layout(TASKS, "arc-agi_evaluation")
HIDDEN = {name: text for name, text in kaggle_layout(TASKS, "arc-agi_test").items() if "challenges" in name}
FREE = {f"{name}.json": json.dumps(task | {"arc-gen": task["train"]}) for name, task in TASKS.items()}
FREE |= {
    "re_arc/task0.json": json.dumps(TASKS["task0"]["train"]),
    "evaluation/all.json": json.dumps({"one": TASKS["task1"]}),
}
LAYOUTS = {"original": ORIGINAL, "kaggle": KAGGLE, "hidden": HIDDEN, "free": FREE}
JSON_TOKENS = [*TOKENS, "[[1]]", "[[]]", "[[[1]]]", '"input"', '"output"', '"train"', '"test"', "10", "1.0", "[" * 50]
JSON_TOKENS += ["[[" + "1," * 40 + "1]]", '"task0"', '"task0_t1_0123456789"', '"\\ud800"', '"a/b"', "1e400", "-0.0"]
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 11),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["123\n456", "<blank>", "..", "x" * 3000]),
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
NAMES = [
    "../x.json",
    "/etc/x.json",
    "C:\\x.json",
    "data\\..\\..\\x.json",
    "..",
    "data/training/\x1b[2J.json",
    "é.json",
]
NAMES += ["data/training/../../../x.json", "data/training/<blank>.json", "data/training/.json", "data/training/..json"]
NAMES += [
    "a_challenges.json",
    "x/y_solutions.json",
    "data/training/a\0b.json",
    "data/training/task0_t1_0123456789.json",
]


def build(source, out):
    """Once as it is, then without what is bad in it."""
    with suppress(HrmError):
        build_with(source, out, False)
    build_with(source, out, True)


def build_with(source, out, skip_bad):
    collection = read_collection(source, skip_bad=skip_bad, extra_pairs="use")
    for line in (*collection.left_out, *collection.notes, collection.found):
        assert line.isprintable()  # nothing that steers a terminal, or that it cannot show
    mixture = mix_collections([collection], leaks="allow", skip_bad=skip_bad, extra_pairs="use")
    infos = build_arc(out, mixture.tasks, num_aug=2, seed=1, num_workers=1, overwrite=True)
    for info in infos:
        if info is not None:
            PuzzleFile(out / f"{info.split}.h5").check_cells()


def check(tmp_path, source):
    with nothing_written_outside(tmp_path, tmp_path / "out"):
        result_or_documented(lambda: build(source, tmp_path / "out"))


def empty_folder(tmp_path):
    folder = tmp_path / "tasks"
    for top, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.unlink(os.path.join(top, name))
        for name in folders:
            path = os.path.join(top, name)
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_seeds_themselves_are_built(tmp_path, layout):
    build_with(write_folder(tmp_path / "a", LAYOUTS[layout]), tmp_path / "out", False)
    build_with(write_zip(tmp_path / "a.zip", LAYOUTS[layout]), tmp_path / "out", False)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_damaged_texts_in_a_folder(tmp_path, layout, data):
    members = LAYOUTS[layout]
    folder = write_folder(empty_folder(tmp_path), members)
    member = data.draw(st.sampled_from(sorted(members)))
    text = data.draw(mutated_text(members[member], JSON_TOKENS, max_changes=2))
    (folder / member).write_bytes(text.encode("utf-8", "surrogatepass"))
    check(tmp_path, folder)


def replaced(draw, value, depth=0):
    """A JSON value with another in one place."""
    if depth == 8 or not isinstance(value, list | dict) or not value or draw(st.integers(0, 5)) == 0:
        return draw(VALUE)
    if isinstance(value, list):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], replaced(draw, value[place], depth + 1), *value[place + 1 :]]
    key = draw(st.sampled_from(sorted(value)))
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.text(max_size=4) | st.sampled_from(["a/b", "\ud800", "a\n", ".", "..", "../../x", "<blank>"]))
        return {name if other == key else other: inner for other, inner in value.items()}
    return value | {key: replaced(draw, value[key], depth + 1)}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_other_values_in_valid_json(tmp_path, layout, data):
    members = dict(LAYOUTS[layout])
    for _ in range(data.draw(st.integers(1, 2))):
        member = data.draw(st.sampled_from(sorted(members)))
        members[member] = json.dumps(replaced(data.draw, json.loads(members[member])))
    check(tmp_path, write_zip(tmp_path / "x.zip", members))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_damaged_zips(tmp_path, layout, data):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", data.draw(st.sampled_from([0, zipfile.ZIP_DEFLATED]))) as archive:
        for member, text in LAYOUTS[layout].items():
            archive.writestr(zipfile.ZipInfo(member), text)
    (tmp_path / "x.zip").write_bytes(data.draw(mutated(buffer.getvalue(), max_changes=2)))
    check(tmp_path, tmp_path / "x.zip")


@settings(max_examples=examples(10))
@given(data=st.data())
def test_odd_names_in_zips(tmp_path, data):
    members = dict(ORIGINAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that are there twice
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in data.draw(st.lists(st.sampled_from([*NAMES, *members]), min_size=1, max_size=3)):
                info = zipfile.ZipInfo("placeholder")
                info.filename = name  # past what the constructor does to it
                archive.writestr(info, data.draw(st.sampled_from([*members.values(), "{}"])))
            for name, text in members.items():
                archive.writestr(name, text)
    check(tmp_path, tmp_path / "x.zip")


@settings(max_examples=examples(10))
@given(data=st.data())
def test_links_pipes_and_odd_names_in_folders(tmp_path, data):
    folder = write_folder(empty_folder(tmp_path), ORIGINAL | KAGGLE)
    (tmp_path / "outside.json").write_text(ORIGINAL["data/training/task0.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(["x.json", "task0.json", "y_challenges.json", "\udcff.json", "a\nb.json"]))
        place = folder / "data" / "training" / name
        place.unlink(missing_ok=True)
        kind = data.draw(st.sampled_from(["out", "in", "loop", "device", "nowhere", "pipe", "file"]))
        targets = {"out": tmp_path / "outside.json", "in": "../evaluation/task1.json", "loop": name}
        targets |= {"device": "/dev/zero", "nowhere": "nowhere.json"}
        if kind in targets:
            place.symlink_to(targets[kind])
        elif kind == "pipe":
            os.mkfifo(place)
        else:
            place.write_text(ORIGINAL["data/training/task0.json"])
    check(tmp_path, folder)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("../../../outside.json", "'data/training/x.json' is a link that leads out of the folder"),
        ("/dev/zero", "'data/training/x.json' is a link that leads out of the folder"),
        ("x.json", "data/training/x.json: there is no such file"),
        ("nowhere", "data/training/x.json: there is no such file"),
        (None, "data/training/x.json: there is no such file"),
    ],
)
def test_what_is_no_regular_file_is_refused(tmp_path, target, message):
    folder = write_folder(tmp_path / "tasks", ORIGINAL)
    (tmp_path / "outside.json").write_text("{}")
    if target is None:
        os.mkfifo(folder / "data/training/x.json")
    else:
        (folder / "data/training/x.json").symlink_to(target)
    with pytest.raises(DataError, match=message):
        read_collection(folder)


def test_links_inside_the_folder_are_followed(tmp_path):
    folder = write_folder(tmp_path / "tasks", ORIGINAL)
    (folder / "data/training/x.json").symlink_to("task0.json")
    (tmp_path / "link").symlink_to(folder)
    names = [task.name for task in read_collection(tmp_path / "link").tasks]
    assert names == ["task0", "task1", "x"]


@pytest.mark.parametrize("content", [b"[" * 15_000_000, b'{"a":' * 3_000_000, b"9" * 15_000_000, b" " * 20_000_000])
def test_bombs_in_zips(tmp_path, content):
    write_zip(tmp_path / "x.zip", {"data/training/x.json": content.decode()})
    assert (tmp_path / "x.zip").stat().st_size < 100_000
    check(tmp_path, tmp_path / "x.zip")
