"""HrmTrainer: one segment of every slot, one optimiser step, again and again; on Accelerate, one process or many.

It is handed a model and batches and knows neither games nor files of puzzles.

A step: halted slots take the puzzles offered; forward with gradient; under Q-learning one more segment, without
gradient and for the q values alone, gives the target of q_continue; the loss is summed over the global batch; puzzle
table first, then AdamATan2.
With several processes slot i of the global batch lives on process i // (B / processes), and the draws of exploration
are made for all slots on every process, then sliced, so that neither depends on the number of processes.
"""

import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast, broadcast_object_list
from safetensors.torch import load_model
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from ..hrm.errors import ArgumentError, CheckpointError, DataError, NonFiniteError
from ..hrm.halting import ExplorationDraws, draw_exploration, exploration_min_steps, q_continue_targets, training_halt
from ..hrm.losses import segment_losses
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hub.push import push_checkpoint
from ..scores.compiled import compiled_block
from ..scores.evaluation import PuzzleRows, evaluate_puzzles
from .adam_atan2 import make_adam_atan2
from .arguments import HrmTrainingArguments
from .averaging import WeightAverage
from .batch_stream import BatchStream
from .best_score import BestScore
from .console import Console
from .finite_watch import FiniteWatch
from .lost_process import naming_lost_processes
from .main_process import on_main_process
from .run_folder import RunFolder
from .schedule import learning_rate_at
from .sign_sgd import SparseSignSGD
from .slots import ActSlots, Batch, on_device
from .states.run_states import state_steps
from .states.trainer_state import find_state, restore_state, save_state
from .step_metrics import means, segment_sums
from .stop_requests import StoppedBySignal, StopRequests
from .trackers import Trackers

PUZZLE_TABLE = "model.puzzle_embeddings.weight"


