"""Sign-SGD for the puzzle table: reads the rows that occurred in the global batch, updates only those.

The gradient is the sparse one of `nn.Embedding(sparse=True)`, so nothing of the table's size is ever allocated (ARC's
table has 450 M values), and any batch size works.
"""

from collections.abc import Callable

import torch


def sum_rows(identifiers: torch.Tensor, gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums the gradients of equal identifiers.

    Args:
        identifiers: (M,) int64.
        gradients: (M, E).
    Returns:
        sorted distinct identifiers (U,) and their summed gradients (U, E).
    """
    distinct, slots = torch.unique(identifiers, return_inverse=True)
    sums = gradients.new_zeros(len(distinct), gradients.shape[1]).index_add_(0, slots, gradients)
    return distinct, sums


class SparseSignSGD(torch.optim.Optimizer):
    """row <- row * (1 - lr * weight_decay) - lr * sign(summed gradient), for the rows that occurred and no others.

    A row whose summed gradient is 0 still decays (sign 0), as in the published code.

    Args:
        table: the puzzle table's weight (num_puzzle_identifiers, E), with sparse gradients.
        lr: learning rate.
        weight_decay: decay of the rows that occurred.
        gather: concatenates a tensor of one process with those of all others along the first axis, where all shapes
            are equal. None: one process.
        local_rows: puzzles that one process has in a step, at least; every process gathers so many rows. Needed with
            `gather`.
        loss_scale: factor by which the loss was multiplied; the gradient is divided by it.
    """

    def __init__(
        self,
        table: torch.nn.Parameter,
        lr: float,
        weight_decay: float,
        gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
        local_rows: int = 0,
        loss_scale: float = 1.0,
    ):
        super().__init__([table], {"lr": lr, "weight_decay": weight_decay})
        self.gather = gather
        self.local_rows = local_rows
        self.loss_scale = loss_scale

    def global_gradient(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Distinct identifiers (U,) of all processes and their summed gradients (U, E); None without a gradient."""
        gradient = self.param_groups[0]["params"][0].grad
        if gradient is None:
            return None
        gradient = gradient.coalesce()
        identifiers, rows = gradient.indices()[0], gradient.values() / self.loss_scale
        if self.gather is not None:
            # Processes hold different numbers of distinct puzzles: fill up with one that is there, gradient 0.
            missing = self.local_rows - len(identifiers)
            identifiers = self.gather(torch.cat((identifiers, identifiers[:1].expand(missing))))
            rows = self.gather(torch.cat((rows, rows.new_zeros(missing, rows.shape[1]))))
        return sum_rows(identifiers, rows)

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss, if one was given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = self.global_gradient()
        if found is not None:
            group = self.param_groups[0]
            table, lr = group["params"][0], group["lr"]
            identifiers, sums = found
            rows = table[identifiers] * (1 - lr * group["weight_decay"]) - lr * sums.sign()
            table.index_copy_(0, identifiers, rows)
        return loss
