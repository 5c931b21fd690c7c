"""Reads puzzle CSV files with the columns source, question, answer, rating (plain or .gz), as published data sets
have.

It knows lines and columns, not games: questions and answers come as arrays of characters. Files are read in pieces, so
that memory stays small for millions of rows, and every error names file and line.
"""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import DataError

COLUMNS = ("source", "question", "answer", "rating")
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_ROWS = 8192
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
    that is no integer of 0 or above.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with _open_text(path) as stream:
        reader = csv.reader(stream)
        try:
            yield from _pieces(path, reader, allowed_cells)
        except (EOFError, OSError, zlib.error, csv.Error) as error:
            raise DataError(f"{path}: truncated or damaged after line {reader.line_num}: {error}") from error


def _open_text(path: Path) -> io.TextIOWrapper:
    """The file's text; compression is told by the first bytes, not by the name."""
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    open_file = gzip.open if packed else open
    return open_file(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def _pieces(path: Path, reader: Iterator[list[str]], allowed_cells: Collection[int]) -> Iterator[CsvPiece]:
    header = next(reader, None)
    if header is None:
        raise DataError(f"{path} is empty: a header line {','.join(COLUMNS)} is needed")
    header = [name.strip() for name in header]
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{path} line 1: no column {', '.join(missing)} (found: {', '.join(header)[:200]})")
    places = [header.index(name) for name in COLUMNS]
    num_cells = None
    numbered = ((reader.line_num, row) for row in reader)
    while piece := list(islice(numbered, _PIECE_ROWS)):
        lines, rows = zip(*piece, strict=True)
        for line, row in piece:
            if len(row) != len(header):
                raise DataError(f"{path} line {line}: {len(row)} columns, the header has {len(header)}")
        sources, questions, answers, ratings = ([row[place] for row in rows] for place in places)
        num_cells = len(questions[0]) if num_cells is None else num_cells
        if num_cells not in allowed_cells:
            allowed = ", ".join(map(str, sorted(allowed_cells)))
            raise DataError(f"{path} line {lines[0]}: the question has {num_cells} characters, allowed are {allowed}")
        yield CsvPiece(
            _characters(questions, num_cells, "question", path, lines),
            _characters(answers, num_cells, "answer", path, lines),
            _integers(ratings, path, lines),
            tuple(sources),
            np.array(lines, dtype=np.int32),
        )
    if num_cells is None:
        raise DataError(f"{path} has a header but no rows")


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
