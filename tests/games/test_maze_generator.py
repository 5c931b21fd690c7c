"""Generated mazes: as asked, no two equal under a symmetry, the same for the same random state."""

import numpy as np
import pytest
from maze_grids import plain_distances, random_grids

from hrm_hf.games.maze_answers import check_answer, follow_rule
from hrm_hf.games.maze_generator import class_keys, generate_mazes
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hrm.maze import START, WALL, parse
from hrm_hf.hrm.symmetry import dihedral


def test_class_keys_tell_classes_apart():
    generator = np.random.default_rng(7)
    grids = random_grids(20, (4, 4), seed=8)
    keys = class_keys(grids)
    for k in range(8):
        assert class_keys(dihedral(grids, k)) == keys
    assert len(set(keys)) == 20
    for _ in range(20):
        one, other = generator.integers(20, size=2)
        same = any(np.array_equal(dihedral(grids[one], k), grids[other]) for k in range(8))
        assert same == (keys[one] == keys[other])
    wide = parse("SG \n  #")[None]
    assert class_keys(wide) == class_keys(wide[:, ::-1]) == class_keys(wide[..., ::-1])


@pytest.mark.parametrize(("shape", "min_steps"), [((8, 8), 12), ((4, 9), 7), ((1, 6), 2), ((15, 15), 30)])
def test_generated_mazes_are_as_asked(shape, min_steps):
    num = 5 if shape == (1, 6) else 30
    questions, answers = generate_mazes(num, shape, np.random.default_rng(9), min_steps=min_steps)
    assert questions.shape == answers.shape == (num, *shape) and questions.dtype == answers.dtype == np.uint8
    walls = (questions == WALL).mean(axis=(1, 2))
    assert walls.min() >= 0.3 - 1e-9 and walls.max() <= 0.45 + 1e-9
    steps = [plain_distances(question)[question == START][0] for question in questions]
    assert min(steps) >= min_steps
    assert len(set(class_keys(questions))) == num
    for question, answer in zip(questions, answers, strict=True):
        check_answer(question, answer)
    np.testing.assert_array_equal(answers, follow_rule(questions))


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
