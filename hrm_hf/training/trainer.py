"""HrmTrainer: one segment of every slot, one optimiser step, again and again; on Accelerate, one process or many.

It is handed a model and batches and knows neither games nor files of puzzles.

A step: halted slots take the puzzles offered; forward with gradient; a second forward on the new carry, without
gradient, gives the target of q_continue; the loss is summed over the global batch; puzzle table first, then AdamATan2.
With several processes slot i of the global batch lives on process i // (B / processes), and the draws of exploration
are made for all slots on every process, then sliced, so that neither depends on the number of processes.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import count
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast
from datasets import IterableDataset
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from ..errors import ArgumentError, CheckpointError, DataError
from ..evaluation import PuzzleRows, evaluate_puzzles
from ..halting import ExplorationDraws, draw_exploration, exploration_min_steps, q_continue_targets, training_halt
from ..losses import segment_losses
from ..modeling_hrm import HrmBlock, HrmForPuzzleSolving
from ..publishing import push_checkpoint
from .adam_atan2 import make_adam_atan2
from .arguments import HrmTrainingArguments
from .averaging import WeightAverage
from .compiled import compiled_block
from .main_process import on_main_process
from .run_folder import RunFolder
from .schedule import learning_rate_at
from .sign_sgd import SparseSignSGD
from .slots import ActSlots, Batch, on_device
from .step_metrics import means, segment_sums

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
        run_folder: where records and exports go; None makes one at `args.output_dir`, or keeps nothing on disk if
            that is None too.

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
        self.train_batches = train_batches
        self.eval_dataset = eval_dataset
        self.processor = processor
        self.local_batch_size = args.local_batch_size(self.accelerator.num_processes)
        self.run_folder = run_folder
        if run_folder is None and args.output_dir is not None and self.accelerator.is_main_process:
            self.run_folder = RunFolder(args.output_dir)
        self.step = 0
        self.slots: list[ActSlots] | None = None  # one per accumulation part
        self.exploration = torch.Generator().manual_seed(args.seed)
        self._first_step_from: float | None = None
        self._compiled = False

        self.run_block = compiled_block(self.accelerator.device) if args.compile else HrmBlock.__call__
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
        if self._first_step_from is None:
            self._first_step_from = time.perf_counter()
        if draws is None:
            draws = draw_exploration(args.global_batch_size, self.model.config.halt_max_steps, self.exploration)
        first = self.accelerator.process_index * self.local_batch_size
        device = self.accelerator.device
        min_steps = on_device(exploration_min_steps(draws, args.halt_exploration_prob), device)
        min_steps = min_steps[first : first + self.local_batch_size].chunk(args.gradient_accumulation_steps)
        offered = self._split(batch)
        if self.slots is None:
            self.slots = [ActSlots.all_halted(self.model, part) for part in offered]
        totals: dict[str, torch.Tensor] = {}
        for i, part in enumerate(offered):
            last = i == len(offered) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.distributed_model):
                loss, self.slots[i], sums = self._segment(self.slots[i], part, min_steps[i])
                # The published loss is a sum over the global batch; DDP averages over processes.
                self.accelerator.backward(loss * self.accelerator.num_processes / args.global_batch_size)
            totals = {name: totals.get(name, 0) + value for name, value in sums.items()}
        return totals

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
        return losses.total().sum(), ActSlots(out.carry, steps, halted, data), sums

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
        if args.compile and not self._compiled:
            self._compiled = True
            seconds = time.perf_counter() - self._first_step_from
            self.accelerator.print(f"the first step, with compiling, took {seconds:.1f} seconds")
        return rates[-1]

    # the run

    def train(self) -> dict[str, float]:
        """Trains up to `max_steps`, evaluating and exporting on the way, and exports at the end.

        Trackers stay open, as everywhere with Accelerate: call `accelerator.end_training()` when all is done.

        The first Ctrl-C finishes the step and exports what is there before KeyboardInterrupt goes on; a second one
        leaves at once.

        Returns:
            the last evaluation (`eval/...`), empty without an eval_dataset.
        Raises:
            ArgumentError: the loss is no longer finite.
            DataError: batches that do not fit.
        """
        args, scores = self.args, {}
        window: dict[str, torch.Tensor] = {}
        window_steps = 0
        progress = tqdm(total=args.max_steps, desc="training", disable=not self.accelerator.is_local_main_process)
        if args.report_to:
            self.accelerator.init_trackers("hrm_hf", config=_trackable(args))
        batches = self._endless_batches()
        with progress, _interrupt_flag() as interrupted:
            while self.step < args.max_steps:
                sums = self.training_step(next(batches))
                rate = self.optimizer_step()
                window = {name: window.get(name, 0) + value for name, value in sums.items()}
                window_steps += 1
                progress.update()
                log_now = self.step % args.logging_steps == 0 or self.step == args.max_steps
                if log_now:
                    record = self._reduced(window, window_steps)
                    if not math.isfinite(record["lm_loss"]):
                        raise ArgumentError(
                            f"the loss is {record['lm_loss']} at step {self.step}, nothing was saved since: "
                            f"learning_rate {args.learning_rate} may be too high"
                        )
                    self._log({f"train/{name}": value for name, value in record.items()} | {"train/lr": rate})
                    progress.set_postfix(
                        loss=f"{record['lm_loss']:.3f}",
                        exact=f"{record['exact_accuracy']:.3f}",
                        segments=f"{record['steps']:.1f}",
                    )
                    window, window_steps = {}, 0
                if self._stop_asked(interrupted, log_now):
                    self.export(f"checkpoint-{self.step}")
                    if self.run_folder is not None:
                        print(f"\nstopped: the weights are in {self.run_folder.path / f'checkpoint-{self.step}'}")
                    raise KeyboardInterrupt
                done = self.step == args.max_steps
                if self.eval_dataset is not None and (done or _due(self.step, args.eval_steps)):
                    scores = self.evaluate()
                    self._log(scores)
                    if self.accelerator.is_main_process:
                        progress.write(f"step {self.step}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
                if not done and _due(self.step, args.save_steps):
                    self.export(f"checkpoint-{self.step}")
        self.export("checkpoint-final")
        return scores

    def _endless_batches(self) -> Iterator[dict[str, Any]]:
        for number in count():
            if isinstance(self.train_batches, IterableDataset):
                self.train_batches.set_epoch(number)  # another pass draws other batches
            empty = True
            for batch in self.train_batches:
                empty = False
                yield batch
            if empty:
                raise DataError(
                    f"the training set gives no whole batch of {self.args.global_batch_size} puzzles in a pass: use a "
                    "smaller global_batch_size"
                )

    def _stop_asked(self, interrupted: Callable[[], bool], synchronise: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return interrupted()
        if not synchronise:  # the processes must agree on the step at which they stop
            return False
        if interrupted():
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _reduced(self, window: dict[str, torch.Tensor], window_steps: int) -> dict[str, float]:
        values = self.accelerator.reduce(torch.stack(list(window.values())), reduction="sum")
        sums = dict(zip(window, values.tolist(), strict=True))
        return means(sums, rows=self.args.global_batch_size * window_steps)

    def _log(self, values: dict[str, float]) -> None:
        self.accelerator.log(values, step=self.step)
        if self.run_folder is not None and self.accelerator.is_main_process:
            self.run_folder.log(self.step, values)

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
        """Saves the (averaged) weights, config and processor under this name in the run folder."""
        if self.run_folder is not None and self.accelerator.is_main_process:
            with self._export_weights():
                self.run_folder.export(name, self.model, self.processor)
        self.accelerator.wait_for_everyone()

    def push_to_hub(self, repo_id: str, **options: Any) -> list[tuple[str, int]] | None:
        """Pushes the last export, with the model card that `write_model_card` left in it, to the Hub.

        Call it on every process; the main one pushes, the others wait.

        Args:
            repo_id: "owner/name".
            options: as `hrm_hf.publishing.push_checkpoint` takes them: private, dry_run, with_code and so on.
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
        """Lets go of the distributed model; call it before `accelerator.end_training()`, after the last step.

        Otherwise the distributed model is the last to hold the process group and ends gloo's threads while it holds
        the interpreter, which such a thread may be waiting for: the process would never end.
        """
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


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0


def _trackable(args: HrmTrainingArguments) -> dict[str, Any]:
    return {name: value if isinstance(value, (int, float, str)) else str(value) for name, value in vars(args).items()}


@contextmanager
def _interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT into a flag that the training loop reads between two steps."""
    asked = False

    def on_interrupt(signum, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nstopping after this step; press Ctrl-C again to leave at once", flush=True)

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not the main thread: signals are somebody else's business
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
