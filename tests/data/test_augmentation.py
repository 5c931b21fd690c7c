"""Symmetries and revealed cells drawn at every visit: beside one puzzle at a time, for ranks, where a pass resumes."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from sudoku_grids import full_grid

from hrm_hf.data import GroupSampler, PuzzleSetInfo, PuzzleWriter, Symmetries, training_batches
from hrm_hf.games.sudoku_answers import are_solutions
from hrm_hf.games.sudoku_symmetry import SudokuSymmetries
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hrm.puzzle_codecs import CODECS
from hrm_hf.hrm.symmetry import dihedral

BATCH, SEED = 6, 3


def write(path, task, cells, rows_are="puzzles", **facts):
    """A file of token ids (num, 2, rows, columns)."""
    info = PuzzleSetInfo.of_task(task, cells.shape[2:], split="train", num_aug=0, seed=0, **facts)
    with PuzzleWriter(path, info) as writer:
        writer.add_puzzle("all", [cells.reshape(len(cells), 2, -1)], rows_are, {}, {})
    return path


def sudokus(path, box_shape, num=7, rows_are="puzzles"):
    """(file, grids): one full grid with 0 to all of its cells blank."""
    answer, generator = full_grid(box_shape), np.random.default_rng(0)
    blank = generator.random((num, *answer.shape)) < np.linspace(0, 1, num)[:, None, None]
    grids = np.stack([np.where(blank, 0, answer), np.broadcast_to(answer, blank.shape)], axis=1).astype(np.uint8)
    return write(path, "sudoku", grids + np.uint8(1), rows_are, box_shape=box_shape), grids


@pytest.fixture
def path(tmp_path):
    return sudokus(tmp_path / "sudoku.h5", (2, 2))[0]


def mazes(path, shape):
    cells = np.random.default_rng(1).integers(1, 6, (5, 2, *shape), dtype=np.uint8)
    return write(path, "maze", cells), cells


def pairs_of(batch, shape):
    """(B, 2, rows, columns) of token ids."""
    return np.stack([batch["input_ids"], batch["labels"]], axis=1).reshape(-1, 2, *shape)


def same(one, other):
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("box_shape", [(2, 2), (2, 3), (3, 3)])
def test_a_batch_is_what_one_puzzle_at_a_time_gives(tmp_path, box_shape):
    path, grids = sudokus(tmp_path / "sudoku.h5", box_shape)
    order, n = SudokuSymmetries.order(box_shape), grids.shape[-1]
    sampler, revealed = GroupSampler(np.ones(7, int), np.ones(7, int), BATCH, SEED), 0
    for batch in islice(training_batches(path, BATCH, SEED, augment=True, reveal_prob=0.6), 30):
        draw, generator = next(sampler), sampler.generator
        codes = generator.integers(0, order, BATCH, dtype=np.uint64)
        chosen, shares = generator.random(BATCH) < 0.6, generator.random(BATCH)
        keys = generator.random((BATCH, n * n), dtype=np.float32).reshape(BATCH, n, n)
        for row, pair in enumerate(pairs_of(batch, (n, n))):
            question, answer = SudokuSymmetries(box_shape, codes[row : row + 1]).apply(grids[draw.groups[row]])[0]
            for cell in np.argwhere(question == 0) if chosen[row] else ():
                if keys[row][tuple(cell)] < shares[row]:
                    question[tuple(cell)] = answer[tuple(cell)]
                    revealed += 1
            np.testing.assert_array_equal(pair - 1, [question, answer])
    assert revealed > 100


def test_every_visit_draws_another_symmetry_of_the_whole_group(tmp_path):
    path, _ = sudokus(tmp_path / "sudoku.h5", (2, 2), num=1)
    batches = islice(training_batches(path, 64, SEED, augment=True), 150)
    answers = np.concatenate([pairs_of(batch, (4, 4))[:, 1] for batch in batches]) - 1
    assert are_solutions(answers, answers, (2, 2)).all()
    found, counts = np.unique(answers, axis=0, return_counts=True)
    assert len(found) == 192 and counts.max() < 3 * counts.min()  # the larger class of full grids


@pytest.mark.parametrize(("shape", "views"), [((4, 4), range(8)), ((3, 5), (0, 2, 4, 5))])
def test_mazes_take_the_views_that_keep_their_shape(tmp_path, shape, views):
    path, cells = mazes(tmp_path / "maze.h5", shape)
    allowed = {dihedral(pair, view).tobytes() for pair in cells for view in views}
    batches = islice(training_batches(path, 20, SEED, augment=True), 20)
    found = {pair.astype(np.uint8).tobytes() for batch in batches for pair in pairs_of(batch, shape)}
    assert found == allowed and len(allowed) == 5 * len(views)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("reveal_prob", [0.5, 0.0])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_any_number_of_processes_resumes_the_same_sequence(path, augment, reveal_prob, world_size):
    options = dict(epochs_per_pass=9, augment=augment, reveal_prob=reveal_prob)
    batches = training_batches(path, BATCH, SEED, **options)
    iterator = iter(batches)
    for _ in range(4):
        next(iterator)
    state = json.loads(json.dumps(batches.state_dict()))
    parts = [training_batches(path, BATCH, SEED, rank, world_size, **options) for rank in range(world_size)]
    for part in parts:
        part.load_state_dict(state)
    for batch, *local in zip(iterator, *parts, strict=True):
        same(batch, {name: np.concatenate([part[name] for part in local]) for name in batch})


def test_a_reveal_leaves_each_number_of_blanks_as_often(tmp_path):
    cells = np.stack([np.full((4, 4), 1, np.uint8), np.full((4, 4), 2, np.uint8)])[None]
    path = write(tmp_path / "blank.h5", "sudoku", cells, box_shape=(2, 2))
    blanks = {}
    for prob in (0.25, 1.0):
        batches = islice(training_batches(path, 100, SEED, reveal_prob=prob), 60)
        left = np.concatenate([(batch["input_ids"] == 1).sum(axis=1) for batch in batches])
        blanks[prob] = np.bincount(left, minlength=17) / len(left)
    assert (np.abs(blanks[1.0] - 1 / 17) < 0.02).all()
    assert abs(blanks[0.25][16] - (0.75 + 0.25 / 17)) < 0.03


def test_unscored_cells_are_not_revealed_and_stay_unscored(tmp_path):
    cells = np.ones((1, 2, 4, 4), np.uint8)
    cells[0, 1] = full_grid((2, 2)) + 1
    cells[0, 1, :2] = 0
    path = write(tmp_path / "half.h5", "sudoku", cells, box_shape=(2, 2))
    for batch in islice(training_batches(path, 8, SEED, augment=True, reveal_prob=1.0), 20):
        ignored = batch["labels"] == -100
        assert (ignored.sum(axis=1) == 8).all() and (batch["input_ids"][ignored] == 1).all()


def test_the_symmetries_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.setitem(CODECS, "own", CODECS["maze"])
    cells = np.random.default_rng(2).integers(1, 6, (3, 2, 2, 3), dtype=np.uint8)
    path = write(tmp_path / "own.h5", "own", cells)

    def mirror(cells, numbers):
        return np.where(numbers[:, None, None, None] == 1, cells[..., ::-1], cells)

    batch = next(iter(training_batches(path, 30, SEED, augment=Symmetries(2, mirror))))
    found = {pair.astype(np.uint8).tobytes() for pair in pairs_of(batch, (2, 3))}
    assert found == {view.tobytes() for pair in cells for view in (pair, pair[..., ::-1])}
    for wrong in (
        lambda cells, numbers: cells[:1],
        lambda cells, numbers: cells + 9,
        lambda cells, numbers: cells / 1,
    ):
        with pytest.raises(ArgumentError, match=r"the symmetries gave .* allowed is uint8 \(30, 2, 2, 3\)"):
            next(iter(training_batches(path, 30, SEED, augment=Symmetries(2, wrong))))
    for augment, message in ((True, "the task 'own' has no symmetries"), (Symmetries(0, mirror), "is 0; allowed")):
        with pytest.raises(ArgumentError, match=message):
            training_batches(path, 3, SEED, augment=augment)
    with pytest.raises(ArgumentError, match="augment is a function"):
        training_batches(path, 3, SEED, augment=mirror)


@pytest.mark.parametrize("prob", [-0.1, 1.5, float("nan")])
def test_what_a_task_does_not_have_is_refused(tmp_path, path, prob):
    with pytest.raises(ArgumentError, match=f"reveal_prob is {prob}; allowed is 0 to 1"):
        training_batches(path, BATCH, SEED, reveal_prob=prob)
    with pytest.raises(ArgumentError, match="the task 'maze' has no blanks"):
        training_batches(mazes(tmp_path / "maze.h5", (4, 4))[0], 4, SEED, reveal_prob=0.5)


def test_more_symmetries_than_codes_are_drawn_too(tmp_path):
    answer = (4 * (np.arange(16) % 4) + np.arange(16) // 4)[:, None] + np.arange(16)
    cells = np.stack([np.ones((16, 16), np.uint8), (answer % 16 + 2).astype(np.uint8)])[None]
    large = write(tmp_path / "large.h5", "sudoku", cells, box_shape=(4, 4))
    batches = training_batches(large, 1, SEED, augment=True)
    labels = [np.asarray(batch["labels"]).reshape(1, 16, 16) - 1 for batch in islice(iter(batches), 3)]
    assert len({grid.tobytes() for grid in labels}) == 3
    for grid in labels:
        assert are_solutions(np.zeros_like(grid), grid, (4, 4)).all()


def test_a_codec_offers_its_symmetries(tmp_path, monkeypatch):
    def symmetries(shape):
        assert shape == (2, 3)
        return 2, lambda cells, numbers: np.where(numbers[:, None, None, None] == 1, cells[..., ::-1], cells)

    monkeypatch.setitem(CODECS, "own", replace(CODECS["maze"], symmetries=symmetries))
    cells = np.random.default_rng(2).integers(1, 6, (3, 2, 2, 3), dtype=np.uint8)
    batch = next(iter(training_batches(write(tmp_path / "own.h5", "own", cells), 30, SEED, augment=True)))
    found = {pair.astype(np.uint8).tobytes() for pair in pairs_of(batch, (2, 3))}
    assert found == {view.tobytes() for pair in cells for view in (pair, pair[..., ::-1])}


def test_views_of_mazes_are_warned_of(tmp_path, capsys):
    path = mazes(tmp_path / "maze.h5", (4, 4))[0]
    training_batches(path, 4, SEED)
    assert capsys.readouterr().err == ""
    training_batches(path, 4, SEED, augment=True)
    assert "a view of a shortest path seldom follows the rule that chose it" in capsys.readouterr().err


def test_a_state_of_another_augmentation_is_refused_and_one_from_before_there_was_any_is_not(path):
    plain = training_batches(path, BATCH, SEED)
    next(iter(plain))
    state = plain.state_dict()
    for options, message in (({"augment": True}, "symmetries None"), ({"reveal_prob": 0.5}, "reveal_prob None")):
        with pytest.raises(ArgumentError, match=f"the saved state has {message}"):
            training_batches(path, BATCH, SEED, **options).load_state_dict(state)
    for name in ("symmetries", "reveal_prob"):
        del state["examples_iterable"][name]
    plain.load_state_dict(state)


def test_stored_variants_below_drawn_ones_are_pointed_out(tmp_path, path, capsys):
    variants = sudokus(tmp_path / "variants.h5", (2, 2), rows_are="variants")[0]
    training_batches(variants, BATCH, SEED)
    training_batches(path, BATCH, SEED, augment=True)
    assert capsys.readouterr().err == ""
    training_batches(variants, BATCH, SEED, augment=True)
    assert f"{variants} holds augmented variants, and a symmetry is drawn on top of them" in capsys.readouterr().err
