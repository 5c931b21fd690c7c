"""Adapt an ARC checkpoint to tasks that it has never seen, and write a submission for ARC Prize.

    hrm-adapt --checkpoint DIR --tasks arc-agi_test_challenges.json --output submission.json --minutes 600
    accelerate launch --multi_gpu --num_processes N -m hrm_hf.commands.adapt ...

TASKS is a JSON file, a folder or a zip, as for hrm-build arc. All its tasks count as hidden: their demonstrations are
trained on, in --num-aug augmented variants, and their test inputs are answered; answers that are there are used for
the scores printed and for nothing else. The network stays frozen (--lora-rank adds a LoRA adapter). Each variant of a
task gets a row of the puzzle table, which starts as the mean of the checkpoint's rows and is trained. Then all
variants of a test input vote, and two attempts are written.

OUTPUT holds a valid submission from the first seconds on: of empty attempts, then of the rows before training, then of
more and more votes. --minutes bounds the whole command; what is left of the training's time goes to the votes.

A command that was broken off is repeated as it was: it goes on from the last saved state in --work-dir (OUTPUT.work,
removed at the end unless it was named). No network connection is needed.
"""

import argparse
import json
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl

from ..data import FileRows, PuzzleFile, training_batches
from ..data.build.arc_builder import build_arc
from ..data.build.arc_mixture import mix_collections
from ..data.build.arc_tasks import EVALUATION, EXTRA_PAIRS, CollectedTask, read_collection
from ..files import mend_folders, refuse_existing, remove, write_whole
from ..hrm.configuration_hrm import COMPUTE_DTYPES
from ..hrm.errors import ArgumentError, CheckpointError, DataError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..progress import get_logger
from ..scores.evaluation import PuzzlePredictions, arc_votes, predict_puzzles, score_predictions
from ..scores.formulas import pass_at_k, submission
from ..scores.puzzle_table_match import match_puzzle_table
from ..training import HrmTrainer, HrmTrainingArguments, RunFolder, check_run_dir, holds_run, processes
from ..training.adapters import add_lora
from ..training.processes import (
    launched_dtype,
    make_accelerator,
    naming_lost_processes,
    on_main_process,
    share_cpu_cores,
)
from ..training.stop_requests import StoppedBySignal, StopRequests
from .command import Command
from .load import load_model, refuse_mistyped_path
from .training_run import RunData, data_facts

DEFAULT_UPDATES = 64  # of each row
MOST_STEPS = 100_000  # where only --minutes bounds the training
SECONDS_OF_A_ROUND = 30.0  # of votes between two submissions
LARGEST_SHARE_OF_VOTES = 1 / 3  # of the time
TIME_IS_UP = signal.SIGABRT  # as which the clock asks for a stop: what no process is asked by

logger = get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def add(option: str, *others: str, **how: Any) -> None:
        same = option.replace("-", "_").replace("__", "--", 1)  # as hrm-train writes them
        parser.add_argument(option, *others, *([same] if same != option else []), **how)

    add("--checkpoint", required=True, help="folder or Hub id of an ARC model with a puzzle table")
    add("--tasks", required=True, help="JSON file, folder or zip of ARC tasks")
    add("--output", required=True, metavar="FILE", help="the submission, in the Kaggle form")
    add("--minutes", type=float, help="time for the whole command (default: no bound)")
    steps = f"training steps at most (default: about {DEFAULT_UPDATES} updates a row; with --minutes as many as fit)"
    add("--steps", type=int, help=steps)
    add("--num-aug", type=int, default=30, help="augmented variants per task, which train and vote (30)")
    add("--lora-rank", type=int, help="train a LoRA adapter of this rank beside the rows (needs PEFT)")
    add("--puzzle-learning-rate", type=float, default=1e-2, help="rate of the puzzle table's sign-SGD (1e-2)")
    add("--puzzle-weight-decay", type=float, default=0.1, help="decay of the puzzle table's rows (0.1)")
    add("--learning-rate", type=float, default=1e-4, help="rate of the adapter (1e-4)")
    add("--global-batch-size", type=int, default=64, help="puzzles in a training step, over all processes (64)")
    add("--batch-size", type=int, default=256, help="puzzles at once in each process that answers (256)")
    add("--compute-dtype", choices=COMPUTE_DTYPES, help="dtype to compute in (default: the checkpoint's own)")
    add("--extra-pairs", choices=EXTRA_PAIRS, default="ignore", help="pairs beside train and test, such as arc-gen")
    add("--seed", type=int, default=0, help="of every random choice (0)")
    add("--workers", type=int, help="processes that draw variants (default: one per core)")
    add("--cpu-threads", type=int, help="threads of a process on a CPU (default: its share of the cores)")
    add("--state-minutes", type=float, default=10.0, help="minutes between two saved states (10)")
    add("--work-dir", "--resume", metavar="DIR", help="data, states and adapted checkpoint; kept where it is named")
    add("--overwrite", action="store_true", help="replace an OUTPUT that exists")


