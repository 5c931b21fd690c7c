"""Maze files from CSV rows, the generator and grids: content, views, and bad mazes named by file, line and cell."""

import gzip
import json

import h5py
import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays

from hrm_hf.data.build.maze_builder import build_maze, count_labels, generate_rows, read_table
from hrm_hf.data.build.puzzle_rows import PuzzleRows
from hrm_hf.data.reader import PuzzleFile
from hrm_hf.games.maze_answers import distances_to_goal, follow_rule, path_checks
from hrm_hf.games.maze_generator import class_keys
from hrm_hf.hrm import maze
from hrm_hf.hrm.errors import ArgumentError, DataError
from hrm_hf.hrm.maze import decode, parse
from hrm_hf.hrm.symmetry import dihedral

GOLDEN = paths.GOLDEN / "G"
HEADER = "source,question,answer,rating"
QUESTION = "S   " + " ## " + "    " + "   G"  # 4x4
BY_RULE = "S   " + "o## " + "o   " + "oooG"
OTHER = "Sooo" + " ##o" + "   o" + "   G"  # as short, but not by the rule
DETOUR = ("S G " + "  # " + "    " + "    ", "S Go" + "o #o" + "o oo" + "ooo ")  # a path, but S and G are two apart
ROW = f"toy,{QUESTION},{BY_RULE},7"


