"""Mazes: reading, checks, distances, the rule of the labels and the generator, by mazes solved by hand and plain
searches.
"""

import itertools
import json
from collections import deque

import numpy as np
import paths
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_hf.games.maze_generator import generate_mazes
from hrm_hf.hrm import maze
from hrm_hf.hrm.errors import ArgumentError, PuzzleError
from hrm_hf.hrm.maze import FREE, GOAL, PATH, START, WALL, parse
from hrm_hf.hrm.symmetry import dihedral

GOLDEN = paths.GOLDEN / "G"
QUESTION = "S  #\n # #\n   G"
BY_RULE = "S  #\no# #\noooG"  # down comes first, though right is as near

# (question, answer by the rule, steps), each found by hand.
BY_HAND = [
    (QUESTION, BY_RULE, 5),
    ("SG", "SG", 1),
    ("S G", "SoG", 2),
    ("G\n \n \nS", "G\no\no\nS", 3),
    ("G  \n   \n  S", "G  \no  \nooS", 4),  # left comes before up
    ("S  \n   \n  G", "S  \no  \nooG", 4),
    ("  S\n   \nG  ", "  S\n  o\nGoo", 4),
    ("  G\n   \nS  ", "  G\n  o\nSoo", 4),  # right comes before up
    ("S#G\n # \n   ", "S#G\no#o\nooo", 6),
]


def plain_distances(grid):
    """Steps to G by a queue, one maze and one cell at a time."""
    distances = np.full(grid.shape, -1)
    queue = deque()
    for goal in np.argwhere(grid == GOAL).tolist():
        distances[tuple(goal)] = 0
        queue.append(goal)
    while queue:
        row, col = queue.popleft()
        for i, j in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
            inside = 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1]
            if inside and grid[i, j] != WALL and distances[i, j] < 0:
                distances[i, j] = distances[row, col] + 1
                queue.append((i, j))
    return distances


def plain_paths(grid):
    """Every path from S to G that does not touch itself, as sets of the cells between, by trying all subsets."""
    free = [tuple(cell) for cell in np.argwhere(grid == FREE).tolist()]
    start, goal = (tuple(np.argwhere(grid == number)[0].tolist()) for number in (START, GOAL))
    found = set()

    def near(one, other):
        return abs(one[0] - other[0]) + abs(one[1] - other[1]) == 1

    for size in range(len(free) + 1):
        for order in itertools.permutations(free, size):
            cells = [start, *order, goal]
            steps = [near(cells[i], cells[j]) == (j == i + 1) for i, j in itertools.combinations(range(len(cells)), 2)]
            if all(steps):
                found.add(frozenset(order))
    return found


def random_grids(num, shape, seed, values=(WALL, FREE, FREE)):
    """Grids with one S, one G and random other cells."""
    generator = np.random.default_rng(seed)
    grids = generator.choice(np.array(values, np.uint8), (num, shape[0] * shape[1]))
    for grid in grids:
        grid[generator.choice(len(grid), 2, replace=False)] = START, GOAL
    return grids.reshape(num, *shape)


# Reading and writing


