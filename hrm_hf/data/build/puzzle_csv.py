"""Reads puzzle CSV files with the columns source, question, answer, rating (plain or .gz), as published.

It knows lines and columns, not games: questions and answers come as arrays of characters. Files are read in pieces, so
that memory stays small for millions of rows, and every error names file and line.
"""

import csv
import gzip
import io
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ...hrm.errors import DataError
from ...hub.downloads import fetch_dataset_file, is_hub_id
from ...progress import progress

COLUMNS = ("source", "question", "answer", "rating")
GENERATE = "generate"  # what commands take for a source in place of a file or a Hub data set
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_ROWS = 8192
_PIECE_CHARACTERS = 1 << 22  # of large puzzles a piece has fewer rows
_MAX_ROW = 1 << 20  # characters: a text has 131,072 at most, by the csv module's own limit
_MAX_RATIO = 100  # of what a compressed file unpacks to, to its size; real puzzles reach a tenth of that
_ANY_RATIO_BYTES = 1 << 20  # and up to this size any ratio
_LARGEST_RATING = np.iinfo(np.int32).max


def csv_file(source: str, split: str) -> Path:
    """The CSV file of a source: the file itself, or train.csv or test.csv of a Hub data set, fetched.

    split: "train" or "test". Raises DataError, with the ways out, if it cannot be fetched. That a named file exists is
    not checked here.
    """
    if not is_hub_id(source):
        return Path(source)
    try:
        return fetch_dataset_file(source, f"{split}.csv")
    except DataError as error:
        ways = f"without network give --{split}-source FILE, or make puzzles by --train-source {GENERATE}"
        raise DataError(f"{error}; {ways}") from error


@dataclass(frozen=True)
class CsvPiece:
    """m successive rows. questions, answers: uint8 (m, S), character codes (255: not Latin-1); lines count from 1."""

    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray  # (m,) int32
    sources: tuple[str, ...]  # m names
    lines: np.ndarray  # (m,) int32


def read_pieces(path: str | os.PathLike) -> Iterator[CsvPiece]:
    """Yield the rows of a CSV file in pieces; all questions and answers have as many characters as the first question.

    The order of the columns is free, further columns are left out. Raises DataError, naming file and line: a missing,
    empty or truncated file, missing columns, a line with another number of columns, a text of another length, a rating
    that is no integer of 0 or above; a row of more than a million characters, and a compressed file that unpacks to
    more than 100 times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, "rb") as file:
        is_packed = file.peek(2)[:2] == _GZIP_MAGIC  # the name does not tell
        stream = gzip.GzipFile(fileobj=file) if is_packed else file
        with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text:
            yield from _read_pieces(path, file, text, is_packed)


def _read_pieces(path: Path, file: io.BufferedReader, text: io.TextIOWrapper, is_packed: bool) -> Iterator[CsvPiece]:
    size = path.stat().st_size
    left = max(_MAX_RATIO * size, _ANY_RATIO_BYTES) if is_packed else math.inf
    in_row = 0  # characters; the csv module itself would read a line, or a row of many lines, of any size

    def lines() -> Iterator[str]:
        nonlocal left, in_row
        while line := text.readline(_MAX_ROW):
            in_row, left = in_row + len(line), left - len(line)
            if in_row >= _MAX_ROW:
                raise DataError(f"{path}: a row has more than {_MAX_ROW} characters")
            if left < 0:
                raise DataError(f"{path}: it unpacks to more than {_MAX_RATIO} times its size")
            yield line

    def rows() -> Iterator[tuple[int, list[str]]]:
        """(number of its last line, columns) of each row."""
        nonlocal in_row
        try:
            for row in reader:
                in_row = 0
                yield reader.line_num, row
        except (EOFError, OSError, zlib.error, csv.Error) as error:
            raise DataError(f"{path}: truncated or damaged after line {reader.line_num}: {error}") from error

    reader = csv.reader(lines())
    numbered = rows()
    _, header = next(numbered, (0, None))
    if header is None:
        raise DataError(f"{path} is empty: expected a header line {','.join(COLUMNS)}")
    header = [name.strip() for name in header]
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{path} line 1: no column {', '.join(missing)} (found: {', '.join(header)[:200]})")
    places = [header.index(name) for name in COLUMNS]
    num_cells, piece_rows = None, 1  # the first piece tells how long rows are
    with progress(description=f"reading {path.name}", unit="MB", total=size // 10**6) as bar:
        while piece := list(islice(numbered, piece_rows)):
            numbers, found = zip(*piece, strict=True)
            for number, row in piece:
                if len(row) != len(header):
                    raise DataError(f"{path} line {number}: {len(row)} columns, the header has {len(header)}")
            sources, questions, answers, ratings = ([row[place] for row in found] for place in places)
            if num_cells is None:
                num_cells = len(questions[0])
                piece_rows = min(_PIECE_ROWS, max(_PIECE_CHARACTERS // max(sum(map(len, found[0])), 1), 1))
            yield CsvPiece(
                _characters(questions, num_cells, "question", path, numbers),
                _characters(answers, num_cells, "answer", path, numbers),
                _integers(ratings, path, numbers),
                tuple(sources),
                np.array(numbers, dtype=np.int32),
            )
            bar.update(file.tell() // 10**6 - bar.n)
    if num_cells is None:
        raise DataError(f"{path} has a header but no rows")


def _characters(texts: list[str], num_cells: int, name: str, path: Path, lines: tuple[int, ...]) -> np.ndarray:
    """m texts -> uint8 (m, S)."""
    for text, line in zip(texts, lines, strict=True):
        if len(text) != num_cells:
            sizes = f"has {len(text)} characters, the first question has {num_cells}"
            raise DataError(f"{path} line {line}: the {name} {sizes}")
    codes = "".join(texts)
    if not codes.isascii():
        codes = "".join(min(character, "\xff") for character in codes)
    return np.frombuffer(codes.encode("latin-1"), dtype=np.uint8).reshape(len(texts), num_cells)


def _integers(texts: list[str], path: Path, lines: tuple[int, ...]) -> np.ndarray:
    """m texts -> int32 (m,)."""
    for text, line in zip(texts, lines, strict=True):
        if not (text.isdecimal() and text.isascii() and len(text) <= 10) or int(text) > _LARGEST_RATING:
            raise DataError(f"{path} line {line}: the rating is {text!r}, expected an integer up to {_LARGEST_RATING}")
    return np.array([int(text) for text in texts], dtype=np.int32)
