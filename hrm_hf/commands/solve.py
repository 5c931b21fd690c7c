"""The command `hrm-solve --checkpoint DIR PUZZLE`: solves a puzzle and draws question and answer.

PUZZLE is text, or a file (its path, or @path): text, or JSON for a grid as nested lists, a dict as the pipeline takes
it, or an ARC task.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import Pipeline, pipeline

from hrm_hf import HrmProcessor
from hrm_hf.commands.command_parser import CommandParser
from hrm_hf.games.picture import save_picture
from hrm_hf.hrm.errors import ArgumentError, PuzzleError
from hrm_hf.hrm.shown_value import one_line
from hrm_hf.hub.checkpoints import load_checkpoint
from hrm_hf.hub.hub_errors import clear_hub_errors

MAX_FILE_BYTES = 64 << 20  # of a puzzle's file; all tasks of an ARC collection are a few millions


class Solved(NamedTuple):
    """One question with what is known of its answer; grids (rows, columns) in the game's own cell numbers."""

    question: np.ndarray
    prediction: np.ndarray
    answer: np.ndarray | None
    summary: str


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 2 after bad input, with one line on stderr."""
    description, details = __doc__.split("\n\n", 1)
    parser = CommandParser(description=description, epilog=" ".join(details.split()))
    parser.add_argument("--checkpoint", required=True, help="folder or Hub id of the model")
    parser.add_argument(
        "--name", help="name of the puzzle's identifier; for an ARC task its name, by default that of the file"
    )
    parser.add_argument(
        "--num-augmentations", type=int, help="trained variants of an ARC task that vote at most (default: all)"
    )
    parser.add_argument("--picture", metavar="FILE.png", help="draws into a file too; needs matplotlib")
    parser.add_argument(
        "puzzle",
        help="text with one character per cell (Sudoku: '.' or 0 for a blank, white space is ignored; maze: lines of "
        "'# SG'), or a file",
    )
    args = parser.parse_args(argv)
    try:
        item = read_item(args.puzzle, args.name)
        solver = load_solver(args.checkpoint)
        all_solved = solve(solver, item, args.num_augmentations)
        for solved in all_solved:
            print(f"{draw(solver, solved.question)}\n\n{draw(solver, solved.prediction)}\n\n{solved.summary}")
        if args.picture is not None:
            processor = solver.processor
            known = all(solved.answer is not None for solved in all_solved)
            titles = ("input", "prediction", "answer") if known else ("input", "prediction")
            grids = [grid for solved in all_solved for grid in solved[: len(titles)]]
            save_picture(args.picture, grids, titles, processor.task, processor.box_shape)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def read_item(argument: str, name: str | None) -> dict[str, Any]:
    """The pipeline's item for a command line's puzzle.

    Raises:
        PuzzleError: a file that is neither text nor JSON, or JSON that is no puzzle.
        OSError: a file that cannot be read.
    """
    if not argument.startswith("@") and not os.path.isfile(argument):
        if argument.lower().endswith((".json", ".txt")):
            raise PuzzleError(f"there is no file {argument}")
        return _grid_item(argument, name)
    path = Path(argument.removeprefix("@"))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise PuzzleError(f"{path} is no puzzle: it has more than {MAX_FILE_BYTES} bytes")
        text = data.decode("utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else text.replace("\r\n", "\n")
    except PuzzleError:
        raise
    except (ValueError, RecursionError) as error:
        raise PuzzleError(f"{path} is no text, or no JSON: {error}") from error
    if not isinstance(content, dict):
        return _grid_item(content, name)
    if "test" in content:
        return {"task": content, "name": name or path.stem}
    if name in content:  # many tasks by name, as in Kaggle's files
        return {"task": content[name], "name": name}
    if "puzzle" in content or "task" in content:
        return content
    if name is not None:
        raise PuzzleError(f"{path} holds {len(content)} entries by name, but none for --name {name}")
    raise PuzzleError(
        f"{path} is neither one ARC task (an object with 'train' and 'test') nor tasks by name, one of which is --name"
    )


def load_solver(checkpoint: str) -> Pipeline:
    """The pipeline of a folder or a model on the Hub.

    Raises:
        CheckpointError: there is none or it cannot be fetched, it is no puzzle model, its files are missing or
            damaged, or its parts do not fit each other.
    """
    model = load_checkpoint(checkpoint)
    with clear_hub_errors(checkpoint):
        processor = HrmProcessor.from_pretrained(checkpoint)
    return pipeline("puzzle-solving", model=model, processor=processor)


def solve(solver: Pipeline, item: dict[str, Any], num_augmentations: int | None) -> list[Solved]:
    """Solves an item: a grid gives one entry, an ARC task one per test input.

    Raises:
        ArgumentError: num_augmentations is not allowed, or the item is a grid, for which no variants vote.
        PuzzleError: the puzzle cannot be read or breaks its own rules.
    """
    processor = solver.processor
    if num_augmentations is not None and "task" not in item:
        raise ArgumentError(
            f"num_augmentations is {num_augmentations}, but only whole ARC tasks have variants to vote"
        )
    result = solver(item, num_augmentations=num_augmentations)
    if "task" not in item:
        summary = f"{result['segments']} segment(s), confidence {result['confidence']:.3f}"
        if result["valid"] is not None:
            summary += f", valid: {result['valid']}"
        return [Solved(processor.read(item["puzzle"]), _grid(solver, result["solution"]), None, summary)]
    all_solved = []
    for index, pair in enumerate(item["task"]["test"]):
        answer = None if pair.get("output") is None else processor.read(pair["output"])
        prediction = _grid(solver, result["solutions"][index])
        summary = (
            f"test input {index + 1}: {result['votes'][index]} of {result['num_augmentations']} votes, confidence "
            f"{result['confidence'][index]:.3f}"
        )
        if answer is not None:
            summary += f", right: {np.array_equal(prediction, answer)}"
        all_solved.append(Solved(processor.read(pair["input"]), prediction, answer, summary))
    return all_solved


def draw(solver: Pipeline, grid: np.ndarray) -> str:
    return solver.processor.draw(grid) if grid.size else "(empty)"


def _grid_item(puzzle: Any, name: str | None) -> dict[str, Any]:
    return {"puzzle": puzzle} if name is None else {"puzzle": puzzle, "puzzle_identifier": name}


def _grid(solver: Pipeline, solution: Any) -> np.ndarray:
    """A solution in any form as a grid; an ARC answer may have no cells."""
    return solver.processor.read(solution) if len(solution) else np.zeros((0, 0), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
