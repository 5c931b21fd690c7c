"""Reads tables of puzzles as people have them: CSV, TSV, ';', JSON lines, Parquet, lists, also in .gz or .zip.

It knows rows and columns, not games: a question or an answer is text, or what else its cell holds. Rows come in
pieces, so that memory stays small for millions of them, and every error names file and line.
"""

import csv
import gzip
import io
import itertools
import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow
from pyarrow import parquet

from ...hrm.errors import DataError
from ...hrm.shown_value import shown
from ...hub.downloads import fetch_dataset_file, is_hub_id
from ...progress import progress

GENERATE = "generate"  # what commands take for a source in place of a file or a Hub data set
NO_COLUMN = "none"  # what commands take for a column that is not to be read
# Names of columns, in any case. Of ratings the first that is there counts; two questions or answers are refused.
NAMES = {
    "question": (
        *("question", "questions", "quiz", "quizzes", "puzzle", "puzzles", "sudoku", "sudokus", "board", "boards"),
        *("input", "inputs", "maze", "mazes", "problem", "unsolved"),
    ),
    "answer": ("answer", "answers", "solution", "solutions", "output", "outputs", "solved", "label", "target"),
    "rating": ("rating", "difficulty"),
    "source": ("source",),
}
_MISSING = ("", "nan", "none", "null", "na", "n/a")  # what stands for no answer and no rating, in any case
_FORMS = "CSV, TSV, JSON lines, Parquet, or one puzzle per line; also in .gz or .zip"
_DELIMITERS = (",", ";", "\t", "|")
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_SAMPLE = 1 << 16  # characters that tell the form of a text
_PIECE_ROWS = 8192
_PIECE_CHARACTERS = 1 << 22  # of large puzzles a piece has fewer rows
_MAX_RATIO = 100  # of what a packed file unpacks to, to its size; real puzzles reach a tenth of that
_ANY_RATIO_BYTES = 1 << 20  # and up to this size any ratio
# What unpacking and reading raise; an OSError may be the disk's, and is told alike.
_NOT_UNPACKED = (EOFError, OSError, RuntimeError, zlib.error, zipfile.BadZipFile)
_NOT_READ = (OSError, UnicodeError, csv.Error, pyarrow.ArrowException)

