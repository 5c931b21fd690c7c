"""Pushes a checkpoint to the Hub, as `hrm-push checkpoint` does: python examples/push_to_hub.py --help

With --space FOLDER it pushes a page that examples/space/build.py has built, as `hrm-push space` does.
"""

import sys
from collections.abc import Sequence

from hrm_hf.commands.push import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    is_page = any(word.split("=")[0] == "--space" for word in words)
    return COMMANDS["space" if is_page else "checkpoint"].main(argv)


if __name__ == "__main__":
    sys.exit(main())
