"""Fits a model's puzzle table to a puzzle file by name, so that a checkpoint works on a rebuilt or different data set.

Identifiers are row numbers, and a rebuilt data set may number its puzzles otherwise. Names last.
"""

import numpy as np

from ..data.reader import PuzzleFile
from ..hrm.errors import DataError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers


def match_puzzle_table(
    model: HrmForPuzzleSolving, processor: HrmProcessor, file: PuzzleFile, unknown: str | None = None
) -> list[str]:
    """Rearranges the puzzle table of a checkpoint's model, and the names of its processor, to the numbering of a file.

    Nothing happens where the numbering is the same or the file has no names.

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
    rows = known.rows_for(names)  # (identifiers of the file,), -1 where unknown
    if len(names) == len(known) and (rows[here] == np.flatnonzero(here)).all():
        return []
    missing = [names[index] for index in np.flatnonzero(here & (rows < 0))]
    if missing and unknown is None:
        raise DataError(
            f"{file.path}: {len(missing)} of {int(here.sum())} puzzle identifiers are unknown to the checkpoint "
            f"({', '.join(missing[:5])}); choose the blank or the mean embedding for them"
        )
    model.rearrange_puzzle_table(rows, unknown=unknown or "blank")
    processor.puzzle_identifiers = PuzzleIdentifiers(names)
    return missing
