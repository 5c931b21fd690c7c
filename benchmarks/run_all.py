"""Runs the benchmarks that have targets, one after the other, and prints the table: target, measured, met or not.

    python benchmarks/run_all.py             what `make bench` runs: under 10 minutes on 2 cores
    python benchmarks/run_all.py --quick     shows that all of them run, in two minutes
    python benchmarks/run_all.py --only training_speed optimizer_speed

Each runs in a process of its own and leaves its result file; the table goes to targets.md beside them. Let the machine
be idle meanwhile. (scaling.py, which has no target, is run by itself.)
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import FEW_FACTS, RESULTS, Target, machine_line, target_table

HERE = Path(__file__).parent
BENCHMARKS = ("training_speed", "solving_speed", "optimizer_speed", "building_speed", "loader_throughput")


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        results = args.results or (Path(scratch) if args.quick else RESULTS)
        for name in args.only:
            print(f"\n== {name}", flush=True)
            began = time.perf_counter()
            run(name, args, results)
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        records = [json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for name in args.only]
        text = report(records)
        if set(args.only) == set(BENCHMARKS):  # the table is whole
            (results / "targets.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nall in {(time.perf_counter() - started) / 60:.1f} minutes")


def run(name: str, args: argparse.Namespace, results: Path) -> None:
    """One benchmark; ends everything with a message where it fails."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--results", str(results)]
    command += ["--quick"] if args.quick else []
    command += ["--threads", str(args.threads)] if args.threads else []
    if subprocess.run(command).returncode:
        raise SystemExit(f"{name} failed")


def report(records: list[dict[str, Any]]) -> str:
    """The table of targets under date and machine."""
    targets = [Target(**target) for record in records for target in record["targets"]]
    described = machine_line(FEW_FACTS, records[0]["machine"])
    return f"{records[0]['date']}, {described}\n\n{target_table(targets)}\n"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes results only with --results")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--threads", type=int, help="threads of PyTorch on a CPU (default: all usable cores)")
    parser.add_argument("--results", type=Path, help="folder for the result files (default: results/)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
