"""Adapts a checkpoint to hidden ARC tasks and writes a submission, as `hrm-adapt` does: --help says how."""

import sys

from hrm_hf.commands.adapt import main

if __name__ == "__main__":
    sys.exit(main())
