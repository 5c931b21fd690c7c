"""Runs that are killed and go on end like unbroken ones: the proof of benchmarks/kill_and_resume.py, in small."""

import os
import shutil
from pathlib import Path

import pytest
import warm_processes
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def proof(tmp_path_factory) -> tuple[Path, str]:
    """Four kills; the folder with the runs and what was said. In a process of its own: the script forks."""
    folder = tmp_path_factory.mktemp("proof") / "runs"
    command = [BENCHMARKS / "kill_and_resume.py", "--processes", "1", "2", "--kills", "3", "1"]
    command += ["--steps", "42", "--seed", "1", "--folder", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    done = warm_processes.run(command, environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder, done.stdout


def test_killed_runs_end_like_unbroken_ones(proof):
    said = proof[1]
    assert "kills by SIGKILL: 3\n" in said and "kills by SIGKILL: 1\n" in said
    assert said.count("saved states are those of the unbroken runs, bit for bit") == 2


def test_the_proof_sees_every_difference(proof, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from kill_and_resume import compare, compare_states

    killed, unbroken = (proof[0] / f"1-process-seed-1-{name}" for name in ("killed", "unbroken"))
    assert compare(killed, unbroken)[1] == []
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    weights = run / "checkpoint-final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace('"step": 35,', '"step": 36,', 1))
    shutil.rmtree(run / "checkpoint-35")
    shutil.rmtree(run / "state-00000042")
    found = "\n".join(compare(run, unbroken)[1])
    assert "the weights of checkpoint-final" in found and "metrics.jsonl, line" in found
    assert "checkpoint-35 is in 1-process-seed-1-unbroken only" in found
    assert "the last state is state-00000035, not state-00000042" in found
    found = compare_states(run / "state-00000035", unbroken / "state-00000042")
    names = {"the tensors of state.safetensors", "step of state", "batches of process-00000-of-00001"}
    assert names <= set(found)
