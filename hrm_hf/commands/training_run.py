"""A whole training run for any game: arguments, data, model, trainer, scores, model card, one solved puzzle.

`training_tasks` says what is particular to a game.
"""

import hashlib
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator

from ..data import FileRows, PuzzleFile, total_steps, training_batches
from ..data.trained_rows import SAYS_LITTLE, describe_puzzles, seen_in_words, trained_on, write_records
from ..files import mend_folders
from ..hrm.errors import ArgumentError, CheckpointError, DataError, HrmError
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.puzzle_identifiers import PuzzleIdentifiers
from ..hub.checkpoints import TRAINING_DATA
from ..hub.downloads import is_hub_id, puzzle_file_path
from ..hub.hub_errors import check_can_push
from ..hub.model_card import write_model_card
from ..hub.push import push_checkpoint
from ..progress import get_logger, progress
from ..training import HrmModelArguments, HrmTrainer, HrmTrainingArguments, parse_arguments, seeded_model
from ..training.adapters import add_lora
from ..training.arguments import given_words, options_of
from ..training.processes import (
    launched_dtype,
    make_accelerator,
    naming_lost_processes,
    on_main_process,
    share_cpu_cores,
)
from ..training.resuming import dtype_of_run
from ..training.run_folder import RunFolder, check_run_dir, choose_run_dir, holds_run, machine_in_words
from .init_from import Start, find_start
from .load import refuse_mistyped_path
from .solve import in_words, load_solver
from .training_tasks import DataArguments

# Arguments that say where a run took place, or that have no influence on the weights: not part of a card's recipe.
NOT_OF_THE_RECIPE = (
    *("recipe", "data_dir", "init_from", "output_dir", "report_to", "cpu_threads", "seed", "max_steps"),
    *("push_to_hub", "hub_private", "resume", "state_minutes", "state_steps", "state_limit"),
)
ORIGIN = vars(DataArguments()).keys()  # what any run starts from; the rest is for the generator of its game

Arguments = tuple[DataArguments, HrmModelArguments, HrmTrainingArguments]


class RunData(NamedTuple):
    """The puzzles of a run."""

    folder: str  # where the files are, or the id of a data set on the Hub
    train: PuzzleFile
    test: PuzzleFile | None
    scored: FileRows | None  # the rows that training scores; None without test file
    in_words: str  # the training puzzles, for the model card
    wanted: dict[str, Any]  # of the generator; empty where it did not run


def run_training(
    task: type[DataArguments], argv: list[str], trainer_class: type[HrmTrainer] = HrmTrainer, prog: str | None = None
) -> None:
    """The whole run, on every process. Raises HrmError for bad arguments or data, with nothing but data written then.

    trainer_class: for whoever wants to watch the steps. prog: what --help calls the command.
    """
    arguments = read_arguments(task, argv, prog)
    args = arguments[-1]
    run_dir = choose_run_dir(args.resume, args.output_dir, task.task)
    accelerator = make_accelerator(args, str(run_dir))
    share_cpu_cores(accelerator, args.cpu_threads)
    with naming_lost_processes(accelerator, lambda: "before the first step, nothing was lost"):
        # the time of day in its name may differ between processes
        run_dir = on_main_process(accelerator, lambda: run_dir, share=True)
        goes_on = args.resume != "never" and holds_run(run_dir)
        start = None
        if arguments[0].init_from is not None:
            start = find_start(arguments[0].init_from, run_dir, goes_on, accelerator)
            arguments = read_arguments(task, argv, prog, start)
            args = arguments[-1]
        args.output_dir = str(run_dir)
        settle_dtype(arguments[1], accelerator, run_dir if goes_on else None)
        data = prepare_data(arguments, accelerator, goes_on)
        trainer = prepare_trainer(arguments, data, accelerator, goes_on, trainer_class, start)
        del start  # its weights are in the trainer's model
    try:
        with naming_lost_processes(accelerator, trainer.where):
            train(trainer, data, arguments)
    finally:
        trainer.close()
    accelerator.end_training()
    if trainer.run_folder is not None:  # the main process; the others need not wait for an upload
        if args.push_to_hub is not None:
            push_last_checkpoint(trainer.run_folder, args)
        trainer.run_folder.finish()


