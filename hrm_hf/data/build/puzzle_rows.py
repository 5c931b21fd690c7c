"""Puzzles of one grid each, with their answers and where each is from: what Sudokus and mazes share on their way from
tables or a generator to puzzle files.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
from .puzzle_table import read_pieces

_NO_CELL = 255
_ROW_ARRAYS = ("questions", "answers", "ratings", "source_codes", "lines", "num_solutions")  # fields of PuzzleRows
# Streams of random numbers, one per purpose, so that an option of one does not change the draws of another.
SUBSAMPLE, AUGMENT, HOLD_OUT, GENERATE_SUDOKU = range(4)
GENERATE_MAZES = 1


@dataclass(frozen=True)
class PuzzleRows:
    """M puzzles with their answers, known to be right, and where each is from.

    questions, answers: uint8 (M, rows, cols); ratings: int32 (M,), float64 where not all are whole; source_codes:
    int32 (M,), index into `sources`, which is ("",) for a table of one source; lines: int32 (M,), row of the table at
    `path` it was read from, counted from 1, 0 if from none; num_solutions: uint8 (M,), 1 or 2 (or more) where they
    have been counted, 0 where not; None: of no puzzle.
    """

    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray
    sources: tuple[str, ...]
    source_codes: np.ndarray
    lines: np.ndarray
    num_solutions: np.ndarray | None = field(default=None, kw_only=True)
    path: str = field(default="", kw_only=True)

    def __len__(self) -> int:
        return len(self.questions)

    @classmethod
    def generated(cls, questions: np.ndarray, answers: np.ndarray, ratings: np.ndarray, **fields: Any) -> Self:
        """Puzzles of a generator, which are right as they are, each with one solution."""
        zeros, ones = np.zeros(len(questions), np.int32), np.ones(len(questions), np.uint8)
        return cls(questions, answers, ratings, ("generated",), zeros, zeros, num_solutions=ones, **fields)

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) of each puzzle."""
        return self.questions.shape[1:]

    def select(self, index: np.ndarray) -> Self:
        """The rows that an index array or boolean mask names."""
        arrays = {name: value[index] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)

    def split(self, num_first: int) -> tuple[Self, Self]:
        """The first rows, and the others."""
        return self.select(np.arange(num_first)), self.select(np.arange(num_first, len(self)))


