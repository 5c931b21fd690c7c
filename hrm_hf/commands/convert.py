"""Convert checkpoints and data between the published HRM and TRM code and this package."""

from . import checkpoint_to_hf, checkpoint_to_original, data_to_hdf5
from .command import one_of

COMMANDS = {
    "checkpoint-to-hf": checkpoint_to_hf.COMMAND,
    "checkpoint-to-original": checkpoint_to_original.COMMAND,
    "data-to-hdf5": data_to_hdf5.COMMAND,
}
main = one_of(COMMANDS, __doc__).main

if __name__ == "__main__":
    raise SystemExit(main())
