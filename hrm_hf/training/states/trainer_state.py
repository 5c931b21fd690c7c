"""All that a training run consists of between two steps, to disk and back: see run_states.py for the files themselves.

A state holds, by file: weights; the moments of AdamATan2; the average of the weights; one file for every process with
its slots (carry AND puzzles), its exploration generator and its sums since the last log line; metrics.jsonl; and
state.json with step, place in the training batches, best score, name of the run and the facts that rule its result.

The slots are those of the global batch, cut into parts, so that a run may go on with another number of processes.

Nothing of the schedule is saved: the rates follow from the step. SparseSignSGD has no state.
"""

from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, gather_object

from ...hrm.errors import ArgumentError, CheckpointError
from ...hrm.modeling_hrm import HrmCarry
from ..best_score import scores_from_json, scores_to_json
from ..console import Console
from ..main_process import on_main_process
from ..run_folder import choose_run_dir
from ..slots import ActSlots
from .run_states import (
    FileRecord,
    SavedState,
    drop_partial,
    is_state_name,
    newest_state,
    open_state,
    partial_folder,
    prune_states,
    seal_state,
    start_state,
    write_bytes,
    write_json,
    write_tensors,
)

if TYPE_CHECKING:
    from ..trainer import HrmTrainer

WEIGHTS, MOMENTS, AVERAGE = "weights.safetensors", "moments.safetensors", "average.safetensors"
STATE, LOG = "state.json", "metrics.jsonl"
SLOT_DATA = ("input_ids", "labels", "puzzle_identifiers")

# Arguments that may differ when a run goes on: they change no weight beyond the rounding of sums.
FREE_ARGUMENTS = frozenset(
    {
        "compile",
        "cpu_threads",
        "epochs",  # what counts is max_steps
        "eval_batch_size",
        "gradient_accumulation_steps",
        "hub_private",
        "logging_steps",
        "output_dir",
        "push_to_hub",
        "report_to",
        "resume",
        "save_steps",
        "state_limit",
        "state_minutes",
        "state_steps",
    }
)


def ruling_facts(trainer: "HrmTrainer") -> dict[str, Any]:
    """What must be the same where a run goes on: architecture, arguments and data, as one flat JSON-able mapping."""
    config = trainer.model.config
    architecture = {name: value for name, value in config.to_dict().items() if name in type(config).__annotations__}
    arguments = {name: value for name, value in vars(trainer.args).items() if name not in FREE_ARGUMENTS}
    if trainer.args.lr_min_ratio == 1.0:
        arguments.pop("max_steps")  # the rate stays constant after the warm-up: a run may be made longer
    if trainer.args.early_stopping_patience is None:
        for name in ("eval_steps", "metric_for_best", "early_stopping_threshold"):
            arguments.pop(name)
    parts = {"model": architecture, "training": arguments, "data": trainer.data_facts}
    return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


def rank_file(rank: int, num_processes: int) -> str:
    """Name of the files of one process, without what tells them apart."""
    return f"process-{rank:05d}-of-{num_processes:05d}"


def save_state(trainer: "HrmTrainer", run_dir: Path) -> None:
    """Writes a state of this step, on every process; the newest ones and the best are kept.

    Raises:
        OSError: it could not be written, on every process; older states are untouched.
        ArgumentError: something in it can never be saved, such as a place in the batches that is no JSON.
    """
    accelerator, step = trainer.accelerator, trainer.step
    on_main_process(accelerator, lambda: start_state(run_dir, step))
    folder, records, failure = partial_folder(run_dir, step), [], None
    try:
        records = _write_parts(trainer, folder)
    except (OSError, ArgumentError) as error:
        failure = OSError(str(error)) if isinstance(error, OSError) else error
    outcomes: list[tuple[list[FileRecord], Exception | None]] = gather_object([(records, failure)])

    def finish() -> None:
        failures = [failure for _, failure in outcomes if failure is not None]
        if not failures:
            try:
                seal_state(run_dir, step, [record for records, _ in outcomes for record in records])
            except CheckpointError as error:  # what the processes wrote is not what the main one sees
                failures = [OSError(str(error))]
        if failures:
            drop_partial(run_dir)
            raise failures[0]
        best = [] if trainer.best.step is None else [trainer.best.step]
        try:
            prune_states(run_dir, trainer.args.state_limit, also=best)
        except OSError as error:
            Console().say(f"\nthe state of step {step} is saved, but older ones could not be removed: {error}")

    on_main_process(accelerator, finish)


