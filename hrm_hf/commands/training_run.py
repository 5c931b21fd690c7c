"""A whole training run from the command line, for any task: arguments, data, model, trainer, scores, card, one puzzle.

The commands in examples/ say what is particular to their task by a `TrainingTask`; everything else is here, once.
"""

import hashlib
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from ..data import PuzzleFile, PuzzleSetInfo, load_puzzles, total_steps, training_batches
from ..hrm.errors import ArgumentError, CheckpointError, DataError, HrmError, ProcessLostError
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import PuzzleIdentifiers
from ..hrm.shown_value import one_line
from ..hub.downloads import is_hub_id, puzzle_file_path
from ..hub.hub_errors import check_can_push
from ..hub.model_card import write_model_card
from ..progress import show_messages
from ..training import (
    HrmModelArguments,
    HrmTrainer,
    HrmTrainingArguments,
    RunFolder,
    check_run_dir,
    choose_run_dir,
    holds_run,
    machine_in_words,
    make_accelerator,
    on_main_process,
    parse_arguments,
    seeded_model,
    share_cpu_cores,
)
from ..training.processes import naming_lost_processes
from ..training.stop_requests import StoppedBySignal

# where it ran, and what has no influence on the weights
NOT_OF_THE_RECIPE = (
    "recipe",
    "data_dir",
    "output_dir",
    "report_to",
    "cpu_threads",
    "seed",
    "max_steps",
    "push_to_hub",
    "hub_private",
    "resume",
    "state_minutes",
    "state_steps",
    "state_limit",
)


@dataclass
class DataArguments:
    """Which data to train on. Tasks add what their generator needs."""

    recipe: str | None = field(
        default=None, metadata={"help": "YAML file of arguments. Default: the task's own in examples/recipes."}
    )
    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with train.h5 and test.h5, as the builders in convert/ write them, or a data set on the "
            "Hub (owner/name) that holds them."
        },
    )


@dataclass(frozen=True)
class TrainingTask:
    """What is particular to a task.

    Attributes:
        name: of the game, as in `HrmProcessor(task=...)`.
        arguments: DataArguments or a dataclass derived from it.
        description: what --help says first.
        recipe_for: (data arguments, facts of train.h5 or None without --data-dir) -> the recipe if none is named.
        generate: (data arguments, folder, seed) -> writes train.h5 and test.h5 there; None: the task needs --data-dir.
        data_in_words: (data arguments, facts of train.h5) -> the training data, for the model card.
        puzzle_in_words: (test set, its facts) -> a puzzle for the card's example, None for none.
        show: (checkpoint folder, test set, its facts) -> loads the checkpoint back and prints a solved puzzle.
        scored_rows: the rows of the test set that training scores; None = all.
    """

    name: str
    arguments: type[DataArguments]
    description: str
    recipe_for: Callable[[Any, PuzzleSetInfo | None], Path]
    generate: Callable[[Any, Path, int], None] | None
    data_in_words: Callable[[Any, PuzzleSetInfo], str]
    puzzle_in_words: Callable[[Dataset, PuzzleSetInfo], str | None]
    show: Callable[[Path, Dataset, PuzzleSetInfo], None]
    scored_rows: Callable[[Dataset], Dataset] | None = None


def run_training(
    task: TrainingTask, argv: list[str] | None = None, trainer_class: type[HrmTrainer] = HrmTrainer
) -> None:
    """The whole run.

    Args:
        task: what is trained.
        argv: the command line, None = the process's.
        trainer_class: for whoever wants to watch the steps.
    Raises:
        HrmError: bad arguments or data; nothing has been made then but generated data.
    """
    show_messages()
    data_args, model_args, args = read_arguments(task, sys.argv[1:] if argv is None else argv)
    run_dir = [str(choose_run_dir(args.resume, args.output_dir, task.name))]
    accelerator = make_accelerator(args, run_dir[0])
    share_cpu_cores(accelerator, args.cpu_threads)
    trainers: list[HrmTrainer] = []  # none before the first step
    with naming_lost_processes(
        accelerator, lambda: trainers[0].where() if trainers else "before the first step, nothing was lost"
    ):
        broadcast_object_list(run_dir)  # the time of day in its name may differ between processes
        args.output_dir = run_dir[0]
        _run(task, data_args, model_args, args, accelerator, trainer_class, trainers)
    accelerator.end_training()
    if args.push_to_hub is not None:
        push_last_checkpoint(trainers[0], args)  # the other processes need not wait
    if accelerator.is_main_process:
        trainers[0].run_folder.finish()


