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
from pathlib import Path

import numpy as np

from ...games.sudoku_answers import are_solutions, check_answer
from ...games.sudoku_generator import generate
from ...games.sudoku_symmetry import SudokuSymmetries, class_keys
from ...hrm.errors import ArgumentError, DataError, PuzzleError
from ...hrm.sudoku import BOX_SHAPE_OF_SIZE, encode, vocabulary
from .puzzle_csv import read_pieces
from ..schema import BLOCK_ROWS, MAX_NEW_PUZZLES, MAX_VARIANTS, ROWS_ARE_PUZZLES, ROWS_ARE_VARIANTS, PuzzleSetInfo
from ..writer import PuzzleWriter

# One stream of random numbers per purpose, so that an option of one does not change the draws of another.
_SUBSAMPLE, _AUGMENT, _HOLD_OUT, _GENERATE = range(4)
_NO_DIGIT = 255


@dataclass(frozen=True)
class SudokuRows:
    """M Sudokus with their answers, known to be right, and where each is from.

    questions, answers: uint8 (M, n, n), 0 = blank; ratings: int32 (M,); source_codes: int32 (M,), index into
    `sources`; lines: int32 (M,), line in the file it was read from, 0 if from none.
    """

    box_shape: tuple[int, int]
    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray
    sources: tuple[str, ...]
    source_codes: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    def select(self, index: np.ndarray) -> "SudokuRows":
        """The rows that an index array or boolean mask names."""
        arrays = (self.questions, self.answers, self.ratings, self.source_codes, self.lines)
        questions, answers, ratings, source_codes, lines = (array[index] for array in arrays)
        return SudokuRows(self.box_shape, questions, answers, ratings, self.sources, source_codes, lines)

    @classmethod
    def from_grids(
        cls, questions: np.ndarray, answers: np.ndarray, box_shape: tuple[int, int], source: str = "generated"
    ) -> "SudokuRows":
        """Rows from grids (M, n, n), 0 = blank, rating 0. Raises DataError naming the first answer that is wrong."""
        right = are_solutions(questions, answers, box_shape)
        if not right.all():
            row = int(np.argmin(right))
            raise DataError(f"grid {row} of {source!r}: {_what_is_wrong(questions[row], answers[row], box_shape)}")
        zeros = np.zeros(len(questions), dtype=np.int32)
        digits = (np.asarray(grids).astype(np.uint8) for grids in (questions, answers))
        return cls(tuple(box_shape), *digits, zeros, (source,), zeros, zeros)


def read_csv(path: str | os.PathLike) -> SudokuRows:
    """Read and check a CSV file (plain or .gz) with the columns source, question, answer, rating.

    question: n * n characters, '.' or '0' = blank; answer: n * n digits; n is 4, 6 or 9. Memory: 2 n * n + 12 bytes a
    row. Raises DataError that names file and line: see `puzzle_csv.read_pieces`; also a character that is no digit of
    this size, or an answer that does not solve its question.
    """
    codes_of: dict[str, int] = {}
    questions, answers, ratings, source_codes, lines = [], [], [], [], []
    for piece in read_pieces(path, allowed_cells=[n * n for n in BOX_SHAPE_OF_SIZE]):
        n = math.isqrt(piece.questions.shape[1])
        box_shape = BOX_SHAPE_OF_SIZE[n]
        grids = []
        for name, characters in (("question", piece.questions), ("answer", piece.answers)):
            digits = _digits(n)[characters]
            if (wrong := digits == _NO_DIGIT).any():
                row, cell = divmod(int(np.argmax(wrong)), n * n)
                raise DataError(
                    f"{path} line {piece.lines[row]}: {chr(characters[row, cell])!r} at cell {cell + 1} "
                    f"of the {name}, allowed are '.', 0 and 1 to {n}"
                )
            grids.append(digits.reshape(-1, n, n))
        right = are_solutions(*grids, box_shape)
        if not right.all():
            row = int(np.argmin(right))
            reason = _what_is_wrong(grids[0][row], grids[1][row], box_shape)
            raise DataError(f"{path} line {piece.lines[row]}: the answer does not solve the question: {reason}")
        codes = [codes_of.setdefault(name, len(codes_of)) for name in piece.sources]
        questions.append(grids[0])
        answers.append(grids[1])
        ratings.append(piece.ratings)
        source_codes.append(np.array(codes, dtype=np.int32))
        lines.append(piece.lines)
    columns = (np.concatenate(parts) for parts in (questions, answers, ratings, source_codes, lines))
    questions, answers, ratings, source_codes, lines = columns
    return SudokuRows(box_shape, questions, answers, ratings, tuple(codes_of), source_codes, lines)