# The number of its (last) line, and its cells. Line 0: the names of the columns.
Row = tuple[int, Sequence[Any]]


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
            the question, a line with another number of columns, a rating that is no number, a packed file that unpacks
            to more than 100 times its size.
    """
    path, columns, notes = Path(path), columns or Columns(), [] if notes is None else notes
    if not path.is_file():
        raise DataError(f"{path} is a folder: name one file" if path.is_dir() else f"{path}: there is no such file")
    done, after = 0, ""
    with ExitStack() as opened:
        file = _unpacked(path, opened)
        size = os.fstat(file.fileno()).st_size
        bar = opened.enter_context(progress(description=f"reading {path.name}", unit="MB", total=size // 10**6))
        try:
            word, rows = _rows(path, file, opened, columns, is_puzzle, comment)
            first = next(rows, None)
            header = first[1] if first is not None and first[0] == 0 else None
            first = next(rows, None) if header is not None else first
            if first is None:
                found = "has a header but no rows" if header is not None else f"is empty: expected {_FORMS}"
                raise DataError(f"{path} {found}")
            width = len(first[1] if header is None else header)
            rows, places = itertools.chain([first], rows), None
            piece_rows = 1  # the first row tells how long rows are
            while piece := list(islice(rows, piece_rows)):
                for at, cells in piece:
                    if len(cells) != width:
                        of = "the first row" if header is None else "the header"
                        raise DataError(f"{path} {word} {at}: {len(cells)} columns, {of} has {width}")
                if places is None:
                    places, note = _places(path, columns, is_puzzle, header, first[1])
                    notes.append(f"{path}: {note}")
                    characters = sum(len(str(cell)) for cell in first[1])
                    piece_rows = min(_PIECE_ROWS, max(_PIECE_CHARACTERS // max(characters, 1), 1))
                lines, found = zip(*piece, strict=True)
                of_role = {role: [cells[place] for cells in found] for role, place in places.items()}
                where = [f"{word} {at}" for at in lines]
                yield TablePiece(
                    of_role["question"],
                    [None if _is_missing(cell) else cell for cell in of_role.get("answer", [None] * len(piece))],
                    _ratings(path, of_role.get("rating", [None] * len(piece)), where),
                    [str(source) for source in of_role.get("source", [""] * len(piece))],
                    where,
                    np.arange(done + 1, done + 1 + len(piece), dtype=np.int32),
                )
                done, after = done + len(piece), f" after {where[-1]}"
                bar.update(file.tell() // 10**6 - bar.n)
        except _NOT_READ as error:
            raise DataError(f"{path}: truncated or damaged{after}: {error}") from error


def _unpacked(path: Path, opened: ExitStack) -> BinaryIO:
    """The table's bytes, unpacked from .gz, .zip or both; the content tells, not the name."""
    file = opened.enter_context(open(path, "rb"))  # noqa: SIM115
    left = max(_MAX_RATIO * path.stat().st_size, _ANY_RATIO_BYTES)
    try:
        while (head := file.peek(4)[:4])[:2] == _GZIP or head == _ZIP:
            with gzip.GzipFile(fileobj=file) if head != _ZIP else _only_member(path, file) as packed:
                file = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                while part := packed.read(1 << 20):
                    left -= len(part)
                    if left < 0:
                        raise DataError(f"{path}: it unpacks to more than {_MAX_RATIO} times its size")
                    file.write(part)
            file.seek(0)
    except _NOT_UNPACKED as error:
        raise DataError(f"{path}: truncated or damaged: {error}") from error
    return file


def _only_member(path: Path, file: BinaryIO) -> BinaryIO:
    archive = zipfile.ZipFile(file)
    names = [each.filename for each in archive.infolist() if not each.is_dir()]
    if "xl/workbook.xml" in names:
        raise DataError(f"{path} is an Excel file; save it as CSV")
    dust = (".", "readme", "license", "licence")  # what systems and data sets put beside a table
    tables = [name for name in names if not name.rsplit("/", 1)[-1].casefold().startswith(dust)]
    if len(tables) != 1:
        listed = f" ({', '.join(tables)[:200]})" if tables else ""
        raise DataError(f"{path} holds {len(tables)} files, expected one table: unpack it and name one{listed}")
    return archive.open(tables[0])


def _rows(
    path: Path, file: BinaryIO, opened: ExitStack, columns: Columns, is_puzzle: Callable, comment: str | None
) -> tuple[str, Iterator[Row]]:
    """("line" or "row", the rows, before them the names of the columns if the table has any)."""
    head = file.read(4096)
    file.seek(0)
    if head[:4] == _PARQUET:
        return "row", _parquet_rows(path, file)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in head:
        raise DataError(f"{path} is no table that is known here; expected {_FORMS}")
    text = opened.enter_context(io.TextIOWrapper(file, encoding, errors="replace", newline=""))
    begin = "".join(text.read(_SAMPLE).split())[:2]
    text.seek(0)
    if begin == "[{":
        return "row", _records(path, "row", enumerate(_parsed(path, text.read()), 1))
    if begin[:1] == "[" and (rows := _listed(text, is_puzzle)):
        return "row", iter(rows)
    if begin[:1] == "{":
        lines = ((at, line) for at, line in enumerate(text, 1) if line.strip())
        records = ((at, _parsed(f"{path} line {at}", line)) for at, line in lines)
        return "line", _records(path, "line", records)
    return "line", _text_rows(path, text, columns, is_puzzle, comment)


