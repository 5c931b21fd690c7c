"""HrmProcessor: between a puzzle as a person writes it and the token ids that the model reads.

What differs from task to task is in puzzle_codecs; the processor adds batching, the written forms, the names of the
puzzle identifiers, and saving.

B batch, S cells (rows * columns of the grid), V vocabulary.
"""

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.utils import PROCESSOR_NAME, cached_file

from .configuration_hrm import save_code
from .errors import ArgumentError, CheckpointError, HrmError, PuzzleError
from .grids import MAX_CELLS, check_shape, place
from .pasted_text import plain_text
from .puzzle_codecs import CODECS
from .puzzle_identifiers import FILE_NAME, PuzzleIdentifiers
from .shown_value import is_integer, shown


class HrmProcessor(ProcessorMixin):
    """Turns puzzles into model inputs and answers back into puzzles; saved as processor_config.json.

    A puzzle is text, drawn or pasted too, a list of lines, a nested or a flat list of cells, an array or a tensor; an
    ARC grid needs its rows. In a call a list is always a batch of puzzles. The names of the puzzle
    identifiers are saved and loaded with the processor, like a vocabulary, in a file of their own.

    Args:
        task: name of the game, a key of `CODECS` in puzzle_codecs, which also says how to add a game of your own.
        grid_shape: rows and columns; for ARC those of the frame.
        box_shape: rows and columns of one Sudoku box; None = the usual one of that size.
        puzzle_identifiers: names of the rows of the model's puzzle table; None = rows have no names.

    Raises:
        ArgumentError: an unknown task, or sizes that do not fit the task.
    """

    model_input_names = ["input_ids", "puzzle_identifiers"]
    # transformers.Trainer asks its processing_class for these; puzzles have none
    tokenizer = SimpleNamespace(bos_token_id=None, eos_token_id=None, pad_token_id=None)

    def __init__(
        self,
        task: str = "sudoku",
        grid_shape: Sequence[int] = (9, 9),
        box_shape: Sequence[int] | None = None,
        puzzle_identifiers: PuzzleIdentifiers | None = None,
    ):
        super().__init__()
        if not isinstance(task, str) or task not in CODECS:
            raise ArgumentError(f"task is {shown(task)}; allowed: the keys of puzzle_codecs.CODECS, {[*CODECS]}")
        self.task = task
        self.grid_shape = check_shape("grid_shape", grid_shape, error=ArgumentError)
        if box_shape is not None:
            box_shape = check_shape("box_shape", box_shape, error=ArgumentError)
        self.box_shape = CODECS[task].fit(self.grid_shape, box_shape)
        self.puzzle_identifiers = puzzle_identifiers

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> tuple[dict, dict]:
        """The settings in processor_config.json and the names of the puzzle identifiers, if any.

        Nothing else is read: no puzzle needs what the base class also looks for (chat templates, an audio tokenizer
        that may lie anywhere). Raises CheckpointError for no file, one without a task, or a damaged one.
        """
        path, settings_name = os.fspath(pretrained_model_name_or_path), PROCESSOR_NAME
        if os.path.isfile(path):  # the JSON file itself, as transformers takes it too
            path, settings_name = os.path.split(os.path.abspath(path))
        settings_file, names_file = (  # `cached_file` leaves keywords alone that are not its own
            cached_file(path, name, _raise_exceptions_for_missing_entries=False, **kwargs)
            for name in (settings_name, FILE_NAME)
        )
        try:
            settings = {} if settings_file is None else json.loads(Path(settings_file).read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{settings_file} cannot be read as JSON: {shown(str(error))}") from error
        if not isinstance(settings, dict) or "task" not in settings:
            raise CheckpointError(
                f"{pretrained_model_name_or_path} has no {PROCESSOR_NAME} that names a task, one of {[*CODECS]}; "
                "HrmProcessor(task=..., grid_shape=(rows, columns)).save_pretrained(folder) writes one"
            )
        settings["puzzle_identifiers"] = None if names_file is None else PuzzleIdentifiers.load(names_file)
        return settings, kwargs

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base class's, but a processor remembers that its checkpoint carries code."""
        found = super().from_args_and_dict(args, processor_dict, **kwargs)
        if "auto_map" in processor_dict:
            processor = found[0] if isinstance(found, tuple) else found
            processor.auto_map = {"AutoProcessor": "processing_hrm.HrmProcessor"}
        return found

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Saves settings and names into a folder, with `push_to_hub` also on the Hub (`repo_id`: by default the
        folder's name), and the code if its own checkpoint carries it; returns the paths of settings and names.
        """
        if hasattr(self, "auto_map"):
            save_code(save_directory)
        files = super().save_pretrained(save_directory)
        if self.puzzle_identifiers is not None:
            files.append(str(self.puzzle_identifiers.save(save_directory)))
        else:  # the names of another processor
            Path(save_directory, FILE_NAME).unlink(missing_ok=True)
        if push_to_hub:  # not the base class's own: it would upload before the names are written
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return files

    def to_dict(self) -> dict[str, Any]:
        """The settings of processor_config.json; the names are not among them."""
        bare = copy.copy(self)  # the base class copies deeply, which a million names do not need
        del bare.puzzle_identifiers
        return super(HrmProcessor, bare).to_dict()

    @property
    def num_cells(self) -> int:
        """Cells S of a puzzle."""
        return self.grid_shape[0] * self.grid_shape[1]

    @property
    def vocabulary(self) -> list[str]:
        """Names of the V token ids, in order."""
        return CODECS[self.task].vocabulary(self.grid_shape)

    @property
    def vocab_size(self) -> int:
        """Number of token ids V."""
        return len(self.vocabulary)

    @property
    def num_puzzle_identifiers(self) -> int:
        """Number of named rows of the puzzle table; 1, the blank one, without names."""
        return 1 if self.puzzle_identifiers is None else len(self.puzzle_identifiers)

    def check_fits(self, config: Any) -> None:
        """Raises CheckpointError unless a model's configuration has these sizes, and a table row for each name."""
        rows, columns = self.grid_shape
        if (config.seq_len, config.vocab_size) != (self.num_cells, self.vocab_size):
            raise CheckpointError(
                f"the model reads {config.seq_len} cells with {config.vocab_size} token ids (seq_len, vocab_size), "
                f"but a {self.task} of {rows}x{columns} has {self.num_cells} cells and {self.vocab_size} token ids"
            )
        rows, names = config.num_puzzle_identifiers, self.num_puzzle_identifiers
        if self.puzzle_identifiers is not None and names != rows:
            raise CheckpointError(f"the model's puzzle table has {rows} rows, but the processor has {names} names")

    def __call__(
        self,
        puzzles: Any,
        puzzle_identifiers: int | str | Sequence[int | str] | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Encodes one puzzle or a list of puzzles.

        Args:
            puzzles: one puzzle (string, array, tensor), or a list of puzzles in any form.
            puzzle_identifiers: rows of the puzzle table or their names, one per puzzle; None = 0, the blank one.
            return_tensors: "pt", "np", or None for plain lists.

        Returns:
            `input_ids` (B, S) int64 and `puzzle_identifiers` (B,) int64.

        Raises:
            PuzzleError: a puzzle, named by its index, that cannot be read or breaks its own rules, or identifiers
                outside the table or of another number.
            ArgumentError: unknown return_tensors.
        """
        if not isinstance(return_tensors, str | None) or return_tensors not in ("pt", "np", None):
            raise ArgumentError(f"return_tensors is {shown(return_tensors)}; allowed: 'pt', 'np', None")
        batch = puzzles if isinstance(puzzles, list) else [puzzles]
        rows = []  # of (S,) int64; a batch is as large as the puzzles that can be read
        for index, puzzle in enumerate(batch):
            try:
                rows.append(self.encode(puzzle))
            except PuzzleError as error:
                raise PuzzleError(f"puzzle {index}: {error}{self.hint(puzzles)}") from error
        input_ids = np.stack(rows) if rows else np.zeros((0, self.num_cells), dtype=np.int64)  # (B, S)
        inputs = {"input_ids": input_ids, "puzzle_identifiers": self._identifiers(puzzle_identifiers, len(batch))}
        if return_tensors is None:
            inputs = {name: array.tolist() for name, array in inputs.items()}
        return BatchFeature(inputs, tensor_type=return_tensors)

    def encode(self, puzzle: Any) -> np.ndarray:
        """Token ids of one puzzle, (S,) int64; PuzzleError if it cannot be read, does not fit or breaks its rules."""
        ids, size = self._encode_grid(self._read_question(puzzle)), self.vocab_size
        for row, column in np.argwhere((ids < 0) | (ids >= size)):
            found = f"{place(row, column)} has the token id {ids[row, column]}"
            raise PuzzleError(f"{found}, which is not in the vocabulary of {size}")
        return ids.reshape(-1).astype(np.int64)

    def decode(self, ids: Any, like: Any = "") -> Any:
        """Writes one answer of the model in the form of the puzzle that was asked.

        Args:
            ids: (S,) integers, token ids. An id that is no legal answer is written as a blank ('.', ' ' or 0).
            like: the puzzle as it came in, in any form. The answer takes its lines, and the dtype of an array or a
                tensor (int64 where that cannot hold it).
        Raises:
            ArgumentError: ids that are not S integers, or a form that no puzzle has.
        """
        if isinstance(ids, list | tuple) and all(map(is_integer, ids)):
            ids = np.array(ids)
        ids = _as_array(ids, "ids", ArgumentError, (self.num_cells,))
        if ids.dtype.kind not in "iu":
            raise ArgumentError(f"ids are of {ids.dtype}; expected integers")
        ids = np.where((ids >= 0) & (ids < self.vocab_size), ids, 0)
        grid = CODECS[self.task].decode(ids.reshape(self.grid_shape))  # (rows, columns)
        if isinstance(like, str):
            return self._write(grid, plain_text(like))
        grid = CODECS[self.task].renumber(grid, like)
        if isinstance(like, torch.Tensor | np.ndarray):
            answer = (grid if like.ndim == 2 else grid.reshape(-1)).astype(np.int64)
            if isinstance(like, np.ndarray):
                fits = like.dtype.kind in "iufO" and np.array_equal(answer.astype(like.dtype), answer)
                return answer.astype(like.dtype) if fits else answer
            answer = torch.from_numpy(answer)
            fits = not like.is_complex() and torch.equal(answer.to(like.dtype).long(), answer)
            return answer.to(like.dtype) if fits else answer
        if not isinstance(like, list | tuple) or not like:
            raise ArgumentError(f"like is {shown(like)}; allowed: a puzzle in any form that can be read")
        if all(isinstance(row, str) for row in like):
            lines = self._write(grid, "\n".join(like)).split("\n") if grid.size else []
            return list("".join(lines)) if len(like) == self.num_cells else lines
        nested = any(isinstance(row, (str, list, tuple, np.ndarray)) for row in like)
        return (grid if nested else grid.reshape(-1)).tolist()

    def batch_decode(self, sequences: Any, like: Sequence[Any]) -> list[Any]:
        """`decode`, with its errors, for each row of (B, S) token ids and the B puzzles as they came in."""
        if not isinstance(like, list | tuple):
            raise ArgumentError(f"like is {shown(like)}; allowed: the list of puzzles as they came in")
        if not isinstance(sequences, list | tuple):
            sequences = _as_array(sequences, "sequences", ArgumentError, (len(like), self.num_cells))
        if len(sequences) != len(like):
            raise ArgumentError(f"{len(sequences)} sequences for {len(like)} puzzles: give one for each")
        return [self.decode(ids, like=puzzle) for ids, puzzle in zip(sequences, like, strict=True)]

    def is_valid(self, puzzle: Any, solution: Any) -> bool | None:
        """Whether a solution keeps the givens and the rules, False if it cannot be read; None: the task has no rules.

        Both in any form. PuzzleError if the puzzle itself cannot be read or breaks its own rules.
        """
        question, codec = self._read_question(puzzle), CODECS[self.task]
        if codec.is_solution is None:
            return None
        try:
            answer = self.read(solution, puzzle)
        except PuzzleError:
            return False
        return bool(codec.is_solution(question, answer, self.box_shape))

    def read(self, puzzle: Any, question: Any = None) -> np.ndarray:
        """A question or an answer in any form -> grid (rows, columns) of cell numbers; checks no rule but the form.

        question: of an answer, in any form, where the numbers of the answer alone do not tell what they mean.
        """
        codec, shapes = CODECS[self.task], (self.grid_shape, self.box_shape)
        if question is not None and codec.read_answer is not None:
            return codec.read_answer(self._plain(puzzle), self._plain(question), *shapes)
        return codec.read(self._plain(puzzle), *shapes)

    @staticmethod
    def _plain(puzzle: Any) -> str | list | tuple | np.ndarray:
        """A tensor as an array; PuzzleError for what is no puzzle."""
        if isinstance(puzzle, torch.Tensor):
            if puzzle.numel() > MAX_CELLS:  # however little memory it takes: what follows copies it
                raise PuzzleError(f"a tensor of shape {tuple(puzzle.shape)} is no puzzle: at most {MAX_CELLS} cells")
            puzzle = _as_array(puzzle, "a puzzle", PuzzleError)
        if not isinstance(puzzle, (str, list, tuple, np.ndarray)):
            raise PuzzleError(f"a {type(puzzle).__name__} is no puzzle: expected text, a list, an array or a tensor")
        return puzzle

    def draw(self, puzzle: Any) -> str:
        """A question or an answer in any form as text for people; PuzzleError if it cannot be read."""
        grid = self.read(puzzle)
        codec = CODECS[self.task]
        return "\n".join(self._lines(grid)) if codec.draw is None else codec.draw(grid, self.box_shape)

    def find_identifier(self, identifier: int | str) -> int:
        """The row of the puzzle table for its number or name; PuzzleError, with near names, where there is none."""
        names = self.puzzle_identifiers
        if isinstance(identifier, str) and names is not None:
            return names.find(identifier)
        if not is_integer(identifier) or not 0 <= identifier < (2**63 if names is None else len(names)):
            allowed = f"integers from 0, no names (there is no {FILE_NAME})"
            allowed = allowed if names is None else f"names and 0 to {len(names) - 1}"
            raise PuzzleError(f"puzzle_identifiers hold {shown(identifier)}; allowed: {allowed}")
        return int(identifier)

    def hint(self, puzzles: Any) -> str:
        """What to add to an error when a list that should be a batch can be read as one grid."""
        if not isinstance(puzzles, list):
            return ""
        try:
            self.read(puzzles)
        except Exception:  # of a codec of the user's own, whatever it raises
            return ""
        return "; a list is a batch of puzzles: wrap one grid in a list, or pass it as an array"

    def _read_question(self, puzzle: Any) -> np.ndarray:
        grid = self.read(puzzle)
        CODECS[self.task].check(grid, self.box_shape)
        return grid

    def _encode_grid(self, grid: np.ndarray) -> np.ndarray:
        ids = np.asarray(CODECS[self.task].encode(grid, self.grid_shape))
        if ids.shape != self.grid_shape:
            raise PuzzleError(f"a grid of {np.shape(grid)} cells; the model's {self.task} has {self.grid_shape}")
        return ids

    def _write(self, grid: np.ndarray, question: str) -> str:
        codec = CODECS[self.task]
        if codec.write is not None:
            return codec.write(grid, question)
        return ("\n" if "\n" in question.strip("\n") else "").join(self._lines(grid))

    def _lines(self, grid: np.ndarray) -> list[str]:
        names = self.vocabulary
        return ["".join(names[token] for token in row) for row in self._encode_grid(grid).tolist()]

    def _identifiers(self, identifiers: int | str | Sequence[int | str] | None, num_puzzles: int) -> np.ndarray:
        """Puzzle identifiers as (B,) int64."""
        if identifiers is None:
            return np.zeros(num_puzzles, dtype=np.int64)
        if isinstance(identifiers, torch.Tensor | np.ndarray):
            identifiers = _as_array(identifiers, "puzzle_identifiers", PuzzleError, (num_puzzles,), ()).tolist()
        if not isinstance(identifiers, Sequence) or isinstance(identifiers, (str, bytes, bytearray, memoryview)):
            identifiers = [identifiers]
        if len(identifiers) != num_puzzles:
            raise PuzzleError(f"{len(identifiers)} puzzle_identifiers for {num_puzzles} puzzles: give one for each")
        return np.array([self.find_identifier(identifier) for identifier in identifiers], dtype=np.int64)


def _as_array(values: Any, name: str, error: type[HrmError], *shapes: tuple[int, ...]) -> np.ndarray:
    """A tensor or an array as an array; `error`, before any copy, for all else, and for what NumPy cannot hold."""
    if not isinstance(values, torch.Tensor | np.ndarray):
        raise error(f"{name} are {shown(values)}; expected integers, as a list, an array or a tensor")
    if shapes and tuple(values.shape) not in shapes:
        raise error(f"{name} of shape {tuple(values.shape)}; expected {' or '.join(map(str, shapes))}")
    if isinstance(values, np.ndarray):
        return values
    try:
        if values.is_nested or values.is_quantized:
            raise TypeError
        dense = values.detach().cpu()
        return (dense.double() if dense.is_floating_point() else dense).numpy()  # numpy has no bfloat16
    except (RuntimeError, TypeError) as reason:
        found = f"{values.dtype}, {values.layout}, device {values.device}"
        raise error(f"{name} as a tensor ({found}) cannot be read; give a dense one of integers") from reason
