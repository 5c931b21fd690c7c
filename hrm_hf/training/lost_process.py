"""A process that dies or fails ends the others too, soon and with one line that says why.

Left to themselves the others wait in the next collective operation: gloo notices a closed connection there at once,
but says only so; NCCL may wait for ever; and a process that works alone for an hour notices after the hour. So the
main process (rank 0) keeps a plain connection to each of the others, and a thread of every process waits on it. The
system closes a dead process's connections, whatever it died of, and a process that fails says why before it leaves.

Not noticed: a process that hangs, and a machine that vanishes without closing its connections.
"""

import faulthandler
import hmac
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import NamedTuple

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..hrm.errors import HrmError, ProcessLostError
from .stop_requests import StoppedBySignal

SECONDS_TO_LEAVE = 25.0  # for the code inside the context to end by itself, then again for the process
SECONDS_TO_EXPLAIN = 10.0  # from a failed collective operation to the loss behind it
SECONDS_TO_SPEAK = 2.0  # for a process to find the error by itself, where all make the same one
SECONDS_TO_CONNECT = 60.0
EXIT_CODE = 2  # as for every HrmError

_watching = False


class Loss(NamedTuple):
    """Which process was lost, and the error that it left with; "" if it said none."""

    rank: int
    error: str


@contextmanager
def naming_lost_processes(accelerator: Accelerator, where: Callable[[], str]) -> Iterator[None]:
    """Context in which no process waits for one that has ended. All processes enter it, at the same point.

    Where another process dies or leaves with an error, this one raises ProcessLostError in its next collective
    operation, after one line on stderr (of the main process, or of process 1 where the main process died). It must end
    then: within 60 seconds of the loss it does so without being asked, whatever it is doing. Inside another such
    context, and with one process, it does nothing.

    Args:
        where: says how far the run is and how to go on, "at step 1200. ..."; called in another thread.
    Raises:
        ProcessLostError: another process has ended.
    """
    global _watching
    if accelerator.num_processes == 1 or _watching:
        yield
        return
    watch = _Watch(accelerator, where)
    _watching = True
    try:
        yield
    except BaseException as error:
        loss = watch.loss_behind(error)
        if loss is None:
            # A requested stop is everybody's; any other error may be this process's alone.
            watch.leave(None if isinstance(error, StoppedBySignal) else Loss(watch.rank, _in_words(error)))
            raise
        watch.tell()
        watch.leave(loss)
        # Even where the interpreter cannot end, because a library waits for the lost process.
        nowhere = open(os.devnull, "w")  # noqa: SIM115 - stays open
        faulthandler.dump_traceback_later(SECONDS_TO_LEAVE, exit=True, file=nowhere)
        raise ProcessLostError(watch.message()) from error
    else:
        watch.leave(None)
    finally:
        _watching = False