def _parsed(where: str | Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: it is not valid JSON: {shown(str(error))}") from error


def _listed(text: io.TextIOWrapper, is_puzzle: Callable) -> list[Row]:
    """The rows of a JSON list of puzzles, or of lists with a question and an answer each; else none."""
    try:
        items = json.loads(text.read())
    except (ValueError, RecursionError):
        items = []
    text.seek(0)
    rows = [item if isinstance(item, list) and len(item) == 2 else [item] for item in items]
    return [*enumerate(rows, 1)] if rows and is_puzzle(rows[0][0]) is not None else []


def _records(path: Path, word: str, records: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    """The rows of JSON objects, of which the first has all names that count."""
    names = None
    for at, record in records:
        if not isinstance(record, dict):
            found = f'expected an object such as {{"puzzle": ..., "solution": ...}}, found {shown(record)}'
            raise DataError(f"{path} {word} {at}: {found}")
        if names is None:
            names = [*record]
            yield 0, names
        for name in record.keys() - names:
            if any(name.casefold() in common for common in NAMES.values()):
                raise DataError(
                    f"{path} {word} {at}: {shown(name)} is no name of the first row; give it there, or null"
                )
        yield at, [record.get(name) for name in names]


def _parquet_rows(path: Path, file: BinaryIO) -> Iterator[Row]:
    table = parquet.ParquetFile(file)
    groups = (table.metadata.row_group(number) for number in range(table.metadata.num_row_groups))
    size = os.fstat(file.fileno()).st_size
    if sum(group.total_byte_size for group in groups) > max(_MAX_RATIO * size, _ANY_RATIO_BYTES):
        raise DataError(f"{path}: it unpacks to more than {_MAX_RATIO} times its size")
    yield 0, table.schema_arrow.names
    pieces = ([column.to_pylist() for column in batch.columns] for batch in table.iter_batches(_PIECE_ROWS))
    yield from enumerate(itertools.chain.from_iterable(zip(*piece, strict=True) for piece in pieces), 1)


def _text_rows(
    path: Path, text: io.TextIOWrapper, columns: Columns, is_puzzle: Callable, comment: str | None
) -> Iterator[Row]:
    def is_comment(line: str) -> bool:
        return comment is not None and line.lstrip().startswith(comment)

    before, place = 0, 0
    while (line := text.readline()) and (not line.strip() or is_comment(line)):
        before, place = before + 1, text.tell()
    if not line:
        return
    text.seek(place)
    has_header, delimiter = _form(f"{path} line {before + 1}", text.read(_SAMPLE), columns, is_puzzle)
    text.seek(place)
    if delimiter is None:  # one puzzle a line, whatever signs stand between its cells
        rows = ((at, [line.rstrip("\r\n")]) for at, line in enumerate(text, before + 1))
    else:
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=delimiter == " ")
        rows = ((before + reader.line_num, cells) for cells in reader)
    if has_header:
        yield 0, [name.strip() for name in next(rows)[1]]
        yield from ((at, cells) for at, cells in rows if len(cells) > 1 or "".join(cells).strip())
    else:
        yield from ((at, cells) for at, cells in rows if "".join(cells).strip() and not is_comment(cells[0]))


def _form(where: str, sample: str, columns: Columns, is_puzzle: Callable) -> tuple[bool, str | None]:
    """(whether there is a header, the delimiter; None: each line is a puzzle) by the first row of a text."""
    named = {name.casefold() for name in columns if name is not None and not name.isdecimal()}
    named.update(NAMES["question"], NAMES["answer"])
    split = {
        delimiter: next(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter), [])
        for delimiter in _DELIMITERS
    }
    for delimiter, cells in split.items():
        if named & {cell.strip().casefold() for cell in cells}:
            return True, delimiter
    line = sample.splitlines()[0]  # with the blanks at its ends, which may be cells
    for delimiter, cells in (*split.items(), (" ", line.split())):
        if len(cells) > 1 and 1 <= sum(is_puzzle(cell) is not None for cell in cells) <= 2:
            return False, delimiter
    if is_puzzle(line) is not None:
        return False, None
    delimiter = max(_DELIMITERS, key=lambda each: len(split[each]))
    cells, question = split[delimiter], columns.question
    if question is None:
        raise _no_column(where, cells)
    is_number = question.isdecimal() and 1 <= int(question) <= len(cells)
    return not is_number or is_puzzle(cells[int(question) - 1]) is None, delimiter


