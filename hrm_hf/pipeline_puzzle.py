"""PuzzleSolvingPipeline: a puzzle in, the solved puzzle out, in the puzzle's own form.

    solver = pipeline("puzzle-solving", model=folder)
    solver("53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79")
    -> {"solution": "5346...", "segments": 3, "confidence": 0.98, "valid": True}

The batching is this file's own: all items of a list are checked before the first is solved, and errors name the item,
neither of which the base class does.

B batch, S cells.
"""

import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Pipeline
from transformers.utils import ModelOutput

from .errors import ArgumentError, CheckpointError, PuzzleError
from .processing_hrm import HrmProcessor

ITEM_KEYS = ("puzzle", "puzzle_identifier")
DEFAULT_BATCH_SIZE = 32


class PuzzleSolvingPipeline(Pipeline):
    """Solves one puzzle or many; build it with `pipeline("puzzle-solving", model=folder)`.

    Args (of `pipeline` and of each call, where they come first):
        max_segments: segments at the most; None = the model's `halt_max_steps`.
        halt: True: a puzzle stops at its first halt; False: every puzzle runs all segments, the published evaluation.
        batch_size: puzzles that the model sees at once.

    Raises:
        CheckpointError: a model without a processor, or one whose sizes do not fit the processor's.
        ArgumentError: an unknown parameter, or a value that is not allowed.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model: Any, processor: HrmProcessor | None = None, **kwargs):
        kwargs.pop("local_files_only", None)  # transformers uses it for loading, then hands it on
        batch_size = kwargs.pop("batch_size", None)
        if processor is None:
            raise CheckpointError(
                "the pipeline has no processor, which says how to read the model's puzzles; give model= a folder with "
                "a processor_config.json, or processor=HrmProcessor(...)"
            )
        _check_sizes(model, processor)
        super().__init__(
            model=model, processor=processor, batch_size=_at_least_one("batch_size", batch_size), **kwargs
        )

    def __call__(self, puzzles: Any, *, batch_size: int | None = None, **parameters: Any) -> Any:
        """Solve puzzles.

        Args:
            puzzles: one grid: a string, an array, a tensor or a dict {"puzzle": grid in any form, "puzzle_identifier":
                int, may be left out}. A list of those (or of nested lists) is a batch, and all are checked before the
                first is solved. An iterator or a `torch.utils.data.Dataset` is read as the answers are taken.
            batch_size, max_segments, halt: as in the class.

        Returns:
            For one grid a dict: `solution` in the form of the puzzle (a cell that the model left open is '.' or 0),
            `segments` (int), `confidence` (float, sigmoid of the model's q_halt), `valid` (whether it keeps the givens
            and the rules; None for a task without checkable rules). For a list a list of dicts, for a stream an
            iterator of dicts.

        Raises:
            PuzzleError: a puzzle that cannot be read, breaks its own rules or names no row of the puzzle table; for a
                list or a stream with the index of the item.
            ArgumentError: an unknown parameter, or a value that is not allowed.
        """
        batch_size = _at_least_one("batch_size", batch_size) or self._batch_size or DEFAULT_BATCH_SIZE
        forward_params = self._forward_params | self._sanitize_parameters(**parameters)[1]
        if isinstance(puzzles, Sequence) and not isinstance(puzzles, (str, bytes, tuple)):
            puzzles = list(puzzles)  # a data set's column is a sequence too
            items = list(self._numbered(puzzles, hint=self.processor.hint(puzzles)))
            return list(self._solve(items, batch_size, forward_params))
        if isinstance(puzzles, (Iterator, Dataset)):
            items = self._numbered(_rows(puzzles))
            return self._solve(items, batch_size, forward_params)
        if not isinstance(puzzles, (str, np.ndarray, torch.Tensor, dict)):
            raise PuzzleError(
                f"an input of type {type(puzzles).__name__}; allowed: one grid as a string, an array, a tensor or a "
                "dict, a list as a batch, an iterator or a torch Dataset (for one column of a data set: KeyDataset of "
                "transformers)"
            )
        return self.run_single(puzzles, self._preprocess_params, forward_params, self._postprocess_params)

    def run_single(self, item: Any, preprocess_params: dict, forward_params: dict, postprocess_params: dict) -> dict:
        """Solve one grid; its errors carry no index."""
        return next(self._solve([self.preprocess(item)], 1, forward_params))

    def preprocess(self, item: Any) -> dict[str, Any]:
        """Check one item and encode it.

        Returns:
            `puzzle` as it came in, `input_ids` (S,) int64, `puzzle_identifier` int.

        Raises:
            PuzzleError: see `__call__`.
        """
        puzzle, identifier = item, 0
        if isinstance(item, dict):
            unknown = [key for key in item if key not in ITEM_KEYS]
            if unknown or "puzzle" not in item:
                raise PuzzleError(f"a dict with the keys {list(item)}; allowed: 'puzzle' and 'puzzle_identifier'")
            puzzle, identifier = item["puzzle"], item.get("puzzle_identifier", 0)
        num_identifiers = self.model.config.num_puzzle_identifiers
        if not _is_int(identifier) or not 0 <= identifier < num_identifiers:
            raise PuzzleError(
                f"puzzle_identifier is {identifier!r}; allowed: integers from 0 to {num_identifiers - 1}, the rows of "
                "the model's puzzle table"
            )
        return {"puzzle": puzzle, "input_ids": self.processor.encode(puzzle), "puzzle_identifier": int(identifier)}

    def postprocess(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Write one answer.

        Args:
            answer: `puzzle` as it came in, `sequence` (S,) int64, `segments` () int64, `q_halt_logit` () float.

        Returns:
            One result, see `__call__`.
        """
        solution = self.processor.decode(answer["sequence"], like=answer["puzzle"])
        return {
            "solution": solution,
            "segments": int(answer["segments"]),
            "confidence": float(torch.sigmoid(answer["q_halt_logit"])),
            "valid": self.processor.is_valid(answer["puzzle"], solution),
        }

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor.

        The base class would also write a `custom_pipelines` entry under the registered task's name, which makes
        transformers ask everybody for trust_remote_code.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def _sanitize_parameters(
        self, max_segments: int | None = None, halt: bool | None = None, **unknown: Any
    ) -> tuple[dict, dict, dict]:
        if unknown:
            raise ArgumentError(f"unknown parameter {sorted(unknown)[0]!r}; allowed: max_segments, halt, batch_size")
        forward_params = {}
        if max_segments is not None:
            forward_params["max_segments"] = _at_least_one("max_segments", max_segments)
        if halt is not None:
            if not isinstance(halt, bool):
                raise ArgumentError(f"halt is {halt!r}; allowed: True, False")
            forward_params["halt"] = halt
        return {}, forward_params, {}

    def _forward(self, inputs: dict[str, torch.Tensor], **forward_params: Any) -> ModelOutput:
        return self.model.solve(inputs["input_ids"], puzzle_identifiers=inputs["puzzle_identifiers"], **forward_params)

    def _numbered(self, items: Iterable[Any], hint: str = "") -> Iterator[dict[str, Any]]:
        """Preprocessed items, their errors naming the index."""
        for index, item in enumerate(items):
            try:
                yield self.preprocess(item)
            except PuzzleError as error:
                raise PuzzleError(f"item {index}: {error}{hint}") from error

    def _solve(self, items: Iterable[dict], batch_size: int, forward_params: dict) -> Iterator[dict[str, Any]]:
        """Results of preprocessed items, batch by batch."""
        items = iter(items)
        while batch := list(islice(items, batch_size)):
            inputs = {
                "input_ids": torch.from_numpy(np.stack([item["input_ids"] for item in batch])),  # (B, S)
                "puzzle_identifiers": torch.tensor([item["puzzle_identifier"] for item in batch]),  # (B,)
            }
            out = self.forward(inputs, **forward_params)
            for row, item in enumerate(batch):
                yield self.postprocess(
                    {
                        "puzzle": item["puzzle"],
                        "sequence": out.sequences[row],
                        "segments": out.segments[row],
                        "q_halt_logit": out.q_halt_logits[row],
                    }
                )


def _check_sizes(model: Any, processor: HrmProcessor) -> None:
    config = model.config
    if (config.seq_len, config.vocab_size) != (processor.num_cells, processor.vocab_size):
        rows, columns = processor.grid_shape
        raise CheckpointError(
            f"the model reads {config.seq_len} cells with {config.vocab_size} token ids (seq_len, vocab_size), but "
            f"the processor's {processor.task} of {rows}x{columns} has {processor.num_cells} cells and "
            f"{processor.vocab_size} token ids"
        )


def _rows(source: Iterator | Dataset) -> Iterable[Any]:
    """The items of a stream; a map-style dataset need not be iterable."""
    if isinstance(source, Dataset) and isinstance(source, Sized):
        return (source[index] for index in range(len(source)))
    return source


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _at_least_one(name: str, value: int | None) -> int | None:
    if value is not None and (not _is_int(value) or value < 1):
        raise ArgumentError(f"{name} is {value!r}; allowed: integers from 1")
    return value


__all__ = ["PuzzleSolvingPipeline"]
