"""One file of a saved training state: written with size and sha256 as its record, read back only if both still fit.

safetensors, JSON and raw bytes, nothing else; which files make a state is the business of `run_states`.
"""

import errno
import hashlib
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from ...hrm.errors import ArgumentError, CheckpointError

MANIFEST = "manifest.json"  # of a state's folder; no other file may have its name
# Lower case only: on some disks two names that differ in case are one file.
FILE_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
FILE_NAME_LIMIT = 100  # characters

# What safetensors writes and reads back. No complex ones: a conjugation may be noted in the tensor, not in its bytes.
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    torch.bool,
)


class FileRecord(NamedTuple):
    """A file as it was written: name in the state's folder, size in bytes, sha256 in hexadecimal digits."""

    name: str
    size: int
    sha256: str


# writing


def write_tensors(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> FileRecord:
    """Writes tensors of any device as a safetensors file, on the disk when this returns.

    Tensors on the CPU that are contiguous and share no memory are written from where they lie; the others are copied.

    Args:
        folder: from `start_state`.
        name: of the file, not there yet: lower-case letters, digits, "_", "-" and single dots.
        tensors: dense, of real numbers or bool.
    Raises:
        ArgumentError: a name or tensor that is not allowed.
        OSError: the file exists or cannot be written.
    """
    path = new_file(folder, name)
    ready = _ready_to_write(name, tensors)
    try:
        save_file(ready, path)
        return _on_disk(path)
    except (OSError, SafetensorError) as error:
        raise named_os_error(path, error) from error


def write_json(folder: Path, name: str, value: dict[str, Any]) -> FileRecord:
    """Writes a JSON object, on the disk when this returns; floats and whole numbers of 128 bits come back exactly.

    Args:
        folder, name: as for `write_tensors`.
        value: of dict with str keys, list, tuple (comes back as list), str, int, bool, None and finite float. What may
            be NaN or infinite belongs in a tensor, or is None.
    Raises:
        ArgumentError: a name or value that is not allowed, with its place.
        OSError: the file exists or cannot be written.
    """
    if not isinstance(value, dict):
        raise ArgumentError(f"{name}: a saved JSON value is a dict, not {type(value).__name__}")
    _check_json(value, name)
    return write_bytes(folder, name, (json.dumps(value, allow_nan=False) + "\n").encode())


def write_bytes(folder: Path, name: str, data: bytes) -> FileRecord:
    """Writes bytes as they are, on the disk when this returns.

    Args:
        folder, name: as for `write_tensors`.
    Raises:
        ArgumentError: a name that is not allowed.
        OSError: the file exists or cannot be written.
    """
    return write_new(new_file(folder, name), data)


def new_file(folder: Path, name: str) -> Path:
    """The path of a file that is not there yet. Raises ArgumentError for its name, FileExistsError where it is."""
    if not is_file_name(name):
        raise ArgumentError(
            f"{name!r} is no name for a file of a saved state: lower-case letters, digits, '_', '-' and single dots, "
            f"at most {FILE_NAME_LIMIT} characters, and not {MANIFEST}"
        )
    path = folder / name
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    return path


def is_file_name(name: Any) -> bool:
    """Whether a file of a state may be called so: nothing that leaves the folder or hides in it."""
    is_short = isinstance(name, str) and len(name) <= FILE_NAME_LIMIT
    return is_short and FILE_NAME.fullmatch(name) is not None and name != MANIFEST


def write_new(path: Path, data: bytes) -> FileRecord:
    """Writes a file that is not there yet, on the disk when this returns. Raises OSError naming it."""
    try:
        with path.open("xb") as file:
            file.write(data)
        return _on_disk(path)
    except OSError as error:
        raise named_os_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk. Raises OSError naming it."""
    if os.name == "nt":  # opens no folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise named_os_error(folder, error) from error


def named_os_error(path: Path, error: Exception) -> OSError:
    """An OSError with number and file, made of one without a file or of one that safetensors put into words."""
    number = getattr(error, "errno", None)
    if number is None:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number), str(path))


def _on_disk(path: Path) -> FileRecord:
    """The record of a file that was just written, after it was brought to the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return FileRecord(path.name, os.fstat(file.fileno()).st_size, digest)


def _ready_to_write(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, contiguous, no two of them in the same memory, which safetensors would refuse."""
    ready, storages = {}, set()
    for key, tensor in tensors.items():
        if not isinstance(key, str) or key == "__metadata__":
            raise ArgumentError(f"{name}: {key!r} cannot be the name of a tensor: allowed is text but '__metadata__'")
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.dtype not in DTYPES:
            kind = f"{tensor.layout}, {tensor.dtype}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ArgumentError(f"{name}: {key} is {kind}; allowed are dense tensors of real numbers or bool")
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        ready[key] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return ready


def _check_json(value: Any, place: str) -> None:
    """Raises ArgumentError for what JSON cannot hold or would silently bring back as something else."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise ArgumentError(f"{place}: the key {key!r} is no str")
            _check_json(each, f"{place}: {key}")
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            _check_json(each, f"{place}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ArgumentError(f"{place} is {value}, which JSON has no number for: use None or a tensor")
    elif value is not None and not isinstance(value, str | int | float):  # bool is an int
        raise ArgumentError(
            f"{place} is of {type(value).__name__}; allowed are dict, list, str, int, float, bool, None"
        )


# reading


def check_file(path: Path, size: int | None = None) -> int:
    """The size of a plain file in bytes.

    Raises:
        CheckpointError: it is missing, a link, a folder, a pipe, or of another size.
        OSError: it cannot be looked at.
    """
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path} is a link, a folder or something else than a plain file")
    if size is not None and status.st_size != size:
        raise CheckpointError(f"{path} is damaged: it has {status.st_size} bytes, not {str(size)[:20]}")
    return status.st_size


def check_content(folder: Path, record: FileRecord) -> None:
    """Raises CheckpointError unless the file has size and sha256 of its record; it is never in memory as a whole."""
    path = folder / record.name
    try:
        check_file(path, record.size)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    _check_digest(path, digest, record)


def read_checked(folder: Path, record: FileRecord) -> bytes:
    """The bytes of a file. Raises CheckpointError unless they have size and sha256 of its record."""
    path = folder / record.name
    try:
        check_file(path, record.size)
        with path.open("rb") as file:
            data = file.read(record.size + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    _check_digest(path, hashlib.sha256(data).hexdigest(), record)
    return data


def _check_digest(path: Path, digest: str, record: FileRecord) -> None:
    if digest != record.sha256:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the one in {MANIFEST}")


def parse_tensors(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, sorted by name, in memory of their own. Raises CheckpointError naming it."""
    try:
        return dict(sorted(load(data).items()))
    # all but the first: heads that safetensors lets pass, but torch cannot make tensors of
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {_first_line(error)}") from error


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parses a JSON object; NaN, infinity and keys given twice are refused, which Python's reader lets pass.

    Raises:
        CheckpointError: naming `path` and what is wrong.
    """

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is no number")

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text[:40]} is too large")
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key is given twice")
        return found

    try:
        value = json.loads(data.decode(), parse_constant=no_constant, parse_float=finite, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8 and numbers of thousands of digits
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object")
    return value


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