def run(args: argparse.Namespace) -> None:
    started = time.monotonic()
    check_arguments(args)
    work_dir = Path(args.work_dir or f"{args.output}.work")
    training_args = HrmTrainingArguments(
        output_dir=str(work_dir),
        seed=args.seed,
        global_batch_size=args.global_batch_size,
        learning_rate=args.learning_rate,
        weight_decay=0.1,
        puzzle_learning_rate=args.puzzle_learning_rate,
        puzzle_weight_decay=args.puzzle_weight_decay,
        warmup_steps=0,
        logging_steps=10,
        eval_batch_size=args.batch_size,
        resume="auto",
        state_minutes=args.state_minutes,
        cpu_threads=args.cpu_threads,
    )
    accelerator = make_accelerator(training_args, str(work_dir))
    args.compute_dtype = launched_dtype(args.compute_dtype, "--compute-dtype") or args.compute_dtype
    share_cpu_cores(accelerator, args.cpu_threads)
    training_args.local_batch_size(accelerator.num_processes)  # raises before anything is written
    goes_on = "; the same command goes on"
    with naming_lost_processes(accelerator, lambda: f"before the votes were counted; {args.output} is valid{goes_on}"):
        Adaptation(args, training_args, accelerator, started).run()
    accelerator.end_training()


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ArgumentError for what is wrong with numbers and paths."""
    for name, least in (("steps", 1), ("lora_rank", 1), ("batch_size", 1), ("num_aug", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ArgumentError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise ArgumentError(f"--minutes is {args.minutes}; it must be more than 0, and finite")
    if not Path(args.output).absolute().parent.is_dir():
        raise ArgumentError(f"--output {args.output}: there is no folder {Path(args.output).parent}")
    if Path(args.output).is_dir():
        raise ArgumentError(f"--output {args.output} is a folder: name a file, such as submission.json")
    refuse_mistyped_path(args.checkpoint)


class Adaptation:
    """One run of the command on every process; files, votes and prints are the main process's."""

    def __init__(
        self, args: argparse.Namespace, training_args: HrmTrainingArguments, accelerator: Accelerator, started: float
    ):
        self.args, self.training_args, self.accelerator = args, training_args, accelerator
        self.work_dir, self.output = Path(training_args.output_dir), Path(args.output)
        self.end = math.inf if args.minutes is None else started + 60 * args.minutes
        self.clock = TimeBudget(accelerator, self.end)

    def run(self) -> None:
        args, accelerator = self.args, self.accelerator
        goes_on = on_main_process(accelerator, lambda: holds_run(self.work_dir), share=True)
        model, processor = load_arc_model(args.checkpoint)
        if args.compute_dtype is not None:
            model.config.compute_dtype = args.compute_dtype
        keeps = on_main_process(accelerator, lambda: self.prepare(processor.grid_shape, goes_on), share=True)
        train_file, test_file = (PuzzleFile(self.work_dir / "data" / f"{split}.h5") for split in ("train", "test"))
        trainer = self.make_trainer(model, processor, train_file, goes_on)
        model = trainer.model
        try:
            tests = FileRows(test_file)
            by_variant = RowsByVariant(test_file)
            began = time.monotonic()
            first = self.predict(model, tests.at(by_variant.rows(0, 1)))
            seconds = time.monotonic() - began
            if first is not None:
                self.show(trainer.step, test_file, [first], by_variant.rows(0, 1), writes=not keeps)
                self.show_demonstrations(model, trainer.step, train_file)
            if args.minutes is not None:
                asked = seconds * by_variant.num_variants
                self.clock.deadline = self.end - min(asked, LARGEST_SHARE_OF_VOTES * 60 * args.minutes)
            trainer.train()
            self.show_demonstrations(model, trainer.step, train_file)
            self.vote(model, trainer.step, tests, by_variant, seconds)
        finally:
            trainer.close()
        if trainer.run_folder is not None:  # the main process
            trainer.run_folder.finish()
            print(f"wrote {self.output}")
            if args.work_dir is None:
                remove(self.work_dir)

    def prepare(self, frame_shape: tuple[int, int], goes_on: bool) -> bool:
        """On the main process: tasks to a valid submission and to puzzle files.

        Returns whether the submission there is, of the run that goes on, is to be kept until there are votes.
        """
        args = self.args
        folder = self.work_dir / "data"
        if not goes_on:
            check_run_dir(self.work_dir)
            was_begun = args.work_dir is None and folder.is_dir()  # and broken off before there was a run
            if not args.overwrite and not was_begun:
                refuse_existing(self.output, how="name another file, or pass --overwrite")
        collection = read_collection(args.tasks, frame_shape, extra_pairs=args.extra_pairs)
        hidden = tuple(replace(task, split=EVALUATION) for task in collection.tasks)
        mixture = mix_collections([replace(collection, tasks=hidden)], extra_pairs=args.extra_pairs)
        for task in mixture.tasks:
            if not task.task.test:
                raise DataError(f"{task.source}: task {task.name} has no test input, so there is nothing to answer")
        print(collection.found, *(f"note: {note}" for note in mixture.notes), sep="\n", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        mend_folders(folder)
        keeps = goes_on and self.output.exists()
        if not keeps:
            write_whole(self.output, json.dumps(empty_submission(mixture.tasks)))
        how = {"num_workers": args.workers, "frame_shape": frame_shape, "overwrite": True}
        build_arc(folder, mixture.tasks, num_aug=args.num_aug, seed=args.seed, **how)
        return keeps

    def make_trainer(
        self, model: HrmForPuzzleSolving, processor: HrmProcessor, file: PuzzleFile, goes_on: bool
    ) -> HrmTrainer:
        """The trainer of the rows of the puzzle table, and of the adapter, at the step where it goes on."""
        args, accelerator = self.args, self.accelerator
        new = match_puzzle_table(model, processor, file, "mean")
        file.check_fits(model.config, processor.task)
        accelerator.print(
            f"{file.info.num_groups} tasks in {file.info.num_puzzles} variants, "
            f"{len(new)} of which start as the mean of the rows of {args.checkpoint}"
        )
        model.requires_grad_(False)
        if args.lora_rank is not None:
            model.name_or_path = args.checkpoint  # the adapter's file names what it belongs to
            add_lora(model, args.lora_rank, args.seed)
        model.model.puzzle_embeddings.weight.requires_grad_(True)
        updates = DEFAULT_UPDATES * file.info.num_puzzles
        steps = math.ceil(updates / args.global_batch_size) if args.minutes is None else MOST_STEPS
        self.training_args.max_steps = args.steps or steps
        place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        batches = training_batches(file.path, args.global_batch_size, args.seed, **place)
        run_folder = on_main_process(accelerator, lambda: RunFolder(self.work_dir, reopen=goes_on))
        data = RunData(str(file.path.parent), file, None, None, "", {})
        facts = on_main_process(accelerator, lambda: data_facts(data))
        if facts is not None:
            facts |= {"checkpoint": args.checkpoint, "lora_rank": args.lora_rank}
            run_folder.describe(arguments={name: value for name, value in vars(args).items() if name != "run"})
        how = {"run_folder": run_folder, "data_facts": facts, "callbacks": [self.clock]}
        trainer = HrmTrainer(model, self.training_args, batches, accelerator, None, processor, **how)
        trainer.go_on()
        return trainer

    def predict(self, model: HrmForPuzzleSolving, rows: FileRows) -> PuzzlePredictions | None:
        """The answers to the rows, the same on every process; None where the time was up before they were there."""
        accelerator, found = self.accelerator, None
        try:
            with StopsByTheClock(accelerator, lambda: f"while answering; {self.output} is valid", self.end) as stop:
                found = predict_puzzles(
                    model,
                    rows,
                    batch_size=self.args.batch_size * accelerator.num_processes,
                    process_index=accelerator.process_index,
                    num_processes=accelerator.num_processes,
                    gather=accelerator.gather,
                    after_update=stop.after_update,
                )
        except StoppedBySignal as stopped:
            if stopped.signal != TIME_IS_UP:
                raise
        return found

    def vote(
        self,
        model: HrmForPuzzleSolving,
        step: int,
        tests: FileRows,
        by_variant: "RowsByVariant",
        seconds_of_variant: float,
    ) -> None:
        """Answers variant by variant, and writes a submission after each round of some, until the time is up."""
        done, found = 0, []
        while done < by_variant.num_variants:
            fitting = int(min(SECONDS_OF_A_ROUND / max(seconds_of_variant, 1e-6), by_variant.num_variants - done))
            more = on_main_process(self.accelerator, lambda: max(1, fitting), share=True)  # noqa: B023
            began = time.monotonic()
            answers = self.predict(model, tests.at(by_variant.rows(done, done + more)))
            if answers is None:
                break
            found.append(answers)
            done += more
            seconds_of_variant = (time.monotonic() - began) / more
            self.show(step, tests.file, found, by_variant.rows(0, done), says=done == by_variant.num_variants)
        if done < by_variant.num_variants:
            self.accelerator.print(f"the time is up: {done} of {by_variant.num_variants} variants have voted")
            if done:
                self.show(step, tests.file, found, by_variant.rows(0, done), writes=False)

    def show(
        self,
        step: int,
        file: PuzzleFile,
        found: Sequence[PuzzlePredictions],
        numbers: np.ndarray,
        writes: bool = True,
        says: bool = True,
    ) -> None:
        """On the main process: counts the votes, writes the submission, and prints the scores of known answers."""
        if not self.accelerator.is_main_process:
            return
        names = ("sequences", "q_halt_logits", "segments")
        joined = PuzzlePredictions(*(np.concatenate([getattr(part, name) for part in found]) for name in names))
        ranked, answers = arc_votes(file, joined, numbers)
        if writes:
            write_whole(self.output, json.dumps(submission(ranked)))
        if says and answers:
            originals = np.flatnonzero(file.row_places(numbers)[1] == 0)
            plain = PuzzlePredictions(*(getattr(joined, name)[originals] for name in names))
            scores = score_predictions(plain, FileRows(file, numbers[originals]))
            votes = pass_at_k(ranked, answers, ks=(1, 2))
            shown = ", ".join(f"{name} {value:.4f}" for name, value in votes.items())
            print(f"step {step}: {in_words('test inputs', scores)}; with {len(numbers)} votes {shown}", flush=True)

    def show_demonstrations(self, model: HrmForPuzzleSolving, step: int, file: PuzzleFile) -> None:
        """Prints the scores on the unaugmented demonstrations, if there is time to answer them."""
        rows = FileRows(file, RowsByVariant(file).rows(0, 1))
        found = self.predict(model, rows)
        if found is not None:
            scores = score_predictions(found, rows)
            self.accelerator.print(f"step {step}: {in_words('demonstrations', scores)}", flush=True)


class RowsByVariant:
    """The rows of an ARC file, all of the originals first, then all of the first variants, and so on."""

    def __init__(self, file: PuzzleFile):
        variants = file.row_places(np.arange(file.info.num_rows))[1]
        self._order = np.argsort(variants, kind="stable")
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(variants))])
        self.num_variants = len(self._ends) - 1

    def rows(self, first: int, stop: int) -> np.ndarray:
        """Row numbers (int64) of the variants first to stop - 1."""
        return self._order[self._ends[first] : self._ends[stop]]


