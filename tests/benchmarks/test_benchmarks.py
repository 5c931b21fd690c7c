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
import step_flops
import torch
import warm_processes
from kernel_families import Kernel, busy_seconds, by_family, kernels_of, profile, profile_tables
from paths import HRM_4X4, ROOT
from plain_twin import PlainHrm, PlainTraining, plain_solve  # noqa: E402
from recipe_runs import hrm_train, step_seconds  # noqa: E402
from side_by_side import Comparison, Spread, Target, take_turns, target_table, write_result  # noqa: E402
from step_flops import (  # noqa: E402
    Peak,
    block_flops,
    first_position_flops,
    logits_flops,
    matmul_peak,
    segment_flops,
    solving_flops,
    training_step_flops,
)
from subjects import Rows, config_of, fast_dtypes, fast_trainer, made_up_batches  # noqa: E402
from sudoku_grids import ANSWER, QUESTION  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hrm_hf.scores.evaluation import predict_puzzles
from hrm_hf.training import seeded_model  # noqa: E402

COMMANDS = [
    "building_speed",
    "gpu_check",
    "learning_speed",
    "loader_throughput",
    "optimizer_speed",
    "run_all",
    "scaling",
    "solving_speed",
    "timed_learning",
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


def test_turns_alternate_and_a_comparison_divides_the_medians(taken):
    plain_times, fast_times = iter([9.0, 4.0, 2.0, 6.0, 100.0]), iter([9.0, 2.0, 1.0, 3.0, 2.0])
    ways = {"plain": lambda: ("plain", next(plain_times)), "fast": lambda: ("fast", next(fast_times))}
    got = Comparison(**take_turns(ways, pairs=4, seconds=60))
    assert taken == ["plain", "fast", "plain", "fast", "fast", "plain", "plain", "fast", "fast", "plain"]
    assert got == Comparison(Spread(5.0, 3.5, 29.5, 4), Spread(2.0, 1.75, 2.25, 4))
    assert got.ratio == 2.5
    assert got.record()["plain"] == {"median": 5.0, "low": 3.5, "high": 29.5, "count": 4}


def test_one_turn_is_taken_when_the_time_is_up_and_none_is_refused(taken):
    ways = {"plain": lambda: ("plain", 3.0), "fast": lambda: ("fast", 1.5)}
    got = Comparison(**take_turns(ways, pairs=9, seconds=0, warm_ups=0))
    assert taken == ["plain", "fast"]
    assert (got.plain.count, got.fast.count, got.ratio) == (1, 1, 2.0)
    with pytest.raises(ValueError, match="pairs is 0"):
        take_turns(ways, pairs=0, seconds=1)


def test_targets_know_whether_they_are_met():
    at_least, at_most = Target("step", 2.0, 1.99), Target("build", 2.0, 1.99, "s", at_most=True, note="here")
    assert (at_least.met, at_most.met) == (False, True)
    assert (Target("step", 2.0, 2.0).met, Target("gpu", 20.0, None, "steps/s").met) == (True, None)
    table = target_table([at_least, at_most, Target("gpu", 20.0, None, "steps/s")])
    assert "| step | at least 2x | 1.99x | **no** |  |" in table
    assert "| build | at most 2 s | 1.99 s | yes | here |" in table
    assert "| gpu | at least 20 steps/s | not measured |  |  |" in table
    assert Target(**json.loads(json.dumps(at_most.record()))) == at_most


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
    trainer = fast_trainer("tiny", 3, halting=halting, **changes)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trainer.run_step()
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


class Products:
    """Products that take as long as these rates (by size) say; nothing is multiplied and no time passes."""

    def __init__(self, monkeypatch, rates: dict[int, float]):
        self.rates, self.asked, self.seconds = rates, [], 0.0
        monkeypatch.setattr(step_flops, "_product_rate", self)
        monkeypatch.setattr(step_flops.time, "perf_counter", lambda: self.seconds)

    def __call__(self, size, dtype, device, until):
        self.asked.append(size)
        if self.rates[size] == 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seconds += step_flops.PEAK_CALLS * 2 * size**3 / self.rates[size]
        return self.rates[size]


@pytest.mark.parametrize(
    "rates, asked, peak",
    [
        # a GPU: the rate grows to 8192, and a bit further; then not
        ({1024: 9e13, 2048: 4e14, 4096: 7e14, 8192: 7.9e14, 16384: 8e14}, 5, Peak(8e14, 16384)),
        ({1024: 9e13, 2048: 4e14, 4096: 7.9e14, 8192: 7.6e14, 16384: 9e14}, 4, Peak(7.9e14, 4096)),
        # a CPU: 4096 would take too long
        ({1024: 1.8e11, 2048: 2e11, 4096: 9e11}, 2, Peak(2e11, 2048)),
        # a small GPU's memory
        ({1024: 1e13, 2048: 2e13, 4096: 3e13, 8192: 0}, 4, Peak(3e13, 4096)),
    ],
)
def test_the_peak_is_that_of_products_that_grow_until_the_rate_does_not(monkeypatch, rates, asked, peak):
    products = Products(monkeypatch, rates)
    assert matmul_peak(torch.bfloat16) == peak
    assert products.asked == list(rates)[:asked]


def test_the_peak_is_named_with_its_size():
    peak = Peak(7.9e14, 8192)
    assert peak.share(5.61e14) == "71 % of 790 TFLOP/s at 8192 x 8192 x 8192"
    assert str(Peak(2.023e11, 2048)) == "202 GFLOP/s at 2048 x 2048 x 2048"
    assert peak.record() == {"peak_gflop_per_second": 790000.0, "peak_size": 8192}
    quick = matmul_peak(torch.float32, quick=True)
    assert quick.rate > 1e6 and quick.size == 256


KERNELS = {  # as GPUs and CPUs name them
    "products": [
        "nvjet_tst_192x192_64x4_2x1_v_bz_coopB_NNT",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel",
        "void cutlass::Kernel2<cutlass_80_tensorop_s16816gemm_bf16_128x128_64x3_tn_align8>(Params)",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>",
        "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_nn",
        "triton_tem_fused_mm_3",
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "mkldnn::_linear_pointwise",
    ],
    "attention": [
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>",
        "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<>",
        "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>::Params)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x64x128",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    ],
    "the rest": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<4>, Functor>",
        "aten::_foreach_lerp_",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>>",
        "triton_red_fused__to_copy_add_mean_mul_rsqrt_4",
        "triton_poi_fused_mul_silu_split_2",
        "Memcpy HtoD (Pinned -> Device)",
        "void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda>",
        "aten::native_layer_norm",
        "aten::softmax",
        "aten::mul",
        "aten::comma",
    ],
}


