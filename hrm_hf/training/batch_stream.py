"""Passes over the training batches, strung together without end; with their place, so that a run can go on there."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from datasets import IterableDataset

from ..errors import CheckpointError, DataError


class BatchStream(Iterator[dict[str, Any]]):
    """One batch after the other, pass after pass.

    Args:
        batches: every pass over it yields this process's part of global batches. A datasets.IterableDataset is told
            the number of the pass by `set_epoch`, and its own state says where it stands; any other iterable is
            brought back to its place by drawing the batches of the pass again.
    """

    def __init__(self, batches: Iterable[dict[str, Any]]):
        self.batches = batches
        self.pass_number = 0
        self.taken = 0  # batches taken in this pass
        self._iterator: Iterator[dict[str, Any]] | None = None

    def __next__(self) -> dict[str, Any]:
        """The next batch.

        Raises:
            DataError: a pass that has no batch at all.
        """
        if self._iterator is None:
            self._iterator = self._start_pass()
        batch = next(self._iterator, None)
        while batch is None:
            if self.taken == 0:
                raise DataError(
                    "the training set gives no whole batch in a pass: use a smaller global_batch_size or more puzzles"
                )
            self.pass_number, self.taken = self.pass_number + 1, 0
            self._iterator = self._start_pass()
            batch = next(self._iterator, None)
        self.taken += 1
        return batch

    def _start_pass(self) -> Iterator[dict[str, Any]]:
        if isinstance(self.batches, IterableDataset):
            self.batches.set_epoch(self.pass_number)  # another pass draws other batches
        return iter(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: right after the batch given last. JSON-able for `hrm_hf.data.training_batches`."""
        own = self.batches.state_dict() if isinstance(self.batches, IterableDataset) else None
        return {"pass": self.pass_number, "taken": self.taken, "batches": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on right after the batch at which `state` was taken.

        Raises:
            ArgumentError: the state is of another data set, see `PuzzleBatches.load_state_dict`.
            CheckpointError: the batches end before that place.
        """
        self.pass_number, self.taken = state["pass"], state["taken"]
        if isinstance(self.batches, IterableDataset):
            self.batches.load_state_dict(state["batches"])
            self._iterator = self._start_pass()
            return
        self._iterator = self._start_pass()
        skipped = sum(1 for _ in islice(self._iterator, self.taken))
        if skipped < self.taken:
            raise CheckpointError(
                f"the saved state stands after batch {self.taken} of a pass, but these training batches end after "
                f"{skipped}"
            )
