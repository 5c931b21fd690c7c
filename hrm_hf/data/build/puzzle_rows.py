"""Puzzles of one grid each, with their answers and where each is from: what Sudokus and mazes share on their way from
CSV files or a generator to puzzle files.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...hrm.errors import ArgumentError, DataError, PuzzleError
from ...progress import progress
from ..schema import (
    MAX_NEW_PUZZLES,
    MAX_VARIANTS,
    NUM_VARIANTS,
    ROWS_ARE_BOTH,
    ROWS_ARE_PUZZLES,
    PuzzleSetInfo,
    originals_of_block,
)
from ..writer import PuzzleWriter
from .puzzle_csv import read_pieces

_NO_CELL = 255
_ROW_ARRAYS = ("questions", "answers", "ratings", "source_codes", "lines")  # fields of PuzzleRows
# Streams of random numbers, one per purpose, so that an option of one does not change the draws of another.
SUBSAMPLE, AUGMENT, HOLD_OUT, GENERATE_SUDOKU = range(4)
GENERATE_MAZES = 1


@dataclass(frozen=True)
class PuzzleRows:
    """M puzzles with their answers, known to be right, and where each is from.

    questions, answers: uint8 (M, rows, cols); ratings: int32 (M,); source_codes: int32 (M,), index into `sources`;
    lines: int32 (M,), line in the file it was read from, 0 if from none.
    """

    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray
    sources: tuple[str, ...]
    source_codes: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    @classmethod
    def generated(cls, questions: np.ndarray, answers: np.ndarray, ratings: np.ndarray, **fields: Any) -> Self:
        """Puzzles of a generator, which are right as they are."""
        zeros = np.zeros(len(questions), dtype=np.int32)
        return cls(questions, answers, ratings, ("generated",), zeros, zeros, **fields)

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) of each puzzle."""
        return self.questions.shape[1:]

    def select(self, index: np.ndarray) -> Self:
        """The rows that an index array or boolean mask names."""
        return replace(self, **{name: getattr(self, name)[index] for name in _ROW_ARRAYS})

    def split(self, num_first: int) -> tuple[Self, Self]:
        """The first rows, and the others."""
        return self.select(np.arange(num_first)), self.select(np.arange(num_first, len(self)))


def read_rows(
    path: str | os.PathLike,
    layout: Callable[[int], tuple[tuple[int, int], Mapping[str, int]]],
    are_right: Callable[[np.ndarray, np.ndarray], np.ndarray],
    check: Callable[[np.ndarray, np.ndarray], None],
    skipped: list[str] | None = None,
) -> dict[str, Any]:
    """The rows of a CSV file as arguments of PuzzleRows.

    layout: number of characters of a text -> ((rows, cols), what a cell with each character is), DataError for one
    that is not allowed; are_right: questions, answers (m, rows, cols) -> bool (m,); check: raises PuzzleError for a
    question and an answer, (rows, cols) each, that are not. Raises DataError naming file and line for such a row, for
    another character, and as `read_pieces` does. With a list for `skipped` such rows are left out and what is wrong
    with each is appended there.
    """
    codes_of: dict[str, int] = {}
    parts = []
    for piece in read_pieces(path):
        try:
            shape, cells = layout(piece.questions.shape[1])
        except (DataError, PuzzleError) as error:
            raise DataError(f"{path} line {piece.lines[0]}: {error}") from None
        table = np.full(256, _NO_CELL, dtype=np.uint8)  # character code -> cell
        table[[ord(character) for character in cells]] = list(cells.values())
        texts = np.stack([piece.questions, piece.answers]).reshape(2, -1, *shape)
        grids = table[texts]
        right = (grids != _NO_CELL).all(axis=(0, 2, 3))
        right[right] = are_right(*grids[:, right])
        for row in np.flatnonzero(~right):
            unknown = np.argwhere(grids[:, row] == _NO_CELL)
            if len(unknown):
                side, i, j = unknown[0]
                reason = f"{chr(texts[side, row, i, j])!r} at row {i + 1}, column {j + 1} of the "
                reason += f"{('question', 'answer')[side]}, allowed are the characters {''.join(cells)!r}"
            else:
                try:
                    check(*grids[:, row])
                except PuzzleError as error:
                    reason = f"the answer does not solve the question: {error}"
            if skipped is None:
                raise DataError(f"{path} line {piece.lines[row]}: {reason}")
            skipped.append(f"{path} line {piece.lines[row]}: {reason}")
        names = [source for source, is_right in zip(piece.sources, right, strict=True) if is_right]
        codes = np.array([codes_of.setdefault(name, len(codes_of)) for name in names], dtype=np.int32)
        parts.append((*grids[:, right], piece.ratings[right], codes, piece.lines[right]))
    arrays = map(np.concatenate, zip(*parts, strict=True))
    return dict(zip(_ROW_ARRAYS, arrays, strict=True)) | {"sources": tuple(codes_of)}


