"""Tables as people have them: the columns are found, the form does not change the file, all else is refused."""

import csv
import gzip
import hashlib
import io
import json
import zipfile

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from hrm_hf.data import PuzzleFile
from hrm_hf.data.build import maze_builder
from hrm_hf.data.build.puzzle_table import Columns
from hrm_hf.data.build.sudoku_builder import build_sudoku, read_table
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.hrm import maze
from hrm_hf.hrm.errors import DataError
from hrm_hf.hrm.sudoku import SYMBOLS, write

QUESTIONS, ANSWERS = generate(12, (2, 2), np.random.default_rng(0))
PAIRS = [(write(question), write(answer)) for question, answer in zip(QUESTIONS, ANSWERS, strict=True)]


def delimited(*header, delimiter=",", pairs=PAIRS, line_end="\n", index=False):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    rows = [[number, *pair] if index else pair for number, pair in enumerate(pairs)]
    writer.writerows([header, *rows] if header else rows)
    return text.getvalue().encode()


def json_lines(pairs=PAIRS):
    return "".join(json.dumps({"input": q, "output": a}) + "\n" for q, a in pairs).encode()


def as_parquet(pairs=PAIRS, columns=("puzzle", "solution")):
    buffer = io.BytesIO()
    arrays = [pyarrow.array(column) for column in zip(*pairs, strict=True)]
    parquet.write_table(pyarrow.Table.from_arrays(arrays, columns), buffer)
    return buffer.getvalue()


