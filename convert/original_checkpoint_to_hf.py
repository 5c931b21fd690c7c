"""As `hrm-convert checkpoint-to-hf`, original to ours: python convert/original_checkpoint_to_hf.py --help"""

import sys

from hrm_hf.commands.checkpoint_to_hf import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
