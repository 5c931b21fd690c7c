"""Damaged and malicious inputs for property tests, and the judge of what comes of them.

An input may end in a result or in a documented exception with a message; not in another exception, in a hang, in
gigabytes of memory, or in a change outside of the folder that the code was told to write to. A full run tries
HRM_HOSTILE_FACTOR times as many inputs as a normal one.
"""

import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from hypothesis import strategies as st

from hrm_hf.hrm.errors import HrmError

T = TypeVar("T")
tried = 0  # inputs that result_or_documented has seen; conftest.py prints it at the end

_EXTRA_MEMORY = 2 << 30  # bytes of address space that one input may take beside what the process has already
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
_NUMBERS += (1 << 63, (1 << 64) - 1, 10**6, 10**12)
_LONGEST_SLICE = 64  # of what is deleted, repeated or moved in most changes
TOKENS = [
    *("", " ", "\n", "\r\n", "\t", "\0", "\x1b[2J", "\ufeff", "\u202e", "\ud800", "é", "٣", "𝟙", "☃", "💥"),
    *("0", "-1", "-0", "1.5", "1e999", "-1e-999", "NaN", "nan", ".nan", "Infinity", "-.inf", "0x10", "1_000", "1e3"),
    *("2147483648", "9223372036854775808", "9" * 400, "9" * 5000),
    *("null", "true", "false", "None", "~", "''", '""', '"', "'", "\\", "\\u0000", "\\ud800", "%s%n", "{}", "[]"),
    *("[", "]", "{", "}", ",", ":", "-", "#", "&a", "*a", "!!python/object/apply:os.abort []", "<<"),
    *("[" * 3000, "{'a':" * 3000, '{"a":' * 3000, "- " * 3000, "(" * 3000, "x" * 200_000, "\n" * 3000),
    *("../../../etc/passwd", "/etc/passwd", "C:\\", "..", ".", "/", "file:///etc/passwd", "con", "a/b"),
]


class _TimeIsUp(BaseException):
    """No Exception, so that the code under test does not take it for one of its own."""


def examples(quick: int) -> int:
    """How many inputs a property is tried with: `quick` in a normal run, HRM_HOSTILE_FACTOR times that in a full one.

    For `@settings(max_examples=examples(quick))`.
    """
    return quick * int(os.environ.get("HRM_HOSTILE_FACTOR", "1"))


@st.composite
def mutated(draw: st.DrawFn, seed_data: bytes, max_changes: int = 8) -> bytes:
    """The data with 1 to max_changes changes: flipped bits, other bytes, numbers at the edge of their types (1, 2, 4
    or 8 bytes in either order), slices cut out, inserted, repeated or copied to another place, or the end cut off.
    """
    data = bytearray(seed_data)
    for _ in range(draw(st.integers(1, max_changes))):
        kind = draw(st.sampled_from(("flip", "byte", "number", "number", "delete", "insert", "repeat", "copy", "cut")))
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        stop = place + draw(st.integers(1, _LONGEST_SLICE))
        if kind == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == "number":
            size = draw(st.sampled_from((1, 2, 4, 8)))
            number = draw(st.sampled_from(_NUMBERS)) & ((1 << 8 * size) - 1)
            data[place : place + size] = number.to_bytes(size, draw(st.sampled_from(("little", "big"))))
        elif kind == "delete":
            del data[place:stop]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=_LONGEST_SLICE))
        elif kind == "repeat":
            data[place:stop] = data[place:stop] * draw(st.sampled_from((2, 3, 100)))
        elif kind == "copy":
            target = draw(st.integers(0, len(data)))
            data[target : target + stop - place] = data[place:stop]
        elif kind == "cut":
            del data[place:]
    return bytes(data)


