"""Two real gloo processes: the recorded steps, and the example's steps beside one process and beside accumulation."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from golden_fixtures import (
    golden_batch,
    golden_json,
    golden_model,
    golden_tensors,
    golden_training_arguments,
    recorded_parameters,
)
from paths import FIXTURES, HRM_4X4, ROOT
from plain_runs import check_plain_run
from processes import launch, run
from run_records import broken_at, log_of
from safetensors.torch import load_file
from scripts import run_here
from table_gradient import global_gradient

from hrm_hf import HrmConfig
from hrm_hf.training import HrmTrainer, seeded_model

TABLE = "model.puzzle_embeddings.weight"
SMALL_RECIPE = "--recipe sudoku_4x4 --compute-dtype float32"  # which is close enough for comparing


EPS = torch.finfo(torch.float32).eps


def close(ours: torch.Tensor, theirs: torch.Tensor, relative: float = 1e-5) -> None:
    """The difference is at most `relative` of the tensor's length: single entries near 0 hold rounding only."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).norm() <= relative * theirs.norm(), (ours - theirs).norm() / theirs.norm()


def step_of(name: str) -> int:
    """The step of a recorded "step07.grad.lm_head.weight"."""
    return int(name.removeprefix("step").split(".")[0])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """What recorded_two_process_steps.py left of two processes."""
    folder = tmp_path_factory.mktemp("two")
    launch([str(FIXTURES / "recorded_two_process_steps.py"), str(folder)], processes=2)
    return folder


def test_a_run_is_the_one_written_out_whatever_weights_the_other_process_began_with(two_processes):
    for rank in (0, 1):
        check_plain_run(two_processes / "run", load_file(two_processes / f"{rank}.safetensors"))


def test_two_processes_agree_on_the_quicker_dtype(two_processes):
    got = load_file(two_processes / "steps.safetensors")
    assert got["dtype.one_slow"].tolist() == [False, False]
    assert got["dtype.both_fast"].tolist() == [True, True]
    assert got["dtype.told"].tolist() == [True, True]  # where their models disagree


def test_recorded_two_process_steps(two_processes):
    got = load_file(two_processes / "steps.safetensors")
    assert got["num_processes"].item() == 2

    record = golden_json("F/config.json")
    args = golden_training_arguments(record["model"], exploration_prob=0.0)
    alone = HrmTrainer(golden_model(record["model"], "F/train2proc_init.safetensors"), args, [])
    for step in (1, 2, 3):
        want = golden_tensors(f"F/train2proc_step{step}.safetensors")
        for name, value in record["reduced_metrics_on_rank0"][step - 1].items():
            short = name.removeprefix("train/")
            if short not in ("count", "lr"):
                assert got[f"step{step}.mean.{short}"].item() == pytest.approx(value, rel=1e-5), name
        halted = torch.cat([want["halted_rank0"], want["halted_rank1"]]).bool()
        assert torch.equal(got[f"step{step}.halted"], halted)
        assert torch.equal(got[f"step{step}.steps"], torch.cat([want["steps_rank0"], want["steps_rank1"]]))

        # reduced gradients: equal to those of one process on the whole batch, factor included
        alone.training_step(golden_batch(want))
        for name, parameter in alone.model.named_parameters():
            if name == TABLE:
                identifiers, gradient = global_gradient(alone.puzzle_optimizer)
                assert torch.equal(got[f"step{step}.identifiers"], identifiers)
            else:
                gradient = parameter.grad
            close(got[f"step{step}.grad.{name}"], gradient)
        alone.optimizer_step()

        parameters = recorded_parameters(want, alone.model.config, "param")
        assert bool(parameters) == (step != 2)
        if "puzzle_weights" in want:
            parameters = {TABLE: want["puzzle_weights"]}
        for name, value in parameters.items():
            bound = 1e-6 if name == TABLE else 1e-5
            torch.testing.assert_close(got[f"step{step}.param.{name}"], value, rtol=0, atol=bound)

    want, sparse = golden_tensors("F/sparse_signsgd.safetensors"), record["sparse"]
    for step in range(1, len(sparse["lr"]) + 1):
        sums = torch.zeros_like(want["weights_0"])
        for rank in (0, 1):
            sums.index_add_(0, want[f"step{step}.ids_rank{rank}"].long(), want[f"step{step}.grad_rank{rank}"])
        assert got[f"sparse{step}.identifiers"].tolist() == sorted({i for ids in sparse["ids"][step - 1] for i in ids})
        torch.testing.assert_close(got[f"sparse{step}.gradient"], sums[got[f"sparse{step}.identifiers"]])
        torch.testing.assert_close(got[f"sparse{step}.weights"], want[f"step{step}.weights_after"], rtol=0, atol=1e-7)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sudoku"
    arguments = "--train-source generate --num-puzzles 60 --num-test 8 --num-aug 20"
    run_here("convert/build_sudoku.py", "--output-dir", str(folder), *arguments.split())
    return folder


