"""Trains in several real gloo processes, with one fault each, and writes down how every process ended.

python tests/process_faults.py FOLDER NAME:PROCESSES:LAUNCHED:FAULT:VICTIM ...

All runs fork from one process that has imported everything, and run beside one another. LAUNCHED 0: nobody ends the
processes but they themselves; 1: torchrun's agent starts and watches them. FOLDER/NAME gets `RANK.err` (its stderr),
`RANK.step` (where it ended), `ended.json` (exit codes by rank; "launcher" if there was one; "hangs" after two minutes)
and `run`, the run folder.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from test_modeling import some_inputs, tiny_model
from test_two_processes import free_port
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hrm_hf import DataError
from hrm_hf.commands.training_run import run_as_command
from hrm_hf.training import HrmTrainer, HrmTrainingArguments, lost_process, make_accelerator, on_main_process
from hrm_hf.training import stop_requests as stops

ENDED_AT_ONCE = ("alone", "stuck")  # faults for which the seconds of patience are shortened


def rows(seed: int, count: int) -> dict[str, torch.Tensor]:
    identifiers = torch.full((count,), seed % 3)
    return {
        "input_ids": some_inputs(count, seed),
        "labels": some_inputs(count, seed + 100),
        "puzzle_identifiers": identifiers,
    }


class Rows:
    """Seven rows to evaluate on."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, part: slice) -> dict[str, np.ndarray]:
        return {name: value[part].numpy() for name, value in rows(5, 7).items()}


def train(folder: Path, fault: str, victim: int) -> None:
    """One process's part of a run in which the victim has the fault, at step 3 at the latest."""
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    hit = rank == victim

    def die() -> None:
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)

    def batches():
        for seed in range(1000):
            if seed == 2:
                if fault == "data" and hit:
                    raise DataError("row 17 of this file is bad")
                if fault == "data of all":
                    raise DataError("row 17 of this file is bad")
                if fault == "alone":
                    die()
                    if rank == 0:
                        time.sleep(1000)
                if fault == "stuck":  # the others wait for the victim in a collective operation
                    if hit:
                        time.sleep(1000)
                    for seconds in (1.0, 2.0):
                        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
            if seed >= 2 and fault == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)  # again and again
            if seed == 2 and fault == "SIGINT" and hit:
                os.kill(os.getpid(), signal.SIGINT)
            yield rows(seed, 2)

    args = HrmTrainingArguments(
        global_batch_size=2 * world,
        max_steps=50 if fault != "export" else 3,
        warmup_steps=0,
        logging_steps=50,
        eval_batch_size=1,
        eval_steps=2,
        output_dir=str(folder / "run"),
    )
    if fault in ENDED_AT_ONCE:
        lost_process.SECONDS_TO_LEAVE, lost_process.SECONDS_TO_SPEAK, stops.SECONDS_TO_LEAVE = 1.0, 0.5, 1.0
    accelerator = make_accelerator(args)
    trainer = HrmTrainer(tiny_model(num_puzzle_identifiers=3), args, batches(), accelerator, Rows())
    if fault == "backward":
        passes = iter(range(1000))
        weight = next(p for name, p in trainer.model.named_parameters() if "layers" in name)
        weight.register_hook(lambda gradient: die() if next(passes) == 2 else None)
    if fault == "table":
        gather, calls = trainer.puzzle_optimizer.gather, iter(range(1000))
        trainer.puzzle_optimizer.gather = lambda tensor: (next(calls) == 3 and die()) or gather(tensor)
    if fault == "evaluation":
        gather, calls = accelerator.gather, iter(range(1000))
        accelerator.gather = lambda tensor: (trainer.step == 2 and next(calls) == 2 and die()) or gather(tensor)
    if fault == "export":
        export = trainer.export
        trainer.export = lambda name: (name == "checkpoint-final" and die()) or export(name)

    def main() -> None:
        try:
            if fault == "broadcast":
                with lost_process.naming_lost_processes(accelerator, lambda: "before step 1"):
                    die()
                    on_main_process(accelerator, lambda: time.sleep(1))
            trainer.train()
        finally:
            (folder / f"{rank}.step").write_text(str(trainer.step))
            trainer.close()
            accelerator.end_training()

    run_as_command(main)


def as_process(folder: Path, fault: str, victim: int) -> None:
    """Called in a new process: its stderr goes to a file."""
    sys.stderr.flush()
    os.dup2(os.open(folder / f"{os.environ['RANK']}.err", os.O_WRONLY | os.O_CREAT, 0o600), 2)
    train(folder, fault, victim)


def launch(folder: Path, port: int, processes: int, fault: str, victim: int) -> None:
    config = LaunchConfig(
        1, 1, processes, rdzv_endpoint=f"127.0.0.1:{port}", rdzv_backend="static", rdzv_configs={"rank": 0},
        start_method="fork", run_id=folder.name, max_restarts=0,
    )  # fmt: skip
    os.dup2(os.open(folder / "launcher.err", os.O_WRONLY | os.O_CREAT, 0o600), 2)
    elastic_launch(config, as_process)(folder, fault, victim)


def start(folder: Path, port: int, processes: int, launched: bool, fault: str, victim: int) -> dict[int, str]:
    """Forks; the children leave by SystemExit, as any interpreter does. Returns who is who, by process id."""
    folder.mkdir()
    children = {}
    for rank in ["launcher"] if launched else range(processes):
        child = os.fork()
        if child == 0:
            if launched:
                launch(folder, port, processes, fault, victim)
            else:
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                as_process(folder, fault, victim)
            sys.exit(0)
        children[child] = str(rank)
    return children


def main(target: str, runs: list[str]) -> None:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    gc.freeze()  # or every child would copy all that was imported
    first = free_port()
    waiting: dict[int, tuple[str, str]] = {}
    ended: dict[str, dict[str, int | str]] = {}
    for number, run in enumerate(runs):
        name, processes, launched, fault, victim = run.split(":")
        children = start(Path(target) / name, first + number, int(processes), launched == "1", fault, int(victim))
        waiting |= {child: (name, rank) for child, rank in children.items()}
    deadline = time.monotonic() + 120
    while waiting and time.monotonic() < deadline:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            name, rank = waiting.pop(child)
            ended.setdefault(name, {})[rank] = os.waitstatus_to_exitcode(status)

        time.sleep(0.02)
    for child, (name, rank) in waiting.items():
        ended.setdefault(name, {})[rank] = "hangs"
        os.kill(child, signal.SIGKILL)
    for name, codes in ended.items():
        (Path(target) / name / "ended.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
