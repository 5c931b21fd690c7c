"""A model on a set of puzzles, with one process or many: first the predictions, then their scores.

`predict_puzzles` gives the answer of every row in stored order, on every process; `score_predictions` scores them in
pieces of a fixed size. So how rows are shared out changes no score; what batch sizes may change is said in `solving`.

N rows, S cells.
"""

from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import torch

from ..hrm.errors import ArgumentError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_codecs import CODECS
from ..hrm.shown_value import shown
from .metrics import add_scores, finish, puzzle_scores

_SCORED_ROWS = 4096  # rows scored at once; their sums are added in stored order
_READ_ROWS = 1024  # rows read at once
_GATHERED_ROWS = 65536  # rows of each process that are joined at once


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
    compute_dtype: str | None = None,
    run_block: Callable | None = None,
) -> PuzzlePredictions:
    """The model's answer to every row.

    With P processes, process r takes the rows r, r + P, r + 2 P and so on through slots that are refilled as puzzles
    halt; the answers are joined once, at the end.

    Args:
        model: on its device; its mode (train or eval) is kept, HRM has nothing that depends on it.
        dataset: for instance `hrm_hf.data.load_puzzles(path)`.
        batch_size: rows at work over all processes; divisible by `num_processes`.
        halt: False: every row runs all segments (the published evaluation); True: a row stops when it halts.
        max_segments: None = the model's halt_max_steps.
        process_index, num_processes: this process's part.
        gather: joins a tensor of all processes along its first axis, in their order (`Accelerator.gather`); needed
            with more than one.
        compute_dtype: of the activations, "float32" or "bfloat16"; None = the model's own.
        run_block: how a block is run, for instance `hrm_hf.scores.compiled.compiled_block(device, any_batch_size=True)`.
    Returns:
        The same on every process.
    Raises:
        ArgumentError: an empty data set, a batch that cannot be shared out, or a value that is not allowed.
    """
    if len(dataset) == 0:
        raise ArgumentError("the data set to evaluate on has no rows")
    whole = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1 or batch_size % num_processes:
        raise ArgumentError(
            f"batch size {shown(batch_size)} over {num_processes} process(es): a positive integer that their number "
            "divides is needed"
        )
    if num_processes > 1 and gather is None:
        raise ArgumentError(f"{num_processes} processes need a `gather` function that joins their parts")
    share = -(-len(dataset) // num_processes)  # rows of each process; the last one of some is left empty
    answers = (
        np.zeros((share, model.config.seq_len), dtype=np.uint8),
        np.zeros(share, dtype=np.float32),
        np.zeros(share, dtype=np.int32),
    )
    solved = model.solve_queue(
        _read_rows(dataset, process_index, num_processes),
        batch_size // num_processes,
        max_segments=max_segments,
        halt=halt,
        compute_dtype=compute_dtype,
        run_block=run_block,
    )
    for place, row in enumerate(solved):
        for answer, value in zip(answers, (row.sequence, row.q_halt_logit, row.segments), strict=True):
            answer[place] = value
    if num_processes > 1:
        answers = tuple(_joined(answer, num_processes, gather, model.device) for answer in answers)
    return PuzzlePredictions(*(answer[: len(dataset)] for answer in answers))


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


def _read_rows(dataset: PuzzleRows, first: int, step: int) -> Iterator[tuple[np.ndarray, int]]:
    """(input_ids (S,), puzzle identifier) of the rows first, first + step and so on."""
    for start in range(first, len(dataset), _READ_ROWS * step):
        rows = dataset[start : start + _READ_ROWS * step : step]
        yield from zip(np.asarray(rows["input_ids"]), np.asarray(rows["puzzle_identifiers"]).tolist(), strict=True)


def _joined(
    answer: np.ndarray, num_processes: int, gather: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> np.ndarray:
    """The rows (share, ...) of all processes in stored order, (P * share, ...): process r holds every P-th from r."""
    pieces = []
    for start in range(0, len(answer), _GATHERED_ROWS):
        piece = torch.from_numpy(answer[start : start + _GATHERED_ROWS]).to(device)
        parts = gather(piece).view(num_processes, *piece.shape)
        pieces.append(parts.transpose(0, 1).flatten(0, 1).cpu().numpy())
    return np.concatenate(pieces)
