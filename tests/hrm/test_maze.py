"""Mazes: reading, checks and distances, by mazes solved by hand and plain searches."""

import json

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from maze_grids import QUESTION, plain_distances, random_grids

from hrm_hf.hrm import maze
from hrm_hf.hrm.errors import PuzzleError
from hrm_hf.hrm.maze import FREE, PATH, START, WALL, parse
from hrm_hf.hrm.symmetry import dihedral

GOLDEN = paths.GOLDEN / "G"


# Reading and writing


@pytest.mark.parametrize(
    ("puzzle", "grid_shape"),
    [
        (QUESTION, None),
        (QUESTION + "\n", None),
        (f"\n{QUESTION}\n", None),  # as between the quotes of several lines
        (QUESTION.replace("\n", "\r\n") + "\r\n", None),
        (QUESTION.replace("\n", ""), (3, 4)),
        (QUESTION.split("\n"), None),
        (tuple(QUESTION.split("\n")), (3, 4)),
        (parse(QUESTION), None),
        (parse(QUESTION).tolist(), None),
        (list(parse(QUESTION)), None),
        (parse(QUESTION).ravel(), (3, 4)),
        (parse(QUESTION).ravel().tolist(), (3, 4)),
        (parse(QUESTION).astype(np.float32), None),
    ],
)
def test_parse_reads_every_form(puzzle, grid_shape):
    grid = parse(puzzle, grid_shape)
    assert grid.dtype == np.uint8
    assert grid.tolist() == [[2, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 3]]


def test_spaces_are_cells_everywhere():
    assert parse("    \n S G\n    ").tolist() == [[1] * 4, [1, 2, 1, 3], [1] * 4]
    assert parse(" S  G    ").tolist() == [[1, 2, 1], [1, 3, 1], [1, 1, 1]]  # a run of nine is a square
    assert parse([" SG "]).tolist() == [[1, 2, 3, 1]]
    assert parse("S\nG\n").tolist() == [[2], [3]]


@pytest.mark.parametrize(
    ("puzzle", "grid_shape", "message"),
    [
        ("S  #\n # #\n  G", None, "row 3 has 3 cells, but row 1 has 4 .spaces are cells"),
        (QUESTION + "\n\n", None, "row 4 has 0 cells"),
        ("S  #\n #x#\n   G", None, "'x' at row 2, column 3 is not allowed.*'# SGo'"),
        ("S  #\n #\t#\n   G", None, r"'\\t' at row 2, column 3"),
        ("S  G ", None, "5 cells; expected a square or one line per row"),
        ("", None, "grid shape is .0, 0."),
        ("S", None, "grid shape is .1, 1."),
        (QUESTION, (4, 3), "3 x 4 cells; expected 4 x 3"),
        (QUESTION, (3, 5), "3 x 4 cells; expected 3 x 5"),
        (QUESTION.replace("\n", ""), (3, 3), "12 cells; expected 3 x 3"),
        (QUESTION, (3, "four"), "grid shape"),
        (QUESTION, (0, 4), "grid shape"),
        (" " * 200_000, None, "str of length 200000 is no maze"),
        ([[0] * 300] * 300, None, "grid shape is .300, 300."),
        ([[2, 1], [3]], None, "row 2 has 1 cells, but row 1 has 2"),
        ([[2, 1], 3], None, "row 2 is a int"),
        ([[2, 1], [3, 5]], None, "5 at row 2, column 2"),
        ([[2, -1], [3, 1]], None, "-1 at row 1, column 2"),
        ([[2, 0.5], [3, 1]], None, "0.5 at row 1, column 2"),
        ([[2, float("nan")], [3, 1]], None, "nan at row 1, column 2"),
        ([[2, True], [3, 1]], None, "True at row 1, column 2"),
        ([[2, "T"], [3, 1]], None, "'T' at row 1, column 2"),
        ([], None, "grid shape is .0, 0."),
        ([[], []], None, "grid shape"),
        (np.zeros((2, 2, 2), int), None, r"\(2, 2, 2\)"),
        (np.zeros((2, 2), bool), None, "False at row 1, column 1"),
        (np.array([[b"S", b"G"]]), None, "S1"),
        (np.broadcast_to(np.uint8(0), (10**6, 10**6)), None, "1000000, 1000000"),
        (None, None, "NoneType"),
        (b"S  G", None, "bytes"),
    ],
)
def test_parse_says_what_is_wrong(puzzle, grid_shape, message):
    with pytest.raises(PuzzleError, match=message):
        parse(puzzle, grid_shape)


