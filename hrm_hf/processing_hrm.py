"""HrmProcessor: between a puzzle as a person writes it and the token ids that the model reads.

What differs from task to task (how a grid is read, coded, written and checked) stands behind one `PuzzleCodec` per
task, made from functions of the game's own module; the processor adds batching, the written forms and saving.

B batch, S cells (rows * columns of the grid), V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from .errors import ArgumentError, CheckpointError, PuzzleError
from .sudoku import BLANK_ID, FIRST_DIGIT_ID, check_givens, is_solution, parse, to_string, vocabulary
from .sudoku import decode as decode_sudoku
from .sudoku import encode as encode_sudoku
from .sudoku_units import BOX_SHAPE_OF_SIZE, SYMBOLS

Shape = tuple[int, int]


@dataclass(frozen=True)
class PuzzleCodec:
    """What the processor must know of one task. A grid is a (rows, columns) uint8 array in the game's own numbers.

    Attributes:
        fit: (grid_shape, box_shape or None) -> box_shape; raises ArgumentError for sizes that do not fit each other.
        vocabulary: grid_shape -> names of the V token ids, in order.
        read: (puzzle as written, box_shape) -> grid; raises PuzzleError for one that cannot be read or breaks a rule.
        encode: grid -> token ids of the same shape.
        decode: token ids (rows, columns) -> grid; never raises: an id that is no legal answer becomes the blank.
        write: grid -> text, one character per cell.
        is_solution: (question grid, answer grid, box_shape) -> bool, or None where the task has no rule to check.
    """

    fit: Callable[[Shape, Shape | None], Shape | None]
    vocabulary: Callable[[Shape], list[str]]
    read: Callable[[Any, Shape | None], np.ndarray]
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], str]
    is_solution: Callable[[np.ndarray, np.ndarray, Shape | None], bool | None]


def _fit_sudoku(grid_shape: Shape, box_shape: Shape | None) -> Shape:
    size = grid_shape[0]
    if grid_shape[1] != size:
        raise ArgumentError(f"grid_shape is {grid_shape}; a Sudoku is square")
    if box_shape is None and size not in BOX_SHAPE_OF_SIZE:
        usual = ", ".join(f"({n}, {n})" for n in BOX_SHAPE_OF_SIZE)
        raise ArgumentError(f"grid_shape is {grid_shape}; allowed for a Sudoku without box_shape: {usual}")
    box_shape = box_shape or BOX_SHAPE_OF_SIZE[size]
    if box_shape[0] * box_shape[1] != size:
        raise ArgumentError(f"box_shape is {box_shape}; a box of a {size}x{size} Sudoku must hold {size} cells")
    if not 2 <= size < len(SYMBOLS):
        raise ArgumentError(f"grid_shape is {grid_shape}; a Sudoku has 2 to {len(SYMBOLS) - 1} rows")
    return box_shape


def _read_sudoku(puzzle: Any, box_shape: Shape) -> np.ndarray:
    grid = parse(puzzle, box_shape)
    check_givens(grid, box_shape)
    return grid


def _decode_sudoku(ids: np.ndarray) -> np.ndarray:
    is_digit = (ids >= FIRST_DIGIT_ID) & (ids < FIRST_DIGIT_ID + len(ids))
    return decode_sudoku(np.where(is_digit, ids, BLANK_ID).astype(np.uint8))


CODECS: dict[str, PuzzleCodec] = {
    "sudoku": PuzzleCodec(
        fit=_fit_sudoku,
        vocabulary=lambda grid_shape: vocabulary(grid_shape[0]),
        read=_read_sudoku,
        encode=encode_sudoku,
        decode=_decode_sudoku,
        write=to_string,
        is_solution=is_solution,
    ),
}


class HrmProcessor(ProcessorMixin):
    """Turns puzzles into model inputs and answers back into puzzles; saved as processor_config.json.

    A puzzle is a string with one character per cell, a nested or a flat list, an array or a tensor. In a call a list
    is always a batch of puzzles.

    Args:
        task: name of the game, a key of `CODECS`.
        grid_shape: rows and columns.
        box_shape: rows and columns of one Sudoku box; None = the usual one of that size.

    Raises:
        ArgumentError: an unknown task, or sizes that do not fit the task.
    """

    model_input_names = ["input_ids", "puzzle_identifiers"]

    def __init__(
        self, task: str = "sudoku", grid_shape: Sequence[int] = (9, 9), box_shape: Sequence[int] | None = None
    ):
        super().__init__()
        if task not in CODECS:
            raise ArgumentError(f"task is {task!r}; allowed: {', '.join(map(repr, CODECS))}")
        self.task = task
        self.grid_shape = _shape("grid_shape", grid_shape)
        self.box_shape = CODECS[task].fit(
            self.grid_shape, None if box_shape is None else _shape("box_shape", box_shape)
        )

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path: str | PathLike, **kwargs) -> tuple[dict, dict]:
        """As in transformers, but a checkpoint that does not say its task is an error instead of a default processor.

        Raises:
            CheckpointError: no processor_config.json, or one without a task.
        """
        settings, unused = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        if "task" not in settings:
            raise CheckpointError(
                f"{pretrained_model_name_or_path} has no processor_config.json that names a task; save one there with "
                'HrmProcessor(task="sudoku", grid_shape=(9, 9)).save_pretrained(folder)'
            )
        return settings, unused

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

    def __call__(
        self,
        puzzles: Any,
        puzzle_identifiers: int | Sequence[int] | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Encode one puzzle or a list of puzzles.

        Args:
            puzzles: one puzzle (string, array, tensor), or a list of puzzles in any form.
            puzzle_identifiers: rows of the model's puzzle table, one per puzzle; None = 0, the blank identifier.
            return_tensors: "pt", "np", or None for plain lists.

        Returns:
            `input_ids` (B, S) int64 and `puzzle_identifiers` (B,) int64.

        Raises:
            PuzzleError: a puzzle that cannot be read or breaks its own rules (its index is named), or identifiers that
                are no integers >= 0 or do not match the puzzles in number.
            ArgumentError: unknown return_tensors.
        """
        if return_tensors not in ("pt", "np", None):
            raise ArgumentError(f"return_tensors is {return_tensors!r}; allowed: 'pt', 'np', None")
        batch = puzzles if isinstance(puzzles, list) else [puzzles]
        input_ids = np.zeros((len(batch), self.num_cells), dtype=np.int64)  # (B, S)
        for index, puzzle in enumerate(batch):
            try:
                input_ids[index] = self.encode(puzzle)
            except PuzzleError as error:
                raise PuzzleError(f"puzzle {index}: {error}{self.hint(puzzles)}") from error
        inputs = {"input_ids": input_ids, "puzzle_identifiers": _identifiers(puzzle_identifiers, len(batch))}
        if return_tensors is None:
            inputs = {name: array.tolist() for name, array in inputs.items()}
        return BatchFeature(inputs, tensor_type=return_tensors)

    def encode(self, puzzle: Any) -> np.ndarray:
        """Token ids of one puzzle.

        Returns:
            (S,) int64.

        Raises:
            PuzzleError: a puzzle that cannot be read, has another size or breaks its own rules.
        """
        return CODECS[self.task].encode(self._read(puzzle)).reshape(-1).astype(np.int64)

    def decode(self, ids: Any, like: Any = "") -> Any:
        """Write one answer of the model in the form of the puzzle that was asked.

        Args:
            ids: (S,) integers, token ids. An id that is no legal answer is written as a blank ('.' or 0).
            like: the puzzle as it came in.

        Returns:
            A string of S characters for a string, a nested or a flat list for such a list, an array of the same shape
            and dtype for an array, likewise a tensor.

        Raises:
            ArgumentError: another number of ids than cells.
        """
        ids = np.asarray(torch.as_tensor(ids).cpu())
        if ids.shape != (self.num_cells,):
            raise ArgumentError(f"ids have shape {ids.shape}; one {self.task} puzzle has {self.num_cells} cells")
        grid = CODECS[self.task].decode(ids.reshape(self.grid_shape))  # (rows, columns)
        if isinstance(like, str):
            return CODECS[self.task].write(grid)
        if isinstance(like, torch.Tensor):
            return torch.from_numpy(grid.astype(np.int64)).reshape(like.shape).to(like.dtype)
        if isinstance(like, np.ndarray):
            return grid.reshape(like.shape).astype(like.dtype)
        nested = isinstance(like[0], (list, tuple, np.ndarray))
        return (grid if nested else grid.reshape(-1)).tolist()

    def batch_decode(self, sequences: Any, like: Sequence[Any]) -> list[Any]:
        """`decode` for each row of (B, S) token ids, beside the B puzzles as they came in."""
        return [self.decode(ids, like=puzzle) for ids, puzzle in zip(sequences, like, strict=True)]

    def is_valid(self, puzzle: Any, solution: Any) -> bool | None:
        """Whether a solution keeps the puzzle's givens and the rules of the game.

        Args:
            puzzle: the question, in any form.
            solution: the answer, in any form.

        Returns:
            True or False; False too for a solution that cannot be read; None where the task has no rule to check.

        Raises:
            PuzzleError: the puzzle itself cannot be read or breaks its own rules.
        """
        question = self._read(puzzle)
        try:
            answer = self._read(solution)
        except PuzzleError:
            return False
        return CODECS[self.task].is_solution(question, answer, self.box_shape)

    def hint(self, puzzles: Any) -> str:
        """What to add to an error when a list that should be a batch looks like the rows or the cells of one grid."""
        rows, columns = self.grid_shape
        if not isinstance(puzzles, list):
            return ""
        is_rows = len(puzzles) == rows and all(
            isinstance(row, (str, list, tuple, np.ndarray)) and len(row) == columns for row in puzzles
        )
        is_cells = len(puzzles) == self.num_cells and all(isinstance(cell, Integral) for cell in puzzles)
        if is_rows or is_cells:
            return "; a list is a batch of puzzles: wrap one grid in a list, or pass it as an array"
        return ""

    def _read(self, puzzle: Any) -> np.ndarray:
        if isinstance(puzzle, torch.Tensor):
            puzzle = puzzle.detach().cpu().numpy()
        if not isinstance(puzzle, (str, list, tuple, np.ndarray)):
            raise PuzzleError(
                f"a puzzle of type {type(puzzle).__name__} ({puzzle!r:.40}); allowed: a string, a list, an array, a "
                "tensor"
            )
        return CODECS[self.task].read(puzzle, self.box_shape)


def _shape(name: str, shape: Sequence[int]) -> Shape:
    """Two positive integers as a tuple, from the list that a JSON file holds."""
    fits = isinstance(shape, (list, tuple)) and len(shape) == 2
    if not fits or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise ArgumentError(f"{name} is {shape!r}; allowed: two integers above 0, for instance (9, 9)")
    return int(shape[0]), int(shape[1])


def _identifiers(identifiers: int | Sequence[int] | None, num_puzzles: int) -> np.ndarray:
    """Puzzle identifiers as (B,) int64."""
    if identifiers is None:
        return np.zeros(num_puzzles, dtype=np.int64)
    identifiers = np.atleast_1d(np.asarray(identifiers))
    if identifiers.shape != (num_puzzles,):
        raise PuzzleError(f"puzzle_identifiers have shape {identifiers.shape} for {num_puzzles} puzzles")
    if identifiers.dtype.kind not in "iu" or (identifiers < 0).any():
        raise PuzzleError(f"puzzle_identifiers are {identifiers.tolist()}; allowed: integers >= 0")
    return identifiers.astype(np.int64)


__all__ = ["HrmProcessor", "PuzzleCodec"]
