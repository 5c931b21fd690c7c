"""Score a checkpoint on a file of puzzles.

    hrm-evaluate --checkpoint DIR --data FILE.h5
    hrm-evaluate --checkpoint you/model --data you/puzzles        both on the Hub; takes test.h5 of the data set
    accelerate launch --multi_gpu --num_processes N -m hrm_hf.commands.evaluate ...

By default every puzzle runs all segments, as in the published evaluation; --halt lets each puzzle stop by itself, and
the next one takes its place. With --attempts N a puzzle is asked again until its answer keeps the rules, and there are
scores after 1, 2, 4, ... N attempts. With another --compute-dtype or with --compile, whose speed depends on the
machine, the first puzzles are solved without either too, and the number of equal answers is printed.

Sudoku: beside the model stands a baseline that draws each blank cell among the digits that its row, column and box
allow. Mazes: also the share of valid and of shortest paths. ARC: all augmentations of a test input vote, and pass@k is
the share of tasks with every answer among the first k.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ..data import FileRows, PuzzleFile
from ..data.trained_rows import SAYS_LITTLE, seen_in_words, trained_on
from ..files import write_whole
from ..games.sudoku_answers import guess_among_candidates
from ..hrm.attempts import SELECTIONS, STRATEGIES, Attempts
from ..hrm.configuration_hrm import COMPUTE_DTYPES
from ..hrm.errors import ArgumentError
from ..hrm.processing_hrm import HrmProcessor
from ..hrm.sudoku import BLANK_ID, decode
from ..hub.downloads import puzzle_file_path
from ..scores.attempt_curve import attempt_curve, save_curves
from ..scores.compiled import compiled_block
from ..scores.evaluation import PuzzlePredictions, arc_votes, predict_puzzles, score_predictions
from ..scores.formulas import finish, pass_at_k, puzzle_scores, submission
from ..scores.puzzle_table_match import match_puzzle_table
from ..training import HrmTrainingArguments, make_accelerator
from ..training.processes import agreed_dtype, launched_dtype, on_main_process
from .command import Command
from .load import load_model_and_processor, refuse_mistyped_path
from .solve import check_drawing

COMPARED_ROWS = 256  # solved plainly too, when another dtype or compiling is asked for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, help="folder or Hub id of the model")
    add("--data", required=True, help="puzzle file; test.h5 of a folder or Hub data set")
    add("--batch-size", type=int, default=256, help="puzzles at once in each process (256)")
    add("--max-segments", type=int, help="at most this many segments (default: halt_max_steps)")
    add("--halt", action="store_true", help="let each puzzle stop at its first halt (--attempts does too)")
    dtype = "auto: the quicker one here (default: the checkpoint's own, but float32 where its bfloat16 is slower)"
    add("--compute-dtype", choices=[*COMPUTE_DTYPES, "auto"], help=dtype)
    add("--compile", action="store_true", help="torch.compile the blocks (needs a C++ compiler)")
    add("--limit", type=int, help="only the first N rows (ARC: not all augmentations vote then)")
    add("--seed", type=int, default=0, help="of the attempts and of the baseline's guesses (0)")
    add("--attempts", type=int, metavar="N", help="ask up to N times, and report after 1, 2, 4, ... N attempts")
    add("--strategy", choices=STRATEGIES, help="how to ask again (auto)")
    add("--select", choices=SELECTIONS, help="which answer counts (rules where the game has some, else vote)")
    add("--plot", metavar="FILE.png", help="draw the curve over the attempts; needs matplotlib")
    unknown = "embedding of puzzles whose identifiers the checkpoint does not know (default: refuse them)"
    add("--unknown-puzzles", choices=["blank", "mean"], help=unknown)
    add("--save-predictions", metavar="FILE", help="write all answers to a .safetensors file")
    add("--submission", metavar="FILE", help="ARC: write the two best answers in the Kaggle form")


def run(args: argparse.Namespace) -> None:
    check_arguments(args)
    accelerator = make_accelerator(HrmTrainingArguments())
    asked_dtype = launched_dtype(args.compute_dtype, "--compute-dtype") or args.compute_dtype
    path = puzzle_file_path(args.data, "test")
    file = PuzzleFile(path)
    dataset = FileRows(file, None if args.limit is None else np.arange(min(args.limit, file.info.num_rows)))
    model, processor = load_model_and_processor(args.checkpoint)
    unknown = match_puzzle_table(model, processor, file, args.unknown_puzzles)
    file.check_fits(model.config, processor.task)
    if args.submission and processor.task != "arc":
        raise ArgumentError(f"--submission is for ARC; {args.data} holds the task {processor.task!r}")
    seen = on_main_process(accelerator, lambda: seen_in_words(trained_on(args.checkpoint), file, dataset.numbers))
    if seen is not None:
        accelerator.print(f"{args.checkpoint} was trained on {seen}: {SAYS_LITTLE}")
    attempts = None
    if args.attempts is not None:
        asked = {"strategy": args.strategy or "auto", "select": args.select, "seed": args.seed}
        attempts = Attempts(processor, args.attempts, **asked)
    model = model.to(accelerator.device).eval()
    dtype = agreed_dtype(asked_dtype, model.config, accelerator)
    own = dtype if asked_dtype is None else model.config.compute_dtype
    started = time.perf_counter()
    how = {"halt": args.halt or attempts is not None, "max_segments": args.max_segments, "attempts": attempts}
    predictions = predict_puzzles(
        model,
        dataset,
        batch_size=args.batch_size * accelerator.num_processes,
        compute_dtype=dtype,
        run_block=compiled_block(accelerator.device, any_batch_size=True) if args.compile else None,
        **how,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        gather=accelerator.gather,
    )
    seconds = time.perf_counter() - started
    if accelerator.is_main_process:
        if unknown:
            shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            print(f"{len(unknown)} unknown puzzle identifiers got the {args.unknown_puzzles} embedding: {shown}")
        print(f"{args.checkpoint} on {args.data}: {len(predictions)} puzzles in {seconds:.1f} s, in {dtype}")
        report(args, file, dataset, processor, predictions)
        if attempts is not None:
            curve = attempt_curve(predictions, dataset, attempts.num_attempts, processor)
            print("\n" + "".join(f"{name:>16}" for name in curve[0]))
            for row in curve:
                print(
                    "".join(f"{value:16.4f}" if isinstance(value, float) else f"{value:16}" for value in row.values())
                )
            if args.plot:
                save_curves(args.plot, {attempts.strategy: curve})
        most, mean = args.max_segments or model.config.halt_max_steps, predictions.segments.mean()
        speed = f"{len(predictions) / seconds:.1f} puzzles/s; {mean:.2f} of {most} segments per puzzle, "
        compiling = " (compiling included)" if args.compile else ""
        if attempts is None:
            print(f"{speed}{100 * (1 - mean / most):.1f} % saved{compiling}")
        else:
            print(f"{len(predictions) / seconds:.1f} puzzles/s; {mean:.2f} segments per puzzle{compiling}")
        if args.compile or dtype != own and (dtype == asked_dtype or dtype == "bfloat16"):
            some = FileRows(file, dataset.numbers[:COMPARED_ROWS])
            plain = predict_puzzles(model, some, args.batch_size, compute_dtype=own, **how).sequences
            same = (predictions.sequences[: len(some)] == plain).all(axis=1).sum()
            way = dtype + (", compiled," if args.compile else "")
            print(f"{way} beside {own}: {same} of the first {len(some)} answers are equal")
    accelerator.wait_for_everyone()
    accelerator.end_training()


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ArgumentError for what is wrong with numbers and paths: before hours of work, not after them."""
    for name, least in (("attempts", 1), ("batch_size", 1), ("max_segments", 1), ("limit", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ArgumentError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
    given = [option for option in ("strategy", "select", "plot") if getattr(args, option) is not None]
    if given and args.attempts is None:
        raise ArgumentError(f"--{given[0]} says something about attempts: give --attempts N too")
    check_drawing("--plot", args.plot, "a plot is a PNG", ".png")
    for option, value in (("--save-predictions", args.save_predictions), ("--submission", args.submission)):
        if value is not None and not Path(value).absolute().parent.is_dir():
            raise ArgumentError(f"{option} {value}: there is no folder {Path(value).parent}")
        if value is not None and Path(value).is_dir():
            raise ArgumentError(f"{option} {value} is a folder: name a file")
    refuse_mistyped_path(args.checkpoint)
    refuse_mistyped_path(args.data)


def report(
    args: argparse.Namespace,
    file: PuzzleFile,
    dataset: FileRows,
    processor: HrmProcessor,
    predictions: PuzzlePredictions,
) -> None:
    """Writes what was asked for and prints the table."""
    if args.save_predictions:
        arrays = {name: getattr(predictions, name) for name in ("sequences", "q_halt_logits", "segments")}
        write_whole(args.save_predictions, save(arrays))
    scores = score_predictions(predictions, dataset, processor)
    guessed = baseline(dataset, file.info.box_shape, args.seed) if processor.task == "sudoku" else {}
    if processor.task == "arc":
        ranked, answers = arc_votes(file, predictions)
        if hidden := len(ranked) - len(answers):
            print(f"{hidden} of {len(ranked)} test inputs are of tasks with hidden answers, which pass@k leaves out")
        scores = scores | pass_at_k(ranked, answers) if answers else {}
        if args.submission:
            write_whole(args.submission, json.dumps(submission(ranked)))
    print(f"{'':18}{'model':>10}{'guessing' if guessed else '':>10}".rstrip())
    for name, value in scores.items():
        if name != "count":
            print(f"{name:18}{value:10.4f}" + (f"{guessed[name]:10.4f}" if name in guessed else ""))


def baseline(dataset: FileRows, box_shape: tuple[int, int], seed: int) -> dict[str, float]:
    """Scores of guessing each blank among the digits that the givens of its row, column and box allow."""
    rows, side = dataset[:], box_shape[0] * box_shape[1]
    inputs = np.asarray(rows["input_ids"])
    grids = decode(inputs).reshape(-1, side, side)
    guesses = guess_among_candidates(grids, box_shape, np.random.default_rng(seed)).reshape(inputs.shape) + 1
    return finish(puzzle_scores(guesses, np.asarray(rows["labels"]), inputs=inputs, blank_id=BLANK_ID))


main = Command(__doc__, add_arguments, run).main

if __name__ == "__main__":
    raise SystemExit(main())
