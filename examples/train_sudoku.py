"""Train a Hierarchical Reasoning Model on Sudoku, evaluate it on unseen puzzles, save it, and solve one with it.

    accelerate launch examples/train_sudoku.py                    4x4 puzzles made here, minutes on a CPU
    accelerate launch examples/train_sudoku.py --size 6           the same for 6x6 (or 9)
    accelerate launch examples/train_sudoku.py --data-dir DIR     files of convert/build_sudoku.py
    accelerate launch examples/train_sudoku.py --data-dir DIR --recipe examples/recipes/sudoku_extreme_1k.yaml

A recipe is a YAML file of arguments; what stands on the command line wins. Without --recipe the small one for the size
of the puzzles is taken. --help lists all arguments.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import pipeline

from hrm_hf import ArgumentError, HrmError, HrmProcessor
from hrm_hf.data import PuzzleFile, load_puzzles, total_steps, training_batches
from hrm_hf.data.sudoku_builder import build_sudoku, generate_rows
from hrm_hf.model_card import write_model_card
from hrm_hf.sudoku import BLANK_ID, decode, draw, to_string
from hrm_hf.sudoku_units import BOX_SHAPE_OF_SIZE
from hrm_hf.training import (
    HrmModelArguments,
    HrmTrainer,
    HrmTrainingArguments,
    RunFolder,
    machine_in_words,
    make_accelerator,
    new_run_dir,
    parse_arguments,
    seeded_model,
    share_cpu_cores,
)

RECIPES = Path(__file__).parent / "recipes"
# where it ran, and what has no influence on the weights
NOT_OF_THE_RECIPE = ("recipe", "data_dir", "output_dir", "report_to", "cpu_threads", "seed", "max_steps")


@dataclass
class SudokuArguments:
    """Which puzzles to train on: built files, or puzzles made here by the seeded generator."""

    recipe: str | None = field(
        default=None, metadata={"help": "YAML file of arguments. Default: the one here for the size of the puzzles."}
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with train.h5 and test.h5 of convert/build_sudoku.py."}
    )
    size: int = field(default=4, metadata={"help": "Size of the generated puzzles.", "choices": [4, 6, 9]})
    num_train: int = field(default=1000, metadata={"help": "Generated puzzles to train on."})
    num_test: int = field(default=500, metadata={"help": "Generated puzzles to test on; none equals a training one."})
    max_givens: int | None = field(default=None, metadata={"help": "Givens of a generated puzzle at the most."})
    num_aug: int = field(default=1000, metadata={"help": "Augmented variants of each generated training puzzle."})


def main(argv: list[str] | None = None, trainer_class: type[HrmTrainer] = HrmTrainer) -> None:
    """The whole run. `trainer_class` is there for whoever wants to watch the steps."""
    data_args, model_args, args = read_arguments(sys.argv[1:] if argv is None else argv)
    run_dir = [args.output_dir or str(new_run_dir("runs", "sudoku"))]
    accelerator = make_accelerator(args, run_dir[0])
    share_cpu_cores(accelerator, args.cpu_threads)
    broadcast_object_list(run_dir)  # the time of day in its name may differ between processes
    args.output_dir = run_dir[0]
    run_dir = Path(args.output_dir)

    # what can be wrong is found before anything is made
    args.local_batch_size(accelerator.num_processes)
    model_args.to_config(vocab_size=11, seq_len=81, num_puzzle_identifiers=1)
    run_folder = on_main_process(accelerator, lambda: RunFolder(run_dir))
    if data_args.data_dir is not None:
        data_dir = Path(data_args.data_dir)
    else:
        data_dir = run_dir / "data"
        on_main_process(accelerator, lambda: generate_data(data_dir, data_args, args.seed))

    batches = training_batches(
        data_dir / "train.h5",
        args.global_batch_size,
        seed=args.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    test_set = load_puzzles(data_dir / "test.h5")
    info = batches.puzzle_info
    processor = HrmProcessor(task=info.task, grid_shape=info.grid_shape, box_shape=info.box_shape)
    args.max_steps = args.max_steps or total_steps(args.epochs, info, args.global_batch_size)
    if args.max_steps < 1:
        raise ArgumentError(f"epochs {args.epochs} make no whole batch of {args.global_batch_size}: give more")
    config = model_args.to_config(info.vocab_size, info.seq_len, info.num_puzzle_identifiers)
    PuzzleFile(data_dir / "test.h5").check_fits(config, processor.task)
    model = seeded_model(config, args.seed)
    trainer = trainer_class(model, args, batches, accelerator, test_set, processor, BLANK_ID, run_folder)

    if run_folder is not None:
        settings = {**asdict(data_args), **asdict(model_args), **asdict(args)}
        run_folder.describe(arguments=settings, data=asdict(info), num_processes=accelerator.num_processes)
    accelerator.print(
        f"{info.num_groups} training puzzles x {1 + info.num_aug} variants, {len(test_set)} test puzzles; "
        f"{model.num_parameters():,} parameters; {args.max_steps} steps of {args.global_batch_size} slots on "
        f"{accelerator.num_processes} process(es), {machine_in_words()}; run folder {run_dir}"
    )
    scores = trainer.train()
    if run_folder is not None:
        checkpoint = run_dir / "checkpoint-final"
        scores = {name.removeprefix("eval/"): value for name, value in scores.items()}
        print(
            f"on {len(test_set)} unseen puzzles: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        )
        write_model_card(
            checkpoint,
            model_name=f"hrm-sudoku-{info.grid_shape[0]}x{info.grid_shape[1]}",
            task=info.task,
            train_dataset=data_in_words(data_args, info.num_groups, info.num_aug),
            dataset=f"{len(test_set)} held-out Sudokus of {data_dir.name}/test.h5, all segments run",
            metrics=scores,
            recipe={name: value for name, value in settings.items() if name not in NOT_OF_THE_RECIPE},
            hardware=f"{accelerator.num_processes} process(es), {machine_in_words()}",
            seed=args.seed,
            steps=args.max_steps,
            example=to_string(first_puzzle(test_set, info.grid_shape)),
        )
        show_one(checkpoint, first_puzzle(test_set, info.grid_shape), info.box_shape)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def read_arguments(argv: list[str]) -> tuple[SudokuArguments, HrmModelArguments, HrmTrainingArguments]:
    """Arguments from the recipe and the command line; the recipe for the size of the puzzles if none is named."""
    types = (SudokuArguments, HrmModelArguments, HrmTrainingArguments)
    given, *_ = parse_arguments(types, None, argv)
    if given.recipe is None:
        size = given.size
        if given.data_dir is not None:
            size = PuzzleFile(Path(given.data_dir) / "train.h5").info.grid_shape[0]
        given.recipe = str(RECIPES / f"sudoku_{size}x{size}.yaml")
    data_args, model_args, args = parse_arguments(types, given.recipe, argv)
    data_args.recipe = given.recipe
    if args.epochs is None and args.max_steps is None:
        raise ArgumentError(f"neither --epochs nor --max_steps is given, and {given.recipe} names none")
    return data_args, model_args, args


def on_main_process(accelerator: Accelerator, action: Callable[[], Any]) -> Any:
    """The action's result on the main process, None on the others; where it fails, all fail, so that none waits."""
    result, failure = None, [None]
    if accelerator.is_main_process:
        try:
            result = action()
        except HrmError as error:
            failure = [error]
    broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0]
    return result


