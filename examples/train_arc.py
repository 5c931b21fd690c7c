"""Trains on ARC tasks, as `hrm-train arc` does: accelerate launch examples/train_arc.py --help"""

import sys

from hrm_hf.commands.train import main

if __name__ == "__main__":
    sys.exit(main(["arc", *sys.argv[1:]]))
