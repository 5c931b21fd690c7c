"""Scores a model on a set of puzzles, with one process or many: first the predictions, then their scores.

How rows are shared out among processes changes no score (what batch sizes change is said in `hrm.solving`). N rows, S
cells.
"""

from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ..games.maze_answers import path_scores
from ..hrm.arc import cut
from ..hrm.attempts import Attempts
from ..hrm.errors import ArgumentError, DataError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_codecs import CODECS
from ..hrm.puzzle_identifiers import BLANK_NAME
from ..hrm.shown_value import is_integer, shown
from ..hrm.voting import AnswerKey, RankedAnswer, vote
from ..progress import progress
from .formulas import add_scores, finish, puzzle_scores

if TYPE_CHECKING:  # the trainer imports this file and needs no h5py
    from ..data.reader import PuzzleFile

# By task; a game of one's own may add itself. Of token ids: (inputs (B, S), predictions (B, S), grid_shape) -> scores
# from 0 to 1, (B,) each, by name
ROW_SCORES: dict[str, Callable[[np.ndarray, np.ndarray, tuple[int, int]], dict[str, np.ndarray]]] = {
    "maze": path_scores
}
_SCORED_ROWS = 4096  # rows scored at once; their sums are added in stored order
_READ_ROWS = 1024  # rows read at once
_GATHERED_ROWS = 65536  # rows of each process that are joined at once


class PuzzleRows(Sized, Protocol):
    """Rows in stored order: a slice gives input_ids (B, S), labels (B, S) and puzzle_identifiers (B,)."""

    def __getitem__(self, rows: slice) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PuzzlePredictions:
    """The answers to N rows, in stored order."""

    sequences: np.ndarray  # (N, S) uint8, int32 for a vocabulary above 256; token ids
    q_halt_logits: np.ndarray  # (N,) float32, the halting value at the last segment
    segments: np.ndarray  # (N,) int32, segments that each row took
    # Where attempts were asked for: what would have been answered after at most 1, 2, 4, ..., see `attempt_counts`
    sequences_after: np.ndarray | None = None  # (N, K, S), as `sequences`
    segments_after: np.ndarray | None = None  # (N, K) int32

    def __len__(self) -> int:
        return len(self.sequences)


