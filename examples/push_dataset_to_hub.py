"""Pushes puzzle files to the Hub, as `hrm-push data` does: python examples/push_dataset_to_hub.py --help"""

import sys

from hrm_hf.commands.push import COMMANDS

main = COMMANDS["data"].main

if __name__ == "__main__":
    sys.exit(main())
