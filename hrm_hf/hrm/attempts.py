"""Attempts: other ways to ask the model for the same puzzle, and which of its answers counts.

A wrong answer to a Sudoku or a maze is known to be wrong, so it pays to ask again. The strategies:

- "guess": after every segment one more blank is pinned to a value drawn by the softmax of the model's logits, and the
  model goes on from where it is. What a rule forbids is never drawn, and pins of failed attempts are drawn less often.
- "symmetry": another member of the game's symmetry group, undone afterwards, until all have been asked.
- "noise": start states perturbed.
- "segments": the attempt before goes on.
- "auto": "guess" where the game can, else "symmetry", else "noise".

The first attempt is the plain question. All draws hash the puzzle, the seed and the number of the attempt: an answer
depends on no other puzzle of a batch. The hash is of 32-bit integers, so that other languages draw the same.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from .errors import ArgumentError
from .losses import log_stablemax
from .puzzle_codecs import CODECS
from .shown_value import is_integer, shown
from .solving import PuzzleSlots, SolvedRow, ThinkingStep, check_count, sigmoid
from .voting import ranked

STRATEGIES = ("auto", "guess", "symmetry", "noise", "segments")
SELECTIONS = ("rules", "confidence", "vote", "first_halt")
MAX_ATTEMPTS = 1024
MOST_PINS = 12  # of one attempt
TRUST_AFTER_FAILURE = 0.5  # by which a pin's probability is multiplied for each attempt with it that has failed
MOST_DRAWS = 100  # for a member of the group that asks anew; a maze has 8 views
NOISE = 0.5  # standard deviation; the start vectors have 1
_MASK = 0xFFFFFFFF


class Tried(NamedTuple):
    """What one attempt came to."""

    sequence: np.ndarray  # (S,) int64 token ids
    q_halt_logit: float
    halted: bool  # whether the model would halt after its last segment
    accepted: bool  # by the game's rules
    segments: int  # spent on this attempt and those before it


@dataclass(frozen=True)
class Attempts:
    """How often and how a puzzle may be asked, and what counts.

    Args:
        processor: an `HrmProcessor`, which knows the game.
        num_attempts: at the most, 1 to `MAX_ATTEMPTS`.
        strategy: one of `STRATEGIES`.
        select: "rules": the first answer of any segment that the game's rules accept ends the work; where none is,
            the most confident one counts. "confidence": of all attempts, the highest q_halt. "vote": the answer given
            most often, then by mean confidence. "first_halt": the first attempt that halted by itself. None: "rules"
            for several attempts at a game that has some, else "vote".
        seed: of all draws, 0 to 2^32 - 1.
        return_steps: whether the answers carry a `ThinkingStep` for every segment.
    Raises:
        ArgumentError: a value that is not allowed, or what this game cannot offer.
    """

    processor: Any
    num_attempts: int = 1
    strategy: str = "auto"
    select: str | None = None
    seed: int = 0
    return_steps: bool = False

    def __post_init__(self) -> None:
        check_count("num_attempts", self.num_attempts, MAX_ATTEMPTS)
        for name, value, allowed in (("strategy", self.strategy, STRATEGIES), ("select", self.select, SELECTIONS)):
            if not (value is None and name == "select" or isinstance(value, str) and value in allowed):
                raise ArgumentError(f"{name} is {shown(value)}; allowed: {', '.join(map(repr, allowed))}")
        if not is_integer(self.seed) or not 0 <= self.seed <= _MASK:
            raise ArgumentError(f"seed is {shown(self.seed)}; allowed: integers from 0 to {_MASK}")
        task, codec = self.processor.task, CODECS[self.processor.task]
        guesses = codec.allowed if codec.blank_id is not None else None
        offers = {"guess": guesses, "symmetry": codec.symmetry, "noise": True, "segments": True}
        for name, offer in offers.items():
            if self.strategy in ("auto", name) and offer is not None:
                object.__setattr__(self, "strategy", name)
        if offers[self.strategy] is None:
            able = ", ".join(repr(name) for name, offer in offers.items() if offer is not None)
            raise ArgumentError(f"strategy is {self.strategy!r}, which {task!r} does not offer; allowed: {able}")
        if self.select == "rules" and codec.is_solution is None:
            raise ArgumentError(f"select is 'rules', but {task!r} has no rules to check; allowed: {SELECTIONS[1:]}")
        if self.select is None:
            by_rules = self.num_attempts > 1 and codec.is_solution is not None
            object.__setattr__(self, "select", "rules" if by_rules else "vote")

    def slots(self, slots: PuzzleSlots) -> "AttemptSlots":
        """Slots whose puzzles are asked in this way; CheckpointError for a model that the processor does not fit."""
        self.processor.check_fits(slots.model.config)
        return AttemptSlots(slots, self)

    def accepts(self, input_ids: np.ndarray, sequence: np.ndarray) -> bool:
        """Whether the rules of a game that has some accept an answer (S,) to a question (S,), token ids both."""
        codec, shape = CODECS[self.processor.task], self.processor.grid_shape
        question, answer = (codec.decode(ids.reshape(shape)) for ids in (input_ids, sequence))
        return bool(codec.is_solution(question, answer, self.processor.box_shape))

    def choose(self, tried: Sequence[Tried]) -> Tried:
        """The attempt whose answer counts."""
        best = max(tried, key=lambda attempt: (attempt.accepted, attempt.q_halt_logit))  # of equals the first
        if self.select == "first_halt":
            return next((attempt for attempt in tried if attempt.halted), best)
        if self.select == "vote":
            found = defaultdict(list)
            for attempt in tried:
                found[attempt.sequence.tobytes()].append(sigmoid(attempt.q_halt_logit))
            most = ranked(found)[0][0]
            return max((each for each in tried if each.sequence.tobytes() == most), key=lambda each: each.q_halt_logit)
        return best


class Draws:
    """Random numbers from a hash of some integers: the same in every process, batch and language."""

    def __init__(self, *keys: int):
        self._state = 0
        for key in keys:
            self._state = mix32(self._state ^ int(key))

    def uniform(self) -> float:
        """From 0 to below 1, in steps of 2^-32."""
        self._state = (self._state + 0x9E3779B9) & _MASK
        return mix32(self._state) / 2**32

    def permutation(self, length: int) -> np.ndarray:
        """(length,) int64."""
        order = np.arange(length)
        for last in range(length - 1, 0, -1):
            other = int(self.uniform() * (last + 1))
            order[[last, other]] = order[[other, last]]
        return order

    def choice(self, weights: np.ndarray) -> int:
        """A place of weights (n,), drawn in proportion to them; one of them at least is above 0."""
        sums = np.cumsum(weights, dtype=np.float64)
        return int(np.searchsorted(sums, self.uniform() * sums[-1], side="right"))


def mix32(value: int) -> int:
    """A bijection of 32-bit integers that scatters its input."""
    value = (value ^ (value >> 16)) * 0x7FEB352D & _MASK
    value = (value ^ (value >> 15)) * 0x846CA68B & _MASK
    return value ^ (value >> 16)


class Thought:
    """One puzzle at work: what the model reads next, the question turned or with pins, and what was tried before."""

    def __init__(self, ask: Attempts, input_ids: np.ndarray, max_segments: int):
        self.input_ids, self.restart = input_ids, True  # (S,) int64; whether it starts from the init vectors
        self._ask, self._question, self._max_segments = ask, input_ids, max_segments
        self._codec = CODECS[ask.processor.task]
        self._sizes = ask.processor.grid_shape, ask.processor.box_shape
        self._tried: list[Tried] = []
        self._steps: list[ThinkingStep] = []
        self._segments = self._total = 0
        self._pins: dict[int, int] = {}  # cell -> token id
        self._sources, self._ids = None, None  # of the symmetry at work
        self._asked = {input_ids.tobytes()}  # questions, by symmetry
        self._first, self._trust = None, None  # (S, V): probabilities after the first attempt, and of pins
        self._refused: bytes | None = None  # the last answer that the rules have refused

    def draws(self, of: int = 0) -> Draws:
        """Those of the attempt at work."""
        return Draws(self._ask.seed, *self._question.tolist(), len(self._tried) + 1, of)

    def after(
        self, probabilities: np.ndarray, q_halt_logit: float, halts: bool, sure: np.ndarray | None = None
    ) -> SolvedRow | None:
        """What a segment gave: the answer if the work is done, else None.

        probabilities: (S, V) float64, by softmax. sure: (S,), of each cell the model's own, for the steps.
        """
        if self._sources is not None:
            cells = np.argsort(self._sources)
            probabilities, sure = probabilities[cells][:, self._ids], None if sure is None else sure[cells]
        sequence = probabilities.argmax(-1)  # (S,)
        self._segments, self._total = self._segments + 1, self._total + 1
        if self._ask.return_steps:
            sure = (probabilities.max(-1) if sure is None else sure).astype(np.float32)
            place = len(self._tried) + 1, self._segments
            self._steps.append(ThinkingStep(*place, sequence, sure, q_halt_logit, tuple(sorted(self._pins))))
        select, strategy, again = self._ask.select, self._ask.strategy, bool(self._tried)
        accepted = select == "rules" and self._is_accepted(sequence)
        counts = accepted or select == "first_halt" and halts
        pinning = again and strategy == "guess"
        goes_on = again and (strategy == "segments" or pinning and select == "rules")  # whatever the model says
        over = counts or halts and not goes_on or self._segments >= self._max_segments
        if not over and (not pinning or self._pin(probabilities)):
            return None
        self._tried.append(Tried(sequence, q_halt_logit, halts, accepted, self._total))
        if counts or len(self._tried) == self._ask.num_attempts or not self._ask_again(probabilities):
            return self._answer()
        return None

    def start(self, carry: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The start states of the attempt at work, from the init vectors, (1, T, D) each."""
        if not (self._tried and self._ask.strategy == "noise"):
            return carry
        generator = torch.Generator().manual_seed(int(self.draws().uniform() * 2**32))
        return [state + (NOISE * torch.randn(state.shape, generator=generator)).to(state) for state in carry]

    def _is_accepted(self, sequence: np.ndarray) -> bool:
        if self._refused == sequence.tobytes():
            return False
        accepted = self._ask.accepts(self._question, sequence)
        self._refused = None if accepted else sequence.tobytes()
        return accepted

    def _ask_again(self, probabilities: np.ndarray) -> bool:
        """Begins the next attempt; False if there is no further one."""
        strategy = self._ask.strategy
        self._segments, self.restart = 0, strategy != "segments"
        if strategy == "symmetry":
            draws = self.draws()
            for _ in range(MOST_DRAWS):
                self._sources, self._ids = self._codec.symmetry(*self._sizes, draws.permutation)
                self.input_ids = self._ids[self._question[self._sources]]
                if self.input_ids.tobytes() not in self._asked:
                    break
            else:
                return False
            self._asked.add(self.input_ids.tobytes())
        if strategy == "guess":
            if self._first is None:
                self._first, self._trust = probabilities, np.ones_like(probabilities)
            for cell, pin in self._pins.items():
                self._trust[cell, pin] *= TRUST_AFTER_FAILURE
            self._pins, self.input_ids = {}, self._question
            self._pin(self._first)
        return True

    def _pin(self, probabilities: np.ndarray) -> bool:
        """Pins one more blank; False if there are enough, or if some blank has nothing left that the rules allow."""
        if len(self._pins) == MOST_PINS:
            return False
        allowed = self._codec.allowed(self.input_ids, *self._sizes)  # (S, V) bool, False for cells that are no blanks
        blanks = self.input_ids == self._codec.blank_id
        trusted = probabilities * self._trust  # (S, V)
        weights = trusted * allowed
        if not (blanks.any() and allowed[blanks].any(-1).all() and weights.any()):
            return False
        draws = self.draws(len(self._pins) + 1)
        cell = draws.choice(trusted.max(-1) ** 2 * weights.any(-1))
        pin = draws.choice(weights[cell])
        self._pins[cell] = pin
        self.input_ids = self.input_ids.copy()
        self.input_ids[cell] = pin
        return True

    def _answer(self) -> SolvedRow:
        chosen = self._ask.choose(self._tried)
        spent = self._total, chosen.q_halt_logit, len(self._tried)
        return SolvedRow(chosen.sequence, *spent, tuple(self._tried), tuple(self._steps))


