"""What a run survives, and what stops it before damage is saved: full disks, read-only folders, NaN, lost trackers."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from paths import FIXTURES, ROOT
from tiny_models import tiny_model
from training_parts import Rows, arguments, batch

from hrm_hf import ArgumentError, HrmForPuzzleSolving
from hrm_hf.training import HrmTrainer, RunFolder, make_accelerator
from hrm_hf.training.finite_watch import NonFiniteError
from hrm_hf.training.resuming import save_state
from hrm_hf.training.states import newest_state, read_tree
from hrm_hf.training.stop_requests import StoppedBySignal
from hrm_hf.training.trackers import Trackers


def in_a_child(action: Callable[[], None]) -> None:
    """Runs the action in a forked process, whose limits and user are its own; fails if it raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def settings(run: Path, **changes) -> dict:
    return {"output_dir": str(run), "max_steps": 6, "logging_steps": 1, "state_steps": 1, "state_limit": 9} | changes


def unwritable(folder: Path) -> None:
    """Makes a folder read-only; in a child, for root is not held back by that and becomes somebody else."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.setuid(65534)


class Planted(HrmTrainer):
    """Spoils something in step 4."""

    spoil = None

    def training_step(self, offered, draws=None):
        if self.step == 3 and self.spoil == "weight":
            self.model.model.H_level.layers[0].mlp.down_proj.weight.data[1, 2] = float("inf")
        sums = super().training_step(offered, draws)
        if self.step == 3 and self.spoil == "gradient":
            self.model.model.L_level.layers[0].self_attn.o_proj.weight.grad[0, 0] = float("nan")
        if self.step == 3 and self.spoil == "table":
            self.model.model.puzzle_embeddings.weight.grad._values()[0, 0] = float("inf")
        return sums

    def _segment(self, slots, offered, min_steps):
        losses, slots, sums = super()._segment(slots, offered, min_steps)
        if self.step == 3 and self.spoil == "loss":
            losses = losses.clone()
            losses[2] = float("nan")
            sums["lm_loss"] = sums["lm_loss"] + float("nan")
        return losses, slots, sums


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("gradient", "step 4: the gradient of model.L_level.layers.0.self_attn.o_proj.weight holds NaN or infinity"),
        ("table", "step 4: the gradient of model.puzzle_embeddings.weight holds NaN or infinity"),
        ("weight", "step 4: the weight model.H_level.layers.0.mlp.down_proj.weight holds NaN or infinity"),
        ("loss", r"step 4: the loss of row 2 \(puzzle identifier 0\) is nan"),
    ],
)
def test_nan_stops_the_run_before_it_is_saved(tmp_path, spoil, message, capsys):
    trainer = Planted(tiny_model(), arguments(**settings(tmp_path / "run")), [batch(0)])
    trainer.spoil = spoil
    with pytest.raises(NonFiniteError, match=message) as stopped:
        trainer.train()
    assert (
        f"The last saved state is that of step 3: to resume from it, repeat the command with --resume {tmp_path}"
        in str(stopped.value)
    )
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    state, passed_over = newest_state(tmp_path / "run")
    assert state.name == "state-00000003" and passed_over == []
    assert all(tensor.isfinite().all() for tensor in read_tree(state, "state")["model"].values())


def test_a_rate_that_is_too_high_is_named(tmp_path):
    args = arguments(**settings(tmp_path / "run", max_steps=20, learning_rate=1e18))
    with pytest.raises(NonFiniteError, match=r"step \d+: .*a lower learning_rate than 1e\+18 may help"):
        HrmTrainer(tiny_model(), args, [batch(0)]).train()
    assert not (tmp_path / "run" / "checkpoint-final").exists()


def test_on_other_devices_the_first_bad_step_is_found_when_something_is_saved(tmp_path):
    trainer = Planted(
        tiny_model(), arguments(**settings(tmp_path / "run", state_steps=3, logging_steps=9, save_steps=5)), [batch(0)]
    )
    trainer.spoil, trainer.finite.device = "gradient", torch.device("meta")  # as if the device had to be waited for
    with pytest.raises(NonFiniteError, match="step 4: a loss or gradient is NaN or infinite; weights with it since: "):
        trainer.train()
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert newest_state(tmp_path / "run")[0].name == "state-00000003"


def test_a_full_disk_is_reported_and_the_run_goes_on(tmp_path, capfd, monkeypatch):
    run = tmp_path / "run"

    def save_without_room(accelerator, run_dir, step, *rest):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if step in (2, 3, 4):
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            return save_state(accelerator, run_dir, step, *rest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr("hrm_hf.training.trainer.save_state", save_without_room)
    args = arguments(**settings(run, eval_steps=3))
    in_a_child(lambda: HrmTrainer(tiny_model(), args, [batch(0)], eval_dataset=Rows()).train())
    assert {path.name for path in run.glob("*state-*")} == {f"state-0000000{step}" for step in (0, 1, 5, 6)}
    said = capfd.readouterr().err
    for step in (2, 3, 4):
        assert f"the state of step {step} could not be saved" in said
    assert "File too large" in said and "The last saved state is that of step 1" in said
    assert HrmForPuzzleSolving.from_pretrained(run / "checkpoint-final").config.hidden_size > 0
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 6


DISK_FULL_SCRIPT = """
import sys, torch
from tiny_models import tiny_model
from training_parts import Rows, arguments, batch
from hrm_hf.training import HrmTrainer
run = sys.argv[1]
def batches():
    for step in range(20):
        if step == 2:  # no room from here on
            try:
                with open(run + "/filler", "wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            except OSError as error:
                print("filled:", error)
        yield batch(step)
args = arguments(output_dir=run, max_steps=5, state_steps=1, logging_steps=1, save_steps=1)
HrmTrainer(tiny_model(), args, batches(), eval_dataset=Rows()).train()
"""


def test_a_disk_that_is_really_full(tmp_path):
    (tmp_path / "run").mkdir()
    mount = f"mount -t tmpfs -o size=8m tmpfs {tmp_path}/run && exec '{sys.executable}' -c \"$0\" {tmp_path}/run"
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*own_mounts, mount.split("&&")[0]], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounts of one's own here")
    path = os.pathsep.join([str(FIXTURES), str(ROOT)])
    done = subprocess.run(
        [*own_mounts, mount, DISK_FULL_SCRIPT], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "filled: [Errno 28] No space left on device" in done.stdout, done.stderr
    for step in (3, 4, 5):
        assert f"the state of step {step} could not be saved: " in done.stderr
    assert "checkpoint-4 could not be written" in done.stderr and done.returncode == 1
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "The last saved state is that of step 2" in done.stderr.splitlines()[-1]


def test_a_reader_that_is_gone_ends_no_run(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        monkeypatch.setattr(sys, "stdout", gone)

        def batches():
            yield batch(0)
            os.kill(os.getpid(), signal.SIGHUP)
            yield batch(1)

        trainer = HrmTrainer(
            tiny_model(), arguments(**settings(tmp_path / "run", eval_steps=1)), batches(), eval_dataset=Rows()
        )
        with pytest.raises(StoppedBySignal) as stopped:
            trainer.train()
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            gone.close()
    assert stopped.value.exit_code == 129 and newest_state(tmp_path / "run")[0].name == "state-00000002"


def test_log_lines_that_find_no_room_are_written_later(tmp_path):
    def log() -> None:
        folder = RunFolder(tmp_path)
        folder.log({"step": 1, "a": 1.0})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "metrics.jsonl").stat().st_size + 10, limits[1]))
        for step in (2, 3):
            with pytest.raises(OSError, match="no room for another line|File too large"):
                folder.log({"step": step, "a": 1.0})
            assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1  # no half line
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        folder.log({"step": 4, "a": 1.0})

    in_a_child(log)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_a_folder_that_becomes_read_only_stops_nothing_but_the_last_export(tmp_path, capfd):
    run = tmp_path / "run"

    def train() -> None:
        for path in (tmp_path, *tmp_path.parents):
            if path.stat().st_uid == os.getuid() and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o755)
        os.chdir(tmp_path)

        def batches():
            yield batch(0)
            yield batch(1)
            unwritable(run)
            yield batch(2)
            yield batch(3)

        trainer = HrmTrainer(tiny_model(), arguments(**settings(run, max_steps=4, save_steps=3)), batches())
        with pytest.raises(OSError, match="checkpoint-final|Permission denied"):
            trainer.train()
        assert trainer.step == 4

    in_a_child(train)
    run.chmod(0o755)
    said = capfd.readouterr().err
    assert "the state of step 3 could not be saved" in said and "checkpoint-3 could not be written" in said
    assert newest_state(run)[0].name == "state-00000002"


def test_a_read_only_folder_is_refused_before_the_first_step(tmp_path):
    def train() -> None:
        tmp_path.chmod(0o755)
        unwritable(tmp_path)
        with pytest.raises(OSError, match="Permission denied"):
            HrmTrainer(tiny_model(), arguments(**settings(tmp_path / "run")), [batch(0)])

    in_a_child(train)
    tmp_path.chmod(0o755)


class Broken(GeneralTracker):
    """A tracker that fails at its second line."""

    name = "broken"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    @property
    def tracker(self):
        return self

    def log(self, values, step=None, **kwargs):
        self.steps.append(step)
        if len(self.steps) == 2:
            raise ConnectionError("the server is gone")

    def finish(self):
        raise ConnectionError("still gone")


class Whole(Broken):
    """One that works until it is ended."""

    name = "whole"

    def log(self, values, step=None, **kwargs):
        self.steps.append(step)


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, capsys):
    broken, whole = Broken(), Whole()
    accelerator = Accelerator(cpu=True, log_with=[broken, whole])
    args = arguments(**settings(tmp_path / "run", report_to=["tensorboard"]))
    trainer = HrmTrainer(tiny_model(), args, [batch(0)], accelerator)
    trainer.train()
    assert broken.steps == [1, 2] and whole.steps == [1, 2, 3, 4, 5, 6]
    trainer.close()
    accelerator.end_training()
    said = capsys.readouterr().err
    assert said.count("the tracker broken failed (ConnectionError: the server is gone)") == 1
    assert said.count("the tracker whole failed (ConnectionError: still gone)") == 1
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6


def test_a_tracker_that_does_not_start_is_named():
    class NeverStarts(Whole):
        name = "never"

        def start(self):
            raise ConnectionError("no route")

    with pytest.raises(ArgumentError, match="report_to: a tracker of .*never.* cannot be started: no route"):
        Trackers(Accelerator(cpu=True, log_with=[NeverStarts()]), {}, "0" * 32)


def test_a_tracked_run_goes_on_under_its_name(tmp_path, monkeypatch):
    ids = []

    class Recorded(Trackers):
        def __init__(self, accelerator, settings, run_id):
            ids.append(run_id)
            super().__init__(accelerator, settings, run_id)

    monkeypatch.setattr("hrm_hf.training.trainer.Trackers", Recorded)
    for changes in (
        {"max_steps": 3},
        {"max_steps": 6, "resume": "auto"},
        {"output_dir": str(tmp_path / "b")},
    ):
        args = arguments(**settings(tmp_path / "a", report_to=["tensorboard"]) | changes)
        accelerator = make_accelerator(args, args.output_dir)
        trainer = HrmTrainer(tiny_model(), args, [batch(0)], accelerator)
        trainer.train()
        trainer.close()
        accelerator.end_training()
    assert ids[0] == ids[1] != ids[2] and len(ids[0]) == 32
