"""Pushes a checkpoint to the Hub, as `hrm-push checkpoint` does: python examples/push_to_hub.py --help"""

import sys

from hrm_hf.commands.push import COMMANDS

main = COMMANDS["checkpoint"].main

if __name__ == "__main__":
    sys.exit(main())
