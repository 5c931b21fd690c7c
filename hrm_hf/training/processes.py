"""The processes of a run: Accelerate's, their threads, what only the main one does, and the end of all when one ends.

Whoever starts several processes ends the others when one has ended: the elastic agent behind `accelerate launch` and
torchrun does. What is left to do here is to say so, and how to resume.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType

from ..hrm.compute_dtype import bfloat16_speed, chosen_dtype
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import ArgumentError, HrmError
from ..progress import get_logger
from .arguments import HrmTrainingArguments

logger = get_logger(__name__)
# Of all processes, for the host's own words, while naming_lost_processes is entered. It has no time limit, so that
# the others may wait for hours while the main process makes data, and notices at once a process that has ended.
host_group: torch.distributed.ProcessGroup | None = None
_alive: socket.socket | None = None  # the main process's: nobody answers, but it takes connections while that lives
_main_port = 0
SECONDS_TO_FAIL = 2.0  # until the main process has failed too, where all make the same error


class ProcessLostError(HrmError):
    """Another process of the run has ended, and this one must end too; stderr has said so."""


def make_accelerator(args: HrmTrainingArguments, run_dir: str = "runs") -> Accelerator:
    """The Accelerator that HrmTrainer needs: full precision (the model casts by itself), on CUDA or the CPU.

    On one of Apple's GPUs, which no one has tried yet, where the environment asks for it: ACCELERATE_TORCH_DEVICE=mps.

    run_dir: where the trackers that `args.report_to` names put their files.

    Raises ArgumentError for a tracker that does not exist or is not installed, for processes that would not work
    together, and as `launched_dtype`.
    """
    launched_dtype()
    trackers = [name for name in args.report_to if name != "none"]
    installed = [str(tracker.value) for tracker in get_available_trackers()]
    for name in trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            allowed = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise ArgumentError(f"report_to names {name!r}, which is no tracker; allowed are {allowed}")
        if name not in installed:
            raise ArgumentError(f"report_to names {name!r}, which is not installed: pip install {name}")
    untried = "no one has run hrm_hf on mps yet"
    passes_mps_over = torch.backends.mps.is_available()
    if os.environ.get("ACCELERATE_TORCH_DEVICE", "").startswith("mps"):
        passes_mps_over = False
        logger.warning(f"{untried}: compare the first losses with those of ACCELERATE_USE_CPU=true")
    elif passes_mps_over:
        logger.info(f"this takes the CPU, as {untried}; ACCELERATE_TORCH_DEVICE=mps asks for it")
    accelerator = Accelerator(
        cpu=passes_mps_over,
        mixed_precision="no",
        log_with=trackers or None,
        project_dir=run_dir,
    )
    if (started := int(os.environ.get("WORLD_SIZE", "1"))) != accelerator.num_processes:
        alone = f"{started} processes were started, but Accelerate runs each one alone"
        raise ArgumentError(f"{alone}: without GPUs set ACCELERATE_USE_CPU=true")
    return accelerator


def launched_dtype(named: str | None = None, by: str = "") -> str | None:
    """The compute dtype that `accelerate launch --mixed_precision` asks for, None where it asks for none.

    Args:
        named: the compute dtype that is named already, by what `by` says; None = none is.
    Raises:
        ArgumentError: fp16 or fp8, in which no model computes, or a named dtype that is another.
    """
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    asks = f"accelerate launch asks for the mixed precision {precision}"
    if precision not in ("no", "bf16"):
        raise ArgumentError(f"{asks}, in which no model of hrm_hf computes: give --mixed_precision bf16 or no")
    if precision == "no":
        return None
    if named not in (None, "bfloat16", "auto"):
        raise ArgumentError(f"{asks}, but {by} names the compute_dtype {named}: give the same, or only one of them")
    return "bfloat16"


def agreed_speed(config: HrmConfig, accelerator: Accelerator) -> float:
    """`bfloat16_speed` on the process where bfloat16 gains least; called on all of them."""
    own = torch.tensor([bfloat16_speed(config, accelerator.device)], device=accelerator.device)
    return accelerator.gather(own).min().item()


def agreed_dtype(asked: str | None, config: HrmConfig, accelerator: Accelerator) -> str:
    """`chosen_dtype` for all processes of a run, by `agreed_speed`; called on all of them with the same arguments."""
    return chosen_dtype(asked, config, accelerator.device, lambda *_: agreed_speed(config, accelerator))


def check_same_dtype(compute_dtype: str, accelerator: Accelerator) -> None:
    """Raises ArgumentError, on all processes, where the models of some compute in another dtype."""
    in_bfloat16 = torch.tensor([compute_dtype == "bfloat16"], device=accelerator.device)
    if len(set(accelerator.gather(in_bfloat16).tolist())) > 1:
        raise ArgumentError("the processes compute in different dtypes: give all models the same config.compute_dtype")


def check_accelerator(accelerator: Accelerator, compute_dtype: str) -> None:
    """Raises ArgumentError for an accelerator under which a model of this dtype would silently take other steps."""
    launched_dtype(compute_dtype, "the model's config")
    devices = [DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU]
    needed = {"mixed_precision": ["no"], "gradient_accumulation_steps": [1], "distributed_type": devices}
    for name, allowed in needed.items():
        value = getattr(accelerator, name)
        if value not in allowed:
            needed = f"HrmTrainer needs {' or '.join(map(str, allowed))} (for bfloat16 set config.compute_dtype)"
            raise ArgumentError(f"the accelerator's {name} is {value}; {needed}: see make_accelerator")


def share_cpu_cores(accelerator: Accelerator, cpu_threads: int | None) -> None:
    """Gives each process on a CPU its threads, where `accelerate launch` would silently leave each one.

    cpu_threads: of each process; None = this machine's usable cores, shared out among its processes.
    """
    if accelerator.device.type == "cpu":
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(cpu_threads or max(1, usable // local_processes))


def on_main_process(accelerator: Accelerator, action: Callable[[], Any], share: bool = False) -> Any:
    """The action's result on the main process; its HrmError or OSError is raised on all.

    share: the others get the result too, not None.
    """
    result, failure = None, None
    if accelerator.is_main_process:
        try:
            result = action()
        except (HrmError, OSError) as error:
            failure = error
    if accelerator.num_processes > 1:
        can_be_sent = OSError(str(failure)) if isinstance(failure, OSError) else failure  # not every OSError can
        sent = [can_be_sent, result if share else None]
        torch.distributed.broadcast_object_list(sent, src=0, group=host_group)
        if not accelerator.is_main_process:
            failure, result = sent
    if failure is not None:
        raise failure
    return result


@contextmanager
def naming_lost_processes(accelerator: Accelerator, where: Callable[[], str]) -> Iterator[None]:
    """Context in which the failure of a collective operation is put into words: ProcessLostError, another process has
    ended; one line on stderr of one process has said so. All processes enter it, at the same point.

    where: says how far the run is and how to resume, "at step 1200. ...".
    """
    if accelerator.num_processes == 1:
        yield
        return
    try:
        with nullcontext() if host_group is not None else _host_group(accelerator):
            yield
    except RuntimeError as error:
        if not _speaks_of_another(error):
            raise
        words = f"another process of the run was killed or has failed {where()}"
        if accelerator.is_main_process or accelerator.process_index == 1 and not _main_process_lives():
            _tell(words)
        raise ProcessLostError(words) from error


@contextmanager
def _host_group(accelerator: Accelerator) -> Iterator[None]:
    global host_group, _alive, _main_port
    if accelerator.is_main_process:
        _alive = socket.create_server(("", 0))
    _main_port = on_main_process(accelerator, lambda: _alive.getsockname()[1], share=True)
    host_group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=365))
    try:
        yield
        torch.distributed.destroy_process_group(host_group)
    except Exception as error:
        if accelerator.is_main_process and not _speaks_of_another(error):
            _alive.close()  # the command says what it was
        elif isinstance(error, HrmError | OSError) and not isinstance(error, ProcessLostError):
            time.sleep(SECONDS_TO_FAIL)
            if _main_process_lives():  # it has not failed in the same way
                _tell(f"process {accelerator.process_index}: {error}")
        raise
    finally:
        host_group = None


def _speaks_of_another(error: Exception) -> bool:
    """Whether this is what gloo, NCCL or their store raise where another process has ended."""
    return isinstance(error, torch.distributed.DistError | ProcessLostError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _tell(words: str) -> None:
    with suppress(OSError):
        os.write(2, f"\nerror: {words}\n".encode())


def _main_process_lives() -> bool:
    """Whether it takes a connection and keeps it: one that is just ending may still have taken it."""
    try:
        with socket.create_connection((os.environ.get("MASTER_ADDR", "127.0.0.1"), _main_port), timeout=2) as peer:
            return peer.recv(1) != b""
    except OSError as error:
        return isinstance(error, TimeoutError)
