"""Train a recursive reasoning model (HRM, TRM), score it on unseen puzzles, save it and solve a puzzle with it.

    hrm-train sudoku                       6x6 puzzles made here, minutes on a CPU; --size 4 or 9 for others
    hrm-train maze                         6x6 mazes made here
    hrm-train sudoku --data-dir DIR --recipe sudoku_extreme_1k
    hrm-train arc --data-dir DIR           DIR as hrm-build arc makes it
    hrm-train sudoku --help                all arguments

On several GPUs or processes: accelerate launch --multi_gpu --num_processes N -m hrm_hf.commands.train sudoku ...
"""

import argparse
from collections.abc import Sequence

from .command import help_as_written, run_as_command
from .training_run import run_training
from .training_tasks import TASKS


def main(argv: Sequence[str] | None = None) -> int:
    """Trains on the game that the first word names. Returns the exit code, see `run_as_command`."""
    parser = argparse.ArgumentParser(**help_as_written(__doc__))
    parser.add_argument("task", choices=TASKS, help="the game; all further arguments: hrm-train TASK --help")

    def run(words: list[str]) -> None:
        task = parser.parse_args(words[:1]).task
        run_training(TASKS[task], words[1:], prog=f"{parser.prog} {task}")

    return run_as_command(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
