"""The model card of a checkpoint, filled from what was measured.

`model_card.md` beside this file is the template. Every value comes from the caller, who has it from a run; a value
that is missing or is no number is an error, so that no card claims what nobody measured. The values stay beside the
card (card_values.json), so that a push can write it again for the repository. No network.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..files import write_whole
from ..hrm.errors import ArgumentError

TEMPLATE = Path(__file__).with_name("model_card.md")
VALUES_NAME = "card_values.json"


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
    base_model: str | None = None,
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
        train_dataset, recipe, hardware, seed, steps: of the training run; steps are the optimiser's.
        dataset, dataset_id: name of the data the metrics were measured on, and its id on the Hub, if it has one.
        base_model: id on the Hub of the model whose weights the training started from.
        metrics: as `formulas.finish` returns them; all but `count`, the number of puzzles, enter the model-index.
        location, example: folder or Hub id that the usage snippet loads (None = `model_name`), and a puzzle for it.
        limitations: sentences to add to those that hold for every checkpoint.
        with_code: the checkpoint carries the code, and the card says how to load it without the package.

    Returns the card's path. Raises ArgumentError for an empty value, or a metric that is no finite number.
    """
    values = {name: value for name, value in locals().items() if name != "folder"}  # all arguments that fill the card
    for name in ("model_name", "task", "train_dataset", "dataset", "metrics", "recipe", "hardware", "seed", "steps"):
        if values[name] in (None, "", {}):
            raise ArgumentError(f"the model card's {name} is {values[name]!r}; a card is only written complete")
    if isinstance(limitations, str):
        raise ArgumentError(f"the model card's limitations are {limitations!r}; allowed: a list of sentences")
    for name, value in metrics.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ArgumentError(f"the model card's metric {name!r} is {value!r}; allowed: a finite measured number")
    values["metrics"] = {name: float(value) for name, value in metrics.items()}
    values |= {"location": location or model_name, "limitations": list(limitations)}
    scores = {name: value for name, value in values["metrics"].items() if name != "count"}
    tiny = ["tiny-recursive-model", "arxiv:2510.04871"] if recipe.get("shared_levels") else []
    card_data = ModelCardData(
        model_name=model_name,
        license="apache-2.0",
        library_name="transformers",
        base_model=base_model,
        tags=["hrm", "hierarchical-reasoning-model", "puzzle-solving", task, "arxiv:2506.21734", *tiny],
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
    card = ModelCard.from_template(card_data, template_path=str(TEMPLATE), **values)
    write_whole(Path(folder, VALUES_NAME), json.dumps(values, indent=2, default=str) + "\n")
    path = Path(folder, "README.md")
    card.save(path)
    return path
