"""Notices NaN and infinity in losses, gradients and weights before they are saved, and says where they are."""

import torch

from ..hrm.errors import HrmError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from .slots import ActSlots


class NonFiniteError(HrmError):
    """NaN or infinity in a loss, a gradient or a weight: the run stops before it is saved."""


class FiniteWatch:
    """Looks at every step; on a CPU at once, on other devices without waiting for them, until `check` is called."""

    def __init__(self, model: HrmForPuzzleSolving, device: torch.device):
        self.model = model
        self.device = device
        self._first_bad_step = torch.zeros((), dtype=torch.int64, device=device)  # 0 = none

    @torch.no_grad()
    def look(
        self,
        step: int,
        sums: dict[str, torch.Tensor],
        row_losses: list[torch.Tensor],
        slots: list[ActSlots],
        first_row: int,
    ) -> None:
        """Looks at a step's losses and gradients, before the weights are touched; raises as `check`, with the place.

        sums: 0-d, see `segment_sums`. row_losses: (B_i,) losses of the rows of each accumulation part; slots: what
        these rows work on; first_row: where they begin in the global batch.
        """
        norms = torch._foreach_norm([stored_values(p.grad) for p in self.model.parameters() if p.grad is not None])
        finite = torch.stack([*sums.values()]).isfinite().all() & torch.stack(norms).isfinite().all()
        if self.device.type != "cpu":
            self._first_bad_step = torch.where((self._first_bad_step == 0) & ~finite, step, self._first_bad_step)
        elif not finite:
            raise NonFiniteError(f"step {step}: {self._what_is_wrong(row_losses, slots, first_row)}")

    @torch.no_grad()
    def check(self, step: int) -> None:
        """Looks at the weights as well and waits for the device, before anything is saved. Raises NonFiniteError."""
        bad = self._bad_weights()
        first = int(self._first_bad_step)
        if first:
            since = f"; weights with it since: {', '.join(bad)}" if bad else ""
            raise NonFiniteError(f"step {first}: a loss or gradient is NaN or infinite{since}")
        if bad:
            raise NonFiniteError(f"step {step}: the weight {bad[0]} holds NaN or infinity")

    def _bad_weights(self) -> list[str]:
        return [name for name, p in self.model.named_parameters() if not p.isfinite().all()]

    def _what_is_wrong(self, row_losses: list[torch.Tensor], slots: list[ActSlots], first_row: int) -> str:
        if bad := self._bad_weights():
            return f"the weight {bad[0]} holds NaN or infinity"
        losses = torch.cat(row_losses)
        for row in (~losses.isfinite()).nonzero().flatten().tolist():
            identifier = torch.cat([part.data["puzzle_identifiers"] for part in slots])[row].item()
            return f"the loss of row {first_row + row} (puzzle identifier {identifier}) is {losses[row].item()}"
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not stored_values(parameter.grad).isfinite().all():
                return f"the gradient of {name} holds NaN or infinity"
        return "the norm of a gradient is too large for float32"


def stored_values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient._values() if gradient.is_sparse else gradient
