"""The slots of adaptive computation in training: what each row of the batch works on, for how long, and its carry.

A slot keeps its puzzle for several segments (one optimiser step each); when it halts it takes the puzzle that the next
batch offers at its place. HRM.md section 2 in words: arXiv 2506.21734 section 2, details as in the published code.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..hrm.halting import select_rows, wants_to_halt
from ..hrm.modeling_hrm import HrmCarry, HrmForPuzzleSolving

Batch = dict[str, torch.Tensor]  # input_ids (B, S), labels (B, S), puzzle_identifiers (B,): int64


def on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor there; to a CUDA device through pinned memory, so that the host does not wait for the copy."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    # to mps PyTorch 2.13 may copy what has been freed by then (pytorch/pytorch#189690)
    return tensor.to(device, non_blocking=device.type != "mps")


@dataclass
class ActSlots:
    """State of B slots between two segments."""

    carry: HrmCarry  # after the last segment; that of halted slots is replaced at the start of the next
    steps: torch.Tensor  # (B,) int32, segments done on the slot's puzzle
    halted: torch.Tensor  # (B,) bool
    data: Batch  # the puzzles that the slots work on

    @classmethod
    def all_halted(cls, model: HrmForPuzzleSolving, offered: Batch) -> "ActSlots":
        """Slots as they stand before the first segment: every one will take the puzzle offered to it."""
        rows = len(offered["input_ids"])
        steps = torch.zeros(rows, dtype=torch.int32, device=offered["input_ids"].device)
        return cls(model.initial_carry(rows), steps, halted=steps == 0, data=offered)

    def refilled(self, model: HrmForPuzzleSolving, offered: Batch) -> "ActSlots":
        """Halted slots take their row of `offered`, with steps 0 and a fresh carry; the others drop theirs."""
        carry, steps = model.reset_carry(self.carry, self.halted), self.steps.masked_fill(self.halted, 0)
        data = {name: select_rows(self.halted, offered[name], old) for name, old in self.data.items()}
        return ActSlots(carry, steps, self.halted, data)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All of it as tensors of B rows."""
        own = {"z_H": self.carry.z_H, "z_L": self.carry.z_L, "steps": self.steps, "halted": self.halted}
        return own | self.data

    @classmethod
    def from_state_dict(cls, state: dict[str, torch.Tensor]) -> "ActSlots":
        state = dict(state)
        carry = HrmCarry(state.pop("z_H"), state.pop("z_L"))
        return cls(carry, state.pop("steps"), state.pop("halted"), data=state)


class SlotParts(list[ActSlots]):
    """The slots of one process, one entry for each accumulation part; empty before the first step."""

    def __init__(self, num_parts: int, device: torch.device):
        super().__init__()
        self.num_parts, self.device = num_parts, device

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The rows of all parts together, so that they can be cut into other parts."""
        parts = [part.state_dict() for part in self]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Cuts the rows into as many parts as there are now."""
        pieces = {name: rows.to(self.device).chunk(self.num_parts) for name, rows in state.items()}
        parts = [{name: piece[i].clone() for name, piece in pieces.items()} for i in range(self.num_parts)]
        self[:] = map(ActSlots.from_state_dict, parts if state else [])


class ExplorationDraws(NamedTuple):
    """What one segment of one training batch draws, for every slot. A test can hand in recorded draws."""

    uniform: torch.Tensor  # (B,) float32 in [0, 1)
    min_steps: torch.Tensor  # (B,) int32 in [2, halt_max_steps]


class Exploration:
    """Draws for all `slots` of the global batch how many of `max_steps` segments each must run: equal everywhere."""

    def __init__(self, slots: int, max_steps: int, seed: int):
        self.slots, self.max_steps = slots, max_steps
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> ExplorationDraws:
        """First the uniform reals, then the integers; with `max_steps` = 1 every integer is 1: nothing to explore."""
        how = {"size": (self.slots,), "generator": self.generator}
        uniform = torch.rand(**how)
        min_steps = torch.randint(min(2, self.max_steps), self.max_steps + 1, **how, dtype=torch.int32)
        return ExplorationDraws(uniform, min_steps)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.generator.set_state(state["generator"])


def exploration_min_steps(draws: ExplorationDraws, exploration_prob: float) -> torch.Tensor:
    """(B,) int32: the step before which a slot may not halt: the drawn one with `exploration_prob`, else 0."""
    return draws.min_steps.where(draws.uniform < exploration_prob, 0)


def training_halt(
    steps: torch.Tensor,
    q_halt_logits: torch.Tensor,
    q_continue_logits: torch.Tensor,
    min_steps: torch.Tensor,
    halt_max_steps: int,
    halting: str = "q_learning",
) -> torch.Tensor:
    """(B,) bool: which slots stop after this segment.

    steps: (B,) int32, segments done on the slot's puzzle, this one included; at `halt_max_steps` every slot stops.
    q_halt_logits, q_continue_logits: (B,). min_steps: (B,) int32 from `exploration_min_steps`; steps equal to it may
    halt. halting: the model's rule, see `wants_to_halt`.
    """
    last = steps >= halt_max_steps
    return last | (wants_to_halt(q_halt_logits, q_continue_logits, halting) & (steps >= min_steps))
