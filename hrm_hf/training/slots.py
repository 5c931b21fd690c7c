"""The slots of adaptive computation in training: what each row of the batch works on, for how long, and its carry.

A slot keeps its puzzle for several segments (one optimiser step each); when it halts it takes the puzzle that the next
batch offers at its place. HRM.md section 2 in words: arXiv 2506.21734 section 2, details as in the published code.
"""

from dataclasses import dataclass

import torch

from ..hrm.halting import select_rows
from ..hrm.modeling_hrm import HrmCarry, HrmForPuzzleSolving

Batch = dict[str, torch.Tensor]  # input_ids (B, S), labels (B, S), puzzle_identifiers (B,): int64


def on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor there; to a CUDA device through pinned memory, so that the host does not wait for the copy."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass
class ActSlots:
    """State of B slots between two segments.

    Attributes:
        carry: states after the last segment; those of halted slots are replaced at the start of the next.
        steps: (B,) int32, segments done on the slot's puzzle.
        halted: (B,) bool.
        data: the puzzles that the slots work on.
    """

    carry: HrmCarry
    steps: torch.Tensor
    halted: torch.Tensor
    data: Batch

    @classmethod
    def all_halted(cls, model: HrmForPuzzleSolving, offered: Batch) -> "ActSlots":
        """Slots as they stand before the first segment: every one will take the puzzle offered to it."""
        rows = len(offered["input_ids"])
        device = offered["input_ids"].device
        return cls(
            carry=model.initial_carry(rows),
            steps=torch.zeros(rows, dtype=torch.int32, device=device),
            halted=torch.ones(rows, dtype=torch.bool, device=device),
            data=offered,
        )

    def refilled(self, model: HrmForPuzzleSolving, offered: Batch) -> "ActSlots":
        """Halted slots take their row of `offered`, with steps 0 and a fresh carry; the others drop theirs."""
        return ActSlots(
            carry=model.reset_carry(self.carry, self.halted),
            steps=self.steps.masked_fill(self.halted, 0),
            halted=self.halted,
            data={name: select_rows(self.halted, offered[name], old) for name, old in self.data.items()},
        )