def read_rows(
    path: str | os.PathLike,
    shape_of: Callable[[Any], tuple[int, int]],
    characters_of: Callable[[tuple[int, int]], Mapping[str, int]],
    parse: Callable[[Any, np.ndarray | None], np.ndarray],
    are_right: Callable[[np.ndarray, np.ndarray], np.ndarray],
    check: Callable[[np.ndarray, np.ndarray], None],
    solve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    skipped: list[str] | None = None,
    **table: Any,
) -> dict[str, Any]:
    """The rows of a table as arguments of PuzzleRows; solutions are counted where the table has no answer.

    shape_of: the first question -> (rows, cols) of all; characters_of: what a cell with each character is in text of
    one character per cell; parse: any other form, and for an answer its question (rows, cols), else None -> (rows,
    cols); are_right: questions, answers (m, rows, cols) -> bool (m,); check: raises PuzzleError for a question and an
    answer, (rows, cols) each, that are not; solve: questions (m, rows, cols) -> (answers, numbers of solutions, at
    most 2). table: see `read_pieces`.
    Raises DataError naming file and line for such a row, for what cannot be parsed (PuzzleError), and as `read_pieces`
    does. With a list for `skipped` such rows are left out and what is wrong with each is appended there.
    """
    codes_of: dict[str, int] = {}
    parts, shape, characters = [], None, np.full(256, _NO_CELL, np.uint8)  # character code -> cell
    for piece in read_pieces(path, **table):
        if shape is None:
            errors = []
            for cell, place in zip(piece.questions, piece.places, strict=True):
                try:
                    shape = shape_of(cell)
                    break
                except PuzzleError as error:
                    errors.append(f"{path} {place}: the question: {error}")
                    if skipped is None:
                        raise DataError(errors[0]) from None
            if shape is None:
                skipped.extend(errors)
                continue
            for character, cell in characters_of(shape).items():
                characters[ord(character)] = cell
        wrong: dict[int, str] = {}
        questions = _read_cells(piece.questions, shape, characters, parse, wrong)
        grids = np.stack([questions, _read_cells(piece.answers, shape, characters, parse, wrong, questions)])
        open_rows = [row for row, answer in enumerate(piece.answers) if answer is None and row not in wrong]
        counts = np.zeros(len(piece.questions), np.uint8)
        if open_rows:
            grids[1, open_rows], counts[open_rows] = solve(grids[0, open_rows])
            wrong |= {row: "the question has no solution" for row in open_rows if not counts[row]}
        right = np.array([row not in wrong for row in range(len(counts))])
        right[right] = are_right(*grids[:, right])
        for row in np.flatnonzero(~right):
            if row not in wrong:
                try:
                    check(*grids[:, row])
                except PuzzleError as error:
                    wrong[row] = f"the answer does not solve the question: {error}"
            if skipped is None:
                raise DataError(f"{path} {piece.places[row]}: {wrong[row]}")
            skipped.append(f"{path} {piece.places[row]}: {wrong[row]}")
        names = [source for source, is_right in zip(piece.sources, right, strict=True) if is_right]
        codes = np.array([codes_of.setdefault(name, len(codes_of)) for name in names], dtype=np.int32)
        parts.append((*grids[:, right], piece.ratings[right], codes, piece.numbers[right], counts[right]))
    if not any(len(part[0]) for part in parts):
        raise DataError(f"{path}: each of its {len(skipped)} rows had to be left out; the first: {skipped[0]}")
    arrays = map(np.concatenate, zip(*parts, strict=True))
    rows = dict(zip(_ROW_ARRAYS, arrays, strict=True))
    whole = rows["ratings"].astype(np.int32) if np.abs(rows["ratings"]).max(initial=0) < 2**31 else None
    if whole is not None and (whole == rows["ratings"]).all():
        rows["ratings"] = whole
    # one source says nothing of a row: the same puzzles give the same file under any header
    return rows | {"sources": tuple(codes_of) if len(codes_of) > 1 else ("",), "path": str(path)}


def _read_cells(
    cells: list[Any],
    shape: tuple[int, int],
    characters: np.ndarray,
    parse: Callable[[Any, np.ndarray | None], np.ndarray],
    wrong: dict[int, str],
    questions: np.ndarray | None = None,
) -> np.ndarray:
    """m cells of a table -> uint8 (m, rows, cols). What cannot be read goes to `wrong`, by row.

    questions: of answers, (m, rows, cols); an answer may be None and gives zeros.
    """
    size = shape[0] * shape[1]
    plain = [row for row, cell in enumerate(cells) if isinstance(cell, str) and len(cell) == size and cell.isascii()]
    grids = np.zeros((len(cells), size), np.uint8)
    codes = np.frombuffer("".join(cells[row] for row in plain).encode("ascii"), np.uint8).reshape(-1, size)
    grids[plain] = characters[codes]
    is_plain = np.zeros(len(cells), bool)
    is_plain[plain] = (grids[plain] != _NO_CELL).all(axis=1)
    for row in np.flatnonzero(~is_plain):
        if cells[row] is None and questions is not None:
            continue
        try:
            grid = parse(cells[row], None if questions is None else questions[row])
            if grid.shape != shape:
                sizes = f"{grid.shape[0]}x{grid.shape[1]} cells, the first question has {shape[0]}x{shape[1]}"
                raise PuzzleError(f"it has {sizes}")
            grids[row] = grid.reshape(-1)
        except PuzzleError as error:
            wrong.setdefault(int(row), f"the {'question' if questions is None else 'answer'}: {error}")
            grids[row] = 0
    return grids.reshape(-1, *shape)


