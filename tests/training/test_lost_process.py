"""A process that dies or fails ends the others, by themselves, with one line; with torchrun's agent and without."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from paths import FIXTURES, ROOT

from hrm_hf import HrmError
from hrm_hf.hrm.errors import ProcessLostError
from hrm_hf.training import lost_process
from hrm_hf.training.lost_process import Loss, _last_words, _Watch, naming_lost_processes

RUNS = {  # NAME:PROCESSES:LAUNCHED:FAULT:VICTIM
    "table": "table:3:0:table:1",
    "backward": "backward:2:0:backward:0",
    "evaluation": "evaluation:2:0:evaluation:1",
    "export": "export:2:0:export:0",
    "broadcast": "broadcast:2:0:broadcast:0",
    "alone": "alone:2:0:alone:1",
    "data": "data:2:0:data:1",
    "data of all": "data of all:2:0:data of all:0",
    "launched": "launched:2:1:table:1",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, str(FIXTURES / "process_faults.py"), str(folder), *RUNS.values()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ended(run: Path) -> dict[str, int | str]:
    """Exit codes by rank. 1 instead of 2: the interpreter took too long to end, and was ended."""
    codes = json.loads((run / "ended.json").read_text())
    return {rank: 2 if code == 1 else code for rank, code in codes.items()}


def errors(run: Path, rank: int) -> list[str]:
    lines = (run / f"{rank}.err").read_text().replace("\r", "\n").splitlines()
    return [line for line in lines if line.startswith("error:") or "Traceback" in line]


@pytest.mark.parametrize("name", ["table", "backward", "evaluation", "export", "broadcast", "alone"])
def test_a_killed_process_ends_the_others(runs, name):
    _, processes, _, _, lost = RUNS[name].split(":")
    lost, last = int(lost), int(processes) - 1
    survivors = [rank for rank in range(int(processes)) if rank != lost]
    assert ended(runs / name) == {str(lost): -9} | {str(rank): 2 for rank in survivors}
    where = {"broadcast": "before step 1", "export": "at step 3"}.get(name, "at step 2")
    (line,) = errors(runs / name, survivors[0])
    assert line.startswith(
        f"error: process {lost} (of 0 to {last}) was killed, perhaps for want of memory, or crashed {where}"
    )
    assert all(errors(runs / name, rank) == [] for rank in survivors[1:])


def test_an_error_of_one_process_is_what_the_main_process_says(runs):
    assert ended(runs / "data") == {"0": 2, "1": 2}
    (line,) = errors(runs / "data", 0)
    assert line.startswith("error: row 17 of this file is bad. This ended process 1 (of 0 to 1) at step 2")
    assert errors(runs / "data", 1) == []


def test_an_error_of_all_processes_is_said_once(runs):
    assert ended(runs / "data of all") == {"0": 2, "1": 2}
    assert errors(runs / "data of all", 0) == ["error: row 17 of this file is bad"]
    assert errors(runs / "data of all", 1) == []


def test_a_killed_process_under_a_launcher(runs):
    assert ended(runs / "launched")["launcher"] not in (0, "hangs")
    assert errors(runs / "launched", 0)[0].startswith("error: process 1 (of 0 to 1) was killed")


def test_last_words():
    assert _last_words(b"null", 3) is None
    assert _last_words(b'[2, "why"]', 3) == Loss(2, "why")
    for broken in (b"", b"[2", b"[]", b"7", b'["x", 1]', b"\xff"):
        assert _last_words(broken, 3) == Loss(3, "")


def test_one_process_watches_nobody():
    alone = SimpleNamespace(num_processes=1)
    with pytest.raises(HrmError, match="own"), naming_lost_processes(alone, lambda: ""):
        raise HrmError("own")
    with pytest.raises(RuntimeError, match="own"), naming_lost_processes(alone, lambda: ""):
        raise RuntimeError("own")
    assert issubclass(ProcessLostError, HrmError)


def test_strangers_are_not_taken_for_processes():
    watch = object.__new__(_Watch)
    watch.world = 3
    key = "k" * 32

    def call(words: str) -> socket.socket:
        peer = socket.create_connection(server.getsockname())
        peer.sendall(words.encode())
        return peer

    with socket.create_server(("127.0.0.1", 0)) as server:
        peers = [call("GET / HTTP/1.1"), call("x" * 32 + f"{1:8}"), call(f"{key}{2:9}"), call(f"{key}{1:9}")]
        for peer in peers[:2]:
            peer.shutdown(socket.SHUT_WR)
        accepted = watch._accept(server, key)
    assert sorted(accepted.values()) == [1, 2]
    for peer in [*peers, *accepted]:
        peer.close()


def test_who_does_not_connect_is_named(monkeypatch, capsys):
    monkeypatch.setattr(lost_process, "SECONDS_TO_CONNECT", 0.01)
    watch = object.__new__(_Watch)
    watch.world = 3
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert watch._accept(server, "key") == {}
    assert "cannot watch the processes [1, 2]" in capsys.readouterr().err