def thirty_steps(
    data_dir: Path, folder: Path, processes: int = 1, accumulation: int = 1, more: str = ""
) -> dict[str, torch.Tensor]:
    """What 30 steps of the example did. Two segments a puzzle: an untrained network amplifies rounding in more."""
    arguments = f"--recipe {HRM_4X4} "
    arguments += "--max_steps 30 --global_batch_size 16 --hidden_size 32 --num_attention_heads 2 --halt_max_steps 2"
    arguments += (
        " --warmup_steps 10 --learning_rate 3e-5 --halt_exploration_prob 0.5 --eval_batch_size 8 --cpu_threads 1"
    )
    arguments += f" --gradient_accumulation_steps {accumulation} {more}"
    command = [str(FIXTURES / "gradient_recorder.py"), str(folder / "out.safetensors"), "--data_dir", str(data_dir)]
    run([*command, "--output_dir", str(folder / "run"), *arguments.split()], processes)
    return load_file(folder / "out.safetensors")


@pytest.fixture(scope="module")
def one_process(data_dir, tmp_path_factory):
    recorded = thirty_steps(data_dir, tmp_path_factory.mktemp("one"))
    assert recorded["num_processes"].item() == 1
    return recorded


@pytest.mark.parametrize(("processes", "accumulation"), [(2, 1), (1, 2), (2, 2)])
def test_thirty_steps_are_the_same(data_dir, one_process, tmp_path, processes, accumulation):
    got = thirty_steps(data_dir, tmp_path, processes, accumulation)
    assert got["num_processes"].item() == processes
    assert got.keys() == one_process.keys() and "step30.sum.lm_loss" in got
    for name, value in one_process.items():
        if name.endswith("halted"):
            assert torch.equal(got[name], value), name
        elif name != "num_processes":
            # sums over the batch in another order: some roundings, and as many more with every step
            close(got[name], value, relative=8 * EPS * (1 + step_of(name)))


TINY_RECURSIVE = "--shared_levels true --gradient_span segment --mixer mlp --pos_encodings none --halting halt_only"
TINY_RECURSIVE += " --num_prefix_positions 4 --ema_decay 0.9 --ema_warmup false"
TINY_RECURSIVE += " --online_augmentation true --reveal_prob 0.5"
# At a low rate: Muon works in bfloat16, and makes a length of directions that hold little but rounding.
MUON = (
    "--optimizer muon --muon_learning_rate 1e-4 --max_grad_norm 1 --depth_schedule 0:1x1,0.5:2x2 --halting halt_only"
)
MUON += " --token_loss softmax --label_smoothing 0.2 --halting_loss_weight 0.05"


