"""HrmTrainer: a whole training run, from the first step or a saved state to the last export; on Accelerate.

It is handed a model and batches and knows neither games nor files of puzzles. What a step is stands in steps.py.
"""

import json
import os
import secrets
import shlex
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_model
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState

from ..hrm.compute_dtype import chosen_dtype
from ..hrm.errors import ArgumentError, CheckpointError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hub.push import push_checkpoint
from ..progress import get_logger, progress
from ..scores.evaluation import PuzzleRows, evaluate_puzzles
from .adapters import has_adapter, load_adapter_weights, merged
from .arguments import HrmTrainingArguments
from .batch_stream import BatchStream
from .best_score import BestScore
from .finite_watch import NonFiniteError
from .processes import check_accelerator, check_same_dtype, make_accelerator, naming_lost_processes, on_main_process
from .resuming import SHARED, find_state, own_tree, save_state
from .run_folder import ADAPTER, RunFolder
from .states import read_tree, state_steps
from .step_metrics import MetricsWindow, means
from .steps import TrainingSteps
from .stop_requests import StoppedBySignal, StopRequests
from .trackers import Trackers

logger = get_logger(__name__)


class HrmTrainer(TrainingSteps):
    """Trains a model of the HRM family.

    Args:
        model: weights must be float32 (activations follow `config.compute_dtype`). What does not require gradients
            stays as it is; a model with an adapter (`model.add_adapter`) is exported with the adapter merged, and the
            adapter beside it.
        args: `max_steps` must be set.
        train_batches: every pass over it yields this process's part of global batches: input_ids, labels (-100 =
            ignored) and puzzle_identifiers as arrays or tensors, local_batch_size rows; see `BatchStream`.
        accelerator: from `make_accelerator`; None makes one.
        eval_dataset: rows to evaluate on, see `hrm_hf.scores.evaluation`.
        processor: saved beside every export; names the task whose own scores are added to the evaluation.
        run_folder: where records, states and exports go; None makes one at `args.output_dir`, or keeps nothing on disk
            if that is None too.
        data_facts: what tells the data from other data, JSON-able, such as checksums of the files: a run resumes only
            where they are the same.
        callbacks: transformers' callbacks, or their classes, called on every process: on_train_begin, on_step_begin,
            on_step_end, on_log, on_evaluate, on_save (of a state or checkpoint in the folder `path`), on_train_end.
            They are handed `args`, a TrainerState and a TrainerControl, whose flags are obeyed at the end of the step
            (should_save: a state and, set in on_step_end, a checkpoint) and must be the same on all processes.

    Raises:
        CheckpointError: weights that are not float32, or are quantised.
        ArgumentError: another model; single puzzles as batches; an eval_dataset without slices of rows; arguments
            that do not fit each other, the number of processes or the accelerator.
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
        callbacks: Iterable[TrainerCallback | type[TrainerCallback]] = (),
    ):
        if not isinstance(model, HrmForPuzzleSolving):
            advice = "give an HrmForPuzzleSolving, for LoRA with model.add_adapter(peft.LoraConfig(...))"
            raise ArgumentError(f"the model is a {type(model).__name__}; {advice}")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                advice = "load the model with dtype=torch.float32"
                raise CheckpointError(f"training needs float32 weights, but {name} is {tensor.dtype}: {advice}")
            if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
                raise CheckpointError(f"{name} is quantised ({type(tensor).__name__}): quantise after the training")
        if hasattr(model.model.puzzle_embeddings, "modules_to_save"):
            raise ArgumentError("modules_to_save names the puzzle table, which is trained by itself: leave it out")
        merged(model)  # raises for an adapter that could not be exported
        self.callbacks = [each() if isinstance(each, type) else each for each in callbacks]
        if any(isinstance(each, EarlyStoppingCallback) for each in self.callbacks):
            raise ArgumentError("EarlyStoppingCallback does not work here: set early_stopping_patience")
        if args.max_steps is None:
            raise ArgumentError("max_steps is not set: give it, or derive it from epochs with hrm_hf.data.total_steps")
        if isinstance(train_batches, Dataset):
            raise ArgumentError("train_batches is a Dataset of single puzzles; give what training_batches returns")
        try:  # else it would fail only after the training
            if eval_dataset is not None and len(eval_dataset):
                eval_dataset[0:1]["input_ids"]
        except (LookupError, NotImplementedError, TypeError) as error:
            found = f"eval_dataset is a {type(eval_dataset).__name__}"
            raise ArgumentError(f"{found}; give what load_puzzles or FileRows returns") from error
        if args.early_stopping_patience is not None and eval_dataset is None:
            raise ArgumentError(f"early_stopping_patience ({args.early_stopping_patience}) needs an eval_dataset")
        accelerator = accelerator or make_accelerator(args)
        check_accelerator(accelerator, model.config.compute_dtype)
        check_same_dtype(model.config.compute_dtype, accelerator)
        chosen_dtype(model.config.compute_dtype, model.config, accelerator.device)  # warns where it is the slower one
        args.local_batch_size(accelerator.num_processes)  # raises before a folder is made
        self.eval_dataset, self.processor, self.data_facts = eval_dataset, processor, _as_json(data_facts or {})
        self.run_folder = run_folder
        if run_folder is None and args.output_dir is not None and accelerator.is_main_process:
            self.run_folder = RunFolder(args.output_dir, reopen=args.resume != "never")
        self.run_dir = on_main_process(accelerator, lambda: self.run_folder and self.run_folder.path, share=True)
        if self.run_dir is None:
            for name, off in (("save_steps", None), ("resume", "never"), ("early_stopping_patience", None)):
                if getattr(args, name) != off:
                    raise ArgumentError(f"{name} is {getattr(args, name)}, but there is no output_dir to save in")

        super().__init__(model, args, accelerator)
        self.batches = BatchStream(train_batches)
        self.window = MetricsWindow(accelerator.device)
        self.best = BestScore(args.metric_for_best, args.early_stopping_patience, args.early_stopping_threshold)
        self.scores: dict[str, float] = {}  # of the last evaluation, that of `scored_step`
        self.scored_step: int | None = None
        self.final_step: int | None = None  # whose weights `train` ended with
        self.run_id = secrets.token_hex(16)
        self.trackers: Trackers | None = None
        self.state, self.control = TrainerState(max_steps=args.max_steps), TrainerControl()
        self.state.is_world_process_zero = accelerator.is_main_process
        self.state.is_local_process_zero = accelerator.is_local_main_process
        self.should_export = False  # at the end of this step, as the control's flags
        self.stop: StopRequests | None = None  # while it trains
        self._went_on: bool | None = None  # whether `go_on` has found a state; None: it has not looked yet
        self._started, self._last_state_at = time.time(), time.monotonic()

    # the run

    def train(self) -> dict[str, float]:
        """Trains up to `max_steps`, evaluating, saving states and exporting on the way, and exports at the end.

        With `args.resume` it resumes from a saved state, see `go_on`. The first SIGINT, SIGTERM or SIGHUP finishes
        the step, breaks off an evaluation, and saves; a second SIGINT leaves at once. With `early_stopping_patience`
        the run ends with the best weights. Call `close()` and `accelerator.end_training()` when all is done.

        Returns:
            the last evaluation (`eval/...`), with early stopping the best one; empty without an eval_dataset.
        Raises:
            NonFiniteError: a loss, gradient or weight that is NaN or infinite; nothing of that step is saved.
            StoppedBySignal: a signal ended the run; the state is saved.
            ProcessLostError: another process has ended.
            DataError: batches that do not fit.
            CheckpointError, ArgumentError: see `go_on`.
            OSError: the last export could not be written. (Before that the run only reports what it cannot write.)
        """
        args = self.args
        with naming_lost_processes(self.accelerator, self.where):
            goes_on = self.go_on()
            if args.warmup_steps > args.max_steps:
                reached = f"the run has {args.max_steps} steps and never reaches its full learning rates"
                logger.warning(f"warmup_steps is {args.warmup_steps}, but {reached}")
            if self._is_over() and not self.control.should_evaluate:
                logger.info(f"the run is finished at step {self.step}: only its last scores and export are made again")
            if args.report_to:
                self.trackers = Trackers(self.accelerator, vars(args), self.run_id)
            self._call("on_train_begin")
            if not goes_on:
                self._save_state()  # so that there is always a state to resume from
            try:
                self._train_on()
            except KeyboardInterrupt as stop:  # StoppedBySignal says how
                logger.warning(f"{str(stop) or 'left at once'} {self.where()}")
                raise
            except NonFiniteError as error:
                advice = f"{self._how_to_go_on()}; a lower learning_rate than {args.learning_rate} may help"
                raise NonFiniteError(f"{error}. Nothing of it was saved. {advice}") from error
            finally:
                self.stop = None
            takes_last = args.early_stopping_patience is None or self.best.step is None
            takes_last = takes_last or (self.scored_step == self.step and self.best.beaten_by(self.scores))
            try:
                if takes_last:
                    self.export("checkpoint-final")
                    self.final_step = self.step
                else:
                    self._take_best()
            except OSError as error:
                raise OSError(f"{error}. {self._how_to_go_on()}") from error
            self._call("on_train_end")
        return self.scores

    def go_on(self) -> bool:
        """Resumes from a saved state, if `args.resume` asks for it and there is one; returns whether. Part of `train`.

        Another number of processes can resume, if it divides the global batch and they share the folder's storage.

        Raises:
            CheckpointError: there is no complete state.
            ArgumentError: data, architecture or arguments are not the state's, it is not in `output_dir` or beyond
                `max_steps`, or `metric_for_best` is no score of the evaluation.
        """
        if self.eval_dataset is not None and self.args.eval_steps is not None:
            self._check_metric()
        if self.args.resume == "never" or self._went_on is not None or self.step > 0:
            return bool(self._went_on)
        state = find_state(self.accelerator, self.run_dir, self.args.resume, self._facts(), self.args.state_limit)
        if state is not None:
            try:
                self._load(state)
            except (LookupError, TypeError, RuntimeError) as error:
                raise CheckpointError(f"{state} does not fit this run: {error}") from error
            if self.step > self.args.max_steps:
                found = f"max_steps is {self.args.max_steps}, but {state} is of step {self.step}"
                raise ArgumentError(f"{found}: pass that many or more, or resume from an earlier state")
            self.check_depths()
        self._went_on = state is not None
        return self._went_on

    def _check_metric(self) -> None:
        """Finds a `metric_for_best` that does not exist before the first step: one row, one segment."""
        row = Dataset.from_dict(dict(self.eval_dataset[0:1]))
        how = {"compute_dtype": self.model.config.compute_dtype, "batch_size": 1, "max_segments": 1}
        scores = evaluate_puzzles(self.model, row, self.processor, **how)
        self.best.check({f"eval/{name}": value for name, value in scores.items()})

    def _train_on(self) -> None:
        # The order within a step matters. The log line comes first: it waits for the device and finds NaN. Then the
        # evaluation, which may export the best weights, and the export. The state comes last, so that a run resumed
        # there repeats none of them, but for what a signal has broken off: the state says that it is still due.
        stop, lost = StopRequests(self.accelerator, self.where), naming_lost_processes(self.accelerator, self.where)
        how_far = {"total": self.args.max_steps, "initial": self.step, "leave": True}
        with progress(description="training", unit="steps", **how_far) as bar, stop as self.stop, lost:
            while True:
                try:
                    if self.control.should_log and self.window.steps:
                        bar.set_postfix(self._log_means(), refresh=False)
                    if self.control.should_evaluate:
                        self._evaluate(keep_best=self.args.eval_steps is not None)
                    if self.should_export and self.step < self.args.max_steps:
                        self._export_step()
                    self.stop.check()
                except StoppedBySignal:
                    self._save_state()
                    self._export_step()
                    raise
                if self.control.should_save or self.control.should_training_stop:
                    self._save_state()
                if self._is_over():
                    return self._end()
                self.run_step()
                bar.update()
                self._plan()
                bar.total = self.state.max_steps  # a callback that ends the run may know better than the arguments

    def run_step(self) -> dict[str, torch.Tensor]:
        """A step as `train` takes it; returns sums over this process's slots, see `segment_sums`."""
        self._call("on_step_begin")
        sums = self.training_step(next(self.batches))
        self.finite.look(self.step + 1, sums, self.row_losses, self.slots, self.first_row)
        self.optimizer_step()
        self.window.add(sums)
        return sums

    def _plan(self) -> None:
        """What is due at the end of this step, by the arguments and by what callbacks ask for."""
        args, control = self.args, self.control
        control.should_log = _due(self.step, args.logging_steps)
        control.should_evaluate = self.eval_dataset is not None and _due(self.step, args.eval_steps)
        control.should_save = save_due = _due(self.step, args.state_steps)
        self._call("on_step_end")
        if self.control.should_evaluate and self.eval_dataset is None:
            raise ArgumentError("a callback set should_evaluate, but there is no eval_dataset to score on")
        asked_for = self.control.should_save and not save_due
        self.should_export = asked_for or _due(self.step, args.save_steps)
        self.control.should_save |= self.step >= args.max_steps

    def _end(self) -> None:
        """Logs and scores the last step, unless that was due. The saved state knows nothing of it: a run that is made
        longer is the unbroken one.
        """
        if self.step < self.args.max_steps:
            return
        if self.window.steps:
            self._log_means()
        if self.eval_dataset is not None and self.scored_step != self.step:
            try:
                self._evaluate()
            except StoppedBySignal:
                self._export_step()
                raise

    def _is_over(self) -> bool:
        return self.step >= self.args.max_steps or self.best.give_up or self.control.should_training_stop

    def _call(self, event: str, **what: Any) -> None:
        """Calls the callbacks as transformers' Trainer does."""
        self.state.global_step, self.state.best_global_step = self.step, self.best.step
        self.state.best_metric = self.best.scores.get(f"eval/{self.best.metric}")
        what |= {"model": self.model, "processing_class": self.processor, "optimizer": self.dense_optimizer}
        for callback in self.callbacks:
            try:
                self.control = getattr(callback, event)(self.args, self.state, self.control, **what) or self.control
            except AttributeError as error:
                if error.obj is not self.args:
                    raise
                raise ArgumentError(
                    f"{type(callback).__name__} needs {error.name}, of transformers' Trainer"
                ) from error

    # what a step may end with

    def _log_means(self) -> dict[str, str]:
        """Logs the means since the last log line; what the progress bar shows of them."""
        self.finite.check(self.step)
        minutes = (time.monotonic() - self._last_state_at) / 60
        clock_due = self.accelerator.is_main_process and 0 < self.args.state_minutes <= minutes
        asked = self.window.sums["count"].new_tensor(float(clock_due))
        sums = torch.stack([*self.window.sums.values(), asked])
        *values, asked = self.accelerator.reduce(sums, reduction="sum").tolist()
        rows = self.args.global_batch_size * self.window.steps
        record = means(dict(zip(self.window.sums, values, strict=True)), rows)
        self.window.clear()
        self.control.should_save |= asked > 0
        self.control.should_log = False
        rate = self.learning_rate(self.args.learning_rate)
        self._log({f"train/{name}": value for name, value in record.items()} | {"train/lr": rate})
        shown = {"loss": ("lm_loss", 3), "exact": ("exact_accuracy", 3), "segments": ("steps", 1)}
        return {name: f"{record[key]:.{digits}f}" for name, (key, digits) in shown.items()}

    def _log(self, values: dict[str, float]) -> None:
        if self.trackers is not None:
            self.trackers.log(values, self.step)
        line = {"step": self.step, "seconds": round(time.time() - self._started, 3), **values}
        self.state.log_history.append(line)
        if self.run_folder is not None and self.accelerator.is_main_process:
            try:
                self.run_folder.log(line)
            except OSError as error:
                logger.warning(f"the log line of step {self.step} is kept for later, it could not be written: {error}")
        self._call("on_log", logs=values)

    def _evaluate(self, keep_best: bool = False) -> None:
        self.finite.check(self.step)
        self.scores, self.scored_step = self.evaluate(), self.step
        self.control.should_evaluate = False
        logger.info(f"step {self.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items()))
        self._log(self.scores)
        if keep_best:
            is_best = self.best.beaten_by(self.scores) and self._try_to_export("checkpoint-best")
            self.best.show(self.scores, self.step, kept=is_best)
            self.control.should_save |= is_best or self.best.give_up
        self._call("on_evaluate", metrics=self.scores)

    def evaluate(self, halt: bool = False) -> dict[str, float]:
        """Scores the (averaged) weights on the eval_dataset: `eval/exact_accuracy` and the rest, on every process."""
        with self._export_weights():
            scores = evaluate_puzzles(
                self.model,
                self.eval_dataset,
                self.processor,
                batch_size=self.args.eval_batch_size * self.accelerator.num_processes,
                halt=halt,
                compute_dtype=self.model.config.compute_dtype,  # even where another would be quicker
                process_index=self.accelerator.process_index,
                num_processes=self.accelerator.num_processes,
                gather=self.accelerator.gather,
                after_update=None if self.stop is None else self.stop.after_update,
            )
        return {f"eval/{name}": value for name, value in scores.items()}

    def export(self, name: str) -> None:
        """Saves the (averaged) weights, config and processor under this name in the run folder.

        Raises OSError on every process if it cannot be written, NonFiniteError for a weight that is NaN or infinite.
        """
        self.finite.check(self.step)

        def write() -> None:
            if self.run_folder is not None:
                with self._export_weights():
                    self.run_folder.export(name, self.model, self.processor)

        on_main_process(self.accelerator, write)
        if self.run_dir is not None:
            self._call("on_save", path=self.run_dir / name)

    def _try_to_export(self, name: str) -> bool:
        try:
            self.export(name)
        except OSError as error:
            logger.warning(str(error))
            return False
        return True

    def _export_step(self) -> None:
        self._try_to_export(f"checkpoint-{self.step}")
        self.should_export = False

    def _export_weights(self):
        return self.average.applied() if self.average is not None else nullcontext()

    def _take_best(self) -> None:
        if self.best.give_up and self.step < self.args.max_steps:
            logger.info(
                f"stopped early at step {self.step} of {self.args.max_steps}: {self.best.waited} evaluations without "
                f"a higher {self.best.metric} (early_stopping_patience)"
            )
        logger.info(f"the best evaluation was that of step {self.best.step}: its weights are the ones exported")
        on_main_process(self.accelerator, lambda: self.run_folder.copy_export("checkpoint-best", "checkpoint-final"))
        best = self.run_dir / "checkpoint-best"
        if has_adapter(self.model):
            load_adapter_weights(self.model, best / ADAPTER / "adapter_model.safetensors")
        else:
            load_model(self.model, best / "model.safetensors")
        self.average = None
        self.scores, self.final_step = self.best.scores, self.best.step
        self._call("on_save", path=self.run_dir / "checkpoint-final")

    # the state

    def _save_state(self) -> None:
        """Saves a state; where that fails the run says so and goes on: the older ones are still there."""
        self.control.should_save = False
        if self.run_dir is None:
            return
        self.finite.check(self.step)
        shared = self._shared_state() if self.accelerator.is_main_process else {}
        own = {name: part.state_dict() for name, part in self._own_parts().items()}
        try:
            keep = self.args.state_limit
            folder = save_state(self.accelerator, self.run_dir, self.step, shared, own, keep, self.best.step)
        except OSError as error:
            logger.warning(f"the state of step {self.step} could not be saved: {error}. {self._how_to_go_on()}")
        else:
            self._call("on_save", path=folder)
        self._last_state_at = time.monotonic()

    def _shared_parts(self) -> dict[str, Any]:  # equal on all processes
        parts = {"model": self.model, "moments": self.moments, "muon": self.muon_moments, "best": self.best}
        return {name: part for name, part in {**parts, "average": self.average}.items() if part is not None}

    def _own_parts(self) -> dict[str, Any]:  # what only this process knows
        return {name: getattr(self, name) for name in ("slots", "window", "batches", "exploration")}

    def _shared_state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._shared_parts().items()} | {
            "step": self.step,
            "depths": self.depths,
            "num_processes": self.accelerator.num_processes,
            "facts": self._facts(),
            "scores": self.scores,
            "scored_step": self.scored_step,
            "run_id": self.run_id,
            "elapsed_seconds": time.time() - self._started,
            "log": self.state.log_history,
            "due": {"evaluate": self.control.should_evaluate, "export": self.should_export},
        }

    def _load(self, state: Path) -> None:
        """Puts a state into this trainer; the processes may be others than those that saved it."""
        shared = read_tree(state, SHARED)
        own = own_tree(state, self.accelerator.process_index, self.accelerator.num_processes)
        for name, part in self._shared_parts().items():
            part.load_state_dict(shared[name])
        for name, part in self._own_parts().items():
            part.load_state_dict(own[name])
        for name in ("step", "depths", "scores", "scored_step", "run_id"):
            setattr(self, name, shared[name])
        self._started = time.time() - shared["elapsed_seconds"]
        self.state.log_history = shared["log"]
        self.control.should_evaluate, self.should_export = shared["due"]["evaluate"], shared["due"]["export"]
        self.control.should_save = self.control.should_evaluate or self.should_export
        if self.run_folder is not None:
            self.run_folder.go_on(self.state.log_history)

    def _facts(self) -> dict[str, Any]:
        """What must be the same where a run resumes: architecture, arguments and data, as one flat mapping."""
        fields = type(self.model.config).__annotations__
        architecture = {name: value for name, value in self.model.config.to_dict().items() if name in fields}
        parts = {"model": architecture, "training": self.args.ruling(), "data": self.data_facts}
        return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}

    def _how_to_go_on(self) -> str:
        if self.run_dir is None:
            return "No state is saved, as there is no output_dir"
        steps = state_steps(self.run_dir)
        if not steps:
            return "No state is saved: give another output_dir, or make room there"
        run_dir = os.path.relpath(self.run_dir)
        return (
            f"The last saved state is that of step {steps[0]}: to resume from it, repeat the command with --resume "
            + shlex.quote(run_dir if not run_dir.startswith("..") else str(self.run_dir))
        )

    def where(self) -> str:
        return f"at step {self.step}. {self._how_to_go_on()}"

    # after the run

    def push_to_hub(self, repo_id: str, **options: Any) -> list[tuple[str, int]] | None:
        """Pushes the last export to the Hub, see `hrm_hf.hub.push.push_checkpoint` for options, result and errors.

        The main process pushes; the others return None at once: let them leave before by `accelerator.end_training()`.

        Raises:
            ArgumentError: nothing was exported yet.
        """
        if not self.accelerator.is_main_process:
            return None
        if self.run_folder is None or self.run_folder.last_export is None:
            raise ArgumentError("there is nothing to push yet: train() and export() write to output_dir")
        return push_checkpoint(self.run_folder.last_export, repo_id, **options)

    def close(self) -> None:
        """Ends the trackers and lets go of the distributed model; call it before `accelerator.end_training()`."""
        # Else that model is the last to hold the process group and ends gloo's threads while it holds the interpreter,
        # which such a thread may be waiting for: the process would never end.
        if self.trackers is not None:
            self.trackers.finish()
        self.distributed_model = self.model
        self.accelerator.free_memory()


def _as_json(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they come back from a saved state."""
    try:
        return json.loads(json.dumps(facts, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"data_facts cannot be saved as JSON ({error}): give text and numbers") from error


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0