def generate_data(data_dir: Path, data_args: SudokuArguments, seed: int) -> None:
    """Makes puzzles and writes train.h5 and test.h5; no test puzzle equals a training puzzle."""
    box_shape = BOX_SHAPE_OF_SIZE[data_args.size]
    train, test = generate_rows(data_args.num_train, data_args.num_test, box_shape, data_args.max_givens, seed)
    build_sudoku(data_dir, train, test, num_aug=data_args.num_aug, seed=seed, overwrite=True)


def data_in_words(data_args: SudokuArguments, num_groups: int, num_aug: int) -> str:
    """The training data for the model card."""
    if data_args.data_dir is not None:
        return f"{num_groups} Sudokus of {Path(data_args.data_dir).name}/train.h5, {num_aug} augmentations each"
    limit = "" if data_args.max_givens is None else f" with at most {data_args.max_givens} givens"
    size = data_args.size
    return f"{num_groups} generated {size}x{size} Sudokus{limit}, {num_aug} augmentations each"


def first_puzzle(test_set: Dataset, grid_shape: tuple[int, int]) -> np.ndarray:
    """The grid of the first test puzzle."""
    return decode(np.asarray(test_set[0]["input_ids"])).reshape(grid_shape)


def show_one(checkpoint: Path, puzzle: np.ndarray, box_shape: tuple[int, int]) -> None:
    """Loads the checkpoint back through the pipeline and solves a puzzle with it."""
    result = pipeline("puzzle-solving", model=str(checkpoint))(puzzle)
    print(f"\nThe checkpoint {checkpoint}, loaded back, solves {to_string(puzzle)}\n\n{draw(puzzle, box_shape)}\n")
    print(f"in {result['segments']} segment(s), confidence {result['confidence']:.3f}, valid: {result['valid']}\n")
    print(draw(result["solution"], box_shape))


if __name__ == "__main__":
    try:
        main()
    except (HrmError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