class TimeBudget(TrainerCallback):
    """Ends the training once `deadline` (time.monotonic of the main process) is over, on all processes at one step."""

    def __init__(self, accelerator: Accelerator, deadline: float):
        self.accelerator, self.deadline = accelerator, deadline

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **what: Any) -> TrainerControl:
        is_over = torch.tensor(time.monotonic() > self.deadline)
        if processes.host_group is not None:
            torch.distributed.broadcast(is_over, src=0, group=processes.host_group)
        control.should_training_stop |= bool(is_over)
        return control

    on_train_begin = on_step_end


class StopsByTheClock(StopRequests):
    """Stop requests, of which the clock of the main process makes one: StoppedBySignal with TIME_IS_UP."""

    def __init__(self, accelerator: Accelerator, where: Any, deadline: float):
        super().__init__(accelerator, where)
        self.deadline = deadline

    def check(self, at_work: bool = True) -> None:
        if self.is_main_process and self._own is None and time.monotonic() > self.deadline:
            self._own = TIME_IS_UP
        super().check(at_work)


def load_arc_model(checkpoint: str) -> tuple[HrmForPuzzleSolving, HrmProcessor]:
    """Raises CheckpointError for a checkpoint that is no ARC model with a puzzle table."""
    model, processor = load_model(checkpoint, dtype=torch.float32)
    task = None if processor is None else processor.task
    if task != "arc":
        raise CheckpointError(f"{checkpoint} is of the task {task!r}: give a checkpoint that was trained on 'arc'")
    if model.model.puzzle_embeddings is None:
        raise CheckpointError(f"{checkpoint} has no puzzle table, whose rows are what is adapted to new tasks")
    return model, processor


def empty_submission(tasks: Sequence[CollectedTask]) -> dict[str, Any]:
    """The submission without any answer."""
    return submission({(task.name, test): [] for task in tasks for test in range(len(task.task.test))})


def in_words(rows: str, scores: dict[str, float]) -> str:
    """The scores of rows in one line."""
    return f"{int(scores['count'])} {rows}: cells {scores['accuracy']:.4f}, exact {scores['exact_accuracy']:.4f}"


COMMAND = Command(__doc__, add_arguments, run)
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
