"""Solve a puzzle and draw question and answer.

    hrm-solve "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    hrm-solve puzzle.sdk --check
    hrm-solve --checkpoint DIR "142.23....32..1."
    hrm-solve --checkpoint DIR maze.txt --picture solved.png
    hrm-solve --checkpoint DIR maze.txt --steps --animate thinking.gif
    hrm-solve --checkpoint DIR 007bbfb7.json

PUZZLE is text, or a file (its path, or @path): text, or JSON that holds a grid as nested lists, a dict as the pipeline
takes it, an ARC task, or ARC tasks by name.

Without --checkpoint the model that comes with the package solves 9x9 Sudokus. It asks again, up to 64 times, while the
answer breaks a rule; --attempts N does the same for other checkpoints.
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import Pipeline, pipeline

from .. import pretrained
from ..files import MAX_JSON_BYTES, parse_json, read_within
from ..games.picture import check_matplotlib, save_animation, save_picture, step_grids
from ..games.sudoku_solver import solve_many
from ..hrm.attempts import SELECTIONS, STRATEGIES
from ..hrm.configuration_hrm import COMPUTE_DTYPES
from ..hrm.errors import ArgumentError, PuzzleError
from ..hrm.pipeline_puzzle import DEFAULT_BATCH_SIZE
from ..hrm.puzzle_codecs import CODECS
from ..hrm.sudoku import SYMBOLS, renumber
from ..progress import progress
from .command import Command
from .load import load_model_and_processor

DEFAULT_ATTEMPTS = 64  # of the model that comes with hrm_hf
MAX_SOLVER_STEPS = 1_000_000  # a minute; sparse 16x16 grids may need hours
# A name with a suffix that ends no puzzle: in small letters one beyond the digits of 25x25 and the blank x
FILE_NAME = re.compile(r".{1,250}\.((?=[a-p]*[q-wyz])[a-z]{2,7}|(?i:json|txt|sdk|ss|sdm|csv))")
LIKE_A_NAME = re.compile(r".*[A-Za-z/\\]{2}.*")  # of one line; what else it may be, the game tells


class Solved(NamedTuple):
    """One question with what is known of its answer; grids (rows, columns) in the game's own cell numbers.

    digits: for a Sudoku that counts from 0, its digits by those of the drawings, which count from 1.
    puzzle, steps: the pipeline's steps to the answer, and the puzzle as it was given it for them.
    """

    question: np.ndarray
    prediction: np.ndarray
    answer: np.ndarray | None
    summary: str
    digits: dict[int, int] = {}
    puzzle: Any = None
    steps: Sequence[dict[str, Any]] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", help="folder or Hub id of the model (default: one that comes with hrm_hf, for 9x9 Sudokus)")
    add("--name", help="name of the puzzle identifier; default for an ARC task: the name of its file")
    add("--num-augmentations", type=int, help="most trained variants of an ARC task that vote (default: all)")
    add("--attempts", type=int, metavar="N", help="ask again, up to N times in all (1; without --checkpoint 64)")
    add("--strategy", choices=STRATEGIES, help="how to ask again (auto)")
    add("--select", choices=SELECTIONS, help="which answer counts (rules where the game has some, else vote)")
    add("--seed", type=int, help="of what attempts draw (0)")
    dtype = "auto: the quicker one here (default: the checkpoint's own, but float32 where its bfloat16 is slower)"
    add("--compute-dtype", choices=[*COMPUTE_DTYPES, "auto"], help=dtype)
    add("--check", action="store_true", help="Sudoku: count the solutions with the exact solver too")
    add("--picture", metavar="FILE.png", help="draw into a file too; needs matplotlib")
    add("--steps", action="store_true", help="draw the answer after every segment; not for whole ARC tasks")
    add("--animate", metavar="FILE.gif", help="draw these steps into an animated file; needs matplotlib")
    text = (
        "text (Sudoku: '.' or another sign for a blank, rows, boxes and separators as you like; maze: lines of '# SG')"
    )
    add("puzzle", metavar="PUZZLE", help=f"{text}, or a file")


def run(args: argparse.Namespace) -> None:
    check_drawing("--picture", args.picture, "a picture is a PNG", ".png")
    check_drawing("--animate", args.animate, "an animation is a GIF", ".gif")
    item = read_item(args.puzzle, args.name)
    wants_steps = args.steps or args.animate is not None
    if wants_steps and "task" in item:
        option = "--steps" if args.steps else "--animate"
        allowed = 'one input of it, as {"puzzle": grid, "puzzle_identifier": name}'
        raise ArgumentError(f"{option} shows the steps to one grid, not to a whole ARC task; give {allowed}")
    asked = {"strategy": args.strategy, "select": args.select, "seed": args.seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    if asked and args.attempts is None and args.checkpoint is not None:
        raise ArgumentError(f"--{[*asked][0]} says how to ask again: give --attempts N too")
    if args.attempts is not None or args.checkpoint is None:
        asked["num_attempts"] = DEFAULT_ATTEMPTS if args.attempts is None else args.attempts
    if wants_steps:
        asked["return_steps"] = True
    if args.compute_dtype is not None:
        asked["compute_dtype"] = args.compute_dtype
    solver = load_solver(args.checkpoint or pretrained("sudoku-9x9"))
    if args.check and solver.processor.task != "sudoku":
        raise ArgumentError(f"--check counts the solutions of a Sudoku; the model's task is {solver.processor.task!r}")
    try:
        all_solved = solve(solver, item, args.num_augmentations, **asked)
    except PuzzleError as error:
        words = [str(error)]
        if item.get("puzzle") is args.puzzle and LIKE_A_NAME.fullmatch(args.puzzle):
            words.append("there is no file of that name either")
        if args.checkpoint is None and not is_readable(solver, item):
            words.append("the model that comes with hrm_hf solves 9x9 Sudokus: for other puzzles give --checkpoint")
        raise PuzzleError("; ".join(words)) from error
    for solved in all_solved:
        question, prediction = (draw(solver, grid).translate(solved.digits) for grid in solved[:2])
        steps = draw_steps(solver, solved) if args.steps else []
        checked = [count_solutions(solved.question, solver.processor.box_shape)] if args.check else []
        print("\n\n".join([question, *steps, prediction, "\n".join([solved.summary, *checked])]))
    if args.animate is not None:
        (solved,) = all_solved
        symbols = SYMBOLS.translate(solved.digits)
        save_animation(args.animate, solved.puzzle, solved.steps, solver.processor, symbols=symbols)
    if args.picture is not None:
        known = all(solved.answer is not None for solved in all_solved)
        titles = ("input", "prediction", "answer") if known else ("input", "prediction")
        titles = ("input, 0 as 1", *titles[1:]) if all_solved[0].digits else titles
        grids = [grid for solved in all_solved for grid in solved[: len(titles)]]
        save_picture(args.picture, grids, titles, solver.processor.task, solver.processor.box_shape)


def is_readable(solver: Pipeline, item: dict[str, Any]) -> bool:
    """Whether the item is a puzzle of the solver's game, by its form alone."""
    try:
        solver.processor.read(item.get("puzzle"))
    except PuzzleError:
        return False
    return True


