"""Times a plain and a fast way in turns, and writes down what came out: what all benchmarks here share.

A benchmark makes callables that do the same work, hands them to `take_turns`, adds its targets and calls `finish`,
which leaves one small JSON file in benchmarks/results/. `run_all.py` makes the table of them.
"""

import argparse
import json
import os
import platform
import random
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
FEW_FACTS = ("processor", "instructions", "cores", "gpu", "python", "torch")  # of `machine`, for the head of a table
PACKAGES = ("torch", "numpy", "transformers", "accelerate", "datasets", "h5py")


@dataclass(frozen=True)
class Spread:
    """Times of one way, in seconds."""

    median: float
    low: float  # the first quartile
    high: float  # the third quartile
    count: int

    @classmethod
    def of(cls, times: list[float]) -> "Spread":
        low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        return cls(median, low, high, len(times))

    def __str__(self) -> str:
        return f"{in_words(self.median)} ({in_words(self.low)} to {in_words(self.high)}, {self.count}x)"


@dataclass(frozen=True)
class Comparison:
    """Two ways of the same work, timed in turns."""

    plain: Spread
    fast: Spread

    @property
    def ratio(self) -> float:
        """How many times as fast: plain median over fast median."""
        return self.plain.median / self.fast.median

    def record(self) -> dict[str, Any]:
        """For a result file: seconds, rounded to four digits."""
        sides = {name: _rounded(asdict(getattr(self, name))) for name in ("plain", "fast")}
        return sides | {"ratio": rounded(self.ratio)}


def take_turns(
    ways: dict[str, Callable[[], object]], pairs: int, seconds: float, warm_ups: int = 1
) -> dict[str, Spread]:
    """Times all ways of the same work, one after the other, so that whatever else the machine does meets all alike.

    The order is turned around with every round. Work that runs on a GPU is waited for.

    Args:
        ways: what to call, by name.
        pairs: calls of each at the most, at least 1.
        seconds: no further round begins after this much time (warm-up not counted); one is always taken.
        warm_ups: calls of each before the clock counts; compiling happens there.
    """
    if pairs < 1:
        raise ValueError(f"pairs is {pairs}; it must be at least 1")
    for _ in range(warm_ups):
        for way in ways.values():
            seconds_of(way)
    times: dict[str, list[float]] = {name: [] for name in ways}
    started = time.perf_counter()
    for pair in range(pairs):
        if pair and time.perf_counter() - started >= seconds:
            break
        for name in list(ways) if pair % 2 == 0 else list(ways)[::-1]:
            times[name].append(seconds_of(ways[name]))
    return {name: Spread.of(taken) for name, taken in times.items()}


def seconds_of(work: Callable[[], object]) -> float:
    """How long one call takes, what it started on a GPU included."""
    _wait_for_gpu()
    started = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - started


