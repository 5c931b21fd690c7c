"""Pushes a checkpoint or, with --space FOLDER, a page, as hrm-push does: python examples/push_to_hub.py --help"""

import sys

from hrm_hf.commands.push import COMMANDS

if __name__ == "__main__":
    is_page = any(word.split("=")[0] == "--space" for word in sys.argv)
    sys.exit(COMMANDS["space" if is_page else "checkpoint"].main())