def check_drawing(option: str, path: str | None, kind: str, suffix: str) -> None:
    """Raises ArgumentError for a file that cannot be drawn into, ImportError where matplotlib is missing."""
    if path is None:
        return
    if not path.lower().endswith(suffix):
        raise ArgumentError(f"{option} {path}: {kind} file; give a name that ends in {suffix}")
    if not Path(path).absolute().parent.is_dir():
        raise ArgumentError(f"{option} {path}: there is no folder {Path(path).parent}")
    check_matplotlib()


def read_item(argument: str, name: str | None) -> dict[str, Any]:
    """The pipeline's item for a command line's puzzle.

    Raises PuzzleError for a file that is missing, cannot be read, is neither text nor JSON, or holds no puzzle.
    """
    path, content = Path(argument.removeprefix("@")), argument
    if argument.startswith("@") or os.path.isfile(argument) or FILE_NAME.fullmatch(argument):
        data = read_within(path, PuzzleError, MAX_JSON_BYTES)
        try:
            is_json = path.suffix.lower() == ".json"
            content = parse_json(data, path, PuzzleError, object) if is_json else data.decode()
        except UnicodeDecodeError as error:
            raise PuzzleError(f"{path} cannot be read as text, save it as UTF-8: {error}") from error
    if not isinstance(content, dict):
        return {"puzzle": content} if name is None else {"puzzle": content, "puzzle_identifier": name}
    if "test" in content:
        return {"task": content, "name": name or path.stem}
    if name in content:  # many tasks by name, as in Kaggle's files
        return {"task": content[name], "name": name}
    if "puzzle" in content or "task" in content:
        key = "name" if "task" in content else "puzzle_identifier"
        return content if name is None else content | {key: name}
    if name is not None:
        raise PuzzleError(f"{path} holds {len(content)} entries by name, but none for --name {name}")
    raise PuzzleError(f"{path} holds neither an ARC task nor a puzzle; to choose one of several tasks, give --name")


def load_solver(checkpoint: str) -> Pipeline:
    """The pipeline of a folder or a model on the Hub; for what it raises see `load_model_and_processor`."""
    model, processor = load_model_and_processor(checkpoint)
    return pipeline("puzzle-solving", model=model, processor=processor)


