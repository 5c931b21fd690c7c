"""The former name of original_checkpoint_to_hf.py, for one release."""

import sys

from hrm_hf.commands.checkpoint_to_hf import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
