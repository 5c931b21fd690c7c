"""Saving a run's state on all its processes, and the state that a run resumes from.

A state holds one tree of what all processes share, written by the main one, and one tree for every process with what
only that one knows. What is in them is the business of the trainer's parts; here it is only known which of them belong
to rows of the global batch, so that another number of processes can resume.
"""

from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..files import mend_folders, partial_folder
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import ArgumentError, CheckpointError
from ..progress import get_logger
from . import states
from .processes import agreed_dtype, agreed_speed, on_main_process
from .run_folder import choose_run_dir

SHARED = "state"  # name of the tree of what all processes share
logger = get_logger(__name__)


def save_state(
    accelerator: Accelerator,
    run_dir: Path,
    step: int,
    shared: dict[str, Any],
    own: dict[str, Any],
    keep: int,
    best_step: int | None,
) -> Path:
    """Writes a state and returns its folder; call it on every process. The newest `keep` states stay, and the best.

    `shared` counts on the main process only; `own` is what only this process knows, see `own_tree`.

    Raises, on every process, OSError where it could not be written (older states are untouched) and ArgumentError for
    what can never be saved, such as a place in the batches that is no JSON.
    """
    on_main_process(accelerator, lambda: states.start_state(run_dir, step))
    folder, records, failure = partial_folder(run_dir / states.state_name(step)), [], None
    try:
        records = states.write_tree(folder, _process_name(accelerator.process_index, accelerator.num_processes), own)
        if accelerator.is_main_process:
            records += states.write_tree(folder, SHARED, shared)
    except (OSError, ArgumentError) as error:
        failure = OSError(str(error)) if isinstance(error, OSError) else error
    outcomes: list[tuple[list[states.FileRecord], Exception | None]] = gather_object([(records, failure)])

    def finish() -> None:
        failures = [failure for _, failure in outcomes if failure is not None]
        if not failures:
            try:
                states.seal_state(run_dir, step, [record for records, _ in outcomes for record in records])
            except CheckpointError as error:  # what the processes wrote is not what the main one sees
                failures = [OSError(str(error))]
        if failures:
            mend_folders(run_dir)
            raise failures[0]
        try:
            states.prune_states(run_dir, keep, also=[best_step])
        except OSError as error:
            logger.warning(f"the state of step {step} is saved, but older ones could not be removed: {error}")

    on_main_process(accelerator, finish)
    return run_dir / states.state_name(step)


def find_state(accelerator: Accelerator, run_dir: Path, resume: str, facts: dict[str, Any], keep: int) -> Path | None:
    """The folder of the state that `resume` asks for, the same on every process; None where the run has yet to start.

    The main process chooses and checks it, says which one and why, and moves newer ones out of the way. Raises
    CheckpointError where it is damaged or not there, ArgumentError where its facts differ from `facts`.
    """

    def choose() -> Path | None:
        choose_run_dir(resume, str(run_dir), "")  # refuses another folder's states
        if resume == "auto" or not states.is_state_name(Path(resume).name):
            state, passed_over = states.newest_state(run_dir)
            for line in passed_over:
                logger.warning(f"skipped: {line}")
            if state is None and (resume != "auto" or (run_dir / "metrics.jsonl").exists()):
                raise CheckpointError(f"{run_dir} holds no saved state to resume from")
            if state is None:
                logger.info(f"{run_dir} holds no saved state yet: the run starts from the beginning")
                return None
            why = "the newest one" if not passed_over else "the newest complete one"
        else:
            state, why = Path(resume), "as asked for"
            try:
                states.check_state(state)
            except CheckpointError as error:
                raise CheckpointError(f"{error}. --resume {run_dir} resumes from the newest complete state") from error
        shared = states.read_json_tree(state, SHARED)
        try:
            saved, best_step, step = dict(shared["facts"]), shared["best"]["step"], shared["step"]
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"{state} is not whole, its tree lacks {error}") from error
        _check_facts(state, saved, facts)
        _clear_away(run_dir, state, keep, best_step)
        logger.info(f"resuming from {state} ({why}), step {step}")
        return state

    return on_main_process(accelerator, choose, share=True)