def test_kernels_belong_to_families():
    for family, names in KERNELS.items():
        for name in names:
            assert Kernel(name, 0.0, 1.0, in_optimizer=False).family == family, name
            assert Kernel(name, 0.0, 1.0, in_optimizer=True).family == "optimiser"  # Muon multiplies matrices


class MadeUpEvent(SimpleNamespace):
    """As PyTorch's profiler gives them; times in microseconds."""

    def __init__(self, name, start, end, on_gpu=True, is_user_annotation=False):
        kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
        interval = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
        super().__init__(name=name, device_type=kind, time_range=interval, is_user_annotation=is_user_annotation)


def test_a_profile_of_made_up_kernels_adds_up():
    events = [
        MadeUpEvent("cudaLaunchKernel", 0, 90, on_gpu=False),
        MadeUpEvent("nvjet_tst_128x256", 100, 500),
        MadeUpEvent("flash_fwd_kernel", 500, 600),
        MadeUpEvent("triton_poi_fused_mul_silu_2", 700, 800),
        MadeUpEvent("Memcpy DtoD (Device -> Device)", 750, 850),  # beside it, on another stream
        MadeUpEvent("Optimizer.step#Muon.step", 850, 1100, is_user_annotation=True),
        MadeUpEvent("nvjet_tst_64x64", 900, 1000),
        MadeUpEvent("vectorized_elementwise_kernel", 1000, 1100),
    ]
    kernels = kernels_of(events, on_gpu=True)
    assert len(kernels) == 6 and busy_seconds(kernels) == pytest.approx(850e-6)
    record = by_family(kernels, wall=1000e-6, busy=busy_seconds(kernels), calls=2)
    got = {family: (of["seconds"], of["percent"], of["kernels"]) for family, of in record["families"].items()}
    assert got == {
        "products": (200e-6, 40.0, 0.5),
        "attention": (50e-6, 10.0, 0.5),
        "the rest": (100e-6, 20.0, 1.0),
        "optimiser": (100e-6, 20.0, 1.0),
        "idle": (75e-6, 15.0, 0.0),
    }
    assert record["largest"][0] == {"family": "products", "name": "nvjet_tst_128x256", "seconds": 200e-6}
    assert "| products | 200 us | 40.0 % | 0 |" in profile_tables(record)


