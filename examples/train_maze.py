"""Train a Hierarchical Reasoning Model to find shortest paths in mazes, score it on unseen ones, save it, solve one.

    accelerate launch examples/train_maze.py                      6x6 mazes made here, minutes on a CPU
    accelerate launch examples/train_maze.py --data-dir DIR --recipe examples/recipes/maze_hard_1k.yaml

DIR holds the files of convert/build_maze.py. A recipe is a YAML file of arguments; what stands on the command line
wins. --help lists all arguments.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import pipeline

from hrm_hf.commands.training_run import DataArguments, TrainingTask, run_as_command, run_training
from hrm_hf.data import PuzzleSetInfo
from hrm_hf.data.build.maze_builder import build_maze, generate_rows
from hrm_hf.hrm.maze import decode, draw, to_text
from hrm_hf.training import HrmTrainer

RECIPES = Path(__file__).parent / "recipes"


@dataclass
class MazeArguments(DataArguments):
    """Which mazes to train on: built files, or mazes made here by the seeded generator."""

    height: int = field(default=6, metadata={"help": "Rows of the generated mazes."})
    width: int = field(default=6, metadata={"help": "Columns of the generated mazes."})
    num_train: int = field(default=20_000, metadata={"help": "Generated mazes to train on."})
    num_test: int = field(default=500, metadata={"help": "Generated mazes to test on; none equals a training one."})
    min_steps: int = field(
        default=12, metadata={"help": "Steps of the shortest path from start to goal at the least."}
    )
    min_wall_share: float = field(default=0.4, metadata={"help": "Share of cells that are walls at the least."})
    max_wall_share: float = field(
        default=0.5, metadata={"help": "At the most. The more walls, the fewer ways: shortest paths become unique."}
    )


def generate_data(data_args: MazeArguments, data_dir: Path, seed: int) -> None:
    """Makes mazes and writes train.h5 and test.h5; no test maze equals a training maze under the 8 symmetries."""
    grid_shape = (data_args.height, data_args.width)
    train, test = generate_rows(
        data_args.num_train,
        data_args.num_test,
        grid_shape,
        data_args.min_steps,
        data_args.min_wall_share,
        seed,
        data_args.max_wall_share,
    )
    build_maze(data_dir, train, test, seed=seed, overwrite=True)


def data_in_words(data_args: MazeArguments, info: PuzzleSetInfo) -> str:
    """The training data for the model card."""
    if data_args.data_dir is not None:
        return f"{info.num_groups} mazes of {Path(data_args.data_dir).name}/train.h5"
    return (
        f"{info.num_groups} generated {data_args.height}x{data_args.width} mazes, walls "
        f"{data_args.min_wall_share:.0%} to {data_args.max_wall_share:.0%}, "
        f"shortest path at least {data_args.min_steps} steps"
    )


def first_maze(test_set: Dataset, info: PuzzleSetInfo) -> np.ndarray:
    """The grid of the first test maze."""
    return decode(np.asarray(test_set[0]["input_ids"])).reshape(info.grid_shape)


def show_one(checkpoint: Path, test_set: Dataset, info: PuzzleSetInfo) -> None:
    """Loads the checkpoint back through the pipeline and solves a maze with it."""
    maze = first_maze(test_set, info)
    result = pipeline("puzzle-solving", model=str(checkpoint))(maze)
    print(f"\nThe checkpoint {checkpoint}, loaded back, solves\n\n{draw(maze)}\n")
    print(f"in {result['segments']} segment(s), confidence {result['confidence']:.3f}, valid: {result['valid']}\n")
    print(draw(result["solution"]))


TASK = TrainingTask(
    name="maze",
    arguments=MazeArguments,
    description="Train a Hierarchical Reasoning Model on mazes, score it on unseen ones, save it, solve one.",
    recipe_for=lambda data_args, info: RECIPES / "maze_6x6.yaml",
    generate=generate_data,
    data_in_words=data_in_words,
    puzzle_in_words=lambda test_set, info: to_text(first_maze(test_set, info)),
    show=show_one,
)


def main(argv: list[str] | None = None, trainer_class: type[HrmTrainer] = HrmTrainer) -> None:
    """The whole run, see `run_training`."""
    run_training(TASK, argv, trainer_class)


if __name__ == "__main__":
    run_as_command(main)
