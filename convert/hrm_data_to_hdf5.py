"""Original data folder to HDF5, as `hrm-convert data-to-hdf5`: python convert/hrm_data_to_hdf5.py --help"""

import sys

from hrm_hf.commands.data_to_hdf5 import COMMAND

main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
