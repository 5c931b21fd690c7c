"""Puzzle data: HDF5 files, their builders, and Hugging Face data sets over them. Not imported by `import hrm_hf`.

The loaders are imported at their first use, so that builders need not carry the `datasets` library in memory.
"""

from .reader import PuzzleFile
from .sampler import BatchDraw, GroupSampler
from .schema import GridExample, PuzzleSetInfo
from .writer import PuzzleWriter

_FROM_LOADER = ("FileRows", "PuzzleBatches", "Symmetries", "load_puzzles", "total_steps", "training_batches")

__all__ = ["BatchDraw", "GridExample", "GroupSampler", "PuzzleFile", "PuzzleSetInfo", "PuzzleWriter", *_FROM_LOADER]


def __getattr__(name: str) -> object:
    if name in _FROM_LOADER:
        from . import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