class AttemptSlots:
    """`PuzzleSlots` that the attempts of all puzzles share; a puzzle leaves when its answer counts."""

    def __init__(self, slots: PuzzleSlots, ask: Attempts):
        self._slots, self._ask = slots, ask
        self._thoughts: dict[int, Thought] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, keys: Sequence[int], input_ids: torch.Tensor, puzzle_identifiers: torch.Tensor) -> None:
        """As `PuzzleSlots.add`."""
        self._slots.add(keys, input_ids, puzzle_identifiers)
        for key, ids in zip(keys, input_ids.cpu().numpy(), strict=True):
            self._thoughts[key] = Thought(self._ask, ids, self._slots.max_segments)

    def run_segment(self) -> dict[int, SolvedRow]:
        """One segment for every puzzle at work; those that are done leave."""
        keys, done, changed = self._slots.keys.tolist(), {}, {}
        logits, q_halt, halts = self._slots.read_segment()
        # By softmax, also for a model that was trained by stablemax: its flatter probabilities make worse guesses.
        own = probabilities = torch.softmax(logits.cpu().double(), -1)  # (B, S, V)
        if self._ask.return_steps and self._slots.model.config.token_loss == "stablemax":
            own = log_stablemax(logits.cpu()).exp()
        rows = probabilities.numpy(), q_halt.tolist(), halts.tolist(), own.amax(-1).numpy()
        for place, (key, *read) in enumerate(zip(keys, *rows, strict=True)):
            thought = self._thoughts[key]
            before, thought.restart = thought.input_ids, False
            answer = thought.after(*read)
            if answer is not None:
                done[key] = answer
            elif thought.restart or thought.input_ids is not before:
                changed[place] = thought
        if changed:
            ids = np.stack([thought.input_ids for thought in changed.values()])
            starts = [thought.start if thought.restart else None for thought in changed.values()]
            self._slots.change(np.array([*changed]), ids, starts)
        self._slots.keep(np.array([key not in done for key in keys]))
        for key in done:
            del self._thoughts[key]
        return done
