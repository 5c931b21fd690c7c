"""The former name of hf_checkpoint_to_original.py, for one release."""

import sys

from hrm_hf.commands.checkpoint_to_original import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
