"""Which puzzles a checkpoint was trained on, as far as a small file tells: training_data.json beside its weights.

It holds a digest of every training puzzle, of many puzzles those with the least digests alone: a fair sample by which
any other file can be held against all of them.
"""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import cached_file

from ..files import read_json, write_whole
from ..hrm.errors import CheckpointError
from ..hub.checkpoints import TRAINING_DATA
from ..hub.hub_errors import clear_hub_errors
from .reader import PuzzleFile

SAYS_LITTLE = "the scores say little about new puzzles"
_KEPT = 20_000  # digests, 400 KB: of 4 million puzzles enough to tell 1,000 that were among them
_CHUNK_ROWS = 10_000


def describe_puzzles(file: PuzzleFile) -> dict[str, Any]:
    """What training_data.json says of a file: the number of its different puzzles, variants aside, and digests."""
    digests = np.unique(_digests(file, np.arange(file.info.num_rows)))
    return {"num_puzzles": len(digests), "least_digests": [f"{digest:016x}" for digest in digests[:_KEPT]]}


def trained_on(checkpoint: str) -> list[dict[str, Any]]:
    """What `describe_puzzles` said of each file that the weights were trained on, the last run first; [] unknown.

    checkpoint: folder or id on the Hub. Raises CheckpointError for a damaged training_data.json.
    """
    with clear_hub_errors(checkpoint):
        path = cached_file(checkpoint, TRAINING_DATA, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return []
    records = read_json(path, CheckpointError, list)
    for record in records:
        try:
            if not isinstance(record["num_puzzles"], int):
                raise TypeError
            _least_digests(record)
        except (LookupError, OverflowError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: it does not say which puzzles were trained on") from error
    return records


def seen_in_words(records: list[dict[str, Any]], file: PuzzleFile, numbers: np.ndarray) -> str | None:
    """How many of the puzzles in these rows of a file were trained on, in words; None: none is known to be.

    records: see `trained_on`. Variants of a puzzle count where the file has the original too.
    """
    digests = _digests(file, numbers) if records else []
    num_seen = num_compared = 0
    for record in records:
        kept = _least_digests(record)
        is_whole = len(kept) == record["num_puzzles"]
        compared = digests if is_whole or not len(kept) else digests[digests <= kept.max()]
        seen = np.isin(compared, kept).sum()
        if seen and (not num_compared or seen / len(compared) > num_seen / num_compared):
            num_seen, num_compared = int(seen), len(compared)
    if not num_seen:
        return None
    if num_compared == len(digests):
        return f"{num_seen} of these {len(digests)} puzzles"
    share = num_seen / num_compared
    return f"about {share:.0%} of these {len(digests)} puzzles ({num_seen} of {num_compared} compared)"


def write_records(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Writes training_data.json into a folder, and gives its path."""
    write_whole(folder / TRAINING_DATA, json.dumps(records) + "\n")
    return folder / TRAINING_DATA


def _least_digests(record: dict[str, Any]) -> np.ndarray:
    return np.array([int(digest, 16) for digest in record["least_digests"]], np.uint64)


def _digests(file: PuzzleFile, numbers: np.ndarray) -> np.ndarray:
    """uint64, one for each of these rows that is no variant of another: of the cells of input and label."""
    parts = [np.zeros(0, np.uint64)]
    for start in range(0, len(numbers), _CHUNK_ROWS):
        chunk = numbers[start : start + _CHUNK_ROWS]
        cells = file.read(*file.locate_rows(chunk[file.groups_and_variants(chunk)[1] == 0]))
        found = b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in cells)
        parts.append(np.frombuffer(found, ">u8").astype(np.uint64))
    return np.concatenate(parts)