@pytest.mark.parametrize("options", [TINY_RECURSIVE, MUON], ids=["TRM", "muon"])
def test_steps_with_further_options_are_the_same(data_dir, tmp_path, options):
    """Eight steps: the updates of a whole segment in one backward pass let more rounding through."""
    more = f"--max_steps 8 {options}"
    alone = thirty_steps(data_dir, tmp_path / "alone", more=more)
    for processes, accumulation in ((2, 1), (1, 2)):
        got = thirty_steps(data_dir, tmp_path / f"{processes}-{accumulation}", processes, accumulation, more)
        assert got.keys() == alone.keys() and "step08.sum.lm_loss" in got
        for name, value in alone.items():
            if name.endswith("halted"):
                assert torch.equal(got[name], value), name
            elif name != "num_processes":
                close(got[name], value, relative=1e-5)


def test_steps_of_the_small_recipe_are_the_same(data_dir, tmp_path):
    """Losses to 1e-5 for 30 steps, gradients as long as they come from the same weights.

    From the third step on gradients differ by some 1e-5: AdamATan2, blind to scale, lets the rounding of a gradient
    near 0 show, and a mixer whose norm runs over the positions passes it on.
    """
    alone = thirty_steps(data_dir, tmp_path / "alone", more=SMALL_RECIPE)
    for processes, accumulation in ((2, 1), (1, 2)):
        got = thirty_steps(data_dir, tmp_path / f"{processes}{accumulation}", processes, accumulation, SMALL_RECIPE)
        assert got.keys() == alone.keys()
        for name, value in alone.items():
            if name.endswith("halted"):
                assert torch.equal(got[name], value), name
            elif ".sum." in name or name.startswith(("step01.", "step02.")):
                close(got[name], value, relative=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_steps_of_two_processes_in_parts(data_dir, one_process, tmp_path):
    got = thirty_steps(data_dir, tmp_path, processes=2, accumulation=2, more="--compile true")
    assert got["num_processes"].item() == 2
    for name, value in one_process.items():
        if name.endswith("halted"):
            assert torch.equal(got[name], value), name
        elif name != "num_processes":
            close(got[name], value, relative=1e-3)


def test_a_run_goes_on_with_another_number_of_processes(data_dir, tmp_path):
    """2 processes, then 1 from step 3, then 2 again from step 5, against 2 all the way."""

    def train(run_dir: Path, processes: int) -> dict[str, torch.Tensor]:
        arguments = f"--recipe {HRM_4X4} "
        arguments += "--max_steps 8 --global_batch_size 16 --hidden_size 32 --num_attention_heads 2 --halt_max_steps 2"
        arguments += " --warmup_steps 4 --learning_rate 3e-5 --halt_exploration_prob 0.5 --eval_batch_size 8"
        arguments += " --cpu_threads 1 --logging_steps 2 --state_steps 1 --state_limit 9 --ema_decay 0.9 --resume auto"
        command = [str(ROOT / "examples" / "train_sudoku.py"), "--data_dir", str(data_dir)]
        run([*command, "--output_dir", str(run_dir), *arguments.split()], processes)
        assert json.loads((run_dir / "run.json").read_text())["num_processes"] == processes
        return load_file(run_dir / "checkpoint-final" / "model.safetensors")

    unbroken = train(tmp_path / "run", 2)
    config = HrmConfig.from_pretrained(tmp_path / "run" / "checkpoint-final")
    start = seeded_model(config, seed=0).state_dict()
    last = tmp_path / "run"
    for processes, step in ((1, 3), (2, 5)):
        last = broken_at(last, step, tmp_path / f"from-{step}")
        weights = train(last, processes)
        assert json.loads((last / "state-00000008" / "state.json").read_text())["num_processes"] == processes
        for name, value in unbroken.items():
            # of the way that it came: AdamATan2, blind to scale, lets the rounding of a gradient near 0 show
            assert (weights[name] - value).norm() <= 1e-3 * (value - start[name]).norm(), name
        for ours, theirs in zip(log_of(last), log_of(tmp_path / "run"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
