"""The model card of a checkpoint, filled from what was measured.

`model_card.md` beside this file is the template. Every value comes from the caller, who has it from a run; a value
that is missing or is no number is an error, so that no card claims what nobody measured. The values stay beside the
card (card_values.json), so that a push can write it again for the repository. No network.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..files import read_json, write_whole
from ..hrm.errors import ArgumentError, CheckpointError
from ..hrm.shown_value import shown

TEMPLATE = Path(__file__).with_name("model_card.md")
VALUES_NAME = "card_values.json"

# Arguments of write_model_card without which no card is written.
REQUIRED = ("model_name", "task", "train_dataset", "dataset", "metrics", "recipe", "hardware", "seed", "steps")

METRIC_MEANINGS = {
    "exact_accuracy": "share of puzzles with every cell right",
    "accuracy": "mean over puzzles of the share of right cells, givens included",
    "blank_accuracy": "share of right cells among those that the puzzle leaves blank",
    "q_halt_accuracy": "share of puzzles where the halting value says rightly whether the answer is right",
    "segments": "mean number of segments per puzzle",
    "valid_path": "share of mazes whose answer is a path from start to goal, however long",
    "shortest_path": "share of mazes whose answer is a path of least length",
}

LIMITATIONS = (
    "It answers puzzles of the size and kind it was trained on, and no others.",
    "An answer may be wrong: the pipeline's `valid` says whether it keeps the givens and the rules, its `confidence` "
    "is the model's own estimate.",
    "The numbers above are one run with one seed; other seeds give other numbers.",
)


def write_model_card(
    folder: str | PathLike,
    *,
    model_name: str,
    task: str,
    train_dataset: str,
    dataset: str,
    metrics: Mapping[str, float],
    recipe: Mapping[str, Any],
    hardware: str,
    seed: int,
    steps: int,
    dataset_id: str | None = None,
    location: str | None = None,
    example: str | None = None,
    limitations: Sequence[str] = (),
    with_code: bool = False,
) -> Path:
    """Writes `README.md`, the model card, into a checkpoint folder, and card_values.json, what it was filled with.

    Args:
        folder: the checkpoint, an existing folder.
        model_name: title of the card and name in its model-index.
        task: the game, for instance "sudoku".
        train_dataset: what it was trained on.
        dataset: name of the data the metrics were measured on.
        metrics: measured values as `metrics.finish` returns them; `count` is shown as the number of puzzles, the
            others enter the model-index.
        recipe: the settings of the training run.
        hardware: what it ran on.
        seed: seed of the run.
        steps: optimiser steps of the run.
        dataset_id: the data set's id on the Hub ("user/name"), if it has one.
        location: folder or Hub id that the usage snippet loads; None = `model_name`.
        example: a puzzle for the usage snippet.
        limitations: sentences to add to those that hold for every checkpoint.
        with_code: the checkpoint carries the code, and the card says how to load it without the package.

    Returns:
        Path of the card.

    Raises:
        ArgumentError: a value that is empty or None, a metric that is no finite number, or a folder that does not
            exist.
    """
    values = {name: value for name, value in locals().items() if name != "folder"}  # all arguments that fill the card
    folder = Path(folder)
    for name in REQUIRED:
        if values[name] in (None, "", {}):
            raise ArgumentError(f"the model card's {name} is {values[name]!r}; a card is only written complete")
    for name, value in metrics.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ArgumentError(f"the model card's metric {name!r} is {value!r}; allowed: a finite measured number")
    if not folder.is_dir():
        raise ArgumentError(f"the model card's folder {str(folder)!r} does not exist; save the checkpoint there first")

    values["metrics"] = {name: float(value) for name, value in metrics.items()}
    values |= {"location": location or model_name, "limitations": list(limitations)}
    scores = {name: value for name, value in values["metrics"].items() if name != "count"}
    card_data = ModelCardData(
        model_name=model_name,
        license="apache-2.0",
        library_name="transformers",
        tags=["hrm", "hierarchical-reasoning-model", "puzzle-solving", task, "arxiv:2506.21734"],
        datasets=[dataset_id] if dataset_id else None,
        metrics=list(scores),
        eval_results=[
            EvalResult(
                task_type="puzzle-solving",
                task_name=f"Puzzle solving ({task})",
                # the model-index wants lower case, words joined by hyphens
                dataset_type=dataset_id or re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-"),
                dataset_name=dataset,
                metric_type=name,
                metric_name=name,
                metric_value=value,
            )
            for name, value in scores.items()
        ],
    )
    shown_values = {
        "count": int(metrics["count"]) if "count" in metrics else None,
        "results": [
            {"name": name, "value": f"{value:.4f}", "meaning": METRIC_MEANINGS.get(name, "")}
            for name, value in scores.items()
        ],
        "settings": [
            {"name": name, "value": " ".join(str(value).split()).replace("|", "\\|")}  # one line of a table
            for name, value in recipe.items()
        ],
        "limitations": [*LIMITATIONS, *limitations],
    }
    card = ModelCard.from_template(card_data, template_path=str(TEMPLATE), **(values | shown_values))
    write_whole(folder / VALUES_NAME, json.dumps(values, indent=2, default=str) + "\n")
    path = folder / "README.md"
    card.save(path)
    return path


def read_card_values(folder: str | PathLike) -> dict[str, Any] | None:
    """What the card of a checkpoint was filled with, as arguments of `write_model_card`; None if it was not kept.

    Raises:
        CheckpointError: a damaged card_values.json, or one that lacks fields or has others.
    """
    path = Path(folder) / VALUES_NAME
    if not path.is_file():
        return None
    values = read_json(path, CheckpointError)
    if missing := [name for name in REQUIRED if values.get(name) in (None, "", {})]:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; a card is only written complete")
    for name, kind in (("metrics", dict), ("recipe", dict), ("limitations", list)):
        if not isinstance(values.get(name) or kind(), kind):
            raise CheckpointError(f"{path}: {name} is {shown(values[name])}, expected a {kind.__name__}")
    try:
        signature(write_model_card).bind(folder, **values)
    except TypeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return values
