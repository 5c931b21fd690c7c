"""How fast models learn: exact accuracy on unseen puzzles over minutes of training, HRM beside the best recipe here.

    python benchmarks/learning_speed.py                                   4x4, 6x6, 9x9; three seeds; 40 minutes
    python benchmarks/learning_speed.py --games 6x6 --seeds 0 --minutes 2
    python benchmarks/learning_speed.py --puzzles-9x9 FILE.csv.gz         1,000 rows of the file train, 500 others test

On each game both recipes train on the same puzzles: HRM's (benchmarks/recipes/) on stored variants, the package's own
on symmetries drawn at every visit. Each of the two has its share of the threads, and they run side by side. First both
are timed, for 30 steps; then each takes as many steps as fit into the same minutes, at the speed that was measured,
and its schedule is as long. Evaluations do not count as training time.

The table goes to learning_speed.md beside the result file, the plot to learning_speed.png, if matplotlib is there.
"""

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from recipe_runs import hrm_train, step_seconds
from side_by_side import benchmark_parser, finish, markdown_table, rounded, save_plot, start, usable_cores

from hrm_hf.data.build.sudoku_builder import SudokuRows, build_sudoku, generate_rows, read_table
from hrm_hf.hrm.sudoku import BOX_SHAPE_OF_SIZE

MINUTES = {"4x4": 0.75, "6x6": 2.5, "9x9": 6.0}
PUZZLES = {"4x4": (1700, 8), "6x6": (2000, None), "9x9": (1000, None)}  # to train on, and the most givens
NUM_TEST = 500
STORED_VARIANTS = {"4x4": 1000, "6x6": 500, "9x9": 500}  # of each puzzle, for HRM
FAMILIES = ("HRM", "best")
HRM_RECIPES = Path(__file__).parent / "recipes"
TIMED_STEPS, INTERVAL = 30, 10
QUICK_SECONDS = 0.05
EVALUATIONS = 10


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    start(args)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for game in args.games:
            data = make_data(game, Path(folder), args)
            timed = side_by_side(lambda name, data=data: time_steps(data[name], args))
            seconds = dict(zip(FAMILIES, timed, strict=True))
            minutes = args.minutes or (0.01 if args.quick else MINUTES[game])
            for seed in args.seeds:
                steps = {name: max(round(minutes * 60 / seconds[name]), EVALUATIONS) for name in FAMILIES}
                curves = side_by_side(
                    lambda name, data=data, seed=seed, steps=steps: curve(data[name], steps[name], seed, args)
                )
                for name, points in zip(FAMILIES, curves, strict=True):
                    run = {"game": game, "family": name, "seed": seed, "minutes": minutes, "steps": steps[name]}
                    timed = [[rounded(step * seconds[name] / 60), exact] for step, exact in points]
                    runs.append({**run, "ms_per_step": rounded(seconds[name] * 1e3), "exact_over_minutes": timed})
                    print(f"{game} {name:<5} seed {seed}: {steps[name]} steps, {points[-1][1]:.1%} exact", flush=True)
    record = {
        "threads_each": threads_of_one(args),
        "puzzles_9x9": args.puzzles_9x9 and args.puzzles_9x9.name,
        "runs": runs,
    }
    finish("learning_speed", args, record, [], table(runs), partial(draw, runs))


def side_by_side(work: Any) -> list[Any]:
    """What `work` returns for each family; both are at work at once."""
    with ThreadPoolExecutor(len(FAMILIES)) as pool:
        return list(pool.map(work, FAMILIES))


