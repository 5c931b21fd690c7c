"""What is drawn anew at every visit of a puzzle: a symmetry of its game, and blanks that its answer fills.

All is drawn for the global batch, so that it does not depend on the number of processes, and applied to whole batches.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from ..games.sudoku_symmetry import SudokuSymmetries
from ..hrm.errors import ArgumentError
from ..hrm.puzzle_codecs import CODECS
from ..hrm.symmetry import dihedral
from ..progress import get_logger
from .schema import PuzzleSetInfo


class Symmetries(NamedTuple):
    """The symmetries of a game, by numbers from 0 to order - 1 (order: 1 to 2^64); all are drawn equally often.

    apply: (cells, numbers) -> cells: token ids uint8 (B, 2, rows, columns), question and answer of each row, of which
    row b goes under symmetry numbers[b], uint64 (B,). It draws nothing itself.
    """

    order: int
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]


def symmetries_of(info: PuzzleSetInfo) -> Symmetries:
    """Those of the set's task. Raises ArgumentError for a task without."""
    if info.task == "sudoku":
        box_shape = CODECS["sudoku"].fit(info.grid_shape, info.box_shape)
        return Symmetries(SudokuSymmetries.order(box_shape), partial(_apply_sudoku, box_shape))
    if info.task == "maze":
        doubt = "a view of a shortest path seldom follows the rule that chose it: such runs have collapsed"
        get_logger(__name__).warning(f"online augmentation of mazes: {doubt}")
        views = range(8) if info.grid_shape[0] == info.grid_shape[1] else (0, 2, 4, 5)  # those that keep the shape
        return Symmetries(len(views), partial(_apply_views, views))
    codec = CODECS.get(info.task)
    if codec is not None and codec.symmetries is not None:
        return Symmetries(*codec.symmetries(info.grid_shape))
    known = "sudoku, maze and every codec with `symmetries` have; or pass augment=Symmetries(order, apply)"
    raise ArgumentError(f"online augmentation: the task {info.task!r} has no symmetries to draw; {known}")


def _apply_sudoku(box_shape: tuple[int, int], cells: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return SudokuSymmetries(box_shape, numbers).apply_to_ids(cells)


def _apply_views(views: tuple[int, ...], cells: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    out = np.empty_like(cells)
    for number, view in enumerate(views):
        out[numbers == number] = dihedral(cells[numbers == number], view)
    return out


def check_reveal(task: str, reveal_prob: float) -> None:
    """Raises ArgumentError for a reveal_prob outside 0 to 1, and for any but 0 where the task has no blanks."""
    if not 0 <= reveal_prob <= 1:
        raise ArgumentError(f"reveal_prob is {reveal_prob}; allowed is 0 to 1")
    if reveal_prob and getattr(CODECS.get(task), "blank_id", None) is None:
        raise ArgumentError(f"reveal_prob is {reveal_prob}, but the task {task!r} has no blanks (a codec's blank_id)")


class Augmentation:
    """What each visit of a puzzle of a set changes; augment and reveal_prob as `training_batches` takes them."""

    def __init__(self, info: PuzzleSetInfo, augment: bool | Symmetries, reveal_prob: float) -> None:
        check_reveal(info.task, reveal_prob)
        if not isinstance(augment, bool | Symmetries):
            raise ArgumentError(f"augment is a {type(augment).__name__}; allowed are True, False and Symmetries")
        self.info, self.reveal_prob = info, reveal_prob
        self.symmetries = symmetries_of(info) if augment is True else augment or None
        if self.symmetries and not 1 <= self.symmetries.order <= 1 << 64:
            raise ArgumentError(f"the order of the symmetries is {self.symmetries.order}; allowed is 1 to 2^64")

    def facts(self) -> dict[str, object]:
        """What must be the same where a pass resumes; None for what is not done."""
        return {"symmetries": self.symmetries and self.symmetries.order, "reveal_prob": self.reveal_prob or None}

    def draw(self, num: int, generator: np.random.Generator) -> tuple[np.ndarray | None, np.ndarray | None]:
        """For `num` rows: numbers of symmetries, uint64 (num,), and cells to reveal if blank, bool (num, S)."""
        numbers, revealed = None, None
        if self.symmetries is not None:
            numbers = generator.integers(0, self.symmetries.order, num, dtype=np.uint64)
        if self.reveal_prob:
            shares = np.where(generator.random(num) < self.reveal_prob, generator.random(num), 0.0)
            revealed = generator.random((num, self.info.seq_len), dtype=np.float32) < shares[:, None]
        return numbers, revealed

    def apply(self, cells: np.ndarray, numbers: np.ndarray | None, revealed: np.ndarray | None) -> np.ndarray:
        """Cells uint8 (B, 2, S) as drawn. Raises ArgumentError if the caller's symmetries give no such cells."""
        if numbers is not None:
            shape = (len(cells), 2, *self.info.grid_shape)
            turned = self.symmetries.apply(cells.reshape(shape), numbers)
            if turned.shape != shape or turned.dtype != np.uint8 or turned.max() >= self.info.vocab_size:
                allowed = f"uint8 {shape} with codes below {self.info.vocab_size}"
                raise ArgumentError(f"the symmetries gave {turned.dtype} {turned.shape}, allowed is {allowed}")
            cells = turned.reshape(cells.shape)
        if revealed is not None:
            questions, answers = cells[:, 0], cells[:, 1]
            is_blank = (questions == CODECS[self.info.task].blank_id) & (answers != self.info.ignore_label_id)
            cells = np.stack([np.where(revealed & is_blank, answers, questions), answers], axis=1)
        return cells
