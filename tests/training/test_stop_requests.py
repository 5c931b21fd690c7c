"""SIGINT and SIGTERM: the step is finished and saved; twice leaves at once; all processes stop at the same step."""

import json
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import warm_processes
from paths import FIXTURES, ROOT

from hrm_hf.commands.command import run_as_command
from hrm_hf.training.states import read_json_tree
from hrm_hf.training.stop_requests import StoppedBySignal, StopRequests

ALONE = SimpleNamespace(num_processes=1, is_main_process=True)
INT, TERM = signal.SIGINT, signal.SIGTERM


def where() -> str:
    return "at step 3"


def send(*signals: signal.Signals) -> None:
    for each in signals:
        os.kill(os.getpid(), each)


@pytest.mark.parametrize(("signals", "code"), [((INT,), 130), ((TERM,), 143), ((TERM, TERM, TERM), 143)])
def test_the_first_signal_asks(signals, code, capfd):
    before = [signal.getsignal(each) for each in (INT, TERM)]
    wakeup = signal.set_wakeup_fd(-1)
    with pytest.raises(StoppedBySignal, match=f"stopped by {signals[0].name}") as caught:  # noqa: SIM117
        with StopRequests(ALONE, where) as stop:
            stop.check()
            send(*signals)
            stop.check()
            raise AssertionError("the signals did nothing")
    assert caught.value.signal is signals[0] and caught.value.exit_code == code
    said = capfd.readouterr().err.split("\n")
    assert said == ["", f"{signals[0].name}: finishing this step and saving; press Ctrl-C again (or kill -INT "
                    f"{os.getpid()}) to leave at once", ""]  # fmt: skip
    assert [signal.getsignal(each) for each in (INT, TERM)] == before
    assert signal.set_wakeup_fd(wakeup) == -1


@pytest.mark.parametrize("signals", [(INT, INT), (TERM, INT), (INT, TERM), (TERM, TERM, INT)])
def test_a_second_ctrl_c_leaves_at_once(signals):
    with pytest.raises(KeyboardInterrupt) as caught, StopRequests(ALONE, where):
        send(*signals)
        raise AssertionError("the signals did nothing")
    assert not isinstance(caught.value, StoppedBySignal)


def test_a_request_after_the_last_step_is_not_lost():
    with pytest.raises(StoppedBySignal), StopRequests(ALONE, where):
        send(TERM)
    with pytest.raises(ValueError, match="own"), StopRequests(ALONE, where):
        send(TERM)
        raise ValueError("own")
    with StopRequests(ALONE, where) as stop:
        stop.check()


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(INT), []

    def run():
        with StopRequests(ALONE, where):
            seen.append(signal.getsignal(INT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(("error", "code"), [(StoppedBySignal(TERM), 143), (StoppedBySignal(INT), 130)])
def test_exit_codes_of_commands(error, code):
    def main(words):
        raise error

    assert run_as_command(main, []) == code


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    runs = ["one:2:0:SIGINT:1", "all:2:0:SIGTERM:0", "stuck:2:0:stuck:1", "launched:2:1:SIGTERM:0"]
    runs.append("evaluation:2:0:SIGTERM in evaluation:1")
    command = [FIXTURES / "process_faults.py", folder, *runs]
    done = warm_processes.run(command, os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ended(run: Path) -> dict[str, int | str]:
    return json.loads((run / "ended.json").read_text())


def said(run: Path) -> str:
    assert "Traceback" not in (run / "1.err").read_text()
    return (run / "0.err").read_text()


def test_a_signal_to_one_process_stops_all_at_the_same_step(runs):
    run = runs / "one"
    assert ended(run) == {"0": 130, "1": 130}
    # the signal came in step 3, the vote after it is read one step later
    assert (run / "0.step").read_text() == (run / "1.step").read_text() == "4"
    assert (run / "run" / "checkpoint-4" / "model.safetensors").is_file()
    assert "SIGINT at another process: saving" in said(run)


@pytest.mark.parametrize("name", ["all", "launched"])
def test_sigterm_to_all_processes(runs, name):
    run = runs / name
    if name == "all":
        assert ended(run) == {"0": 143, "1": 143}
    else:
        assert ended(run)["launcher"] not in (0, "hangs")
    assert (run / "0.step").read_text() == (run / "1.step").read_text() == "4"
    assert (run / "run" / "checkpoint-4" / "model.safetensors").is_file()
    assert "SIGTERM: finishing this step and saving" in said(run)


def test_a_signal_to_one_process_breaks_off_the_evaluation_of_all(runs):
    run = runs / "evaluation"
    assert ended(run) == {"0": 143, "1": 143}
    assert (run / "0.step").read_text() == (run / "1.step").read_text() == "2"
    assert "SIGTERM at another process: saving" in said(run)
    assert "stopped by SIGTERM at step 2. The last saved state is that of step 2: to resume from it" in said(run)
    shared = read_json_tree(run / "run" / "state-00000002", "state")
    assert shared["due"] == {"evaluate": True, "export": False} and shared["scores"] == {}


def test_two_signals_end_a_process_that_is_stuck_outside_python(runs):
    assert ended(runs / "stuck") == {"0": 130, "1": 2}  # 1 is ended by the loss of 0
