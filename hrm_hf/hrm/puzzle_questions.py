"""What the pipeline asks the model for one item, and what it makes of the answers.

A single grid is one row of a batch. An ARC task is one row per test input and trained augmentation, and their answers
vote, as in the published ARC evaluation of arXiv 2506.21734.

A question has `num_rows`, `rows()`, what the model reads: (input_ids (S,) int64, puzzle identifier) each, and
`result(answers)`. All checks are made when it is built; its rows are made as batches take them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .arc import ArcAugmentation, frame, parse_side
from .attempts import Attempts
from .errors import PuzzleError
from .processing_hrm import HrmProcessor
from .puzzle_codecs import CODECS
from .shown_value import shown
from .solving import SolvedRow, sigmoid
from .voting import vote

NUM_ATTEMPTS = 2  # answers to a test input that ARC allows
MAX_TEST_INPUTS = 100  # of one task; those of the collections have a few, and each is asked under all variants


class GridQuestion:
    """One grid in any written form; PuzzleError if it cannot be read or breaks its own rules."""

    num_rows = 1

    def __init__(self, processor: HrmProcessor, puzzle: Any, puzzle_identifier: int, attempts: Attempts | None = None):
        self._processor, self._attempts = processor, attempts
        self._puzzle = puzzle
        self._row = processor.encode(puzzle), puzzle_identifier

    def rows(self) -> Iterator[tuple[np.ndarray, int]]:
        yield self._row

    def result(self, answers: Sequence[SolvedRow]) -> dict[str, Any]:
        """`solution` in the form of the puzzle, `segments`, `confidence`, `valid`, and what attempts tell besides."""
        (answer,) = answers
        solution = self._processor.decode(answer.sequence, like=self._puzzle)
        result = {
            "solution": solution,
            "segments": answer.segments,
            "confidence": answer.confidence,
            "valid": self._processor.is_valid(self._puzzle, solution),
        }
        if self._attempts is not None:
            result["attempts"] = answer.attempts
        if self._attempts is not None and self._attempts.return_steps:
            result["steps"] = list(self._steps(answer))
        return result

    def _steps(self, answer: SolvedRow) -> Iterator[dict[str, Any]]:
        decode, shape = CODECS[self._processor.task].decode, self._processor.grid_shape
        before = decode(self._row[0].reshape(shape))
        for step in answer.steps:
            grid = decode(step.sequence.reshape(shape))
            rows, columns = grid.shape  # of an ARC answer a part of its frame, from step to step another
            changed = grid != before if before.shape == grid.shape else np.ones(grid.shape, bool)
            pinned = np.isin(np.arange(step.sequence.size), step.pinned).reshape(shape)
            yield {
                "attempt": step.attempt,
                "segment": step.segment,
                "solution": self._processor.decode(step.sequence, like=self._puzzle),
                "confidence": sigmoid(step.q_halt_logit),
                "cell_confidence": step.cell_confidence.reshape(shape)[:rows, :columns].tolist(),
                "changed": np.argwhere(changed).tolist(),
                "pinned": np.argwhere(pinned[:rows, :columns]).tolist(),
            }
            before = grid


class ArcTaskQuestion:
    """The test inputs of an ARC task under the augmentations that the model was trained on.

    Args:
        task: {"test": [{"input": grid, ...}, ...], ...}; nothing else of it is read, as the model knows the task by
            its name in training.
        num_augmentations: variants to ask at most, the original first; None = all.

    Raises:
        PuzzleError: a task that cannot be read, or that the model has no identifier for.
    """

    def __init__(self, processor: HrmProcessor, task: Any, name: Any, num_augmentations: int | None = None):
        if processor.task != "arc":
            raise PuzzleError(f"a dict with 'task' is for ARC; this model's task is {processor.task!r}")
        if not isinstance(name, str):
            raise PuzzleError(f"the name of an ARC task is {shown(name)}; expected text")
        tests = task.get("test") if isinstance(task, dict) else None
        if not isinstance(tests, list | tuple) or not 1 <= len(tests) <= MAX_TEST_INPUTS:
            found = f"{len(tests)} test inputs" if isinstance(tests, list | tuple) else f"'test' {shown(tests)}"
            raise PuzzleError(f"task {shown(name)} has {found}; expected 'test': a list of 1 to {MAX_TEST_INPUTS}")
        self._name, self._frame_shape = name, processor.grid_shape
        largest = (min(processor.grid_shape),) * 2  # augmentations turn it
        self._grids = [
            parse_side(pair, "input", f"task {shown(name)}, test pair {number}", largest)
            for number, pair in enumerate(tests, 1)
        ]
        self._variants = _variants(processor, name)[:num_augmentations]
        self._augmentations = [ArcAugmentation.parse(variant)[1] for variant, _ in self._variants]
        self.num_rows = len(self._grids) * len(self._variants)

    def rows(self) -> Iterator[tuple[np.ndarray, int]]:
        for grid in self._grids:
            for (_, identifier), augmentation in zip(self._variants, self._augmentations, strict=True):
                ids = frame(augmentation.apply(grid), self._frame_shape)
                yield ids.reshape(-1).astype(np.int64), identifier

    def result(self, answers: Sequence[SolvedRow]) -> dict[str, Any]:
        """Lists with an entry per test input, see `PuzzleSolvingPipeline.__call__`."""
        num_tests, num_variants = len(self._grids), len(self._variants)
        ranked = vote(
            np.stack([answer.sequence for answer in answers]),
            [answer.confidence for answer in answers],
            [name for name, _ in self._variants] * num_tests,
            np.repeat(np.arange(num_tests), num_variants),
            self._frame_shape,
        )
        best = [ranked[self._name, test] for test in range(num_tests)]
        segments = np.array([answer.segments for answer in answers]).reshape(num_tests, num_variants)
        return {
            "solutions": [found[0].grid.tolist() for found in best],
            "attempts": [[attempt.grid.tolist() for attempt in found[:NUM_ATTEMPTS]] for found in best],
            "votes": [found[0].votes for found in best],
            "confidence": [found[0].confidence for found in best],
            "segments": segments.mean(axis=1).tolist(),
            "num_augmentations": num_variants,
        }


def _variants(processor: HrmProcessor, name: str) -> list[tuple[str, int]]:
    """(name, identifier) of all trained variants of a task, the original first."""
    unknown = "a model knows a task by its row of the puzzle table and cannot solve one that it was not trained on"
    if processor.puzzle_identifiers is None:
        raise PuzzleError(f"task {shown(name)}: the model has no names of puzzle identifiers; {unknown}")
    variants = processor.puzzle_identifiers.variants_of(name)
    if not variants:
        reason = "this is the name of an augmentation; give that of the task"
        try:
            processor.puzzle_identifiers.find(name)
        except ValueError as error:  # a PuzzleError with near names; as remote code it may be another class
            reason = str(error)
        raise PuzzleError(f"task {shown(name)}: {unknown}: {reason}")
    return sorted(variants, key=lambda variant: variant[0] != name)
