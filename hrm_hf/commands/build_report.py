"""What the build commands print at their end: what a file holds and how large it is, and the memory that it took."""

import os
import sys
from pathlib import Path

from ..schema import PuzzleSetInfo


def file_line(path: str | os.PathLike, info: PuzzleSetInfo) -> str:
    """One line on a puzzle file of full frames: its puzzles, rows, grid size, and bytes beside those of the cells."""
    size = Path(path).stat().st_size
    rows, cols = info.grid_shape
    cells = info.num_rows * 2 * info.seq_len  # one byte each
    return (
        f"{path}: {info.num_groups} puzzles, {info.num_rows} rows of {rows}x{cols} cells, "
        f"{size} bytes ({size / cells:.3f} x the cells alone)"
    )


def peak_memory(of_workers: bool = False) -> str:
    """The largest memory that this process has held, or the largest of its workers, what they share included."""
    if sys.platform == "win32":
        return "not known on this system"
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    who = resource.RUSAGE_CHILDREN if of_workers else resource.RUSAGE_SELF
    return f"{resource.getrusage(who).ru_maxrss * unit / 1e6:.0f} MB"