def test_a_profile_on_the_cpu_knows_products_and_the_optimiser(capsys, monkeypatch):
    monkeypatch.setattr("kernel_families.LARGEST", 100)
    weight = torch.nn.Parameter(torch.randn(300, 300))
    optimizer = torch.optim.SGD([weight], lr=1e-9)

    def work():
        (weight @ weight @ weight).sum().backward()
        torch.nn.utils.clip_grad_norm_([weight], 1.0, foreach=True)
        optimizer.step()

    work()
    record = profile(work)
    families = record["families"]
    assert families["products"]["kernels"] >= 6 and families["products"]["seconds"] > 0
    assert families["optimiser"]["kernels"] > 0 and families["idle"]["percent"] < 100
    clipping = [of["family"] for of in record["largest"] if "_foreach" in of["name"]]
    assert set(clipping) == {"the rest"}
    spent = sum(of["seconds"] for of in families.values())
    assert spent == pytest.approx(record["seconds"], rel=0.05)
    assert "| products | " in capsys.readouterr().out


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
    kinds = [("tiny", "q-learning"), ("tiny", "halt-only"), ("tiny-trm", "halt-only")]
    assert [(case["size"], case["mode"]) for case in cases] == kinds
    assert all(case["first_loss_difference"] < 1e-5 for case in cases)
    assert cases[0]["plain"] == cases[1]["plain"]  # all ways take turns with one plain side
    assert cases[1]["gflop"] < 0.7 * cases[0]["gflop"]
    assert "| tiny model | 4 | halt-only | float32 |" in (tmp_path / "training_speed.md").read_text()


def test_a_case_that_fails_leaves_what_others_measured(tmp_path, monkeypatch, capsys):
    training_speed = importlib.import_module("training_speed")
    measure = training_speed.measure

    def measured(size, *others):
        if size == "tiny":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return measure(size, *others)

    monkeypatch.setattr(training_speed, "measure", measured)
    options = ["--quick", "--threads", "1", "--pairs", "1", "--dtypes", "float32", "--results", str(tmp_path)]
    with pytest.raises(SystemExit, match="^failed: tiny:4: OutOfMemoryError$"):
        training_speed.main(options)
    result = json.loads((tmp_path / "training_speed.json").read_text())
    assert [case["size"] for case in result["cases"]] == ["tiny-trm"]
    assert result["failed"] == ["tiny:4: OutOfMemoryError"]
    with pytest.raises(SystemExit):
        training_speed.main(["--cases", "trm:4", "--modes", "q-learning"])
    assert "trm is trained by halt-only alone" in capsys.readouterr().err


@pytest.mark.parametrize("mean", [1.0, 2.0, 4.0])
def test_a_fresh_model_is_made_to_halt_after_so_many_segments(mean):
    solving_speed = importlib.import_module("solving_speed")
    config = config_of("tiny")
    model, batch = seeded_model(config, seed=0).eval(), next(made_up_batches(config, 1000))
    model.q_head = solving_speed.HaltsByChance(mean)
    puzzles = Rows({name: values.numpy() for name, values in batch.items()})
    found = predict_puzzles(model, puzzles, batch_size=130, halt=True, max_segments=16)
    chance = 1 / mean
    deviation = ((1 - chance) / 1000) ** 0.5  # of the share, over the root of the chance; of the mean, over the chance
    assert found.segments.mean() == pytest.approx((1 - (1 - chance) ** 16) * mean, abs=2 * deviation / chance)
    assert (found.segments == 1).mean() == pytest.approx(chance, abs=2 * deviation * chance**0.5)


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
    assert step.target == 2.0
    step, share = [
        target for target in training_speed.targets(records[1:2], on_gpu=False) if target.measured is not None
    ]
    assert (step.target, step.measured, share.measured) == (1.05, 1.5, 50.0)  # bfloat16 is the slower one here


