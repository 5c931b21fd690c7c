"""Ctrl-C, SIGTERM and SIGHUP as requests: the step is finished and the run saved before the process leaves.

With several processes a signal may reach one of them only, yet all must stop at the same point. So the processes vote
after every step, and in an evaluation after every update of a level, and read the vote at the next: by then it is
counted, and nobody waits for it. The votes are CPU tensors in a gloo group: an accelerator is never waited for either.
(Accelerate's `check_trigger` waits for the device at every call, and for the slowest process.)
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import torch
from accelerate import Accelerator

from . import processes

# SIGHUP: the terminal was closed
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SECONDS_TO_LEAVE = 5.0  # what Python gets to raise KeyboardInterrupt before the process is ended without it
SECONDS_TO_STOP = 20.0  # until a word on what a SIGTERM may mean; the elastic agent sends SIGKILL after 30


class StoppedBySignal(KeyboardInterrupt):
    """`signal` asked the run to stop, and it has saved. A command then exits with `exit_code`, as shells count."""

    def __init__(self, signum: signal.Signals):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signal = signal.Signals(signum)
        self.exit_code = 128 + self.signal


class StopRequests:
    """Context in which SIGINT, SIGTERM and SIGHUP ask for a stop; one line on the main process's stderr says so.

    A SIGINT after another request, or a SIGTERM after a SIGINT (so launchers pass on the second Ctrl-C), leaves at
    once: KeyboardInterrupt, or, where the process is stuck outside Python, its end within `SECONDS_TO_LEAVE`. SIGTERM
    may be repeated, as schedulers do. Outside the main thread signals are left alone. A request that comes after the
    last `check` is not lost: leaving the context raises StoppedBySignal.

    All processes enter the context, at the same point, inside `naming_lost_processes`. `where` says how far the run is
    and how to resume; it is called in another thread.
    """

    def __init__(self, accelerator: Accelerator, where: Callable[[], str]) -> None:
        self.is_main_process, self.where = accelerator.is_main_process, where
        self._own: signal.Signals | None = None  # asked of this process
        self._vote: torch.Tensor | None = None  # (2,) signal, and whether anyone is at work; being counted
        self._counting: torch.distributed.Work | None = None
        self._handlers: dict[signal.Signals, object] = {}
        self._left = threading.Event()

    def __enter__(self) -> "StopRequests":
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
        if error_type is None:  # else a vote may still be open, and whom it waits for may be gone
            self.wait()

    def check(self, at_work: bool = True) -> None:
        """Call it on every process after every step, and in an evaluation after every update of a level.

        Raises StoppedBySignal if any process was asked to stop: on all at the same call, with several one call late.
        """
        self._count()
        if processes.host_group is not None:
            self._vote = torch.tensor([self._own or 0, at_work], dtype=torch.int32)
            self._counting = torch.distributed.all_reduce(
                self._vote, torch.distributed.ReduceOp.MAX, group=processes.host_group, async_op=True
            )
        elif self._own is not None:
            raise StoppedBySignal(self._own)

    def after_update(self, finished: bool) -> None:
        """For `predict_puzzles`: all processes break off an evaluation, or none does."""
        self.wait() if finished else self.check()

    def wait(self) -> None:
        """Waits until all processes wait here, which may have called `check` another number of times; raises as it."""
        at_work = True
        while at_work:
            self.check(at_work=False)
            at_work = self._count()

    def _count(self) -> bool:
        """Reads the open vote, if there is one; whether any process was at work."""
        if self._counting is None:
            return False
        self._counting.wait()
        self._counting = None
        asked, at_work = self._vote.tolist()
        if asked:
            if self._own is None:
                self._say(f"{signal.Signals(asked).name} at another process: saving")
            raise StoppedBySignal(signal.Signals(asked))
        return bool(at_work)

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
        if self.is_main_process:
            # Not print: the signal may have come in the middle of one.
            with suppress(OSError):  # the reader of a pipe may have gone by the same Ctrl-C
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{words}\n".encode())

    def _speak_of_the_launcher(self) -> None:
        """Where a process was lost the launcher sends SIGTERM to the others, of which one may wait for it."""
        if not self._left.is_set():
            self._say(f"still not stopped: was another process lost, the launcher ends this one {self.where()}")

    def _watch_for_stuck_process(self) -> None:
        """Python calls handlers between two of its own instructions only; the wakeup pipe gets signals at any time."""
        reading, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

        def watch() -> None:
            asked = None
            while signum := os.read(reading, 1):
                if signum[0] not in SIGNALS:  # another one that Python handles, such as SIGCHLD
                    continue
                if asked is None and signum[0] == signal.SIGTERM and processes.host_group is not None:
                    timer = threading.Timer(SECONDS_TO_STOP, self._speak_of_the_launcher)
                    timer.daemon = True
                    timer.start()
                if _leaves_at_once(asked, signum[0]) and not self._left.wait(SECONDS_TO_LEAVE):
                    os._exit(128 + signum[0])
                asked = asked or signum[0]
            os.close(reading)

        threading.Thread(target=watch, name="stop requests", daemon=True).start()


def _leaves_at_once(asked: int | None, signum: int) -> bool:
    return asked is not None and signal.SIGINT in (asked, signum)
