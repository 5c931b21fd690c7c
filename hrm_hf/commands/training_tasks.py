"""Train a Hierarchical Reasoning Model on Sudoku, evaluate it on unseen puzzles, save it, and solve one with it.

    accelerate launch examples/train_sudoku.py                    4x4 puzzles made here, minutes on a CPU
    accelerate launch examples/train_sudoku.py --size 6           the same for 6x6 (or 9)
    accelerate launch examples/train_sudoku.py --data-dir DIR     files of convert/build_sudoku.py
    accelerate launch examples/train_sudoku.py --data-dir DIR --recipe examples/recipes/sudoku_extreme_1k.yaml

A recipe is a YAML file of arguments; what stands on the command line wins. Without --recipe the small one for the size
of the puzzles is taken. --help lists all arguments.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import pipeline

from hrm_hf.commands.training_run import DataArguments, TrainingTask, run_as_command, run_training
from hrm_hf.data import PuzzleSetInfo
from hrm_hf.data.build.sudoku_builder import build_sudoku, generate_rows
from hrm_hf.hrm.sudoku import BOX_SHAPE_OF_SIZE, decode, draw, to_string
from hrm_hf.training import HrmTrainer

RECIPES = Path(__file__).parent / "recipes"


@dataclass
class SudokuArguments(DataArguments):
    """Which puzzles to train on: built files, or puzzles made here by the seeded generator."""

    size: int = field(default=4, metadata={"help": "Size of the generated puzzles.", "choices": [4, 6, 9]})
    num_train: int = field(default=1000, metadata={"help": "Generated puzzles to train on."})
    num_test: int = field(default=500, metadata={"help": "Generated puzzles to test on; none equals a training one."})
    max_givens: int | None = field(default=None, metadata={"help": "Givens of a generated puzzle at the most."})
    num_aug: int = field(default=1000, metadata={"help": "Augmented variants of each generated training puzzle."})


def recipe_for(data_args: SudokuArguments, info: PuzzleSetInfo | None) -> Path:
    """The small recipe for the size of the puzzles."""
    size = data_args.size if info is None else info.grid_shape[0]
    return RECIPES / f"sudoku_{size}x{size}.yaml"


def generate_data(data_args: SudokuArguments, data_dir: Path, seed: int) -> None:
    """Makes puzzles and writes train.h5 and test.h5; no test puzzle equals a training puzzle under a symmetry."""
    box_shape = BOX_SHAPE_OF_SIZE[data_args.size]
    train, test = generate_rows(data_args.num_train, data_args.num_test, box_shape, data_args.max_givens, seed)
    build_sudoku(data_dir, train, test, num_aug=data_args.num_aug, seed=seed, overwrite=True)


def data_in_words(data_args: SudokuArguments, info: PuzzleSetInfo) -> str:
    """The training data for the model card."""
    if data_args.data_dir is not None:
        name = Path(data_args.data_dir).name
        return f"{info.num_groups} Sudokus of {name}/train.h5, {info.num_aug} augmentations each"
    limit = "" if data_args.max_givens is None else f" with at most {data_args.max_givens} givens"
    size = data_args.size
    return f"{info.num_groups} generated {size}x{size} Sudokus{limit}, {info.num_aug} augmentations each"


def first_puzzle(test_set: Dataset, info: PuzzleSetInfo) -> np.ndarray:
    """The grid of the first test puzzle."""
    return decode(np.asarray(test_set[0]["input_ids"])).reshape(info.grid_shape)


def show_one(checkpoint: Path, test_set: Dataset, info: PuzzleSetInfo) -> None:
    """Loads the checkpoint back through the pipeline and solves a puzzle with it."""
    puzzle = first_puzzle(test_set, info)
    result = pipeline("puzzle-solving", model=str(checkpoint))(puzzle)
    print(
        f"\nThe checkpoint {checkpoint}, loaded back, solves {to_string(puzzle)}\n\n{draw(puzzle, info.box_shape)}\n"
    )
    print(f"in {result['segments']} segment(s), confidence {result['confidence']:.3f}, valid: {result['valid']}\n")
    print(draw(result["solution"], info.box_shape))


TASK = TrainingTask(
    name="sudoku",
    arguments=SudokuArguments,
    description="Train a Hierarchical Reasoning Model on Sudoku, score it on unseen puzzles, save it, solve one.",
    recipe_for=recipe_for,
    generate=generate_data,
    data_in_words=data_in_words,
    puzzle_in_words=lambda test_set, info: to_string(first_puzzle(test_set, info)),
    show=show_one,
)


def main(argv: list[str] | None = None, trainer_class: type[HrmTrainer] = HrmTrainer) -> None:
    """The whole run, see `run_training`."""
    run_training(TASK, argv, trainer_class)


if __name__ == "__main__":
    run_as_command(main)
