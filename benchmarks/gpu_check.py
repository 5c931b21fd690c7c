"""Eight minutes of a GPU in one command: its tests, training, solving and learning, and a table of what came out.

    benchmarks/gpu_check.sh                                    8 minutes; results in build/gpu_check
    benchmarks/gpu_check.sh --minutes 10 --results OUT --wheels WHEELS --data DIR
    benchmarks/gpu_check.sh --quick                            all parts, tiny, on a CPU too: shows that they run

Needs a copy of the tree, Python and PyTorch; no network, no git. It installs nothing by itself: what is missing is
named, and taken from a folder of wheels, if one is given, into a folder of the results.

tests      tests/training/test_gpu.py
training   training_speed.py: steps a second, shares of the peak, ratios to the plain twin
solving    solving_speed.py: a batch without halting, long queues with halting
learning   timed_learning.py: a recipe for the time that is left, its checkpoint, scored on puzzles held out

Every part has its share of the time as its limit, and what a part leaves is the next one's; one that fails or is
stopped does not stop the others, and what it had measured by then counts. The table goes to gpu_check.md, a line for
each part to gpu_check.json, what they print to logs/, and all of it, checkpoint included, into gpu_check.tar.gz.
Exit code: 0 where nothing failed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from side_by_side import markdown_table  # which needs nothing but Python

ROOT = Path(__file__).parents[1]
NAME = "gpu_check"
# What the parts import, by the names of the modules. Nothing of it is imported here: it may be missing.
NEEDED = ["torch", "numpy", "transformers", "accelerate", "datasets", "huggingface_hub", "safetensors", "h5py"]
NEEDED += ["pyarrow", "yaml", "tqdm"]
NO_GPU = "no GPU here"
FOR_TESTS, WELCOME = ["pytest"], ["hypothesis"]  # without the latter the tests run too
SHARES = {"tests": 0.38, "training": 0.65, "solving": 1.0}  # of what is left then, but for learning's share
LEARNING_SHARE = 0.3  # of all; it takes what the others leave as well
SECONDS_TO_PACK = 10.0
SECONDS_TO_END = 15.0  # from the signal that a part's time is up to its end by force
LEAST_SECONDS = 15.0  # with less no part begins
SECONDS_TO_IMPORT = 15.0
PROBE = """
import importlib.metadata, importlib.util, json, platform, sys
names = sys.argv[1:]
missing = [name for name in names if importlib.util.find_spec(name) is None]
of_module = importlib.metadata.packages_distributions()
versions = {}
for name in names:
    if name not in missing and of_module.get(name):
        versions[name] = importlib.metadata.version(of_module[name][0])
