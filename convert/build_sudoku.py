"""Builds Sudoku files, as `hrm-build sudoku` does: python convert/build_sudoku.py --help"""

import sys

from hrm_hf.commands.build_sudoku import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
