"""Score a checkpoint on a file of puzzles: python examples/evaluate_checkpoint.py --checkpoint DIR --data FILE.h5

By default every puzzle runs all segments and the last one answers, as in the published evaluation; --halt lets each
puzzle stop by itself. For Sudoku a baseline is printed beside the model: each blank cell drawn at random among the
digits that its row, column and box allow.
"""

import argparse
import sys
import time

import numpy as np
import torch
from accelerate import Accelerator

from hrm_hf import HrmError, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.data import PuzzleFile, load_puzzles
from hrm_hf.evaluation import evaluate_puzzles
from hrm_hf.metrics import finish, puzzle_scores
from hrm_hf.sudoku import BLANK_ID, decode, encode, guess_among_candidates


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder or Hub id of the model")
    parser.add_argument("--data", required=True, help="puzzle file, for instance test.h5 of convert/build_sudoku.py")
    parser.add_argument("--batch-size", type=int, default=256, help="puzzles at once in each process (256)")
    parser.add_argument("--max-segments", type=int, help="segments at the most (default: the model's halt_max_steps)")
    parser.add_argument("--halt", action="store_true", help="let each puzzle stop at its first halt")
    parser.add_argument("--limit", type=int, help="only the first N puzzles")
    parser.add_argument("--seed", type=int, default=0, help="of the baseline's guesses (0)")
    args = parser.parse_args(argv)

    accelerator = Accelerator(cpu=torch.backends.mps.is_available())  # scores are float64, which Apple's GPUs lack
    dataset = load_puzzles(args.data)
    if args.limit is not None:
        dataset = dataset.select(range(min(args.limit, len(dataset))))
    model = HrmForPuzzleSolving.from_pretrained(args.checkpoint).to(accelerator.device).eval()
    processor = HrmProcessor.from_pretrained(args.checkpoint)
    file = PuzzleFile(args.data)
    file.check_fits(model.config, processor.task)
    started = time.perf_counter()
    scores = evaluate_puzzles(
        model,
        dataset,
        batch_size=args.batch_size * accelerator.num_processes,
        halt=args.halt,
        max_segments=args.max_segments,
        blank_id=BLANK_ID,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        reduce=lambda sums: accelerator.reduce(sums.to(accelerator.device), reduction="sum"),
    )
    seconds = time.perf_counter() - started
    if accelerator.is_main_process:
        guessed = baseline(dataset, file.info.box_shape, args.seed)
        print(f"{args.checkpoint} on {args.data}: {int(scores['count'])} puzzles in {seconds:.1f} s")
        print(f"{'':18}{'model':>10}{'guessing':>10}")
        for name, value in scores.items():
            if name != "count":
                other = f"{guessed[name]:10.4f}" if name in guessed else ""
                print(f"{name:18}{value:10.4f}{other}")


def baseline(dataset, box_shape: tuple[int, int], seed: int) -> dict[str, float]:
    """Scores of guessing each blank among the digits that the givens of its row, column and box allow."""
    rows = dataset[:]
    inputs = np.asarray(rows["input_ids"])
    side = box_shape[0] * box_shape[1]
    grids = decode(inputs).reshape(-1, side, side)
    guesses = encode(guess_among_candidates(grids, box_shape, np.random.default_rng(seed)))
    return finish(
        puzzle_scores(guesses.reshape(inputs.shape), np.asarray(rows["labels"]), inputs=inputs, blank_id=BLANK_ID)
    )


if __name__ == "__main__":
    try:
        main()
    except (HrmError, OSError) as error:  # OSError: a checkpoint that is not there
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