@pytest.mark.parametrize(
    ("puzzle", "grid_shape"),
    [
        (QUESTION, None),
        (QUESTION + "\n", None),
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
        ("S  #\n # #\n  G", None, "row 3 has 3 characters, row 1 has 4.*spaces are cells"),
        (QUESTION + "\n\n", None, "row 4 has 0 characters"),
        ("S  #\n #x#\n   G", None, "'x' at row 2, column 3 is not allowed.*'#'"),
        ("S  #\n #\t#\n   G", None, r"'\\t' at row 2, column 3"),
        ("S  G ", None, "5 characters in one run, which is no square"),
        ("", None, "0 characters in one run"),
        ("S", None, "1 characters in one run"),
        (QUESTION, (4, 3), "3 rows, 4x3 cells are wanted"),
        (QUESTION, (3, 5), "row 1 has 4 characters, 3x5 cells are wanted"),
        (QUESTION.replace("\n", ""), (3, 3), "12 characters, 3x3 cells are wanted"),
        (QUESTION, (3, "four"), "grid shape"),
        (QUESTION, (0, 4), "grid shape"),
        (" " * 200_000, None, "200000 characters is no maze"),
        ([[0] * 300] * 300, None, "grid shape .300, 300. is not allowed"),
        ([[2, 1], [3]], None, "row 2 has 1 cells, row 1 has 2"),
        ([[2, 1], 3], None, "row 2 is a int"),
        (["S ", [2, 3]], None, "row 1 is a str"),
        ([[2, 1], [3, 5]], None, "5 at row 2, column 2"),
        ([[2, -1], [3, 1]], None, "-1 at row 1, column 2"),
        ([[2, 0.5], [3, 1]], None, "0.5 at row 1, column 2"),
        ([[2, float("nan")], [3, 1]], None, "nan at row 1, column 2"),
        ([[2, True], [3, 1]], None, "True at row 1, column 2"),
        ([[2, "S"], [3, 1]], None, "'S' at row 1, column 2"),
        ([], None, "0 cells"),
        ([[], []], None, "grid shape"),
        (np.zeros((2, 2, 2), int), None, r"\(2, 2, 2\)"),
        (np.zeros((2, 2), bool), None, "False at row 1, column 1"),
        (np.array([["S", "G"]]), None, "<U1"),
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
    ids = maze.encode(grid)
    assert ids.dtype == np.uint8 and ids.tolist() == [[3, 2, 1, 5], [4, 2, 2, 5]]
    assert maze.vocabulary() == ["PAD", "#", " ", "S", "G", "o"]
    np.testing.assert_array_equal(maze.decode(ids), grid)
    assert maze.decode(np.array([-100, 0, 1, 5, 6, 300])).tolist() == [FREE, FREE, WALL, PATH, FREE, FREE]
    for bad in (np.array([-1]), np.array([5]), np.array([1.0])):
        with pytest.raises(PuzzleError, match="integers from 0 to 4"):
            maze.encode(bad)
    with pytest.raises(PuzzleError, match="integers, got float64"):
        maze.decode(np.array([1.0]))


def test_codes_and_views_match_the_recorded_dataset():
    recorded = np.load(GOLDEN / "maze.npz")
    config = json.loads((GOLDEN / "config.json").read_text())["maze"]
    assert config["charset"] == maze.CHARACTERS and config["dataset_json"]["vocab_size"] == len(maze.vocabulary())
    assert config["dataset_json"]["pad_id"] == maze.PAD_ID
    for number, (_, question, answer, _) in enumerate(config["csv_rows"]):
        for k in range(8):
            for text, name in ((question, "inputs"), (answer, "labels")):
                view = maze.encode(dihedral(parse(text), k))
                np.testing.assert_array_equal(view.ravel(), recorded[name][8 * number + k])


def test_text_and_drawing():
    assert maze.to_text(parse(QUESTION)) == QUESTION
    assert maze.to_text(parse(QUESTION).tolist()) == QUESTION
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


OPEN = "S   \n    \n    \n   G"


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (QUESTION, BY_RULE.replace("S", " "), "row 1, column 1 is S in the question, free here"),
        (QUESTION, BY_RULE.replace("#", " ", 1), "row 1, column 4 is a wall in the question, free here"),
        (QUESTION, BY_RULE.replace("#", "o", 1), "row 1, column 4 is a wall in the question, path here"),
        (QUESTION, BY_RULE.replace("ooo", "oo#"), "row 3, column 3 is free in the question, a wall here"),
        (QUESTION, BY_RULE.replace("ooo", "ooG"), "row 3, column 3 is free in the question, G here"),
        (QUESTION, QUESTION, "breaks off at row 1, column 1"),
        (QUESTION, "S  #\no# #\noo G", "breaks off at row 3, column 2"),
        (OPEN, "So  \n oo \n  oo\n   G", None),
        (OPEN, "So  \n o  \noooo\n  oG", "branches or touches itself at row 3, column 2"),
        (OPEN, "So  \noo  \n o  \n oooG", "row 4 has 5"),
        (OPEN, "So  \noo  \n o  \n ooG", "branches or touches itself at row 1, column 1"),
        (OPEN, "Sooo\n   o\noo o\noo G", "row 3, column 1 is marked but does not lie on the path"),
        (OPEN, "Sooo\n   o\no  o\no  G", "breaks off at row 3, column 1"),
        (OPEN, "S oo\n  oo\n    \n   G", "breaks off at row 1, column 1"),
        (OPEN, "So  \n    \n    \n  oG", "breaks off at row 1, column 2"),
        ("S G", "SoG ", "the answer is a grid of"),
    ],
)
def test_check_answer_says_what_is_wrong_and_where(question, answer, message):
    answer = answer.split("\n")
    question = question.split("\n")
    assert maze.is_solution(question, answer) == (message is None)
    if message is None:
        maze.check_answer(question, answer)
        return
    with pytest.raises(PuzzleError, match=message):
        maze.check_answer(question, answer)