def _write_parts(trainer: "HrmTrainer", folder: Path) -> list[FileRecord]:
    accelerator = trainer.accelerator
    own = rank_file(accelerator.process_index, accelerator.num_processes)
    records = [
        write_tensors(folder, f"{own}.safetensors", _own_tensors(trainer)),
        write_json(folder, f"{own}.json", {"batches": trainer.batches.state_dict()}),
    ]
    if not accelerator.is_main_process:
        return records
    names = _dense_names(trainer)
    moments, numbers = {}, {}
    for index, entries in trainer.dense_optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                moments[f"{names[index]}/{key}"] = value
            else:
                numbers[f"{names[index]}/{key}"] = value
    records.append(write_tensors(folder, WEIGHTS, trainer.model.state_dict()))
    records.append(write_tensors(folder, MOMENTS, moments))
    average = trainer.average
    if average is not None:
        records.append(write_tensors(folder, AVERAGE, dict(zip(names, average.averages, strict=True))))
    log = trainer.run_folder.log_so_far()
    state = {
        "step": trainer.step,
        "num_processes": accelerator.num_processes,
        "has_slots": trainer.slots is not None,
        "moments": numbers,
        "average_updates": None if average is None else average.num_updates,
        "window": {"names": list(trainer.window), "steps": trainer.window_steps},
        "best": trainer.best.state_dict(),
        "scores": scores_to_json(trainer.scores),
        "run_id": trainer.run_id,
        "elapsed_seconds": trainer.run_folder.elapsed_seconds,
        "facts": ruling_facts(trainer),
    }
    return [*records, write_bytes(folder, LOG, log), write_json(folder, STATE, state)]


def _dense_names(trainer: "HrmTrainer") -> list[str]:
    """Names of the parameters of the dense optimiser, in its order."""
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    return [names[parameter] for group in trainer.dense_optimizer.param_groups for parameter in group["params"]]


def _own_tensors(trainer: "HrmTrainer") -> dict[str, torch.Tensor]:
    """What only this process knows."""
    tensors = {"exploration": trainer.exploration.get_state(), "pass_generator": trainer.batches.generator}
    if trainer.window:
        tensors["window"] = torch.stack(list(trainer.window.values()))
    if trainer.slots is not None:
        parts = [
            {"z_H": part.carry.z_H, "z_L": part.carry.z_L, "steps": part.steps, "halted": part.halted, **part.data}
            for part in trainer.slots
        ]
        tensors |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return tensors


def find_state(trainer: "HrmTrainer", run_dir: Path) -> SavedState | None:
    """The state that `--resume` asks for, the same on every process; None where the run has yet to start.

    The main process chooses and checks it, says which one and why, and moves newer ones out of the way.

    Raises:
        CheckpointError: what was asked for is damaged or not there, or every state of the run is damaged.
        ArgumentError: data, architecture or arguments differ from those of the state.
    """

    def choose() -> SavedState | None:
        choose_run_dir(trainer.args.resume, str(run_dir), "")  # refuses another folder's states
        asked_for = Path(trainer.args.resume)
        if trainer.args.resume == "auto" or not is_state_name(asked_for.name):
            state, passed_over = newest_state(run_dir)
            for line in passed_over:
                print(f"passed over: {line}")
            if state is None and (trainer.args.resume != "auto" or (run_dir / LOG).exists()):
                raise CheckpointError(f"{run_dir} holds no saved state to go on from")
            if state is None:
                print(f"{run_dir} holds no saved state yet: the run starts at its beginning")
                return None
            why = "the newest one" if not passed_over else "the newest that is whole"
        else:
            try:
                state, why = open_state(asked_for), "as asked for"
            except CheckpointError as error:
                raise CheckpointError(f"{error}. --resume {run_dir} takes the newest state that is whole") from error
        _check_facts(trainer, state)
        _clear_away(run_dir, state, keep=trainer.args.state_limit)
        print(f"going on from {state.path} ({why}), step {state.step}")
        return state

    chosen = [on_main_process(trainer.accelerator, choose)]
    broadcast_object_list(chosen)
    return chosen[0]


def _clear_away(run_dir: Path, state: SavedState, keep: int) -> None:
    """Renames states that are newer than the one the run goes on from, damaged or not wanted, so that no later save
    takes them for the newest, and removes what a broken save has left.
    """
    drop_partial(run_dir)
    for newer in sorted(run_dir.glob("state-*")):
        if newer.name > state.path.name:
            names = (f"left-{newer.name}{suffix}" for suffix in chain([""], (f"-{i}" for i in count(2))))
            left = next(path for path in map(newer.with_name, names) if not path.exists())
            print(f"{newer.name} is newer and kept as {left.name}")
            newer.rename(left)
    best = state.json(STATE)["best"]["step"]
    prune_states(run_dir, keep, also=[] if best is None else [best])


def _check_facts(trainer: "HrmTrainer", state: SavedState) -> None:
    saved, ours = state.json(STATE)["facts"], ruling_facts(trainer)
    differences = [
        f"{name} was {saved.get(name)!r}, now it is {ours.get(name)!r}"
        for name in sorted(saved.keys() | ours.keys())
        if saved.get(name) != ours.get(name) and name in saved and name in ours
    ]
    differences += [f"{name} was not known then" for name in sorted(ours.keys() - saved.keys())]
    differences += [f"{name} is gone" for name in sorted(saved.keys() - ours.keys())]
    if differences:
        raise ArgumentError(
            f"{state.path} belongs to another run: " + "; ".join(differences) + ". Give the arguments of that run, or "
            "start a new one in another --output-dir"
        )