def subsampled(rows: PuzzleRows, size: int | None, seed: int) -> PuzzleRows:
    """`size` of the rows, in their order, drawn by the seed; None: all. ArgumentError for more than there are."""
    if size is None:
        return rows
    if not 1 <= size <= len(rows):
        raise ArgumentError(f"subsample_size is {size}, allowed are 1 to {len(rows)}, all puzzles")
    generator = np.random.default_rng([seed, SUBSAMPLE])
    return rows.select(np.sort(generator.choice(len(rows), size, replace=False)))


def without_leaks(
    train: PuzzleRows, test: PuzzleRows, keys: Callable[[PuzzleRows], list[bytes]], leaks: str
) -> tuple[PuzzleRows, str]:
    """(the test puzzles to keep, what was found in words). keys: one for each row, equal for puzzles that are equal
    under a symmetry. leaks: "refuse" raises DataError where a test puzzle equals a training puzzle, "drop" leaves it
    out, "allow" keeps it.
    """
    trained = set(keys(train))
    shared = np.array([key in trained for key in keys(test)])
    found = f"{shared.sum()} of {len(test)} test puzzles equal a training puzzle under a symmetry"
    if not shared.any() or leaks == "allow":
        return test, found
    if leaks == "refuse":
        ways = "--leaks drop leaves them out of the test; --leaks allow keeps them: the scores then mean little"
        raise DataError(f"{found}, the first is row {test.lines[shared.argmax()]} of {test.path}: {ways}")
    if shared.all():
        raise DataError(f"{found}: without them no test puzzle is left")
    return test.select(~shared), f"{found} and were left out"


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
    variants: Callable[..., tuple[np.ndarray, dict[str, np.ndarray]]],
    subsample_size: int | None,
    overwrite: bool,
) -> tuple[PuzzleSetInfo, PuzzleSetInfo]:
    """Write train.h5, with subsample_size training puzzles (None: all) in info.num_aug variants beside each original,
    and test.h5. Returns their facts.

    variants: token ids of M questions and answers, (M, 2, rows, cols),
    and `generator` -> (info.num_aug + 1 variants of each of the M, the original first, (M * V, 2, rows, cols), arrays
    of the metadata (M * V,)). How many are given at once does not change what is drawn for each.
    """
    check_variants(info.num_aug, info.seed)
    train = subsampled(train, subsample_size, info.seed)
    infos = (replace(info, split="train"), replace(info, split="test", num_aug=0))
    writers = [PuzzleWriter(Path(output_dir) / f"{each.split}.h5", each, overwrite) for each in infos]
    draw_variants = partial(variants, generator=np.random.default_rng([info.seed, AUGMENT]))
    for writer, rows in zip(writers, (train, test), strict=True):
        with writer:
            _write_rows(writer, rows, draw_variants if writer.info.num_aug else None)
    return writers[0].info, writers[1].info


def _write_rows(writer: PuzzleWriter, rows: PuzzleRows, variants: Callable | None) -> None:
    """Adds all rows in blocks, with their variants or as they are."""
    num_variants = writer.info.num_aug + 1
    step = originals_of_block(num_variants, 2 * writer.info.seq_len)
    with progress(description=f"writing {writer.path.name}", unit="puzzles", total=len(rows)) as bar:
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            grids = np.stack([rows.questions[block], rows.answers[block]], axis=1)  # (m, 2, rows, cols)
            cells = grids + np.uint8(1)  # the token ids of Sudokus and mazes
            rows_are, attributes = ROWS_ARE_PUZZLES, {"sources": list(rows.sources)}
            arrays = {"source": rows.source_codes[block], "rating": rows.ratings[block], "line": rows.lines[block]}
            if variants is not None:
                rows_are, attributes[NUM_VARIANTS] = ROWS_ARE_BOTH, num_variants
                cells, more = variants(cells)
                arrays |= more
            writer.add_puzzle(f"{start:08d}", [cells.reshape(len(cells), 2, -1)], rows_are, attributes, arrays)
            bar.update(len(arrays["line"]))
