"""The benchmarks' own arithmetic: turns, medians, targets, result files, operation counts; and that they run."""

import importlib
import json
import os
import platform
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import side_by_side  # noqa: E402
import torch
import warm_processes
from paths import ROOT
from plain_twin import PlainHrm, PlainTraining, plain_solve  # noqa: E402
from side_by_side import Comparison, Spread, Target, compare, target_table, write_result  # noqa: E402
from step_flops import (  # noqa: E402
    block_flops,
    first_position_flops,
    logits_flops,
    matmul_peak,
    segment_flops,
    solving_flops,
    training_step_flops,
)
from subjects import config_of, fast_trainer, made_up_batches, whole_step  # noqa: E402
from sudoku_grids import ANSWER, QUESTION  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hrm_hf.training import seeded_model  # noqa: E402

COMMANDS = [
    "building_speed",
    "learning_speed",
    "loader_throughput",
    "optimizer_speed",
    "run_all",
    "scaling",
    "solving_speed",
    "training_speed",
]


@pytest.fixture
def taken(monkeypatch):
    """Calls are not timed: each takes as many seconds as it returns. The list says in which order they came."""
    order = []

    def pretend(work):
        name, seconds = work()
        order.append(name)
        return seconds

    monkeypatch.setattr(side_by_side, "seconds_of", pretend)
    return order


def test_compare_alternates_and_divides_the_medians(taken):
    plain_times, fast_times = iter([9.0, 4.0, 2.0, 6.0, 100.0]), iter([9.0, 2.0, 1.0, 3.0, 2.0])
    got = compare(lambda: ("plain", next(plain_times)), lambda: ("fast", next(fast_times)), pairs=4, seconds=60)
    assert taken == ["plain", "fast", "plain", "fast", "fast", "plain", "plain", "fast", "fast", "plain"]
    assert got == Comparison(Spread(5.0, 3.5, 29.5, 4), Spread(2.0, 1.75, 2.25, 4))
    assert got.ratio == 2.5
    assert got.record()["plain"] == {"median": 5.0, "low": 3.5, "high": 29.5, "count": 4}


def test_compare_takes_one_pair_when_the_time_is_up_and_refuses_none(taken):
    got = compare(lambda: ("plain", 3.0), lambda: ("fast", 1.5), pairs=9, seconds=0, warm_ups=0)
    assert taken == ["plain", "fast"]
    assert (got.plain.count, got.fast.count, got.ratio) == (1, 1, 2.0)
    with pytest.raises(ValueError, match="pairs is 0"):
        compare(lambda: ("plain", 1.0), lambda: ("fast", 1.0), pairs=0, seconds=1)
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


def test_targets_know_whether_they_are_met():
    at_least, at_most = Target("step", 2.0, 1.99), Target("build", 2.0, 1.99, "s", at_most=True, note="here")
    assert (at_least.met, at_most.met) == (False, True)
    assert (Target("step", 2.0, 2.0).met, Target("gpu", 20.0, None, "steps/s").met) == (True, None)
    table = target_table([at_least, at_most, Target("gpu", 20.0, None, "steps/s")])
    assert "| step | at least 2x | 1.99x | **no** |  |" in table
    assert "| build | at most 2 s | 1.99 s | yes | here |" in table
    assert "| gpu | at least 20 steps/s | not measured |  |  |" in table
    assert Target.from_record(json.loads(json.dumps(at_most.record()))) == at_most


def test_a_result_says_when_and_on_what_but_not_where(tmp_path):
    path = write_result("some", {"ratio": 2.5}, tmp_path / "new")
    text = path.read_text()
    record = json.loads(text)
    assert (path.name, record["ratio"]) == ("some.json", 2.5)
    assert {"processor", "threads", "torch", "python"} <= record["machine"].keys()
    assert len(record["date"]) == len("2026-01-01")
    for private in (str(ROOT), str(Path.home()), platform.node()):
        assert private not in text