def read_arguments(
    task: type[DataArguments], argv: list[str], prog: str | None = None, start: Start | None = None
) -> Arguments:
    """Arguments from the recipe and the command line; the game's default recipe if none is named.

    start: whose architecture wins over the recipe's.

    Raises ArgumentError as `parse_arguments`, and for neither epochs nor max_steps, a mistyped --data-dir, another
    compute_dtype than `accelerate launch` asks for, an architecture that the weights of `start` do not fit.
    """
    launched = launched_dtype()
    types = (task, HrmModelArguments, HrmTrainingArguments)
    description = f"Train a recursive reasoning model (HRM, TRM) on {task.puzzles}, score it, save it, solve one."
    given = given_words(types, argv, description, prog)
    if given.data_dir is not None:
        refuse_mistyped_path(given.data_dir)
        if Path(given.data_dir).is_file():  # it would be trained on and be the test too
            raise ArgumentError(f"--data-dir {given.data_dir} is a file; name the folder of train.h5 and test.h5")
    recipe = given.recipe
    if recipe is None:
        info = None if given.data_dir is None else PuzzleFile(puzzle_file_path(given.data_dir)).info
        recipe = task.default_recipe(given, info)
    defaults = {} if launched is None else {"compute_dtype": launched}
    over_recipe = {} if start is None else start.architecture() | defaults
    words = [*(f"--{name}={value}" for name, value in over_recipe.items() if value is not None), *argv]
    data_args, model_args, args = parse_arguments(types, recipe, words, description, prog, defaults)
    options = options_of(argv)
    for name in [name for name, value in over_recipe.items() if value is None and name not in options]:
        setattr(model_args, name, None)  # which no words say
    if start is not None:
        start.check(model_args)
        if data_args.lora_rank is not None:
            start.check_depth(model_args, args.depth_schedule)
    named = "the command line" if "compute_dtype" in options else f"the recipe {recipe}"
    model_args.compute_dtype = launched_dtype(model_args.compute_dtype, named) or model_args.compute_dtype
    data_args.recipe = recipe
    if data_args.data_dir is not None and (unused := options & vars(task()).keys() - ORIGIN):
        unheeded = ", ".join(f"--{name}" for name in sorted(unused))
        get_logger(__name__).warning(f"{unheeded} has no effect: with --data-dir no puzzles are generated")
    if args.epochs is None and args.max_steps is None:
        raise ArgumentError(f"neither --epochs nor --max-steps is given, and the recipe {recipe} sets none")
    return data_args, model_args, args


def settle_dtype(model_args: HrmModelArguments, accelerator: Accelerator, run_dir: Path | None) -> None:
    """Replaces compute_dtype "auto" by the dtype of the run; run_dir: of a run that resumes, or None."""
    if model_args.compute_dtype == "auto":
        any_sizes = {"vocab_size": 11, "seq_len": 81, "num_puzzle_identifiers": 1}
        config = replace(model_args, compute_dtype="float32").to_config(**any_sizes)
        model_args.compute_dtype = dtype_of_run("auto", config, accelerator, run_dir)
    elif launched_dtype() is not None:
        accelerator.print(f"compute_dtype {launched_dtype()}, which accelerate launch asks for")


def prepare_data(arguments: Arguments, accelerator: Accelerator, goes_on: bool) -> RunData:
    """Finds or generates the puzzles, once all arguments that need no data have been checked."""
    data_args, model_args, args = arguments
    run_dir = Path(args.output_dir)
    if args.push_to_hub is not None:
        on_main_process(accelerator, lambda: check_can_push(args.push_to_hub))
    args.local_batch_size(accelerator.num_processes)
    model_args.to_config(vocab_size=11, seq_len=81, num_puzzle_identifiers=1)
    if not goes_on:
        on_main_process(accelerator, lambda: check_run_dir(run_dir))
    folder = data_args.data_dir
    if folder is None:
        folder = str(run_dir / "data")
        on_main_process(accelerator, lambda: generate_data(data_args, Path(folder), args.seed, keep=goes_on))
        words, wanted = data_args.generated(), {n: v for n, v in vars(data_args).items() if n not in ORIGIN}
    else:
        words, wanted = f"{data_args.puzzles} of {Path(folder).name}/train.h5", {}
    train_file = PuzzleFile(puzzle_file_path(folder, "train"))
    info = train_file.info
    if info.task != data_args.task:
        raise ArgumentError(f"{train_file.path} holds the task {info.task!r}, this command trains {data_args.task!r}")
    test_file, scored = None, None
    # A local folder may have no test.h5: hrm-build arc writes none where there are no evaluation tasks.
    if not Path(folder).is_dir() or (Path(folder) / "test.h5").exists():
        test_file = PuzzleFile(puzzle_file_path(folder, "test"))
        check_same_identifiers(train_file, test_file)
        scored = data_args.scored_rows(test_file)
    words += f", up to {info.num_aug} augmentations each" if info.num_aug else ""
    return RunData(folder, train_file, test_file, scored, f"{info.num_groups} {words}", wanted)


