"""The command `hrm-solve --checkpoint DIR PUZZLE`: solves one puzzle and draws question and answer."""

import argparse
import sys
from collections.abc import Sequence

from safetensors import SafetensorError
from transformers import pipeline

from hrm_hf.sudoku import draw, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 2 after bad input, with one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--checkpoint", required=True, help="folder or Hub id of the model")
    parser.add_argument("puzzle", help="one character per cell, '.' or 0 for a blank; white space is ignored")
    args = parser.parse_args(argv)
    try:
        solver = pipeline("puzzle-solving", model=args.checkpoint)
        box_shape = solver.processor.box_shape
        puzzle = parse(args.puzzle, box_shape)
        result = solver(puzzle)
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{draw(puzzle, box_shape)}\n\n{draw(result['solution'], box_shape)}\n")
    print(f"{result['segments']} segment(s), confidence {result['confidence']:.3f}, valid: {result['valid']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
