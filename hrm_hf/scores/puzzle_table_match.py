"""Fits a model's puzzle table to a puzzle file by name: another or a rebuilt data set may number puzzles otherwise."""

import numpy as np

from ..data.reader import PuzzleFile
from ..hrm.errors import DataError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers
from ..hub.puzzle_embeddings import rearrange_puzzle_table


def match_puzzle_table(
    model: HrmForPuzzleSolving, processor: HrmProcessor, file: PuzzleFile, unknown: str | None = None
) -> list[str]:
    """Rearranges a model's puzzle table and its processor's names to the numbering of a file, if it has names.

    Args:
        unknown: what puzzles get for which the checkpoint has no row: "blank" (the row of puzzles without identifier),
            "mean" (of all rows but that one), or None to refuse.
    Returns:
        Names in the file that the checkpoint does not know.
    Raises:
        DataError: names that the checkpoint does not know, with unknown=None.
        ArgumentError: another value of `unknown`, or a model without a table.
    """
    names = file.identifier_names()
    here = np.array([name not in ("", BLANK_NAME) for name in names])  # a test file names its own puzzles only
    if not here.any():
        return []
    known = processor.puzzle_identifiers or PuzzleIdentifiers([BLANK_NAME])
    row_of = {name: row for row, name in enumerate(known.names) if name}
    rows = np.array([row_of.get(name, -1) for name in names], np.int64)  # (identifiers of the file,), -1 where unknown
    if len(names) == len(known) and (rows[here] == np.flatnonzero(here)).all():
        return []
    missing = [names[index] for index in np.flatnonzero(here & (rows < 0))]
    if missing and unknown is None:
        counted = f"{len(missing)} of {int(here.sum())} puzzle identifiers are unknown to the checkpoint"
        which = ", ".join(missing[:5])
        ways = "choose the blank or the mean embedding for them (--unknown-puzzles blank or mean)"
        raise DataError(f"{file.path}: {counted} ({which}); {ways}")
    rearrange_puzzle_table(model, rows, unknown=unknown or "blank")
    processor.puzzle_identifiers = PuzzleIdentifiers(names)
    return missing
