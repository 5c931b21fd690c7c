"""Scores a checkpoint, as `hrm-evaluate` does: python examples/evaluate_checkpoint.py --help"""

import sys

from hrm_hf.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