@pytest.mark.parametrize("quicker, dtypes", [("bfloat16", ("bfloat16", "float32")), ("float32", ("float32",))])
def test_the_fast_side_leaves_out_a_bfloat16_that_is_slower(monkeypatch, quicker, dtypes):
    speed = {"bfloat16": 3.0, "float32": 0.125}[quicker]
    monkeypatch.setattr("hrm_hf.hrm.compute_dtype._speed", lambda *_: speed)
    assert fast_dtypes(config_of("tiny")) == dtypes


def test_gpu_targets_take_the_share_of_the_true_peak_and_compare_cycles():
    training_speed = importlib.import_module("training_speed")
    steps = {"27m": 21.0, "256-mixer-h1": 150.0, "256-mixer-h2": 125.0, "256-attention-h1": 90.0, "trm": 8.0}
    common = {"dtype": "bfloat16", "ratio": 1.6, "gflop_per_second": 474e3, "share_of_peak_percent": 60.0}
    records = [
        {"size": size, "batch": 768 if size in ("27m", "trm") else 512, "mode": mode, "steps_per_second": rate}
        | common
        | Peak(7.9e14, 8192).record()
        for size, rate in steps.items()
        for mode in training_speed.modes_of(size)
    ]
    found = {target.work.removeprefix("one GPU: "): target for target in training_speed.targets(records, on_gpu=True)}
    met = {work: target.met for work, target in found.items()}
    assert met == {
        "27 M, batch 768, q-learning": True,
        "27 M, batch 768, q-learning, share of the peak": True,
        "27 M, batch 768, halt-only": False,
        "27 M, batch 768, halt-only, share of the peak": True,
        "D 256, mixer, batch 512, H 1 and 2": True,
        "D 256, mixer, H 1 beside H 2": True,
        "D 256, attention, batch 512, H 1 and 2": None,  # H 2 was not measured
        "D 256, attention, H 1 beside H 2": None,
        "TRM, mixer, D 512, H 3, L 6, batch 768": True,
    }
    share = found["27 M, batch 768, q-learning, share of the peak"]
    assert share.note == "474 TFLOP/s = 60 % of 790 TFLOP/s at 8192 x 8192 x 8192"
    here = training_speed.targets([], on_gpu=False)
    assert {target.note for target in here} == {"no GPU here"} and len(here) == len(found)


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
    assert (ratio.target, ratio.measured, lost.measured) == (8.0, 6.0, 0.0)
    ratio, _ = solving_speed.trained_targets(record | {"modes": {"float32": modes["float32"]}})
    assert ratio.target == 7.0


def test_scoring_in_between_is_not_time_to_train_in():
    timed_learning = importlib.import_module("timed_learning")
    lines = [{"step": step, "seconds": 5 + step / 10, "train/lm_loss": 1.0} for step in (54, 57, 60)]
    assert timed_learning.overhead_seconds(lines, taken=20.0) == pytest.approx(20 - 60 * 0.1)
    lines.append({"step": 60, "seconds": 11.0 + 4.0, "eval/count": 9})
    more = timed_learning.EVALUATIONS - 1
    assert timed_learning.overhead_seconds(lines, taken=24.0) == pytest.approx(24 - 60 * 0.1 + more * 4)