def check_numbers(num_train: int, num_test: int, seed: int) -> None:
    """Raises ArgumentError unless a generator can be asked for that many puzzles."""
    if min(num_train, num_test) < 1 or num_train + num_test > MAX_NEW_PUZZLES or seed < 0:
        asked = f"{num_train} training and {num_test} test puzzles, seed {seed}"
        raise ArgumentError(f"{asked}: allowed are 1 of each to {MAX_NEW_PUZZLES} together, and seeds from 0")


def check_variants(num_aug: int, seed: int) -> None:
    """Raises ArgumentError unless a builder can be asked for that many variants of each puzzle."""
    if not 0 <= num_aug <= MAX_VARIANTS or seed < 0:
        raise ArgumentError(f"num_aug is {num_aug}, seed is {seed}: allowed are 0 to {MAX_VARIANTS}, and seeds from 0")


def build_files(
    output_dir: str | os.PathLike,
    train: PuzzleRows,
    test: PuzzleRows,
    info: PuzzleSetInfo,
    encode: Callable[[np.ndarray], np.ndarray],
    variants: Callable[..., tuple[np.ndarray, dict[str, np.ndarray]]],
    subsample_size: int | None,
    overwrite: bool,
) -> tuple[PuzzleSetInfo, PuzzleSetInfo]:
    """Write train.h5, with subsample_size training puzzles (None: all) in info.num_aug variants beside each original,
    and test.h5. Returns their facts.

    encode: grids -> token ids of the same shape; variants: token ids of M questions and answers, (M, 2, rows, cols),
    and `generator` -> (info.num_aug + 1 variants of each of the M, the original first, (M * V, 2, rows, cols), arrays
    of the metadata (M * V,)). How many are given at once does not change what is drawn for each.
    """
    check_variants(info.num_aug, info.seed)
    if subsample_size is not None:
        if not 1 <= subsample_size <= len(train):
            raise ArgumentError(f"subsample_size is {subsample_size}, allowed are 1 to {len(train)}, all puzzles")
        generator = np.random.default_rng([info.seed, SUBSAMPLE])
        train = train.select(np.sort(generator.choice(len(train), subsample_size, replace=False)))
    infos = (replace(info, split="train"), replace(info, split="test", num_aug=0))
    writers = [PuzzleWriter(Path(output_dir) / f"{each.split}.h5", each, overwrite) for each in infos]
    draw_variants = partial(variants, generator=np.random.default_rng([info.seed, AUGMENT]))
    for writer, rows in zip(writers, (train, test), strict=True):
        with writer:
            _write_rows(writer, rows, encode, draw_variants if writer.info.num_aug else None)
    return writers[0].info, writers[1].info


def _write_rows(writer: PuzzleWriter, rows: PuzzleRows, encode: Callable, variants: Callable | None) -> None:
    """Adds all rows in blocks, with their variants or as they are."""
    num_variants = writer.info.num_aug + 1
    step = originals_of_block(num_variants, 2 * writer.info.seq_len)
    with progress(description=f"writing {writer.path.name}", unit="puzzles", total=len(rows)) as bar:
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            cells = encode(np.stack([rows.questions[block], rows.answers[block]], axis=1))  # (m, 2, rows, cols)
            rows_are, attributes = ROWS_ARE_PUZZLES, {"sources": list(rows.sources)}
            arrays = {"source": rows.source_codes[block], "rating": rows.ratings[block], "line": rows.lines[block]}
            if variants is not None:
                rows_are, attributes[NUM_VARIANTS] = ROWS_ARE_BOTH, num_variants
                cells, more = variants(cells)
                arrays |= more
            writer.add_puzzle(f"{start:08d}", [cells.reshape(len(cells), 2, -1)], rows_are, attributes, arrays)
            bar.update(len(arrays["line"]))