class _Watch:
    """The connections of this process, and the thread that waits on them."""

    def __init__(self, accelerator: Accelerator, where: Callable[[], str]):
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.where = where
        self.loss: Loss | None = None
        self.known, self.left = threading.Event(), threading.Event()
        self.told = threading.Lock()  # taken by whoever tells, and kept
        self.peers = self._connect()
        self.thread = threading.Thread(target=self._run, name="lost processes", daemon=True)
        self.thread.start()

    def _connect(self) -> dict[socket.socket, int]:
        """Connections and whom they lead to: from the main process to all, from the others to the main process."""
        one_machine = os.environ.get("LOCAL_WORLD_SIZE") == str(self.world)
        host = "127.0.0.1" if one_machine else os.environ.get("MASTER_ADDR", "127.0.0.1")
        said, server = [None], None
        if self.rank == 0:
            server = socket.create_server((host if one_machine else "", 0), backlog=self.world)
            said = [(server.getsockname()[1], secrets.token_hex(16))]
        broadcast_object_list(said)
        port, key = said[0]
        if server is None:
            try:
                peer = socket.create_connection((host, port), timeout=SECONDS_TO_CONNECT)
                peer.settimeout(None)
                peer.sendall(f"{key} {self.rank:8}".encode())
            except OSError as error:
                print(f"process {self.rank} cannot watch process 0 at {host}:{port}: {error}", file=sys.stderr)
                return {}
            return {peer: 0}
        with server:
            return self._accept(server, key)

    def _accept(self, server: socket.socket, key: str) -> dict[socket.socket, int]:
        peers: dict[socket.socket, int] = {}
        deadline = time.monotonic() + SECONDS_TO_CONNECT
        while len(peers) < self.world - 1:
            try:
                server.settimeout(max(deadline - time.monotonic(), 0.001))
                peer, _ = server.accept()
                peer.settimeout(5)
                hello = _received(peer, len(key) + 9).decode(errors="replace")
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue  # a stranger who says nothing
                missing = sorted({*range(1, self.world)} - {*peers.values()})
                print(f"process 0 cannot watch the processes {missing}: they did not connect", file=sys.stderr)
                break
            except OSError:
                continue
            if hmac.compare_digest(hello[: len(key)].encode(), key.encode()):
                peer.settimeout(None)
                peers[peer] = int(hello[len(key) :])
            else:
                peer.close()
        return peers

    def _run(self) -> None:
        heard = {peer: b"" for peer in self.peers}
        while heard:
            for peer in wait([*heard]):
                try:
                    piece = peer.recv(65536)
                except OSError:
                    piece = b""
                if self.left.is_set():
                    return
                if piece:
                    heard[peer] += piece
                    continue
                loss = _last_words(heard.pop(peer), self.peers[peer])
                if loss is not None:
                    self._lost(loss)
                    return

    def _lost(self, loss: Loss) -> None:
        self.loss = loss
        self.known.set()
        self._say(loss)  # the others know nothing of one another
        # An error may be everybody's. A killed process is told of at once: a launcher may be about to end this one.
        if not loss.error or not self.left.wait(SECONDS_TO_SPEAK):
            with suppress(Exception):  # whatever comes of it, the process must end
                self.tell()
        if not self.left.wait(SECONDS_TO_LEAVE - SECONDS_TO_SPEAK):
            os._exit(EXIT_CODE)

    def loss_behind(self, error: BaseException) -> Loss | None:
        """The loss that made an operation fail. gloo and NCCL raise RuntimeError, but so does much else."""
        if not isinstance(error, RuntimeError):
            return None
        self.known.wait(SECONDS_TO_EXPLAIN)
        return self.loss

    def message(self) -> str:
        rank, error = self.loss
        name = f"process {rank} (of 0 to {self.world - 1})"
        if error:
            return f"{error.rstrip('.')}. This ended {name} {self.where()}"
        return f"{name} was killed, perhaps for want of memory, or crashed {self.where()}"

    def tell(self) -> None:
        """One line on stderr, once, from one process. A main process that left with an error tells it itself."""
        rank, error = self.loss
        speaker = 0 if rank != 0 else (None if error else 1)
        if self.rank == speaker and self.told.acquire(blocking=False):
            with suppress(OSError):
                os.write(2, f"\nerror: {self.message()}\n".encode())

    def leave(self, loss: Loss | None) -> None:
        """Says goodbye; None: as agreed by all."""
        self._say(loss)
        self.left.set()
        if loss is None:
            self.thread.join(SECONDS_TO_EXPLAIN)
            for peer in self.peers:
                peer.close()

    def _say(self, loss: Loss | None) -> None:
        for peer in self.peers:
            try:
                peer.settimeout(5)
                peer.sendall(json.dumps(loss).encode())
                peer.shutdown(socket.SHUT_WR)
            except OSError:  # it has gone, or was told before
                continue


def _received(peer: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer from a connection that closes."""
    heard = b""
    while len(heard) < count and (piece := peer.recv(count - len(heard))):
        heard += piece
    return heard


def _last_words(heard: bytes, rank: int) -> Loss | None:
    """What a connection said before it closed: nothing, if its process died."""
    try:
        said = json.loads(heard)
        return None if said is None else Loss(int(said[0]), str(said[1]))
    except (ValueError, TypeError, LookupError):
        return Loss(rank, "")


def _in_words(error: BaseException) -> str:
    words = str(error) if isinstance(error, HrmError) else f"{type(error).__name__}: {error}"
    return words[:2000].rstrip(": ") or type(error).__name__