TINY_RECURSIVE = dict(shared_levels=True, H_layers=3, mixer="mlp", pos_encodings="none", num_prefix_positions=4)
CHANGES = [
    {},
    {"H_cycles": 1, "L_cycles": 3, "H_layers": 2, "puzzle_emb_ndim": 0},
    TINY_RECURSIVE | {"gradient_span": "last_cycle", "L_cycles": 3},
    {"gradient_span": "segment"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_counted_operations_are_those_of_the_arithmetic(changes):
    config, rows = config_of("tiny", **changes), 3
    twin = PlainHrm(config).load(seeded_model(config, seed=0).state_dict())
    training, batch = PlainTraining(twin), next(made_up_batches(config, rows))
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel of the CPU is not counted
        with FlopCounterMode(display=False) as counter:
            training.step(batch)
        step = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            plain_solve(twin, batch["input_ids"], batch["puzzle_identifiers"], segments=2)
        solving = counter.get_total_flops()
    assert solving == solving_flops(config, rows, segments=2) == 2 * rows * segment_flops(config)
    # The twin computes all of the target's segment, of which only the first position's q values are read.
    unread = logits_flops(config) + block_flops(config) - first_position_flops(config)
    assert step == training_step_flops(config, rows) + rows * unread
    assert step == training_step_flops(config, rows, q_continue_target=False) + rows * segment_flops(config)


@pytest.mark.parametrize("changes", [{}, TINY_RECURSIVE | {"gradient_span": "segment"}])
@pytest.mark.parametrize("halting", ["q_learning", "halt_only"])
def test_the_trainer_computes_what_is_needed_and_no_more(halting, changes):
    trainer = fast_trainer("tiny", 3, halting=halting, changes=changes)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        whole_step(trainer)
    expected = training_step_flops(trainer.model.config, 3, q_continue_target=halting == "q_learning")
    config = trainer.model.config
    if (
        halting == "q_learning" and config.mixer == "attention"
    ):  # layers are called whole: of the last block ahead, the queries of all positions
        expected += 3 * 2 * (config.num_positions - 1) * config.hidden_size**2
    assert counter.get_total_flops() == expected
    assert (trainer.step, trainer.window.steps) == (1, 1)
    assert trainer.window.sums["lm_loss"] > 0


def test_the_published_size_needs_289_gflop_a_step_at_batch_8():
    # 24 blocks forward, twice (once without two thirds of the last); 8 blocks backward, each 2 forwards
    assert training_step_flops(config_of("27m"), 8) / 1e9 == pytest.approx(289, rel=0.005)
    assert matmul_peak(torch.float32, quick=True) > 1e6


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains(name, capsys):
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as done:
        module.main(["--help"])
    said = capsys.readouterr().out
    assert done.value.code == 0
    assert module.__doc__.splitlines()[0] in said
    assert "--quick" in said


def test_quick_runs_leave_a_result_only_where_asked(tmp_path, capsys, monkeypatch):
    optimizer_speed, run_all = importlib.import_module("optimizer_speed"), importlib.import_module("run_all")
    monkeypatch.setattr(side_by_side, "RESULTS", tmp_path / "committed")
    optimizer_speed.main(["--quick", "--threads", "1", "--pairs", "2"])
    assert "no result is written" in capsys.readouterr().out
    assert not (tmp_path / "committed").exists()

    optimizer_speed.main(["--quick", "--threads", "1", "--pairs", "2", "--results", str(tmp_path)])
    record = json.loads((tmp_path / "optimizer_speed.json").read_text())
    assert record["largest_difference"] < 1e-6
    assert record["ratio"] == pytest.approx(record["plain"]["median"] / record["fast"]["median"], rel=1e-3)
    report = run_all.report([record])
    assert report.startswith(record["date"])
    assert "| optimiser step, 27 M | at least 4x |" in report


def test_a_quick_training_run_compares_the_same_steps(tmp_path):
    training_speed = importlib.import_module("training_speed")
    options = ["--quick", "--threads", "1", "--pairs", "1", "--dtypes", "float32", "--results", str(tmp_path)]
    training_speed.main(options)
    cases = json.loads((tmp_path / "training_speed.json").read_text())["cases"]
    assert [case["mode"] for case in cases] == ["q-learning", "halt-only"]
    assert all(case["first_loss_difference"] < 1e-5 for case in cases)
    assert cases[0]["plain"] == cases[1]["plain"]  # all ways take turns with one plain side
    assert cases[1]["gflop"] < 0.7 * cases[0]["gflop"]
    assert "| tiny model | 4 | halt-only | float32 |" in (tmp_path / "training_speed.md").read_text()


def test_training_targets_take_the_quicker_dtype_and_a_share_for_each_batch():
    training_speed = importlib.import_module("training_speed")
    found = [(8, "bfloat16", 3.0, 60.0), (8, "float32", 1.5, 50.0), (32, "bfloat16", 4.0, 70.0)]
    common = {"size": "27m", "mode": "q-learning"}
    records = [
        {**common, "batch": batch, "dtype": dtype, "ratio": ratio, "share_of_peak_percent": share}
        for batch, dtype, ratio, share in found
    ]
    step, *shares = [target for target in training_speed.targets(records, on_gpu=False) if target.measured is not None]
    assert (step.measured, step.note) == (3.0, "bfloat16: 3.00x at 8, 4.00x at 32; float32 1.50x at 8")
    assert [(share.measured, share.met) for share in shares] == [(60.0, False), (70.0, True)]


def test_the_solving_target_takes_no_mode_that_loses_accuracy():
    solving_speed = importlib.import_module("solving_speed")
    modes = {
        "float32": {"ratio": 6.0, "exact_percent": 99.9, "mean_segments": 2.0, "halting_alone_allows": 8.0},
        "bfloat16": {"ratio": 9.0, "exact_percent": 99.5, "mean_segments": 2.0, "halting_alone_allows": 8.0},
    }
    record = {"model": "one", "puzzles": 1000, "plain_exact_percent": 99.9, "modes": modes}
    ratio, lost = solving_speed.trained_targets(record)
    assert (ratio.measured, lost.measured) == (9.0, pytest.approx(0.4))
    assert "float32 6.00x, halting alone allows 8.00x" in ratio.note
    modes["bfloat16"]["exact_percent"] = 99.3
    ratio, lost = solving_speed.trained_targets(record)
    assert (ratio.measured, lost.measured) == (6.0, 0.0)


def test_a_quick_run_of_learning_speed_trains_both_recipes_for_as_long(tmp_path, monkeypatch):
    learning_speed, turn = importlib.import_module("learning_speed"), threading.Lock()

    def run(command, **how):
        with turn:  # in a process that has imported everything
            return warm_processes.run(command[1:], {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT)

    monkeypatch.setattr(learning_speed, "subprocess", SimpleNamespace(run=run))
    learning_speed.main(["--quick", "--games", "4x4", "--seeds", "3", "--threads", "2", "--results", str(tmp_path)])
    runs = json.loads((tmp_path / "learning_speed.json").read_text())["runs"]
    assert [(run["game"], run["family"], run["seed"]) for run in runs] == [("4x4", "HRM", 3), ("4x4", "best", 3)]
    for run in runs:
        minutes, exact = zip(*run["exact_over_minutes"], strict=True)
        assert minutes[0] == 0 and minutes[-1] == pytest.approx(run["steps"] * run["ms_per_step"] / 60e3, rel=1e-3)
        assert len(minutes) > 10 and all(0 <= value <= 1 for value in exact)
    assert (tmp_path / "learning_speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_learning_table_takes_the_last_score_within_the_time():
    learning_speed = importlib.import_module("learning_speed")
    common = {"game": "6x6", "family": "best", "minutes": 4.0, "steps": 8, "ms_per_step": 3e4}
    curves = ([[0, 0.0], [1, 0.1], [2, 0.2], [4, 0.5]], [[0, 0.0], [1, 0.3], [2, 0.4], [4, 0.9]])
    table = learning_speed.table([common | {"seed": n, "exact_over_minutes": c} for n, c in enumerate(curves)])
    row = table.splitlines()[-1]
    assert row.endswith("| 4 | 20.0 % (10.0 to 30.0) | 30.0 % (20.0 to 40.0) | 70.0 % (50.0 to 90.0) |"), row


def test_the_scaling_plot(tmp_path):
    scaling = importlib.import_module("scaling")
    speeds = {"fast_per_second": 4.0, "plain_per_second": 2.0, "limit_per_second": 9.0}
    records = [
        {"dimension": point.dimension, "value": point.value, "fast_mb": 400.0, "plain_mb": 500.0, **speeds}
        for point in scaling.points(quick=True)
    ]
    assert {record["dimension"] for record in records} == set(scaling.DIMENSIONS)
    scaling.draw(records, tmp_path / "scaling.png", "tiny")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_quick_run_of_attempts_draws_curves_and_tables(tmp_path):
    attempts = importlib.import_module("attempts")
    table = tmp_path / "easy.csv"
    table.write_text(f"question,answer\n{QUESTION},{ANSWER}\n" * 1 + f"{ANSWER[:40]}.{ANSWER[41:]},{ANSWER}\n")
    attempts.main(["--quick", f"easy={table}", "--threads", "1", "--results", str(tmp_path / "results")])
    result = json.loads((tmp_path / "results" / "attempts.json").read_text())["kinds"]["easy"]
    assert result["puzzles"] == 2 and [point["attempts"] for point in result["auto"]] == [1, 2]
    assert result["auto"][-1]["exact_accuracy"] == 1 and set(result["strategies"]) == set(attempts.STRATEGIES[1:])
    assert sum(row["answers"] for row in result["reliability"]) == 2
    assert "| easy | 2 | 100.0 % |" in (tmp_path / "results" / "attempts.md").read_text()
    for name in ("attempts.png", "attempts_easy.png"):
        assert (tmp_path / "results" / name).read_bytes().startswith(b"\x89PNG")