def prepare_trainer(
    arguments: Arguments,
    data: RunData,
    accelerator: Accelerator,
    goes_on: bool,
    trainer_class: type[HrmTrainer],
    start: Start | None,
) -> HrmTrainer:
    """The trainer, ready for its first step or, with `goes_on`, for the one after the saved state."""
    data_args, model_args, args = arguments
    info = data.train.info
    place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    place |= {"augment": data_args.online_augmentation, "reveal_prob": data_args.reveal_prob}
    batches = training_batches(data.train.path, args.global_batch_size, seed=args.seed, **place)
    args.max_steps = args.max_steps or total_steps(args.epochs, info, args.global_batch_size)
    if args.max_steps < 1:
        raise ArgumentError(f"--epochs {args.epochs} gives no whole batch of {args.global_batch_size}: give more")
    if start is None:
        config = model_args.to_config(info.vocab_size, info.seq_len, info.num_puzzle_identifiers)
    else:
        config = start.config_for(model_args, data.train)
    names = data.train.identifier_names()
    identifiers = PuzzleIdentifiers(names) if any(names[1:]) else None
    processor = HrmProcessor(info.task, info.grid_shape, info.box_shape, identifiers)
    if data.test is not None:
        data.test.check_fits(config, processor.task)
    model = seeded_model(config, args.seed)
    if start is not None and start.model is not None:
        start.load_weights(model, data.train)
    if data_args.lora_rank is not None:
        model.name_or_path = start.name  # the adapter's file names what it belongs to
        add_lora(model, data_args.lora_rank, args.seed)
    run_folder = on_main_process(accelerator, lambda: RunFolder(args.output_dir, reopen=goes_on))
    drawn = {name: getattr(data_args, name) for name in ("online_augmentation", "reveal_prob")}
    facts = on_main_process(accelerator, lambda: data_facts(data) | drawn)
    if facts is not None and start is not None:
        facts |= {"init_from": start.name, "lora_rank": data_args.lora_rank}
    trainer = trainer_class(model, args, batches, accelerator, data.scored, processor, run_folder, data_facts=facts)
    resumes = trainer.go_on()  # what cannot go on is refused before anything is written
    started_from = None if start is None or start.model is None else start.name
    on_main_process(accelerator, lambda: keep_training_data(run_folder, data.train, resumes, started_from))
    return trainer


def keep_training_data(run_folder: RunFolder, file: PuzzleFile, resumes: bool, start: str | None) -> None:
    """Has every checkpoint of the run say which puzzles it was trained on: those of the file, and those of `start`,
    the checkpoint whose weights the run starts from. A run that resumes keeps what it said.
    """
    path = run_folder.path / TRAINING_DATA
    if not (resumes and path.exists()):
        write_records(run_folder.path, [describe_puzzles(file), *(trained_on(start) if start else [])])
    run_folder.with_exports = [path]


def train(trainer: HrmTrainer, data: RunData, arguments: Arguments) -> None:
    """Trains; describes and shows what came out."""
    accelerator, info = trainer.accelerator, data.train.info
    data_args, model_args, args = arguments
    origin = {name: getattr(data_args, name) for name in ORIGIN}
    settings = {**origin, **data.wanted, **asdict(model_args), **asdict(args)}
    settings |= {name: getattr(trainer.model.config, name) for name in ("H_cycles", "L_cycles")}  # a schedule's last
    hardware = f"{accelerator.num_processes} process(es), {machine_in_words()}"
    if trainer.run_folder is not None:
        facts = {"data_is_hub_id": is_hub_id(data.folder), "num_processes": accelerator.num_processes}
        trainer.run_folder.describe(arguments=settings, data=asdict(info), **facts)
    tested = "no test puzzles" if data.scored is None else f"{len(data.scored)} test puzzles"
    trained = f"{info.num_groups} training puzzles x {info.num_puzzles / info.num_groups:g} variants, {tested}"
    steps = f"{args.max_steps} steps of {args.global_batch_size} slots on {hardware}; run folder {args.output_dir}"
    accelerator.print(f"{trained}; {trainer.model.num_parameters():,} parameters; {steps}")
    scores = trainer.train()
    if data.scored is not None:
        on_main_process(accelerator, lambda: describe_checkpoint(trainer, data, scores, settings, hardware))


