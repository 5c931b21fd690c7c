"""What is particular to training on each game: its generator, its default recipe, its names."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from transformers.hf_argparser import HfArg

from ..data import FileRows, PuzzleFile, PuzzleSetInfo
from ..data.augmentation import check_reveal
from ..data.build import maze_builder, sudoku_builder
from ..hrm.errors import ArgumentError
from .build_options import box_shape_of


@dataclass
class DataArguments:
    """What a run starts from: recipe, data, weights. Each game adds what its generator needs and its methods."""

    task: ClassVar[str]  # name of the game, as in `HrmProcessor(task=...)`
    puzzles: ClassVar[str]  # what the model card calls them

    recipe: str | None = HfArg(default=None, help="Name of a recipe, or path of a YAML file; unset: a small recipe.")
    data_dir: str | None = HfArg(default=None, help="Folder with train.h5 and test.h5, or a Hub data set owner/name.")
    init_from: str | None = HfArg(
        default=None,
        help="Checkpoint whose weights the run starts from: a folder, or owner/name on the Hub. Its architecture wins "
        "over the recipe's; optimiser, schedule and all else are new.",
    )
    lora_rank: int | None = HfArg(
        default=None, help="Train a LoRA adapter of this rank on the weights of init_from, and nothing else."
    )
    online_augmentation: bool = HfArg(
        default=False, help="Every visit of a puzzle draws another of its symmetries: the file needs originals only."
    )
    reveal_prob: float = HfArg(
        default=0.0, help="How often a visit fills a share of the blanks, drawn uniformly, from the answer."
    )

    def __post_init__(self):
        if self.reveal_prob:
            check_reveal(self.task, self.reveal_prob)
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ArgumentError(f"lora_rank is {self.lora_rank}; it must be at least 1")
        if self.lora_rank is not None and self.init_from is None:
            raise ArgumentError("lora_rank is set, but not init_from: name the checkpoint that the adapter adapts")

    @staticmethod
    def default_recipe(given: Namespace, info: PuzzleSetInfo | None) -> str:
        """The recipe if none is named; info: facts of train.h5, None if the puzzles are to be generated as `given`."""
        raise NotImplementedError

    def generate(self, folder: Path, seed: int) -> None:
        """Writes train.h5 and test.h5 into the folder. Raises ArgumentError if the game has no generator."""
        raise ArgumentError(f"--data-dir is missing: a folder with train.h5 and test.h5, see hrm-build {self.task}")

    def generated(self) -> str:
        """What the generated puzzles are, in words."""
        raise NotImplementedError

    def scored_rows(self, file: PuzzleFile) -> FileRows | None:
        """The rows of the test file that training scores; None: it has none with an answer."""
        return FileRows(file)


@dataclass
class SudokuArguments(DataArguments):
    """Files of Sudokus, or Sudokus of the seeded generator."""

    task, puzzles = "sudoku", "Sudokus"

    size: int = HfArg(default=6, help="Size of the generated puzzles.")
    box_shape: str | None = HfArg(
        default=None, help="Rows x columns of their boxes, such as 3x2; 1x4 leaves rows and columns alone as rules."
    )
    num_train: int = HfArg(default=1000, help="Generated puzzles to train on.")
    num_test: int = HfArg(default=500, help="Generated puzzles to test on, none equal to a training puzzle.")
    max_givens: int | None = HfArg(default=None, help="At most this many givens per generated puzzle.")
    num_aug: int | None = HfArg(
        default=None, help="Augmented variants of each; unset: 1,000, with online_augmentation none."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.online_augmentation and self.num_aug and self.data_dir is None:
            raise ArgumentError(
                f"num_aug is {self.num_aug}, but online_augmentation is True: set it to false, or num_aug to 0"
            )
        if self.num_aug is None:
            self.num_aug = 0 if self.online_augmentation else 1000

    @staticmethod
    def default_recipe(given: Namespace, info: PuzzleSetInfo | None) -> str:
        size = given.size if info is None else info.grid_shape[0]
        size = max(known for known in (4, 6, 9) if known <= max(size, 4))  # larger puzzles as 9x9
        return f"sudoku_{size}x{size}"

    def generate(self, folder: Path, seed: int) -> None:
        shape = box_shape_of(self.size, self.box_shape)
        rows = sudoku_builder.generate_rows(self.num_train, self.num_test, shape, self.max_givens, seed)
        sudoku_builder.build_sudoku(folder, *rows, num_aug=self.num_aug, seed=seed, overwrite=True)

    def generated(self) -> str:
        limit = "" if self.max_givens is None else f" with at most {self.max_givens} givens"
        boxes = "" if self.box_shape is None else f" with boxes of {self.box_shape}"
        return f"generated {self.size}x{self.size} Sudokus{boxes}{limit}"


@dataclass
class MazeArguments(DataArguments):
    """Files of mazes, or mazes of the seeded generator."""

    task, puzzles = "maze", "mazes"

    height: int = HfArg(default=6, help="Rows of the generated mazes.")
    width: int = HfArg(default=6, help="Columns of the generated mazes.")
    num_train: int = HfArg(default=20_000, help="Generated mazes to train on.")
    num_test: int = HfArg(default=500, help="Generated mazes to test on, none equal to a training maze.")
    min_steps: int = HfArg(default=12, help="At least this many steps from start to goal.")
    min_wall_share: float = HfArg(default=0.4, help="At least this share of the cells are walls.")
    max_wall_share: float = HfArg(default=0.5, help="At most this share: more walls, fewer shortest paths.")

    @staticmethod
    def default_recipe(given: Namespace, info: PuzzleSetInfo | None) -> str:
        return "maze_6x6"

    def generate(self, folder: Path, seed: int) -> None:
        wanted = (self.num_train, self.num_test, (self.height, self.width), self.min_steps, self.min_wall_share)
        rows = maze_builder.generate_rows(*wanted, seed, self.max_wall_share)
        maze_builder.build_maze(folder, *rows, seed=seed, overwrite=True)

    def generated(self) -> str:
        walls = f"walls {self.min_wall_share:.0%} to {self.max_wall_share:.0%}"
        return f"generated {self.height}x{self.width} mazes, {walls}, shortest path at least {self.min_steps} steps"


@dataclass
class ArcArguments(DataArguments):
    """Files of ARC tasks; training sees the demonstration pairs of all tasks, of the evaluation tasks too."""

    task, puzzles = "arc", "ARC tasks"

    @staticmethod
    def default_recipe(given: Namespace, info: PuzzleSetInfo | None) -> str:
        return "arc_1"

    def scored_rows(self, file: PuzzleFile) -> FileRows | None:
        """The test pairs with an answer, without augmentation; hrm-evaluate lets all augmentations vote."""
        rows = np.arange(file.info.num_rows)
        rows = rows[(file.groups_and_variants(rows)[1] == 0) & file.has_answer(rows)]
        return FileRows(file, rows) if len(rows) else None


TASKS: dict[str, type[DataArguments]] = {kind.task: kind for kind in (SudokuArguments, MazeArguments, ArcArguments)}
