"""Build puzzle files, train.h5 and test.h5, for one of the games."""

from . import build_arc, build_maze, build_sudoku
from .command import one_of

main = one_of({"sudoku": build_sudoku.COMMAND, "maze": build_maze.COMMAND, "arc": build_arc.COMMAND}, __doc__).main

if __name__ == "__main__":
    raise SystemExit(main())