def test_longer_paths_are_valid_but_not_shortest():
    question, straight, detour = "S    \n   # \nG    ", "S    \no  # \nG    ", "Soo  \n  o# \nGoo  "
    grids = [parse(text) for text in (question, straight, detour)]
    valid, shortest = maze.path_checks(np.stack([grids[0]] * 3), np.stack(grids))
    assert valid.tolist() == [False, True, True] and shortest.tolist() == [False, True, False]


# Rules over many mazes


@pytest.mark.parametrize(("question", "answer", "steps"), BY_HAND)
def test_mazes_solved_by_hand(question, answer, steps):
    question, answer = parse(question.split("\n")), parse(answer.split("\n"))
    maze.check_question(question)
    maze.check_answer(question, answer)
    np.testing.assert_array_equal(maze.follow_rule(question[None])[0], answer)
    assert maze.distances_to_goal(question[None])[0][question == START] == steps
    assert [check.tolist() for check in maze.path_checks(question[None], answer[None])] == [[True], [True]]


@pytest.mark.parametrize("shape", [(1, 7), (6, 1), (2, 2), (5, 8), (12, 12)])
def test_distances_equal_those_of_a_plain_search(shape):
    grids = random_grids(40, shape, seed=1)
    distances = maze.distances_to_goal(grids)
    assert distances.dtype == np.int32 and distances.shape == grids.shape
    np.testing.assert_array_equal(distances, np.stack([plain_distances(grid) for grid in grids]))


def test_distances_without_a_goal_and_of_no_maze():
    assert (maze.distances_to_goal(np.full((1, 2, 2), FREE)) == -1).all()
    assert maze.distances_to_goal(np.zeros((0, 3, 4), np.uint8)).shape == (0, 3, 4)
    for bad, message in ((np.zeros((3, 3), int), r"\(3, 3\)"), (np.full((1, 2, 2), 5), "got 5")):
        with pytest.raises(PuzzleError, match=message):
            maze.distances_to_goal(bad)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_path_checks_equal_trying_every_marking(shape):
    questions = [grid for grid in random_grids(8, shape, seed=2) if (grid == FREE).sum() <= 6]
    assert len(questions) >= 4
    for question in questions:
        free = [tuple(cell) for cell in np.argwhere(question == FREE).tolist()]
        paths = plain_paths(question)
        fewest = min(map(len, paths), default=None)
        markings = [
            chosen for size in range(len(free) + 1) for chosen in map(frozenset, itertools.combinations(free, size))
        ]
        answers = np.stack([question] * len(markings))
        for answer, marking in zip(answers, markings, strict=True):
            for cell in marking:
                answer[cell] = PATH
        valid, shortest = maze.path_checks(np.stack([question] * len(markings)), answers)
        assert valid.tolist() == [marking in paths for marking in markings]
        assert shortest.tolist() == [marking in paths and len(marking) == fewest for marking in markings]
        assert [maze.is_solution(question, answer) for answer in answers] == valid.tolist()


def test_path_checks_keep_the_question():
    questions, answers = generate_mazes(20, (6, 7), np.random.default_rng(3))
    generator = np.random.default_rng(4)
    for question, answer in zip(questions, answers, strict=True):
        changed = np.stack([answer] * 60)
        for other in changed:  # one cell anew; shortest paths have no valid neighbour of one cell
            other.flat[generator.integers(answer.size)] = generator.integers(5)
        is_same = (changed == answer).all(axis=(1, 2))
        valid, shortest = maze.path_checks(np.stack([question] * 60), changed)
        np.testing.assert_array_equal(valid, is_same)
        np.testing.assert_array_equal(shortest, is_same)


def test_questions_and_answers_must_fit():
    grid = parse(QUESTION)[None]
    with pytest.raises(PuzzleError, match="one answer each"):
        maze.path_checks(grid, np.concatenate([grid, grid]))
    no_goal = np.where(grid == GOAL, FREE, grid)
    assert [check.tolist() for check in maze.path_checks(no_goal, no_goal)] == [[False], [False]]


def test_are_questions_agrees_with_the_check_of_one():
    grids = random_grids(100, (3, 3), seed=5, values=(WALL, WALL, FREE, FREE, FREE, FREE, FREE, FREE, GOAL, PATH))
    right = maze.are_questions(grids)
    assert 10 < right.sum() < 90
    for grid, is_right in zip(grids, right, strict=True):
        if is_right:
            maze.check_question(grid)
        else:
            with pytest.raises(PuzzleError):
                maze.check_question(grid)


