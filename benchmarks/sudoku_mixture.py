"""The puzzles that the 9x9 model of the package was fine-tuned on, as a table for hrm-build.

    python benchmarks/sudoku_mixture.py TRAIN EXTRA CLUES_17 EASY --output train.csv
    hrm-build sudoku --output-dir data/mixture --train-source train.csv --test-source valid.csv

The four files are tables of Sudokus with a header: the hardest known in two parts, those with 17 clues, easy ones. Of
the hardest 12,000 are drawn, without the first 512 of TRAIN; the first 872 rows of the other two come 27 and 14 times,
so that they fill half and a quarter of the visits. Rows 873 to 1,000 and the first 256 of TRAIN go to valid.csv beside
the output. The last 1,000 rows of CLUES_17 and EASY are in neither: they are for the test.

A GPU takes more: all of the hardest but those 512, and a quarter of others. Ten minutes of the recipe sudoku_fast on
them, with the scores of valid.csv on the way and that of a test file at the end:

    python benchmarks/sudoku_mixture.py TRAIN EXTRA CLUES_17 EASY --hardest 0 --repeats 11 6 --output train.csv
    hrm-build sudoku --output-dir valid --train-source train.csv --test-source valid.csv
    hrm-build sudoku --output-dir data --train-source train.csv --test-source TEST && mv valid/test.h5 data/valid.h5
    benchmarks/gpu_check.sh --only learning --minutes 10 --data data
"""

import argparse
import csv
import gzip
import random
from pathlib import Path

NUM_OTHERS = 872


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs=4, type=Path, metavar="FILE.csv.gz")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--hardest", type=int, default=12_000, help="of the hardest (12000); 0: all")
    parser.add_argument("--repeats", type=int, nargs=2, default=(27, 14), help="of 17 clues and of easy ones (27 14)")
    args = parser.parse_args()
    (header, *train), (_, *extra), (_, *clues), (_, *easy) = map(read, args.tables)
    known, (of_17, of_easy) = train[512:] + extra, args.repeats
    hardest = random.Random(0).sample(known, args.hardest or len(known))
    write(args.output, [header, *hardest, *clues[:NUM_OTHERS] * of_17, *easy[:NUM_OTHERS] * of_easy])
    held_out = slice(NUM_OTHERS, 1000)
    write(args.output.with_name("valid.csv"), [header, *train[:256], *clues[held_out], *easy[held_out]])


def read(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.reader(file))


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
