"""Train a Hierarchical Reasoning Model on ARC tasks: all demonstration pairs, those of the evaluation tasks included.

    python convert/build_arc.py --output-dir data/arc-1 ARC-AGI ConceptARC --num-aug 1000
    accelerate launch examples/train_arc.py --data-dir data/arc-1 --recipe examples/recipes/arc_1.yaml

While it trains, only the unaugmented test pairs are scored; `examples/evaluate_checkpoint.py` lets all augmentations
vote (pass@k). A recipe is a YAML file of arguments; what stands on the command line wins. --help lists all arguments.
"""

from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import pipeline

from hrm_hf.commands.training_run import DataArguments, TrainingTask, run_as_command, run_training
from hrm_hf.data import PuzzleSetInfo
from hrm_hf.hrm.arc import cut, draw
from hrm_hf.training import HrmTrainer

RECIPES = Path(__file__).parent / "recipes"


def data_in_words(data_args: DataArguments, info: PuzzleSetInfo) -> str:
    """The training data for the model card."""
    name = Path(data_args.data_dir).name
    return f"{info.num_groups} ARC tasks of {name}/train.h5, up to {info.num_aug} augmentations each"


def unaugmented(test_set: Dataset) -> Dataset:
    """The test pairs as they were published."""
    return test_set.select(np.flatnonzero(np.asarray(test_set.data["variant"]) == 0))


def show_one(checkpoint: Path, test_set: Dataset, info: PuzzleSetInfo) -> None:
    """Loads the checkpoint back through the pipeline and answers the first test pair with it."""
    row = test_set[0]
    grid = cut(np.asarray(row["input_ids"]).reshape(info.grid_shape))
    puzzle = {"puzzle": grid, "puzzle_identifier": int(row["puzzle_identifiers"])}
    result = pipeline("puzzle-solving", model=str(checkpoint))(puzzle)
    print(f"\nThe checkpoint {checkpoint}, loaded back, answers\n\n{draw(grid)}\n")
    print(f"in {result['segments']} segment(s), confidence {result['confidence']:.3f}, with\n")
    print(draw(result["solution"]) if result["solution"].size else "an empty grid")


TASK = TrainingTask(
    name="arc",
    arguments=DataArguments,
    description="Train a Hierarchical Reasoning Model on ARC tasks and score it on the test pairs.",
    recipe_for=lambda data_args, info: RECIPES / "arc_1.yaml",
    generate=None,
    data_in_words=data_in_words,
    puzzle_in_words=lambda test_set, info: None,
    show=show_one,
    scored_rows=unaugmented,
)


def main(argv: list[str] | None = None, trainer_class: type[HrmTrainer] = HrmTrainer) -> None:
    """The whole run, see `run_training`."""
    run_training(TASK, argv, trainer_class)


if __name__ == "__main__":
    run_as_command(main)