def generate_rows(
    num_train: int, num_test: int, box_shape: tuple[int, int], max_givens: int | None, seed: int
) -> tuple[SudokuRows, SudokuRows]:
    """(train, test) of new puzzles, each with exactly one solution, no two of all of them equal under a symmetry."""
    if min(num_train, num_test) < 1 or num_train + num_test > MAX_NEW_PUZZLES or seed < 0:
        raise ArgumentError(
            f"{num_train} training and {num_test} test puzzles, seed {seed}: allowed are at least 1 each, "
            f"{MAX_NEW_PUZZLES} together, seed >= 0"
        )
    generator = np.random.default_rng([seed, _GENERATE])
    rows = SudokuRows.from_grids(*generate(num_train + num_test, box_shape, generator, max_givens), box_shape)
    return rows.select(np.arange(num_train)), rows.select(np.arange(num_train, num_train + num_test))


def hold_out(rows: SudokuRows, num_test: int, seed: int) -> tuple[SudokuRows, SudokuRows]:
    """Split into (train, test), at random, so that no test puzzle equals a training puzzle under any Sudoku symmetry.

    Whole classes of equal puzzles go to one side. Raises ArgumentError if num_test rows cannot be held out.
    """
    if not 1 <= num_test < len(rows):
        raise ArgumentError(
            f"{num_test} test puzzles cannot be held out of {len(rows)}: allowed are 1 to {len(rows) - 1}"
        )
    _, classes, sizes = np.unique(class_keys(rows.questions, rows.box_shape), return_inverse=True, return_counts=True)
    missing, is_test_class = num_test, np.zeros(len(sizes), dtype=bool)
    for number in np.random.default_rng([seed, _HOLD_OUT]).permutation(len(sizes)):
        if sizes[number] <= missing:
            is_test_class[number] = True
            missing -= sizes[number]
    if missing:
        raise ArgumentError(
            f"{num_test} test puzzles cannot be held out without tearing apart puzzles that are equal under a "
            f"symmetry: {num_test - missing} is the nearest number found"
        )
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
    bytes. Raises ArgumentError for options that do not fit the rows, and if a file is there already and `overwrite` is
    not set.
    """
    paths = [Path(output_dir) / name for name in ("train.h5", "test.h5")]
    if not overwrite:
        for path in paths:
            if path.exists():
                raise ArgumentError(f"{path} exists already: remove it, choose another folder, or ask for overwriting")
    if train.box_shape != test.box_shape:
        raise ArgumentError(f"training puzzles have boxes {train.box_shape}, test puzzles {test.box_shape}")
    if not 0 <= num_aug <= MAX_VARIANTS or seed < 0:
        raise ArgumentError(f"num_aug is {num_aug}, seed is {seed}: allowed are 0 to {MAX_VARIANTS}, and seeds from 0")
    train, test = (_at_least(rows, min_difficulty, split) for rows, split in ((train, "training"), (test, "test")))
    if subsample_size is not None:
        if not 1 <= subsample_size <= len(train):
            raise ArgumentError(
                f"subsample_size is {subsample_size}, allowed are 1 to {len(train)} (puzzles after filtering)"
            )
        chosen = np.random.default_rng([seed, _SUBSAMPLE]).choice(len(train), subsample_size, replace=False)
        train = train.select(np.sort(chosen))
    return (
        build_split(paths[0], train, "train", num_aug, seed, overwrite),
        build_split(paths[1], test, "test", 0, seed, overwrite),
    )


def build_split(
    path: str | os.PathLike, rows: SudokuRows, split: str, num_aug: int = 0, seed: int = 0, overwrite: bool = False
) -> PuzzleSetInfo:
    """Write one puzzle file: with num_aug > 0 one puzzle_id per row and its variants, else blocks of rows. Returns
    its facts.
    """
    n = rows.box_shape[0] * rows.box_shape[1]
    info = PuzzleSetInfo(
        task="sudoku",
        split=split,
        vocab_size=n + 2,
        vocabulary=tuple(vocabulary(n)),
        grid_shape=(n, n),
        num_aug=num_aug,
        seed=seed,
        box_shape=rows.box_shape,
    )
    with PuzzleWriter(path, info, overwrite) as writer:
        if num_aug:
            _add_variants(writer, rows, num_aug, np.random.default_rng([seed, _AUGMENT]))
        else:
            _add_blocks(writer, rows)
    return writer.info


def _add_variants(writer: PuzzleWriter, rows: SudokuRows, num_aug: int, generator: np.random.Generator) -> None:
    n = rows.box_shape[0] * rows.box_shape[1]
    for row in range(len(rows)):
        symmetries = SudokuSymmetries.draw(rows.box_shape, num_aug, generator)
        cells = np.empty((1 + num_aug, 2, n * n), dtype=np.uint8)
        both = np.stack((rows.questions[row], rows.answers[row]))
        cells[0] = encode(both).reshape(2, -1)
        cells[1:] = encode(symmetries.apply_to_each(both)).reshape(num_aug, 2, -1)
        writer.add_puzzle(
            f"{row:08d}",
            [cells],
            ROWS_ARE_VARIANTS,
            attributes={
                "source": rows.sources[rows.source_codes[row]],
                "rating": int(rows.ratings[row]),
                "line": int(rows.lines[row]),
            },
            arrays={"symmetry": np.concatenate([np.zeros(1, dtype=np.uint64), symmetries.to_codes()])},  # 0 = identity
        )


def _add_blocks(writer: PuzzleWriter, rows: SudokuRows) -> None:
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows.select(np.arange(start, min(start + BLOCK_ROWS, len(rows))))
        cells = np.stack([encode(grids).reshape(len(block), -1) for grids in (block.questions, block.answers)], axis=1)
        writer.add_puzzle(
            f"{start:08d}",
            [cells],
            ROWS_ARE_PUZZLES,
            attributes={"sources": list(rows.sources)},
            arrays={"source": block.source_codes, "rating": block.ratings, "line": block.lines},
        )


def _at_least(rows: SudokuRows, min_difficulty: int, split: str) -> SudokuRows:
    if min_difficulty <= 0:
        return rows
    hard = rows.ratings >= min_difficulty
    if not hard.any():
        raise ArgumentError(
            f"min_difficulty {min_difficulty} leaves no {split} puzzle: the highest rating is {rows.ratings.max()}"
        )
    return rows.select(hard)


def _digits(n: int) -> np.ndarray:
    """(256,) uint8: character code -> digit, _NO_DIGIT for every other character."""
    digits = np.full(256, _NO_DIGIT, dtype=np.uint8)
    digits[ord(".")] = 0
    digits[ord("0") : ord("0") + n + 1] = np.arange(n + 1)
    return digits


def _what_is_wrong(question: np.ndarray, answer: np.ndarray, box_shape: tuple[int, int]) -> str:
    try:
        check_answer(question, answer, box_shape)
    except PuzzleError as error:
        return str(error)
    raise AssertionError("are_solutions and check_answer disagree")
