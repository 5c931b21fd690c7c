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
        gather: concatenates a tensor of one process with those of all others along the first axis; every process must
            hold equally many rows. Default: one process.
    """

    def __init__(
        self,
        table: torch.nn.Parameter,
        lr: float,
        weight_decay: float,
        gather: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    ):
        super().__init__([table], {"lr": lr, "weight_decay": weight_decay})
        self.gather = gather

    def global_gradient(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Distinct identifiers (U,) of all processes and their summed gradients (U, E); None without a gradient."""
        gradient = self.param_groups[0]["params"][0].grad
        if gradient is None:
            return None
        # Uncoalesced on purpose: every process holds one row per puzzle of its batch, so the shapes agree.
        return sum_rows(self.gather(gradient._indices()[0]), self.gather(gradient._values()))

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
