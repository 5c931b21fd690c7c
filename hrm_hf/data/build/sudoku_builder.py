"""Builds Sudoku puzzle files: rows from tables or grids, checked; held out, filtered, augmented; written with
PuzzleWriter.

Augmentation as in the published builder: only the train split; variant 0 is the original, the others are symmetries
drawn uniformly over the whole group (duplicates of one puzzle may occur). Unlike there every draw comes from the seed,
and the symmetry of each variant is kept in the file (`metadata/symmetry`, codes of SudokuSymmetries), so that it can
be undone.
"""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...games.sudoku_answers import are_solutions, check_answer
from ...games.sudoku_generator import generate
from ...games.sudoku_solver import solve_many
from ...games.sudoku_symmetry import SudokuSymmetries, class_keys
from ...hrm.errors import ArgumentError, DataError, PuzzleError
from ...hrm.sudoku import BOX_SHAPE_OF_SIZE, SYMBOLS, check_box_shape, parse
from ...progress import progress
from ..schema import PuzzleSetInfo
from .puzzle_rows import GENERATE_SUDOKU, HOLD_OUT, PuzzleRows, build_files, check_numbers, read_rows
from .puzzle_table import Columns, read_pieces

_BLANKS = ".*_-?Xx "  # signs of a blank beside 0

_ROWS_AT_ONCE = 1000  # the symmetries of so many variants stay in a CPU's cache
_KEYS_AT_ONCE = 10_000  # puzzles: under a second


@dataclass(frozen=True)
class SudokuRows(PuzzleRows):
    """Sudokus, grids (n, n) with 0 = blank; box_shape: (rows, columns) of one box."""

    box_shape: tuple[int, int]


