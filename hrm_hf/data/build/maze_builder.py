"""Builds maze puzzle files: rows from CSV files, the generator or grids, checked; subsampled; written with
PuzzleWriter.

Every label must be a path from S to G; whether it is a shortest one, and the one that the rule of the published labels
gives, is counted. Augmentation as in the published builder: the 8 dihedral views, only in the train split, off by
default. Flips and rotations do not keep the rule, so the labels of the views contradict one another.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...games.maze_answers import are_questions, check_answer, follow_rule
from ...games.maze_generator import generate_mazes
from ...hrm.errors import ArgumentError, DataError, PuzzleError
from ...hrm.maze import CHARACTERS, PATH, WALL, check_grid_shape, check_question, encode, path_checks, vocabulary
from ...hrm.symmetry import dihedral
from .puzzle_csv import read_pieces
from ..schema import BLOCK_ROWS, MAX_NEW_PUZZLES, ROWS_ARE_PUZZLES, ROWS_ARE_VARIANTS, PuzzleSetInfo
from ..writer import PuzzleWriter

NUM_VIEWS = 8
# One stream of random numbers per purpose, so that an option of one does not change the draws of another.
_SUBSAMPLE, _GENERATE = range(2)
_ANY_LENGTH = range(2, 65_537)  # what `check_grid_shape` allows
_NO_CELL = 255
_CELL_OF_CODE = np.full(256, _NO_CELL, dtype=np.uint8)  # character code -> cell number
_CELL_OF_CODE[[ord(character) for character in CHARACTERS]] = np.arange(len(CHARACTERS))


@dataclass(frozen=True)
class MazeRows:
    """M mazes with their answers, known to be paths, and where each is from.

    questions, answers: uint8 (M, rows, cols), cell numbers; ratings: int32 (M,); source_codes: int32 (M,), index into
    `sources`; lines: int32 (M,), line in the file it was read from, 0 if from none.
    """

    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray
    sources: tuple[str, ...]
    source_codes: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) of each maze."""
        return self.questions.shape[1:]

    def select(self, index: np.ndarray) -> "MazeRows":
        """The rows that an index array or boolean mask names."""
        arrays = (self.questions, self.answers, self.ratings, self.source_codes, self.lines)
        questions, answers, ratings, source_codes, lines = (array[index] for array in arrays)
        return MazeRows(questions, answers, ratings, self.sources, source_codes, lines)

    @classmethod
    def from_grids(cls, questions: np.ndarray, answers: np.ndarray, source: str = "generated") -> "MazeRows":
        """Rows from grids (M, rows, cols) of cell numbers; the rating is the number of steps of the answer.

        Raises DataError naming the first maze that is wrong.
        """
        right = are_questions(questions) & path_checks(questions, answers)[0]
        if not right.all():
            row = int(np.argmin(right))
            raise DataError(f"maze {row} of {source!r}: {_what_is_wrong(questions[row], answers[row])}")
        questions, answers = (np.asarray(grids).astype(np.uint8) for grids in (questions, answers))
        steps = ((answers == PATH).sum(axis=(1, 2)) + 1).astype(np.int32)
        zeros = np.zeros(len(questions), dtype=np.int32)
        return cls(questions, answers, steps, (source,), zeros, zeros)


