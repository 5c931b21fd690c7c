"""Solve one puzzle with a checkpoint: python examples/solve.py --checkpoint DIR "1... .4.. ..3. ...2"."""

import argparse
import sys

from transformers import pipeline

from hrm_hf import HrmError
from hrm_hf.sudoku import draw, parse


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="folder or Hub id of the model")
    parser.add_argument("puzzle", help="one character per cell, '.' or 0 for a blank; spaces are ignored")
    args = parser.parse_args(argv)
    solver = pipeline("puzzle-solving", model=args.checkpoint)
    box_shape = solver.processor.box_shape
    puzzle = parse(args.puzzle, box_shape)
    result = solver(puzzle)
    print(f"{draw(puzzle, box_shape)}\n\n{draw(result['solution'], box_shape)}\n")
    print(f"{result['segments']} segment(s), confidence {result['confidence']:.3f}, valid: {result['valid']}")


if __name__ == "__main__":
    try:
        main()
    except (HrmError, OSError) as error:  # OSError: a checkpoint that is not there
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