def saved_architecture(run_dir: Path) -> dict[str, Any] | None:
    """The model's configuration in the newest complete state of a run, None where there is no state.

    Raises CheckpointError where all states are damaged.
    """
    state, _ = states.newest_state(run_dir)
    facts = {} if state is None else states.read_json_tree(state, SHARED)["facts"]
    return {name.removeprefix("model."): facts[name] for name in facts if name.startswith("model.")} or None


def dtype_of_run(asked: str | None, config: HrmConfig, accelerator: Accelerator, run_dir: Path | None) -> str:
    """The dtype in which all processes of a run compute; a log line says why.

    asked: see `chosen_dtype`; None and "auto" keep, in a run that resumes, the dtype that it began with. run_dir:
    folder of a run that resumes, else None. Raises as `saved_architecture`.
    """
    if run_dir is not None and asked in (None, "auto"):
        saved = on_main_process(accelerator, lambda: saved_architecture(run_dir), share=True)
        if saved is not None:
            logger.info(f"compute_dtype {saved['compute_dtype']}, with which the run began")
            return saved["compute_dtype"]
    dtype = agreed_dtype(asked, config, accelerator)
    if asked == "auto":
        speed = agreed_speed(config, accelerator)
        fast = f"{speed:.1f} times as fast as" if speed >= 1 else f"{1 / speed:.1f} times slower than"
        logger.info(f"compute_dtype {dtype} (auto: products in bfloat16 are {fast} in float32 here)")
    return dtype


def _clear_away(run_dir: Path, state: Path, keep: int, best_step: int | None) -> None:
    """Renames states newer than `state`, so that no later save takes them for the newest; removes broken saves."""
    mend_folders(run_dir)
    for newer in sorted(run_dir.glob("state-*")):
        if newer.name > state.name:
            names = (f"left-{newer.name}{suffix}" for suffix in chain([""], (f"-{i}" for i in count(2))))
            left = next(path for path in map(newer.with_name, names) if not path.exists())
            logger.warning(f"{newer.name} is newer and kept as {left.name}")
            newer.rename(left)
    states.prune_states(run_dir, keep, also=[best_step])


def _check_facts(path: Path, saved: dict[str, Any], ours: dict[str, Any]) -> None:
    differences = [
        f"{name} was {saved.get(name, 'not known')!r}, now it is {ours.get(name, 'gone')!r}"
        for name in sorted(saved.keys() | ours.keys())
        if (name in saved, saved.get(name)) != (name in ours, ours.get(name))
    ]
    if differences:
        words = f"{path} belongs to another run: {'; '.join(differences)}. Pass the arguments of that run, or start a "
        words += "new one in another folder"
        last = saved.get("training.max_steps")
        if last not in (None, ours.get("training.max_steps")):
            falls = f"falls until step {last} (lr_min_ratio {saved['training.lr_min_ratio']})"
            words += f". Its max_steps cannot change, because its learning rate {falls}: for another number of steps "
            words += f"start a new run from its weights, --init_from with a checkpoint in {path.parent}"
        raise ArgumentError(words)


def own_tree(state: Path, rank: int, num_processes: int) -> dict[str, Any]:
    """What process `rank` of now `num_processes` resumes with.

    Where another number saved, the slots, which are those of the global batch, are cut anew; the sums of the window
    are added up on the main process; CheckpointError unless all that saved are at the same place in the batches.
    """
    saved = states.read_json_tree(state, SHARED)["num_processes"]
    if saved == num_processes:
        return states.read_tree(state, _process_name(rank, saved))
    trees = [states.read_tree(state, _process_name(each, saved)) for each in range(saved)]
    places = [{**tree["batches"], "generator": None} for tree in trees]
    if any(place != places[0] for place in places):
        raise CheckpointError(f"{state}: its {saved} processes are at different batches; only as many can resume")
    slots, sums = ([tree[name] for tree in trees] for name in ("slots", "window"))
    rows = {name: torch.cat([part[name] for part in slots]).chunk(num_processes)[rank] for name in slots[0]}
    totals = {name: sum(part["sums"][name] for part in sums) for name in sums[0]["sums"]}
    window = {"steps": sums[0]["steps"], "sums": totals if rank == 0 else {n: 0 * t for n, t in totals.items()}}
    return {**trees[0], "slots": rows, "window": window}


def _process_name(rank: int, num_processes: int) -> str:
    return f"process-{rank:05d}-of-{num_processes:05d}"
