"""The model card of a checkpoint, filled from what was measured.

`model_card.md` beside this file is the template. Every value comes from the caller, who has it from a run; a value
that is missing or is no number is an error, so that no card claims what nobody measured. The values stay beside the
card (card_values.json), so that it can be written again for another place, as publishing does. No network.
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

from ..hrm.errors import ArgumentError, CheckpointError

TEMPLATE = Path(__file__).with_name("model_card.md")
VALUES_NAME = "card_values.json"

# What a card is not written without; the names of write_model_card's arguments.
REQUIRED = ("model_name", "task", "train_dataset", "dataset", "metrics", "recipe", "hardware", "seed", "steps")
OPTIONAL = ("dataset_id", "location", "example", "limitations", "with_code")

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
    """Write `README.md`, the model card, into a checkpoint folder, and card_values.json, what it was filled with.

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
    folder = Path(folder)
    values: dict[str, Any] = {
        "model_name": model_name,
        "task": task,
        "train_dataset": train_dataset,
        "dataset": dataset,
        "metrics": metrics,
        "recipe": recipe,
        "hardware": hardware,
        "seed": seed,
        "steps": steps,
    }
    for name, value in values.items():
        if value is None or value == "" or value == {}:
            raise ArgumentError(f"the model card's {name} is {value!r}; a card is only written complete")
    for name, value in metrics.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ArgumentError(f"the model card's metric {name!r} is {value!r}; allowed: a finite measured number")
    if not folder.is_dir():
        raise ArgumentError(f"the model card's folder {str(folder)!r} does not exist; save the checkpoint there first")

    values |= {"metrics": {name: float(value) for name, value in metrics.items()}}
    values |= {"dataset_id": dataset_id, "location": location or model_name, "example": example}
    values |= {"limitations": list(limitations), "with_code": with_code}
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
                dataset_type=dataset_id or _slug(dataset),
                dataset_name=dataset,
                metric_type=name,
                metric_name=name,
                metric_value=value,
            )
            for name, value in scores.items()
        ],
    )
    card = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        model_name=model_name,
        task=task,
        dataset=dataset,
        count=int(metrics["count"]) if "count" in metrics else None,
        results=[
            {"name": name, "value": f"{value:.4f}", "meaning": METRIC_MEANINGS.get(name, "")}
            for name, value in scores.items()
        ],
        train_dataset=train_dataset,
        hardware=hardware,
        seed=seed,
        steps=steps,
        settings=[{"name": name, "value": _table_cell(value)} for name, value in recipe.items()],
        location=values["location"],
        example=example,
        limitations=[*LIMITATIONS, *limitations],
        with_code=with_code,
    )
    text = json.dumps(values, indent=2, default=str) + "\n"
    (folder / VALUES_NAME).write_text(text, encoding="utf-8")
    path = folder / "README.md"
    card.save(path)
    return path


def read_card_values(folder: str | PathLike) -> dict[str, Any] | None:
    """What the card of a checkpoint was filled with, as arguments of `write_model_card`; None where nobody kept it.

    Raises:
        CheckpointError: a damaged card_values.json, or one that lacks fields or has others; all are named.
    """
    path = Path(folder) / VALUES_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one object with the fields of a model card")
    if missing := [name for name in REQUIRED if values.get(name) in (None, "", {})]:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; a card is only written complete")
    if unknown := sorted(set(values) - {*REQUIRED, *OPTIONAL}):
        raise CheckpointError(
            f"{path} has the unknown field {unknown[0]!r}; allowed: {', '.join(REQUIRED + OPTIONAL)}"
        )
    for name in ("metrics", "recipe"):
        if not isinstance(values[name], dict):
            raise CheckpointError(f"{path}: {name} must be an object of names and values, not {values[name]!r}")
    limitations = values.get("limitations") or []
    if not isinstance(limitations, list) or not all(isinstance(each, str) for each in limitations):
        raise CheckpointError(f"{path}: limitations must be a list of sentences, not {limitations!r}")
    return values


def _slug(name: str) -> str:
    """A name as the model-index wants it: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _table_cell(value: Any) -> str:
    """A value on one line of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")