def _places(
    path: Path, columns: Columns, is_puzzle: Callable, header: Sequence[str] | None, cells: Sequence[Any]
) -> tuple[dict[str, int], str]:
    """(the places of "question", and as far as they are there "answer", "rating", "source"; the same in words).

    cells: of the first row.
    """
    found, left_out = {}, ""
    if header is None:
        kinds = [is_puzzle(cell) for cell in cells]
        puzzles = [place for place, kind in enumerate(kinds) if kind is not None]
        # a puzzle has blanks and an answer has none; where both or none have, the puzzle comes first
        puzzles.sort(key=lambda place: not kinds[place])
        found = dict(zip(("question", "answer"), puzzles, strict=False)) if len(puzzles) <= 2 else {}
        header = [""] * len(cells)
    known = [name.casefold() for name in header]
    for role, names in NAMES.items():
        if (name := getattr(columns, role, None)) is not None:
            found.pop(role, None)
            if name != NO_COLUMN or role == "question":
                found[role] = _named_place(path, name, header, f"--{role}-column")
            continue
        places = [known.index(name) for name in names if name in known]
        if role in ("question", "answer") and sum(map(known.count, names)) > 1:
            both = " and ".join(repr(name) for name in header if name.casefold() in names)
            raise DataError(f"{path}: both columns {both} may be the {role}: name one by --{role}-column")
        found |= {role: places[0]} if places else {}
        if role == "rating" and places and _number(cells[places[0]]) is None:  # such as "easy": nothing needs it
            left_out = f" ({header[found.pop(role)]!r} holds {shown(cells[places[0]])})"
    if "question" not in found:
        raise _no_column(path, header if any(header) else cells)
    if found["question"] == found.get("answer"):
        raise DataError(f"{path}: question and answer are the same column")
    taken = [f"{role} from column {header[found[role]] or found[role] + 1!r}" for role in NAMES if role in found]
    missing = [f"no {role}" for role in ("answer", "rating") if role not in found]
    return found, ", ".join(taken) + ("; " if missing else "") + " and ".join(missing) + left_out


def _named_place(path: Path, name: str, header: Sequence[str], option: str) -> int:
    for names, wanted in ((header, name), ([each.casefold() for each in header], name.casefold())):
        if names.count(wanted) == 1:
            return names.index(wanted)
    if name.isdecimal() and 1 <= int(name) <= len(header):
        return int(name) - 1
    names = ", ".join(header)[:200] if any(header) else "it has no header"
    raise DataError(f"{path}: no column {name!r} ({option}); {names}; or give a number, 1 to {len(header)}")


def _no_column(where: str | Path, found: Sequence[Any]) -> DataError:
    how = f"name it by --question-column; common names are {', '.join(NAMES['question'][:10:2])}, input"
    names = ", ".join(shown(name)[1:-1] if isinstance(name, str) else shown(name) for name in found)[:200]
    return DataError(f"{where}: no column is known to hold the question (found: {names}): {how}")


def _ratings(path: Path, cells: list[Any], where: list[str]) -> np.ndarray:
    ratings = [_number(cell) for cell in cells]
    if None in ratings:
        row = ratings.index(None)
        how = f"expected a number; --rating-column {NO_COLUMN} leaves ratings out"
        raise DataError(f"{path} {where[row]}: the rating is {shown(cells[row])}, {how}")
    return np.array(ratings, np.float64)


def _is_missing(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and cell.strip().casefold() in _MISSING)  # noqa: PLR0124, NaN


def _number(cell: Any) -> float | None:
    """A rating as a finite number, 0 where there is none; None for anything else."""
    try:
        value = 0.0 if _is_missing(cell) else float(cell)
    except (ValueError, TypeError, OverflowError):
        return None
    return value if math.isfinite(value) else None