def threads_of_one(args: argparse.Namespace) -> int:
    return max(1, (args.threads or usable_cores()) // len(FAMILIES))


def make_data(game: str, folder: Path, args: argparse.Namespace) -> dict[str, list[str]]:
    """The words of hrm-train that name data and recipe, for each family: the same puzzles for both."""
    num_train, max_givens = PUZZLES[game]
    num_train, num_test = (40, 20) if args.quick else (num_train, NUM_TEST)
    box_shape = BOX_SHAPE_OF_SIZE[int(game[0])]
    if game == "9x9" and args.puzzles_9x9:
        train, test = split(read_table(args.puzzles_9x9), num_train, num_test)
    else:
        train, test = generate_rows(num_train, num_test, box_shape, max_givens, seed=0)
    words = {}
    for name, variants in zip(FAMILIES, (STORED_VARIANTS[game], 0), strict=True):
        target = folder / f"{game}-{name}"
        build_sudoku(target, train, test, num_aug=min(variants, 5) if args.quick else variants)
        recipe = HRM_RECIPES / f"hrm_sudoku_{game}.yaml" if name == "HRM" else f"sudoku_{game}"
        words[name] = ["--data-dir", str(target), "--recipe", str(recipe), "--compute-dtype", "float32"]
    return words


def split(rows: SudokuRows, num_train: int, num_test: int) -> tuple[SudokuRows, SudokuRows]:
    """The first rows of a file to train on, the last ones to test on."""
    if len(rows) < num_train + num_test:
        raise SystemExit(f"--puzzles-9x9 holds {len(rows)} puzzles; {num_train + num_test} are needed")
    return rows.split(num_train)[0], rows.split(len(rows) - num_test)[1]


def time_steps(words: list[str], args: argparse.Namespace) -> float:
    """Seconds of a training step; a quick run does not measure them."""
    if args.quick:
        return QUICK_SECONDS
    extra = ["--max-steps", str(TIMED_STEPS), "--logging-steps", str(INTERVAL), "--eval-batch-size", "500"]
    return step_seconds(train(words, extra, 0, args))


def curve(words: list[str], steps: int, seed: int, args: argparse.Namespace) -> list[tuple[int, float]]:
    """Exact accuracy on the test puzzles after so many steps; at the end the last of them."""
    extra = ["--max-steps", str(steps), "--eval-steps", str(max(steps // EVALUATIONS, 1))]
    scored = {
        line["step"]: line["eval/exact_accuracy"] for line in train(words, extra, seed, args) if "eval/count" in line
    }
    return [(0, 0.0), *sorted(scored.items())]


def train(words: list[str], extra: list[str], seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The records of one run of hrm-train."""
    fixed = ["--seed", str(seed), "--cpu-threads", str(threads_of_one(args))]
    with tempfile.TemporaryDirectory() as folder:
        return hrm_train(["sudoku", *words, *extra, *fixed], Path(folder, "run"))


def exact_after(run: dict[str, Any], share: float) -> float:
    """The last score taken within this share of a run's minutes."""
    limit = share * run["minutes"] * 1.001
    return [exact for minutes, exact in run["exact_over_minutes"] if minutes <= limit][-1]


def table(runs: list[dict[str, Any]]) -> str:
    """For each game and family the median over the seeds, with the lowest and the highest."""
    rows = []
    for game, family in dict.fromkeys((run["game"], run["family"]) for run in runs):
        these = [run for run in runs if (run["game"], run["family"]) == (game, family)]
        row = [game, family, f"{these[0]['ms_per_step']:.0f} ms", these[0]["steps"], f"{these[0]['minutes']:g}"]
        for share in (0.3, 0.5, 1.0):
            found = sorted(100 * exact_after(run, share) for run in these)
            row.append(f"{statistics.median(found):.1f} % ({found[0]:.1f} to {found[-1]:.1f})")
        rows.append(row)
    columns = ["game", "recipe", "step", "steps", "minutes", "exact after 30 % of them", "after 50 %", "at the end"]
    seeds = len({run["seed"] for run in runs})
    return f"median of {seeds} seeds (lowest to highest)\n\n{markdown_table(columns, rows)}"


def draw(runs: list[dict[str, Any]], folder: Path) -> None:
    """One panel for each game, one line for each run."""
    games = list(dict.fromkeys(run["game"] for run in runs))

    def fill(figure: Any, axes: Any) -> None:
        for panel, game in zip(axes[0], games, strict=True):
            for family, style, color in zip(FAMILIES, ("s--", "o-"), ("tab:orange", "tab:blue"), strict=True):
                label = family
                for run in (run for run in runs if (run["game"], run["family"]) == (game, family)):
                    minutes, exact = zip(*run["exact_over_minutes"], strict=True)
                    panel.plot(
                        minutes, [100 * value for value in exact], style, color=color, label=label, markersize=3
                    )
                    label = None  # one entry of the legend for all seeds
            panel.set(title=f"{game} Sudoku", xlabel="minutes of training", ylim=(-3, 103))
        axes[0, 0].set_ylabel("exact answers, %")
        axes[0, 0].legend()

    save_plot(folder / "learning_speed.png", 1, len(games), (4.2, 3.4), fill)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__, pairs=1, seconds=0)
    parser.add_argument("--games", nargs="+", choices=list(MINUTES), default=list(MINUTES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help=f"of training, for each run (default: by game, {MINUTES})")
    parser.add_argument("--puzzles-9x9", type=Path, metavar="FILE", help="CSV file (default: generated puzzles)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
