"""Trains on ARC tasks, as `hrm-train arc` does: accelerate launch examples/train_arc.py --help"""

import sys

from hrm_hf.commands.command import run_as_command
from hrm_hf.commands.training_run import run_training
from hrm_hf.commands.training_tasks import TASKS

if __name__ == "__main__":
    sys.exit(run_as_command(lambda words: run_training(TASKS["arc"], words)))