def read_csv(
    path: str | os.PathLike, grid_shape: tuple[int, int] | None = None, skipped: list[str] | None = None
) -> MazeRows:
    """Read and check a CSV file (plain or .gz) with the columns source, question, answer, rating.

    question, answer: rows * cols of the characters "# SGo" in row-major order; without a grid shape the mazes are
    squares. Raises DataError that names file, line and cell: see `puzzle_csv.read_pieces`; another character; a
    question without exactly one S and one G, with path cells, or with no way from S to G; an answer that is no path.
    With a list for `skipped` such mazes are left out and what is wrong with each is appended there; a file that is
    not a CSV of equally long mazes is an error all the same.
    """
    grid_shape = None if grid_shape is None else check_grid_shape(grid_shape)
    codes_of: dict[str, int] = {}
    questions, answers, ratings, source_codes, lines = [], [], [], [], []
    for piece in read_pieces(path, allowed_cells=_ANY_LENGTH):
        num_cells = piece.questions.shape[1]
        if grid_shape is None:
            side = math.isqrt(num_cells)
            if side < 2 or side * side != num_cells:
                raise DataError(
                    f"{path} line {piece.lines[0]}: the question has {num_cells} characters, which are no square: "
                    "give the height and the width of the mazes"
                )
            grid_shape = (side, side)
        if num_cells != math.prod(grid_shape):
            raise DataError(
                f"{path} line {piece.lines[0]}: the question has {num_cells} characters, which are no "
                f"{grid_shape[0]}x{grid_shape[1]} cells"
            )
        texts = [characters.reshape(-1, *grid_shape) for characters in (piece.questions, piece.answers)]
        right = _are_right(*(_CELL_OF_CODE[text] for text in texts))
        for row in np.flatnonzero(~right):
            problem = f"{path} line {piece.lines[row]}: {_what_is_wrong_in_text(texts[0][row], texts[1][row])}"
            if skipped is None:
                raise DataError(problem)
            skipped.append(problem)
        kept = np.flatnonzero(right)
        codes = [codes_of.setdefault(piece.sources[row], len(codes_of)) for row in kept]
        questions.append(_CELL_OF_CODE[texts[0][kept]])
        answers.append(_CELL_OF_CODE[texts[1][kept]])
        ratings.append(piece.ratings[kept])
        source_codes.append(np.array(codes, dtype=np.int32))
        lines.append(piece.lines[kept])
    columns = (np.concatenate(parts) for parts in (questions, answers, ratings, source_codes, lines))
    questions, answers, ratings, source_codes, lines = columns
    if not len(questions):
        raise DataError(f"{path}: each of its {len(skipped)} rows had to be left out; the first: {skipped[0]}")
    return MazeRows(questions, answers, ratings, tuple(codes_of), source_codes, lines)


def generate_rows(
    num_train: int,
    num_test: int,
    grid_shape: tuple[int, int],
    min_steps: int | None,
    min_wall_share: float,
    seed: int,
    max_wall_share: float = 0.45,
) -> tuple[MazeRows, MazeRows]:
    """(train, test) of new mazes (see `generate_mazes`), no two of all of them equal under a dihedral symmetry."""
    if min(num_train, num_test) < 1 or num_train + num_test > MAX_NEW_PUZZLES or seed < 0:
        raise ArgumentError(
            f"{num_train} training and {num_test} test mazes, seed {seed}: allowed are at least 1 each, "
            f"{MAX_NEW_PUZZLES} together, seed >= 0"
        )
    mazes = generate_mazes(
        num_train + num_test,
        grid_shape,
        np.random.default_rng([seed, _GENERATE]),
        min_wall_share=min_wall_share,
        max_wall_share=max_wall_share,
        min_steps=min_steps,
    )
    rows = MazeRows.from_grids(*mazes)
    return rows.select(np.arange(num_train)), rows.select(np.arange(num_train, num_train + num_test))


def count_labels(rows: MazeRows) -> tuple[int, int]:
    """(shortest, by_rule): how many answers are shortest paths, and how many are those of `maze.follow_rule`."""
    _, shortest = path_checks(rows.questions, rows.answers)
    by_rule = (follow_rule(rows.questions) == rows.answers).all(axis=(1, 2))
    return int(shortest.sum()), int(by_rule.sum())