def evaluate_puzzles(
    model: HrmForPuzzleSolving, dataset: PuzzleRows, processor: HrmProcessor | None = None, **how: Any
) -> dict[str, float]:
    """`predict_puzzles`, which takes `how`, then `score_predictions`."""
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
    after_update: Callable[[bool], None] | None = None,
    attempts: Attempts | None = None,
) -> PuzzlePredictions:
    """The model's answer to every row, with a progress bar.

    With P processes, process r takes the rows r, r + P, r + 2 P and so on through slots that are refilled as puzzles
    halt; the answers are joined once, at the end.

    Args:
        model: on its device; its mode (train or eval) is kept.
        dataset: for instance `hrm_hf.data.load_puzzles(path)`.
        batch_size: rows at work over all processes; divisible by `num_processes`.
        halt: False: every row runs all segments (the published evaluation); True: a row stops when it halts.
        max_segments: None = the model's. compute_dtype: see `HrmForPuzzleSolving.solve`.
        process_index, num_processes: this process's part.
        gather: for several processes: joins a tensor of all along its first axis, in order (`Accelerator.gather`).
        run_block: how a block is run, for instance `compiled.compiled_block(device, any_batch_size=True)`.
        after_update: called with False after every update of a level, and with True once this process has its
            answers, before they are joined; what it raises breaks off.
        attempts: further ways to ask for the same puzzle; max_segments is then of each attempt.
    Returns:
        The same on every process.
    Raises:
        ArgumentError: an empty data set, a batch that cannot be shared out, or a value that is not allowed.
    """
    if len(dataset) == 0:
        raise ArgumentError("the data set to evaluate on has no rows")
    if not is_integer(batch_size) or batch_size < 1 or batch_size % num_processes:
        asked = f"batch size {shown(batch_size)} over {num_processes} process(es)"
        raise ArgumentError(f"{asked}: expected a positive integer that their number divides")
    if num_processes > 1 and gather is None:
        raise ArgumentError(f"{num_processes} processes need a `gather` function that joins their parts")
    share = -(-len(dataset) // num_processes)  # rows of each process; the last one of some is left empty
    cells, code = model.config.seq_len, np.uint8 if model.config.vocab_size <= 256 else np.int32
    counts = [] if attempts is None else attempt_counts(attempts.num_attempts)
    answers = (
        np.zeros((share, cells), code),
        np.zeros(share, dtype=np.float32),
        np.zeros(share, dtype=np.int32),
        np.zeros((share, len(counts), cells), code),
        np.zeros((share, len(counts)), dtype=np.int32),
    )
    solved = model.solve_queue(
        _read_rows(dataset, process_index, num_processes),
        batch_size // num_processes,
        max_segments=max_segments,
        halt=halt,
        compute_dtype=compute_dtype,
        run_block=run_block,
        attempts=attempts,
    )
    with progress(description="solving", unit="puzzles", total=len(dataset)) as bar:

        def level_done(*_: Any) -> None:
            bar.update(0)  # a line is due by the clock
            if after_update is not None:
                after_update(False)

        # of a level, for a whole segment of a large model takes many seconds on a CPU
        with ExitStack() as hooks:
            for level in filter(None, (model.model.H_level, model.model.L_level)):
                hooks.enter_context(level.register_forward_hook(level_done))
            for place, row in enumerate(solved):
                for answer, value in zip(answers, (row.sequence, row.q_halt_logit, row.segments), strict=False):
                    answer[place] = value
                for column, count in enumerate(counts):
                    tried = row.tried[:count]
                    answers[3][place, column] = attempts.choose(tried).sequence
                    answers[4][place, column] = tried[-1].segments
                bar.update(min(num_processes, len(dataset) - bar.n))
    if after_update is not None:
        after_update(True)
    if num_processes > 1:
        answers = tuple(_joined(answer, num_processes, gather, model.device) for answer in answers)
    return PuzzlePredictions(*(answer[: len(dataset)] for answer in answers[: 5 if counts else 3]))


def attempt_counts(num: int) -> list[int]:
    """1, 2, 4 and so on below `num`, and `num`: the K counts of attempts after which an evaluation looks."""
    return [*(1 << power for power in range(num.bit_length()) if 1 << power < num), num]


def score_predictions(
    predictions: PuzzlePredictions, dataset: PuzzleRows, processor: HrmProcessor | None = None
) -> dict[str, float]:
    """`count`, `exact_accuracy`, `accuracy`, `q_halt_accuracy`, `segments` (mean per row) of all rows, see `formulas`.

    A processor adds the scores of its task: blank cells (Sudoku), valid and shortest paths (mazes). Raises
    ArgumentError for another number of predictions than rows.
    """
    if len(predictions) != len(dataset):
        raise ArgumentError(f"{len(predictions)} predictions for {len(dataset)} rows: give one for each")
    codec = CODECS[processor.task] if processor else None
    parts = []
    for start in range(0, len(dataset), _SCORED_ROWS):
        rows = slice(start, start + _SCORED_ROWS)
        truth, sequences = dataset[rows], predictions.sequences[rows]  # (B, S)
        inputs = np.asarray(truth["input_ids"])  # (B, S)
        of_task = {}
        if codec and codec.blank_id is not None:
            of_task |= {"inputs": inputs, "blank_id": codec.blank_id}
        if processor and processor.task in ROW_SCORES:
            of_task["row_scores"] = ROW_SCORES[processor.task](inputs, sequences, processor.grid_shape)
        labels, q_halt_logits = np.asarray(truth["labels"]), predictions.q_halt_logits[rows]
        parts.append(puzzle_scores(sequences, labels, q_halt_logits, predictions.segments[rows], **of_task))
    return finish(add_scores(*parts))


def arc_votes(
    file: "PuzzleFile", predictions: PuzzlePredictions, numbers: np.ndarray | None = None
) -> tuple[dict[AnswerKey, list[RankedAnswer]], dict[AnswerKey, np.ndarray]]:
    """(ranked answers, right answers) of every test input among rows of an ARC file.

    Every augmented variant of a test input is a row; the votes of all of them decide (HRM's published evaluation).
    `formulas.pass_at_k` scores them, `formulas.submission` writes them for Kaggle. Of a task with a hidden answer
    there are no right answers.

    Args:
        numbers: (N,) int64, the rows that were predicted; None = the first ones.
    Raises:
        DataError: a file of another task, or one whose rows have no names, which say how they were augmented.
    """
    if file.info.task != "arc":
        raise DataError(f"{file.path}: it holds the task {file.info.task!r}, votes are counted for 'arc'")
    numbers = np.arange(len(predictions)) if numbers is None else numbers
    puzzles, rows, examples = file.row_places(numbers)
    names = file.row_names(numbers)
    if BLANK_NAME in names:
        raise DataError(f"{file.path}: its rows have no identifier names, which say how they were augmented")
    confidences = 0.5 + 0.5 * np.tanh(0.5 * predictions.q_halt_logits.astype(np.float64))  # sigmoid, never overflowing
    ranked = vote(predictions.sequences, confidences, names, examples, file.info.grid_shape)
    originals = np.flatnonzero(rows == 0)
    frames = file.read(*file.locate_rows(numbers[originals]))[:, 1]  # (originals, S), the labels
    answers = {
        (file.puzzle_ids[puzzles[place]], int(examples[place])): cut(frame.reshape(file.info.grid_shape))
        for place, frame in zip(originals, frames, strict=True)
    }
    hidden = {task for (task, _), answer in answers.items() if not answer.size}
    return ranked, {key: answer for key, answer in answers.items() if key[0] not in hidden}


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
