"""What saved states cost: seconds and bytes of a save, and the share of the training time that they take.

    python benchmarks/saving_cost.py                      # 27 M parameters (9x9, batch 8) and a 4x4 recipe
    python benchmarks/saving_cost.py --folder /mnt/disk   # states on another disk than the temporary folder's

Two real trainings on made-up batches. The first, of the size of the published Sudoku model, saves after every step;
the second, the recipe hrm_sudoku_4x4, every 50 steps. A save is everything that the training
stops for: collecting the tensors, writing, checksums, bringing them to the disk, removing older states. Beside it:
writing as many bytes to one file and bringing it to the disk, without checksums. Printed are medians, with the
extremes.

The share at an interval follows from the median save: save / (interval + save), whatever the steps take. For the
second training the share that was measured is printed as well.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hrm_hf.commands.training_run import read_arguments
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
    """Notes after every step the time and how many seconds of it went into saves so far."""

    def train(self) -> dict[str, float]:
        self.notes: list[tuple[float, float]] = []
        self.num_states, self.saving_seconds = 0, 0.0
        self.started = time.monotonic()
        scores = super().train()
        self.seconds = time.monotonic() - self.started
        return scores

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self.notes.append((time.monotonic(), self.saving_seconds))

    def _save_state(self) -> None:
        started = time.monotonic()
        super()._save_state()
        self.num_states += 1
        self.saving_seconds += time.monotonic() - started

    def save_times(self) -> list[float]:
        """Seconds of each save but the one before the first step, which holds no moments and slots yet."""
        saved = [seconds for _, seconds in self.notes] + [self.saving_seconds]
        return [after - before for before, after in zip(saved, saved[1:], strict=False) if after > before]

    def step_times(self) -> list[float]:
        """Seconds of each step but the first, without saves."""
        pairs = zip(self.notes, self.notes[1:], strict=False)
        return [time - earlier - (saved - before) for (earlier, before), (time, saved) in pairs]


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
    print(
        f"\n4x4 recipe with --state_steps 50: {trainer.num_states} saves took {trainer.saving_seconds:.2f} s of "
        f"{trainer.seconds:.1f} s, {100 * trainer.saving_seconds / trainer.seconds:.2f} %"
    )


def train(
    name: str, size: int, argv: list[str], steps: int, state_steps: int, run_dir: Path, cpu_threads: int | None
) -> TimedTrainer:
    """Trains on made-up Sudokus of this size and prints what the saves cost."""
    _, model_args, args = read_arguments(SudokuArguments, argv)
    args.output_dir, args.max_steps, args.state_steps, args.eval_steps = str(run_dir), steps, state_steps, None
    accelerator = make_accelerator(args, str(run_dir))
    share_cpu_cores(accelerator, cpu_threads)
    model = seeded_model(model_args.to_config(size + 2, size * size, num_puzzle_identifiers=1), args.seed)
    batches = made_up_batches(size, args.global_batch_size)
    trainer = TimedTrainer(model, args, batches, accelerator)
    trainer.train()
    newest = max(run_dir.glob("state-*"))
    num_bytes = sum(file.stat().st_size for file in newest.iterdir())
    saves, plain = trainer.save_times(), plain_writes(run_dir / "plain", num_bytes, len(trainer.save_times()))
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


def made_up_batches(size: int, rows: int) -> list[dict[str, torch.Tensor]]:
    """Four batches of random cells: neither the time of a step nor that of a save depends on what is in them."""
    draws = torch.Generator().manual_seed(0)

    def cells(first: int) -> torch.Tensor:
        return torch.randint(first, size + 2, (rows, size * size), generator=draws)

    identifiers = torch.zeros(rows, dtype=torch.int64)
    return [{"input_ids": cells(1), "labels": cells(2), "puzzle_identifiers": identifiers} for _ in range(4)]


def plain_writes(path: Path, num_bytes: int, times: int) -> list[float]:
    """Seconds that it takes to write as many bytes and to bring them to the disk."""
    data = os.urandom(num_bytes)

    def write() -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return [seconds_of(write) for _ in range(times)]


def seconds_of(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