def build_maze(
    output_dir: str | os.PathLike,
    train: MazeRows,
    test: MazeRows,
    augment: bool = False,
    subsample_size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[PuzzleSetInfo, PuzzleSetInfo]:
    """Write output_dir/train.h5 and output_dir/test.h5 and return what they hold.

    subsample_size draws that many training mazes; augment stores each training maze in its 8 dihedral views (square
    mazes only, as a quarter turn swaps the sides). The same rows, options and seed give the same bytes. Raises
    ArgumentError for options that do not fit the rows, and if a file is there already and `overwrite` is not set.
    """
    paths = [Path(output_dir) / name for name in ("train.h5", "test.h5")]
    if not overwrite:
        for path in paths:
            if path.exists():
                raise ArgumentError(f"{path} exists already: remove it, choose another folder, or ask for overwriting")
    if train.grid_shape != test.grid_shape:
        raise ArgumentError(f"training mazes have {train.grid_shape} cells, test mazes {test.grid_shape}")
    if augment and train.grid_shape[0] != train.grid_shape[1]:
        raise ArgumentError(f"only square mazes can be augmented, as quarter turns swap the sides: {train.grid_shape}")
    if seed < 0:
        raise ArgumentError(f"seed is {seed}: allowed are 0 and above")
    if subsample_size is not None:
        if not 1 <= subsample_size <= len(train):
            raise ArgumentError(f"subsample_size is {subsample_size}, allowed are 1 to {len(train)}")
        chosen = np.random.default_rng([seed, _SUBSAMPLE]).choice(len(train), subsample_size, replace=False)
        train = train.select(np.sort(chosen))
    return (
        build_split(paths[0], train, "train", augment, seed, overwrite),
        build_split(paths[1], test, "test", False, seed, overwrite),
    )


def build_split(
    path: str | os.PathLike,
    rows: MazeRows,
    split: str,
    augment: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> PuzzleSetInfo:
    """Write one puzzle file: with `augment` one puzzle_id per maze and its views, else blocks of mazes. Returns its
    facts.
    """
    info = PuzzleSetInfo(
        task="maze",
        split=split,
        vocab_size=len(vocabulary()),
        vocabulary=tuple(vocabulary()),
        grid_shape=rows.grid_shape,
        num_aug=NUM_VIEWS - 1 if augment else 0,
        seed=seed,
    )
    with PuzzleWriter(path, info, overwrite) as writer:
        if augment:
            _add_variants(writer, rows)
        else:
            _add_blocks(writer, rows)
    return writer.info


def _add_variants(writer: PuzzleWriter, rows: MazeRows) -> None:
    cells = np.stack([encode(rows.questions), encode(rows.answers)], axis=1)  # (M, 2, rows, cols)
    for row in range(len(rows)):
        views = np.stack([dihedral(cells[row], k) for k in range(NUM_VIEWS)])  # (8, 2, rows, cols)
        writer.add_puzzle(
            f"{row:08d}",
            [views.reshape(NUM_VIEWS, 2, -1)],
            ROWS_ARE_VARIANTS,
            attributes={
                "source": rows.sources[rows.source_codes[row]],
                "rating": int(rows.ratings[row]),
                "line": int(rows.lines[row]),
            },
            arrays={"transform": np.arange(NUM_VIEWS, dtype=np.uint8)},
        )


def _add_blocks(writer: PuzzleWriter, rows: MazeRows) -> None:
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


def _are_right(questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """(m,) bool for grids (m, rows, cols) that may hold _NO_CELL."""
    known = ((questions != _NO_CELL) & (answers != _NO_CELL)).all(axis=(1, 2))
    questions, answers = (np.where(grids == _NO_CELL, WALL, grids) for grids in (questions, answers))
    return known & are_questions(questions) & path_checks(questions, answers)[0]


def _what_is_wrong_in_text(question: np.ndarray, answer: np.ndarray) -> str:
    """question, answer: (rows, cols) character codes of one bad row."""
    for name, codes in (("question", question), ("answer", answer)):
        unknown = np.argwhere(_CELL_OF_CODE[codes] == _NO_CELL)
        if len(unknown):
            row, col = unknown[0]
            return (
                f"{chr(codes[row, col])!r} at row {row + 1}, column {col + 1} of the {name}, allowed are the "
                f"characters of {CHARACTERS!r}"
            )
    return _what_is_wrong(_CELL_OF_CODE[question], _CELL_OF_CODE[answer])


def _what_is_wrong(question: np.ndarray, answer: np.ndarray) -> str:
    """question, answer: (rows, cols) cell numbers, of which one is wrong."""
    try:
        check_question(question)
    except PuzzleError as error:
        return f"the question cannot be solved as it is: {error}"
    try:
        check_answer(question, answer)
    except PuzzleError as error:
        return f"the answer is not a path through the question: {error}"
    raise AssertionError("the checks of many mazes and of one disagree")
