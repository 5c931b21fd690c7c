"""Ctrl-C, SIGTERM and SIGHUP as requests: the step is finished and the run saved before the process leaves.

With several processes a signal may reach one of them only, yet all must stop at the same step. So after every step the
processes vote, and read the vote one step later: by then it is counted, and nobody waits for it. The votes are CPU
tensors in a gloo group of their own, so that an accelerator is never waited for either.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from datetime import timedelta

import torch
from accelerate import Accelerator

# SIGHUP: the terminal was closed
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SECONDS_TO_LEAVE = 5.0  # what Python gets to raise KeyboardInterrupt before the process is ended without it


class StoppedBySignal(KeyboardInterrupt):
    """The run was asked to stop, has finished its step and saved.

    Attributes:
        signal: which signal asked.
        exit_code: what a command then exits with, as shells count: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, signum: signal.Signals):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signal = signal.Signals(signum)
        self.exit_code = 128 + self.signal


class StopRequests:
    """Context in which SIGINT, SIGTERM and SIGHUP ask for a stop; one line on the main process's stderr says so.

    A SIGINT after another request, or a SIGTERM after a SIGINT (so launchers pass on the second Ctrl-C), leaves at
    once: KeyboardInterrupt, or, where the process is stuck outside Python, its end within `SECONDS_TO_LEAVE`. SIGTERM
    may be repeated, as schedulers do. Earlier handlers come back at the end. Outside the main thread signals are left
    alone.

    Where a request came and the body ends without an exception, leaving the context raises StoppedBySignal: a request
    that arrives too late for another step is not lost either.

    Args:
        accelerator: its processes all enter the context, at the same point.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._own: signal.Signals | None = None  # asked of this process
        self._agreed: signal.Signals | None = None  # asked of any, and known to all
        self._group: torch.distributed.ProcessGroup | None = None
        self._vote: torch.Tensor | None = None  # being counted
        self._counting: torch.distributed.Work | None = None
        self._handlers: dict[signal.Signals, object] = {}
        self._left = threading.Event()

    def __enter__(self) -> "StopRequests":
        if self.accelerator.num_processes > 1:
            # No limit: where only the main process evaluates or uploads, the others' votes wait for as long.
            self._group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=365))
        if threading.current_thread() is threading.main_thread():
            self._watch_for_stuck_process()
            self._handlers = {each: signal.signal(each, self._on_signal) for each in SIGNALS}
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        self._left.set()
        for each, handler in self._handlers.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)  # None: set by another language
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._wakeup)  # ends the thread
        if error_type is not None:
            return  # a vote may still be open, and whom it waits for may be gone
        if self._group is None:
            self._agreed = self._own
        else:
            self._count()
            if self._agreed is None:
                self._begin_vote()
                self._count()
            torch.distributed.destroy_process_group(self._group)
        if self._agreed is not None:
            raise StoppedBySignal(self._agreed)

    def asked(self) -> signal.Signals | None:
        """Whether to stop, and because of which signal: the same answer on all processes.

        Call it once after every step, on every process. With several processes a signal is answered one step late.
        """
        if self._group is None:
            return self._own
        self._count()
        if self._agreed is None:
            self._begin_vote()
        return self._agreed

    def _begin_vote(self) -> None:
        self._vote = torch.tensor([self._own or 0], dtype=torch.int32)
        self._counting = torch.distributed.all_reduce(
            self._vote, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True
        )

    def _count(self) -> None:
        if self._counting is None:
            return
        self._counting.wait()
        self._counting = None
        if self._vote.item():
            self._agreed = signal.Signals(self._vote.item())
            if self._own is None:
                self._say(f"{self._agreed.name} at another process: saving")

    def _on_signal(self, signum: int, frame: object) -> None:
        if _leaves_at_once(self._own, signum):
            raise KeyboardInterrupt
        if self._own is None:
            self._own = signal.Signals(signum)
            self._say(
                f"{self._own.name}: finishing this step and saving; press Ctrl-C again (or kill -INT {os.getpid()}) "
                "to leave at once"
            )

    def _say(self, words: str) -> None:
        if self.accelerator.is_main_process:
            # Not print: the signal may have come in the middle of one.
            with suppress(OSError):  # the reader of a pipe may have gone by the same Ctrl-C
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{words}\n".encode())

    def _watch_for_stuck_process(self) -> None:
        """Python calls handlers between two of its own instructions only; the wakeup pipe gets signals at any time."""
        reading, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

        def watch() -> None:
            asked = None
            while signum := os.read(reading, 1):
                if _leaves_at_once(asked, signum[0]) and not self._left.wait(SECONDS_TO_LEAVE):
                    os._exit(128 + signum[0])
                asked = asked or signum[0]
            os.close(reading)

        threading.Thread(target=watch, name="stop requests", daemon=True).start()


def _leaves_at_once(asked: int | None, signum: int) -> bool:
    return asked is not None and signal.SIGINT in (asked, signum)
