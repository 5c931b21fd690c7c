"""Tables of puzzles that are damaged, that lie, or that unpack to far more than they are: rows, or a reason."""

import gzip
import io
import zipfile
import zlib

import pyarrow
import pytest
from hostile_inputs import TOKENS, examples, mutated, mutated_text, nothing_written_outside, result_or_documented
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hrm_hf.data import PuzzleFile
from hrm_hf.data.build import maze_builder, sudoku_builder
from hrm_hf.data.build.maze_builder import build_maze
from hrm_hf.data.build.puzzle_table import read_pieces
from hrm_hf.data.build.sudoku_builder import build_sudoku
from hrm_hf.hrm.errors import DataError

HEADER = "source,question,answer,rating\n"
SUDOKU = HEADER + (
    "toy,1...3.1..1...3.1,1234341221434321,0\n"
    'toy,"12.434.22143432.",1234341221434321,3\n'
    "other,................,1234341221434321,12\n"
)
MAZE = HEADER + "toy,S G##   #,SoG##   #,2\ntoy,SG  #   #,SG  #   #,1\nother,S  ## ##G,Soo##o##G,4\n"
CSV_TOKENS = [*TOKENS, ",", '"', '""', ";", "source", "question", "rating", "S", "G", "#", "o", ".", "0", "16", "\r"]
KINDS = {
    "sudoku": (sudoku_builder.read_table, build_sudoku, SUDOKU),
    "maze": (maze_builder.read_table, build_maze, MAZE),
}


def build(kind, path, out):
    read, build_files, _ = KINDS[kind]
    rows = read(path)
    for info in build_files(out, rows, rows, overwrite=True):
        file = PuzzleFile(out / f"{info.split}.h5")
        file.check_cells()
        assert file.info.num_rows == len(rows)
    return len(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seeds_themselves_are_built(tmp_path, kind):
    path = tmp_path / "x.csv"
    path.write_text(KINDS[kind][2])
    assert build(kind, path, tmp_path / "out") == 3


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(45))
@given(data=st.data())
def test_damaged_texts(tmp_path, kind, data):
    text = data.draw(mutated_text(KINDS[kind][2], CSV_TOKENS, max_changes=2))
    (tmp_path / "x.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    with nothing_written_outside(tmp_path, tmp_path / "out"):
        result_or_documented(lambda: build(kind, tmp_path / "x.csv", tmp_path / "out"))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(30))
@given(data=st.data())
def test_damaged_bytes_packed_and_not(tmp_path, kind, data):
    content = KINDS[kind][2].encode()
    content = data.draw(
        st.sampled_from([content, gzip.compress(content, mtime=0)]).flatmap(lambda seed: mutated(seed, 2))
    )
    (tmp_path / "x.csv").write_bytes(content)
    with nothing_written_outside(tmp_path, tmp_path / "out"):
        result_or_documented(lambda: build(kind, tmp_path / "x.csv", tmp_path / "out"))


@settings(max_examples=examples(15))
@given(data=st.data())
def test_mazes_of_a_given_shape_with_bad_ones_left_out(tmp_path, data):
    (tmp_path / "x.csv").write_bytes(data.draw(mutated_text(MAZE, CSV_TOKENS, 2)).encode("utf-8", "surrogatepass"))
    shape = data.draw(st.sampled_from([(2, 2), (1, 4), (4, 1), (0, 4), (-2, -2), (10**9, 10**9), (2.5, 2)]))
    skipped = []
    rows = result_or_documented(lambda: maze_builder.read_table(tmp_path / "x.csv", shape, skipped))
    assert rows is None or rows.grid_shape == shape


def packed_forms():
    """The Sudokus as JSON lines, Parquet, .zip, and a list without answers."""
    rows = [line.split(",") for line in SUDOKU.splitlines()[1:]]
    lines = "".join(f'{{"puzzle": "{row[1]}", "solution": "{row[2]}", "rating": {row[3]}}}\n' for row in rows)
    table, archive = io.BytesIO(), io.BytesIO()
    columns = {"question": [row[1] for row in rows], "answer": [row[2] for row in rows]}
    parquet.write_table(pyarrow.table(columns), table)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("puzzles.csv", SUDOKU)
    listed = "# two\n" + "\n".join(row[1] for row in rows[:2])
    return [lines.encode(), table.getvalue(), archive.getvalue(), listed.encode(), SUDOKU.encode("utf-16")]


@settings(max_examples=examples(60))
@given(data=st.data())
def test_damaged_bytes_of_other_forms(tmp_path, data):
    content = data.draw(st.sampled_from(packed_forms()).flatmap(lambda seed: mutated(seed, 2)))
    (tmp_path / "x.bin").write_bytes(content)
    with nothing_written_outside(tmp_path, tmp_path / "out"):
        result_or_documented(lambda: build("sudoku", tmp_path / "x.bin", tmp_path / "out"))


@settings(max_examples=examples(30))
@given(data=st.data())
def test_damaged_json_lines(tmp_path, data):
    text = data.draw(mutated_text(packed_forms()[0].decode(), [*CSV_TOKENS, '{"puzzle": ', "[[1, 2], [3, 4]]"], 2))
    (tmp_path / "x.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))
    with nothing_written_outside(tmp_path, tmp_path / "out"):
        result_or_documented(lambda: build("sudoku", tmp_path / "x.jsonl", tmp_path / "out"))


def write_bomb(path, pieces, repeats):
    """A gzip of a piece repeated: about a thousandth of its size."""
    packer = zlib.compressobj(9, wbits=31)
    with open(path, "wb") as file:
        for piece in pieces[:-1]:
            file.write(packer.compress(piece))
        for _ in range(repeats):
            file.write(packer.compress(pieces[-1]))
        file.write(packer.flush())


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([HEADER.encode(), b"x" * 1_000_000], "unpacks to more than 100 times"),
        ([HEADER.encode(), b"," * 1_000_000], "unpacks to more than 100 times"),
        ([HEADER.encode(), (b'a,"' + b"," * 1000 + b'\n",') * 1000], "unpacks to more than 100 times"),
        ([HEADER.encode(), b"t,1...3.1..1...3.1,1234341221434321,0\n" * 30_000], "unpacks to more than 100 times"),
        ([b"\n" * 1_000_000], "unpacks to more than 100 times"),
    ],
    ids=["one line", "one line of columns", "one row of lines", "good rows", "no rows"],
)
def test_what_unpacks_to_gigabytes_is_refused_early(tmp_path, pieces, message):
    write_bomb(tmp_path / "x.csv.gz", pieces, repeats=5)

    def read():
        with pytest.raises(DataError, match=message):
            for _ in read_pieces(tmp_path / "x.csv.gz"):
                pass

    result_or_documented(read)


def test_large_mazes_come_in_small_pieces(tmp_path):
    question = "S" + "#" * 40_000 + "G"
    buffer = io.StringIO()
    buffer.write(HEADER)
    for number in range(250):
        buffer.write(f"toy,{question},{question},{number}\n")
    (tmp_path / "x.csv").write_text(buffer.getvalue())
    pieces = list(read_pieces(tmp_path / "x.csv"))
    assert max(sum(map(len, piece.questions)) for piece in pieces) < 1 << 23
    ratings = [rating for piece in pieces for rating in piece.ratings.tolist()]
    assert ratings == list(range(250)) and pieces[-1].places[-1] == "line 251"
