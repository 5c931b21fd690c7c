"""From a model's answers to the rows of an ARC puzzle file to votes: which grid for which test input, how sure.

Every augmented variant of a test input is a row; the votes of all of them decide (HRM's published ARC evaluation).
"""

import numpy as np

from ..data.reader import PuzzleFile
from ..hrm.arc import cut
from ..hrm.errors import DataError
from ..hrm.puzzle_identifiers import BLANK_NAME
from ..hrm.voting import RankedAnswer, vote
from .evaluation import PuzzlePredictions

TestInput = tuple[str, int]  # name of the task, number of the test input in it


def arc_votes(
    file: PuzzleFile, predictions: PuzzlePredictions
) -> tuple[dict[TestInput, list[RankedAnswer]], dict[TestInput, np.ndarray]]:
    """(ranked answers, right answers) of every test input among the first len(predictions) rows of a file.

    Raises:
        DataError: a file whose rows have no names, so that nothing says how they were augmented.
    """
    if file.info.task != "arc":
        raise DataError(f"{file.path}: it holds the task {file.info.task!r}, votes are counted for 'arc'")
    numbers = np.arange(len(predictions))
    puzzles, rows, examples = file.row_places(numbers)
    names = file.row_names(numbers)
    if BLANK_NAME in names:
        raise DataError(f"{file.path}: its rows have no identifier names, which say how they were augmented")
    confidences = 0.5 + 0.5 * np.tanh(0.5 * predictions.q_halt_logits.astype(np.float64))  # sigmoid, never overflowing
    ranked = vote(predictions.sequences, confidences, names, examples, file.info.grid_shape)
    originals = np.flatnonzero(rows == 0)
    stores, places = file.locate_rows(originals)
    frames = file.read(stores, places)[:, 1]  # (originals, S), the labels
    answers = {
        (file.puzzle_ids[puzzles[number]], int(examples[number])): cut(frame.reshape(file.info.grid_shape))
        for number, frame in zip(originals, frames, strict=True)
    }
    return ranked, answers
