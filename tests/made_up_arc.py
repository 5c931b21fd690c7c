"""Made-up ARC tasks, and collections of them on disk, for the tests of what reads and builds ARC data."""

import json
import zipfile
from pathlib import Path

import numpy as np


def made_up_task(seed: int, num_train: int = 2, num_test: int = 1, side: int = 4) -> dict:
    """A task's JSON value: grids of 1 to `side` rows and columns with any colours."""
    generator = np.random.default_rng(seed)

    def grid() -> list[list[int]]:
        return generator.integers(0, 10, generator.integers(1, side + 1, 2)).tolist()

    parts = {"train": num_train, "test": num_test}
    return {part: [{"input": grid(), "output": grid()} for _ in range(num)] for part, num in parts.items()}


def original_layout(training: dict[str, dict], evaluation: dict[str, dict] | None = None) -> dict[str, str]:
    """Member -> text, as in the original repositories."""
    splits = {"training": training, "evaluation": evaluation or {}}
    return {
        f"data/{split}/{name}.json": json.dumps(task)
        for split, tasks in splits.items()
        for name, task in tasks.items()
    }


def kaggle_layout(tasks: dict[str, dict], prefix: str) -> dict[str, str]:
    """Member -> text: the challenges without their answers, and the answers."""
    challenges = {
        name: {"train": task["train"], "test": [{"input": pair["input"]} for pair in task["test"]]}
        for name, task in tasks.items()
    }
    solutions = {name: [pair["output"] for pair in task["test"]] for name, task in tasks.items()}
    return {
        f"{prefix}_challenges.json": json.dumps(challenges),
        f"{prefix}_solutions.json": json.dumps(solutions),
    }


def write_folder(path: Path, members: dict[str, str]) -> Path:
    for member, text in members.items():
        (path / member).parent.mkdir(parents=True, exist_ok=True)
        (path / member).write_text(text)
    return path


def write_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return path