def test_the_rule_takes_down_left_right_up():
    question, answer = parse(QUESTION), parse(BY_RULE)
    lost = 0
    for k in range(8):
        view = maze.follow_rule(dihedral(question, k)[None])[0]
        maze.check_answer(dihedral(question, k), view)
        lost += not np.array_equal(view, dihedral(answer, k))
    assert lost > 0  # the rule does not survive flips and rotations


def test_the_rule_equals_a_walk_by_hand():
    questions, answers = generate_mazes(30, (7, 9), np.random.default_rng(6), min_steps=8)
    for question, answer in zip(questions, answers, strict=True):
        distances = plain_distances(question)
        expected = question.copy()
        row, col = np.argwhere(question == START)[0].tolist()
        while distances[row, col] > 1:
            for i, j in ((row + 1, col), (row, col - 1), (row, col + 1), (row - 1, col)):
                inside = 0 <= i < question.shape[0] and 0 <= j < question.shape[1]
                if inside and distances[i, j] == distances[row, col] - 1:
                    row, col = i, j
                    break
            expected[row, col] = PATH
        np.testing.assert_array_equal(answer, expected)
    valid, shortest = maze.path_checks(questions, answers)
    assert valid.all() and shortest.all()


def test_the_rule_names_the_maze_that_is_none():
    grids = np.stack([parse("SG \n   "), parse("S# \n# G")])
    with pytest.raises(PuzzleError, match="maze 1: no way leads from S at row 1, column 1"):
        maze.follow_rule(grids)


def test_class_keys_tell_classes_apart():
    generator = np.random.default_rng(7)
    grids = random_grids(20, (4, 4), seed=8)
    keys = maze.class_keys(grids)
    for k in range(8):
        assert maze.class_keys(dihedral(grids, k)) == keys
    assert len(set(keys)) == 20
    for _ in range(20):
        one, other = generator.integers(20, size=2)
        same = any(np.array_equal(dihedral(grids[one], k), grids[other]) for k in range(8))
        assert same == (keys[one] == keys[other])
    wide = parse("SG \n  #")[None]
    assert maze.class_keys(wide) == maze.class_keys(wide[:, ::-1]) == maze.class_keys(wide[..., ::-1])


# Generator


@pytest.mark.parametrize(("shape", "min_steps"), [((8, 8), 12), ((4, 9), 7), ((1, 6), 2), ((15, 15), 30)])
def test_generated_mazes_are_as_asked(shape, min_steps):
    num = 5 if shape == (1, 6) else 30
    questions, answers = generate_mazes(num, shape, np.random.default_rng(9), min_steps=min_steps)
    assert questions.shape == answers.shape == (num, *shape) and questions.dtype == answers.dtype == np.uint8
    walls = (questions == WALL).mean(axis=(1, 2))
    assert walls.min() >= 0.3 - 1e-9 and walls.max() <= 0.45 + 1e-9
    steps = [plain_distances(question)[question == START][0] for question in questions]
    assert min(steps) >= min_steps
    assert len(set(maze.class_keys(questions))) == num
    for question, answer in zip(questions, answers, strict=True):
        maze.check_answer(question, answer)
    np.testing.assert_array_equal(answers, maze.follow_rule(questions))


def test_the_generator_depends_on_its_random_state_alone():
    one, two, other = (generate_mazes(5, (8, 8), np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    walls = generate_mazes(5, (10, 10), np.random.default_rng(1), 0.3, 0.3, min_steps=3)[0] == WALL
    assert (walls.sum(axis=(1, 2)) == 30).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": 0}, "at least 1, not 0"),
        ({"min_wall_share": 0.5}, "from 0.5 to 0.45"),
        ({"max_wall_share": 1.0}, "to 1.0 are not allowed"),
        ({"min_wall_share": 0.31, "max_wall_share": 0.32}, "no number of walls in 3x3 cells"),
        ({"min_steps": 0}, "min_steps is 0, allowed are 1 to 5"),
        ({"min_steps": 6}, "min_steps is 6, allowed are 1 to 5"),
        ({"min_steps": 5}, "found only 2 of 3 mazes of 3x3.*lower min_steps .now 5."),
        ({"num": 10_000}, r"found only \d\d+ of 10000.*or the number"),
    ],
)
def test_mazes_that_cannot_be_made_are_refused(arguments, message, monkeypatch):
    monkeypatch.setattr("hrm_hf.games.maze_generator._PATIENCE_CELLS", 50_000)
    with pytest.raises(ArgumentError, match=message):
        generate_mazes(**({"num": 3, "grid_shape": (3, 3), "generator": np.random.default_rng(0)} | arguments))
