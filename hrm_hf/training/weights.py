"""Fresh weights from a seed, and the moving average of weights that evaluation and export use (as TRM does)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..hrm.configuration_hrm import HrmConfig
from ..hrm.modeling_hrm import HrmForPuzzleSolving


def seeded_model(config: HrmConfig, seed: int) -> HrmForPuzzleSolving:
    """A fresh model on the CPU; the same config and seed give the same weights. Global generators stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers initialises from the global generator
        return HrmForPuzzleSolving(config)


class WeightAverage:
    """Keeps average <- decay * average + (1 - decay) * weight for each given parameter.

    The decay, in [0, 1), warms up as (1 + t) / (10 + t), so that the random start does not weigh on short runs.
    Without `warmup` it is the final one from the first update on (as TRM does). The puzzle table should be left out: a
    dense pass over it costs more than the step.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float, warmup: bool = True):
        self.parameters = list(parameters)
        self.decay, self.warmup = decay, warmup
        self.num_updates = 0
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights into the average."""
        self.num_updates += 1
        warm = (1 + self.num_updates) / (10 + self.num_updates) if self.warmup else 1.0
        decay = min(self.decay, warm)
        # By one operation for all: average + (1 - decay) * (weight - average).
        get_ema_multi_avg_fn(decay)(self.averages, [parameter.detach() for parameter in self.parameters], None)

    def state_dict(self) -> dict[str, Any]:
        """The averages under the numbers of their parameters."""
        averages = {str(number): average for number, average in enumerate(self.averages)}
        return {"num_updates": self.num_updates, "averages": averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_updates = state["num_updates"]
        for number, average in enumerate(self.averages):
            average.copy_(state["averages"][str(number)])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the averages inside the block, and their own values again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            own = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(own)
