"""Predictions and scores of whole data sets: each row once, the same for every batch size and process count."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from tiny_models import TINY, perturbed, some_inputs, tiny_model

from hrm_hf import ArgumentError, HrmProcessor
from hrm_hf.hrm.attempts import Attempts
from hrm_hf.hrm.maze import CODEC, parse
from hrm_hf.scores.attempt_curve import attempt_curve
from hrm_hf.scores.evaluation import attempt_counts, evaluate_puzzles, predict_puzzles, score_predictions
from hrm_hf.scores.formulas import finish, puzzle_scores

NUM_ROWS = 11
ROWS = {
    "input_ids": some_inputs(NUM_ROWS, 5).numpy(),
    "labels": some_inputs(NUM_ROWS, 105).numpy(),
    "puzzle_identifiers": np.zeros(NUM_ROWS, dtype=np.int64),
}


class Rows:
    """A data set of 11 rows."""

    def __len__(self) -> int:
        return NUM_ROWS

    def __getitem__(self, rows: slice) -> dict[str, np.ndarray]:
        return {name: value[rows] for name, value in ROWS.items()}


class Joined:
    """`gather` for processes that are threads here: joins their tensors in the order of the ranks."""

    def __init__(self, num_processes: int) -> None:
        self.parts: list = [None] * num_processes
        self.barrier = Barrier(num_processes, timeout=60)

    def of_rank(self, rank: int):
        def gather(tensor: torch.Tensor) -> torch.Tensor:
            self.parts[rank] = tensor
            self.barrier.wait()
            joined = torch.cat(self.parts)
            self.barrier.wait()
            return joined

        return gather


@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_every_row_counts_once_whatever_the_batch_size(batch_size):
    model = perturbed(tiny_model())
    solved = model.solve(torch.from_numpy(ROWS["input_ids"]), halt=False)
    want = finish(
        puzzle_scores(
            solved.sequences.numpy(),
            ROWS["labels"],
            solved.q_halt_logits.numpy(),
            solved.segments.numpy(),
            ROWS["input_ids"],
            1,
        )
    )
    assert want["count"] == NUM_ROWS and want["segments"] == TINY["halt_max_steps"]
    processor = HrmProcessor(task="sudoku", grid_shape=(4, 4))
    assert evaluate_puzzles(model, Rows(), processor, batch_size=batch_size) == want
    del want["blank_accuracy"]
    assert evaluate_puzzles(model, Rows(), batch_size=batch_size) == want


@pytest.mark.parametrize("halt", [True, False])
@pytest.mark.parametrize(("num_processes", "batch_size"), [(2, 6), (2, 8), (3, 9), (4, 64), (13, 13)])
def test_several_processes_give_the_same_predictions_on_each(monkeypatch, num_processes, batch_size, halt):
    monkeypatch.setattr("hrm_hf.scores.evaluation._READ_ROWS", 2)
    monkeypatch.setattr("hrm_hf.scores.evaluation._GATHERED_ROWS", 4)
    model = perturbed(tiny_model())
    alone = predict_puzzles(model, Rows(), batch_size=5, halt=halt)
    assert len(set(alone.segments.tolist())) == (3 if halt else 1)
    joined = Joined(num_processes)

    def predict(rank):
        return predict_puzzles(
            model,
            Rows(),
            batch_size=batch_size,
            halt=halt,
            process_index=rank,
            num_processes=num_processes,
            gather=joined.of_rank(rank),
        )

    with ThreadPoolExecutor(num_processes) as pool:
        results = list(pool.map(predict, range(num_processes)))
    for result in results:
        assert result.sequences.dtype == np.uint8
        np.testing.assert_array_equal(result.sequences, alone.sequences)
        np.testing.assert_array_equal(result.segments, alone.segments)
        np.testing.assert_array_equal(result.q_halt_logits, alone.q_halt_logits)


@pytest.mark.parametrize("select", ["rules", "vote"])
def test_the_curve_over_attempts_is_that_of_shorter_runs_and_of_several_processes(select):
    model, processor = perturbed(tiny_model()), HrmProcessor(grid_shape=(4, 4))

    def predict(num, **where):
        asked = Attempts(processor, num, "noise", select, seed=3)
        return predict_puzzles(model, Rows(), **{"batch_size": 5} | where, halt=True, attempts=asked)

    assert attempt_counts(5) == [1, 2, 4, 5] and attempt_counts(4) == [1, 2, 4] and attempt_counts(1) == [1]
    whole = predict(5)
    curve = attempt_curve(whole, Rows(), 5)
    for column, num in enumerate((1, 2, 4, 5)):
        shorter = predict(num)
        np.testing.assert_array_equal(whole.sequences_after[:, column], shorter.sequences)
        np.testing.assert_array_equal(whole.segments_after[:, column], shorter.segments)
        scores = score_predictions(shorter, Rows())
        assert curve[column] == {"attempts": num} | {name: scores[name] for name in ("exact_accuracy", "segments")}
    assert len(np.unique(whole.sequences_after, axis=1)[0]) > 1
    joined = Joined(2)
    with ThreadPoolExecutor(2) as pool:
        shared = pool.map(
            lambda rank: predict(5, batch_size=6, process_index=rank, num_processes=2, gather=joined.of_rank(rank)),
            range(2),
        )
        for result in shared:
            for name in ("sequences", "segments", "sequences_after", "segments_after"):
                np.testing.assert_array_equal(getattr(result, name), getattr(whole, name))


def test_rows_are_scored_in_pieces_that_do_not_show(monkeypatch):
    model = perturbed(tiny_model())
    whole = evaluate_puzzles(model, Rows())
    monkeypatch.setattr("hrm_hf.scores.evaluation._SCORED_ROWS", 3)
    assert evaluate_puzzles(model, Rows()) == pytest.approx(whole, rel=1e-14)


def test_a_maze_is_scored_by_its_paths():
    processor = HrmProcessor(task="maze", grid_shape=(2, 3))

    def ids(maze: str) -> np.ndarray:
        return CODEC.encode(parse(maze), None).reshape(-1)

    questions = [ids(maze) for maze in ("S  \n  G", "S  \n  G", "S# \n  G")]
    answers = [ids(maze) for maze in ("S  \nooG", "S  \nooG", "S# \nooG")]  # the labels, by the rule
    given = [ids(maze) for maze in ("Soo\n  G", "S o\n oG", "S# \nooG")]

    class Mazes:
        def __len__(self):
            return 3

        def __getitem__(self, rows):
            return {"input_ids": np.stack(questions)[rows], "labels": np.stack(answers)[rows]}

    model = perturbed(tiny_model())
    predictions = predict_puzzles(model, Rows())
    predictions = type(predictions)(
        np.stack(given).astype(np.uint8), np.array([1.0, -1.0, 1.0]), np.array([1, 2, 3], dtype=np.int32)
    )
    scores = score_predictions(predictions, Mazes(), processor)
    assert scores["exact_accuracy"] == pytest.approx(1 / 3) and scores["segments"] == 2
    assert scores["valid_path"] == scores["shortest_path"] == pytest.approx(2 / 3)
    assert scores["q_halt_accuracy"] == pytest.approx(2 / 3)


def test_refuses_what_does_not_fit():
    model = tiny_model()
    with pytest.raises(ArgumentError, match=r"batch size 5 over 2 process\(es\)"):
        predict_puzzles(model, Rows(), batch_size=5, num_processes=2, gather=lambda tensor: tensor)
    for odd in (0, 2.5, 4.0, "4", True):
        with pytest.raises(
            ArgumentError, match=rf"batch size {odd!r} over 1 process\(es\): expected a positive integer"
        ):
            predict_puzzles(model, Rows(), batch_size=odd)
    with pytest.raises(ArgumentError, match="2 processes need a `gather`"):
        predict_puzzles(model, Rows(), batch_size=4, num_processes=2)
    with pytest.raises(ArgumentError, match="has no rows"):
        predict_puzzles(model, [])
    with pytest.raises(ArgumentError, match="max_segments is 2.5"):
        predict_puzzles(model, Rows(), max_segments=2.5)
    with pytest.raises(ArgumentError, match="11 predictions for 1 rows"):
        score_predictions(predict_puzzles(model, Rows()), {0: None})


@pytest.mark.parametrize("vocab_size", [256, 257, 600])
def test_codes_above_255_come_back_as_they_are(vocab_size):
    model = perturbed(tiny_model(vocab_size=vocab_size))
    solved = model.solve(torch.from_numpy(ROWS["input_ids"]), halt=False).sequences.numpy()
    assert (solved.max() > 255) == (vocab_size == 600)
    predictions = predict_puzzles(model, Rows())
    np.testing.assert_array_equal(predictions.sequences, solved)
    assert predictions.sequences.dtype == (np.uint8 if vocab_size == 256 else np.int32)
