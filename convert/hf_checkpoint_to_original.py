"""Our checkpoint to the original form, as `hrm-convert checkpoint-to-original`: see --help"""

import sys

from hrm_hf.commands.checkpoint_to_original import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
