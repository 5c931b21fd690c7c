"""Build puzzle files, train.h5 and test.h5, for one of the games."""

import sys
from functools import partial

from . import build_arc, build_maze, build_sudoku
from .command import run_one_of

COMMANDS = {
    "sudoku": build_sudoku.COMMAND,
    "maze": build_maze.COMMAND,
    "arc": build_arc.COMMAND,
}
main = partial(run_one_of, COMMANDS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
