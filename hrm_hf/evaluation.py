"""A model on a set of puzzles, with one process or many: first the predictions, then their scores.

`predict_puzzles` keeps the answer of every row in stored order, on every process; `score_predictions` scores them in
pieces of a fixed size. So how rows are shared out changes no score, unless the rounding of another batch shape tips an
answer over.

N rows, S cells.
"""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from .errors import ArgumentError
from .metrics import add_scores, finish, puzzle_scores
from .modeling_hrm import HrmForPuzzleSolving
from .processing_hrm import HrmProcessor
from .puzzle_codecs import CODECS

_SCORED_ROWS = 4096  # rows scored at once; their sums are added in stored order


class PuzzleRows(Sized, Protocol):
    """Rows in stored order: a slice gives input_ids (B, S), labels (B, S) and puzzle_identifiers (B,)."""

    def __getitem__(self, rows: slice) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PuzzlePredictions:
    """The answers to N rows, in stored order.

    Attributes:
        sequences: (N, S) uint8, token ids.
        q_halt_logits: (N,) float32, the halting value at the last segment.
        segments: (N,) int32, segments that each row took.
    """

    sequences: np.ndarray
    q_halt_logits: np.ndarray
    segments: np.ndarray

    def __len__(self) -> int:
        return len(self.sequences)


def evaluate_puzzles(
    model: HrmForPuzzleSolving, dataset: PuzzleRows, processor: HrmProcessor | None = None, **how: Any
) -> dict[str, float]:
    """Solves every row and scores it against its labels: `predict_puzzles`, which takes `how`, then
    `score_predictions`.
    """
    return score_predictions(predict_puzzles(model, dataset, **how), dataset, processor)


def predict_puzzles(
    model: HrmForPuzzleSolving,
    dataset: PuzzleRows,
    batch_size: int = 256,
    halt: bool = False,
    max_segments: int | None = None,
    process_index: int = 0,
    num_processes: int = 1,
    gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> PuzzlePredictions:
    """The model's answer to every row.

    All rows are visited in stored order. With several processes, process r takes the r-th contiguous part of each
    batch, and the last batch is filled up with rows that are left out of the result, as in the published evaluation.

    Args:
        model: on its device; its mode (train or eval) is kept, HRM has nothing that depends on it.
        dataset: for instance `hrm_hf.data.load_puzzles(path)`.
        batch_size: rows of a batch over all processes; divisible by `num_processes`.
        halt: False: every row runs all segments (the published evaluation); True: a row stops when it halts.
        max_segments: None = the model's halt_max_steps.
        process_index, num_processes: this process's part.
        gather: joins a tensor of all processes along its first axis, in their order (`Accelerator.gather`); needed
            with more than one.
    Returns:
        The same on every process.
    Raises:
        ArgumentError: an empty data set, or a batch that cannot be shared out.
    """
    if len(dataset) == 0:
        raise ArgumentError("the data set to evaluate on has no rows")
    if batch_size < 1 or batch_size % num_processes:
        raise ArgumentError(
            f"batch size {batch_size} over {num_processes} process(es): a positive multiple of their number is needed"
        )
    if num_processes > 1 and gather is None:
        raise ArgumentError(f"{num_processes} processes need a `gather` function that joins their parts")
    part = batch_size // num_processes
    pieces: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(dataset), batch_size):
        first = start + process_index * part
        rows = dataset[min(first, len(dataset)) : min(first + part, len(dataset))]
        inputs = torch.as_tensor(np.asarray(rows["input_ids"]), device=model.device)  # (B, S)
        identifiers = torch.as_tensor(np.asarray(rows["puzzle_identifiers"]), device=model.device)  # (B,)
        if num_processes > 1:
            inputs, identifiers = _filled_up(inputs, part, model.config.seq_len), _filled_up(identifiers, part)
        solved = model.solve(inputs, identifiers, max_segments=max_segments, halt=halt)
        answers = (solved.sequences.to(torch.uint8), solved.q_halt_logits.float(), solved.segments.to(torch.int32))
        if num_processes > 1:
            answers = tuple(gather(answer.contiguous()) for answer in answers)
        count = min(batch_size, len(dataset) - start)
        pieces.append(tuple(answer[:count].cpu().numpy() for answer in answers))
    return PuzzlePredictions(*map(np.concatenate, zip(*pieces, strict=True)))


def score_predictions(
    predictions: PuzzlePredictions, dataset: PuzzleRows, processor: HrmProcessor | None = None
) -> dict[str, float]:
    """Scores of all rows against their labels.

    Args:
        predictions: what `predict_puzzles` gave for these rows.
        dataset: the rows.
        processor: adds what its task counts besides: blank cells (Sudoku), valid and shortest paths (mazes).
    Returns:
        `count`, `exact_accuracy`, `accuracy`, `q_halt_accuracy`, `segments` (mean per row) and the task's own; see
        `hrm_hf.metrics`.
    Raises:
        ArgumentError: another number of predictions than rows.
    """
    if len(predictions) != len(dataset):
        raise ArgumentError(f"{len(predictions)} predictions for {len(dataset)} rows: one each is needed")
    codec = None if processor is None else CODECS[processor.task]
    parts = []
    for start in range(0, len(dataset), _SCORED_ROWS):
        rows = slice(start, start + _SCORED_ROWS)
        truth = dataset[rows]
        inputs = np.asarray(truth["input_ids"])  # (B, S)
        sequences = predictions.sequences[rows]  # (B, S)
        blank_id = None if codec is None else codec.blank_id
        row_scores = None
        if codec is not None and codec.row_scores is not None:
            row_scores = codec.row_scores(inputs, sequences, processor.grid_shape)
        sums = puzzle_scores(
            predictions=sequences,
            labels=np.asarray(truth["labels"]),
            q_halt_logits=predictions.q_halt_logits[rows],
            segments=predictions.segments[rows],
            inputs=None if blank_id is None else inputs,
            blank_id=blank_id,
            row_scores=row_scores,
        )
        parts.append(sums)
    return finish(add_scores(*parts))


def _filled_up(rows: torch.Tensor, length: int, *shape: int) -> torch.Tensor:
    """Rows (n, ...) with rows of zeros (PAD, the blank identifier) appended up to `length`."""
    rows = rows.reshape(len(rows), *shape)  # a part without rows has lost its number of cells
    return torch.cat([rows, rows.new_zeros(length - len(rows), *shape)])
