"""AdamATan2 in plain PyTorch: the rule of the `adam-atan2` package (0.0.3), which needs CUDA to be imported at all.

The published model was trained with it. Scale invariant, so it has no epsilon.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch

from ..hrm.errors import ArgumentError
from .slots import on_device

_COMPILED_FROM = 4096  # elements; below, the plain operations cost nothing, and odd sizes would compile again


def atan2_right(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """atan2(y, x) for x >= 0, float32, within 3e-7 of its value where either is above 1e-30; 0 where both are 0.

    (A first moment that small comes with a second one that is 0 in float32, or at least 3.7e-23 after its root.)

    Only additions, products and one division, so that a compiler makes one pass of it: beside the memory traffic of an
    optimiser step it costs next to nothing, where the library's atan2 costs more than all the rest of the step.
    """
    height = y.abs()
    steep = height > x
    tiny = torch.finfo(torch.float32).tiny  # for 0 / 0
    ratio = torch.where(steep, x, height) / (torch.where(steep, height, x) + tiny)  # in [0, 1]
    square = ratio * ratio
    # atan(t) = t * P(t * t) for t in [0, 1], least maximal error (6e-9). The numbers stand in the code and not in a
    # global tuple, which the compiler would read from memory as 64-bit inputs.
    p = 0.0024567231289035416 * square - 0.01440135120246186
    p = p * square + 0.0397812106189336
    p = p * square - 0.07234856016108639
    p = p * square + 0.1049894525140292
    p = p * square - 0.1416122889669888
    p = p * square + 0.19985906706322493
    p = p * square - 0.33332597022181765
    p = p * square + 0.9999998863809346
    angle = p * ratio
    angle = torch.where(steep, 1.5707963267948966 - angle, angle)
    return torch.where(y < 0, -angle, angle)


def _update(parameter, gradient, mean, square, factors) -> None:  # tensors (n,) float32, but factors (6,)
    """One update in place, to be compiled."""
    keep, gradient_share, square_keep, square_share, square_scale, rate = factors.unbind()
    new_mean = mean + gradient_share * (gradient - mean)
    new_square = square * square_keep + square_share * (gradient * gradient)
    angle = atan2_right(new_mean, new_square.sqrt() * square_scale)
    mean.copy_(new_mean)
    square.copy_(new_square)
    parameter.copy_(parameter * keep - rate * angle)


@cache
def _compiled_update() -> Callable:
    # "fast": products and sums may become fused multiply-adds, as in the library's own kernels
    options = {"cpp.enable_floating_point_contract_flag": "fast"}
    return torch.compile(_update, fullgraph=True, dynamic=True, options=options)


class AdamATan2(torch.optim.Optimizer):
    """Adam with atan2(m, sqrt(v)) in place of m / (sqrt(v) + eps), and decoupled weight decay.

    Args:
        params: float32 parameters with dense gradients.
        lr: 0 or more (HRM warms up from 0).
        betas: decay of the first and the second moment, each in [0, 1), else ArgumentError.
        weight_decay: 0 or more: p <- p * (1 - lr * weight_decay) before the update.
        compiled: one compiled pass over each parameter in place of eight operations; equal up to rounding.

    The first moment's bias correction stands OUTSIDE the atan2, as in the package's kernel; that differs from
    atan2(m_hat, sqrt(v_hat)) in the first tens of steps.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-2,
        compiled: bool = False,
    ):
        if not (lr >= 0 and weight_decay >= 0 and all(0 <= beta < 1 for beta in betas)):
            found = f"lr is {lr} and weight_decay {weight_decay}, allowed are 0 or more"
            raise ArgumentError(f"AdamATan2: {found}; betas are {betas}, allowed are values in [0, 1)")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self.compiled = compiled

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient; returns the closure's loss, if one was given."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            alike: dict[tuple[int, torch.device], list[torch.nn.Parameter]] = {}  # by the number of their updates
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                alike.setdefault((state["step"], parameter.device), []).append(parameter)
            for (step, device), parameters in alike.items():
                self._update(parameters, group, step, device)
        return loss

    def _update(self, parameters: list[torch.nn.Parameter], group: dict, step: int, device: torch.device) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        keep, correction1, correction2 = 1 - lr * group["weight_decay"], 1 - beta1**step, 1 - beta2**step
        states = [self.state[parameter] for parameter in parameters]
        tensors = [(p, p.grad, s["exp_avg"], s["exp_avg_sq"]) for p, s in zip(parameters, states, strict=True)]
        if self.compiled:
            numbers = (keep, 1 - beta1, beta2, 1 - beta2, correction2**-0.5, lr / correction1)
            factors = on_device(torch.tensor(numbers, dtype=torch.float32), device)
            rest = []
            for four in tensors:
                if four[0].numel() >= _COMPILED_FROM and all(tensor.is_contiguous() for tensor in four):
                    _compiled_update()(*(tensor.detach().view(-1) for tensor in four), factors)
                else:
                    rest.append(four)
            tensors = rest
        if not tensors:
            return
        # on a GPU each line but atan2 is one launch for all tensors
        values, gradients, means, squares = map(list, zip(*tensors, strict=True))
        torch._foreach_mul_(values, keep)
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, correction2**0.5)
        angles = [torch.atan2(mean, root, out=root) for mean, root in zip(means, roots, strict=True)]
        torch._foreach_add_(values, angles, alpha=-lr / correction1)


def make_adam_atan2(
    parameters: list[torch.nn.Parameter],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    compiled: bool = False,
) -> torch.optim.Optimizer:
    """The `adam-atan2` package's fused optimiser where the tensors are on CUDA and its import works, else ours."""
    if parameters and all(parameter.is_cuda for parameter in parameters):
        try:
            from adam_atan2 import AdamATan2 as FusedAdamATan2
        except ImportError:  # not installed, or installed without its compiled backend
            pass
        else:
            return FusedAdamATan2(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
    return AdamATan2([{"params": parameters}], lr=lr, betas=betas, weight_decay=weight_decay, compiled=compiled)


class NamedMoments:
    """The state of an optimiser under the names of its parameters, given in its order; PyTorch has their numbers."""

    def __init__(self, optimizer: torch.optim.Optimizer, names: list[str]):
        self.optimizer, self.names = optimizer, names

    def state_dict(self) -> dict[str, Any]:
        """Moments and number of updates of each parameter that was updated."""
        state = self.optimizer.state_dict()["state"]
        return {name: state[number] for number, name in enumerate(self.names) if number in state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        whole = self.optimizer.state_dict()
        whole["state"] = {number: state[name] for number, name in enumerate(self.names) if name in state}
        self.optimizer.load_state_dict(whole)