def read_table(
    path: str | os.PathLike,
    box_shape: tuple[int, int] | None = None,
    columns: Columns | None = None,
    notes: list[str] | None = None,
) -> SudokuRows:
    """Read and check a table of Sudokus, see `puzzle_table.read_pieces`; an answer that is missing is found by search.

    question, answer: whatever `sudoku.parse` reads, all of one size; without a box shape of `BOX_SHAPE_OF_SIZE`. Which
    columns were taken is appended to `notes`. Raises DataError that names file and line: as `read_pieces` does; also
    for a cell that cannot be read, an answer that does not solve its question, a question without any solution.
    """
    box_shape = None if box_shape is None else check_box_shape(box_shape)

    def is_puzzle(cell: object) -> bool | None:
        boxes = {64: (1, 8), 144: (1, 12)}.get(len(cell) if isinstance(cell, str) else 0)  # `shape_of` asks for them
        try:
            return bool((parse(cell, box_shape or boxes) == 0).any())
        except PuzzleError:
            return None

    def shape_of(cell: object) -> tuple[int, int]:
        if box_shape is not None:
            return (math.prod(box_shape),) * 2
        try:
            return parse(cell).shape
        except PuzzleError as error:
            raise PuzzleError(f"{error}; another size needs --box-shape, such as 2x4") from error

    table = {"columns": columns, "is_puzzle": is_puzzle, "comment": "#"}

    def boxes_of(n: int) -> tuple[int, int]:
        return box_shape or BOX_SHAPE_OF_SIZE[n]

    def characters_of(shape: tuple[int, int]) -> dict[str, int]:
        n = shape[0]
        digits = _digits_from_zero(path, n, table) if n > 9 else ""
        cells = {digit: d for d, digit in enumerate(digits or SYMBOLS[1 : n + 1], 1)}
        cells |= {digit.lower(): d for digit, d in cells.items()}
        return dict.fromkeys(_BLANKS if digits else ".0", 0) | cells

    def solve(questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts, answers = solve_many(questions, boxes_of(questions.shape[1]))
        return answers, counts.astype(np.uint8)

    columns_of_rows = read_rows(
        path,
        shape_of,
        characters_of,
        lambda cell, question: parse(cell, box_shape),
        lambda questions, answers: are_solutions(questions, answers, boxes_of(questions.shape[1])),
        lambda question, answer: check_answer(question, answer, boxes_of(len(question))),
        solve,
        notes=notes,
        **table,
    )
    return SudokuRows(**columns_of_rows, box_shape=boxes_of(columns_of_rows["questions"].shape[1]))


def _digits_from_zero(path: str | os.PathLike, n: int, table: dict[str, Any]) -> str:
    """The digits 0 to F of a table whose 16x16 puzzles (larger ones alike) are written so; "" where 0 is a blank.

    One puzzle may hold neither the first nor the last digit; a table as a whole says which it is: an answer, which has
    all digits, or a 0 beside another sign for a blank.
    """
    texts = {"question": set(), "answer": set()}
    for piece in read_pieces(path, **table):
        for role, cells in (("question", piece.questions), ("answer", piece.answers)):
            texts[role].update(*(cell.upper() for cell in cells if isinstance(cell, str) and len(cell) == n * n))
    last, both = SYMBOLS[n], texts["question"] | texts["answer"]
    has_zero = "0" in texts["answer"] or ("0" in both and bool(both & set(_BLANKS)))
    if has_zero and last in both:
        raise DataError(
            f"{path}: puzzles hold both 0 and {last}: the digits are 1 to {last}, or 0 to {SYMBOLS[n - 1]}"
        )
    return "0" + SYMBOLS[1:n] if has_zero else ""


def with_one_solution(
    rows: SudokuRows, several: str = "refuse", max_steps: int | None = None
) -> tuple[SudokuRows, str]:
    """(the puzzles to keep, what was found in words). Every puzzle is searched for a second solution, those with the
    fewest givens first.

    several: "refuse" raises DataError where a puzzle has several solutions, "drop" leaves it out; "keep" searches
    nothing. max_steps: see `solve_many`; puzzles that it leaves open are counted in what was found.
    """
    counts = np.zeros(len(rows), np.int64) if rows.num_solutions is None else rows.num_solutions.astype(np.int64)
    if several != "keep":
        unknown = np.flatnonzero(counts == 0)
        givens = np.count_nonzero(rows.questions[unknown], axis=(1, 2))
        unknown = unknown[np.argsort(givens, kind="stable")]
        counts[unknown] = solve_many(rows.questions[unknown], rows.box_shape, 2, max_steps)[0]
    has_several, num_open = counts > 1, int((counts < 1).sum())
    found = f"{has_several.sum()} of {len(rows)} puzzles have several solutions"
    if num_open:
        found += f"; {num_open} were not searched to the end for a second one"
    if several == "keep" or not has_several.any():
        return rows, found
    if several == "refuse":
        ways = "--several-solutions drop leaves them out; keep trains on one of their solutions each"
        raise DataError(f"{found}, the first is row {rows.lines[has_several.argmax()]} of {rows.path}: {ways}")
    if has_several.all():
        raise DataError(f"{found}: without them no puzzle is left")
    return rows.select(~has_several), f"{found} and were left out"


def puzzle_keys(rows: SudokuRows) -> list[bytes]:
    """One key per puzzle, equal for puzzles that are equal under a symmetry."""
    starts = progress(range(0, len(rows), _KEYS_AT_ONCE), "comparing puzzles", "parts")
    parts = (rows.questions[start : start + _KEYS_AT_ONCE] for start in starts)
    return [key for part in parts for key in class_keys(part, rows.box_shape)]


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
    _, classes, sizes = np.unique(puzzle_keys(rows), return_inverse=True, return_counts=True)
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


def difficult(rows: SudokuRows, min_difficulty: float) -> SudokuRows:
    """The rows that are rated at least so, 0: all. Raises ArgumentError where there are none."""
    if min_difficulty <= 0:
        return rows
    if (highest := rows.ratings.max()) < min_difficulty:
        raise ArgumentError(f"min_difficulty {min_difficulty} leaves no puzzle: the highest rating is {highest}")
    return rows.select(rows.ratings >= min_difficulty)


def build_sudoku(
    output_dir: str | os.PathLike,
    train: SudokuRows,
    test: SudokuRows,
    num_aug: int = 0,
    subsample_size: int | None = None,
    min_difficulty: float = 0,
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
    train, test = (difficult(rows, min_difficulty) for rows in (train, test))
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

    return build_files(output_dir, train, test, info, variants, subsample_size, overwrite)
