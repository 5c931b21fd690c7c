"""Files in one way for every room: JSON read within limits, files written whole, nothing overwritten unasked."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .hrm.errors import ArgumentError, HrmError

MAX_JSON_BYTES = 16 * 2**20
_MAX_LINE = 2000  # characters of a message


def read_json(
    path: str | os.PathLike, error: type[HrmError], kind: type = dict, max_bytes: int = MAX_JSON_BYTES
) -> Any:
    """The content of a JSON file.

    Args:
        error: what to raise for a file that is missing, too large, not JSON, or holds another type than `kind`.
        kind: dict or list; object for any.
    """
    return parse_json(read_within(path, error, max_bytes), path, error, kind)


def read_within(path: str | os.PathLike, error: type[HrmError], max_bytes: int) -> bytes:
    """The content of a file; `error` if it is missing, larger, a folder, or a pipe or device, which may never end."""
    try:
        if not os.path.isfile(path):
            raise error(f"{path}: " + ("it is a folder" if os.path.isdir(path) else "there is no such file"))
        if os.path.getsize(path) > max_bytes:
            raise error(f"{path} has more than {max_bytes} bytes")
        return Path(path).read_bytes()
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror or reason}") from reason


def parse_json(content: bytes | str, name: object, error: type[HrmError], kind: type = dict) -> Any:
    """As `read_json`, for content that is at hand; `name` says in the message where it is from."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as reason:  # ValueError: not JSON, not UTF-8, a number of too many digits
        raise error(f"{name} is not valid JSON: {one_line(reason)}") from reason
    if not isinstance(value, kind):
        raise error(f"{name} holds a JSON {type(value).__name__}, expected a {kind.__name__}")
    return value


@contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once the block has ended without an error.

    A reader sees the old file or the new one, also after a power cut, and a link is replaced, not written through.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file as `written_whole` does; a str as UTF-8, its line ends as they are."""
    with written_whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def refuse_existing(*paths: str | os.PathLike, how: str = "choose another folder, or pass --overwrite") -> None:
    """Raises ArgumentError if one of the paths exists."""
    for path in map(Path, paths):
        if path.exists():
            raise ArgumentError(f"{path} already exists: {how}")


def sync(path: Path) -> None:
    """Brings a file or folder to the disk, so that a rename never arrives there before what it renames."""
    if path.is_dir() and os.name == "nt":  # opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_folder(folder: Path) -> Path:
    """Where `start_folder` puts a folder together."""
    return folder.with_name(f".{folder.name}.partial")


def start_folder(folder: Path) -> Path:
    """Makes an empty folder beside `folder`, to be filled and then to take its place by `finish_folder`."""
    partial = partial_folder(folder)
    remove(partial)
    partial.mkdir()
    return partial


def finish_folder(folder: Path) -> None:
    """Gives the folder that was put together its name, whole or not at all; one that is there is replaced.

    Should the process end between the two renames, `mend_folders` brings back what was to be replaced.
    """
    partial, replaced = partial_folder(folder), folder.with_name(f".{folder.name}.replaced")
    for path in (*partial.iterdir(), partial):
        sync(path)
    remove(replaced)
    if os.path.lexists(folder):
        os.rename(folder, replaced)
    os.rename(partial, folder)
    sync(folder.parent)
    remove(replaced)


def mend_folders(parent: Path) -> None:
    """Removes what writing whole has left in a folder where it was broken off."""
    for path in sorted(parent.glob(".*.replaced")):
        folder = path.with_name(path.name[1:].removesuffix(".replaced"))
        remove(path) if os.path.lexists(folder) else os.rename(path, folder)
    for path in sorted(parent.glob(".*.partial")):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def one_line(message: object) -> str:
    """An error's message without line breaks and control characters, as names of files may bring them along."""
    words = " ".join(str(message)[:_MAX_LINE].split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)
