"""Sign-SGD for the puzzle table: reads the rows that occurred in the global batch, updates only those.

The gradient is the sparse one of `nn.Embedding(sparse=True)`, so nothing of the table's size is ever allocated (ARC's
table has 450 M values), and any batch size works.
"""

from collections.abc import Callable

import torch


def sum_rows(identifiers: torch.Tensor, gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From identifiers (M,) int64 and gradients (M, E): the identifiers sorted (M,), and the summed gradient of each
    (M, E), so that equal identifiers have equal rows. Shapes depend on no value, so the host waits for nothing.
    """
    identifiers, order = identifiers.sort(stable=True)
    begins = torch.ones_like(identifiers)
    begins[1:] = identifiers[1:] != identifiers[:-1]
    slots = begins.cumsum(0) - 1  # (M,) number of the distinct identifier
    sums = torch.zeros_like(gradients).index_add_(0, slots, gradients[order])
    return identifiers, sums[slots]


class SparseSignSGD(torch.optim.Optimizer):
    """row <- row * (1 - lr * weight_decay) - lr * sign(summed gradient), for the rows that occurred and no others.

    A row whose summed gradient is 0 still decays (sign 0), as in the published code.

    Args:
        table: the puzzle table's weight (num_puzzle_identifiers, E), with sparse gradients.
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

    def gradient_rows(self) -> torch.Tensor | None:
        """Rows (M, E) of the global gradient: one for each distinct identifier, zeros for the repeated ones. So their
        norm is the gradient's, and on an accelerator the host need not wait for the number of distinct ones.
        """
        if (found := self.global_rows()) is None:
            return None
        identifiers, sums = found
        sums[1:].masked_fill_((identifiers[1:] == identifiers[:-1])[:, None], 0)
        return sums

    def global_rows(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """`sum_rows` of all processes' gradients; None without a gradient."""
        gradient = self.param_groups[0]["params"][0].grad
        if gradient is None:
            return None
        # as they came, equal identifiers apart: summing them here would wait for the device
        identifiers, rows = gradient._indices()[0], gradient._values() / self.loss_scale
        if self.gather is not None:
            # Gradients of fewer rows are filled up with one that is there, gradient 0.
            missing = self.local_rows - len(identifiers)
            identifiers = self.gather(torch.cat((identifiers, identifiers[:1].expand(missing))))
            rows = self.gather(torch.cat((rows, rows.new_zeros(missing, rows.shape[1]))))
        return sum_rows(identifiers, rows)

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss, if one was given."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        found = self.global_rows()
        if found is not None:
            group = self.param_groups[0]
            table, lr = group["params"][0], group["lr"]
            identifiers, sums = found
            rows = table[identifiers] * (1 - lr * group["weight_decay"]) - lr * sums.sign()
            table.index_copy_(0, identifiers, rows)
        return loss
