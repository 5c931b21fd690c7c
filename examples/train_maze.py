"""Trains on mazes, as `hrm-train maze` does: accelerate launch examples/train_maze.py --help"""

import sys

from hrm_hf.commands.train import main

if __name__ == "__main__":
    sys.exit(main(["maze", *sys.argv[1:]]))