def test_a_quick_run_of_learning_speed_trains_both_recipes_for_as_long(tmp_path, monkeypatch):
    learning_speed, turn = importlib.import_module("learning_speed"), threading.Lock()

    def start(command, stdout, **how):
        with turn:  # in a process that has imported everything
            done = warm_processes.run(command[1:], {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT)
        stdout.write((done.stdout + done.stderr).encode())
        return SimpleNamespace(wait=lambda seconds: done.returncode, terminate=lambda: None)

    monkeypatch.setattr(
        "recipe_runs.subprocess", SimpleNamespace(Popen=start, STDOUT=None, TimeoutExpired=TimeoutError)
    )
    learning_speed.main(["--quick", "--games", "4x4", "--seeds", "3", "--threads", "2", "--results", str(tmp_path)])
    runs = json.loads((tmp_path / "learning_speed.json").read_text())["runs"]
    assert [(run["game"], run["family"], run["seed"]) for run in runs] == [("4x4", "HRM", 3), ("4x4", "best", 3)]
    for run in runs:
        minutes, exact = zip(*run["exact_over_minutes"], strict=True)
        assert minutes[0] == 0 and minutes[-1] == pytest.approx(run["steps"] * run["ms_per_step"] / 60e3, rel=1e-3)
        assert len(minutes) > 10 and all(0 <= value <= 1 for value in exact)
    assert (tmp_path / "learning_speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("code", [0, 2, -9])
def test_a_run_of_hrm_train_is_stopped_in_time_or_says_why_it_failed(tmp_path, monkeypatch, code):
    run, told = tmp_path / "new" / "run", []

    def start(command, stdout, **how):
        stdout.write(b"no such recipe")
        run.mkdir()
        (run / "metrics.jsonl").write_text('{"step": 1}\n')
        return SimpleNamespace(wait=wait, terminate=lambda: told.append("terminate"))

    def wait(seconds=None):
        if seconds and code != 2:
            raise TimeoutError
        return code or 143

    fake = SimpleNamespace(Popen=start, STDOUT=None, TimeoutExpired=TimeoutError)
    monkeypatch.setattr("recipe_runs.subprocess", fake)
    if code:
        with pytest.raises(SystemExit, match="no such recipe"):
            hrm_train(["sudoku"], run, seconds=5)
    else:
        assert hrm_train(["sudoku"], run, seconds=5) == [{"step": 1}]
    assert "terminate" in told


def test_a_step_is_timed_after_what_was_compiled(monkeypatch):
    learning_speed = importlib.import_module("learning_speed")
    lines = [{"step": 10, "seconds": 40.0, "train/lm_loss": 1.0}, {"step": 30, "seconds": 45.0, "train/lm_loss": 1.0}]
    monkeypatch.setattr(learning_speed, "train", lambda *_: [*lines, {"step": 30, "seconds": 50.0}])
    assert learning_speed.time_steps([], SimpleNamespace(quick=False)) == 0.25


def test_a_step_of_a_growing_depth_is_timed_without_compiling():
    # three stages of 1, 2 and 4 seconds a step; at the start of the run and of each stage something is compiled
    each = [1.0] * 6 + [30.0] + [2.0] * 5 + [50.0] + [4.0] * 7
    seconds, lines = 30.0, [{"step": 3, "seconds": 30.0, "train/lm_loss": 1.0}]
    for number, step in enumerate(each, start=2):
        seconds += 3 * step
        lines.append({"step": 3 * number, "seconds": seconds, "train/lm_loss": 1.0})
    assert step_seconds(lines) == (6 * 1 + 6 * 2 + 8 * 4) / 20


def test_the_learning_table_takes_the_last_score_within_the_time():
    learning_speed = importlib.import_module("learning_speed")
    common = {"game": "6x6", "family": "best", "minutes": 4.0, "steps": 8, "ms_per_step": 3e4}
    curves = ([[0, 0.0], [1, 0.1], [2, 0.2], [4, 0.5]], [[0, 0.0], [1, 0.3], [2, 0.4], [4, 0.9]])
    table = learning_speed.table([common | {"seed": n, "exact_over_minutes": c} for n, c in enumerate(curves)])
    row = table.splitlines()[-1]
    assert row.endswith("| 4 | 20.0 % (10.0 to 30.0) | 30.0 % (20.0 to 40.0) | 70.0 % (50.0 to 90.0) |"), row


def test_saving_cost_times_every_save(tmp_path, capsys):
    saving_cost = importlib.import_module("saving_cost")
    words = ["--recipe", str(HRM_4X4), "--compute-dtype", "auto"]
    trainer = saving_cost.train("small", 4, words, 3, 1, tmp_path / "run", cpu_threads=1)
    assert len(trainer.save_times) == 3 and len(trainer.step_times()) == 2
    assert sum(trainer.save_times) + sum(trainer.step_times()) < trainer.seconds
    said = capsys.readouterr().out
    assert "3 times), " in said and "a save every 10 minutes" in said and "(the default)" in said


def test_the_scaling_plot(tmp_path):
    scaling = importlib.import_module("scaling")
    speeds = {"fast_per_second": 4.0, "plain_per_second": 2.0, "limit_per_second": 9.0}
    records = [
        {"dimension": point.dimension, "value": point.value, "fast_mb": 400.0, "plain_mb": 500.0, **speeds}
        for point in scaling.points(quick=True)
    ]
    assert {record["dimension"] for record in records} == set(scaling.DIMENSIONS)
    scaling.draw(records, "tiny", tmp_path)
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
