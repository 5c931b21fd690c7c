"""Adapt an ARC checkpoint to tasks that it has never seen, and write a submission for ARC Prize.

    hrm-adapt --checkpoint DIR --tasks arc-agi_test_challenges.json --output submission.json --minutes 600
    accelerate launch --multi_gpu --num_processes N -m hrm_hf.commands.adapt ...

TASKS is a JSON file, a folder or a zip, as for hrm-build arc. All its tasks count as hidden: their demonstrations are
trained on, in --num-aug augmented variants, and their test inputs are answered; answers that are there are used for
the scores printed and for nothing else. The network stays frozen (--lora-rank adds a LoRA adapter). Each variant of a
task gets a row of the puzzle table, which starts as the mean of the checkpoint's rows and is trained. Then all
variants of a test input vote, and two attempts are written.

OUTPUT holds a valid submission of all tasks from the first seconds on: of empty attempts, then of the rows before
training, then of more and more votes. --minutes bounds the whole command; up to a third is kept for the votes.

A command that was broken off is repeated as it was: it goes on from the last saved state in --work-dir (OUTPUT.work,
removed at the end unless it was named). No network connection is needed.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
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
from ..data.build.arc_tasks import EVALUATION, EXTRA_PAIRS, read_collection
from ..data.build.puzzle_rows import check_variants
from ..files import mend_folders, read_json, refuse_existing, remove, write_whole
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
from ..training.resuming import dtype_of_run
from ..training.stop_requests import StopRequests
from .build_options import print_list
from .command import Command
from .load import load_model, refuse_mistyped_path
from .training_run import RunData, data_facts, keep_training_data

DEFAULT_UPDATES = 64  # of each row
MOST_STEPS = 100_000  # where only --minutes bounds the training
SECONDS_OF_A_ROUND = 30.0  # of votes between two submissions
LARGEST_SHARE_OF_VOTES = 1 / 3  # of the time
SHARE_OF_DEMONSTRATIONS = 1 / 20  # of the time that is left, before training
NO_ANSWER = {"attempt_1": [[0]], "attempt_2": [[0]]}

SKIP_BAD = "empty attempts for tasks that are bad or too large for the checkpoint's frame, which are listed"

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
    add("--learning-rate", type=float, help="rate of the adapter (1e-4)")
    add("--global-batch-size", type=int, default=64, help="puzzles in a training step, over all processes (64)")
    add("--batch-size", type=int, default=256, help="puzzles at once in each process that answers (256)")
    dtype = "auto: the quicker one here (default: the checkpoint's own, but float32 where its bfloat16 is slower)"
    add("--compute-dtype", choices=[*COMPUTE_DTYPES, "auto"], help=dtype)
    add("--extra-pairs", choices=EXTRA_PAIRS, default="ignore", help="pairs beside train and test, such as arc-gen")
    add("--skip-bad", action="store_true", help=SKIP_BAD)
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
        learning_rate=1e-4 if args.learning_rate is None else args.learning_rate,
        weight_decay=0.1,
        puzzle_learning_rate=args.puzzle_learning_rate,
        puzzle_weight_decay=args.puzzle_weight_decay,
        warmup_steps=0,
        logging_steps=10,
        eval_batch_size=args.batch_size,
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
    for name in ("steps", "lora_rank", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ArgumentError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more")
    check_variants(args.num_aug, args.seed)
    if args.learning_rate is not None and args.lora_rank is None:
        raise ArgumentError("--learning-rate is that of the adapter: give --lora-rank too, or --puzzle-learning-rate")
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
        self.attempts: dict[str, list[dict[str, Any]]] = {}  # the submission, on the main process
        self.rows_answered, self.seconds_answering = 0, 0.0

    def run(self) -> None:
        args, accelerator = self.args, self.accelerator
        goes_on = on_main_process(accelerator, lambda: holds_run(self.work_dir), share=True)
        self.training_args.resume = "auto" if goes_on else "never"
        model, processor = load_arc_model(args.checkpoint)
        run_dir = self.work_dir if goes_on else None
        model.config.compute_dtype = dtype_of_run(args.compute_dtype, model.config, accelerator, run_dir)
        model.requires_grad_(False)
        if args.lora_rank is not None:  # before anything is written, for PEFT may not be there
            model.name_or_path = args.checkpoint  # the adapter's file names what it belongs to
            add_lora(model, args.lora_rank, args.seed)
        on_main_process(accelerator, lambda: self.prepare(processor.grid_shape, goes_on))
        train_file, test_file = (PuzzleFile(self.work_dir / "data" / f"{split}.h5") for split in ("train", "test"))
        trainer = self.make_trainer(model, processor, train_file, goes_on)
        model = trainer.model
        try:
            variants = test_file.row_places(np.arange(test_file.info.num_rows))[1]
            tests = FileRows(test_file, np.argsort(variants, kind="stable"))  # first all of the originals
            self.answer(model, trainer.step, tests.at(tests.numbers[: np.sum(variants == 0)]), replaces=False)
            now = time.monotonic()
            self.show_demonstrations(model, trainer.step, train_file, now + SHARE_OF_DEMONSTRATIONS * (self.end - now))
            if args.minutes is not None:
                asked = len(tests) * self.seconds_answering / max(1, self.rows_answered)
                self.clock.deadline = self.end - seconds_of_votes(asked, args.minutes)
            trainer.train()
            done = self.answer(model, trainer.step, tests, replaces=True)
            if done < len(tests):
                accelerator.print(f"the time is up: {done} of {len(tests)} variants of the test inputs have voted")
            self.show_demonstrations(model, trainer.step, train_file, self.end)
        except KeyboardInterrupt:
            logger.warning(f"{self.output} is valid; the same command goes on")
            raise
        finally:
            trainer.close()
        if trainer.run_folder is not None:  # the main process
            trainer.run_folder.finish()
            tests = [attempts for of_task in self.attempts.values() for attempts in of_task]
            empty = f", with empty attempts for {tests.count(NO_ANSWER)} of {len(tests)} test inputs"
            print(f"wrote {self.output}{empty if NO_ANSWER in tests else ''}")
            if args.work_dir is None:
                remove(self.work_dir)

    def prepare(self, frame_shape: tuple[int, int], goes_on: bool) -> None:
        """On the main process: tasks to a valid submission, where there is none of this run, and to puzzle files."""
        args = self.args
        folder = self.work_dir / "data"
        if not goes_on:
            check_run_dir(self.work_dir)
        collection = read_collection(args.tasks, frame_shape, args.skip_bad, args.extra_pairs)
        hidden = tuple(replace(task, split=EVALUATION) for task in collection.tasks)
        how = {"skip_bad": args.skip_bad, "extra_pairs": args.extra_pairs}
        mixture = mix_collections([replace(collection, tasks=hidden)], **how)
        for task in mixture.tasks:
            if not task.task.test:
                raise DataError(f"{task.source}: task {task.name} has no test input, so there is nothing to answer")
        if not mixture.tasks:
            raise DataError(f"none of the tasks can be answered; the first: {mixture.left_out[0]}")
        num_tests = collection.bad | {task.name: len(task.task.test) for task in mixture.tasks}
        empty = {name: [NO_ANSWER] * num_tests[name] for name in sorted(num_tests)}
        there = read_attempts(self.output)
        is_ours = there.keys() == empty.keys() and all(len(there[name]) == len(empty[name]) for name in empty)
        self.attempts = there if goes_on and is_ours else empty
        if self.attempts is empty and there != empty and not args.overwrite:  # an empty one is nobody's loss
            refuse_existing(self.output, how="name another file, or pass --overwrite")
        print(collection.found, *(f"note: {note}" for note in mixture.notes), sep="\n", flush=True)
        if mixture.left_out:
            print_list(list(mixture.left_out), "tasks left out")
        folder.mkdir(parents=True, exist_ok=True)
        mend_folders(folder)
        write_whole(self.output, json.dumps(self.attempts))
        how = {"num_workers": args.workers, "frame_shape": frame_shape, "overwrite": True}
        build_arc(folder, mixture.tasks, num_aug=args.num_aug, seed=args.seed, **how)

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
        resumes = trainer.go_on()
        on_main_process(accelerator, lambda: keep_training_data(run_folder, file, resumes, args.checkpoint))
        return trainer

    def rounds(self, model: HrmForPuzzleSolving, rows: FileRows, end: float) -> Iterator[PuzzlePredictions]:
        """Answers the rows in order, while there is time until `end`: after each round those to all rows so far.

        The first round is of one row for each process: nobody knows how long a row takes. Equal on all processes.
        """
        accelerator, found, done = self.accelerator, None, 0
        while done < len(rows) and (size := on_main_process(accelerator, lambda: self.fitting_rows(end), share=True)):
            began = time.monotonic()
            with StopRequests(accelerator, lambda: f"while answering; {self.output} is valid") as stop:
                more = predict_puzzles(
                    model,
                    rows.at(rows.numbers[done : done + size]),
                    batch_size=self.args.batch_size * accelerator.num_processes,
                    process_index=accelerator.process_index,
                    num_processes=accelerator.num_processes,
                    gather=accelerator.gather,
                    compute_dtype=model.config.compute_dtype,
                    after_update=stop.after_update,
                )
            self.seconds_answering += time.monotonic() - began
            self.rows_answered += len(more)
            parts = [more] if found is None else [found, more]
            answers = ((part.sequences, part.q_halt_logits, part.segments) for part in parts)
            found = PuzzlePredictions(*map(np.concatenate, zip(*answers, strict=True)))
            done = len(found)
            yield found

    def fitting_rows(self, end: float) -> int:
        """How many rows fit in a round and before `end`; whole batches, if there is more than one."""
        left = end - time.monotonic()
        if self.rows_answered == 0:
            return self.accelerator.num_processes if left > 0 else 0
        rows_per_second = self.rows_answered / self.seconds_answering
        if rows_per_second * left < 1:
            return 0
        size = max(1, int(rows_per_second * min(left, SECONDS_OF_A_ROUND)))
        batch = self.args.batch_size * self.accelerator.num_processes
        return size if size < batch else size - size % batch

    def answer(self, model: HrmForPuzzleSolving, step: int, rows: FileRows, replaces: bool) -> int:
        """Answers test inputs, and writes a submission after each round; prints the scores of known answers.

        replaces: False: only of test inputs that have no answer yet. Returns how many rows were answered.
        """
        found, ranked, answers = [], {}, {}
        for found in self.rounds(model, rows, self.end):
            if self.accelerator.is_main_process:
                ranked, answers = arc_votes(rows.file, found, rows.numbers[: len(found)])
                for name, attempts in submission(ranked).items():
                    for test, attempt in enumerate(attempts):
                        if (name, test) in ranked and (replaces or self.attempts[name][test] == NO_ANSWER):
                            self.attempts[name][test] = attempt
                write_whole(self.output, json.dumps(self.attempts))
        if answers:
            numbers = rows.numbers[: len(found)]
            num_originals = np.sum(rows.file.row_places(numbers)[1] == 0)  # which come first
            first = found.sequences, found.q_halt_logits, found.segments
            plain = PuzzlePredictions(*(part[:num_originals] for part in first))
            scores = score_predictions(plain, rows.at(numbers[:num_originals]))
            votes = pass_at_k(ranked, answers, ks=(1, 2))
            shown = ", ".join(f"{name} {value:.4f}" for name, value in votes.items())
            print(f"step {step}: {in_words('test inputs', scores)}; with {len(found)} votes {shown}", flush=True)
        return len(found)

    def show_demonstrations(self, model: HrmForPuzzleSolving, step: int, file: PuzzleFile, end: float) -> None:
        """Prints the scores on the unaugmented demonstrations, or on as many as can be answered until `end`."""
        originals = file.row_places(np.arange(file.info.num_rows))[1] == 0
        rows = FileRows(file, np.flatnonzero(originals))
        *_, found = None, *self.rounds(model, rows, end)
        if found is not None:
            scores = score_predictions(found, rows.at(rows.numbers[: len(found)]))
            some = f"of {len(rows)} " if len(found) < len(rows) else ""
            self.accelerator.print(f"step {step}: {in_words(f'{some}demonstrations', scores)}", flush=True)


class TimeBudget(TrainerCallback):
    """Ends the training before `deadline` (time.monotonic of the main process), on all processes at one step.

    The steps that there is time for are told to the progress bar, as `state.max_steps`.
    """

    def __init__(self, accelerator: Accelerator, deadline: float):
        self.accelerator, self.deadline = accelerator, deadline
        self.began: tuple[float, int] | None = None  # when, and at which step

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **what: Any) -> TrainerControl:
        now = time.monotonic()
        began, first_step = self.began = self.began or (now, state.global_step)
        left, done = self.deadline - now, state.global_step - first_step
        step_seconds = (now - began) / done if done else 0.0
        if done and left < math.inf:
            state.max_steps = min(args.max_steps, state.global_step + max(0, int(left / step_seconds)))
        is_over = torch.tensor(left <= step_seconds)  # the next step would end too late
        if processes.host_group is not None:
            torch.distributed.broadcast(is_over, src=0, group=processes.host_group)
        control.should_training_stop |= bool(is_over)
        return control

    on_train_begin = on_step_end


def seconds_of_votes(asked: float, minutes: float) -> float:
    """The seconds of the command's minutes that the training leaves to the votes, which ask for that many."""
    return min(asked, LARGEST_SHARE_OF_VOTES * 60 * minutes)


def load_arc_model(checkpoint: str) -> tuple[HrmForPuzzleSolving, HrmProcessor]:
    """Raises CheckpointError for a checkpoint that is no ARC model with a puzzle table."""
    model, processor = load_model(checkpoint, dtype=torch.float32)
    task = None if processor is None else processor.task
    if task != "arc":
        raise CheckpointError(f"{checkpoint} is of the task {task!r}: give a checkpoint that was trained on 'arc'")
    if model.model.puzzle_embeddings is None:
        raise CheckpointError(f"{checkpoint} has no puzzle table, whose rows are what is adapted to new tasks")
    return model, processor


def read_attempts(path: Path) -> dict[str, list]:
    """The submission in a file; empty for one that is not there or holds something else."""
    try:
        found = read_json(path, DataError)
    except DataError:
        return {}
    return found if all(isinstance(attempts, list) for attempts in found.values()) else {}


def in_words(rows: str, scores: dict[str, float]) -> str:
    """The scores of rows in one line."""
    return f"{int(scores['count'])} {rows}: cells {scores['accuracy']:.4f}, exact {scores['exact_accuracy']:.4f}"


COMMAND = Command(__doc__, add_arguments, run)
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
