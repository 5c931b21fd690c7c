"""Builds ARC files, as `hrm-build arc` does: python convert/build_arc.py --help"""

import sys

from hrm_hf.commands.build_arc import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
