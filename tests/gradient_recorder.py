"""A trainer that notes what every step does; as a script it trains as examples/train_sudoku.py does and saves that.

python tests/gradient_recorder.py OUT.safetensors [arguments of train_sudoku.py]
"""

import os
import runpy
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from hrm_hf.training import HrmTrainer

TRAIN_SUDOKU = Path(__file__).parents[1] / "examples" / "train_sudoku.py"


class RecordingTrainer(HrmTrainer):
    """Keeps losses (summed over processes), reduced gradients and the number of processes of every step."""

    recorded: dict[str, torch.Tensor] = {}

    def training_step(self, batch, draws=None):
        sums = super().training_step(batch, draws)
        step = self.step + 1
        names = sorted(sums)
        reduced = self.accelerator.reduce(torch.stack([sums[name] for name in names]), reduction="sum")
        for name, value in zip(names, reduced, strict=True):
            self.recorded[f"step{step:02}.sum.{name}"] = value.clone()
        for name, parameter in self.model.named_parameters():
            if parameter.grad.is_sparse:
                _, gradient = self.puzzle_optimizer.global_gradient()
            else:
                gradient = parameter.grad
            self.recorded[f"step{step:02}.grad.{name}"] = gradient.clone()
        halted = torch.cat([slots.halted for slots in self.slots])
        self.recorded[f"step{step:02}.halted"] = self.accelerator.gather(halted)
        self.recorded["num_processes"] = torch.tensor(self.accelerator.num_processes)
        return sums


if __name__ == "__main__":
    target, *argv = sys.argv[1:]
    runpy.run_path(str(TRAIN_SUDOKU))["main"](argv, trainer_class=RecordingTrainer)
    if os.environ.get("RANK", "0") == "0":
        save_file(RecordingTrainer.recorded, target)
