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
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from transformers import pipeline

from hrm_hf import HrmError, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.data import PuzzleFile, load_puzzles, total_steps, training_batches
from hrm_hf.data.sudoku_builder import build_sudoku, generate_rows
from hrm_hf.model_card import write_model_card
from hrm_hf.sudoku import decode, draw, to_string
from hrm_hf.training import (
    HrmModelArguments,
    HrmTrainer,
    HrmTrainingArguments,
    RunFolder,
    machine_in_words,
    make_accelerator,
    new_run_dir,
    parse_arguments,
    pop_recipe,
    share_cpu_cores,
)

RECIPES = Path(__file__).parent / "recipes"
BOX_SHAPES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
BLANK_TOKEN = "."


@dataclass
class SudokuArguments:
    """Which puzzles to train on: built files, or puzzles made here by the seeded generator."""

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
    run_dir = Path(run_dir[0])
    run_folder = RunFolder(run_dir) if accelerator.is_main_process else None
    if data_args.data_dir is not None:
        data_dir = Path(data_args.data_dir)
    else:
        data_dir = generated_data(run_dir, data_args, args, accelerator)

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
    if args.max_steps is None:
        args.max_steps = total_steps(args.epochs, info, args.global_batch_size)
    config = model_args.to_config(info.vocab_size, info.seq_len, info.num_puzzle_identifiers)
    PuzzleFile(data_dir / "test.h5").check_fits(config, processor.task)
    set_seed(args.seed)  # Hugging Face models initialise from the global generators; nothing else here does
    model = HrmForPuzzleSolving(config)

    if run_folder is not None:
        recipe = {**asdict(model_args), **asdict(args), **asdict(data_args)}
        run_folder.describe(arguments=recipe, data=asdict(info), num_processes=accelerator.num_processes)
    accelerator.print(
        f"{info.num_groups} training puzzles x {1 + info.num_aug} variants, {len(test_set)} test puzzles; "
        f"{model.num_parameters():,} parameters; {args.max_steps} steps of {args.global_batch_size} slots on "
        f"{accelerator.num_processes} process(es), {machine_in_words()}; run folder {run_dir}"
    )
    trainer = trainer_class(
        model, args, batches, accelerator, test_set, processor, info.vocabulary.index(BLANK_TOKEN), run_folder
    )
    scores = trainer.train()
    if run_folder is not None:
        checkpoint = run_dir / "checkpoint-final"
        print(
            f"on {len(test_set)} unseen puzzles: "
            + ", ".join(f"{name.removeprefix('eval/')} {value:.4f}" for name, value in scores.items())
        )
        write_model_card(
            checkpoint,
            model_name=f"hrm-sudoku-{info.grid_shape[0]}x{info.grid_shape[1]}",
            task=info.task,
            train_dataset=data_in_words(data_args, info.num_groups, info.num_aug),
            dataset=f"{len(test_set)} held-out Sudokus of {data_dir.name}/test.h5, all segments run",
            metrics={name.removeprefix("eval/"): value for name, value in scores.items()},
            recipe={**asdict(model_args), **asdict(args)},
            hardware=f"{accelerator.num_processes} process(es), {machine_in_words()}",
            seed=args.seed,
            steps=args.max_steps,
            location=str(checkpoint),
            example=to_string(decode(np.asarray(test_set[0]["input_ids"])).reshape(info.grid_shape)),
        )
        show_one(checkpoint, test_set, info.box_shape)
    accelerator.wait_for_everyone()


def read_arguments(argv: list[str]) -> tuple[SudokuArguments, HrmModelArguments, HrmTrainingArguments]:
    """Arguments from the recipe and the command line; the recipe for the size of the puzzles if none is named."""
    types = (SudokuArguments, HrmModelArguments, HrmTrainingArguments)
    recipe, rest = pop_recipe(argv)
    if recipe is None:
        given, *_ = parse_arguments(types, None, rest)
        size = given.size
        if given.data_dir is not None:
            size = PuzzleFile(Path(given.data_dir) / "train.h5").info.grid_shape[0]
        recipe = RECIPES / f"sudoku_{size}x{size}.yaml"
    return parse_arguments(types, recipe, rest)


def generated_data(
    run_dir: Path, data_args: SudokuArguments, args: HrmTrainingArguments, accelerator: Accelerator
) -> Path:
    """Makes puzzles on the main process and writes them to run_dir/data; no test puzzle equals a training puzzle."""
    if accelerator.is_main_process:
        train, test = generate_rows(
            data_args.num_train, data_args.num_test, BOX_SHAPES[data_args.size], data_args.max_givens, args.seed
        )
        build_sudoku(run_dir / "data", train, test, num_aug=data_args.num_aug, seed=args.seed)
    accelerator.wait_for_everyone()
    return run_dir / "data"


def data_in_words(data_args: SudokuArguments, num_groups: int, num_aug: int) -> str:
    """The training data for the model card."""
    if data_args.data_dir is not None:
        return f"{num_groups} Sudokus of {Path(data_args.data_dir).name}/train.h5, {num_aug} augmentations each"
    limit = "" if data_args.max_givens is None else f" with at most {data_args.max_givens} givens"
    size = data_args.size
    return f"{num_groups} generated {size}x{size} Sudokus{limit}, {num_aug} augmentations each"


def show_one(checkpoint: Path, test_set, box_shape: tuple[int, int]) -> None:
    """Loads the checkpoint back and solves the first test puzzle with it."""
    solver = pipeline("puzzle-solving", model=str(checkpoint))
    puzzle = decode(np.asarray(test_set[0]["input_ids"])).reshape(box_shape[0] * box_shape[1], -1)
    result = solver(puzzle)
    print(f"\nThe checkpoint {checkpoint}, loaded back, solves\n\n{draw(puzzle, box_shape)}\n")
    print(f"in {result['segments']} segment(s), confidence {result['confidence']:.3f}, valid: {result['valid']}\n")
    print(draw(result["solution"], box_shape))


if __name__ == "__main__":
    try:
        main()
    except HrmError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