facts = {"python": platform.python_version(), "versions": versions, "missing": missing, "gpu": None}
if "torch" not in missing:
    import torch
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
print(json.dumps(facts))
"""


@dataclass
class Part:
    """What became of a part."""

    name: str
    seconds: float = 0.0
    state: str = "skipped"  # or ok, failed
    why: str = ""
    figure: str = ""


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    end = time.monotonic() + 60 * args.minutes - SECONDS_TO_PACK
    results = args.results.resolve()
    refuse_foreign(results)
    shutil.rmtree(results, ignore_errors=True)
    (results / "logs").mkdir(parents=True)
    (results / f"{NAME}.json").write_text("{}\n")
    environment = environment_of(args, results)
    facts = probe(environment)
    print(facts_line(facts), flush=True)
    parts = [Part(name) for name in ("tests", "training", "solving", "learning")]
    try:
        for part in parts:
            needed = NEEDED + FOR_TESTS * (part.name == "tests")
            missing = [name for name in facts["missing"] if name in needed]
            if part.name not in args.only:
                part.why = "not asked for"
            elif missing:
                part.why = f"missing: {', '.join(missing)} (--wheels takes a folder with them)"
            elif part.name == "tests" and not facts["gpu"] and "hypothesis" in facts["missing"]:
                part.why = NO_GPU  # the shared fixtures, which skip them here, cannot be read
            else:
                run_part(part, COMMANDS[part.name](args, results, facts), end, args, results, environment)
            print(f"{part.name}: {part.state} after {part.seconds:.0f} s {part.why or part.figure}", flush=True)
    except KeyboardInterrupt:
        part.state, part.why = "failed", "interrupted"
        print("interrupted: the table shows what there is", flush=True)
    text = table(parts, facts)
    print("\n" + text)
    (results / f"{NAME}.md").write_text(text, encoding="utf-8")
    record = {"date": time.strftime("%Y-%m-%d"), **facts, "parts": [asdict(part) for part in parts]}
    (results / f"{NAME}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"all of it: {pack(results)}", flush=True)
    return int(any(part.state == "failed" for part in parts))


def refuse_foreign(results: Path) -> None:
    """A folder that this script did not make is not emptied."""
    if results.exists() and any(results.iterdir()) and not (results / f"{NAME}.json").exists():
        raise SystemExit(f"--results {results}: it holds other files; name a new or empty folder")


def environment_of(args: argparse.Namespace, results: Path) -> dict[str, str]:
    """For the parts: the tree and, where wheels are given, what was installed of them comes first; no network."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if args.wheels is not None:
        site = results / "site"
        wheels = sorted(args.wheels.glob("*.whl"))
        print(f"installing {len(wheels)} wheels of {args.wheels} into {site}", flush=True)
        how = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
        done = subprocess.run([sys.executable, "-m", "pip", "install", *how, "--target", str(site), *map(str, wheels)])
        if done.returncode:
            print(f"--wheels {args.wheels}: pip could not install them; what is missing is named below", flush=True)
        path.insert(1, str(site))
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def probe(environment: dict[str, str]) -> dict[str, Any]:
    """Versions, what is missing, and the GPU."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *NEEDED, *FOR_TESTS, *WELCOME], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"PyTorch cannot be imported:\n{done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def facts_line(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    missing = f"; missing: {', '.join(facts['missing'])}" if facts["missing"] else ""
    return f"{facts['gpu'] or 'no GPU'}, Python {facts['python']}, {versions}{missing}"


# The parts: their commands, and the figure that stands for each


def tests(args: argparse.Namespace, results: Path, facts: dict[str, Any]) -> list[str]:
    words = ["-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/training/test_gpu.py"]
    # The shared fixtures, which these tests do without, need hypothesis.
    return [*words, "--noconftest"] if "hypothesis" in facts["missing"] else words


def training(args: argparse.Namespace, results: Path, facts: dict[str, Any]) -> list[str]:
    return ["benchmarks/training_speed.py", "--profile", *benchmark_words(args, results)]


def solving(args: argparse.Namespace, results: Path, facts: dict[str, Any]) -> list[str]:
    queue = ["queue"] if facts["gpu"] or args.quick else []  # takes an hour of a CPU
    return ["benchmarks/solving_speed.py", "--profile", *benchmark_words(args, results), "--only", "no-halt", *queue]


def learning(args: argparse.Namespace, results: Path, facts: dict[str, Any]) -> list[str]:
    data = [] if args.data is None else ["--data", str(args.data.resolve())]
    recipe = str(Path(args.recipe).resolve()) if Path(args.recipe).is_file() else args.recipe
    return ["benchmarks/timed_learning.py", *benchmark_words(args, results), "--recipe", recipe, *data]


def benchmark_words(args: argparse.Namespace, results: Path) -> list[str]:
    how = ["--quick", "--pairs", "1", "--threads", "1"] if args.quick else ["--pairs", "6", "--seconds", "10"]
    return ["--results", str(results), *how]


COMMANDS: dict[str, Callable[..., list[str]]] = {
    "tests": tests,
    "training": training,
    "solving": solving,
    "learning": learning,
}


def figure_of(name: str, results: Path) -> str:
    """The figure that stands for a part, from what it has left."""
    if name == "tests":
        lines = (results / "logs" / "tests.log").read_text(encoding="utf-8", errors="replace").splitlines()
        found = [line for line in lines if re.search(r"\d+ (passed|failed|skipped|error)", line)]
        if found:
            return re.sub(r"^=+ | in [\d.]+s.*", "", found[-1])
        passed = sum(" PASSED" in line for line in lines)  # stopped before it could count
        return f"{passed} passed before it was stopped" if passed else ""
    file = {"training": "training_speed", "solving": "solving_speed", "learning": "timed_learning"}[name]
    path = results / f"{file}.json"
    if not path.exists():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    if name == "training":
        said = [
            f"{case['size']} {case['mode']} {case['steps_per_second']:.3g} steps/s ({case['ratio']:.2f}x, "
            f"{case['share_of_peak_percent']:.0f} %)"
            for case in record["cases"]
        ]
        return "; ".join([*said, *(f"failed: {case}" for case in record["failed"])])
    if name == "solving":
        queues = [
            f"{case['puzzles_per_second']:,.0f} puzzles/s at batch {case['batch']:,} ({case['ratio']:.2f}x)"
            for case in record.get("queue", [])
        ]
        one = record.get("no_halt")
        return "; ".join([*queues, *([f"without halting {one['ratio']:.2f}x"] if one else [])])
    if "exact_accuracy" not in record:
        return f"{record['steps']:,} steps of {record['step_ms']:.3g} ms, not scored"
    exact = f"{100 * record['exact_accuracy']:.1f} % of {record['count']:,.0f} puzzles exact"
    return f"{exact} after {record['steps']:,} steps of {record['step_ms']:.3g} ms"


def run_part(
    part: Part, words: list[str], end: float, args: argparse.Namespace, results: Path, environment: dict[str, str]
) -> None:
    """Runs a part within its time and fills in what became of it."""
    left = end - time.monotonic()
    if part.name != "learning":
        left = (left - 60 * args.minutes * LEARNING_SHARE * ("learning" in args.only)) * SHARES[part.name]
    limit = left - SECONDS_TO_END
    if limit < LEAST_SECONDS:
        part.why = f"{max(left, 0):.0f} s left: too little"
        return
    if part.name == "learning":
        words = [*words, "--seconds", f"{max(limit - SECONDS_TO_IMPORT, 1):.0f}"]
    log = results / "logs" / f"{part.name}.log"
    print(f"\n== {part.name}, up to {limit:.0f} s", flush=True)
    began = time.monotonic()
    with open(log, "wb") as stream:
        how = dict(cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
        child = subprocess.Popen([sys.executable, *words], start_new_session=True, **how)
        code = None
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            part.why = f"stopped after {limit:.0f} s"
        finally:
            if code is None:
                end_group(child)
    part.seconds = time.monotonic() - began
    try:
        part.figure = figure_of(part.name, results)
    except (LookupError, ValueError) as error:  # half a file, or none of its parts
        part.figure = f"no figure: {type(error).__name__}"
    part.state = "ok" if code == 0 else "failed"
    if code:
        last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        part.why = f"exit code {code}: {last[-1][:200] if last else 'it said nothing'}"
    if part.name == "tests" and part.state == "ok" and "passed" not in part.figure:
        part.state, part.why = "skipped", NO_GPU


def end_group(child: subprocess.Popen) -> None:
    """Ends a part with all that it started: asked first, then by force."""
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(child.pid, signal.SIGTERM)
        until = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < until:
            child.poll()  # an ended process counts until it has been asked for
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def table(parts: list[Part], facts: dict[str, Any]) -> str:
    """Markdown."""
    rows = [
        [part.name, f"{part.seconds:.0f}", part.state + (part.why and f": {part.why}"), part.figure or "-"]
        for part in parts
    ]
    columns = ["part", "seconds", "state", "main figures"]
    return f"{time.strftime('%Y-%m-%d')}, {facts_line(facts)}\n\n{markdown_table(columns, rows)}\n"


def pack(results: Path) -> Path:
    """Everything in one file, but what was installed, states to go on from, and puzzles."""
    left_out = re.compile(r"(^|/)(site|data|state-\d+|timed|train)(/|$)|\.tar\.gz$|\.lock$")
    path = results / f"{NAME}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(results.rglob("*")):
            name = file.relative_to(results).as_posix()
            if file.is_file() and not left_out.search(name):
                archive.add(file, f"{NAME}/{name}")
    return path


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"{NAME}.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together (default 8)")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / NAME, help="folder (default build/gpu_check)")
    wheels = os.environ.get("WHEELS")
    parser.add_argument(
        "--wheels", type=Path, default=wheels and Path(wheels), help="folder of wheels to install (default: $WHEELS)"
    )
    parser.add_argument("--data", type=Path, help="learning: folder with train.h5 and test.h5 (default: made here)")
    parser.add_argument("--recipe", default="sudoku_fast", help="learning: name or file (default sudoku_fast)")
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), help="parts to run")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    args = parser.parse_args(arguments)
    if not 0 < args.minutes < 24 * 60:
        parser.error(f"--minutes {args.minutes:g}: give more than 0")
    if args.wheels is not None and not list(args.wheels.glob("*.whl")):
        parser.error(f"--wheels {args.wheels}: there is no such folder, or no .whl file in it")
    for name in ("train.h5", "test.h5") if args.data is not None else ():
        if not (args.data / name).is_file():
            parser.error(f"--data {args.data}: there is no such folder, or no {name} in it")
    return args


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the table is written all the same
    sys.exit(main())
