"""The tasks: one `PuzzleCodec` per game.

The processor, the pipeline and the evaluation know a task through its codec only: a further one changes none of them.
"""

from .arc import CODEC as ARC
from .grids import PuzzleCodec
from .maze import CODEC as MAZE
from .sudoku import CODEC as SUDOKU

CODECS: dict[str, PuzzleCodec] = {"sudoku": SUDOKU, "maze": MAZE, "arc": ARC}
"""The tasks by name. A task of your own is one more entry, made before a processor of that task is built or loaded:

    CODECS["lights"] = PuzzleCodec(vocabulary=lambda grid_shape: ["PAD", ".", "#"], read=read_lights)
    processor = HrmProcessor(task="lights", grid_shape=(5, 5))

where `read_lights(puzzle, grid_shape, box_shape)` gives a (5, 5) array of 0 and 1. The entry is code and does
not travel with a checkpoint: make it again before loading one.
"""
