"""Identifiers by name: look-ups, variants of a task, and the file that keeps them."""

import pytest

from hrm_hf.hrm.errors import CheckpointError, PuzzleError
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, FILE_NAME, PuzzleIdentifiers

NAMES = [BLANK_NAME, "007bbfb7", "007bbfb7_t1_0213456789", "", "00d62c1b", "007bbfb7_t0_0321456789", ""]


@pytest.fixture
def identifiers():
    return PuzzleIdentifiers(NAMES)


def test_names_and_rows(identifiers):
    assert len(identifiers) == 7 and identifiers.names == tuple(NAMES)
    assert [identifiers.find(name) for name in (BLANK_NAME, "00d62c1b", "007bbfb7_t0_0321456789")] == [0, 4, 5]
    assert repr(identifiers) == "PuzzleIdentifiers(7 names)"


def test_variants_of_a_task(identifiers):
    assert identifiers.variants_of("007bbfb7") == [
        ("007bbfb7", 1),
        ("007bbfb7_t1_0213456789", 2),
        ("007bbfb7_t0_0321456789", 5),
    ]
    assert identifiers.variants_of("00d62c1b") == [("00d62c1b", 4)]
    assert identifiers.variants_of("007b") == identifiers.variants_of("") == []
    identifiers.variants_of("00d62c1b").clear()  # the caller's copy
    assert identifiers.variants_of("00d62c1b") == [("00d62c1b", 4)]


@pytest.mark.parametrize(
    "name, message",
    [
        ("007bbfb8", r"no puzzle identifier has the name '007bbfb8': similar are \['007bbfb7'\]"),
        ("007bbfb7_t2_0213456789", "similar are .'007bbfb7', '007bbfb7_t1_0213456789', '007bbfb7_t0_0321456789'"),
        ("zzz", r"the names here are of the tasks \['007bbfb7', '00d62c1b'\]"),
        ("", "has the name ''"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_near_ones(identifiers, name, message):
    with pytest.raises(PuzzleError, match=message):
        identifiers.find(name)


def test_no_names_at_all():
    with pytest.raises(PuzzleError, match=r"of the tasks \[\]$"):
        PuzzleIdentifiers([]).find("a")


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "b", "a"], "'a' stands twice: for identifiers 0 and 2"),
        (["a\nb"], "identifier 0: .* is no name"),
        (["ok", "a\u2028b"], "identifier 1: .* is no name"),
        (["a "], "'a ' is no name"),
        (["a\ud800"], "'a.ud800' is no name"),
        ([None], "None is no name"),
    ],
)
def test_names_that_cannot_be_kept_are_refused(names, message):
    with pytest.raises(PuzzleError, match=message):
        PuzzleIdentifiers(names)


@pytest.mark.parametrize("names", [NAMES, [], [""], ["a", ""], [BLANK_NAME], ["t\u00e4sk"]])
def test_save_and_load(tmp_path, names):
    identifiers = PuzzleIdentifiers(names)
    path = identifiers.save(tmp_path / "checkpoint")
    assert path == tmp_path / "checkpoint" / FILE_NAME
    assert path.read_bytes() == "".join(name + "\n" for name in names).encode()
    assert PuzzleIdentifiers.load(path) == PuzzleIdentifiers.load(path.parent) == identifiers
    assert hash(PuzzleIdentifiers.load(path)) == hash(identifiers)
    assert identifiers != PuzzleIdentifiers([*names, "more"])


def test_load_reads_what_an_editor_left(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"<blank>\r\na\r\nb")
    assert PuzzleIdentifiers.load(path).names == ("<blank>", "a", "b")


def test_load_names_the_file_that_is_wrong(tmp_path):
    with pytest.raises(CheckpointError, match=f"{FILE_NAME}: No such file"):
        PuzzleIdentifiers.load(tmp_path)
    with pytest.raises(CheckpointError, match="other.txt: No such file"):
        PuzzleIdentifiers.load(tmp_path / "other.txt")
    path = tmp_path / FILE_NAME
    path.write_bytes(b"a\xff\n")
    with pytest.raises(CheckpointError, match=f"{FILE_NAME}: 'utf-8' codec can't decode"):
        PuzzleIdentifiers.load(path)
    path.write_text("a\na\n")
    with pytest.raises(CheckpointError, match=f"{FILE_NAME}: the name 'a' stands twice"):
        PuzzleIdentifiers.load(path)
