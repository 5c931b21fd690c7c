"""gpu_check.sh: all its parts run in quick form; one that fails, hangs or lacks something stops no other."""

import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gpu_check
import pytest
import timed_learning
from paths import ROOT

FACTS = {"python": "3.12.3", "versions": {"torch": "2.11.0"}, "missing": [], "gpu": "NVIDIA H100"}
LEARNED = {"exact_accuracy": 0.5, "count": 300.0, "steps": 1200, "step_ms": 20.0}


def python(code: str):
    """A part that runs this code instead; RESULTS in it stands for the folder."""
    return lambda args, results, facts: ["-c", code.replace("RESULTS", str(results))]


@pytest.fixture
def short(monkeypatch):
    """Parts are short: their limit is what is left, and no time is kept for their end."""
    monkeypatch.setattr(gpu_check, "SHARES", {"tests": 0.4, "training": 0.4, "solving": 0.4})
    for name in ("LEAST_SECONDS", "SECONDS_TO_PACK", "SECONDS_TO_IMPORT"):
        monkeypatch.setattr(gpu_check, name, 0.0)
    monkeypatch.setattr(gpu_check, "SECONDS_TO_END", 0.2)
    monkeypatch.setattr(gpu_check, "probe", lambda environment: FACTS)


def parts_of(results: Path) -> dict[str, dict]:
    return {part["name"]: part for part in json.loads((results / "gpu_check.json").read_text())["parts"]}


