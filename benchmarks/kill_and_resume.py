"""Kills a training run with SIGKILL again and again, goes on each time, and compares the end with an unbroken run's.

    python benchmarks/kill_and_resume.py                                # 50 kills of one process, 10 of two
    python benchmarks/kill_and_resume.py --processes 2 --kills 20 --seed 5

Trained is hrm-train sudoku with a small recipe: an average of the weights, evaluations, exports, log lines at
other steps than the states, and passes over the puzzles that end. A third of the kills aim at a save, some at an
export, some at the start (the puzzles of a new run are made there), the others fall anywhere. After each one the same
command goes on with --resume auto. Where a run ends before its kill comes, the remaining kills go to another run with
another seed. With two processes one of them or both are killed; a survivor gets SIGTERM then, as launchers send it,
and must end, see --patience.

Compared with the unbroken run, bit for bit: the weights of all exports, metrics.jsonl without "seconds", and the
saved states that are left, the last one among them, with slots, moments, average, generators and the sampler's place,
but for the time taken and the name of the run. Exit code 1 if anything differs, if a state was found damaged, or if a
survivor did not end.

The processes are forked from this one, which has imported everything and runs no torch operation itself.
"""

import argparse
import json
import mmap
import os
import random
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from side_by_side import be_rank, free_port

from hrm_hf.commands import training_run
from hrm_hf.commands.command import run_as_command
from hrm_hf.commands.training_tasks import SudokuArguments
from hrm_hf.training import HrmTrainer
from hrm_hf.training.states import check_state, read_json_tree

# A pass has 5 batches. Every fifth state (the steps of the exports) falls together with an export.
RECIPE = """
    --size 4 --num_train 40 --num_test 12 --hidden_size 32 --num_attention_heads 2 --halt_max_steps 4
    --global_batch_size 16 --gradient_accumulation_steps 2 --learning_rate 1e-3 --warmup_steps 20 --ema_decay 0.99
    --halt_exploration_prob 0.3 --logging_steps 5 --eval_steps 30 --eval_batch_size 6 --save_steps 35 --state_steps 7
    --state_minutes 0 --state_limit 2 --cpu_threads 1
"""
EPOCHS_PER_PASS = 2
CLOCKS = ("seconds", "elapsed_seconds")
STATE_REMAINS = re.compile(r"\.state-.*\.(partial|replaced)")
EXPORT_REMAINS = re.compile(r"\.checkpoint-.*\.(partial|replaced)")
ATTEMPT_LIMIT = 900.0  # seconds after which a run counts as stuck

# What the training process knows: its last step, and how long a save takes (seconds).
KNOWN = struct.Struct("<qd")
SHARED = mmap.mmap(-1, KNOWN.size)


