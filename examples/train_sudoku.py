"""Trains on Sudoku, as `hrm-train sudoku` does: accelerate launch examples/train_sudoku.py --help"""

import sys

from hrm_hf.commands.train import main

if __name__ == "__main__":
    sys.exit(main(["sudoku", *sys.argv[1:]]))
