"""Reads tables of puzzles as people have them: CSV, TSV, ';', JSON lines, Parquet, lists, also in .gz or .zip.

It knows rows and columns, not games: a question or an answer is text, or what else its cell holds. Rows come in
pieces, so that memory stays small for millions of them, and every error names file and line.
"""

import csv
import gzip
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow
from pyarrow import parquet

from ...hrm.errors import ArgumentError, DataError
from ...hrm.shown_value import shown
from ...hub.downloads import fetch_dataset_file, is_hub_id
from ...progress import progress

GENERATE = "generate"  # what commands take for a source in place of a file or a Hub data set
NO_COLUMN = "none"  # what commands take for a column that is not to be read
# Names of columns, in any case. Of ratings the first that is there counts; two questions or answers are refused.
QUESTION_NAMES = (
    *("question", "questions", "quiz", "quizzes", "puzzle", "puzzles", "sudoku", "sudokus", "board", "boards"),
    *("input", "inputs", "maze", "mazes", "problem", "unsolved"),
)
ANSWER_NAMES = ("answer", "answers", "solution", "solutions", "output", "outputs", "solved", "label", "target")
RATING_NAMES = ("rating", "difficulty")
_OPTIONS = ("--question-column", "--answer-column", "--rating-column")
_FORMS = "CSV, TSV, JSON lines, Parquet, or one puzzle per line; also in .gz or .zip"
_DELIMITERS = (",", ";", "\t", "|")
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_PIECE_ROWS = 8192
_PIECE_CHARACTERS = 1 << 22  # of large puzzles a piece has fewer rows
_MAX_ROW = 1 << 20  # characters: a text has 131,072 at most, by the csv module's own limit
_MAX_RATIO = 100  # of what a packed file unpacks to, to its size; real puzzles reach a tenth of that
_ANY_RATIO_BYTES = 1 << 20  # and up to this size any ratio
_MAX_WHOLE = 1 << 30  # bytes of a packed Parquet file, which is unpacked into memory
# What reading a damaged file raises; an OSError may be the disk's, and is told alike.
_DAMAGE = (EOFError, OSError, RuntimeError, UnicodeDecodeError, zlib.error, csv.Error, zipfile.BadZipFile)
_DAMAGE += (pyarrow.ArrowException,)

Row = tuple[int, Sequence[Any]]  # the number of its (last) line, its cells


def table_file(source: str, split: str) -> Path:
    """The file of a source: the file itself, or train.csv or test.csv of a Hub data set, fetched.

    split: "train" or "test". Raises DataError, with the ways out, if it cannot be fetched. That a named file exists is
    not checked here.
    """
    if not is_hub_id(source) or Path(source).is_file():
        return Path(source)
    try:
        return fetch_dataset_file(source, f"{split}.csv")
    except DataError as error:
        ways = f"without network give --{split}-source FILE, or make puzzles by --train-source {GENERATE}"
        raise DataError(f"{error}; {ways}") from error


class Columns(NamedTuple):
    """Columns by name, in any case, or by number from 1; None: found by a common name, NO_COLUMN: not read."""

    question: str | None = None
    answer: str | None = None
    rating: str | None = None


@dataclass(frozen=True)
class TablePiece:
    """m successive rows."""

    questions: list[Any]  # m cells: text, or the lists of JSON and Parquet
    answers: list[Any]  # m cells; None: there is no answer
    ratings: np.ndarray  # (m,) float64, 0 without a rating
    sources: list[str]  # m names, "" without a source
    places: list[str]  # m words for errors: the line of the file, or the row of a Parquet or JSON file
    numbers: np.ndarray  # (m,) int32: rows of the table, from 1, the header not counted


