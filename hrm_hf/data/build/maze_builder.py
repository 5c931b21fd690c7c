"""Builds maze puzzle files: rows from tables, the generator or grids, checked; subsampled; written with
PuzzleWriter.

Every label must be a path from S to G; whether it is a shortest one, and the one that the rule of the published labels
gives, is counted. Augmentation as in the published builder: the 8 dihedral views, only in the train split, off by
default. Flips and rotations do not keep the rule, so the labels of the views contradict one another.
"""

import os
from functools import cache

import numpy as np

from ...games.maze_answers import are_questions, check_answer, follow_rule, path_checks
from ...games.maze_generator import generate_mazes
from ...hrm.errors import ArgumentError, PuzzleError
from ...hrm.maze import CHARACTERS, FREE, GOAL, PATH, START, check_grid_shape, parse, read_answer
from ...hrm.symmetry import dihedral
from ..schema import PuzzleSetInfo
from .puzzle_rows import GENERATE_MAZES, PuzzleRows, build_files, check_numbers, read_rows
from .puzzle_table import Columns, read_pieces

NUM_VIEWS = 8


def read_table(
    path: str | os.PathLike,
    grid_shape: tuple[int, int] | None = None,
    skipped: list[str] | None = None,
    columns: Columns | None = None,
    notes: list[str] | None = None,
    wall: int | None = None,
) -> PuzzleRows:
    """Read and check a table of mazes, see `puzzle_table.read_pieces`; an answer that is missing follows the rule.

    question, answer: rows * cols of the characters "# SGo" in row-major order, or what else `maze.parse` reads;
    without a grid shape mazes of one line are squares. wall: which of 0 and 1 is the wall in mazes of numbers; by
    default the first maze that tells it (see `wall_number`) tells it of all. Raises DataError that names file,
    line and cell: as `read_pieces` does; another character; a question without exactly one S and one G, with path
    cells, or with no way from S to G; an answer that is no path. With a list for `skipped` such mazes are left out and
    what is wrong with each is appended there; all else raises. Which columns were taken is appended to `notes`.
    """
    grid_shape = None if grid_shape is None else check_grid_shape(grid_shape)

    def is_puzzle(cell: object) -> bool | None:
        try:
            grid = parse(cell, grid_shape, 0)  # whichever the wall is
        except PuzzleError:
            return None
        has_both = all((grid == number).sum() == 1 for number in (START, GOAL))
        return not (grid == PATH).any() if has_both else None

    table = {"columns": columns, "is_puzzle": is_puzzle}

    @cache
    def wall_of_all() -> int | None:  # most mazes with a border are joined either way
        pieces = read_pieces(path, **table)
        pairs = (pair for piece in pieces for pair in zip(piece.questions, piece.answers, strict=True))
        found = (wall_number(*pair, grid_shape) for pair in pairs)
        return next((number for number in found if number is not None), None)

    def read(cell: object, question: np.ndarray | None) -> np.ndarray:
        if question is not None:
            return read_answer(cell, question, grid_shape)
        return parse(cell, grid_shape, wall_of_all() if wall is None else wall)

    def are_right(questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return are_questions(questions) & path_checks(questions, answers)[0]

    def solve(questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        solvable = are_questions(questions)
        answers = questions.copy()
        answers[solvable] = follow_rule(questions[solvable])
        return answers, np.ones(len(questions), np.uint8)  # what is no question is found by `are_right`

    rows = read_rows(
        path,
        lambda first: check_grid_shape(read(first, None).shape),
        lambda shape: {character: cell for cell, character in enumerate(CHARACTERS)},
        read,
        are_right,
        check_answer,
        solve,
        skipped,
        notes=notes,
        **table,
    )
    return PuzzleRows(**rows)


def wall_number(puzzle: object, answer: object = None, grid_shape: tuple[int, int] | None = None) -> int | None:
    """Which of 0 and 1 is the wall in a maze of numbers; None where it has signs, cannot be read, or does not tell.

    Where both join S and G, the path of an answer, in any form, tells it: it lies on free cells.
    """
    try:
        readings = np.stack([parse(puzzle, grid_shape, wall) for wall in (0, 1)])
        joined = are_questions(readings)
        if joined.sum() == 1:
            return int(joined.argmax())
        if answer is not None and (readings[0] != readings[1]).any():
            under = set(readings[0][parse(answer, readings.shape[1:], 0) == PATH].tolist())
            return FREE - under.pop() if len(under) == 1 and max(under) <= FREE else None
    except PuzzleError:
        pass
    return None


def generate_rows(
    num_train: int,
    num_test: int,
    grid_shape: tuple[int, int],
    min_steps: int | None,
    min_wall_share: float,
    seed: int,
    max_wall_share: float = 0.45,
) -> tuple[PuzzleRows, PuzzleRows]:
    """(train, test) of new mazes (see `generate_mazes`), all different under symmetry; rating: steps of the answer."""
    check_numbers(num_train, num_test, seed)
    generator = np.random.default_rng([seed, GENERATE_MAZES])
    limits = (min_wall_share, max_wall_share, min_steps)
    questions, answers = generate_mazes(num_train + num_test, grid_shape, generator, *limits)
    steps = ((answers == PATH).sum(axis=(1, 2)) + 1).astype(np.int32)
    return PuzzleRows.generated(questions, answers, steps).split(num_train)


def count_labels(rows: PuzzleRows) -> tuple[int, int]:
    """(shortest, by_rule): how many answers are shortest paths, and how many are those of `maze.follow_rule`."""
    _, shortest = path_checks(rows.questions, rows.answers)
    by_rule = (follow_rule(rows.questions) == rows.answers).all(axis=(1, 2))
    return int(shortest.sum()), int(by_rule.sum())


def build_maze(
    output_dir: str | os.PathLike,
    train: PuzzleRows,
    test: PuzzleRows,
    augment: bool = False,
    subsample_size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[PuzzleSetInfo, PuzzleSetInfo]:
    """Write output_dir/train.h5 and output_dir/test.h5 and return what they hold.

    subsample_size draws that many training mazes; augment stores each training maze in its 8 dihedral views (square
    mazes only, as a quarter turn swaps the sides). The same rows, options and seed give the same bytes. Raises
    ArgumentError for options that do not fit the rows, and for a file that exists without `overwrite`.
    """
    if train.grid_shape != test.grid_shape:
        raise ArgumentError(f"training mazes have {train.grid_shape} cells, test mazes {test.grid_shape}")
    if augment and train.grid_shape[0] != train.grid_shape[1]:
        raise ArgumentError(f"only square mazes can be augmented, as quarter turns swap the sides: {train.grid_shape}")
    num_aug = NUM_VIEWS - 1 if augment else 0
    info = PuzzleSetInfo.of_task("maze", train.grid_shape, split="train", num_aug=num_aug, seed=seed)

    def views(ids: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        all_views = np.stack([dihedral(ids, k) for k in range(NUM_VIEWS)], axis=1).reshape(-1, *ids.shape[1:])
        return all_views, {"transform": np.tile(np.arange(NUM_VIEWS, dtype=np.uint8), len(ids))}

    return build_files(output_dir, train, test, info, views, subsample_size, overwrite)