class Hostile:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


class HostileList(list):
    def __len__(self):
        raise OSError("no")


@pytest.mark.parametrize("puzzle", [Hostile(), HostileList([1]), [[10**5000, 0], [1, 1]]], ids=range(3))
def test_parse_raises_nothing_but_puzzle_errors(puzzle):
    with pytest.raises(PuzzleError):
        parse(puzzle)


cell_values = st.one_of(st.integers(-1, 5), st.floats(), st.none(), st.text("# SGox\n", max_size=4))


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text("# SGo\nx", max_size=30),
        st.lists(cell_values, max_size=9),
        st.lists(st.lists(st.integers(-1, 5), min_size=2, max_size=3), max_size=3),
        st.recursive(cell_values, lambda inner: st.lists(inner, max_size=4), max_leaves=12),
    )
)
def test_parse_of_anything_gives_a_grid_or_a_puzzle_error(puzzle):
    try:
        grid = parse(puzzle)
    except PuzzleError:
        return
    assert grid.dtype == np.uint8 and grid.ndim == 2 and grid.max() <= PATH


def test_encode_and_decode():
    grid = parse("S #o\nG  o")
    ids = maze.CODEC.encode(grid, (2, 4))
    assert ids.tolist() == [[3, 2, 1, 5], [4, 2, 2, 5]]
    assert maze.CODEC.vocabulary((2, 4)) == ["PAD", "#", " ", "S", "G", "o"]
    np.testing.assert_array_equal(maze.decode(ids), grid)
    assert maze.decode(np.array([-100, 0, 1, 5, 6, 300])).tolist() == [FREE, FREE, WALL, PATH, FREE, FREE]


def test_codes_and_views_match_the_recorded_dataset():
    recorded = golden_arrays(GOLDEN / "maze.npz")
    config = json.loads((GOLDEN / "config.json").read_text())["maze"]
    assert config["charset"] == maze.CHARACTERS and config["dataset_json"]["vocab_size"] == len(maze.CHARACTERS) + 1
    assert config["dataset_json"]["pad_id"] == maze.PAD_ID
    for number, (_, question, answer, _) in enumerate(config["csv_rows"]):
        for k in range(8):
            for text, name in ((question, "inputs"), (answer, "labels")):
                view = maze.CODEC.encode(dihedral(parse(text), k), None)
                np.testing.assert_array_equal(view.ravel(), recorded[name][8 * number + k])


def test_text_and_drawing():
    assert maze.write(parse(QUESTION), QUESTION) == QUESTION and maze.write(parse(QUESTION)) == QUESTION.replace(
        "\n", ""
    )
    assert maze.draw(parse(QUESTION)) == maze.draw(parse(QUESTION).tolist()) == maze.draw(QUESTION)
    assert maze.draw(QUESTION) == "+----+\n|S  #|\n| # #|\n|   G|\n+----+"


# Checks of one maze


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("  \nG ", "no S"),
        ("S \n  ", "no G"),
        ("S  \n GS", "2 S, at row 1, column 1 and at row 2, column 3"),
        ("SGG", "2 G, at row 1, column 2 and at row 1, column 3"),
        ("S o\n oG", "row 1, column 3 is marked as path"),
        ("S #\n #G", "no way leads from S at row 1, column 1 to G at row 2, column 3"),
        ("S x\n  G", "'x' at row 1, column 3"),
    ],
)
def test_check_question_names_the_cells(question, message):
    with pytest.raises(PuzzleError, match=message):
        maze.check_question(question.split("\n"))
    assert not maze.is_solution(question.split("\n"), question.split("\n"))


@pytest.mark.parametrize("shape", [(1, 7), (6, 1), (2, 2), (5, 8), (12, 12)])
def test_a_way_is_found_where_a_plain_search_finds_one(shape):
    for grid in random_grids(40, shape, seed=1):
        assert maze.is_joined(grid) == (plain_distances(grid)[grid == START] >= 0).any()