def read_pieces(
    path: str | os.PathLike,
    columns: Columns | None = None,
    is_puzzle: Callable[[Any], bool | None] = lambda cell: None,
    notes: list[str] | None = None,
    comment: str | None = None,
) -> Iterator[TablePiece]:
    """Yield the rows of a table in pieces; blank lines count as no row.

    The order of the columns is free, further columns are left out. What says which columns were taken is appended to
    `notes`, before the first piece. Only the columns of questions and answers are ever needed.

    Args:
        is_puzzle: a cell -> True for a puzzle, False for a puzzle without blanks, None for anything else. It finds
            the columns where no header names them; without it a table needs a header.
        comment: what begins a line to be left out: of a table without header, or before the header.
    Raises:
        DataError: naming file and line: a missing, empty or damaged file, one of another form, no column or two for
            the question, a line with another number of columns, a rating that is no number, a row of more than a
            million characters, a packed file that unpacks to more than 100 times its size.
    """
    path, columns = Path(path), Columns() if columns is None else columns
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with ExitStack() as opened, open(path, "rb") as file:
        table = _Table(path, columns, is_puzzle, comment)
        try:
            stream, inner = _unpacked(path, file, opened)
            header, rows, where = table.open(stream, is_packed=stream is not file, name=inner)
            first = next(rows, None)
        except _DAMAGE as error:
            raise DataError(f"{path}: truncated or damaged: {error}") from error
        if first is None and header is None:
            raise DataError(f"{path} is empty: expected {_FORMS}")
        if first is None:
            raise DataError(f"{path} has a header but no rows")
        table.check_width(first, len(header or first[1]), header, where)
        places = table.places(header, first)
        if notes is not None:
            notes.append(f"{path}: {_in_words(places, header)}")
        size = path.stat().st_size
        with progress(description=f"reading {path.name}", unit="MB", total=size // 10**6) as bar:
            for piece in table.pieces(chain([first], rows), header, places, where):
                yield piece
                bar.update(file.tell() // 10**6 - bar.n)


class _Table:
    """How one file is read: see `read_pieces`."""

    def __init__(self, path: Path, columns: Columns, is_puzzle: Callable, comment: str | None) -> None:
        self.path, self.columns, self.is_puzzle, self.comment = path, columns, is_puzzle, comment

    def open(
        self, stream: BinaryIO, is_packed: bool, name: str
    ) -> tuple[list[str] | None, Iterator[Row], Callable[[int], str]]:
        """(names of the columns, None without a header; the rows; what an error calls a row's number)."""
        head = stream.peek(4096)[:4096]
        if head[:4] == _PARQUET:
            header, rows = self._parquet_rows(stream, is_packed)
            return header, rows, "row {}".format
        encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        if encoding != "utf-16" and b"\0" in head:
            raise DataError(f"{name} is no table that is known here; expected {_FORMS}")
        self.text = io.TextIOWrapper(stream, encoding, errors="replace", newline="")  # kept: its end closes the file
        lines = self._lines(self.text, is_packed)
        begin = head.decode("utf-8-sig" if encoding != "utf-16" else "utf-16", errors="replace").lstrip()
        if begin.startswith("{"):
            header, rows = self._json_rows(lines)
            return header, rows, "line {}".format
        if begin.startswith("[") and begin[1:].lstrip()[:1] == "{":
            records = self._parsed("".join(lines), "")
            header, rows = self._records(enumerate(records, 1))
            return header, rows, "row {}".format
        header, rows = self._text_rows(lines)
        return header, rows, "line {}".format

    def _lines(self, text: io.TextIOWrapper, is_packed: bool) -> Iterator[str]:
        """Lines with their ends, none endless and not more than a packed file may hold."""
        left = max(_MAX_RATIO * self.path.stat().st_size, _ANY_RATIO_BYTES) if is_packed else math.inf
        number = 0
        while True:
            try:
                line = text.readline(_MAX_ROW)
            except _DAMAGE as error:
                raise DataError(f"{self.path}: truncated or damaged after line {number}: {error}") from error
            if not line:
                return
            number, left = number + 1, left - len(line)
            if len(line) >= _MAX_ROW:
                raise DataError(f"{self.path}: a row has more than {_MAX_ROW} characters")
            if left < 0:
                raise DataError(f"{self.path}: it unpacks to more than {_MAX_RATIO} times its size")
            yield line

    def _text_rows(self, lines: Iterator[str]) -> tuple[list[str] | None, Iterator[Row]]:
        number, line = 0, ""
        for number, line in enumerate(lines, 1):  # noqa: B007
            if line.strip() and not self._is_comment(line):
                break
        else:
            return None, iter(())
        lines = chain([line], lines)
        header, delimiter = self._form(line, number)
        if delimiter is None:  # one puzzle a line, whatever signs stand between its cells
            rows = ((at, [text.strip()]) for at, text in enumerate(lines, number))
        else:
            rows = self._csv_rows(lines, delimiter, number - 1)
        if header is None:
            return None, ((at, row) for at, row in rows if not self._is_comment(str(row[0])) and any(row))
        header = [name.strip() for name in next(rows)[1]]
        return header, rows

    def _is_comment(self, line: str) -> bool:
        return self.comment is not None and line.lstrip().startswith(self.comment)

    def _form(self, line: str, number: int) -> tuple[list[str] | None, str | None]:
        """(header or None, delimiter; None: the line is one puzzle) by the first line."""
        named = {str(name).casefold() for name in self.columns if name is not None} | {*QUESTION_NAMES, *ANSWER_NAMES}
        split = {delimiter: next(csv.reader([line], delimiter=delimiter), []) for delimiter in _DELIMITERS}
        for delimiter, cells in split.items():
            if named & {cell.strip().casefold() for cell in cells} - set(map(str, range(100))):
                return cells, delimiter
        split[" "] = line.split()
        for delimiter, cells in split.items():
            if 1 <= sum(self.is_puzzle(cell) is not None for cell in cells) <= 2 and len(cells) > 1:
                return None, delimiter
        if self.is_puzzle(line.strip()) is not None:
            return None, None
        delimiter = max(_DELIMITERS, key=lambda each: len(split[each]))
        cells, question = split[delimiter], self.columns.question
        if question is not None and question.isdecimal() and 1 <= int(question) <= len(cells):
            return (cells if self.is_puzzle(cells[int(question) - 1]) is None else None), delimiter
        raise self._no_column(cells, f"line {number}")

    def _csv_rows(self, lines: Iterator[str], delimiter: str, before: int) -> Iterator[Row]:
        in_row = 0  # characters; the csv module would read a row of many lines, of any size

        def counted() -> Iterator[str]:
            nonlocal in_row
            for line in lines:
                in_row += len(line)
                if in_row >= _MAX_ROW:
                    raise DataError(f"{self.path}: a row has more than {_MAX_ROW} characters")
                yield line

        reader = csv.reader(counted(), delimiter=delimiter, skipinitialspace=delimiter == " ")
        try:
            for row in reader:
                in_row = 0
                if row and (len(row) > 1 or row[0].strip()):
                    yield before + reader.line_num, row
        except csv.Error as error:
            raise DataError(
                f"{self.path}: truncated or damaged after line {before + reader.line_num}: {error}"
            ) from error

    def _json_rows(self, lines: Iterator[str]) -> tuple[list[str], Iterator[Row]]:
        numbered = ((at, line) for at, line in enumerate(lines, 1) if line.strip())
        return self._records((at, self._parsed(line, f" line {at}")) for at, line in numbered)

    def _parsed(self, text: str, where: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}{where}: it is not valid JSON: {shown(str(error))}") from error

    def _records(self, records: Iterator[tuple[int, Any]]) -> tuple[list[str], Iterator[Row]]:
        """JSON objects, of which the first has all names."""
        header: list[str] = []

        def rows() -> Iterator[Row]:
            for at, record in records:
                if not isinstance(record, dict):
                    found = f'expected an object such as {{"puzzle": ..., "solution": ...}}, found {shown(record)}'
                    raise DataError(f"{self.path} line {at}: {found}")
                if not header:
                    header.extend(map(str, record))
                yield at, [record.get(name) for name in header]

        found = rows()
        first = next(found, None)
        return header, found if first is None else chain([first], found)

    def _parquet_rows(self, stream: BinaryIO, is_packed: bool) -> tuple[list[str], Iterator[Row]]:
        if is_packed:  # its end says what is in it
            most = min(max(_MAX_RATIO * self.path.stat().st_size, _ANY_RATIO_BYTES), _MAX_WHOLE)
            content = stream.read(most + 1)
            if len(content) > most:
                raise DataError(f"{self.path}: it unpacks to more than {most} bytes")
            stream = io.BytesIO(content)
        file = parquet.ParquetFile(stream)
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        most = max(_MAX_RATIO * self.path.stat().st_size, _ANY_RATIO_BYTES)
        if sum(group.total_byte_size for group in groups) > most:
            raise DataError(f"{self.path}: it unpacks to more than {_MAX_RATIO} times its size")
        header = file.schema_arrow.names

        def rows() -> Iterator[Row]:
            at = 0
            try:
                for batch in file.iter_batches(_PIECE_ROWS):
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        at += 1
                        yield at, row
            except _DAMAGE as error:
                raise DataError(f"{self.path}: truncated or damaged after row {at}: {error}") from error

        return header, rows()

    def places(self, header: list[str] | None, first: Row) -> dict[str, int]:
        """The places of "question", and as far as they are there "answer", "rating", "source"."""
        cells = first[1]
        if header is None:
            kinds = [self.is_puzzle(cell) for cell in cells]
            puzzles = [place for place, kind in enumerate(kinds) if kind is not None]
            # a puzzle has blanks and an answer has none; where both or none have, the puzzle comes first
            puzzles.sort(key=lambda place: not kinds[place])
            found = dict(zip(("question", "answer"), puzzles, strict=False)) if len(puzzles) <= 2 else {}
            header = [""] * len(cells)
        else:
            named = [name.casefold() for name in header]
            found = {}
            for role, names in (("question", QUESTION_NAMES), ("answer", ANSWER_NAMES)):
                places = [place for place, name in enumerate(named) if name in names]
                if len(places) > 1 and getattr(self.columns, role) is None:
                    both = " and ".join(repr(header[place]) for place in places)
                    raise DataError(f"{self.path}: both columns {both} may be the {role}: name one by --{role}-column")
                found |= {role: places[0]} if places else {}
            for role, names in (("rating", RATING_NAMES), ("source", ("source",))):
                places = [named.index(name) for name in names if name in named]
                found |= {role: places[0]} if places else {}
            if self.columns.rating is None and "rating" in found and _number(cells[found["rating"]]) is None:
                del found["rating"]  # such as "easy": nothing needs it
        for role, name in self.columns._asdict().items():
            if name == NO_COLUMN and role != "question":
                found.pop(role, None)
            elif name is not None:
                found[role] = self._named_place(name, header, f"--{role}-column")
        if "question" not in found:
            raise self._no_column(header if any(header) else [shown(cell) for cell in cells], "column names")
        if found["question"] == found.get("answer"):
            raise ArgumentError(f"{self.path}: question and answer are the same column")
        return found

    def _named_place(self, name: str, header: list[str], option: str) -> int:
        for names, wanted in ((header, name), ([each.casefold() for each in header], name.casefold())):
            if names.count(wanted) == 1:
                return names.index(wanted)
        if name.isdecimal() and 1 <= int(name) <= len(header):
            return int(name) - 1
        names = ", ".join(header)[:200] if any(header) else "it has no header"
        raise DataError(f"{self.path}: no column {name!r} ({option}); {names}; or give a number, 1 to {len(header)}")

    def _no_column(self, found: Sequence[str], where: str) -> DataError:
        names = ", ".join(map(str, found))[:200]
        how = f"name it by {_OPTIONS[0]}; common names are {', '.join(QUESTION_NAMES[:10:2])}, input"
        return DataError(f"{self.path} {where}: no column is known to hold the question (found: {names}): {how}")

    def check_width(self, row: Row, num_columns: int, header: list[str] | None, where: Callable[[int], str]) -> None:
        """Raises DataError for a row of another number of columns."""
        if len(row[1]) != num_columns:
            of = "the header" if header is not None else "the first row"
            raise DataError(f"{self.path} {where(row[0])}: {len(row[1])} columns, {of} has {num_columns}")

    def pieces(
        self, rows: Iterator[Row], header: list[str] | None, places: dict[str, int], where: Callable[[int], str]
    ) -> Iterator[TablePiece]:
        num_columns, piece_rows, done = None if header is None else len(header), 1, 0
        while piece := list(islice(rows, piece_rows)):
            lines, found = zip(*piece, strict=True)
            if num_columns is None:
                num_columns = len(found[0])
            for row in piece:
                self.check_width(row, num_columns, header, where)
            columns = {role: [row[place] for row in found] for role, place in places.items()}
            if not done:  # the first row tells how long rows are
                characters = sum(len(str(cell)) for cell in found[0])
                piece_rows = min(_PIECE_ROWS, max(_PIECE_CHARACTERS // max(characters, 1), 1))
            yield TablePiece(
                columns["question"],
                [None if _is_missing(cell) else cell for cell in columns.get("answer", [None] * len(piece))],
                self._ratings(columns.get("rating", [0.0] * len(piece)), lines, where),
                [str(source) for source in columns.get("source", [""] * len(piece))],
                [where(at) for at in lines],
                np.arange(done + 1, done + 1 + len(piece), dtype=np.int32),
            )
            done += len(piece)

    def _ratings(self, cells: list[Any], lines: Sequence[int], where: Callable[[int], str]) -> np.ndarray:
        ratings = [_number(cell) for cell in cells]
        if None in ratings:
            row = ratings.index(None)
            how = f"expected a number; {_OPTIONS[2]} {NO_COLUMN} leaves ratings out"
            raise DataError(f"{self.path} {where(lines[row])}: the rating is {shown(cells[row])}, {how}")
        return np.array(ratings, np.float64)


def _unpacked(path: Path, file: BinaryIO, opened: ExitStack) -> tuple[BinaryIO, str]:
    """The table's bytes, unpacked from .gz, .zip or both, and what to call it; the content tells, not the name."""
    stream, name = file, str(path)
    for _ in range(3):
        head = stream.peek(4)[:4]
        if head[:2] == _GZIP:
            stream = io.BufferedReader(opened.enter_context(gzip.GzipFile(fileobj=stream)))
        elif head == _ZIP:
            if stream is not file:
                raise DataError(f"{name}: a .zip inside a packed file is not read; unpack it first")
            archive = opened.enter_context(zipfile.ZipFile(stream))
            parts = [each for each in archive.infolist() if not each.is_dir() and not _is_dust(each.filename)]
            if len(parts) != 1:
                names = ", ".join(each.filename for each in parts)[:200]
                raise DataError(
                    f"{path} holds {len(parts)} files, expected one table: unpack it and name one ({names})"
                )
            stream = io.BufferedReader(opened.enter_context(archive.open(parts[0])))
            name = f"{path} ({parts[0].filename})"
        else:
            return stream, name
    raise DataError(f"{path} is packed more than twice; unpack it first")


def _is_dust(name: str) -> bool:
    """What systems and data sets put beside a table."""
    last = name.rsplit("/", 1)[-1].casefold()
    return (
        name.startswith("__MACOSX/") or last.startswith((".", "readme", "license", "licence")) or last.endswith(".md")
    )


def _in_words(places: dict[str, int], header: list[str] | None) -> str:
    """Which columns were taken, on one line."""
    words = [
        f"{role} from column {place + 1 if header is None or not header[place] else repr(header[place])}"
        for role, place in sorted(
            places.items(), key=lambda each: ("question", "answer", "rating", "source").index(each[0])
        )
    ]
    missing = [role for role in ("answer", "rating") if role not in places]
    return ", ".join(words) + (f"; no {' and no '.join(missing)}" if missing else "")


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell  # noqa: PLR0124, NaN


def _number(cell: Any) -> float | None:
    """A cell as a finite number, None for anything else."""
    if (
        isinstance(cell, bool)
        or not isinstance(cell, int | float | str)
        or (isinstance(cell, str) and len(cell) > 100)
    ):
        return None
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
