"""AdamATan2 in plain PyTorch: the rule of the `adam-atan2` package (0.0.3), which needs CUDA to be imported at all.

The published model was trained with it. Scale invariant, so it has no epsilon.
"""

from collections.abc import Iterable

import torch

from ..errors import ArgumentError


class AdamATan2(torch.optim.Optimizer):
    """Adam with atan2(m, sqrt(v)) in place of m / (sqrt(v) + eps), and decoupled weight decay.

    Args:
        params: float32 parameters with dense gradients.
        lr: learning rate, 0 or more (HRM warms up from 0).
        betas: decay of the first and the second moment, each in [0, 1).
        weight_decay: decoupled: p <- p * (1 - lr * weight_decay) before the update.
    Raises:
        ArgumentError: a value outside these ranges.

    The first moment's bias correction stands OUTSIDE the atan2, as in the package's kernel; that differs from
    atan2(m_hat, sqrt(v_hat)) in the first tens of steps.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-2,
    ):
        for name, value, ok, allowed in (
            ("lr", lr, lr >= 0, "0 or more"),
            ("betas[0]", betas[0], 0 <= betas[0] < 1, "0 <= beta < 1"),
            ("betas[1]", betas[1], 0 <= betas[1] < 1, "0 <= beta < 1"),
            ("weight_decay", weight_decay, weight_decay >= 0, "0 or more"),
        ):
            if not ok:
                raise ArgumentError(f"AdamATan2: {name} is {value}; allowed is {allowed}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient; returns the closure's loss, if one was given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.nn.Parameter, group: dict) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        gradient, mean, square = parameter.grad, state["exp_avg"], state["exp_avg_sq"]
        correction1 = 1 - beta1 ** state["step"]
        correction2 = 1 - beta2 ** state["step"]

        parameter.mul_(1 - lr * group["weight_decay"])
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        parameter.add_(torch.atan2(mean, square.sqrt().div_(correction2**0.5)), alpha=-lr / correction1)


def make_adam_atan2(
    parameters: list[torch.nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.Optimizer:
    """The `adam-atan2` package's fused optimiser where the tensors are on CUDA and its import works, else ours."""
    if parameters and all(parameter.is_cuda for parameter in parameters):
        try:
            from adam_atan2 import AdamATan2 as FusedAdamATan2
        except ImportError:  # not installed, or installed without its compiled backend
            pass
        else:
            return FusedAdamATan2(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
    return AdamATan2(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