class WatchedTrainer(HrmTrainer):
    """Writes its step where the parent process can read it, however it ends."""

    num_states, saving_seconds = 0, 0.0

    def optimizer_step(self) -> None:
        super().optimizer_step()
        if self.accelerator.is_main_process:
            SHARED[:] = KNOWN.pack(self.step, self.saving_seconds / max(self.num_states, 1))

    def _save_state(self) -> None:
        started = time.monotonic()
        super()._save_state()
        self.num_states += 1
        self.saving_seconds += time.monotonic() - started


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` after the start, or after the `count`-th folder whose name matches has appeared."""

    aim: str
    seconds: float
    count: int = 0
    folder: re.Pattern = STATE_REMAINS


@dataclass
class Tally:
    """What the attempts of one number of processes came to."""

    kills: int = 0
    hits: Counter = field(default_factory=Counter)
    aimed_at_saves: int = 0
    resumes: int = 0
    lost: list[int] = field(default_factory=list)
    runs: int = 0
    states_compared: int = 0
    stuck: int = 0
    survivors: int = 0
    slowest_survivor: float = 0.0
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended.

    Attributes:
        killed: whether a process died of SIGKILL; otherwise the command is finished.
        log: all that it said.
        survivors: processes that were left over by the kill.
        seconds: that the last survivor took to end.
        stuck: survivors that had to be killed too.
    """

    killed: bool
    log: str
    survivors: int = 0
    seconds: float = 0.0
    stuck: int = 0


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes, in turn")
    parser.add_argument("--kills", type=int, nargs="+", help="kills for each (default: 50 of one process, 10 of more)")
    parser.add_argument("--steps", type=int, default=350, help="steps of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the first run")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds in which a survivor must end")
    parser.add_argument(
        "--folder", type=Path, help="new folder for the runs; default: one that is removed if all is well"
    )
    args = parser.parse_args(argv)
    args.kills = args.kills or [50 if processes == 1 else 10 for processes in args.processes]
    if len(args.kills) != len(args.processes):
        parser.error(f"{len(args.kills)} numbers of kills for {len(args.processes)} numbers of processes")
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    folder.mkdir(parents=True, exist_ok=args.folder is None)
    sound = True
    for processes, kills in zip(args.processes, args.kills, strict=True):
        started = time.monotonic()
        tally = kill_and_resume(processes, kills, args, folder)
        sound &= report(tally, processes, args, time.monotonic() - started)
    if args.folder is None and sound:
        shutil.rmtree(folder)
    else:
        print(f"the runs lie in {folder}")
    sys.exit(0 if sound else 1)


def report(tally: Tally, processes: int, args: argparse.Namespace, seconds: float) -> bool:
    """Prints the counts and the verdict; whether all is well."""
    print(f"\n{processes} process(es), {tally.runs} run(s) of {args.steps} steps, seed {args.seed}:")
    print(f"  kills by SIGKILL: {tally.kills}")
    for hit, count in tally.hits.most_common():
        print(f"    {hit}: {count}")
    print(f"  of them during a save: {tally.hits['in a save']} (aimed at one: {tally.aimed_at_saves})")
    print(f"  steps lost: {sum(tally.lost)} in all, {max(tally.lost, default=0)} at the most in one kill")
    print(f"  resumed from a saved state: {tally.resumes} times")
    if processes > 1:
        print(
            f"  survivors of a kill: {tally.survivors}; the slowest took {tally.slowest_survivor:.1f} s to end; "
            f"killed after {args.patience:g} s: {tally.stuck}"
        )
    for difference in tally.differences:
        print(f"  DIFFERENT: {difference}")
    sound = not tally.differences and tally.stuck == 0
    if tally.kills >= 10 and not (tally.hits["in a save"] and tally.resumes):
        sound = False
        print("  not one kill in a save, or no resume: this run proves nothing; take another seed")
    verdict = (
        f"weights, log and {tally.states_compared} saved states are those of the unbroken runs, bit for bit"
        if not tally.differences
        else f"{len(tally.differences)} differences from the unbroken runs"
    )
    print(f"  verdict: {verdict}{'' if sound or tally.differences else '; but survivors did not end'}")
    print(f"  {seconds:.0f} seconds", flush=True)
    return sound


def kill_and_resume(processes: int, kills: int, args: argparse.Namespace, folder: Path) -> Tally:
    """Runs and kills until the number of kills is reached and the last run finished; compares each finished run."""
    rng, tally = random.Random(f"{args.seed}, {processes}"), Tally()
    while tally.kills < kills:
        name = f"{processes}-process-seed-{args.seed + tally.runs}"
        command = f"{RECIPE} --max_steps {args.steps} --seed {args.seed + tally.runs}".split()
        unbroken, broken = folder / f"{name}-unbroken", folder / f"{name}-killed"
        start_seconds, seconds, save_seconds = train_unbroken(command, unbroken, processes)
        print(
            f"{name}: unbroken in {seconds:.1f} s, {start_seconds:.1f} s of them before the first step, "
            f"{1000 * save_seconds:.1f} ms for a save",
            flush=True,
        )
        attempts = 0
        while True:
            attempts += 1
            moment = None
            if tally.kills < kills:
                moment = draw_moment(rng, attempts == 1, start_seconds, seconds, save_seconds)
            victims = rng.choice([[0], [1], [0, 1]]) if processes == 2 else rng.sample(range(processes), 1)
            if not train_on(command, broken, processes, moment, victims, args, attempts, tally):
                break
        tally.runs += 1
        compared, differences = compare(broken, unbroken)
        tally.states_compared += compared
        tally.differences += [f"{name}: {difference}" for difference in differences]
        print(f"{name}: finished in attempt {attempts}, {'DIFFERENT' if differences else 'equal'}", flush=True)
    return tally


def train_unbroken(command: list[str], run: Path, processes: int) -> tuple[float, float, float]:
    """Trains without a kill; seconds to the first step, in all, and for a save."""
    SHARED[:] = KNOWN.pack(0, 0.0)
    log, first, started = run.with_suffix(".log"), None, time.monotonic()
    running = start([*command, "--output_dir", str(run)], processes, log)
    ended: dict[int, int] = {}
    while len(ended) < processes:
        time.sleep(0.005)
        if first is None and KNOWN.unpack(SHARED[:])[0]:
            first = time.monotonic() - started
        reap(running, ended)
    if any(ended.values()):
        raise SystemExit(f"the unbroken run failed (exit codes {ended}):\n{log.read_text()[-3000:]}")
    return first or 0.0, time.monotonic() - started, KNOWN.unpack(SHARED[:])[1]


def draw_moment(rng: random.Random, new: bool, start_seconds: float, seconds: float, save_seconds: float) -> Moment:
    """A random moment of an attempt; the first one of a run is killed before its first step."""
    aim = "start" if new else rng.choices(("save", "export", "start", "anywhere"), (8, 2, 2, 6))[0]
    if aim == "save":
        return Moment(aim, rng.uniform(0, save_seconds), rng.randint(1, 6))
    if aim == "export":
        return Moment(aim, rng.uniform(0, save_seconds), rng.randint(1, 2), EXPORT_REMAINS)
    if aim == "start":
        return Moment(aim, rng.uniform(0, start_seconds))
    return Moment(aim, start_seconds + rng.uniform(0, seconds - start_seconds) / 5)


def train_on(
    command: list[str],
    run: Path,
    processes: int,
    moment: Moment | None,
    victims: list[int],
    args: argparse.Namespace,
    attempt: int,
    tally: Tally,
) -> bool:
    """One attempt, noted in the tally. Whether it was killed, and another one is due."""
    SHARED[:] = KNOWN.pack(0, 0.0)
    before = remains(run, STATE_REMAINS) | remains(run, EXPORT_REMAINS)
    log = run.with_suffix(f".{attempt}.log")
    running = start([*command, "--output_dir", str(run), "--resume", "auto"], processes, log)
    outcome = wait_and_kill(running, run, moment, victims, log, args.patience)
    tally.resumes += "resuming from" in outcome.log
    for line in outcome.log.splitlines():
        if line.startswith("skipped"):
            tally.differences.append(f"{log.name}: {line}")
    if not outcome.killed:
        return False
    step = KNOWN.unpack(SHARED[:])[0]
    state = max((int(path.name[-8:]) for path in run.glob("state-*")), default=0)
    hit = what_was_hit(run, before, step, args.steps)
    tally.kills += 1
    tally.hits[hit] += 1
    tally.aimed_at_saves += moment.aim == "save"
    tally.lost.append(max(step - state, 0))
    tally.survivors += outcome.survivors
    tally.slowest_survivor = max(tally.slowest_survivor, outcome.seconds)
    tally.stuck += outcome.stuck
    words = f"kill {tally.kills:>3}: {hit}, " + (f"after step {step}" if step else "before a step")
    words += f", newest state {state}" if any(run.glob("state-*")) else ", no state yet"
    if processes > 1:
        words += f"; killed {' and '.join(map(str, victims))}"
        if outcome.survivors:
            words += f", the other ended after {outcome.seconds:.1f} s"
            words += " BECAUSE IT WAS KILLED TOO" if outcome.stuck else ""
    print(words, flush=True)
    return True


def what_was_hit(run: Path, before: set, step: int, steps: int) -> str:
    """What the killed process was doing, from what it left behind."""
    if remains(run, STATE_REMAINS) - before:
        return "in a save"
    if remains(run, EXPORT_REMAINS) - before:
        return "in an export"
    if not (run / "data" / "test.h5").exists():
        return "before the puzzles were made"
    if not (run / "run.json").exists():
        return "before the run had begun"
    if step == 0:
        return "while starting"
    return "after the last step" if step == steps else "between"


def remains(run: Path, name: re.Pattern) -> set[tuple[str, int]]:
    """Folders that are being put together or taken apart, and what broken attempts have left; name and inode."""
    try:
        with os.scandir(run) as entries:
            return {(entry.name, entry.inode()) for entry in entries if name.fullmatch(entry.name)}
    except FileNotFoundError:
        return set()


# the processes


def start(argv: list[str], processes: int, log: Path) -> dict[int, int]:
    """Starts the command in this many processes; process numbers by rank."""
    sys.stdout.flush()
    log.touch()  # a process may be killed before it has opened it
    port, running = free_port(), {}
    for rank in range(processes):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = be_trainer(argv, rank, processes, port, log)
            finally:
                os._exit(code)
        running[rank] = pid
    return running


def be_trainer(argv: list[str], rank: int, processes: int, port: int, log: Path) -> int:
    """What a forked process does: the command; its exit code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)  # a kill must not take with it what was said
    os.environ["ACCELERATE_USE_CPU"] = "true"
    if processes > 1:
        be_rank(rank, processes, port)
    # The command's own pass over the puzzles never ends.
    training_run.training_batches = partial(training_run.training_batches, epochs_per_pass=EPOCHS_PER_PASS)
    try:
        return run_as_command(lambda words: training_run.run_training(SudokuArguments, words, WatchedTrainer), argv)
    except SystemExit as error:
        return error.code
    except BaseException:
        traceback.print_exc()
        return 1


def wait_and_kill(
    running: dict[int, int], run: Path, moment: Moment | None, victims: list[int], log: Path, patience: float
) -> Outcome:
    """Waits for the moment and kills the victims, then waits for the rest to end.

    Raises:
        SystemExit: the command failed or hangs without a kill.
    """
    ended: dict[int, int] = {}
    if moment is not None and wait_for(moment, running, ended, run):
        victims = [rank for rank in victims if rank not in ended]
        for rank in victims:
            os.kill(running[rank], signal.SIGKILL)
        for rank in victims:
            ended[rank] = os.waitstatus_to_exitcode(os.waitpid(running[rank], 0)[1])
        for rank in running.keys() - ended.keys():
            os.kill(running[rank], signal.SIGTERM)
    killed = -signal.SIGKILL in ended.values()
    survivors, at, stuck = len(running) - len(ended), time.monotonic(), 0
    limit = patience if killed else ATTEMPT_LIMIT
    while len(ended) < len(running):
        time.sleep(0.005)
        reap(running, ended)
        if time.monotonic() - at > limit:
            for rank in running.keys() - ended.keys():
                os.kill(running[rank], signal.SIGKILL)
                stuck += 1
            limit = float("inf")
    said = log.read_text(errors="replace")
    if not killed and any(ended.values()):
        raise SystemExit(f"without a kill the command ended with the exit codes {ended} ({log}):\n{said[-3000:]}")
    return Outcome(killed, said, survivors, time.monotonic() - at if survivors else 0.0, stuck)


def wait_for(moment: Moment, running: dict[int, int], ended: dict[int, int], run: Path) -> bool:
    """Whether the moment has come; False where all processes end before it. What ends is noted in `ended`."""
    started, seen, appeared = time.monotonic(), remains(run, moment.folder), 0
    while len(ended) < len(running):
        reap(running, ended)
        if moment.count:
            now = remains(run, moment.folder)
            appeared += len(now - seen)
            seen |= now
            if appeared >= moment.count:
                time.sleep(moment.seconds)
                return True
        elif time.monotonic() - started >= moment.seconds:
            return True
        time.sleep(0.0005)
    return False


def reap(running: dict[int, int], ended: dict[int, int]) -> None:
    """Notes the exit codes of the processes that have ended; -9 for SIGKILL."""
    for rank in running.keys() - ended.keys():
        pid, status = os.waitpid(running[rank], os.WNOHANG)
        if pid:
            ended[rank] = os.waitstatus_to_exitcode(status)


# the comparison


def compare(run: Path, other: Path) -> tuple[int, list[str]]:
    """How many saved states two finished runs share, and what is different in them, in their exports and logs."""
    found = []
    ours, theirs = log_lines(run), log_lines(other)
    if ours != theirs:
        number = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        where = f"{len(ours)} lines, not {len(theirs)}" if number is None else f"line {number + 1}: {ours[number]}"
        found.append(f"metrics.jsonl, {where}")
    ours, theirs = (
        {path.parent.name: path for path in each.glob("checkpoint-*/model.safetensors")} for each in (run, other)
    )
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            found.append(f"{name} is in {(run if name in ours else other).name} only")
        elif ours[name].read_bytes() != theirs[name].read_bytes():
            found.append(f"the weights of {name}")
    ours, theirs = ({path.name for path in each.glob("state-*")} for each in (run, other))
    if not theirs or max(theirs) not in ours:
        found.append(f"the last state is {max(ours, default=None)}, not {max(theirs, default=None)}")
    shared = sorted(ours & theirs)
    for name in shared:
        found += [f"{name}, {difference}" for difference in compare_states(run / name, other / name)]
    return len(shared), found


def compare_states(path: Path, other: Path) -> list[str]:
    """What is different in two saved states, every byte of which is checked against its manifest as well."""
    for state in (path, other):
        check_state(state)
    ours, theirs = ({file.name: file for file in state.iterdir()} for state in (path, other))
    if ours.keys() != theirs.keys():
        return [f"the files are {sorted(ours)}, not {sorted(theirs)}"]
    found = [
        f"the tensors of {name}"
        for name in ours
        if name.endswith(".safetensors") and ours[name].read_bytes() != theirs[name].read_bytes()
    ]
    for name in (name.removesuffix(".safetensors") for name in ours if name.endswith(".safetensors")):
        # the log is compared as metrics.jsonl; as text, for NaN is equal to NaN then
        a, b = (
            {**read_json_tree(state, name), "elapsed_seconds": 0, "run_id": "", "log": []} for state in (path, other)
        )
        a, b = ({key: json.dumps(value) for key, value in tree.items()} for tree in (a, b))
        found += [f"{key} of {name}" for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return found


def log_lines(run: Path) -> list[str]:
    """metrics.jsonl without its clock, each line as text again: NaN is equal to NaN then."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [json.dumps({name: value for name, value in line.items() if name not in CLOCKS}) for line in lines]


if __name__ == "__main__":
    main()
