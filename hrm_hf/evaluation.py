"""Scores a model on a set of puzzles, with one process or many: every row counts once."""

from collections.abc import Sized
from typing import Any, Protocol

import numpy as np
import torch

from .errors import ArgumentError
from .losses import IGNORE_INDEX
from .metrics import add_scores, finish, puzzle_scores
from .modeling_hrm import HrmForPuzzleSolving


class PuzzleRows(Sized, Protocol):
    """Rows in stored order: a slice gives input_ids (B, S), labels (B, S) and puzzle_identifiers (B,)."""

    def __getitem__(self, rows: slice) -> dict[str, Any]: ...


def evaluate_puzzles(
    model: HrmForPuzzleSolving,
    dataset: PuzzleRows,
    batch_size: int = 256,
    halt: bool = False,
    max_segments: int | None = None,
    blank_id: int | None = None,
    process_index: int = 0,
    num_processes: int = 1,
    reduce=None,
) -> dict[str, float]:
    """Solves every row and scores it against its labels.

    All rows are visited in stored order. The last batch is padded with rows that have no labels and count nowhere, and
    process r takes the r-th contiguous part of each batch, as in the published evaluation.

    Args:
        model: on its device; its mode (train or eval) is kept, HRM has nothing that depends on it.
        dataset: for instance `hrm_hf.data.load_puzzles(path)`.
        batch_size: rows of a batch over all processes; divisible by `num_processes`.
        halt: False: every row runs all segments (the published evaluation); True: a row stops when it halts.
        max_segments: None = the model's halt_max_steps.
        blank_id: code of a blank cell; adds `blank_accuracy`.
        process_index, num_processes: this process's part.
        reduce: sums a 1-d float64 tensor over all processes; needed with more than one.
    Returns:
        `count`, `exact_accuracy`, `accuracy`, `q_halt_accuracy`, `segments` (mean per row) and with `blank_id`
        `blank_accuracy`; see `hrm_hf.metrics`.
    Raises:
        ArgumentError: an empty data set, or a batch that cannot be shared out.
    """
    if len(dataset) == 0:
        raise ArgumentError("the data set to evaluate on has no rows")
    if batch_size < 1 or batch_size % num_processes:
        raise ArgumentError(f"batch size {batch_size} is not divisible by {num_processes} processes")
    if num_processes > 1 and reduce is None:
        raise ArgumentError(f"{num_processes} processes need a `reduce` function that sums over them")
    part = batch_size // num_processes
    totals: dict[str, float] | None = None
    for start in range(0, len(dataset), batch_size):
        first = start + process_index * part
        rows = dataset[min(first, len(dataset)) : min(first + part, len(dataset))]
        if len(rows["input_ids"]) == 0:  # this part is padding only: one row keeps the sums' names
            rows = {**dataset[:1], "labels": np.full_like(np.asarray(dataset[:1]["labels"]), IGNORE_INDEX)}
        sums = _score_rows(model, rows, halt, max_segments, blank_id)
        totals = sums if totals is None else add_scores(totals, sums)
    if reduce is not None:
        summed = reduce(torch.tensor(list(totals.values()), dtype=torch.float64))
        totals = dict(zip(totals, summed.tolist(), strict=True))
    return finish(totals)


def _score_rows(model, rows: dict[str, Any], halt: bool, max_segments: int | None, blank_id: int | None) -> dict:
    inputs, labels = np.asarray(rows["input_ids"]), np.asarray(rows["labels"])
    solved = model.solve(
        torch.as_tensor(inputs, device=model.device),
        torch.as_tensor(np.asarray(rows["puzzle_identifiers"]), device=model.device),
        max_segments=max_segments,
        halt=halt,
    )
    return puzzle_scores(
        predictions=solved.sequences.cpu().numpy(),
        labels=labels,
        q_halt_logits=solved.q_halt_logits.cpu().numpy(),
        segments=solved.segments.cpu().numpy(),
        inputs=None if blank_id is None else inputs,
        blank_id=blank_id,
    )
