"""Passes over the training batches, strung together without end; with their place, so that a run can resume there."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset

from ..hrm.errors import CheckpointError, DataError


class BatchStream(Iterator[dict[str, Any]]):
    """One batch after the other, pass after pass.

    Args:
        batches: every pass over it yields this process's part of global batches. A datasets.IterableDataset is told
            the number of the pass by `set_epoch` and saves its own place (but no shuffle buffer). Any other iterable
            is brought back by drawing the pass again, with torch's global generator as it was at the pass's start; a
            state whose last batch is then another one is refused.
    """

    def __init__(self, batches: Iterable[dict[str, Any]]):
        self.batches = batches
        self.pass_number = 0
        self.taken = 0  # batches taken in this pass
        self.generator = torch.get_rng_state()  # as the pass began
        self._iterator: Iterator[dict[str, Any]] | None = None
        self._last: dict[str, Any] | None = None
        self._loaded: dict[str, Any] | None = None  # until the next batch: datasets forgets a state that it was given

    def __next__(self) -> dict[str, Any]:
        """The next batch. Raises DataError for a pass that has no batch at all."""
        if self._iterator is None:
            self._start_pass()
        while (batch := next(self._iterator, None)) is None:
            if self.taken == 0:
                raise DataError("the data gives no whole batch in a pass: lower global_batch_size or add puzzles")
            self.pass_number, self.taken = self.pass_number + 1, 0
            self._start_pass()
        self.taken += 1
        self._last, self._loaded = batch, None
        return batch

    def _start_pass(self) -> None:
        self.generator = torch.get_rng_state()
        if isinstance(self.batches, IterableDataset):
            self.batches.set_epoch(self.pass_number)  # another pass draws other batches
        self._iterator = iter(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: right after the batch given last."""
        if self._loaded is not None:
            return self._loaded
        own = self.batches.state_dict() if isinstance(self.batches, IterableDataset) else None
        last = _digest(self._last) if own is None and self._last is not None else None
        place = {"pass": self.pass_number, "taken": self.taken, "batches": own, "last": last}
        return place | {"generator": self.generator}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues right after the batch at which `state` was taken.

        Raises CheckpointError where the batches end before that place or are drawn in another order, ArgumentError for
        the state of another data set.
        """
        self.pass_number, self.taken, self._loaded = state["pass"], state["taken"], state
        torch.set_rng_state(state["generator"])
        if isinstance(self.batches, IterableDataset):
            self.batches.load_state_dict(state["batches"])
            self._start_pass()
            return
        self._start_pass()
        for number in range(1, self.taken + 1):
            self._last = next(self._iterator, None)
            if self._last is None:
                place = f"the saved state stands after batch {self.taken} of a pass"
                raise CheckpointError(f"{place}, but these training batches end after {number - 1}")
        if self.taken and _digest(self._last) != state["last"]:
            advice = "draw them in the same order again, from a generator with a seed"
            place = f"batch {self.taken} of the pass"
            raise CheckpointError(f"{place} is another one than when the state was saved: {advice}")


def _digest(batch: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(batch):
        values = np.ascontiguousarray(torch.as_tensor(batch[name]).cpu().numpy())
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values)
    return digest.hexdigest()
