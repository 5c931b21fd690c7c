"""Solving by slots: a puzzle that has halted leaves its slot, and the next of the queue takes it.

A model spends most segments on few puzzles. Here all slots are always at work: no segment is spent on a puzzle that is
solved, the heads read only the rows that need them, and a puzzle is embedded once, when it enters; `attempts` alone
read every row after every segment, and embed a puzzle again.

On a CPU a puzzle of 12 positions or more gets the same answer, segments and q value, bit for bit, in any batch and
order: only products of fewer than 12 rows may add up a row in another order (float32, PyTorch 2.13 with MKL), and that
of the q head, which has one row per puzzle, is padded. On CUDA and in compiled blocks kernels change with the shape: q
values then agree to rounding, and a puzzle whose q_halt and q_continue are that close may take another segment.

B slots, F finished puzzles, S cells, T positions, D hidden width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .compute_dtype import chosen_dtype
from .errors import ArgumentError, PuzzleError
from .halting import wants_to_halt
from .shown_value import is_integer, shown

_LEAST_Q_ROWS = 12  # a product of fewer rows may round them in another way


class ThinkingStep(NamedTuple):
    """What the model thought after one segment."""

    attempt: int  # from 1
    segment: int  # of this attempt, from 1
    sequence: np.ndarray  # (S,) int64 codes
    cell_confidence: np.ndarray  # (S,) float32, the model's probability of each cell's code
    q_halt_logit: float
    pinned: tuple[int, ...]  # cells that this attempt was given as guesses


class SolvedRow(NamedTuple):
    """The answer to one puzzle."""

    sequence: np.ndarray  # (S,) int64 codes, from the last segment of the attempt that counts
    segments: int  # spent on the puzzle
    q_halt_logit: float  # of the same segment as the sequence
    attempts: int = 1  # spent on the puzzle
    tried: Sequence[Any] = ()  # an `attempts.Tried` for each, where attempts were asked for
    steps: Sequence[ThinkingStep] = ()  # where they were asked for

    @property
    def confidence(self) -> float:
        """The sigmoid of `q_halt_logit`."""
        return sigmoid(self.q_halt_logit)


class FinishedRows(NamedTuple):
    """Puzzles that a segment has finished."""

    keys: np.ndarray  # (F,) int64, what they were added under
    sequences: torch.Tensor  # (F, S) int64 codes, on the model's device
    segments: np.ndarray  # (F,) int64
    q_halt_logits: torch.Tensor  # (F,) float32, on the model's device

    def rows(self) -> dict[int, SolvedRow]:
        """By their keys, on the host."""
        found = (self.sequences.cpu().numpy(), self.segments.tolist(), self.q_halt_logits.tolist())
        return dict(zip(self.keys.tolist(), map(SolvedRow, *found), strict=True))


class PuzzleSlots:
    """The puzzles at work and their recurrent states: `add` puts puzzles in, `run_segment` hands out what is done.

    On CUDA `run_segment` waits for the device only where some slot could halt, for one bool per slot. model: an
    `HrmForPuzzleSolving` on its device; the other arguments and their errors are those of its `solve`.
    """

    def __init__(
        self,
        model: Any,
        max_segments: int | None,
        halt: bool,
        compute_dtype: str | None,
        run_block: Callable | None = None,
    ):
        self.max_segments = model.config.halt_max_steps if max_segments is None else max_segments
        check_count("max_segments", self.max_segments)
        if not (run_block is None or callable(run_block)):
            raise ArgumentError(f"run_block is {run_block!r}; allowed: None, or what compiled_block gives")
        self.model, self._halt, self._run_block = model, halt, run_block
        self._core = model.model
        dtype = chosen_dtype(compute_dtype, model.config, execution_device(model))
        if dtype != model.config.compute_dtype:  # a view of the same weights
            self._core, self._core.config = copy(model.model), copy(model.config)
            self._core.config.compute_dtype = dtype
        with torch.no_grad():
            self._weights = self._core.kept_weights()  # cast once, for all segments
        self.keys = np.zeros(0, dtype=np.int64)  # (B,) of the puzzles at work
        self._identifiers = torch.zeros(0, dtype=torch.long, device=execution_device(model))  # (B,)
        self._segments = np.zeros(0, dtype=np.int64)  # (B,) spent so far
        self._carry = self._core.initial_carry(0)  # of (B, T, D)
        self._embeddings = self._carry.z_H  # (B, T, D)

    def __len__(self) -> int:
        return len(self.keys)

    @torch.no_grad()
    def add(
        self, keys: Sequence[int], input_ids: torch.Tensor, puzzle_identifiers: torch.Tensor | None = None
    ) -> None:
        """Starts puzzles: n keys under which the answers come back, (n, S) int, and (n,) int or None for 0.

        Raises PuzzleError for input outside what the model knows; nothing is changed then.
        """
        embeddings = self._core.embed(input_ids, puzzle_identifiers)
        if puzzle_identifiers is None:
            puzzle_identifiers = input_ids.new_zeros(len(keys), dtype=torch.long)
        self._identifiers = torch.cat((self._identifiers, puzzle_identifiers.to(self._identifiers)))
        new = (embeddings, *self._core.initial_carry(len(keys)))  # (n, T, D) each
        old = (self._embeddings, *self._carry)
        states = [torch.cat(pair) for pair in zip(old, new, strict=True)]
        self.keys = np.append(self.keys, np.asarray(keys, np.int64))
        self._segments = np.append(self._segments, np.zeros(len(keys), np.int64))
        self._embeddings, self._carry = states[0], self._carry._make(states[1:])

    @torch.no_grad()
    def run_segment(self) -> FinishedRows | None:
        """One segment for every puzzle at work. Those that are done leave; None if none is."""
        hidden = self._run_segment()  # (B, T, D)
        done = self._segments >= self.max_segments  # (B,)
        q_halt = None
        if self._halt and not done.all():
            q_halt, q_continue = self._q_logits(hidden)
            done |= wants_to_halt(q_halt, q_continue, self.model.config.halting).cpu().numpy()
        if not done.any():
            return None
        finished = on_device(np.flatnonzero(done), hidden.device)
        hidden = hidden.index_select(0, finished)
        q_halt = self._q_logits(hidden)[0] if q_halt is None else q_halt.index_select(0, finished)
        sequences = self.model.cell_logits(hidden).argmax(-1)  # (F, S)
        found = FinishedRows(self.keys[done], sequences, self._segments[done], q_halt)
        self.keep(~done)
        return found

    @torch.no_grad()
    def read_segment(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One segment for all, none of which leaves: cell logits (B, S, V), q_halt (B,), and which would halt (B,)."""
        hidden = self._run_segment()  # (B, T, D)
        q_halt, q_continue = self._q_logits(hidden)
        halts = wants_to_halt(q_halt, q_continue, self.model.config.halting) & self._halt
        return self.model.cell_logits(hidden), q_halt, halts

    @torch.no_grad()
    def change(self, places: np.ndarray, input_ids: np.ndarray, starts: Sequence[Callable | None]) -> None:
        """Asks the puzzles at `places` (n,) for other input (n, S) from now on.

        starts: for each what makes its start states of the init vectors; None: its states stay.
        """
        slots = on_device(places, self._embeddings.device)
        identifiers = self._identifiers.index_select(0, slots)
        embeddings = self._core.embed(on_device(input_ids, slots.device), identifiers)  # (n, T, D)
        self._embeddings = self._embeddings.index_copy(0, slots, embeddings)
        again = [(place, start) for place, start in zip(places.tolist(), starts, strict=True) if start is not None]
        if again:
            slots = on_device(np.array([place for place, _ in again]), slots.device)
            fresh = [start(self._core.initial_carry(1)) for _, start in again]
            new = (torch.cat(states) for states in zip(*fresh, strict=True))  # z_H and z_L, (m, T, D)
            self._carry = self._carry._make(
                old.index_copy(0, slots, put) for old, put in zip(self._carry, new, strict=True)
            )

    def keep(self, rows: np.ndarray) -> None:
        """Lets the puzzles leave where `rows` (B,) bool is False."""
        if rows.all():
            return
        kept = on_device(np.flatnonzero(rows), self._embeddings.device)
        self.keys, self._segments = self.keys[rows], self._segments[rows]
        self._embeddings, self._identifiers = (
            values.index_select(0, kept) for values in (self._embeddings, self._identifiers)
        )
        self._carry = self._carry._make(state.index_select(0, kept) for state in self._carry)

    def _run_segment(self) -> torch.Tensor:
        """The high-level state (B, T, D) after one more segment."""
        states = {"inputs_embeds": self._embeddings, "carry": self._carry}
        with self._weights:
            out = self._core(**states, run_block=self._run_block, return_dict=True)
        self._carry = out.carry
        self._segments += 1
        return out.last_hidden_state

    def _q_logits(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q_halt and q_continue, (n,) float32 each."""
        first = hidden[:, 0]  # (n, D)
        if len(first) < _LEAST_Q_ROWS:
            first = F.pad(first, (0, 0, 0, _LEAST_Q_ROWS - len(first)))
        return tuple(values[: len(hidden)] for values in self.model.q_logits(first))


def solve_queue(
    model: Any,
    rows: Iterable[tuple[np.ndarray, int]],
    batch_size: int,
    max_segments: int | None = None,
    halt: bool = True,
    compute_dtype: str | None = None,
    run_block: Callable | None = None,
    attempts: Any = None,
) -> Iterator[SolvedRow]:
    """Answers any number of puzzles, in their order, with `batch_size` slots that are refilled from the queue.

    rows: (input_ids (S,) int, puzzle identifier) each, read when a slot is free and all known answers have been taken.
    attempts: `attempts.Attempts`, further ways to ask for the same puzzle; max_segments is then of each attempt.
    The other arguments and errors are those of `HrmForPuzzleSolving.solve`. Where `rows` raises or a row is refused (a
    PuzzleError names it, from 0), the rows before it are answered first, and no more is read than there were free
    slots.
    """
    check_count("batch_size", batch_size)
    if attempts is not None and not hasattr(attempts, "slots"):
        raise ArgumentError(f"attempts is {shown(attempts)}; allowed: an Attempts(processor, ...), None")
    slots = PuzzleSlots(model, max_segments, halt, compute_dtype, run_block)
    return _answers(slots if attempts is None else attempts.slots(slots), iter(rows), batch_size, model)


def _answers(slots: Any, rows: Iterator[tuple[np.ndarray, int]], batch_size: int, model: Any) -> Iterator[SolvedRow]:
    waiting: dict[int, SolvedRow] = {}  # known, but one before them is not: at most batch_size * segments of one
    num_read = num_given = 0
    error: Exception | None = None  # raised when those before it are answered
    while True:
        read: list[Any] = []
        try:
            read.extend(islice(rows, 0 if error else batch_size - len(slots)))  # keeps what came before an error
        except Exception as of_reading:
            error = of_reading
        try:
            for part in _checked(read, num_read, model.model) if read else ():
                keys = range(num_read, num_read + len(part[0]))
                slots.add(keys, *(on_device(values.numpy(), execution_device(model)) for values in part))
                num_read += len(keys)
        except Exception as of_row:
            error = of_row
        if len(slots) == 0:
            if error is not None:
                raise error
            return
        done = slots.run_segment()
        if done is not None:
            waiting |= done.rows() if isinstance(done, FinishedRows) else done
        while num_given in waiting:
            yield waiting.pop(num_given)
            num_given += 1


def _checked(rows: list[Any], first: int, core: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """input_ids (n, S) and identifiers (n,), int64 both, on the host: all at once, in parts where one is refused."""
    try:
        cells, identifiers = zip(*((np.asarray(row), identifier) for row, identifier in rows), strict=True)
        (_,) = {(row.dtype, type(identifier)) for row, identifier in zip(cells, identifiers, strict=True)}  # one kind
        tensors = torch.from_numpy(np.stack(cells)), torch.tensor(identifiers)
        core.check_inputs(*tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        if middle := len(rows) // 2:
            yield from _checked(rows[:middle], first, core)
            yield from _checked(rows[middle:], first + middle, core)
            return
        expected = f"it is {shown(rows[0])}; expected (input_ids, puzzle identifier)"
        said = error if isinstance(error, PuzzleError) else expected
        raise PuzzleError(f"row {first} of the queue: {said}") from error
    yield tensors[0].long(), tensors[1].long()


def sigmoid(logit: float) -> float:
    """Computed in float32."""
    return torch.tensor(logit).sigmoid().item()


def execution_device(model: Any) -> torch.device:
    """Where the model computes: its own device, or the one that Accelerate fetches offloaded weights to."""
    hook = getattr(model.model.embed_tokens, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return model.device if device is None else torch.device(device)


def on_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a tensor on the device; the host does not wait for a copy to CUDA."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def check_count(name: str, value: Any, largest: int = 2**31 - 1) -> None:
    """Raises ArgumentError for what is no integer from 1 to `largest`."""
    if not is_integer(value) or not 1 <= value <= largest:
        raise ArgumentError(f"{name} is {shown(value)}; allowed: integers from 1 to {largest}")