def restore_state(trainer: "HrmTrainer", state: SavedState) -> None:
    """Puts a state into a trainer that has not trained yet; the processes may be others than those that saved it.

    Raises:
        CheckpointError: a state whose parts do not fit the model.
        ArgumentError: training batches of other data.
    """
    record = state.json(STATE)
    names = _dense_names(trainer)
    _copy_into(trainer.model.state_dict(), state.tensors(WEIGHTS), state.path / WEIGHTS)
    moments: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in (state.tensors(MOMENTS) | record["moments"]).items():
        name, _, entry = key.rpartition("/")
        if name not in moments:
            raise CheckpointError(f"{state.path / MOMENTS} has {key!r}, which is no parameter of the model")
        moments[name][entry] = value
    own = trainer.dense_optimizer.state_dict()
    own["state"] = {index: moments[name] for index, name in enumerate(names) if moments[name]}
    trainer.dense_optimizer.load_state_dict(own)
    if trainer.average is not None:
        averages = dict(zip(names, trainer.average.averages, strict=True))
        _copy_into(averages, state.tensors(AVERAGE), state.path / AVERAGE)
        trainer.average.num_updates = record["average_updates"]
    trainer.step = record["step"]
    trainer.best.load_state_dict(record["best"])
    trainer.scores, trainer.run_id = scores_from_json(record["scores"]), record["run_id"]
    _restore_own(trainer, state, record)
    if trainer.run_folder is not None:
        trainer.run_folder.go_on(state.bytes(LOG), record["elapsed_seconds"])


@torch.no_grad()
def _copy_into(targets: dict[str, torch.Tensor], sources: dict[str, torch.Tensor], file: Path) -> None:
    if targets.keys() != sources.keys():
        other = sorted(targets.keys() ^ sources.keys())[0]
        raise CheckpointError(f"{file} and the model do not hold the same tensors: {other} is in one of them only")
    for name, target in targets.items():
        if sources[name].shape != target.shape or sources[name].dtype != target.dtype:
            was = f"{sources[name].dtype} {tuple(sources[name].shape)}"
            raise CheckpointError(f"{file}: {name} is {was}; expected {target.dtype} {tuple(target.shape)}")
        target.copy_(sources[name])


def _restore_own(trainer: "HrmTrainer", state: SavedState, record: dict[str, Any]) -> None:
    """Slots, generator and sums of this process, from the files of those processes that had its rows."""
    rank, processes, saved = (
        trainer.accelerator.process_index,
        trainer.accelerator.num_processes,
        record["num_processes"],
    )

    @cache
    def file_of(each: int) -> dict[str, torch.Tensor]:
        return state.tensors(f"{rank_file(each, saved)}.safetensors")

    own = file_of(rank) if processes == saved else file_of(0)
    trainer.exploration.set_state(own["exploration"])  # the draws are for all slots: equal everywhere
    places = [state.json(f"{rank_file(each, saved)}.json")["batches"] for each in range(saved)]
    if processes != saved and any(place != places[0] for place in places):
        raise CheckpointError(
            f"{state.path}: its {saved} processes stand at different places of their batches; only as many can go on"
        )
    trainer.batches.load_state_dict(places[rank if processes == saved else 0], own["pass_generator"])
    device, names = trainer.accelerator.device, record["window"]["names"]
    trainer.window_steps = record["window"]["steps"]
    if names:
        mine = [rank] if processes == saved else (range(saved) if rank == 0 else [])
        sums = [file_of(each)["window"] for each in mine]
        total = torch.stack(sums).sum(0) if sums else torch.zeros(len(names), dtype=torch.float64)
        trainer.window = dict(zip(names, total.to(device).unbind(), strict=True))
    if not record["has_slots"]:
        return
    rows, saved_rows = trainer.local_batch_size, trainer.args.global_batch_size // saved
    first = rank * rows
    owners = range(first // saved_rows, (first + rows - 1) // saved_rows + 1)
    files = [file_of(each) for each in owners]
    start = first - owners[0] * saved_rows
    data = {
        name: torch.cat([file[name] for file in files])[start : start + rows].to(device)
        for name in ("z_H", "z_L", "steps", "halted", *SLOT_DATA)
    }
    if any(len(value) != rows for value in data.values()):
        raise CheckpointError(f"{state.path} does not hold the {rows} rows of process {rank}")
    parts = {name: value.chunk(trainer.args.gradient_accumulation_steps) for name, value in data.items()}
    trainer.slots = [
        ActSlots(
            carry=HrmCarry(parts["z_H"][i].clone(), parts["z_L"][i].clone()),
            steps=parts["steps"][i].clone(),
            halted=parts["halted"][i].clone(),
            data={name: parts[name][i].clone() for name in SLOT_DATA},
        )
        for i in range(trainer.args.gradient_accumulation_steps)
    ]