def _run(
    task: TrainingTask,
    data_args: DataArguments,
    model_args: HrmModelArguments,
    args: HrmTrainingArguments,
    accelerator: Accelerator,
    trainer_class: type[HrmTrainer],
    trainers: list[HrmTrainer],
) -> None:
    """The run on every process, its folder being chosen; `trainers` is given the trainer once there is one."""
    run_dir = Path(args.output_dir)
    # what can be wrong is found before anything is made
    if args.push_to_hub is not None:
        on_main_process(accelerator, lambda: check_can_push(args.push_to_hub))
    args.local_batch_size(accelerator.num_processes)
    model_args.to_config(vocab_size=11, seq_len=81, num_puzzle_identifiers=1)
    goes_on = args.resume != "never" and holds_run(run_dir)
    if not goes_on:
        on_main_process(accelerator, lambda: check_run_dir(run_dir))
    data_dir = data_args.data_dir
    if data_dir is None:
        data_dir = str(run_dir / "data")
        on_main_process(accelerator, lambda: make_data(task, data_args, Path(data_dir), args.seed, keep=goes_on))
    train_file = PuzzleFile(puzzle_file_path(data_dir, "train"))
    batches = training_batches(
        train_file.path,
        args.global_batch_size,
        seed=args.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    info = batches.puzzle_info
    if info.task != task.name:
        raise ArgumentError(f"{train_file.path} holds the task {info.task!r}, this command trains {task.name!r}")
    test_set, test_info = None, None
    if has_test_file(data_dir):
        test_file = PuzzleFile(puzzle_file_path(data_dir, "test"))
        check_same_identifiers(train_file, test_file)
        test_set, test_info = load_puzzles(test_file.path), test_file.info
        test_set = test_set if task.scored_rows is None else task.scored_rows(test_set)
    processor = HrmProcessor(
        task=info.task,
        grid_shape=info.grid_shape,
        box_shape=info.box_shape,
        puzzle_identifiers=named_identifiers(train_file),
    )
    args.max_steps = args.max_steps or total_steps(args.epochs, info, args.global_batch_size)
    if args.max_steps < 1:
        raise ArgumentError(f"epochs {args.epochs} make no whole batch of {args.global_batch_size}: give more")
    config = model_args.to_config(info.vocab_size, info.seq_len, info.num_puzzle_identifiers)
    if test_set is not None:
        test_file.check_fits(config, processor.task)
    model = seeded_model(config, args.seed)
    run_folder = on_main_process(accelerator, lambda: RunFolder(run_dir, reopen=goes_on))
    files = {"train": train_file.path} | ({} if test_set is None else {"test": test_file.path})
    data_facts = on_main_process(accelerator, lambda: {f"{name}.h5": sha256(path) for name, path in files.items()})
    if data_facts is not None and data_args.data_dir is None:
        data_facts |= {name: value for name, value in asdict(data_args).items() if name not in _DATA_FIELDS}
    trainer = trainer_class(model, args, batches, accelerator, test_set, processor, run_folder, data_facts=data_facts)
    trainers.append(trainer)
    trainer.go_on()  # what cannot go on is refused before anything is written

    settings = {**_data_settings(data_args), **asdict(model_args), **asdict(args)}
    hardware = f"{accelerator.num_processes} process(es), {machine_in_words()}"
    if run_folder is not None:
        run_folder.describe(
            arguments=settings,
            data=asdict(info),
            data_is_hub_id=is_hub_id(data_dir),
            num_processes=accelerator.num_processes,
        )
    tested = "no test puzzles" if test_set is None else f"{len(test_set)} test puzzles"
    accelerator.print(
        f"{info.num_groups} training puzzles x {info.num_puzzles / info.num_groups:g} variants, {tested}; "
        f"{model.num_parameters():,} parameters; {args.max_steps} steps of {args.global_batch_size} slots on "
        f"{hardware}; run folder {run_dir}"
    )

    def describe_checkpoint(scores: dict[str, float]) -> None:
        checkpoint = run_dir / "checkpoint-final"
        has_chosen = args.early_stopping_patience is not None and trainer.best.step is not None
        chosen = " (which the step was chosen by, too)" if has_chosen else ""
        scores = {name.removeprefix("eval/"): value for name, value in scores.items()}
        print(
            f"on {len(test_set)} unseen puzzles: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        )
        write_model_card(
            checkpoint,
            model_name=f"hrm-{info.task}-{info.grid_shape[0]}x{info.grid_shape[1]}",
            task=info.task,
            train_dataset=task.data_in_words(data_args, info),
            dataset=f"{len(test_set)} held-out puzzles of {Path(data_dir).name}/test.h5{chosen}, all segments run",
            dataset_id=data_dir if is_hub_id(data_dir) else None,
            metrics=scores,
            recipe={name: value for name, value in settings.items() if name not in NOT_OF_THE_RECIPE},
            hardware=hardware,
            seed=args.seed,
            steps=trainer.best.step if chosen else trainer.step,
            location="path/to/this/folder",
            example=task.puzzle_in_words(test_set, test_info),
        )
        task.show(checkpoint, test_set, test_info)

    try:
        scores = trainer.train()
        if test_set is not None:
            on_main_process(accelerator, lambda: describe_checkpoint(scores))
    finally:
        trainer.close()


_DATA_FIELDS = tuple(each.name for each in fields(DataArguments))


def make_data(task: TrainingTask, data_args: DataArguments, data_dir: Path, seed: int, keep: bool) -> None:
    """Generates train.h5 and test.h5; with `keep` only if they are not there: each is written whole or not at all."""
    if not keep or not all((data_dir / name).exists() for name in ("train.h5", "test.h5")):
        for left_over in data_dir.glob(".*.partial"):  # of a run that was killed while it made them
            left_over.unlink()
        task.generate(data_args, data_dir, seed)


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_test_file(data_dir: str) -> bool:
    """False for a local folder without test.h5, as the ARC builder makes it where there are no evaluation tasks."""
    return not Path(data_dir).is_dir() or (Path(data_dir) / "test.h5").exists()


def check_same_identifiers(train_file: PuzzleFile, test_file: PuzzleFile) -> None:
    """Raises DataError where a puzzle identifier means one puzzle in training and another in the test."""
    trained = train_file.identifier_names()
    for identifier, name in enumerate(test_file.identifier_names()):
        known = trained[identifier] if identifier < len(trained) else ""
        if name not in ("", known):
            raise DataError(
                f"{test_file.path}: identifier {identifier} is {name!r}, in {train_file.path} it is {known!r}: they "
                "are not of one build"
            )


def push_last_checkpoint(trainer: HrmTrainer, args: HrmTrainingArguments) -> None:
    """Pushes what the run ended with.

    Raises:
        CheckpointError: the push failed, with the command that repeats it: the checkpoint lies there as before.
    """
    try:
        trainer.push_to_hub(args.push_to_hub, private=args.hub_private)
    except (HrmError, OSError) as error:
        checkpoint = Path(args.output_dir) / "checkpoint-final"
        command = f"push it with python examples/push_to_hub.py --checkpoint {shlex.quote(str(checkpoint))}"
        command += f" --repo-id {args.push_to_hub}" + (" --private" if args.hub_private else "")
        raise CheckpointError(f"{error}; the trained checkpoint lies in {checkpoint}: {command}") from error
    trainer.accelerator.print(f"pushed to {args.push_to_hub}")


def run_as_command(main: Callable[[], None]) -> None:
    """Runs a command's main function: bad input becomes one line on stderr and exit code 2, Ctrl-C exit code 130.

    A run that was asked to stop by a signal exits with 128 + that signal: 130 (SIGINT) or 143 (SIGTERM).
    """
    try:
        main()
    except ProcessLostError:  # has said so itself: the main process, which would, may be the lost one
        sys.exit(2)
    except (HrmError, OSError) as error:  # OSError: a file or checkpoint that is not there
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except StoppedBySignal as stopped:
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def read_arguments(task: TrainingTask, argv: list[str]) -> tuple[Any, HrmModelArguments, HrmTrainingArguments]:
    """Arguments from the recipe and the command line; the task's own recipe if none is named.

    Raises:
        ArgumentError: see `parse_arguments`; neither epochs nor max_steps; no data.
    """
    types = (task.arguments, HrmModelArguments, HrmTrainingArguments)
    given, *_ = parse_arguments(types, None, argv, task.description)
    if given.recipe is None:
        info = None if given.data_dir is None else PuzzleFile(puzzle_file_path(given.data_dir)).info
        given.recipe = str(task.recipe_for(given, info))
    data_args, model_args, args = parse_arguments(types, given.recipe, argv, task.description)
    data_args.recipe = given.recipe
    if args.epochs is None and args.max_steps is None:
        raise ArgumentError(f"neither --epochs nor --max_steps is given, and {given.recipe} names none")
    if data_args.data_dir is None and task.generate is None:
        raise ArgumentError(
            f"--data-dir is missing: a folder with train.h5 and test.h5 of convert/build_{task.name}.py"
        )
    return data_args, model_args, args


def named_identifiers(file: PuzzleFile) -> PuzzleIdentifiers | None:
    """The names of the puzzle table's rows; None where puzzles are not told apart or have no names."""
    names = file.identifier_names()
    return PuzzleIdentifiers(names) if any(names[1:]) else None


def _data_settings(data_args: DataArguments) -> dict[str, Any]:
    """What was asked of the data: the generator's arguments only where it ran."""
    settings = asdict(data_args)
    if data_args.data_dir is None:
        return settings
    return {name: settings[name] for name in _DATA_FIELDS}
