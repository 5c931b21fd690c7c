"""What saved states cost: seconds and bytes of a save, and the share of the training time that they take.

    python benchmarks/saving_cost.py                      # 27 M parameters (9x9, batch 8) and a 4x4 recipe
    python benchmarks/saving_cost.py --folder /mnt/disk   # states on another disk than the temporary folder's

Two real trainings on made-up batches. The first, of the size of the published Sudoku model, saves after every step;
the second, the recipe hrm_sudoku_4x4, every 50 steps. A save is everything that the training stops for: collecting the
tensors, writing, checksums, bringing them to the disk, removing older states. Beside it: writing as many bytes to one
file and bringing it to the disk, without checksums. Printed are medians, with the extremes.

The share at an interval follows from the median save: save / (interval + save), whatever the steps take. For the
second training the share that was measured is printed as well.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from side_by_side import seconds_of
from subjects import made_up_batches

from hrm_hf.commands.training_run import read_arguments, settle_dtype
from hrm_hf.commands.training_tasks import SudokuArguments
from hrm_hf.training import (
    HrmTrainer,
    HrmTrainingArguments,
    machine_in_words,
    make_accelerator,
    seeded_model,
    share_cpu_cores,
)

SMALL_RECIPE = Path(__file__).parent / "recipes" / "hrm_sudoku_4x4.yaml"
MINUTES = (1.0, 5.0, HrmTrainingArguments().state_minutes, 30.0)


class TimedTrainer(HrmTrainer):
    """Times its saves, and its steps without them."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.save_times: list[float] = []  # but the one before the first step, which holds no moments and slots yet
        self.ends: list[float] = []  # of the steps, by a clock that stands still in a save

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self.ends.append(time.perf_counter() - sum(self.save_times))

    def _save_state(self) -> None:
        seconds = seconds_of(super()._save_state)
        if self.step:
            self.save_times.append(seconds)
        else:
            self.first_save = seconds

    def step_times(self) -> list[float]:
        """Seconds of each step but the first."""
        return [after - before for before, after in pairwise(self.ends)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=7, help="steps, each with a save, of the large model")
    parser.add_argument("--small-steps", type=int, default=350, help="steps of the 4x4 recipe; a save every 50")
    parser.add_argument("--folder", type=Path, help="where the states are written; default: the temporary folder")
    parser.add_argument("--cpu-threads", type=int, help="default: all cores")
    args = parser.parse_args(argv)
    if args.steps < 2 or args.small_steps < 50:
        parser.error("at least 2 steps, and 50 of the 4x4 recipe")
    print(f"{machine_in_words()}; Python {platform.python_version()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="saving-cost-") as folder:
        large = ["--recipe", "sudoku_extreme_1k", "--global_batch_size", "8"]
        train("27 M, 9x9, batch 8", 9, large, args.steps, 1, Path(folder) / "large", args.cpu_threads)
        small = ["--recipe", str(SMALL_RECIPE)]
        trainer = train("4x4 recipe", 4, small, args.small_steps, 50, Path(folder) / "small", args.cpu_threads)
    saving = trainer.first_save + sum(trainer.save_times)
    print(
        f"\n4x4 recipe with --state_steps 50: {1 + len(trainer.save_times)} saves took {saving:.2f} s of "
        f"{trainer.seconds:.1f} s, {100 * saving / trainer.seconds:.2f} %"
    )


def train(
    name: str, size: int, argv: list[str], steps: int, state_steps: int, run_dir: Path, cpu_threads: int | None
) -> TimedTrainer:
    """Trains on made-up Sudokus of this size and prints what the saves cost."""
    _, model_args, args = read_arguments(SudokuArguments, argv)
    args.output_dir, args.max_steps, args.state_steps, args.eval_steps = str(run_dir), steps, state_steps, None
    accelerator = make_accelerator(args, str(run_dir))
    share_cpu_cores(accelerator, cpu_threads)
    settle_dtype(model_args, accelerator, run_dir=None)
    model = seeded_model(model_args.to_config(size + 2, size * size, num_puzzle_identifiers=1), args.seed)
    batches = list(islice(made_up_batches(model.config, args.global_batch_size), 4))
    trainer = TimedTrainer(model, args, batches, accelerator)
    trainer.seconds = seconds_of(trainer.train)
    newest = max(run_dir.glob("state-*"))
    num_bytes = sum(file.stat().st_size for file in newest.iterdir())
    saves, plain = trainer.save_times, plain_writes(run_dir / "plain", num_bytes, len(trainer.save_times))
    save, step = statistics.median(saves), statistics.median(trainer.step_times())
    print(f"\n{name}: {model.num_parameters():,} parameters, {torch.get_num_threads()} threads")
    print(f"  state: {num_bytes / 1e6:.1f} MB in {len(list(newest.iterdir()))} files")
    print(f"  save: {in_words(saves)}, {num_bytes / 1e6 / save:.0f} MB/s; plain write: {in_words(plain)}")
    print(f"  steps/s without saves: {1 / step:.3g}")
    for minutes in MINUTES:
        default = "  (the default)" if minutes == HrmTrainingArguments().state_minutes else ""
        print(f"  share with a save every {minutes:g} minutes: {100 * save / (60 * minutes + save):.4f} %{default}")
    trainer.close()
    return trainer


def in_words(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f}, {len(seconds)} times)"


def plain_writes(path: Path, num_bytes: int, times: int) -> list[float]:
    """Seconds that it takes to write as many bytes and to bring them to the disk."""
    data = os.urandom(num_bytes)

    def write() -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return [seconds_of(write) for _ in range(times)]


if __name__ == "__main__":
    main()
