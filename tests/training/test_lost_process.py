"""A process that dies or fails ends the others, with one line; with torchrun's agent and without."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import warm_processes
from paths import FIXTURES, ROOT

from hrm_hf import HrmError
from hrm_hf.training.processes import ProcessLostError, naming_lost_processes

RUNS = {  # NAME:PROCESSES:LAUNCHED:FAULT:VICTIM
    "table": "table:3:0:table:1",
    "backward": "backward:2:0:backward:0",
    "evaluation": "evaluation:2:0:evaluation:1",
    "joining": "joining:2:0:joining:1",
    "export": "export:2:0:export:0",
    "broadcast": "broadcast:2:0:broadcast:0",
    "data of 0": "data of 0:2:0:data:0",
    "data of 1": "data of 1:2:0:data:1",
    "data of all": "data of all:2:0:data of all:0",
    "launched": "launched:2:1:table:1",
    "launched evaluation": "launched evaluation:2:1:evaluation:0",
    "alone": "alone:2:1:alone:1",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command = [FIXTURES / "process_faults.py", folder, *RUNS.values()]
    done = warm_processes.run(command, os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ended(run: Path) -> dict[str, int | str]:
    """Exit codes by rank."""
    return json.loads((run / "ended.json").read_text())


def errors(run: Path, rank: int) -> list[str]:
    lines = (run / f"{rank}.err").read_text().replace("\r", "\n").splitlines()
    return [line for line in lines if line.startswith("error:") or "Traceback" in line]


@pytest.mark.parametrize("name", ["table", "backward", "evaluation", "joining", "export", "broadcast"])
def test_a_killed_process_ends_the_others(runs, name):
    _, processes, _, _, lost = RUNS[name].split(":")
    survivors = [rank for rank in range(int(processes)) if rank != int(lost)]
    assert ended(runs / name) == {lost: -9} | {str(rank): 2 for rank in survivors}
    where = {"broadcast": "before step 1", "export": "at step 3"}.get(name, "at step 2")
    (line,) = errors(runs / name, survivors[0])
    assert line.startswith(f"error: another process of the run was killed or has failed {where}")
    assert name == "broadcast" or "to resume from it, repeat the command with --resume" in line
    assert all(errors(runs / name, rank) == [] for rank in survivors[1:])


def test_an_error_of_one_process_ends_the_others(runs):
    for victim, other in ((0, 1), (1, 0)):
        run = runs / f"data of {victim}"
        assert ended(run) == {"0": 2, "1": 2}
        who = "process 1: " if victim == 1 else ""
        assert errors(run, victim) == [f"error: {who}row 17 of this file is bad"]
        (line,) = errors(run, other)
        assert line.startswith("error: another process of the run was killed or has failed at step 2. The last saved")


def test_an_error_of_all_processes_is_said_once(runs):
    assert ended(runs / "data of all") == {"0": 2, "1": 2}
    assert errors(runs / "data of all", 0) == ["error: row 17 of this file is bad"]
    assert errors(runs / "data of all", 1) == []


@pytest.mark.parametrize(("name", "speaker"), [("launched", 0), ("launched evaluation", 1)])
def test_a_killed_process_under_a_launcher(runs, name, speaker):
    assert ended(runs / name)["launcher"] not in (0, "hangs")
    (line,) = errors(runs / name, speaker)
    assert line.startswith(
        "error: another process of the run was killed or has failed at step 2. The last saved state"
    )


def test_a_process_that_waits_for_nobody_is_ended_by_the_launcher(runs):
    assert ended(runs / "alone")["launcher"] not in (0, "hangs")
    said = (runs / "alone" / "0.err").read_text()
    assert "still not stopped: was another process lost, the launcher ends this one at step 2. The last saved" in said


def test_one_process_watches_nobody():
    alone = SimpleNamespace(num_processes=1)
    with pytest.raises(HrmError, match="own"), naming_lost_processes(alone, lambda: ""):
        raise HrmError("own")
    with pytest.raises(RuntimeError, match="own"), naming_lost_processes(alone, lambda: ""):
        raise RuntimeError("own")
    assert issubclass(ProcessLostError, HrmError)
