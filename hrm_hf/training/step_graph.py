"""The forward and backward pass of a step as one CUDA graph, so that the device does not wait for the launches.

A graph is the kernels of one call at fixed addresses. So what a pass is given is copied to where the captured call
read it, and results and gradients lie where that call left them, until the next replay writes over them. Weights are
read where they are: what is loaded into them counts, and other weights, like another depth, are captured anew.
"""

import gc
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..progress import get_logger
from .finite_watch import stored_values
from .slots import ActSlots, Batch

logger = get_logger(__name__)
# Relative, by tensor, of the norm. The kernels are the same: only sums in no fixed order differ, and what bfloat16
# makes of them. What is stale or missing differs by all of it.
TOLERANCE = 0.02
_capturing: list[torch.cuda.CUDAGraph] = []  # those that failed too: PyTorch's allocator goes on asking them
MOST_FOR_ONE_STEP = 3  # captures; each costs as much as a few steps
OF_MODULES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class PassResult(NamedTuple):
    """What a pass gives, beside the gradients in the parameters."""

    row_losses: torch.Tensor  # (B,) detached
    slots: ActSlots  # after the segment
    sums: dict[str, torch.Tensor]  # 0-d, see `segment_sums`


Pass = Callable[[ActSlots, Batch, torch.Tensor], PassResult]
Capture = Callable[[Callable[[], PassResult]], tuple[Callable[[], None], PassResult]]


def cuda_graph(call: Callable[[], PassResult]) -> tuple[Callable[[], None], PassResult]:
    """Captures the call: what replays it, and its result, which holds nothing before the first replay.

    Raises RuntimeError where the call does what no graph can hold.
    """
    gc.collect()  # an older graph taken down during the capture would break it
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    try:
        side.wait_stream(current)
        with torch.cuda.stream(side):
            call()  # what libraries set up at their first call on a stream is no part of the graph
            _without_waiting(call)  # raises here, where it does no harm yet, what would break the capture
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        _capturing.append(graph)
        # threads that read or pin batches do not count
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            result = call()
        _capturing.remove(graph)
    finally:
        torch.cuda.set_stream(current)  # a capture that fails leaves its own
    return graph.replay, result


def _without_waiting(call: Callable[[], Any]) -> None:
    """Raises RuntimeError where the host would wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode(before)


class StepGraph:
    """Runs passes as a graph where that gives what the pass itself gives; else, after one warning, the pass.

    Args:
        model: whose gradients a pass leaves; its weights and its config are what a capture holds for.
        capture: `cuda_graph`, or what stands in for it.

    Attributes:
        captured: what is replayed; None before the first pass and where there is no graph.
    """

    def __init__(self, model: HrmForPuzzleSolving, capture: Capture = cuda_graph):
        self.model, self.capture = model, capture
        self.captured: _Captured | None = None
        self._holds_for: Any = None
        self._is_told = self._gave_up = False
        self._for_one_step = 0  # captures

    def run(self, run_pass: Pass, slots: ActSlots, offered: Batch, min_steps: torch.Tensor) -> PassResult:
        """What `run_pass` gives for the rest, with its gradients; valid until the next call.

        Shapes and dtypes are always the same.
        """
        given, parameters = (slots, offered, min_steps), [*self.model.parameters()]
        if self._gave_up or any(p.grad is not None for p in parameters):  # the caller wants gradients added to these
            return run_pass(*given)
        if self._has_hooks():
            self.captured = None  # its memory is for the plain pass
            return self._give_up("the model has hooks, which a graph would not call", run_pass(*given))
        addresses = [(t.data_ptr(), t.requires_grad) for t in (*parameters, *self.model.buffers())]
        config = self.model.config  # its own fields: an export writes others
        present = [getattr(config, name) for name in type(config).__annotations__], addresses
        if self.captured is not None and self._holds_for == present:
            return self.captured.replayed(*given)
        if self.captured is not None:  # its memory is given back before another is captured
            self._for_one_step += self.captured.replays == 1
            self.captured = None
        if self._for_one_step == MOST_FOR_ONE_STEP:  # a callback changes the config in every step
            return self._give_up("the model's config or weights were others in every step", run_pass(*given))
        return self._first(run_pass, given, present)

    def _has_hooks(self) -> bool:
        kinds = (self.model.modules(), OF_MODULES), (self.model.parameters(), OF_PARAMETERS)
        return any(getattr(each, name) for all_of, names in kinds for each in all_of for name in names)

    def _first(self, run_pass: Pass, given: tuple, present: Any) -> PassResult:
        """The step that is captured: its result is the graph's, as in all that follow, or else the plain one."""
        plain = run_pass(*given)
        gradients = self._gradients()
        want = {"losses": plain.row_losses, **gradients}
        try:
            captured = _Captured(self.model, run_pass, given, self.capture)
            got = captured.replayed(*given)
            wrong = _different({"losses": got.row_losses, **self._gradients()}, want)
            why = None if wrong is None else f"{wrong} are not those of the plain pass"
        except Exception as error:  # whatever a driver, a library or a kernel has against it
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if why is not None:
            for name, parameter in self.model.named_parameters():
                parameter.grad = gradients.get(name)
            return self._give_up(why, plain)
        if not self._is_told:
            logger.info("compile: blocks and optimiser are compiled, each step's pass is one CUDA graph")
        self.captured, self._holds_for, self._is_told = captured, present, True
        return got

    def _give_up(self, why: str, plain: PassResult) -> PassResult:
        self.captured, self._gave_up = None, True
        logger.warning(f"compile: blocks and optimiser are compiled, but there is no CUDA graph ({why})")
        return plain

    def _gradients(self) -> dict[str, torch.Tensor]:
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}


class _Captured:
    """A captured pass with the tensors that it reads and writes."""

    def __init__(self, model: HrmForPuzzleSolving, run_pass: Pass, given: tuple, capture: Capture):
        slots, offered, _ = given
        self._inputs = [tensor.clone() for tensor in _tensors(*given)]
        own = iter(self._inputs)
        own_slots = ActSlots.from_state_dict(dict(zip(slots.state_dict(), own)))
        own_given = own_slots, dict(zip(offered, own)), next(own)
        parameters = [*model.parameters()]

        def call() -> PassResult:
            for parameter in parameters:
                parameter.grad = None  # so that gradients are written, and not added to what is there
            return run_pass(*own_given)

        self._replay, self._result = capture(call)
        self._gradients = [(parameter, parameter.grad) for parameter in parameters]
        self.replays = 0

    def replayed(self, slots: ActSlots, offered: Batch, min_steps: torch.Tensor) -> PassResult:
        for own, given in zip(self._inputs, _tensors(slots, offered, min_steps), strict=True):
            own.copy_(given)
        self._replay()
        self.replays += 1
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self._result


def _tensors(slots: ActSlots, offered: Batch, min_steps: torch.Tensor) -> list[torch.Tensor]:
    return [*slots.state_dict().values(), *offered.values(), min_steps]


def _different(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> str | None:
    """The first name under which the tensors differ by more than rounding; NaN differs."""
    if got.keys() != want.keys():
        return "the parameters with gradients"
    for name, tensor in want.items():
        ours, theirs = stored_values(got[name]), stored_values(tensor)
        if not (ours - theirs).norm() <= TOLERANCE * theirs.norm():
            return "the losses" if name == "losses" else f"the gradients of {name}"
    return None
