"""What differs from task to task: one `PuzzleCodec` per game, made from functions of the game's own module.

The processor, the pipeline and the evaluation know a task through its codec only, so a further task changes none of
them.

B batch, S cells (rows * columns of the grid), V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arc import FRAME_SHAPE, cut, frame, parse_grid
from .arc import draw as draw_arc
from .arc import vocabulary as arc_vocabulary
from .errors import ArgumentError
from .grids import MAX_CELLS, Shape, check_shape
from .maze import check_question, path_checks
from .maze import decode as decode_maze
from .maze import draw as draw_maze
from .maze import encode as encode_maze
from .maze import is_solution as is_maze_solution
from .maze import parse as parse_maze
from .maze import vocabulary as maze_vocabulary
from .sudoku import BLANK_ID, BOX_SHAPE_OF_SIZE, SYMBOLS, check_givens, is_solution, parse
from .sudoku import decode as decode_sudoku
from .sudoku import draw as draw_sudoku
from .sudoku import encode as encode_sudoku
from .sudoku import vocabulary as sudoku_vocabulary


def no_box_shape(grid_shape: Shape, box_shape: Shape | None) -> None:
    """`fit` of a game whose grids may have any shape and have no boxes."""
    if box_shape is not None:
        raise ArgumentError(f"box_shape is {box_shape}; only a Sudoku has boxes")


@dataclass(frozen=True)
class PuzzleCodec:
    """What must be known of one task. A grid is a (rows, columns) integer array of the game's cell numbers, from 0.

    Only the first two have no default; the defaults suit a game whose cell number i is token id i + 1.

    Attributes:
        vocabulary: grid_shape -> names of the V token ids, in order; id 0 is PAD.
        read: (puzzle as written, grid_shape, box_shape) -> grid, of question or answer; the puzzle is a str, a list, a
            tuple or an array. Raises PuzzleError for one that cannot be read.
        check: (question grid, box_shape); raises PuzzleError for a question that breaks a rule of the game.
        encode: (grid, grid_shape) -> token ids of the shape grid_shape.
        decode: token ids (rows, columns), each below V -> grid; never raises: an id that is no answer becomes a blank.
        write: (grid, question as text) -> text in the form of the question. None: the vocabulary's names, one line per
            row if the question has lines, else one run.
        draw: (grid, box_shape) -> text for people. None: lines as above.
        is_solution: (question grid, answer grid, box_shape) -> bool. None: the task has no rule to check.
        fit: (grid_shape, box_shape or None) -> box_shape; raises ArgumentError for sizes that do not fit each other.
        blank_id: token id of a cell that the question leaves open, for a score on those cells; None = no such score.
        row_scores: (inputs (B, S), predictions (B, S), grid_shape) -> further scores of each row, 0 to 1, as
            {name: (B,) floats}; the arguments are token ids. None = none.
    """

    vocabulary: Callable[[Shape], list[str]]
    read: Callable[[Any, Shape, Shape | None], np.ndarray]
    check: Callable[[np.ndarray, Shape | None], None] = lambda grid, box_shape: None
    encode: Callable[[np.ndarray, Shape], np.ndarray] = lambda grid, grid_shape: np.asarray(grid, np.int64) + 1
    decode: Callable[[np.ndarray], np.ndarray] = lambda ids: (np.maximum(ids, 1) - 1).astype(np.uint8)
    write: Callable[[np.ndarray, str], str] | None = None
    draw: Callable[[np.ndarray, Shape | None], str] | None = None
    is_solution: Callable[[np.ndarray, np.ndarray, Shape | None], bool] | None = None
    fit: Callable[[Shape, Shape | None], Shape | None] = no_box_shape
    blank_id: int | None = None
    row_scores: Callable[[np.ndarray, np.ndarray, Shape], dict[str, np.ndarray]] | None = None


def _fit_sudoku(grid_shape: Shape, box_shape: Shape | None) -> Shape:
    size = grid_shape[0]
    if grid_shape[1] != size or not 2 <= size < len(SYMBOLS):
        raise ArgumentError(f"grid_shape is {grid_shape}; a Sudoku is square, with 2 to {len(SYMBOLS) - 1} rows")
    if box_shape is None and size not in BOX_SHAPE_OF_SIZE:
        usual = ", ".join(f"({n}, {n})" for n in BOX_SHAPE_OF_SIZE)
        raise ArgumentError(f"grid_shape is {grid_shape}; allowed for a Sudoku without box_shape: {usual}")
    box_shape = box_shape or BOX_SHAPE_OF_SIZE[size]
    if box_shape[0] * box_shape[1] != size:
        raise ArgumentError(f"box_shape is {box_shape}; a box of a {size}x{size} Sudoku must hold {size} cells")
    return box_shape


def _fit_maze(grid_shape: Shape, box_shape: Shape | None) -> None:
    no_box_shape(grid_shape, box_shape)
    check_shape("grid_shape", grid_shape, range(2, MAX_CELLS + 1), ArgumentError)


def _fit_arc(grid_shape: Shape, box_shape: Shape | None) -> None:
    no_box_shape(grid_shape, box_shape)
    if grid_shape[0] > FRAME_SHAPE[0] or grid_shape[1] > FRAME_SHAPE[1]:
        raise ArgumentError(f"grid_shape is {grid_shape}; an ARC frame has up to {FRAME_SHAPE} rows and columns")


def _maze_scores(inputs: np.ndarray, predictions: np.ndarray, grid_shape: Shape) -> dict[str, np.ndarray]:
    questions, answers = (decode_maze(np.asarray(ids).reshape(-1, *grid_shape)) for ids in (inputs, predictions))
    valid, shortest = path_checks(questions, answers)  # (B,) bool each
    return {"valid_path": valid.astype(np.float64), "shortest_path": shortest.astype(np.float64)}


CODECS: dict[str, PuzzleCodec] = {
    "sudoku": PuzzleCodec(
        vocabulary=lambda grid_shape: sudoku_vocabulary(grid_shape[0]),
        read=lambda puzzle, grid_shape, box_shape: parse(puzzle, box_shape),
        check=check_givens,
        encode=lambda grid, grid_shape: encode_sudoku(grid),
        decode=decode_sudoku,
        draw=draw_sudoku,
        is_solution=is_solution,
        fit=_fit_sudoku,
        blank_id=BLANK_ID,
    ),
    "maze": PuzzleCodec(
        vocabulary=lambda grid_shape: maze_vocabulary(),
        read=lambda puzzle, grid_shape, box_shape: parse_maze(puzzle, grid_shape),
        check=lambda grid, box_shape: check_question(grid),
        encode=lambda grid, grid_shape: encode_maze(grid),
        decode=decode_maze,
        draw=lambda grid, box_shape: draw_maze(grid),
        is_solution=lambda question, answer, box_shape: is_maze_solution(question, answer),
        fit=_fit_maze,
        row_scores=_maze_scores,
    ),
    "arc": PuzzleCodec(  # the grid stands top left in a frame of grid_shape
        vocabulary=lambda grid_shape: arc_vocabulary(),
        read=lambda puzzle, grid_shape, box_shape: parse_grid(puzzle, grid_shape),
        encode=frame,
        decode=cut,
        write=lambda grid, question: "\n".join("".join(map(str, row)) for row in grid.tolist()),
        draw=lambda grid, box_shape: draw_arc(grid),
        fit=_fit_arc,
    ),
}
"""The tasks by name. A task of your own is one more entry, made before a processor of that task is built or loaded:

    CODECS["lights"] = PuzzleCodec(vocabulary=lambda grid_shape: ["PAD", ".", "#"], read=read_lights)
    processor = HrmProcessor(task="lights", grid_shape=(5, 5))

where `read_lights(puzzle, grid_shape, box_shape)` gives a (5, 5) array of 0 and 1. With `is_solution` its answers are
checked too. The entry is code and does not travel with a checkpoint: make it again before loading one.
"""

__all__ = ["CODECS", "PuzzleCodec"]
