"""Sudoku files from CSV rows and from grids: content, symmetries that invert, hold-out by class, and bad rows named
by line.
"""

import gzip
import json

import h5py
import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays

from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.data.build.puzzle_table import read_pieces
from hrm_hf.data.build.sudoku_builder import SudokuRows, build_sudoku, generate_rows, hold_out, read_table
from hrm_hf.games.sudoku_answers import are_solutions
from hrm_hf.games.sudoku_generator import generate
from hrm_hf.games.sudoku_symmetry import SudokuSymmetries, class_keys
from hrm_hf.hrm.errors import ArgumentError, DataError
from hrm_hf.hrm.sudoku import decode

GOLDEN = paths.GOLDEN / "G"
HEADER = "source,question,answer,rating"
QUESTION, ANSWER = "1.3..4.2.1..4...", "1234341221434321"  # 4x4
ROW = f"toy,{QUESTION},{ANSWER},7"


def write_csv(path, *rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def generated(num, seed=0, box_shape=(2, 2)):
    questions, answers = generate(num, box_shape, np.random.default_rng(seed))
    return SudokuRows.generated(questions, answers, np.zeros(num, np.int32), box_shape=box_shape)


def cells_of(path):
    """(questions, answers), grids (rows, n, n) in stored order."""
    file = PuzzleFile(path)
    rows = file.read(*file.locate_rows(np.arange(file.info.num_rows)))
    return (decode(rows[:, side]).reshape(-1, *file.info.grid_shape) for side in range(2))


def test_csv_rows_equal_the_published_builders(tmp_path):
    config = json.loads((GOLDEN / "config.json").read_text())["sudoku"]
    rows = read_table(write_csv(tmp_path / "rows.csv", *(",".join(row) for row in config["csv_rows"])))
    info = build_sudoku(tmp_path, rows, rows)[1]
    golden, puzzles = golden_arrays(GOLDEN / "sudoku.npz"), load_puzzles(tmp_path / "test.h5")[:]
    np.testing.assert_array_equal(puzzles["input_ids"], golden["inputs"])
    np.testing.assert_array_equal(puzzles["labels"], golden["labels"])
    np.testing.assert_array_equal(puzzles["puzzle_identifiers"], golden["puzzle_identifiers"])
    published = config["dataset_json"]
    assert (info.pad_id, info.ignore_label_id, info.blank_identifier_id) == (0, 0, 0)
    assert (info.vocab_size, info.seq_len, info.num_puzzle_identifiers) == (11, 81, 1)
    assert (info.num_groups, info.mean_examples) == (published["total_groups"], published["mean_puzzle_examples"])
    assert info.box_shape == (3, 3) and info.vocabulary[:3] == ("PAD", ".", "1")


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_forms(tmp_path, pack, newline):
    blank_as_zero = QUESTION.replace(".", "0")
    text = newline.join(["rating,extra,answer,question,source", f'3,x,{ANSWER},{blank_as_zero},"a,b"'])
    (tmp_path / "rows.csv").write_bytes(pack(text.encode()))  # the name does not tell the compression
    rows = read_table(tmp_path / "rows.csv")
    assert rows.questions.tolist() == [[[1, 0, 3, 0], [0, 4, 0, 2], [0, 1, 0, 0], [4, 0, 0, 0]]]
    assert (rows.ratings.tolist(), rows.sources, rows.lines.tolist(), rows.box_shape) == ([3], ("",), [1], (2, 2))


def test_csv_pieces_count_lines_on(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.data.build.puzzle_table._PIECE_ROWS", 3)
    path = write_csv(tmp_path / "rows.csv", *[ROW] * 7, f"other,{QUESTION},{ANSWER},9")
    assert [len(piece.questions) for piece in read_pieces(path)] == [1, 3, 3, 1]
    rows = read_table(path)
    assert rows.lines.tolist() == list(range(1, 9))
    assert [rows.sources[code] for code in rows.source_codes] == ["toy"] * 7 + ["other"]
    path = write_csv(path, *[ROW] * 7, ROW.replace("1.3", "2.3"))
    with pytest.raises(DataError, match=r"rows.csv line 9: the answer does not solve the question: .*row 1"):
        read_table(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "a header but no rows"),
        ([ROW, "toy,1.3"], "line 3: 2 columns, the header has 4"),
        ([ROW, ROW + ",more"], "line 3: 5 columns"),
        ([f"toy,{QUESTION[1:]},{ANSWER[1:]},7"], "line 2: the question: this Sudoku has 15 cells"),
        ([ROW.replace(QUESTION, QUESTION[:-1])], "line 2: the question: this Sudoku has 15 cells"),
        ([ROW, ROW.replace(QUESTION, QUESTION + ".")], "line 3: the question: this Sudoku has 17 cells"),
        ([ROW, ROW.replace(ANSWER, ANSWER[:-1])], "line 3: the answer: this Sudoku has 15 cells"),
        ([f"toy,,{ANSWER},7"], "line 2: the question: "),
        ([ROW, ROW.replace("1.3", "z.3")], "line 3: the question: 'z' at row 1, column 1"),
        ([ROW, ROW.replace("1.3", "5.3")], "line 3: the question: '5' at row 1, column 1"),
        ([ROW, ROW.replace("1.3", "1Ω3")], "line 3: the question: 'Ω' at row 1, column 2"),
        ([ROW, ROW.replace(ANSWER, ANSWER[:-1] + ".")], "line 3: the answer does not solve .* not complete"),
        ([ROW, ROW.replace(ANSWER, ANSWER[:8] * 2)], "line 3: the answer does not solve"),
        ([ROW, ROW[:-1] + "hard"], "line 3: the rating is 'hard', expected a number; --rating-column none"),
        ([ROW, ROW[:-1] + "inf"], "line 3: the rating is 'inf'"),
        ([ROW, ROW[:-1] + "9" * 5000], "line 3: the rating is '9+'"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        read_table(write_csv(tmp_path / "rows.csv", *rows))
    assert "rows.csv" in str(caught.value)


def test_files_that_are_no_csv_are_refused(tmp_path):
    path = tmp_path / "rows.csv.gz"
    with pytest.raises(DataError, match="no such file"):
        read_table(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read_table(path)
    write_csv(path, ROW, header="source,givens,solution,rating")
    with pytest.raises(
        DataError, match="no column is known to hold the question .found: source, givens, solution, rating"
    ):
        read_table(path)
    noisy = "\n".join([HEADER, *(f"{number * 7919 % 10007},{QUESTION},{ANSWER},7" for number in range(2000))])
    packed = gzip.compress(noisy.encode())
    for damaged in (packed[: len(packed) // 2], packed[:15], packed[:-4], packed[:200] + b"\0" * 50 + packed[250:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="rows.csv.gz: truncated or damaged"):
            read_table(path)


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 3)])
def test_variants_are_valid_and_invert_to_the_original(tmp_path, box_shape):
    rows = generated(3, box_shape=box_shape)
    info = build_sudoku(tmp_path, rows, rows, num_aug=20, seed=5)[0]
    assert (info.num_groups, info.num_puzzles, info.num_rows) == (3, 63, 63)
    questions, answers = cells_of(tmp_path / "train.h5")
    assert are_solutions(questions, answers, box_shape).all()
    with h5py.File(tmp_path / "train.h5") as file:
        metadata = file["puzzles/00000000/metadata"]
        all_codes = metadata["symmetry"][:]
        assert (metadata.attrs["rows_are"], metadata.attrs["num_variants"]) == ("puzzles with variants", 21)
        assert all_codes.dtype == np.uint64 and all_codes.shape == (63,)
        assert [metadata.attrs["sources"][code] for code in metadata["source"]] == ["generated"] * 3
    for row in range(3):
        variants = slice(21 * row, 21 * row + 21)
        codes = all_codes[variants]
        assert codes[0] == 0 and len(set(codes.tolist())) > 15
        symmetries = SudokuSymmetries(box_shape, codes)
        for grids, originals in ((questions, rows.questions), (answers, rows.answers)):
            np.testing.assert_array_equal(grids[variants][0], originals[row])
            undone = symmetries.undo(grids[variants][:, None])[:, 0]
            np.testing.assert_array_equal(undone, np.stack([originals[row]] * 21))


@pytest.mark.parametrize("block_cells", [1, 32 * 4 * 3, 1 << 20])  # blocks of 1, 3 and 7 puzzles
@pytest.mark.parametrize("rows_at_once", [1, 8, 1000])
def test_blocks_do_not_change_what_is_drawn(tmp_path, monkeypatch, block_cells, rows_at_once):
    monkeypatch.setattr("hrm_hf.data.schema.BLOCK_CELLS", block_cells)
    monkeypatch.setattr("hrm_hf.data.build.sudoku_builder._ROWS_AT_ONCE", rows_at_once)
    rows, generator = generated(7), np.random.default_rng([9, 1])
    build_sudoku(tmp_path, rows, rows, num_aug=3, seed=9)
    expected = []
    for pair in np.stack([rows.questions, rows.answers], axis=1):  # one puzzle after the other
        expected += [pair, *SudokuSymmetries.draw((2, 2), 3, generator).apply(pair)]
    np.testing.assert_array_equal(np.stack([*cells_of(tmp_path / "train.h5")], axis=1), expected)
    with h5py.File(tmp_path / "train.h5") as file:
        assert len(file["puzzles"]) == {1: 7, 32 * 4 * 3: 3, 1 << 20: 1}[block_cells]


def test_many_puzzles_cost_little_more_than_their_cells(tmp_path):
    grids = np.random.default_rng(0).integers(1, 10, (2, 1000, 9, 9), dtype=np.uint8)  # nothing is asked of them
    rows = SudokuRows.generated(*grids, np.arange(1000, dtype=np.int32), box_shape=(3, 3))
    info = build_sudoku(tmp_path, rows, rows, num_aug=20)[0]
    assert (info.num_groups, info.num_rows) == (1000, 21_000)
    assert (tmp_path / "train.h5").stat().st_size < 1.07 * info.num_rows * 2 * 81
    with h5py.File(tmp_path / "train.h5") as file:
        ratings = [group["metadata/rating"][:] for group in file["puzzles"].values()]
        assert len(ratings) == 4  # and not a group for each puzzle, which costs a millisecond
    assert np.concatenate(ratings).tolist() == [*range(1000)]


def test_without_augmentation_rows_form_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.data.schema.BLOCK_ROWS", 4)
    csv = write_csv(tmp_path / "rows.csv", *[ROW] * 9, f"other,{QUESTION},{ANSWER},9")
    info = build_sudoku(tmp_path, read_table(csv), read_table(csv))[0]
    assert (info.num_groups, info.num_puzzles, info.num_rows) == (10, 10, 10)
    with h5py.File(tmp_path / "train.h5") as file:
        blocks = list(file["puzzles"].values())
        assert [len(block["examples/0"]) for block in blocks] == [4, 4, 2]
        metadata = blocks[2]["metadata"]
        assert metadata["rating"][:].tolist() == [7, 9] and metadata["line"][:].tolist() == [9, 10]
        assert [metadata.attrs["sources"][code] for code in metadata["source"]] == ["toy", "other"]
    questions, _ = cells_of(tmp_path / "train.h5")
    np.testing.assert_array_equal(questions, read_table(csv).questions)


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path):
    train, test = generated(12).select(np.arange(8)), generated(12).select(np.arange(8, 12))
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        build_sudoku(tmp_path / name, train, test, num_aug=3, subsample_size=5, seed=seed)
    one, two, three = ((tmp_path / name / "train.h5").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three
    assert (tmp_path / "one" / "test.h5").read_bytes() == (tmp_path / "two" / "test.h5").read_bytes()


def test_only_the_train_split_is_augmented_subsampled_and_both_are_filtered(tmp_path):
    rows = [f"toy,{QUESTION},{ANSWER},{rating}" for rating in range(10)]
    all_rows = read_table(write_csv(tmp_path / "rows.csv", *rows))
    train, test = build_sudoku(tmp_path, all_rows, all_rows, num_aug=2, subsample_size=4, min_difficulty=3, seed=1)
    assert (train.split, train.num_groups, train.num_rows, train.num_aug) == ("train", 4, 12, 2)
    assert (test.split, test.num_groups, test.num_rows, test.num_aug) == ("test", 7, 7, 0)
    with h5py.File(tmp_path / "train.h5") as file:
        ratings = file["puzzles/00000000/metadata/rating"][:].tolist()
    assert len(set(ratings)) == 4 and min(ratings) >= 3


def test_options_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    rows, large = generated(4), generated(2, box_shape=(2, 3))
    for change, message in (
        ({"subsample_size": 5}, "subsample_size is 5, allowed are 1 to 4"),
        ({"subsample_size": 0}, "subsample_size is 0"),
        ({"num_aug": -1}, "num_aug is -1"),
        ({"min_difficulty": 1}, "min_difficulty 1 leaves no puzzle: the highest rating is 0"),
        ({"test": large}, r"boxes \(2, 2\), test puzzles \(2, 3\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            build_sudoku(**({"output_dir": tmp_path / "new", "train": rows, "test": rows} | change))
    assert not (tmp_path / "new").exists()
    (tmp_path / "test.h5").touch()
    with pytest.raises(ArgumentError, match="test.h5 already exists"):
        build_sudoku(tmp_path, rows, rows)
    assert not (tmp_path / "train.h5").exists()
    build_sudoku(tmp_path, rows, rows, overwrite=True)


def test_generated_rows_share_no_class():
    train, test = generate_rows(30, 10, (2, 2), 8, seed=4)
    assert (len(train), len(test)) == (30, 10)
    keys = class_keys(np.concatenate([train.questions, test.questions]), (2, 2))
    assert len(set(keys)) == 40
    np.testing.assert_array_equal(generate_rows(30, 10, (2, 2), 8, seed=4)[1].questions, test.questions)
    with pytest.raises(ArgumentError, match="0 test puzzles"):
        generate_rows(30, 0, (2, 2), None, seed=4)


def test_hold_out_never_tears_a_class_apart():
    originals = generated(30)
    copies = SudokuSymmetries.draw((2, 2), 30, np.random.default_rng(1))
    both = [originals.questions, originals.answers]
    changed = [copies.apply(grids)[np.arange(20), np.arange(20)] for grids in both]
    questions, answers = map(np.concatenate, zip(both, changed, strict=True))
    rows = SudokuRows.generated(
        questions, answers, np.zeros(50, np.int32), box_shape=(2, 2)
    )  # 20 classes of two, 10 of one
    for num_test in (1, 11, 40):
        train, test = hold_out(rows, num_test, seed=2)
        assert (len(train), len(test)) == (50 - num_test, num_test)
        assert not set(class_keys(train.questions, (2, 2))) & set(class_keys(test.questions, (2, 2)))
    np.testing.assert_array_equal(hold_out(rows, 11, 2)[1].questions, hold_out(rows, 11, 2)[1].questions)
    assert (hold_out(rows, 11, 2)[1].questions != hold_out(rows, 11, 3)[1].questions).any()
    for num_test in (0, 50):
        with pytest.raises(ArgumentError, match="1 to 49"):
            hold_out(rows, num_test, seed=0)
    only_pairs = rows.select(np.r_[0:20, 30:50])
    with pytest.raises(ArgumentError, match="2 is the nearest"):
        hold_out(only_pairs, 3, seed=0)