@st.composite
def mutated_text(draw: st.DrawFn, seed_text: str, tokens: list[str] = TOKENS, max_changes: int = 6) -> str:
    """The text with 1 to max_changes changes of its characters, words or lines: replaced by one of the tokens or one
    another, deleted, repeated, moved, or the end cut off.

    The tokens hold a lone surrogate: use `.encode("utf-8", "surrogatepass")` to put the text into a file.
    """
    text = seed_text
    for _ in range(draw(st.integers(1, max_changes))):
        pieces = _pieces(text, draw(st.sampled_from(("characters", "words", "words", "lines"))))
        place = draw(st.integers(0, max(len(pieces) - 1, 0)))
        stop = place + draw(st.sampled_from((1, 1, 1, 2, 5, 20)))
        kind = draw(st.sampled_from(("token", "token", "insert", "delete", "repeat", "move", "swap", "cut")))
        if kind == "token":
            pieces[place : place + 1] = [draw(st.sampled_from(tokens))]
        elif kind == "insert":
            pieces[place:place] = [draw(st.sampled_from(tokens) | st.text(max_size=8))]
        elif kind == "delete":
            del pieces[place:stop]
        elif kind == "repeat":
            pieces[place:stop] = pieces[place:stop] * draw(st.sampled_from((2, 3, 50)))
        elif kind == "move":
            moved = pieces[place:stop]
            del pieces[place:stop]
            target = draw(st.integers(0, len(pieces)))
            pieces[target:target] = moved
        elif kind == "swap" and pieces:
            other = draw(st.integers(0, len(pieces) - 1))
            pieces[place], pieces[other] = pieces[other], pieces[place]
        elif kind == "cut":
            del pieces[place:]
        text = "".join(pieces)[:1_000_000]
    return text


def _pieces(text: str, kind: str) -> list[str]:
    if kind == "characters":
        return list(text)
    if kind == "lines":
        return text.splitlines(keepends=True)
    pieces, last = [], None
    for character in text:  # runs of letters and digits are words, anything else stands alone
        if character.isalnum() and last is not None and last.isalnum():
            pieces[-1] += character
        else:
            pieces.append(character)
        last = character
    return pieces


def result_or_documented(action: Callable[[], T], *documented: type[BaseException], seconds: int = 20) -> T | None:
    """What the action returns, or None where it raises one of the documented exceptions (default: HrmError) with a
    message. Anything else that it raises goes on to the test; a hang is an AssertionError, and address space above
    _EXTRA_MEMORY a MemoryError.
    """
    global tried
    tried += 1
    allowed = documented or (HrmError,)
    try:
        with _time_limit(seconds), _memory_limit():
            return action()
    except allowed as error:
        assert str(error).strip(), f"{type(error).__name__} without a message"
        return None
    except _TimeIsUp:
        raise AssertionError(f"no end after {seconds} seconds") from None


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory_limit() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = taken + _EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(limit, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def nothing_written_outside(root: Path, allowed: Path) -> Iterator[None]:
    """Fail if a file, link or folder below `root` is created, changed or removed, other than `allowed` and what is
    below it.
    """
    before = _state(root, allowed)
    yield
    after = _state(root, allowed)
    changed = sorted(str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    assert not changed, f"written, changed or removed outside of {allowed}: {changed}"


def _state(root: Path, allowed: Path) -> dict[Path, tuple[int | str, ...]]:
    """What tells whether something below root has changed; links are not followed."""
    found: dict[Path, tuple[int | str, ...]] = {}
    allowed = allowed.absolute()
    for folder, folders, files in os.walk(root.absolute()):
        folders[:] = [name for name in folders if Path(folder, name) != allowed]
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path == allowed:
                continue
            facts = path.lstat()
            if path.is_symlink():
                found[path] = ("link", os.readlink(path))
            elif path.is_dir():
                found[path] = ("folder", facts.st_mode)
            else:
                found[path] = ("file", facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return found


def in_child(action: Callable[[], object], seconds: int = 60) -> None:
    """Run an action in a forked process, so that a crash of a C library, or a loop in it that no signal handler of
    Python ends, fails the test that asked for it and not the whole run. What the action raises is raised here as an
    AssertionError with its traceback.
    """
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            action()
        except BaseException:
            os.write(write_end, traceback.format_exc().encode(errors="replace")[-60_000:])
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"the process ended with {os.waitstatus_to_exitcode(status)}"
    assert not said, said
