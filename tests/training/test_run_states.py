"""Saved training states: what was saved comes back; what is torn, damaged or made up is never taken for a state."""

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import time
import traceback
import warnings
from itertools import count

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hrm_hf.files import mend_folders, partial_folder
from hrm_hf.hrm.errors import ArgumentError, CheckpointError
from hrm_hf.training import states
from hrm_hf.training.states import (
    FileRecord,
    check_state,
    newest_state,
    prune_states,
    read_json_tree,
    read_tree,
    seal_state,
    start_state,
    write_tree,
)

TREES = ("rank-0", "rank-1", "state")
FILES = tuple(f"{name}.{kind}" for name in TREES for kind in ("json", "safetensors"))
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def save(run_dir, step, rows=30):
    """A small state whose every file depends on the step; rows: of 4 bytes, in each of three files."""

    def cells(number):
        generator = torch.Generator().manual_seed(10 * step + number)
        return torch.randint(1, 128, (rows, 4), dtype=torch.int8, generator=generator)

    folder, records = start_state(run_dir, step), []
    for number, name in enumerate(TREES):
        rest = {"step": step, "best": 0.1 * step, "places": list(range(40))}
        records += write_tree(folder, name, {"cells": cells(number), "rest": rest})
    return seal_state(run_dir, step, records)


def manifest_of(body):
    """A manifest as one is written, whatever it says."""
    return (json.dumps(body) + "\n").encode()


def body_of(state):
    return json.loads((state / "manifest.json").read_bytes())


def step_of(run_dir):
    return int(newest_state(run_dir)[0].name.removeprefix("state-"))