def make_accelerator(args: HrmTrainingArguments, run_dir: str = "runs") -> Accelerator:
    """The Accelerator that HrmTrainer needs: full precision (the model casts by itself), on CUDA or the CPU.

    Args:
        args: `report_to` names the trackers.
        run_dir: where trackers that write files put them.
    Raises:
        ArgumentError: a tracker that does not exist or is not installed, or processes that would not work together.
    """
    trackers = [name for name in args.report_to if name != "none"]
    installed = [str(tracker.value) for tracker in get_available_trackers()]
    for name in trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            allowed = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise ArgumentError(f"report_to names {name!r}, which is no tracker; allowed are {allowed}")
        if name not in installed:
            raise ArgumentError(f"report_to names {name!r}, which is not installed: pip install {name}")
    accelerator = Accelerator(
        cpu=torch.backends.mps.is_available(),  # Apple's GPUs have no float64, which stablemax and the scores need
        mixed_precision="no",
        log_with=trackers or None,
        project_dir=run_dir,
        # The others wait while the main process uploads: by default they would give up after 10 or 30 minutes.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=24))],
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ArgumentError(
            f"{started} processes were started, but Accelerate runs each one alone: without GPUs set "
            "ACCELERATE_USE_CPU=true"
        )
    return accelerator


class HrmTrainer:
    """Trains an HRM.

    Args:
        model: weights must be float32 (activations follow `config.compute_dtype`).
        args: `max_steps` must be set.
        train_batches: every pass over it yields this process's part of global batches: input_ids, labels (-100 =
            ignored) and puzzle_identifiers as arrays or tensors, local_batch_size rows; passes are strung together,
            and a datasets.IterableDataset is told their number by `set_epoch`.
        accelerator: from `make_accelerator`; None makes one.
        eval_dataset: rows to evaluate on, see `hrm_hf.evaluation`.
        processor: saved beside every export; names the task whose own scores are added to the evaluation.
        run_folder: where records, states and exports go; None makes one at `args.output_dir`, or keeps nothing on disk
            if that is None too.
        data_facts: what tells the data from other data, JSON-able, such as checksums of the files: a run goes on only
            where they are the same.

    Raises:
        CheckpointError: weights that are not float32.
        ArgumentError: arguments that do not fit each other, the number of processes or the accelerator.
    """

    def __init__(
        self,
        model: HrmForPuzzleSolving,
        args: HrmTrainingArguments,
        train_batches: Iterable[dict[str, Any]],
        accelerator: Accelerator | None = None,
        eval_dataset: PuzzleRows | None = None,
        processor: Any | None = None,
        run_folder: RunFolder | None = None,
        data_facts: dict[str, Any] | None = None,
    ):
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.dtype != torch.float32:
                raise CheckpointError(
                    f"training needs float32 weights, but {name} is {tensor.dtype}: load the model with "
                    "dtype=torch.float32, and set config.compute_dtype for the activations"
                )
        if args.max_steps is None:
            raise ArgumentError("max_steps is not set: give it, or derive it from epochs with hrm_hf.data.total_steps")
        if args.save_steps is not None and args.output_dir is None and run_folder is None:
            raise ArgumentError(f"save_steps is {args.save_steps}, but there is no output_dir to save in")
        self.args = args
        self.accelerator = accelerator or make_accelerator(args)
        _check_accelerator(self.accelerator)
        self.batches = BatchStream(train_batches)
        self.data_facts = _as_json(data_facts or {})
        self.eval_dataset = eval_dataset
        if args.early_stopping_patience is not None and eval_dataset is None:
            raise ArgumentError(
                f"early_stopping_patience is {args.early_stopping_patience}, but there is no eval_dataset to score on"
            )
        self.processor = processor
        self.local_batch_size = args.local_batch_size(self.accelerator.num_processes)
        self.run_folder = run_folder
        if run_folder is None and args.output_dir is not None and self.accelerator.is_main_process:
            self.run_folder = RunFolder(args.output_dir, reopen=args.resume != "never")
        run_dir = [None if self.run_folder is None else str(self.run_folder.path)]
        broadcast_object_list(run_dir)
        self.run_dir = None if run_dir[0] is None else Path(run_dir[0]).absolute()
        if self.run_dir is None:
            for name, off in (("resume", "never"), ("early_stopping_patience", None)):
                if getattr(args, name) != off:
                    raise ArgumentError(f"{name} is {getattr(args, name)}, but there is no output_dir to save in")
        self.step = 0
        self.slots: list[ActSlots] | None = None  # one per accumulation part
        self.window: dict[str, torch.Tensor] = {}  # sums since the last log line
        self.window_steps = 0
        self.best = BestScore(args.metric_for_best, args.early_stopping_patience, args.early_stopping_threshold)
        self.scores: dict[str, float] = {}  # of the last evaluation
        self.run_id = secrets.token_hex(16)
        self.trackers: Trackers | None = None
        self._went_on = False
        self.num_states, self.saving_seconds, self._last_state_at = 0, 0.0, time.monotonic()
        self.exploration = torch.Generator().manual_seed(args.seed)

        self.run_block = compiled_block(self.accelerator.device) if args.compile else None
        self.model, self.distributed_model = self._prepare_model(model)
        table = self.model.model.puzzle_embeddings
        dense = [p for p in self.model.parameters() if table is None or p is not table.weight]
        self.dense_optimizer = make_adam_atan2(
            dense,
            lr=0.0,
            betas=(args.adam_beta1, args.adam_beta2),
            weight_decay=args.weight_decay,
            compiled=args.compile,
        )
        self.puzzle_optimizer = None
        if table is not None:
            self.puzzle_optimizer = SparseSignSGD(
                table.weight,
                lr=0.0,
                weight_decay=args.puzzle_weight_decay,
                gather=self.accelerator.gather if self.accelerator.num_processes > 1 else None,
                local_rows=self.local_batch_size,
                loss_scale=self.accelerator.num_processes,
            )
        self.average = WeightAverage(dense, args.ema_decay) if args.ema_decay is not None else None
        self.finite = FiniteWatch(self.model, self.accelerator.device)

    def _prepare_model(self, model: HrmForPuzzleSolving) -> tuple[HrmForPuzzleSolving, torch.nn.Module]:
        model.train()
        if self.accelerator.num_processes > 1:
            # The table's sparse gradient is gathered by its own optimiser.
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, [PUZZLE_TABLE])
        prepared = self.accelerator.prepare_model(model)
        plain = self.accelerator.unwrap_model(prepared, keep_torch_compile=False)
        if isinstance(prepared, DistributedDataParallel):
            prepared.forward_sync_buffers = False  # the init vectors never change after the start
        if self.accelerator.num_processes > 1 and plain.model.puzzle_embeddings is not None:
            # What DDP ignores it does not broadcast either.
            table = plain.model.puzzle_embeddings.weight
            table.data.copy_(broadcast(table.data))
        return plain, prepared

    # one step

    def training_step(self, batch: dict[str, Any], draws: ExplorationDraws | None = None) -> dict[str, torch.Tensor]:
        """Runs one segment of every slot and leaves the gradients in the parameters; no weight changes.

        Args:
            batch: this process's part of the global batch offered to the slots.
            draws: exploration draws for the GLOBAL batch; None takes them from the trainer's generator.
        Returns:
            float64 sums over this process's slots, see `step_metrics.segment_sums`.
        """
        args = self.args
        if draws is None:
            draws = draw_exploration(args.global_batch_size, self.model.config.halt_max_steps, self.exploration)
        first = self._first_row
        device = self.accelerator.device
        min_steps = on_device(exploration_min_steps(draws, args.halt_exploration_prob), device)
        min_steps = min_steps[first : first + self.local_batch_size].chunk(args.gradient_accumulation_steps)
        offered = self._split(batch)
        if self.slots is None:
            self.slots = [ActSlots.all_halted(self.model, part) for part in offered]
        totals: dict[str, torch.Tensor] = {}
        self.row_losses: list[torch.Tensor] = []  # (B,) of each part
        for i, part in enumerate(offered):
            last = i == len(offered) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.distributed_model):
                losses, self.slots[i], sums = self._segment(self.slots[i], part, min_steps[i])
                # The published loss is a sum over the global batch; DDP averages over processes.
                self.accelerator.backward(losses.sum() * self.accelerator.num_processes / args.global_batch_size)
            self.row_losses.append(losses.detach())
            totals = {name: totals.get(name, 0) + value for name, value in sums.items()}
        return totals

    @property
    def _first_row(self) -> int:
        """Where this process's rows begin in the global batch."""
        return self.accelerator.process_index * self.local_batch_size

    def _split(self, batch: dict[str, Any]) -> list[Batch]:
        given = {name: torch.as_tensor(batch[name]) for name in ("input_ids", "labels", "puzzle_identifiers")}
        self.model.check_labels(given["labels"])  # ids are checked by the model, but not on an accelerator
        self.model.model.check_inputs(given["input_ids"], given["puzzle_identifiers"])
        tensors = {name: on_device(tensor.long(), self.accelerator.device) for name, tensor in given.items()}
        rows = len(tensors["input_ids"])
        if tensors["labels"].shape != tensors["input_ids"].shape:
            shapes = ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in ("input_ids", "labels"))
            raise DataError(f"a training batch has {shapes}: the shapes must be equal")
        if rows != self.local_batch_size:
            raise DataError(
                f"a training batch has {rows} rows; this process expects {self.local_batch_size} (global_batch_size "
                f"{self.args.global_batch_size} over {self.accelerator.num_processes} processes)"
            )
        size = rows // self.args.gradient_accumulation_steps
        return [
            {name: tensor[start : start + size] for name, tensor in tensors.items()} for start in range(0, rows, size)
        ]

    def _segment(
        self, slots: ActSlots, offered: Batch, min_steps: torch.Tensor
    ) -> tuple[torch.Tensor, ActSlots, dict[str, torch.Tensor]]:
        config = self.model.config
        slots = slots.refilled(self.model, offered)
        data = slots.data
        # this step's weights and input, for both passes
        prepared = self.model.model.prepare(run_block=self.run_block)
        embeddings = self.model.model.embed(data["input_ids"], data["puzzle_identifiers"])
        out = self.distributed_model(inputs_embeds=embeddings, carry=slots.carry, prepared=prepared)
        steps = slots.steps + 1
        targets = None
        if config.halting == "q_learning" and config.halt_max_steps > 1:
            # the plain module, because DDP has nothing to do here
            following = self.model.q_logits_ahead(out.carry, embeddings.detach(), prepared)
            targets = q_continue_targets(*following, steps, config.halt_max_steps)
        losses = segment_losses(
            out.logits, out.q_halt_logits, out.q_continue_logits, data["labels"], config.token_loss, targets
        )
        halted = training_halt(
            steps,
            out.q_halt_logits.detach(),
            out.q_continue_logits.detach(),
            min_steps,
            config.halt_max_steps,
            config.halting,
        )
        sums = segment_sums(losses, out.logits, out.q_halt_logits, data["labels"], steps, halted)
        return losses.total(), ActSlots(out.carry, steps, halted, data), sums

    def optimizer_step(self) -> float:
        """Updates the puzzle table, then the weights, then their average; clears the gradients. Returns the rate."""
        args = self.args
        self.step += 1
        rates = []
        for optimizer, base in (
            (self.puzzle_optimizer, args.puzzle_learning_rate),
            (self.dense_optimizer, args.learning_rate),
        ):
            rates.append(learning_rate_at(self.step, base, args.warmup_steps, args.max_steps, args.lr_min_ratio))
            if optimizer is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rates[-1]
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        return rates[-1]

    # the run

    def train(self) -> dict[str, float]:
        """Trains up to `max_steps`, evaluating, saving states and exporting on the way, and exports at the end.

        With `args.resume` it goes on where a saved state stands, see `go_on`. The first SIGINT, SIGTERM or SIGHUP
        finishes the step and saves; a second SIGINT leaves at once. With `early_stopping_patience` the run ends with
        the best weights that an evaluation found.

        Trackers stay open, as everywhere with Accelerate: call `close()` and `accelerator.end_training()` when all is
        done.

        Returns:
            the last evaluation (`eval/...`), with early stopping the best one; empty without an eval_dataset.
        Raises:
            NonFiniteError: a loss, gradient or weight that is NaN or infinite; nothing of that step is saved.
            StoppedBySignal: a signal ended the run; the state is saved.
            ProcessLostError: another process has ended.
            DataError: batches that do not fit.
            CheckpointError, ArgumentError: see `go_on`; or `metric_for_best` is no score of the evaluation.
            OSError: the last export could not be written. (A state or a log line that cannot be written on the way is
                reported, and the run goes on.)
        """
        args = self.args
        with naming_lost_processes(self.accelerator, self.where):
            goes_on = self.go_on()
            if self.step >= args.max_steps or self.best.give_up:
                self._say(f"the run is finished at step {self.step}: only its export is made again")
            if args.report_to:
                self.trackers = Trackers(self.accelerator, vars(args), self.run_id)
            started, before = time.monotonic(), self.step
            if not goes_on:
                self._save_state()  # so that there is always a state to go on from
            try:
                self._train_on()
            except StoppedBySignal as stopped:
                self._say(f"\nstopped by {stopped.signal.name} at step {self.step}. {self._how_to_go_on()}")
                raise
            except KeyboardInterrupt:
                self._say(f"\nleft at once at step {self.step}. {self._how_to_go_on()}")
                raise
            except NonFiniteError as error:
                words = f"{error}. Nothing of it was saved. {self._how_to_go_on()}; a lower learning_rate than "
                words += f"{args.learning_rate} may help"
                raise NonFiniteError(words) from error
            seconds = time.monotonic() - started
            if self.num_states and self.step > before:
                self._say(
                    f"{self.step - before} steps in {seconds:.1f} s, {self.num_states} states saved in "
                    f"{self.saving_seconds:.2f} s ({100 * self.saving_seconds / seconds:.2f} %)"
                )
            try:
                if args.early_stopping_patience is not None and self.best.step is not None:
                    self._take_best()
                else:
                    self.export("checkpoint-final")
            except OSError as error:
                raise OSError(f"{error}. {self._how_to_go_on()}") from error
        return self.scores

    def go_on(self) -> bool:
        """Puts the trainer where a saved state stands, if `args.resume` asks for it and there is one; part of `train`.

        The processes may be others than those that saved it, if their number divides the global batch; all of them
        need to see the run's folder.

        Returns:
            whether the run goes on from a state.
        Raises:
            CheckpointError: there is nothing (whole) to go on from.
            ArgumentError: data, architecture or arguments differ from those of the state, or `resume` names a state of
                another folder than `output_dir`; or `metric_for_best` is no score of the evaluation.
        """
        if self.eval_dataset is not None and self.args.eval_steps is not None:
            self._check_metric()
        if self.args.resume != "never" and not self._went_on and self.step == 0:
            state = find_state(self, self.run_dir)
            if state is not None:
                restore_state(self, state)
                self._went_on = True
        return self._went_on

    def _check_metric(self) -> None:
        """Finds a `metric_for_best` that does not exist before the first step: one row, one segment."""
        how = {"batch_size": 1, "max_segments": 1}
        scores = evaluate_puzzles(self.model, _FirstRow(self.eval_dataset), self.processor, **how)
        self.best.check({f"eval/{name}": value for name, value in scores.items()})

    def _train_on(self) -> None:
        args, first, started = self.args, self.step + 1, time.monotonic()
        main = self.accelerator.is_local_main_process
        progress = tqdm(total=args.max_steps, initial=self.step, desc="training", disable=not main, file=Console())
        with progress, StopRequests(self.accelerator) as stop:
            while self.step < args.max_steps and not self.best.give_up:
                sums = self.training_step(next(self.batches))
                self.finite.look(self.step + 1, sums, self.row_losses, self.slots, self._first_row)
                rate = self.optimizer_step()
                if args.compile and self.step == first:
                    self._say(f"\nthe first step, with compiling, took {time.monotonic() - started:.1f} s")
                self.window = {name: self.window.get(name, 0) + value for name, value in sums.items()}
                self.window_steps += 1
                progress.update()
                done = self.step == args.max_steps
                save_due = done or _due(self.step, args.state_steps)
                if done or _due(self.step, args.logging_steps):
                    self.finite.check(self.step)
                    record, clock_due = self._reduced()
                    save_due |= clock_due
                    self._log({f"train/{name}": value for name, value in record.items()} | {"train/lr": rate})
                    progress.set_postfix(
                        loss=f"{record['lm_loss']:.3f}",
                        exact=f"{record['exact_accuracy']:.3f}",
                        segments=f"{record['steps']:.1f}",
                    )
                if self.eval_dataset is not None and (done or _due(self.step, args.eval_steps)):
                    self.finite.check(self.step)
                    self.scores = self.evaluate()
                    self._log(self.scores)
                    if self.accelerator.is_main_process:
                        words = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
                        progress.write(f"step {self.step}: {words}", file=Console(sys.stdout))
                    if args.eval_steps is not None:
                        is_best = self.best.beaten_by(self.scores) and self._try_to_export("checkpoint-best")
                        self.best.show(self.scores, self.step, kept=is_best)
                        save_due |= is_best
                exported = not done and _due(self.step, args.save_steps)
                if exported:
                    self._try_to_export(f"checkpoint-{self.step}")
                asked = stop.asked()
                if save_due or asked is not None or self.best.give_up:
                    self._save_state()  # after all exports of this step: a run that goes on here makes none of them
                if asked is not None:
                    if not exported:
                        self._try_to_export(f"checkpoint-{self.step}")
                    raise StoppedBySignal(asked)

    def _save_state(self) -> None:
        """Saves a state; where that fails the run says so and goes on: the older ones are still there."""
        if self.run_dir is None:
            return
        self.finite.check(self.step)
        started = time.monotonic()
        try:
            save_state(self, self.run_dir)
        except OSError as error:
            self._say(f"\nthe state of step {self.step} could not be saved: {error}. {self._how_to_go_on()}")
        else:
            self.num_states += 1
            self.saving_seconds += time.monotonic() - started
        self._last_state_at = time.monotonic()

    def _how_to_go_on(self) -> str:
        steps = [] if self.run_dir is None else state_steps(self.run_dir)
        if not steps:
            return "No state is saved: give another output_dir, or make room there"
        run_dir = os.path.relpath(self.run_dir)
        return (
            f"The last saved state is that of step {steps[0]}: to go on there, repeat the command with --resume "
            + shlex.quote(run_dir if not run_dir.startswith("..") else str(self.run_dir))
        )

    def where(self) -> str:
        """How far the run is, for the message of a lost process."""
        return f"at step {self.step}. {self._how_to_go_on()}"

    def _say(self, words: str) -> None:
        if self.accelerator.is_main_process:
            Console().say(words)

    def _take_best(self) -> None:
        """Ends with the weights of the best evaluation."""
        if self.best.give_up and self.step < self.args.max_steps:
            self._say(
                f"stopped early at step {self.step} of {self.args.max_steps}: {self.best.waited} evaluations without "
                f"a higher {self.best.metric} (early_stopping_patience)"
            )
        self._say(f"the best evaluation was that of step {self.best.step}: its weights are the ones exported")
        on_main_process(self.accelerator, lambda: self.run_folder.copy_export("checkpoint-best", "checkpoint-final"))
        load_model(self.model, self.run_dir / "checkpoint-best" / "model.safetensors")
        self.average = None
        self.scores = self.best.scores

    def _reduced(self) -> tuple[dict[str, float], bool]:
        """Means since the last log line, over all processes, and whether the main process's clock asks for a state."""
        minutes = (time.monotonic() - self._last_state_at) / 60
        clock_due = self.accelerator.is_main_process and 0 < self.args.state_minutes <= minutes
        asked = torch.tensor(float(clock_due), dtype=torch.float64, device=self.accelerator.device)
        *values, asked = self.accelerator.reduce(torch.stack([*self.window.values(), asked]), reduction="sum").tolist()
        sums = dict(zip(self.window, values, strict=True))
        record = means(sums, rows=self.args.global_batch_size * self.window_steps)
        self.window, self.window_steps = {}, 0
        return record, asked > 0

    def _log(self, values: dict[str, float]) -> None:
        if self.trackers is not None:
            self.trackers.log(values, self.step)
        if self.run_folder is not None and self.accelerator.is_main_process:
            try:
                self.run_folder.log(self.step, values)
            except OSError as error:
                self._say(f"\nthe log line of step {self.step} is kept for later, it could not be written: {error}")

    def evaluate(self, halt: bool = False) -> dict[str, float]:
        """Scores the (averaged) weights on the eval_dataset: `eval/exact_accuracy` and the rest, on every process."""
        with self._export_weights():
            scores = evaluate_puzzles(
                self.model,
                self.eval_dataset,
                self.processor,
                batch_size=self.args.eval_batch_size * self.accelerator.num_processes,
                halt=halt,
                process_index=self.accelerator.process_index,
                num_processes=self.accelerator.num_processes,
                gather=self.accelerator.gather,
            )
        return {f"eval/{name}": value for name, value in scores.items()}

    def export(self, name: str) -> None:
        """Saves the (averaged) weights, config and processor under this name in the run folder.

        Raises:
            OSError: it could not be written, on every process.
            NonFiniteError: a weight is NaN or infinite.
        """
        self.finite.check(self.step)

        def write() -> None:
            if self.run_folder is not None:
                with self._export_weights():
                    self.run_folder.export(name, self.model, self.processor)

        on_main_process(self.accelerator, write)

    def _try_to_export(self, name: str) -> bool:
        try:
            self.export(name)
        except OSError as error:
            self._say(f"\n{error}")
            return False
        return True

    def push_to_hub(self, repo_id: str, **options: Any) -> list[tuple[str, int]] | None:
        """Pushes the last export, with the model card that `write_model_card` left in it, to the Hub.

        Call it on every process; the main one pushes, the others wait.

        Args:
            repo_id: "owner/name".
            options: as `hrm_hf.hub.push.push_checkpoint` takes them: private, dry_run, with_code and so on.
        Returns:
            What was sent, paths and bytes; None on other processes than the main one.
        Raises:
            ArgumentError: nothing was exported yet, or an option that is not allowed.
            CheckpointError: the push failed; the export is untouched.
        """

        def push() -> list[tuple[str, int]]:
            if self.run_folder is None or self.run_folder.last_export is None:
                raise ArgumentError("there is nothing to push yet: train() and export() write to output_dir")
            return push_checkpoint(self.run_folder.last_export, repo_id, **options)

        return on_main_process(self.accelerator, push)

    def close(self) -> None:
        """Ends the trackers and lets go of the distributed model; call it before `accelerator.end_training()`, after
        the last step.

        Otherwise the distributed model is the last to hold the process group and ends gloo's threads while it holds
        the interpreter, which such a thread may be waiting for: the process would never end.
        """
        if self.trackers is not None:
            self.trackers.finish()
        self.distributed_model = self.model
        self.accelerator.free_memory()

    def _export_weights(self):
        return self.average.applied() if self.average is not None else nullcontext()


def _check_accelerator(accelerator: Accelerator) -> None:
    """Raises ArgumentError for an accelerator under which the steps would silently be others."""
    for name, value, allowed in (
        ("mixed_precision", accelerator.mixed_precision, ["no"]),
        ("gradient_accumulation_steps", accelerator.gradient_accumulation_steps, [1]),
        (
            "distributed_type",
            accelerator.distributed_type,
            [DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU],
        ),
    ):
        if value not in allowed:
            raise ArgumentError(
                f"the accelerator's {name} is {value}; HrmTrainer needs {' or '.join(map(str, allowed))} "
                "(see make_accelerator; for bfloat16 set config.compute_dtype, accumulation is the trainer's own)"
            )


class _FirstRow:
    """The first row of a data set, as a data set."""

    def __init__(self, dataset: PuzzleRows):
        self.dataset = dataset

    def __len__(self) -> int:
        return 1

    def __getitem__(self, rows: slice) -> dict[str, Any]:
        return self.dataset[0:1]


def _as_json(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they come back from a saved state."""
    try:
        return json.loads(json.dumps(facts, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"data_facts cannot be saved as JSON ({error}): give text and numbers") from error


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0