def zipped(content, *names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("deep/sudoku.csv", "__MACOSX/._sudoku.csv", "README.md"):
            archive.writestr(name, content)
    return buffer.getvalue()


def records(values):
    return json.dumps([{"Board": q, "Solved": a} for q, a in values]).encode()


def in_lines(text):
    return "\n".join(text[start : start + 4] for start in range(0, 16, 4))


FORMS = {
    "kaggle": delimited("quizzes", "solutions"),
    "kaggle with an index": delimited("id", "Puzzle", "SOLUTION", index=True),
    "semicolons, CRLF, BOM": b"\xef\xbb\xbf" + delimited(" Question ", "Answer", delimiter=";", line_end="\r\n"),
    "tabs": delimited("sudoku", "solution", delimiter="\t"),
    "Unicode text of a spreadsheet": delimited("board", "answer", delimiter="\t").decode().encode("utf-16"),
    "columns the other way round": delimited("solution", "puzzle", pairs=[(a, q) for q, a in PAIRS]),
    "blanks as 0": delimited("puzzle", "solution", pairs=[(q.replace(".", "0"), a) for q, a in PAIRS]),
    "no header": delimited(),
    "no header, semicolons, an index": delimited(delimiter=";", index=True),
    "no header, answers first": delimited(pairs=[(a, q) for q, a in PAIRS]),
    "a blank between them": delimited(delimiter=" "),
    "blank lines": delimited("puzzle", "solution").replace(b"\n", b"\n\n"),
    "questions alone": "\n".join(["puzzle", *(q for q, _ in PAIRS)]).encode(),
    "a list with comments": ("# from a forum\n\n" + "\n".join(q for q, _ in PAIRS) + "\n").encode(),
    "half of the answers": delimited(
        "puzzle", "solution", pairs=[(q, a if i % 2 else "") for i, (q, a) in enumerate(PAIRS)]
    ),
    "cells of several lines": delimited("puzzle", "solution", pairs=[(in_lines(q), in_lines(a)) for q, a in PAIRS]),
    "cells of several lines, no header": delimited(pairs=[(in_lines(q), in_lines(a)) for q, a in PAIRS]),
    "words for no answer": delimited(
        "puzzle", "solution", pairs=[(q, ("NULL", "nan", "None", a)[i % 4]) for i, (q, a) in enumerate(PAIRS)]
    ),
    "no ratings in some rows": delimited(
        "puzzle", "solution", "rating", pairs=[(*pair, ("", "0", "nan")[i % 3]) for i, pair in enumerate(PAIRS)]
    ),
    "JSON lines": json_lines(),
    "JSON": records(PAIRS),
    "JSON of numbers": records([(q.tolist(), a.ravel().tolist()) for q, a in zip(QUESTIONS, ANSWERS, strict=True)]),
    "JSON of pairs": json.dumps(PAIRS).encode(),
    "JSON of questions": json.dumps([q for q, _ in PAIRS], indent=1).encode(),
    "JSON of grids": json.dumps(QUESTIONS.tolist()).encode(),
    "Parquet": as_parquet(),
    "gzip": gzip.compress(delimited("puzzle", "solution")),
    "zip of zip": zipped(zipped(delimited("puzzle", "solution"))),
    "Parquet with two columns of one name": as_parquet(
        columns=("n", "puzzle", "n", "solution"), pairs=[(1, q, 2, a) for q, a in PAIRS]
    ),
    "zip": zipped(delimited("puzzle", "solution")),
    "zip of gzip": zipped(gzip.compress(delimited("puzzle", "solution")), "sudoku.csv.gz"),
    "zip of Parquet": zipped(as_parquet(), "sudoku.parquet"),
    "gzip of JSON lines": gzip.compress(json_lines()),
    "ratings": delimited("puzzle", "solution", "rating", pairs=[(*pair, "0.0") for pair in PAIRS]),
    "ratings in words": delimited("puzzle", "solution", "difficulty", pairs=[(*pair, "easy") for pair in PAIRS]),
    "a source": delimited("source", "question", "answer", "rating", pairs=[("mine", *pair, "0") for pair in PAIRS]),
}


def read(tmp_path, content, **how):
    path = tmp_path / "table.bin"
    path.write_bytes(content)
    return read_table(path, **how)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_puzzles(tmp_path, form):
    notes = []
    rows = read(tmp_path, FORMS[form], notes=notes)
    np.testing.assert_array_equal(rows.questions, QUESTIONS)
    np.testing.assert_array_equal(rows.answers, ANSWERS)
    assert rows.lines.tolist() == list(range(1, 13)) and rows.ratings.tolist() == [0] * 12
    assert len(notes) == 1 and "question from column" in notes[0] and "\n" not in notes[0]


def test_the_line_says_which_columns_were_taken(tmp_path):
    for form, words in (
        ("kaggle with an index", "question from column 'Puzzle', answer from column 'SOLUTION'; no rating"),
        ("no header", "question from column 1, answer from column 2; no rating"),
        ("questions alone", "question from column 'puzzle'; no answer and no rating"),
    ):
        notes = []
        read(tmp_path, FORMS[form], notes=notes)
        assert notes[0].endswith(words)


def test_columns_by_name_or_number(tmp_path):
    content = delimited("id", "a", "B", pairs=PAIRS, index=True)
    for columns in (Columns("a", "b"), Columns("2", "3"), Columns("A", "none")):
        np.testing.assert_array_equal(read(tmp_path, content, columns=columns).answers, ANSWERS)
    both = delimited("puzzle", "input", pairs=PAIRS)
    np.testing.assert_array_equal(read(tmp_path, both, columns=Columns("puzzle", "input")).answers, ANSWERS)
    rated = delimited("puzzle", "difficulty", "stars", pairs=[(q, 1, 2.5) for q, _ in PAIRS])
    assert read(tmp_path, rated).ratings.tolist() == [1] * 12
    assert read(tmp_path, rated, columns=Columns(rating="stars")).ratings.tolist() == [2.5] * 12
    assert read(tmp_path, rated, columns=Columns(rating="none")).ratings.tolist() == [0] * 12


@pytest.mark.parametrize("number", ["2.3", "-1", "1e3", "1200", " 7 "])
def test_ratings_of_any_number(tmp_path, number):
    rows = read(tmp_path, delimited("puzzle", "rating", pairs=[(PAIRS[0][0], number)]))
    assert rows.ratings.tolist() == [float(number)]
    build_sudoku(tmp_path, rows, rows, num_aug=1)
    assert PuzzleFile(tmp_path / "train.h5").info.num_rows == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (
            b"foo,bar\n1,2\n",
            "line 1: no column is known to hold the question .found: foo, bar.: name it by --question",
        ),
        (delimited("puzzle", "input"), "both columns 'puzzle' and 'input' may be the question: .* --question-column"),
        (delimited("puzzle", "answer", "solution", pairs=[(q, a, a) for q, a in PAIRS]), "'answer' and 'solution'"),
        (delimited("puzzle", "solution", pairs=[*PAIRS, ("1.2.",)]), "line 14: 1 columns, the header has 2"),
        (delimited(pairs=[*PAIRS, (PAIRS[0][0],)]), "line 13: 1 columns, the first row has 2"),
        (delimited("puzzle", pairs=[("11.." + "." * 12,)]), "line 2: the question has no solution"),
        (delimited("puzzle", pairs=[PAIRS[0][:1], ("1234" * 4 + "1",)]), "line 3: the question: "),
        (delimited("puzzle", pairs=[PAIRS[0][:1], ("." * 81,)]), "line 3: .*9x9 cells, the first question has 4x4"),
        (
            delimited("puzzle", "rating", pairs=[(PAIRS[0][0], 1), (PAIRS[1][0], "easy")]),
            "line 3: the rating is 'easy'",
        ),
        (
            b'{"puzzle": "1234341221434321"}\n{"puzzle": "1234341221434321", "solution": 2}\n',
            "line 2: 'solution' is no name of the first row",
        ),
        (b"{}\n" + json_lines(), "no column is known to hold the question"),
        (b"puzzle\n" + b'"' + b"1\n" * 100_000, "damaged: field larger than field limit"),
        (("." * 64).encode(), "line 1: the question: this Sudoku has 64 cells; .* another size needs --box-shape"),
        (b'"4\n1"\n', r"line 1: no column is known to hold the question .found: 4\\n1."),
        (json_lines() + b"[1, 2]\n", "line 13: expected an object"),
        (json_lines() + b"{oops\n", "line 13: it is not valid JSON"),
        (json_lines([(103, None)]), "line 1: the question: "),
        (as_parquet([(PAIRS[0]), ("12", "12")]), "row 2: the question: "),
        (as_parquet()[:-20], "damaged"),
        (zipped(delimited("puzzle", "solution"))[:-40], "damaged"),
        (zipped(delimited("puzzle", "solution"), "a.csv", "b.csv"), r"holds 2 files, .* \(a.csv, b.csv\)"),
        (zipped(b"x", "xl/workbook.xml", "[Content_Types].xml"), "is an Excel file; save it as CSV"),
        (zipped(b"x", "README.md"), "holds 0 files, expected one table"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "no table that is known here; expected CSV"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content)
    assert "table.bin" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("how", [Columns(), Columns(question="1")])
@pytest.mark.parametrize("with_answers", [True, False])
def test_mazes_without_a_header_are_all_read(tmp_path, how, with_answers):
    """The first is no header, and blanks at the ends of a line are cells."""
    questions, answers = ["   S G   ", "S #   # G"], ["   SoG   ", "S #oo #oG"]
    lines = [f"{q},{a}" for q, a in zip(questions, answers, strict=True)] if with_answers else questions
    (tmp_path / "mazes.txt").write_text("\n".join(lines) + "\n\n")
    rows = maze_builder.read_table(tmp_path / "mazes.txt", columns=how)
    np.testing.assert_array_equal(rows.questions, [maze.parse(question) for question in questions])
    np.testing.assert_array_equal(rows.answers, [maze.parse(answer) for answer in answers])


def test_a_folder_is_called_so(tmp_path):
    with pytest.raises(DataError, match="is a folder: name one file"):
        read_table(tmp_path)


def test_a_zip_that_unpacks_to_gigabytes_is_refused_early(tmp_path):
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        read(tmp_path, zipped(delimited("puzzle", "solution", pairs=PAIRS * 8000), "a.csv"))


def test_json_on_one_line_may_be_long(tmp_path):
    assert len(read(tmp_path, records(PAIRS * 2000)).questions) == 24_000


def test_a_column_of_ratings_in_words_is_left_out_and_said(tmp_path):
    notes = []
    read(tmp_path, FORMS["ratings in words"], notes=notes)
    assert notes[0].endswith("no rating ('difficulty' holds 'easy')")


def test_sixteen_by_sixteen_in_both_alphabets(tmp_path):
    band = np.arange(16)
    answer = (4 * (band % 4) + band // 4)[:, None]
    answer = (answer + band) % 16 + 1  # 1 to 16
    question = np.where(np.random.default_rng(0).random((16, 16)) < 0.1, 0, answer)
    from_one = ["".join(SYMBOLS[cell] for cell in grid.ravel()) for grid in (question, answer)]
    from_zero = ["".join(".0123456789ABCDEF"[cell] for cell in grid.ravel()) for grid in (question, answer)]
    for pair in (from_one, [text.lower() for text in from_one], from_zero, [text.lower() for text in from_zero]):
        rows = read(tmp_path, delimited("puzzle", "solution", pairs=[pair]), box_shape=(4, 4))
        np.testing.assert_array_equal(rows.questions[0], question)
        np.testing.assert_array_equal(rows.answers[0], answer)
    mixed = [(from_zero[0], from_zero[1]), (from_one[0], from_one[1])]
    with pytest.raises(DataError, match="both 0 and G"):
        read(tmp_path, delimited("puzzle", "solution", pairs=mixed), box_shape=(4, 4))


def test_the_form_of_a_table_does_not_change_the_file(tmp_path):
    digests = set()
    for content in FORMS.values():
        rows = read(tmp_path, content)
        build_sudoku(tmp_path, rows, rows.select(np.arange(5)), num_aug=3, seed=3, overwrite=True)
        digests |= {hashlib.sha256((tmp_path / f"{split}.h5").read_bytes()).hexdigest() for split in ("train", "test")}
    assert len(digests) == 2


def test_mazes_come_in_tables_too_and_need_no_answers(tmp_path):
    (tmp_path / "x.tsv").write_text("id\tMaze\n1\tS G #    \n2\t#S   G # \n")
    rows = maze_builder.read_table(tmp_path / "x.tsv")
    assert rows.questions.shape == (2, 3, 3)
    assert (rows.answers == 4).sum(axis=(1, 2)).tolist() == [1, 1]
    by_column = maze_builder.read_table(tmp_path / "x.tsv", columns=Columns("2"))
    np.testing.assert_array_equal(by_column.questions, rows.questions)
    (tmp_path / "x.tsv").write_text("id\tMaze\n1\tS G #    \n2\tS########\n")
    with pytest.raises(DataError, match="x.tsv line 3"):
        maze_builder.read_table(tmp_path / "x.tsv")


@pytest.mark.parametrize("wall", [0, 1])
def test_answers_of_numeric_mazes_are_read_as_their_questions(tmp_path, wall):
    numbers = np.array([wall, 1 - wall, 2, 3, 4])
    question, answer = np.array([[2, 1, 0], [0, 1, 3]]), np.array([[2, 4, 0], [0, 4, 3]])
    row = {"maze": numbers[question].tolist(), "solution": numbers[answer].tolist()}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    rows = maze_builder.read_table(tmp_path / "x.jsonl")
    np.testing.assert_array_equal(rows.questions[0], question)
    np.testing.assert_array_equal(rows.answers[0], answer)


@pytest.mark.parametrize("wall", [0, 1])
def test_one_number_is_the_wall_in_all_mazes_of_a_table(tmp_path, wall):
    """A maze without a way is not read with walls and free cells exchanged."""
    numbers = np.array([wall, 1 - wall, 2, 3])
    good, bad = numbers[[[2, 1, 0], [0, 1, 3]]], numbers[[[2, 0, 1], [1, 0, 3]]]
    rows = [json.dumps({"maze": grid.tolist()}) for grid in (good, good, bad, good)]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    with pytest.raises(DataError, match="x.jsonl line 3: .*no way leads from S"):
        maze_builder.read_table(tmp_path / "x.jsonl")
    assert len(maze_builder.read_table(tmp_path / "x.jsonl", skipped=[])) == 3


@pytest.mark.parametrize("wall", [0, 1])
def test_the_wall_of_mazes_with_a_border(tmp_path, wall):
    """The border joins S and G where it is taken for free cells: the path of an answer tells, or the reader does."""
    question = maze.parse("######\n#S   #\n# ## #\n#   G#\n######")
    answer = maze.parse("######\n#Sooo#\n# ##o#\n#   G#\n######")
    numbers = np.array([wall, 1 - wall, 2, 3, 4])
    for given, how in ((answer, {}), (answer, {"wall": wall}), (None, {"wall": wall})):
        row = {"maze": numbers[question].tolist()} | ({} if given is None else {"answer": numbers[given].tolist()})
        (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
        rows = maze_builder.read_table(tmp_path / "x.jsonl", **how)
        np.testing.assert_array_equal(rows.questions[0], question)
        if given is not None:
            np.testing.assert_array_equal(rows.answers[0], answer)
    with pytest.raises(DataError, match="line 1: the question: S and G are joined whether .* a table with --wall"):
        maze_builder.read_table(tmp_path / "x.jsonl")