def files_of(state):
    return tuple(name for name in names_in(state) if name != "manifest.json")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run_dir(tmp_path):
    """A run with the states of steps 1 and 2."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    return tmp_path


@pytest.fixture(scope="module")
def kept_state(tmp_path_factory):
    """A state that tests damage and mend."""
    return save(tmp_path_factory.mktemp("run"), 7)


def refused(run_dir, named):
    """State 2 is refused in words that name `named`, state 1 taken in its place; without that there is none."""
    with pytest.raises(CheckpointError) as refusal:
        check_state(run_dir / "state-00000002")
    assert named in str(refusal.value)
    state, passed_over = newest_state(run_dir)
    assert state.name == "state-00000001"
    assert passed_over == [str(refusal.value)]
    hidden = (run_dir / "state-00000001").rename(run_dir / "hidden")
    with pytest.raises(CheckpointError, match="no complete saved state") as refusal:
        newest_state(run_dir)
    assert named in str(refusal.value)
    hidden.rename(run_dir / "state-00000001")
    return True


# round trips


def saved_and_read(run_dir, tree):
    folder = start_state(run_dir, 3)
    return read_tree(seal_state(run_dir, 3, write_tree(folder, "t", tree)), "t")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_come_back_bit_for_bit(tmp_path, dtype):
    raw = torch.randint(0, 256, (6, 4, dtype.itemsize), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    raw = raw % 2 if dtype is torch.bool else raw
    table = raw.reshape(6, -1).view(dtype)  # every bit pattern, so also NaN, infinities and -0.0
    tensors = {
        "table": table,
        "across": table.T,
        "scalar": table[0, 0].clone(),
        "none": table[:, :0].clone(),
        "no row": torch.empty(0, 3, 2, dtype=dtype),
        "one row": table[3].clone(),
    }
    found = saved_and_read(tmp_path, {"inner": {"most": tensors}})["inner"]["most"]
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert found[name].shape == tensor.shape
        same = [each.contiguous().reshape(-1).view(torch.uint8) for each in (found[name], tensor)]
        assert torch.equal(*same), name


def test_the_rest_of_a_tree_comes_back(tmp_path):
    tree = {
        "generator": {"state": 2**128 - 1, "inc": -(2**127), "tensor": torch.arange(3)},
        "best": 0.1 + 0.2,
        "small": 5e-324,
        "zero": -0.0,
        "nothing": float("nan"),
        "text": 'ü "\\\n\ud800',
        "list": [None, True, [1, {"a": []}]],
        "empty": {},
        "eval/score": 1.0,
    }
    found = saved_and_read(tmp_path, tree)
    assert found["generator"].pop("tensor").tolist() == tree["generator"].pop("tensor").tolist() == [0, 1, 2]
    assert str(found) == str(tree)  # str, for 0.0 == -0.0
    assert saved_and_read(tmp_path, {"betas": (0.9, 0.95)}) == {"betas": [0.9, 0.95]}


# what cannot be saved


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"places": {3: 1}}, "places: the key 3 cannot be saved: keys must be strings"),
        ({"a": {"b|c": 1}}, r"a: the key 'b\|c' cannot be saved"),
        ({"steps": [torch.tensor(3)]}, "t cannot be saved as JSON: Object of type Tensor"),
        ({"raw": b""}, "Object of type bytes"),
    ],
)
def test_what_would_not_come_back_is_refused(tmp_path, tree, named):
    with pytest.raises(ArgumentError, match=named):
        write_tree(tmp_path, "t", tree)
    assert names_in(tmp_path) == []


BAD_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/x",
    ".x",
    "x.",
    "a..b",
    "Model",
    "manifest.json",
    "ä",
    "a\n",
    "c:x",
]


@pytest.mark.parametrize("step", [-1, 100_000_000, 1.0, True, "1"])
def test_steps_that_are_none_are_refused(tmp_path, step):
    with pytest.raises(ArgumentError, match="is no step"):
        start_state(tmp_path, step)
    assert names_in(tmp_path) == []


def test_only_what_was_recorded_is_sealed(run_dir):
    folder = start_state(run_dir, 3)
    first, *rest = write_tree(folder, "first", {}) + write_tree(folder, "second", {"a": torch.zeros(3)})
    for records, named in (
        ([first], "'first.json', which does not belong"),
        ([first, *rest, first._replace(name="third.json")], "third.json is missing"),
        ([first._replace(size=2), *rest], "first.safetensors is damaged"),
        ([first._replace(name="../x.json"), *rest], r"cannot be called '\.\./x.json'"),
    ):
        with pytest.raises(CheckpointError, match=named):
            seal_state(run_dir, 3, records)
        assert step_of(run_dir) == 2
    seal_state(run_dir, 3, [*rest, first])
    assert len(files_of(run_dir / "state-00000003")) == 4


# which states there are


def test_where_no_state_is_there_is_none(tmp_path):
    assert newest_state(tmp_path / "nowhere") == (None, [])
    assert newest_state(tmp_path) == (None, [])
    start_state(tmp_path, 5)
    for name in (
        "state-5",
        "state-000000005",
        "State-00000005",
        "state-0000000٥",
        "state-00000005.old",
        "checkpoint-5",
    ):
        (tmp_path / name).mkdir()
    assert newest_state(tmp_path) == (None, [])


def test_partial_folders_are_never_states(run_dir):
    shutil.copytree(run_dir / "state-00000002", partial_folder(run_dir / "state-00000003"))
    assert step_of(run_dir) == 2
    with pytest.raises(CheckpointError, match="is no saved state"):
        check_state(partial_folder(run_dir / "state-00000003"))
    start_state(run_dir, 4)
    assert names_in(run_dir) == [".state-00000004.partial", "state-00000001", "state-00000002"]
    mend_folders(run_dir)
    assert names_in(run_dir) == ["state-00000001", "state-00000002"]


def test_states_are_opened_by_any_path_to_them(run_dir, monkeypatch):
    monkeypatch.chdir(run_dir / "state-00000002")
    path = type(run_dir)
    check_state(path("."))
    check_state(path("../state-00000002"))
    with pytest.raises(CheckpointError, match="there is no saved state"):
        check_state(run_dir / "state-00000003")
    with pytest.raises(CheckpointError, match="is no saved state"):
        check_state(run_dir)


def test_a_state_of_the_same_step_is_replaced(run_dir):
    folder = start_state(run_dir, 2)
    seal_state(run_dir, 2, write_tree(folder, "new", {}))
    assert files_of(run_dir / "state-00000002") == ("new.json", "new.safetensors")
    assert names_in(run_dir) == ["state-00000001", "state-00000002"]


@pytest.mark.parametrize("recover", [mend_folders, lambda run_dir: start_state(run_dir, 9)])
def test_a_state_whose_replacement_was_broken_off_is_put_back(run_dir, recover):
    (run_dir / "state-00000002").rename(run_dir / ".state-00000002.replaced")
    recover(run_dir)
    assert step_of(run_dir) == 2


def test_the_newest_and_the_named_are_kept(tmp_path):
    for step in (3, 5, 10, 20, 100):
        save(tmp_path, step)
    (tmp_path / "state-00000004").symlink_to(tmp_path / "state-00000100")
    shutil.copytree(tmp_path / "state-00000003", partial_folder(tmp_path / "state-00000005"))
    (tmp_path / "checkpoint-final").mkdir()
    prune_states(tmp_path, keep=2, also=[3, 77])
    assert names_in(tmp_path) == ["checkpoint-final", "state-00000003", "state-00000020", "state-00000100"]
    prune_states(tmp_path, keep=9)
    assert names_in(tmp_path) == ["checkpoint-final", "state-00000003", "state-00000020", "state-00000100"]
    prune_states(tmp_path, keep=1)
    assert names_in(tmp_path) == ["checkpoint-final", "state-00000100"]
    assert step_of(tmp_path) == 100


# damage


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_every_region_of_every_file(run_dir, name):
    path = run_dir / "state-00000002" / name
    data = path.read_bytes()
    edges = [len(data) * i // 20 for i in range(21)]
    for start, stop in zip(edges, edges[1:]):
        assert stop > start
        for changed in (
            data[:start] + bytes(each ^ 0xFF for each in data[start:stop]) + data[stop:],  # all bits flipped
            data[: stop - 1] + bytes([data[stop - 1] ^ 1]) + data[stop:],  # one bit flipped
            data[:start],  # cut short
            data[:start] + data[stop:],  # a piece lost
            data[:start] + bytes(stop - start) + data[stop:],  # zeroed
            data[:start] + data[start:stop] * 2 + data[stop:],  # doubled
        ):
            if changed != data:  # heads of safetensors have zeros of their own
                path.write_bytes(changed)
                assert refused(run_dir, name)
    for changed in (b"", data + b"\n", data + b"\0"):
        path.write_bytes(changed)
        assert refused(run_dir, name)
    path.unlink()
    assert refused(run_dir, f"{name} is missing")
    path.write_bytes(data)
    assert step_of(run_dir) == 2


def test_files_in_the_wrong_place(run_dir):
    state, other = run_dir / "state-00000002", run_dir / "state-00000001"
    ranks = [state / f"rank-{i}.safetensors" for i in (0, 1)]
    whole = {path.name: path.read_bytes() for path in state.iterdir()}

    def mend():
        shutil.rmtree(state)
        state.mkdir()
        for name, data in whole.items():
            (state / name).write_bytes(data)
        assert step_of(run_dir) == 2

    for path, data in zip(ranks, [ranks[1].read_bytes(), ranks[0].read_bytes()]):
        path.write_bytes(data)
    assert refused(run_dir, "rank-0.safetensors is damaged")
    mend()
    for name in whole:  # of the state before, of the same size but for the manifest's step
        shutil.copy(other / name, state / name)
        assert refused(run_dir, name)
        mend()
    for extra in ("rank-2.safetensors", ".hidden", "State.json", "manifest.json~"):
        (state / extra).write_bytes(b"")
        assert refused(run_dir, extra)
        mend()
    (state / "folder").mkdir()
    assert refused(run_dir, "folder")
    mend()
    (state / "state.json").rename(state / "STATE.json")
    assert refused(run_dir, "state.json is missing")
    mend()
    for name in whole:
        (state / name).unlink()
        (state / name).symlink_to(other / name)
        assert refused(run_dir, f"{name} is a link")
        (state / name).unlink()
        (state / name).mkdir()
        assert refused(run_dir, f"{name} is a link, a folder")
        (state / name).rmdir()
        os.mkfifo(state / name)  # which to open would be to wait for ever
        assert refused(run_dir, f"{name} is a link, a folder or something else")
        mend()


def test_states_in_the_wrong_place(run_dir):
    state = run_dir / "state-00000002"
    shutil.rmtree(state)
    state.mkdir()
    assert refused(run_dir, "manifest.json is missing")
    state.rmdir()
    state.write_bytes(b"")
    assert refused(run_dir, "state-00000002 is a link or a file")
    state.unlink()
    state.symlink_to(run_dir / "state-00000001")
    assert refused(run_dir, "state-00000002 is a link or a file")
    state.unlink()
    state.symlink_to(run_dir / "nowhere")
    assert refused(run_dir, "state-00000002 is a link or a file")
    state.unlink()
    shutil.copytree(run_dir / "state-00000001", state)
    assert refused(run_dir, "manifest.json is of step 1")


def test_a_disk_that_cannot_read_is_damage(run_dir, monkeypatch):
    read = hashlib.file_digest

    def failing(file, algorithm):
        if file.name.endswith("state-00000002/state.json"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", failing)
    assert refused(run_dir, "state.json cannot be read: Input/output error")


@given(data=st.data())
def test_flipped_bytes_are_always_noticed(kept_state, data):
    path = kept_state / data.draw(st.sampled_from([*FILES, "manifest.json"]))
    whole = path.read_bytes()
    flips = st.dictionaries(st.integers(0, len(whole) - 1), st.integers(1, 255), min_size=1, max_size=5)
    changed = bytearray(whole)
    for place, bits in data.draw(flips).items():
        changed[place] ^= bits
    path.write_bytes(changed)
    try:
        with pytest.raises(CheckpointError, match=path.name):
            check_state(kept_state)
    finally:
        path.write_bytes(whole)


def test_a_tree_that_is_not_there_is_named(run_dir):
    with pytest.raises(CheckpointError, match="other.json: there is no such file"):
        read_tree(run_dir / "state-00000002", "other")


# made-up states


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        (b"", "is not valid JSON"),
        (b"[]", "holds a JSON list, expected a dict"),
        (b"{}", "format 'None'"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"step": 1' + b"0" * 5000 + b"}", "is not valid JSON"),
        (b'{"step": NaN}', "format"),
        (b'{"step": 1e999}', "format"),
        (b'{"format": "hrm_hf training state", "version": 2, "version": 2, "step": 2, "files": []}', "damaged"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (manifest_of({"format": "other"}), "format 'other'"),
    ],
)
def test_manifests_that_are_none(run_dir, manifest, named):
    (run_dir / "state-00000002" / "manifest.json").write_bytes(manifest)
    assert refused(run_dir, named)


def test_manifests_of_any_depth_are_refused(run_dir):
    for depth in range(800, 1000):  # where the limit of Python lies
        manifest = b'{"a": ' * depth + b"{}" + b"}" * depth
        (run_dir / "state-00000002" / "manifest.json").write_bytes(manifest)
        with pytest.raises(CheckpointError, match="manifest.json is (damaged|not valid JSON|of the format)"):
            check_state(run_dir / "state-00000002")


def test_a_manifest_of_a_gigabyte_is_not_read(run_dir):
    os.truncate(run_dir / "state-00000002" / "manifest.json", 1 << 30)
    assert refused(run_dir, "manifest.json has more than 16777216 bytes")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 1}, "of version 1; this hrm_hf reads version 2: resume with the hrm_hf that saved it, or start"),
        ({"version": 10**4000}, "of version 1000"),
        ({"step": 3}, "of step 3"),
        ({"step": 10**4000}, "of step 1000"),
        ({"step": "two"}, "damaged"),
        ({"step": 2.0}, "damaged"),
        ({"more": 1}, "damaged"),
        ({"files": 3}, "damaged"),
        ({"files": ["note"]}, "damaged"),
        ({"files": [{"name": "note"}]}, "damaged"),
        ({"files": []}, "which does not belong"),
    ],
)
def test_manifests_that_say_something_else(run_dir, change, named):
    state = run_dir / "state-00000002"
    (state / "manifest.json").write_bytes(manifest_of({**body_of(state), **change}))
    assert refused(run_dir, named)


@pytest.mark.parametrize(
    "change",
    [
        *({"name": name} for name in [*BAD_NAMES, "n" * 101, None, 3, ["note"]]),
        *({"size": size} for size in (-1, True, None, 10**4000)),
        *({"sha256": sha256} for sha256 in ("", "A" * 64, "g" * 64, "0" * 64, None, "0" * 63 + "\n")),
        {"name": "rank-1.json", "size": 100, "sha256": "0" * 64},
    ],
    ids=lambda change: str(change)[:50],
)
def test_records_that_say_something_else(run_dir, change):
    state = run_dir / "state-00000002"
    body = body_of(state)
    body["files"][0] |= change
    (run_dir / "x").write_bytes((state / "rank-0.json").read_bytes())  # what ../x would reach
    (state / "manifest.json").write_bytes(manifest_of(body))
    assert refused(run_dir, "state-00000002")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["name", "size", "sha256"]), inner),
    max_leaves=5,
)


@given(field=st.sampled_from(["format", "version", "step", "files"]), value=JSON_VALUES, in_record=st.booleans())
def test_no_manifest_ends_in_another_error(kept_state, field, value, in_record):
    path = kept_state / "manifest.json"
    whole, body = path.read_bytes(), body_of(kept_state)
    if in_record:
        body["files"][-1] = value
    elif body[field] != value:
        body[field] = value
    else:
        body["other"] = value
    path.write_bytes(manifest_of(body))
    try:
        with pytest.raises(CheckpointError):
            check_state(kept_state)
    finally:
        path.write_bytes(whole)


def safetensors_of(head, data=b""):
    head = json.dumps(head).encode()
    return struct.pack("<Q", len(head)) + head + data


BAD_TENSORS = [
    b"",
    b"\xff" * 8,
    safetensors_of([]),
    safetensors_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234567"),
    safetensors_of({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
    safetensors_of({"a": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}}),
    safetensors_of({"a": {"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}}),
    safetensors_of({"a": {"dtype": "F4", "shape": [0], "data_offsets": [0, 0]}}),
]


def made_up(run_dir, name, data):
    """A state whose file of this name holds something else than what was written, with a sha256 that fits."""
    folder = start_state(run_dir, 1)
    records = {record.name: record for record in write_tree(folder, "t", {})}
    (folder / name).write_bytes(data)
    records[name] = FileRecord(name, len(data), hashlib.sha256(data).hexdigest())
    return seal_state(run_dir, 1, records.values())


@pytest.mark.parametrize("number", range(len(BAD_TENSORS)))
def test_files_that_are_whole_but_no_tensors_are_refused(tmp_path, number):
    with pytest.raises(CheckpointError, match="t.safetensors is no safetensors file"):
        read_tree(made_up(tmp_path, "t.safetensors", BAD_TENSORS[number]), "t")


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_files_that_are_whole_but_no_json_are_refused(tmp_path, data):
    with pytest.raises(CheckpointError, match="t.json (is not valid JSON|holds a JSON)"):
        read_tree(made_up(tmp_path, "t.json", data), "t")


# saves that are broken off


class Stopped(BaseException):
    """The end of the process."""


def stop_before(monkeypatch, number):
    """Ends the process before the given call, counted from 0, of those that change what is on the disk."""
    calls = count()

    def stopping(call):
        def counted(*args, **kwargs):
            if next(calls) == number:
                raise Stopped
            return call(*args, **kwargs)

        return counted

    for name in ("mkdir", "rename", "fsync", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, stopping(getattr(os, name)))
    monkeypatch.setattr(states, "save_file", stopping(states.save_file))


def test_a_save_that_stops_anywhere_loses_nothing(tmp_path, monkeypatch):
    start = tmp_path / "start"
    start.mkdir()
    for step in (1, 2):
        save(start, step)
    before = (start / "state-00000002" / "manifest.json").read_bytes()
    shutil.copytree(start / "state-00000001", partial_folder(start / "state-00000001"))  # a left-over, to be removed
    seen = set()
    for number in count():
        run_dir = tmp_path / str(number)
        shutil.copytree(start, run_dir)
        stopped = False
        with monkeypatch.context() as patched:
            stop_before(patched, number)
            try:
                save(run_dir, 2, rows=40)
                prune_states(run_dir, 1)
            except Stopped:
                stopped = True
        for partial in run_dir.glob(".state-*.partial"):
            for path in partial.iterdir():  # what had not come to the disk yet
                os.truncate(path, path.stat().st_size // 2)
        mend_folders(run_dir)  # as whoever opens the run's folder does
        assert [path.name for path in run_dir.glob(".*")] == []
        state, passed_over = newest_state(run_dir)
        assert passed_over == []
        assert state.name == "state-00000002"
        for path in run_dir.glob("state-*"):
            check_state(path)
        is_old = (state / "manifest.json").read_bytes() == before
        seen.add("old" if is_old else "new")
        assert len(read_tree(state, "state")["cells"]) == (30 if is_old else 40)
        save(run_dir, 3)
        prune_states(run_dir, 2)
        assert names_in(run_dir) == ["state-00000002", "state-00000003"]
        if not stopped:
            break
    assert number > 20
    assert seen == {"old", "new"}


def test_all_is_on_the_disk_before_a_state_has_its_name(run_dir, monkeypatch):
    synced, renamed = set(), []
    fsync, rename = os.fsync, os.rename

    def noting(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checking(source, target):
        if target == run_dir / "state-00000003":
            assert {source.stat().st_ino, *(path.stat().st_ino for path in source.iterdir())} <= synced
            synced.clear()
            renamed.append(names_in(source))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "rename", checking)
    save(run_dir, 3)
    assert renamed == [sorted([*FILES, "manifest.json"])]
    assert synced == {run_dir.stat().st_ino}


def forked(work):
    """The id of a child process that does the work and leaves with 0, or with 1 and a traceback."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads; the child needs none
        child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def test_a_killed_save_leaves_whole_states(tmp_path):
    save(tmp_path, 1)
    generator = random.Random(0)
    for _ in range(15):
        begins, tells = os.pipe()
        first = step_of(tmp_path)

        def save_for_ever(first=first, tells=tells):
            for step in count(first):  # the first is replaced
                save(tmp_path, step, rows=50_000)
                os.write(tells, b"1")
                prune_states(tmp_path, 2)

        child = forked(save_for_ever)
        time.sleep(generator.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.close(tells)
        done = 0
        while os.read(begins, 1):
            done += 1
        os.close(begins)
        state, passed_over = newest_state(tmp_path)
        assert passed_over == []
        step = step_of(tmp_path)
        assert step in (first + max(done - 1, 0), first + done)  # sealed, but not told yet
        assert read_json_tree(state, "state")["rest"]["step"] == step
        assert files_of(state) == FILES
    mend_folders(tmp_path)
    assert all(name.startswith("state-") for name in names_in(tmp_path))


def test_a_full_disk_is_told_and_loses_nothing(run_dir):
    def fill():
        folder = start_state(run_dir, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for name, value in (("t", torch.zeros(10_000)), ("v", [0] * 20_000)):
            with pytest.raises(OSError, match="File too large"):
                write_tree(folder, name, {"a": value})
        mend_folders(run_dir)
        folder = start_state(run_dir, 2)
        small = write_tree(folder, "small", {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 20_000))
        with pytest.raises(OSError, match="File too large"):
            seal_state(run_dir, 2, small)
        assert files_of(run_dir / "state-00000002") == FILES
        mend_folders(run_dir)

    assert os.waitpid(forked(fill), 0)[1] == 0
    assert names_in(run_dir) == ["state-00000001", "state-00000002"]
    assert files_of(newest_state(run_dir)[0]) == FILES