def write_csv(path, *rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def cells_of(path):
    """(questions, answers), grids (rows, rows, cols) in stored order."""
    file = PuzzleFile(path)
    rows = file.read(*file.locate_rows(np.arange(file.info.num_rows)))
    return (decode(rows[:, side]).reshape(-1, *file.info.grid_shape) for side in range(2))


def generated(num, shape=(5, 5), seed=0):
    return generate_rows(num, 1, shape, None, 0.3, seed)[0]


def test_views_equal_the_published_builders(tmp_path):
    """The recorded labels are no paths (that builder does not look), so these rows skip the checks of read_table."""
    config = json.loads((GOLDEN / "config.json").read_text())["maze"]
    questions, answers = (np.stack([parse(row[side]) for row in config["csv_rows"]]) for side in (1, 2))
    zeros = np.zeros(2, np.int32)
    rows = PuzzleRows(questions, answers, zeros, ("t",), zeros, zeros)
    recorded = golden_arrays(GOLDEN / "maze.npz")
    info = build_maze(tmp_path, rows, rows, augment=True)[0]
    file = PuzzleFile(tmp_path / "train.h5")
    cells = file.read(*file.locate_rows(np.arange(16)))
    np.testing.assert_array_equal(cells[:, 0], recorded["inputs"])
    np.testing.assert_array_equal(cells[:, 1], recorded["labels"])
    published = config["dataset_json"]
    for name in ("pad_id", "ignore_label_id", "blank_identifier_id", "vocab_size", "seq_len"):
        assert getattr(info, name) == published[name]
    assert (info.num_groups, info.num_puzzles, info.num_rows, info.num_aug) == (published["total_groups"], 16, 16, 7)
    assert info.num_puzzle_identifiers == published["num_puzzle_identifiers"]
    assert info.vocabulary == ("PAD", "#", " ", "S", "G", "o")


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_forms(tmp_path, pack, newline):
    text = newline.join(["rating,extra,answer,question,source", f'3,x,{BY_RULE},{QUESTION},"a,b"'])
    (tmp_path / "rows.csv").write_bytes(pack(text.encode()))
    rows = read_table(tmp_path / "rows.csv")
    np.testing.assert_array_equal(rows.questions, parse(QUESTION)[None])
    np.testing.assert_array_equal(rows.answers, parse(BY_RULE)[None])
    assert (rows.ratings.tolist(), rows.sources, rows.lines.tolist(), rows.grid_shape) == ([3], ("",), [1], (4, 4))


def test_csv_of_rectangles_and_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.data.build.puzzle_table._PIECE_ROWS", 2)
    path = write_csv(tmp_path / "rows.csv", *["a,S    G,SooooG,5"] * 3, "b,G    S,GooooS,6")
    rows = read_table(path, (1, 6))
    assert rows.grid_shape == (1, 6) and rows.lines.tolist() == [1, 2, 3, 4] and rows.ratings.tolist() == [5, 5, 5, 6]
    assert [rows.sources[code] for code in rows.source_codes] == ["a", "a", "a", "b"]
    with pytest.raises(DataError, match="line 2: the question: this maze has 6 cells; expected a square"):
        read_table(path)
    with pytest.raises(DataError, match="line 2: the question: this maze has 6 cells; expected 3 x 3"):
        read_table(path, (3, 3))


def row(question=QUESTION, answer=BY_RULE):
    return f"toy,{question},{answer},7"


BAD_ROWS = [
    (row(QUESTION.replace("S ", "Sx")), "the question: 'x' at row 1, column 2 "),
    (row(QUESTION.replace("S ", "SΩ")), "the question: 'Ω' at row 1, column 2 "),
    (row(answer=BY_RULE.replace("G", "g")), "the answer: 'g' at row 4, column 4 "),
    (
        row(QUESTION.replace("S ", "SS")),
        "the answer does not solve the question: the maze has 2 S, at row 1, column 1 and at row 1, column 2",
    ),
    (row(QUESTION.replace("G", " ")), "the answer does not solve the question: the maze has no G"),
    (row(QUESTION.replace("  G", "G G")), "the answer .*2 G, at row 4, column 2"),
    (row(QUESTION.replace("S ", "So")), "the answer .*: row 1, column 2 is marked as path"),
    (row("S#  #   " + "       G"), "the answer .*: no way leads from S at row 1, column 1 to G at row 4, column 4"),
    (row(answer=QUESTION), "the answer .*breaks off at row 1, column 1"),
    (row(answer=BY_RULE.replace("##", "# ")), "the answer .*row 2, column 3 is a wall in the question, free here"),
    (row(answer=OTHER[:4] + BY_RULE[4:]), "the answer .*branches or touches itself at row 1, column 1"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS)
def test_bad_mazes_are_named_by_file_line_and_cell(tmp_path, bad, message):
    with pytest.raises(DataError, match=f"rows.csv line 3: {message}"):
        read_table(write_csv(tmp_path / "rows.csv", ROW, bad))


def test_bad_mazes_are_skipped_by_choice_and_listed(tmp_path):
    bad = [line for line, _ in BAD_ROWS]
    skipped = []
    rows = read_table(write_csv(tmp_path / "rows.csv", bad[0], ROW, *bad[1:], ROW), skipped=skipped)
    assert rows.lines.tolist() == [2, 2 + len(bad)]
    assert [int(problem.split("line ")[1].split(":")[0]) for problem in skipped] == [2, *range(4, 3 + len(bad))]
    with pytest.raises(
        DataError, match="each of its 2 rows had to be left out; the first: .*line 2: the question: 'x' at row 1"
    ):
        read_table(write_csv(tmp_path / "rows.csv", *bad[:2]), skipped=[])
    for damage in ("toy,S", ROW.rpartition(",")[0]):  # no table
        with pytest.raises(DataError, match="line 3"):
            read_table(write_csv(tmp_path / "rows.csv", ROW, damage), skipped=[])


@pytest.mark.parametrize("wall", [0, 1])
@pytest.mark.parametrize("with_answers", [True, False])
def test_a_table_of_numbers_has_one_wall(tmp_path, wall, with_answers):
    """One maze in twenty of the generator is joined either way: the others of its table tell which the wall is."""

    def written(grid):
        return "".join(map(str, np.where(grid < 2, 1 - grid, grid).flat if wall else grid.flat))

    either, clear = parse("SG  " + " ## " * 2 + "    "), parse("S # " + "  ##" * 2 + "  G ")
    pairs = [(either, either), (clear, parse("S # " + "o ##" * 2 + "ooG ")), (either, either)]
    lines = [f"{written(q)},{written(a)}" if with_answers else written(q) for q, a in pairs]
    header = "maze,solution" if with_answers else "maze"
    rows = read_table(write_csv(tmp_path / "rows.csv", *lines, header=header))
    np.testing.assert_array_equal(rows.questions, [question for question, _ in pairs])

    inverted = np.where(clear < 2, 1 - clear, clear)  # joined only with the wall that it has not
    bad = write_csv(tmp_path / "bad.csv", *lines, *[",".join([written(inverted)] * (1 + with_answers))], header=header)
    with pytest.raises(DataError, match="line 5: .*no way leads from S"):
        read_table(bad)
    skipped = []
    assert len(read_table(bad, skipped=skipped)) == 3 and len(skipped) == 1
    with pytest.raises(DataError, match="line 2: the question: S and G are joined whether 0 or 1 is the wall"):
        read_table(write_csv(tmp_path / "either.csv", lines[0], lines[0], header=header))


def test_labels_are_told_apart(tmp_path):
    path = write_csv(tmp_path / "rows.csv", row(), row(answer=OTHER), row(*DETOUR), row())
    assert count_labels(read_table(path)) == (3, 2)


def test_blocks_and_their_metadata(tmp_path, monkeypatch):
    monkeypatch.setattr("hrm_hf.data.schema.BLOCK_ROWS", 4)
    csv = write_csv(tmp_path / "rows.csv", *[ROW] * 9, f"other,{QUESTION},{OTHER},9")
    info = build_maze(tmp_path, read_table(csv), read_table(csv))[0]
    assert (info.num_groups, info.num_puzzles, info.num_rows, info.num_aug) == (10, 10, 10, 0)
    assert (info.task, info.split, info.grid_shape, info.box_shape) == ("maze", "train", (4, 4), None)
    with h5py.File(tmp_path / "train.h5") as file:
        blocks = list(file["puzzles"].values())
        assert [len(block["examples/0"]) for block in blocks] == [4, 4, 2]
        metadata = blocks[2]["metadata"]
        assert metadata.attrs["rows_are"] == "puzzles"
        assert metadata["rating"][:].tolist() == [7, 9] and metadata["line"][:].tolist() == [9, 10]
        assert [metadata.attrs["sources"][code] for code in metadata["source"]] == ["toy", "other"]
    questions, answers = cells_of(tmp_path / "train.h5")
    np.testing.assert_array_equal(questions, np.stack([parse(QUESTION)] * 10))
    np.testing.assert_array_equal(answers, np.stack([parse(BY_RULE)] * 9 + [parse(OTHER)]))


def test_views_are_stored_in_order_and_are_paths(tmp_path):
    rows = generated(4)
    info = build_maze(tmp_path, rows, rows, augment=True)[0]
    assert (info.num_groups, info.num_puzzles, info.num_rows, info.num_aug) == (4, 32, 32, 7)
    questions, answers = cells_of(tmp_path / "train.h5")
    for index in range(32):
        for grids, originals in ((questions, rows.questions), (answers, rows.answers)):
            np.testing.assert_array_equal(grids[index], dihedral(originals[index // 8], index % 8))
    valid, shortest = path_checks(questions, answers)
    assert valid.all() and shortest.all()
    assert (follow_rule(questions) != answers).any()  # what the help says of augmented labels
    with h5py.File(tmp_path / "train.h5") as file:
        metadata = file["puzzles/00000000/metadata"]
        assert metadata["transform"].dtype == np.uint8 and metadata["transform"][:].tolist() == [*range(8)] * 4
        assert (metadata.attrs["rows_are"], metadata.attrs["num_variants"]) == ("puzzles with variants", 8)
        assert [metadata.attrs["sources"][code] for code in metadata["source"]] == ["generated"] * 4
        assert metadata["rating"][:].tolist() == rows.ratings.tolist()


def test_only_the_train_split_is_augmented_and_subsampled(tmp_path):
    rows = generated(8)
    train, test = build_maze(tmp_path, rows, rows, augment=True, subsample_size=3, seed=1)
    assert (train.split, train.num_groups, train.num_rows, train.num_aug, train.seed) == ("train", 3, 24, 7, 1)
    assert (test.split, test.num_groups, test.num_rows, test.num_aug) == ("test", 8, 8, 0)
    kept = next(cells_of(tmp_path / "train.h5"))[::8]
    places = [int(np.argmax((rows.questions == grid).all(axis=(1, 2)))) for grid in kept]
    assert places == sorted(set(places))


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path):
    rows = generated(12)
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        build_maze(tmp_path / name, rows, rows, subsample_size=5, seed=seed)
    one, two = ((tmp_path / name / "train.h5").read_bytes() for name in ("one", "two"))
    assert one == two
    sets = [next(cells_of(tmp_path / name / "train.h5")) for name in ("one", "three")]
    assert (sets[0] != sets[1]).any()


def test_options_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    rows, wide = generated(4), generated(4, (4, 6))
    for change, message in (
        ({"subsample_size": 5}, "subsample_size is 5, allowed are 1 to 4"),
        ({"subsample_size": 0}, "subsample_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"test": wide}, r"training mazes have \(5, 5\) cells, test mazes \(4, 6\)"),
        ({"train": wide, "test": wide, "augment": True}, r"only square mazes can be augmented.*\(4, 6\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            build_maze(**({"output_dir": tmp_path / "new", "train": rows, "test": rows} | change))
    assert not (tmp_path / "new").exists()
    (tmp_path / "test.h5").touch()
    with pytest.raises(ArgumentError, match="test.h5 already exists"):
        build_maze(tmp_path, rows, rows)
    assert not (tmp_path / "train.h5").exists()
    build_maze(tmp_path, wide, wide, overwrite=True)
    assert PuzzleFile(tmp_path / "test.h5").info.grid_shape == (4, 6)


def test_generated_rows_share_no_class():
    train, test = generate_rows(30, 10, (5, 5), 6, 0.3, seed=4)
    assert (len(train), len(test)) == (30, 10)
    assert len(set(class_keys(np.concatenate([train.questions, test.questions])))) == 40
    assert count_labels(train) == (30, 30) and count_labels(test) == (10, 10)
    assert train.ratings.min() >= 6
    distances = distances_to_goal(train.questions)
    assert train.ratings.tolist() == distances[train.questions == maze.START].tolist()
    np.testing.assert_array_equal(generate_rows(30, 10, (5, 5), 6, 0.3, seed=4)[1].questions, test.questions)
    assert (generate_rows(30, 10, (5, 5), 6, 0.3, seed=5)[1].questions != test.questions).any()
    with pytest.raises(ArgumentError, match="0 test puzzles"):
        generate_rows(30, 0, (5, 5), 6, 0.3, seed=4)


def test_a_set_like_the_published_one_is_confirmed_from_its_text(tmp_path):
    rows = generate_rows(20, 1, (30, 30), 60, 0.3, seed=6)[0]
    lines = [
        ",".join(["made", *(maze.write(grid) for grid in pair), "60"])
        for pair in zip(rows.questions, rows.answers, strict=True)
    ]
    again = read_table(write_csv(tmp_path / "rows.csv", *lines))
    np.testing.assert_array_equal(again.answers, rows.answers)
    assert count_labels(again) == (20, 20)
