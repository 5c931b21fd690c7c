"""Original checkpoint to ours, as `hrm-convert checkpoint-to-hf`: python convert/hrm_checkpoint_to_hf.py --help"""

import sys

from hrm_hf.commands.checkpoint_to_hf import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
