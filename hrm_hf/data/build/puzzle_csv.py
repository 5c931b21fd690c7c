"""Reads puzzle CSV files with the columns source, question, answer, rating (plain or .gz), as published data sets
have.

It knows lines and columns, not games: questions and answers come as arrays of characters. Files are read in pieces, so
that memory stays small for millions of rows, and every error names file and line.
"""

import csv
import gzip
import io
import math
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ...hrm.errors import DataError

COLUMNS = ("source", "question", "answer", "rating")
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_ROWS = 8192
_PIECE_CHARACTERS = 1 << 22  # of large puzzles a piece has fewer rows
_MAX_ROW = 1 << 20  # characters: a text has 131,072 at most, by the csv module's own limit
_MAX_RATIO = 100  # of what a compressed file unpacks to, to its size; real puzzles reach a tenth of that
_ANY_RATIO_BYTES = 1 << 20  # and up to this size any ratio
_LARGEST_RATING = np.iinfo(np.int32).max


@dataclass(frozen=True)
class CsvPiece:
    """m successive rows. questions, answers: uint8 (m, S), character codes (255: not Latin-1); lines: int32 (m,),
    from 1.
    """

    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray  # (m,) int32
    sources: tuple[str, ...]  # m names
    lines: np.ndarray


def read_pieces(path: str | os.PathLike, allowed_cells: Collection[int]) -> Iterator[CsvPiece]:
    """Yield the rows of a CSV file in pieces; all questions and answers have as many characters as the first question,
    which has one of `allowed_cells`.

    The order of the columns is free, further columns are left out. Raises DataError, naming file and line: a missing,
    empty or truncated file, missing columns, a line with another number of columns, a text of another length, a rating
    that is no integer of 0 or above; a row of more than a million characters, and a compressed file that unpacks to
    more than 100 times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with _open_text(path) as stream:
        lines = _Lines(path, stream)
        reader = csv.reader(lines)
        try:
            yield from _pieces(path, reader, lines, allowed_cells)
        except (EOFError, OSError, zlib.error, csv.Error) as error:
            raise DataError(f"{path}: truncated or damaged after line {reader.line_num}: {error}") from error


def _open_text(path: Path) -> io.TextIOWrapper:
    """The file's text; compression is told by the first bytes, not by the name."""
    open_file = gzip.open if _is_packed(path) else open
    return open_file(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def _is_packed(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == _GZIP_MAGIC


class _Lines:
    """The lines of a file for the csv module, which by itself would read a line, or a row of many lines, of any size.

    `in_row`: characters since it was last set to 0, which whoever reads the rows does after each of them.
    """

    def __init__(self, path: Path, stream: io.TextIOWrapper) -> None:
        self._path, self._read_line = path, stream.readline
        self._left = max(_MAX_RATIO * path.stat().st_size, _ANY_RATIO_BYTES) if _is_packed(path) else math.inf
        self.in_row = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._read_line(_MAX_ROW)
        if not line:
            raise StopIteration
        self.in_row += len(line)
        self._left -= len(line)
        if self.in_row >= _MAX_ROW:
            raise DataError(f"{self._path}: a row has more characters than allowed, {_MAX_ROW}")
        if self._left < 0:
            raise DataError(f"{self._path}: it unpacks to more than {_MAX_RATIO} times its size")
        return line


def _rows(reader: Iterator[list[str]], lines: _Lines) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, columns) of each row."""
    for row in reader:
        lines.in_row = 0
        yield reader.line_num, row


def _pieces(
    path: Path, reader: Iterator[list[str]], lines: _Lines, allowed_cells: Collection[int]
) -> Iterator[CsvPiece]:
    header = next(reader, None)
    if header is None:
        raise DataError(f"{path} is empty: a header line {','.join(COLUMNS)} is needed")
    header = [name.strip() for name in header]
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{path} line 1: no column {', '.join(missing)} (found: {', '.join(header)[:200]})")
    places = [header.index(name) for name in COLUMNS]
    rows_of_file = _rows(reader, lines)
    first = next(rows_of_file, None)
    if first is None:
        raise DataError(f"{path} has a header but no rows")
    piece_rows = min(_PIECE_ROWS, max(_PIECE_CHARACTERS // max(sum(map(len, first[1])), 1), 1))
    rows_of_file, num_cells = chain([first], rows_of_file), None
    while piece := list(islice(rows_of_file, piece_rows)):
        numbers, rows = zip(*piece, strict=True)
        for number, row in piece:
            if len(row) != len(header):
                raise DataError(f"{path} line {number}: {len(row)} columns, the header has {len(header)}")
        sources, questions, answers, ratings = ([row[place] for row in rows] for place in places)
        num_cells = len(questions[0]) if num_cells is None else num_cells
        if num_cells not in allowed_cells:
            raise DataError(
                f"{path} line {numbers[0]}: the question has {num_cells} characters, allowed are "
                f"{_in_words(allowed_cells)}"
            )
        yield CsvPiece(
            _characters(questions, num_cells, "question", path, numbers),
            _characters(answers, num_cells, "answer", path, numbers),
            _integers(ratings, path, numbers),
            tuple(sources),
            np.array(numbers, dtype=np.int32),
        )


def _in_words(numbers: Collection[int]) -> str:
    if isinstance(numbers, range):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, sorted(numbers)))


def _characters(texts: list[str], num_cells: int, name: str, path: Path, lines: tuple[int, ...]) -> np.ndarray:
    """m texts -> uint8 (m, S)."""
    lengths = list(map(len, texts))
    if set(lengths) != {num_cells}:
        row = next(row for row, length in enumerate(lengths) if length != num_cells)
        raise DataError(
            f"{path} line {lines[row]}: the {name} has {lengths[row]} characters, the first question has {num_cells}"
        )
    codes = "".join(texts)
    if not codes.isascii():
        codes = "".join(character if character < "\xff" else "\xff" for character in codes)
    return np.frombuffer(codes.encode("latin-1"), dtype=np.uint8).reshape(len(texts), num_cells)


def _integers(texts: list[str], path: Path, lines: tuple[int, ...]) -> np.ndarray:
    """m texts -> int32 (m,)."""
    for text, line in zip(texts, lines, strict=True):
        if not (text.isdecimal() and text.isascii() and len(text) <= 10) or int(text) > _LARGEST_RATING:
            raise DataError(
                f"{path} line {line}: the rating is {text!r}, an integer from 0 to {_LARGEST_RATING} is needed"
            )
    return np.array([int(text) for text in texts], dtype=np.int32)
