"""PuzzleSolvingPipeline: a puzzle in, the solved puzzle out, in the puzzle's own form.

    solver = pipeline("puzzle-solving", model=folder)
    solver("53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79")
    -> {"solution": "5346...", "segments": 3, "confidence": 0.98, "valid": True}

What an item asks of the model, and what becomes of the answers, is in puzzle_questions. This file batches by itself:
unlike the base class it checks a list before it solves, names the item in errors, and mixes rows of several items.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Pipeline

from .attempts import Attempts
from .compute_dtype import chosen_dtype
from .errors import ArgumentError, CheckpointError, PuzzleError
from .processing_hrm import HrmProcessor
from .puzzle_questions import ArcTaskQuestion, GridQuestion
from .shown_value import shown
from .solving import SolvedRow, check_count, execution_device

Question = GridQuestion | ArcTaskQuestion
ATTEMPT_PARAMETERS = ("num_attempts", "strategy", "select", "seed", "return_steps")
PARAMETERS = ("max_segments", "halt", "compute_dtype", "batch_size", "num_augmentations", *ATTEMPT_PARAMETERS)
DEFAULT_BATCH_SIZE = 32
MAX_SEGMENTS = 1024  # that may be asked for: a row that never halts runs them all
MAX_BATCH_SIZE = 65_536
_CHECKED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class PuzzleSolvingPipeline(Pipeline):
    """Solves one puzzle or many; build it with `pipeline("puzzle-solving", model=folder)`.

    Args (of `pipeline` and of each call, where they come first):
        max_segments: segments at the most, up to `MAX_SEGMENTS`; None = the model's `halt_max_steps`.
        halt: True: a puzzle stops at its first halt; False: every puzzle runs all segments, the published evaluation.
        compute_dtype: "float32", "bfloat16", "auto" (the quicker one here) or None: see `chosen_dtype`.
        batch_size: rows that the model sees at once: puzzles, or augmented variants of an ARC task's test inputs.
        num_augmentations: trained variants that an ARC task is asked under at most, the original first; None = all.
        num_attempts: how often a grid may be asked; strategy, select, seed: how, and which answer counts, see
            `attempts.Attempts`. An ARC task is not asked again: its variants vote.
        return_steps: True: the result tells what the model thought after every segment.

    Raises:
        CheckpointError: no processor, sizes or names that do not fit the model's, or weights that are not finite.
        ArgumentError: an unknown parameter, or a value that is not allowed.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model: Any, processor: HrmProcessor | None = None, **kwargs):
        kwargs.pop("local_files_only", None)  # transformers uses it for loading, then hands it on
        if kwargs.get("batch_size") is not None:
            check_count("batch_size", kwargs["batch_size"], MAX_BATCH_SIZE)
        if processor is None:
            raise CheckpointError("no processor to read puzzles: give processor=, or model= a folder that holds one")
        model = getattr(model, "get_base_model", lambda: model)()  # of PEFT's the model that has the adapter
        processor.check_fits(model.config)
        check_finite(model, model.name_or_path or "the model")
        device, own_map = execution_device(model), getattr(model, "hf_device_map", None)
        if device != model.device:  # offloaded: the base class takes a first device "disk" for the pipeline's own
            kwargs["device"], model.hf_device_map = None, {"": device}
        super().__init__(model=model, processor=processor, **kwargs)
        if device != model.device:
            model.hf_device_map = own_map

    def __call__(self, puzzles: Any, *, batch_size: int | None = None, **parameters: Any) -> Any:
        """Solves puzzles.

        Args:
            puzzles: one puzzle, which is one of
                - a grid: a string (a maze as lines), an array or a tensor;
                - a dict {"puzzle": grid in any form, "puzzle_identifier": row of the puzzle table or name, optional};
                - an ARC task {"task": {"train": [...], "test": [{"input": grid}, ...]}, "name": its name in training}.
                A list of those (or of nested lists) is a batch, checked before the first is solved. An iterator or a
                `torch.utils.data.Dataset` is read as the answers are taken.
            batch_size, max_segments, halt, compute_dtype, num_augmentations, num_attempts, strategy, select, seed,
                return_steps: as in the class.

        Returns:
            A dict for one puzzle, a list of dicts for a list, an iterator of dicts for a stream. For a grid:
            `solution` in the form of the puzzle (a cell that the model left open is '.', ' ' or 0), `segments` (int),
            `confidence` (float, sigmoid of q_halt), `valid` (whether it keeps givens and rules; None: no such rules);
            where attempts were asked for, `attempts` (int, how many were spent); with `return_steps` also `steps`, a
            dict for every segment: `attempt` and `segment` (int, from 1), `solution`, `confidence`, `cell_confidence`
            (lists of rows of floats, the probability of each cell's value), `changed` and `pinned` (lists of
            [row, column]: what differs from the step before, and what the attempt was given as guesses).
            For an ARC task, whose trained variants vote, lists with an entry per test input: `solutions` (the grid
            with most votes, of equals the most confident, as nested lists), `attempts` (the best grids: two, or one if
            all variants agree), `votes` (int) and `confidence` (float, mean) of the solution, `segments` (float, mean
            over the variants); and `num_augmentations` (int), the number of variants asked.

        Raises:
            PuzzleError: a puzzle that cannot be read, breaks its own rules or has no row of the puzzle table; for a
                list or a stream with the index of the item.
            ArgumentError: an unknown parameter, or a value that is not allowed.
        """
        if batch_size is None:
            batch_size = self._batch_size or DEFAULT_BATCH_SIZE
        check_count("batch_size", batch_size, MAX_BATCH_SIZE)
        own_preprocess_params, own_forward_params, asked = self._sanitize_parameters(**parameters)
        preprocess_params = self._preprocess_params | own_preprocess_params
        forward_params = self._forward_params | own_forward_params
        attempts = self._attempts(self._postprocess_params | asked)
        if attempts is not None:
            preprocess_params["attempts"] = forward_params["attempts"] = attempts
        # A list, or a column of a data set
        if isinstance(puzzles, Sequence) and not isinstance(puzzles, (str, bytes, bytearray, memoryview, tuple)):
            questions = list(self._numbered(puzzles, preprocess_params, hint=True))
            return list(self._solve(questions, batch_size, forward_params))
        if isinstance(puzzles, (Iterator, Dataset)):
            if isinstance(puzzles, Sized) and not isinstance(puzzles, Iterator):  # map-style: need not be iterable
                puzzles = map(puzzles.__getitem__, range(len(puzzles)))
            return self._solve(self._numbered(puzzles, preprocess_params), batch_size, forward_params)
        if not isinstance(puzzles, (str, np.ndarray, torch.Tensor, dict)):
            raise PuzzleError(
                f"an input of type {type(puzzles).__name__}; allowed: a string, an array, a tensor, a dict, a list as "
                "a batch, an iterator, a torch Dataset (for one column of a data set: KeyDataset of transformers)"
            )
        question = self.preprocess(puzzles, **preprocess_params)
        return next(self._solve([question], batch_size, forward_params))

    def preprocess(
        self, item: Any, num_augmentations: int | None = None, attempts: Attempts | None = None
    ) -> Question:
        """Checks one item, with the errors of `__call__`; the question gives the model's rows."""
        if not isinstance(item, dict):
            item = {"puzzle": item}
        if set(item) == {"task", "name"}:
            question = ArcTaskQuestion(self.processor, item["task"], item["name"], num_augmentations)
            if attempts is not None and (attempts.num_attempts > 1 or attempts.return_steps):
                asked = "return_steps" if attempts.return_steps else "num_attempts"
                raise ArgumentError(f"{asked} is for single grids; a whole ARC task is asked under its variants")
            return question
        if "puzzle" not in item or set(item) - {"puzzle", "puzzle_identifier"}:
            allowed = "'puzzle' and 'puzzle_identifier', or for an ARC task 'task' and 'name'"
            raise PuzzleError(f"a dict with the keys {shown(list(item))}; allowed: {allowed}")
        if "puzzle_identifier" not in item and self.processor.task == "arc" and self.processor.puzzle_identifiers:
            allowed = "{'puzzle': grid, 'puzzle_identifier': name} or a whole task {'task': ..., 'name': ...}"
            raise PuzzleError(f"an ARC grid without the name of its task; give {allowed}")
        row = self.processor.find_identifier(item.get("puzzle_identifier", 0))
        num_rows = self.model.config.num_puzzle_identifiers
        if row >= num_rows:
            raise PuzzleError(f"puzzle_identifier is {row}; the model's puzzle table has the rows 0 to {num_rows - 1}")
        return GridQuestion(self.processor, item["puzzle"], row, attempts)

    def postprocess(self, answered: tuple[Question, list[SolvedRow]]) -> dict[str, Any]:
        """One result, see `__call__`, from a question and the answers to its rows."""
        question, answers = answered
        return question.result(answers)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves model and processor, and their code too if they were loaded by it."""
        # The base class would name this class in config.json: transformers then asks everybody for trust_remote_code.
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def _sanitize_parameters(
        self,
        max_segments: int | None = None,
        halt: bool | None = None,
        compute_dtype: str | None = None,
        num_augmentations: int | None = None,
        num_attempts: int | None = None,
        strategy: str | None = None,
        select: str | None = None,
        seed: int | None = None,
        return_steps: bool | None = None,
        **unknown: Any,
    ) -> tuple[dict, dict, dict]:
        if unknown:
            raise ArgumentError(f"unknown parameter {shown(sorted(unknown)[0])}; allowed: {', '.join(PARAMETERS)}")
        if halt is not None and not isinstance(halt, bool):
            raise ArgumentError(f"halt is {shown(halt)}; allowed: True, False")
        if compute_dtype is not None:
            chosen_dtype(compute_dtype, self.model.config, execution_device(self.model))  # refused here
        if max_segments is not None:
            check_count("max_segments", max_segments, MAX_SEGMENTS)
        if num_augmentations is not None:
            check_count("num_augmentations", num_augmentations)
        forward_params = {"max_segments": max_segments, "halt": halt, "compute_dtype": compute_dtype}
        preprocess_params = {"num_augmentations": num_augmentations}
        asked = dict(num_attempts=num_attempts, strategy=strategy, select=select, seed=seed, return_steps=return_steps)
        parts = preprocess_params, forward_params, asked
        preprocess_params, forward_params, asked = ({k: v for k, v in each.items() if v is not None} for each in parts)
        self._attempts({"num_attempts": 1} | asked)  # refused here, where the caller stands
        return preprocess_params, forward_params, asked

    def _attempts(self, asked: dict[str, Any]) -> Attempts | None:
        """From the parameters about attempts; None where none is asked for."""
        how = {name: value for name, value in asked.items() if name not in ("num_attempts", "return_steps")}
        if how and "num_attempts" not in asked:
            raise ArgumentError(f"{[*how][0]} says how to ask again: give num_attempts too")
        return_steps = asked.get("return_steps", False)
        if not isinstance(return_steps, bool):
            raise ArgumentError(f"return_steps is {shown(return_steps)}; allowed: True, False")
        if "num_attempts" not in asked and not return_steps:
            return None
        return Attempts(self.processor, asked.get("num_attempts", 1), **how, return_steps=return_steps)

    def _forward(
        self, rows: Iterable[tuple[np.ndarray, int]], batch_size: int, **forward_params: Any
    ) -> Iterator[SolvedRow]:
        """Called without the base class's `forward`, which is for one batch: the model has its own queue."""
        return self.model.solve_queue(rows, batch_size, **forward_params)

    def _numbered(self, items: Iterable[Any], preprocess_params: dict, hint: bool = False) -> Iterator[Question]:
        """Questions of items, their errors naming the index, and what to do if the items look like one grid."""
        for index, item in enumerate(items):
            try:
                yield self.preprocess(item, **preprocess_params)
            except ValueError as error:  # not PuzzleError: a processor loaded as remote code has one of its own
                wrapped = self.processor.hint(items) if hint else ""
                raise PuzzleError(f"item {index}: {error}{wrapped}") from error

    def _solve(self, questions: Iterable[Question], batch_size: int, forward_params: dict) -> Iterator[dict[str, Any]]:
        """Results of questions in their order; the model works on rows of as many questions as it needs."""
        waiting: deque[Question] = deque()  # not all of their rows are answered
        answers: list[SolvedRow] = []  # to rows of the waiting questions, in order

        def all_rows():
            for question in questions:
                waiting.append(question)
                yield from question.rows()

        for row in self._forward(all_rows(), batch_size, **forward_params):
            answers.append(row)
            while waiting and len(answers) >= waiting[0].num_rows:
                question = waiting.popleft()
                yield self.postprocess((question, answers[: question.num_rows]))
                del answers[: question.num_rows]


def check_finite(model: Any, name: str) -> None:
    """Raises CheckpointError for NaN or infinity in a weight; offloaded ones are not looked at."""
    for key, tensor in model.state_dict().items():
        for part in _plain_tensors(tensor):
            if part.is_meta or part.dtype not in _CHECKED:
                continue
            if not all(bound.isfinite() for bound in torch.aminmax(part)):  # NaN is the least and the largest of all
                raise CheckpointError(f"{name}: the tensor {key} holds NaN or infinity; take a checkpoint from before")


def _plain_tensors(value: Any) -> Iterator[torch.Tensor]:
    """What a tensor is made of: of a quantised one its values, scales and zeros."""
    if hasattr(value, "__tensor_flatten__"):
        for name in value.__tensor_flatten__()[0]:
            yield from _plain_tensors(getattr(value, name))
    elif type(value) is torch.Tensor:
        yield value
