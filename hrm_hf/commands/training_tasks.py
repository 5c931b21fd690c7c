"""What is particular to training on each game: its generator, its default recipe, its names."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from datasets import Dataset

from ..data import PuzzleSetInfo
from ..data.build.maze_builder import build_maze
from ..data.build.maze_builder import generate_rows as generate_mazes
from ..data.build.sudoku_builder import build_sudoku
from ..data.build.sudoku_builder import generate_rows as generate_sudokus
from ..hrm.errors import ArgumentError
from ..hrm.sudoku_units import BOX_SHAPE_OF_SIZE


@dataclass
class DataArguments:
    """Which data to train on. Each game derives from it, adds what its generator needs and overrides the methods.

    Attributes:
        task: name of the game, as in `HrmProcessor(task=...)`.
        puzzles: what the model card calls the puzzles.
        usage: examples for --help.
    """

    task: ClassVar[str]
    puzzles: ClassVar[str]
    usage: ClassVar[str]

    recipe: str | None = field(
        default=None,
        metadata={"help": "Arguments from a recipe: its name, or the path of a YAML file. Default: a small one."},
    )
    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with train.h5 and test.h5, as hrm-build writes them, or a data set on the Hub "
            "(owner/name) that holds them."
        },
    )

    def default_recipe(self, info: PuzzleSetInfo | None) -> str:
        """The recipe if none is named; info: facts of train.h5, None if the puzzles are to be generated."""
        raise NotImplementedError

    def generate(self, folder: Path, seed: int) -> None:
        """Writes train.h5 and test.h5 into the folder.

        Raises:
            ArgumentError: an argument that is not allowed, or the game has no generator.
        """
        raise ArgumentError(
            f"--data-dir is missing: a folder with train.h5 and test.h5, made by hrm-build {self.task}"
        )

    def generated(self) -> str:
        """What the generated puzzles are, in words."""
        raise NotImplementedError

    def scored_rows(self, test_set: Dataset) -> Dataset:
        """The rows of the test set that training scores."""
        return test_set


@dataclass
class SudokuArguments(DataArguments):
    """Files of Sudokus, or Sudokus of the seeded generator."""

    task = "sudoku"
    puzzles = "Sudokus"
    usage = """
    hrm-train sudoku                       4x4 puzzles made here, minutes on a CPU
    hrm-train sudoku --size 6              the same for 6x6 (or 9)
    hrm-train sudoku --data-dir DIR        files of hrm-build sudoku
    hrm-train sudoku --data-dir DIR --recipe sudoku_extreme_1k"""

    size: int = field(default=4, metadata={"help": "Size of the generated puzzles.", "choices": [4, 6, 9]})
    num_train: int = field(default=1000, metadata={"help": "Generated puzzles to train on."})
    num_test: int = field(
        default=500, metadata={"help": "Generated puzzles to test on; none equals a training puzzle under a symmetry."}
    )
    max_givens: int | None = field(default=None, metadata={"help": "At most this many givens per generated puzzle."})
    num_aug: int = field(default=1000, metadata={"help": "Augmented variants of each generated training puzzle."})

    def default_recipe(self, info: PuzzleSetInfo | None) -> str:
        size = self.size if info is None else info.grid_shape[0]
        return f"sudoku_{size}x{size}"

    def generate(self, folder: Path, seed: int) -> None:
        box_shape = BOX_SHAPE_OF_SIZE[self.size]
        train, test = generate_sudokus(self.num_train, self.num_test, box_shape, self.max_givens, seed)
        build_sudoku(folder, train, test, num_aug=self.num_aug, seed=seed, overwrite=True)

    def generated(self) -> str:
        limit = "" if self.max_givens is None else f" with at most {self.max_givens} givens"
        return f"generated {self.size}x{self.size} Sudokus{limit}"


@dataclass
class MazeArguments(DataArguments):
    """Files of mazes, or mazes of the seeded generator."""

    task = "maze"
    puzzles = "mazes"
    usage = """
    hrm-train maze                         6x6 mazes made here, minutes on a CPU
    hrm-train maze --data-dir DIR --recipe maze_hard_1k"""

    height: int = field(default=6, metadata={"help": "Rows of the generated mazes."})
    width: int = field(default=6, metadata={"help": "Columns of the generated mazes."})
    num_train: int = field(default=20_000, metadata={"help": "Generated mazes to train on."})
    num_test: int = field(
        default=500, metadata={"help": "Generated mazes to test on; none equals a training maze under a symmetry."}
    )
    min_steps: int = field(default=12, metadata={"help": "At least this many steps from start to goal."})
    min_wall_share: float = field(default=0.4, metadata={"help": "At least this share of the cells are walls."})
    max_wall_share: float = field(
        default=0.5,
        metadata={"help": "At most this share. More walls leave fewer ways, so that shortest paths become unique."},
    )

    def default_recipe(self, info: PuzzleSetInfo | None) -> str:
        return "maze_6x6"

    def generate(self, folder: Path, seed: int) -> None:
        shape, walls = (self.height, self.width), (self.min_wall_share, self.max_wall_share)
        train, test = generate_mazes(
            self.num_train, self.num_test, shape, self.min_steps, walls[0], seed, max_wall_share=walls[1]
        )
        build_maze(folder, train, test, seed=seed, overwrite=True)

    def generated(self) -> str:
        return (
            f"generated {self.height}x{self.width} mazes, walls {self.min_wall_share:.0%} to "
            f"{self.max_wall_share:.0%}, shortest path at least {self.min_steps} steps"
        )


@dataclass
class ArcArguments(DataArguments):
    """Files of ARC tasks."""

    task = "arc"
    puzzles = "ARC tasks"
    usage = """
    hrm-build arc --output-dir data/arc-1 ARC-AGI ConceptARC --num-aug 1000
    hrm-train arc --data-dir data/arc-1 --recipe arc_1

Training sees the demonstration pairs of all tasks, those of the evaluation tasks included. It scores the test pairs
without augmentation; hrm-evaluate lets all augmentations vote (pass@k)."""

    def default_recipe(self, info: PuzzleSetInfo | None) -> str:
        return "arc_1"

    def scored_rows(self, test_set: Dataset) -> Dataset:
        return test_set.select(np.flatnonzero(np.asarray(test_set.data["variant"]) == 0))


TASKS: dict[str, type[DataArguments]] = {kind.task: kind for kind in (SudokuArguments, MazeArguments, ArcArguments)}
