"""Which examples make up each training batch: groups -> variants -> examples, drawn for the global batch. Only numpy.

The rules are those of the published code. An epoch visits every group once in random order; one variant of the group
is drawn; all its examples, in random order, go into the batch until the batch is full (those that no longer fit are
dropped). A pass strings several epochs together, batches crossing the bounds of epochs; its last incomplete batch is
dropped.

Unlike the published code all draws come from one generator per epoch, seeded with (seed, pass, epoch): the sequence of
global batches knows nothing of processes, and any point of it is restored without replaying batches.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..hrm.errors import ArgumentError


class BatchDraw(NamedTuple):
    """One global batch: three int64 arrays (B,), and a bool one: the row opens its group's visit."""

    groups: np.ndarray
    variants: np.ndarray
    examples: np.ndarray
    first: np.ndarray


class GroupSampler:
    """An iterator over the global batches of one pass, each a BatchDraw.

    num_variants, num_examples: integer arrays (num_groups,), at least 1 each: variants of a group, examples of each of
    its variants. epochs_per_pass: None for a pass without end. pass_index: number of this pass, so that passes differ.
    `generator` may be used for further draws that belong to the batch just given (they become part of the state).
    """

    def __init__(
        self,
        num_variants: np.ndarray,
        num_examples: np.ndarray,
        global_batch_size: int,
        seed: int,
        epochs_per_pass: int | None = None,
        pass_index: int = 0,
    ) -> None:
        numbers = {"global_batch_size": global_batch_size, "seed": seed, "epochs_per_pass": epochs_per_pass}
        for name, value in numbers.items():
            least = 0 if name == "seed" else 1
            if value is not None and value < least:
                raise ArgumentError(f"{name} is {value}, allowed are {least} and above")
        if epochs_per_pass is not None and (held := epochs_per_pass * int(num_examples.sum())) < global_batch_size:
            passed = f"a pass of {epochs_per_pass} epochs has {held} examples"
            raise ArgumentError(f"{passed}, fewer than one global batch of {global_batch_size}")
        self.num_variants, self.num_examples = num_variants, num_examples
        self.global_batch_size, self.seed = global_batch_size, seed
        self.epochs_per_pass, self.pass_index = epochs_per_pass, pass_index
        self._one_variant = bool((num_variants == 1).all())
        self._one_example = bool((num_examples == 1).all())
        self._start_epoch(0)

    def _start_epoch(self, epoch: int) -> None:
        num_groups = len(self.num_variants)
        self.epoch, self.cursor = epoch, 0
        self.generator = np.random.default_rng([self.seed, self.pass_index, epoch])
        self._order = self.generator.permutation(num_groups)  # (num_groups,)
        if self._one_variant:
            self._variants = np.broadcast_to(np.int64(0), num_groups)
        else:
            self._variants = self.generator.integers(0, self.num_variants[self._order])  # in visiting order

    def __iter__(self) -> Iterator[BatchDraw]:
        return self

    def __next__(self) -> BatchDraw:
        parts, room = [], self.global_batch_size
        while room:
            if self.cursor == len(self._order):
                if self.epochs_per_pass is not None and self.epoch + 1 >= self.epochs_per_pass:
                    raise StopIteration
                self._start_epoch(self.epoch + 1)
            parts.append(self._take(room))
            room -= len(parts[-1].groups)
        return parts[0] if len(parts) == 1 else BatchDraw(*map(np.concatenate, zip(*parts, strict=True)))

    def _take(self, room: int) -> BatchDraw:
        """The next groups of this epoch, as many as fill `room` rows or are left."""
        groups = self._order[self.cursor : self.cursor + room]
        variants = self._variants[self.cursor : self.cursor + room]
        if self._one_example:
            self.cursor += len(groups)
            return BatchDraw(groups, variants, np.zeros(len(groups), dtype=np.int64), np.ones(len(groups), dtype=bool))
        counts = self.num_examples[groups]
        ends = counts.cumsum()
        visited = min(int(np.searchsorted(ends, room)) + 1, len(groups))  # the last of them may be cut short
        counts, ends = counts[:visited], ends[:visited]
        owner = np.repeat(np.arange(visited), counts)  # (examples of the visited groups,)
        # Sorting random keys inside each group is a permutation of each group's examples, without a loop.
        shuffled = np.lexsort((self.generator.random(len(owner)), owner))
        examples = shuffled - np.repeat(ends - counts, counts)
        first = np.zeros(len(owner), dtype=bool)
        first[ends - counts] = True
        self.cursor += visited
        return BatchDraw(groups[owner][:room], variants[owner][:room], examples[:room], first[:room])

    def state_dict(self) -> dict[str, object]:
        """Where the sequence stands: JSON-able, of constant size."""
        return {
            "seed": self.seed,
            "num_groups": len(self._order),
            "global_batch_size": self.global_batch_size,
            "pass": self.pass_index,
            "epoch": self.epoch,
            "cursor": self.cursor,
            "generator": self.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue right after the batch at which `state` was taken. Raises ArgumentError for another sequence."""
        own = self.state_dict()
        for name in ("seed", "num_groups", "global_batch_size"):
            if (saved := state.get(name)) != own[name]:
                raise ArgumentError(f"the saved state has {name} {saved!r}, this data set is sampled with {own[name]}")
        if not 0 <= state["cursor"] <= len(self._order):
            raise ArgumentError(f"the saved state's cursor is {state['cursor']}, allowed is 0 to {len(self._order)}")
        self.pass_index = state["pass"]
        self._start_epoch(state["epoch"])
        self.cursor = state["cursor"]
        self.generator.bit_generator.state = state["generator"]
