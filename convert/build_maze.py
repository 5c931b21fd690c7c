"""Builds maze files, as `hrm-build maze` does: python convert/build_maze.py --help"""

import sys

from hrm_hf.commands.build_maze import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