def test_all_parts_in_quick_form(tmp_path):
    results = tmp_path / "out"
    data = timed_learning.make_data(tmp_path / "data", SimpleNamespace(quick=True, seed=0))
    shutil.copy(data / "test.h5", data / "valid.h5")
    command = ["bash", str(ROOT / "benchmarks" / "gpu_check.sh"), "--quick", "--results", "out", "--data", str(data)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**gpu_check.os.environ, "PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = parts_of(results)
    assert list(parts) == ["tests", "training", "solving", "learning"]
    assert {name: part["state"] for name, part in parts.items() if name != "tests"} == dict.fromkeys(
        ["training", "solving", "learning"], "ok"
    ), parts
    # on a machine with a GPU its tests have run
    assert (parts["tests"]["state"], parts["tests"]["why"]) in [("skipped", "no GPU here"), ("ok", "")]
    assert "tiny-trm halt-only" in parts["training"]["figure"] and "steps/s" in parts["training"]["figure"]
    assert "puzzles/s at batch 4" in parts["solving"]["figure"]
    assert "of 20 puzzles exact after 6 steps" in parts["learning"]["figure"]
    assert f"| learning | {parts['learning']['seconds']:.0f} | ok |" in done.stdout

    cases = json.loads((results / "training_speed.json").read_text())["cases"]
    assert all({"products", "idle"} < case["profile"]["families"].keys() for case in cases)
    assert "| products |" in (results / "training_speed.md").read_text()
    (queue,) = json.loads((results / "solving_speed.json").read_text())["queue"]
    assert 1 < queue["mean_segments"] < 16
    minutes, exact = zip(*json.loads((results / "timed_learning.json").read_text())["exact_over_minutes"], strict=True)
    assert len(minutes) == 6 and minutes == tuple(sorted(minutes)) and all(0 <= share <= 1 for share in exact)
    with tarfile.open(results / "gpu_check.tar.gz") as archive:
        names = archive.getnames()
    for name in ("gpu_check.md", "logs/solving.log", "learning/run/checkpoint-final/model.safetensors"):
        assert f"gpu_check/{name}" in names
    assert not [name for name in names if "state-" in name or name.endswith(".h5")]


def test_a_part_that_fails_or_hangs_stops_no_other(tmp_path, monkeypatch, capsys, short):
    parts = {
        "tests": python("print('3 failed, 8 passed in 4.21s'); raise SystemExit(1)"),
        "training": python("import time; print('begun', flush=True); time.sleep(60)"),
        "solving": python("raise RuntimeError('no kernel image is available')"),
        "learning": python(f"open('RESULTS/timed_learning.json', 'w').write({json.dumps(LEARNED)!r})"),
    }
    monkeypatch.setattr(gpu_check, "COMMANDS", parts)
    assert gpu_check.main(["--minutes", "0.1", "--results", str(tmp_path / "out")]) == 1
    found = parts_of(tmp_path / "out")
    assert {name: part["state"] for name, part in found.items()} == {
        "tests": "failed",
        "training": "failed",
        "solving": "failed",
        "learning": "ok",
    }
    assert found["tests"]["figure"] == "3 failed, 8 passed"
    assert found["training"]["why"].startswith("stopped after") and found["training"]["seconds"] < 5
    assert found["solving"]["why"] == "exit code 1: RuntimeError: no kernel image is available"
    assert found["learning"]["figure"] == "50.0 % of 300 puzzles exact after 1,200 steps of 20 ms"
    said = capsys.readouterr().out
    assert "| solving | 0 | failed: exit code 1: RuntimeError: no kernel image is available | - |" in said


def test_what_a_part_started_may_end_in_order(tmp_path):
    ready, done = tmp_path / "ready", tmp_path / "done"
    inner = f"trap 'sleep 0.3; touch {done}; exit' TERM; touch {ready}; while :; do sleep 0.02; done"
    child = subprocess.Popen(["sh", "-c", '(eval "$0") & wait', inner], start_new_session=True)
    while not ready.exists():
        time.sleep(0.01)
    gpu_check.end_group(child)
    assert done.exists()


def test_what_is_missing_is_named_and_the_rest_runs(tmp_path, monkeypatch, short):
    monkeypatch.setattr(gpu_check, "COMMANDS", dict.fromkeys(gpu_check.COMMANDS, python("pass")))
    monkeypatch.setattr(gpu_check, "probe", lambda environment: FACTS | {"missing": ["pytest", "hypothesis"]})
    assert gpu_check.main(["--minutes", "1", "--results", str(tmp_path / "out"), "--only", "tests", "training"]) == 0
    found = {name: (part["state"], part["why"]) for name, part in parts_of(tmp_path / "out").items()}
    assert found == {
        "tests": ("skipped", "missing: pytest (--wheels takes a folder with them)"),
        "training": ("ok", ""),
        "solving": ("skipped", "not asked for"),
        "learning": ("skipped", "not asked for"),
    }
    monkeypatch.setattr(gpu_check, "probe", lambda environment: FACTS | {"missing": ["datasets"]})
    assert gpu_check.main(["--minutes", "1", "--results", str(tmp_path / "out")]) == 0
    assert {part["why"] for part in parts_of(tmp_path / "out").values()} == {
        "missing: datasets (--wheels takes a folder with them)"
    }


@pytest.mark.parametrize("gpu, ran", [("NVIDIA H100", ("ok", "")), (None, ("skipped", "no GPU here"))])
def test_the_gpu_tests_do_without_hypothesis(tmp_path, monkeypatch, short, gpu, ran):
    facts = FACTS | {"missing": ["hypothesis"], "gpu": gpu}
    assert "--noconftest" in gpu_check.tests(None, tmp_path, facts)
    monkeypatch.setattr(gpu_check, "COMMANDS", {**gpu_check.COMMANDS, "tests": python("print('9 passed in 3.1s')")})
    monkeypatch.setattr(gpu_check, "probe", lambda environment: facts)
    assert gpu_check.main(["--minutes", "1", "--results", str(tmp_path / "out"), "--only", "tests"]) == 0
    part = parts_of(tmp_path / "out")["tests"]
    assert (part["state"], part["why"]) == ran


def test_wheels_of_a_folder_come_first(tmp_path):
    wheels, results = tmp_path / "wheels", tmp_path / "out"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "made_up-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_up.py", "")
        info = "made_up-1.5.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.5\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    args = gpu_check.parse_arguments(["--wheels", str(wheels), "--results", str(results)])
    environment = gpu_check.environment_of(args, results)
    code = "import importlib.metadata, made_up; print(importlib.metadata.version('made-up'), made_up.__file__)"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout
    assert said.split() == ["1.5", str(results / "site" / "made_up.py")]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--wheels", "{here}"], "there is no such folder, or no .whl file in it"),
        (["--data", "{here}"], "there is no such folder, or no train.h5 in it"),
        (["--minutes", "0"], "give more than 0"),
    ],
)
def test_refuses_what_it_cannot_use(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit):
        gpu_check.main([word.format(here=tmp_path) for word in words])
    assert said in capsys.readouterr().err


def test_a_folder_of_other_files_is_not_emptied(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(SystemExit, match="it holds other files"):
        gpu_check.main(["--results", str(tmp_path)])
    assert (tmp_path / "mine").read_text() == "kept"
