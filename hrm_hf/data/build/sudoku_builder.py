"""Builds Sudoku puzzle files: rows from CSV files or grids, checked; held out, filtered, augmented; written with
PuzzleWriter.

Augmentation as in the published builder: only the train split; variant 0 is the original, the others are symmetries
drawn uniformly over the whole group (duplicates of one puzzle may occur). Unlike there every draw comes from the seed,
and the symmetry of each variant is kept in the file (`metadata/symmetry`, codes of SudokuSymmetries), so that it can
be undone.
"""

import math
import os
from dataclasses import dataclass

import numpy as np

from ...games.sudoku_answers import are_solutions, check_answer
from ...games.sudoku_generator import generate
from ...games.sudoku_symmetry import SudokuSymmetries, class_keys
from ...hrm.errors import ArgumentError, DataError
from ...hrm.sudoku import BOX_SHAPE_OF_SIZE, encode
from ..schema import PuzzleSetInfo
from .puzzle_rows import GENERATE_SUDOKU, HOLD_OUT, PuzzleRows, build_files, check_numbers, read_rows

_ROWS_AT_ONCE = 1000  # the symmetries of so many variants stay in a CPU's cache


@dataclass(frozen=True)
class SudokuRows(PuzzleRows):
    """Sudokus, grids (n, n) with 0 = blank; box_shape: (rows, columns) of one box."""

    box_shape: tuple[int, int]


def read_csv(path: str | os.PathLike) -> SudokuRows:
    """Read and check a CSV file (plain or .gz) with the columns source, question, answer, rating.

    question: n * n characters, '.' or '0' = blank; answer: n * n digits; n is 4, 6 or 9. Memory: 2 n * n + 12 bytes a
    row. Raises DataError that names file and line: see `puzzle_csv.read_pieces`; also a character that is no digit of
    this size, or an answer that does not solve its question.
    """

    def layout(num_cells: int) -> tuple[tuple[int, int], dict[str, int]]:
        n = math.isqrt(num_cells)
        if n * n != num_cells or n not in BOX_SHAPE_OF_SIZE:
            sizes = ", ".join(str(n * n) for n in BOX_SHAPE_OF_SIZE)
            raise DataError(f"the question has {num_cells} characters, allowed are {sizes}")
        return (n, n), {".": 0} | {str(digit): digit for digit in range(n + 1)}

    columns = read_rows(
        path,
        layout,
        lambda questions, answers: are_solutions(questions, answers, BOX_SHAPE_OF_SIZE[questions.shape[1]]),
        lambda question, answer: check_answer(question, answer, BOX_SHAPE_OF_SIZE[len(question)]),
    )
    return SudokuRows(**columns, box_shape=BOX_SHAPE_OF_SIZE[columns["questions"].shape[1]])


def generate_rows(
    num_train: int, num_test: int, box_shape: tuple[int, int], max_givens: int | None, seed: int
) -> tuple[SudokuRows, SudokuRows]:
    """(train, test) of new puzzles, each with exactly one solution, no two of all of them equal under a symmetry."""
    check_numbers(num_train, num_test, seed)
    generator = np.random.default_rng([seed, GENERATE_SUDOKU])
    questions, answers = generate(num_train + num_test, box_shape, generator, max_givens)
    ratings = np.zeros(len(questions), dtype=np.int32)
    return SudokuRows.generated(questions, answers, ratings, box_shape=tuple(box_shape)).split(num_train)


def hold_out(rows: SudokuRows, num_test: int, seed: int) -> tuple[SudokuRows, SudokuRows]:
    """Split into (train, test), at random, so that no test puzzle equals a training puzzle under any Sudoku symmetry.

    Whole classes of equal puzzles go to one side. Raises ArgumentError if num_test rows cannot be held out.
    """
    if not 1 <= num_test < len(rows):
        raise ArgumentError(f"{num_test} of {len(rows)} puzzles for the test: allowed are 1 to {len(rows) - 1}")
    _, classes, sizes = np.unique(class_keys(rows.questions, rows.box_shape), return_inverse=True, return_counts=True)
    missing, is_test_class = num_test, np.zeros(len(sizes), dtype=bool)
    for number in np.random.default_rng([seed, HOLD_OUT]).permutation(len(sizes)):
        if sizes[number] <= missing:
            is_test_class[number] = True
            missing -= sizes[number]
    if missing:
        reason = "without tearing apart puzzles that are equal under a symmetry"
        raise ArgumentError(f"{num_test} cannot be held out {reason}: {num_test - missing} is the nearest number")
    in_test = is_test_class[classes]
    return rows.select(~in_test), rows.select(in_test)


def build_sudoku(
    output_dir: str | os.PathLike,
    train: SudokuRows,
    test: SudokuRows,
    num_aug: int = 0,
    subsample_size: int | None = None,
    min_difficulty: int = 0,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[PuzzleSetInfo, PuzzleSetInfo]:
    """Write output_dir/train.h5 and output_dir/test.h5 and return what they hold.

    min_difficulty keeps rows whose rating is at least that, in both splits; subsample_size then draws that many
    training puzzles; num_aug variants are added to each training puzzle. The same rows, options and seed give the same
    bytes. Raises ArgumentError for options that do not fit the rows, and for a file that exists without `overwrite`.
    """
    if train.box_shape != test.box_shape:
        raise ArgumentError(f"training puzzles have boxes {train.box_shape}, test puzzles {test.box_shape}")
    if min_difficulty > 0:
        for split, rows in (("training", train), ("test", test)):
            if (highest := rows.ratings.max()) < min_difficulty:
                message = f"min_difficulty {min_difficulty} leaves no {split} puzzle: the highest rating is {highest}"
                raise ArgumentError(message)
        train, test = (rows.select(rows.ratings >= min_difficulty) for rows in (train, test))
    facts = {"num_aug": num_aug, "seed": seed, "box_shape": train.box_shape}
    info = PuzzleSetInfo.of_task("sudoku", train.grid_shape, split="train", **facts)

    def variants(ids: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        codes = SudokuSymmetries.draw_codes(train.box_shape, (len(ids), num_aug), generator)
        codes = np.pad(codes, ((0, 0), (1, 0)))  # 0 = identity
        step = max(_ROWS_AT_ONCE // (num_aug + 1), 1)
        starts = range(step, len(ids), step)
        pieces = zip(np.split(ids, starts), np.split(codes, starts), strict=True)
        parts = [SudokuSymmetries(train.box_shape, ranks.reshape(-1)).apply_to_ids(piece) for piece, ranks in pieces]
        return np.concatenate(parts), {"symmetry": codes.reshape(-1)}

    return build_files(output_dir, train, test, info, encode, variants, subsample_size, overwrite)