def solve(solver: Pipeline, item: dict[str, Any], num_augmentations: int | None, **asked: Any) -> list[Solved]:
    """Solves an item: a grid gives one entry, an ARC task one per test input.

    asked: the pipeline's other parameters. Raises ArgumentError for what is not allowed there or as
    num_augmentations, PuzzleError for what is no puzzle of the game.
    """
    if num_augmentations is not None and "task" not in item:
        raise ArgumentError(f"num_augmentations is {num_augmentations}, but only whole ARC tasks have variants")
    read, puzzle = solver.processor.read, item.get("puzzle")
    if "task" not in item and "puzzle" in item:  # as text, which has one meaning, so that the answer has too
        text = solver.processor.decode(solver.processor.encode(item["puzzle"]), like="?\n?")
        item = item | {"puzzle": text}
    parameters, how, asked = solver._sanitize_parameters(num_augmentations=num_augmentations, **asked)
    attempts = solver._attempts(asked)
    question, answers = solver.preprocess(item, **parameters, attempts=attempts), []
    queue = solver.model.solve_queue(question.rows(), DEFAULT_BATCH_SIZE, attempts=attempts, **how)
    at_level = solver.model.model.L_level.register_forward_hook
    with progress(description="solving", unit="rows", total=question.num_rows) as bar, at_level(bar.tick):
        for answer in queue:
            answers.append(answer)
            bar.update()
    result = solver.postprocess((question, answers))
    solutions = [result["solution"]] if "task" not in item else result["solutions"]
    predictions = [read(grid) if len(grid) else np.zeros((0, 0), np.uint8) for grid in solutions]
    if "task" not in item:
        grid, digits = read(item["puzzle"]), {}
        if solver.processor.task == "sudoku" and not np.array_equal(renumber(grid, puzzle), grid):
            digits = str.maketrans(SYMBOLS[1 : len(grid) + 1], f"0{SYMBOLS[1 : len(grid)]}")
        return [Solved(grid, predictions[0], None, in_words(result), digits, item["puzzle"], result.get("steps", ()))]
    all_solved = []
    for index, pair in enumerate(item["task"]["test"]):
        answer = None if pair.get("output") is None else read(pair["output"])
        votes, confidence = f"{result['votes'][index]} of {result['num_augmentations']}", result["confidence"][index]
        summary = f"test input {index + 1}: {votes} votes, confidence {confidence:.3f}"
        if answer is not None:
            summary += f", right: {np.array_equal(predictions[index], answer)}"
        all_solved.append(Solved(read(pair["input"]), predictions[index], answer, summary))
    return all_solved


def draw(solver: Pipeline, grid: np.ndarray) -> str:
    """A grid of the game's own cell numbers as text for people; an ARC answer may have no cells."""
    codec, processor = CODECS[solver.processor.task], solver.processor
    if not len(grid):
        return "(empty)"
    # The processor would read anew what a maze's numbers mean.
    return processor.draw(grid) if codec.draw is None else codec.draw(grid, processor.box_shape)


def draw_steps(solver: Pipeline, solved: Solved) -> list[str]:
    """Each step as text for people: a line, and the grid, where a Sudoku has a * behind each digit that changed."""
    drawn = []
    for step, grid in zip(solved.steps, step_grids(solved.puzzle, solved.steps, solver.processor), strict=True):
        lines, changed = draw(solver, grid).translate(solved.digits).split("\n"), step["changed"]
        words = f"{len(changed)} {'cell' if len(changed) == 1 else 'cells'} changed"
        if solver.processor.task == "sudoku" and changed:
            words, (box_rows, box_columns) = f"{words} (*)", solver.processor.box_shape
            lines = [list(f"{line} ") for line in lines]
            for row, column in changed:  # between the boxes there is a line, and a column of two signs
                lines[row + row // box_rows][2 * (column + column // box_columns) + 1] = "*"
            lines = ["".join(line).rstrip() for line in lines]
        at = f"attempt {step['attempt']}, segment {step['segment']}"
        if step["pinned"]:
            at += f", {len(step['pinned'])} guessed"
        drawn.append("\n".join([f"{at}: confidence {step['confidence']:.2f}, {words}", *lines]))
    return drawn


def count_solutions(question: np.ndarray, box_shape: tuple[int, int]) -> str:
    """What the exact solver says of a Sudoku (n, n), 0 = blank."""
    ((count,), _) = solve_many(question[None], box_shape, max_steps=MAX_SOLVER_STEPS)
    found = {-1: "did not come to an end", 0: "finds no solution", 1: "finds exactly one solution"}
    return f"the exact solver {found.get(int(count), 'finds several solutions')}"


def in_words(result: dict[str, Any]) -> str:
    """What the pipeline says of the answer to a grid."""
    spent = f" in {result['attempts']} attempts" if result.get("attempts", 1) > 1 else ""
    words = f"{result['segments']} segment(s){spent}, confidence {result['confidence']:.3f}"
    return words if result["valid"] is None else f"{words}, valid: {result['valid']}"


main = Command(__doc__, add_arguments, run).main

if __name__ == "__main__":
    raise SystemExit(main())