def _wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Target:
    """One line of the table of targets.

    Attributes:
        work: what was measured.
        target: the number to reach; `at_most`: whether less is better.
        measured: None where it could not be measured here (`note` says why).
        unit: "x" for a ratio to the plain way, else what the number counts.
        note: what the number depends on, in a few words.
    """

    work: str
    target: float
    measured: float | None
    unit: str = "x"
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where nothing was measured."""
        if self.measured is None:
            return None
        return self.measured <= self.target if self.at_most else self.measured >= self.target

    def record(self) -> dict[str, Any]:
        """For a result file."""
        return _rounded(asdict(self))


def target_table(targets: list[Target]) -> str:
    """The targets as a Markdown table: work, target, measured, met or not."""
    rows = []
    for target in targets:
        bound = "at most" if target.at_most else "at least"
        measured = "not measured" if target.measured is None else _with_unit(target.measured, target.unit)
        met = {True: "yes", False: "**no**", None: ""}[target.met]
        aim = f"{bound} {_with_unit(target.target, target.unit)}"
        rows.append([target.work, aim, measured, met, target.note])
    return markdown_table(["work", "target", "measured", "met", "how"], rows)


def _with_unit(value: float, unit: str) -> str:
    number = f"{rounded(value, 3):,.10g}"
    return number + unit if unit in ("x", "%") else f"{number} {unit}"


# What a run says of itself


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, system and versions; nothing that names this very machine."""
    import torch

    facts: dict[str, Any] = {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            facts[name] = version(name)
    return facts


def machine_line(names: tuple[str, ...] | None = None, facts: dict[str, Any] | None = None) -> str:
    """The same in one line; only these `names`, of this machine or of `facts` from a result file."""
    facts = machine() if facts is None else facts
    return ", ".join(f"{name} {value}" for name, value in facts.items() if names is None or name in names)


def processor_name() -> str:
    """What Linux calls the processor, with family and model: a virtual machine often hides the rest. Elsewhere what
    Python knows of it.
    """
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in values:
        return platform.machine()
    numbers = " ".join(f"{key.split()[-1]} {values[key]}" for key in ("cpu family", "model") if key in values)
    return f"{values['model name']} ({numbers})" if numbers else values["model name"]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """The largest memory that this process has held so far, in MB; NaN where the system does not say.

    On Linux from /proc: what getrusage tells there is at least what the process that started this one had held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def shared_memory_mb() -> float:
    """Of the memory that this process holds now, what others hold too, in MB; 0 where the system does not say."""
    facts = Path("/proc/self/smaps_rollup")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("Shared_")) * 1024 / 1e6


def write_result(name: str, record: dict[str, Any], folder: Path | None = None) -> Path:
    """Writes the record, under date and machine, to <name>.json in `folder` (None: RESULTS). Returns its path."""
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    whole = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), **record}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


# Several processes


def free_port() -> int:
    """A free port below the range from which the system serves outgoing connections, gloo's own among them."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no free port from 20000 to 29999")


def be_rank(rank: int, processes: int, port: int) -> None:
    """Makes this process one of a group on this machine's CPU, as launchers do: by the environment."""
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    os.environ.update({name: str(value) for name, value in (world | place).items()})


# The command line that all benchmarks share


def benchmark_parser(description: str, pairs: int, seconds: float) -> argparse.ArgumentParser:
    """A parser with --quick, --pairs, --seconds, --threads and --results.

    Args:
        description: the benchmark's docstring.
        pairs, seconds: defaults of what `take_turns` takes.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes, seconds in all: shows that it runs, measures nothing; writes a result only with --results",
    )
    parser.add_argument("--pairs", type=int, default=pairs, help=f"turns of both ways at the most (default {pairs})")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"no further turn after so much time (default {seconds:g})"
    )
    parser.add_argument("--threads", type=int, help="threads of PyTorch on a CPU (default: all usable cores)")
    parser.add_argument(
        "--results", type=Path, help="folder for the result file (default: results/ beside the benchmarks)"
    )
    return parser


def start(args: argparse.Namespace) -> None:
    """Sets the threads and prints the machine."""
    import torch

    torch.set_num_threads(args.threads or usable_cores())
    print(machine_line() + "\n", flush=True)


def finish(
    name: str,
    args: argparse.Namespace,
    record: dict[str, Any],
    targets: list[Target],
    table: str = "",
    draw: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Prints the targets, if any, and writes the result file; a quick run leaves the committed one alone.

    Args:
        table: Markdown for a file <name>.md beside it, under a line that says when and where.
        draw: draws what plots there are into the folder of the result file.
    """
    if args.quick:
        targets = [replace(target, note="quick run: not this work, tiny sizes") for target in targets]
    if targets:
        print("\n" + target_table(targets))
    written = write_so_far(name, args, record, targets, table)
    for path in written:
        print(f"written: {path.name}")
    if written:
        draw(written[0].parent)
    else:
        print("a quick run: no result is written")


def write_so_far(
    name: str, args: argparse.Namespace, record: dict[str, Any], targets: list[Target], table: str = ""
) -> list[Path]:
    """Writes what `finish` does and returns the paths, none in a quick run that is not told where; prints nothing.

    A benchmark of several cases calls it after each, so that one that is stopped leaves what it has measured.
    """
    if args.quick and args.results is None:
        return []
    paths = [write_result(name, {**record, "targets": [target.record() for target in targets]}, args.results)]
    if table:
        paths.append(paths[0].with_suffix(".md"))
        head = f"{time.strftime('%Y-%m-%d')}, {machine_line(FEW_FACTS)}"
        paths[1].write_text(f"{head}\n\n{table}\n", encoding="utf-8")
    return paths


def markdown_table(columns: list[str], rows: list[list[Any]]) -> str:
    """Rows under columns; a bar in a cell becomes a slash."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def save_plot(
    path: Path, rows: int, columns: int, panel: tuple[float, float], fill: Callable[[Any, Any], None]
) -> None:
    """`fill` draws on a figure and its axes, an array (rows, columns); `panel` is the size of one in inches.

    Without matplotlib it says so.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is missing (extra `plot`)")
        return
    figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="tight")
    fill(figure, figure.subplots(rows, columns, squeeze=False))
    figure.savefig(path, dpi=90)
    print(f"written: {path.name}")


def one_line(record: dict[str, Any]) -> str:
    """The values of a record and the spreads of its two sides, by name."""
    shown = {name: Spread(**value) if name in ("plain", "fast") else value for name, value in record.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if not isinstance(value, (dict, list)))


def in_words(seconds: float) -> str:
    """1.87 s, 91.2 ms, 3.4 us."""
    factor, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    return f"{seconds * factor:.3g} {unit}"


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    return {name: rounded(value) if isinstance(value, float) else value for name, value in record.items()}