def describe_checkpoint(
    trainer: HrmTrainer, data: RunData, scores: dict[str, float], settings: dict[str, Any], hardware: str
) -> None:
    """Prints the scores, writes the model card, loads the checkpoint back and solves the first test puzzle with it."""
    args, info, number = trainer.args, data.train.info, len(data.scored)
    checkpoint = Path(args.output_dir) / "checkpoint-final"
    was_chosen = args.early_stopping_patience is not None and trainer.best.step is not None
    notes = ["which the step was chosen by, too"] if was_chosen else []
    scores = {name.removeprefix("eval/"): value for name, value in scores.items()}
    unseen, held_out = "unseen puzzles", "held-out puzzles"
    if seen := seen_in_words(trained_on(str(checkpoint)), data.test, data.scored.numbers):
        print(f"the model was trained on {seen}: {SAYS_LITTLE}")
        unseen = held_out = "puzzles"
        notes.append(f"the model was trained on {seen}")
    print(f"on {number} {unseen}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    row = {name: values[0] for name, values in data.scored[:1].items()}
    like = "" if info.box_shape else " \n "  # a Sudoku is written in one line, a maze in one line per row
    example = None if info.task == "arc" else trainer.processor.decode(row["input_ids"], like=like)
    recipe = {name: value for name, value in settings.items() if name not in NOT_OF_THE_RECIPE}
    base, is_on_hub = settings["init_from"], False
    if base is not None:  # of a folder, which may be gone by now, the end of its path: cards are published
        is_on_hub = is_hub_id(base) and not Path(base).parent.is_dir()
        recipe["init_from"] = base if is_on_hub else "/".join(Path(base).absolute().parts[-2:])
    in_brackets = f" ({'; '.join(notes)})" if notes else ""
    write_model_card(
        checkpoint,
        model_name=f"hrm-{info.task}-{info.grid_shape[0]}x{info.grid_shape[1]}",
        task=info.task,
        train_dataset=data.in_words,
        dataset=f"{number} {held_out} of {Path(data.folder).name}/test.h5{in_brackets}, all segments run",
        dataset_id=data.folder if is_hub_id(data.folder) else None,
        metrics=scores,
        recipe=recipe,
        base_model=base if is_on_hub else None,
        hardware=hardware,
        seed=args.seed,
        steps=trainer.final_step,
        location="path/to/this/folder",
        example=example,
    )
    solver = load_solver(str(checkpoint))
    puzzle = solver.processor.decode(row["input_ids"], like="?\n?")  # as text: numbers of a maze may have two meanings
    asked = {"puzzle": puzzle, "puzzle_identifier": int(row["puzzle_identifiers"])}
    result = solver(asked, compute_dtype=trainer.model.config.compute_dtype)
    name = f" {example}" if info.box_shape else ""
    question, answer = (solver.processor.draw(text) if text else "(empty)" for text in (puzzle, result["solution"]))
    print(f"\nThe checkpoint {checkpoint}, loaded back, solves{name}\n\n{question}\n")
    print(f"in {in_words(result)}\n\n{answer}")


def push_last_checkpoint(run_folder: RunFolder, args: HrmTrainingArguments) -> None:
    """Pushes what the run ended with. Raises CheckpointError with the command that repeats a push that failed."""
    try:
        push_checkpoint(run_folder.last_export, args.push_to_hub, private=args.hub_private)
    except (HrmError, OSError) as error:
        checkpoint = shlex.quote(str(Path(args.output_dir) / "checkpoint-final"))
        command = f"hrm-push checkpoint --checkpoint {checkpoint} --repo-id {args.push_to_hub}"
        command += " --private" if args.hub_private else ""
        raise CheckpointError(f"{error}; the checkpoint is trained: push it with {command}") from error
    print(f"pushed to {args.push_to_hub}")


def generate_data(data_args: DataArguments, folder: Path, seed: int, keep: bool) -> None:
    """Generates train.h5 and test.h5; with `keep` only if they are not there: each is written whole or not at all."""
    if not keep or not all((folder / name).exists() for name in ("train.h5", "test.h5")):
        mend_folders(folder)  # of what a run left that was killed while it made them
        data_args.generate(folder, seed)


def check_same_identifiers(train_file: PuzzleFile, test_file: PuzzleFile) -> None:
    """Raises DataError where a puzzle identifier means one puzzle in training and another in the test."""
    trained = train_file.identifier_names()
    for identifier, name in enumerate(test_file.identifier_names()):
        known = trained[identifier] if identifier < len(trained) else ""
        if name not in ("", known):
            relation = f"puzzle identifier {identifier} is {name!r}, in {train_file.path} it is {known!r}"
            raise DataError(f"{test_file.path}: {relation}: the files are not of one build")


def data_facts(data: RunData) -> dict[str, Any]:
    """What tells these puzzles from others where a run resumes: checksums, and what the generator was asked for."""
    facts = dict(data.wanted)
    for path, split in ((file.path, file.info.split) for file in (data.train, data.test) if file is not None):
        digest, piece = hashlib.sha256(), 10**6
        with path.open("rb") as file:
            for _ in progress(range(0, path.stat().st_size, piece), f"checksum of {path.name}", unit="MB"):
                digest.update(file.read(piece))
        facts[f"{split}.h5"] = digest.hexdigest()
    return facts
