"""Every fast path of a training step beside the plain one: shared weights, attention, compiling, fused optimiser."""

import sys
import types

import pytest
import torch
from golden_fixtures import (
    golden_batch,
    golden_json,
    golden_model,
    golden_tensors,
    golden_training_arguments,
)
from recorded_steps import check_six_recorded_steps
from tiny_models import TINY_RECURSIVE, perturbed, some_inputs, tiny_model
from training_parts import arguments, batch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from hrm_hf import ArgumentError
from hrm_hf.hrm.modeling_hrm import WRITTEN_OUT_POSITIONS, HrmBlock, attention_function, eager_attention_forward
from hrm_hf.scores.compiled import check_compiler, compiled_block
from hrm_hf.training import AdamATan2, HrmTrainer
from hrm_hf.training.adam_atan2 import atan2_right, make_adam_atan2
from hrm_hf.training.sign_sgd import sum_rows
from hrm_hf.training.slots import ExplorationDraws

CPU = torch.device("cpu")
# PyTorch's compiler looks at .grad of every tensor that it is given.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
TWO_LAYERS = {"H_layers": 2, "L_layers": 2}
ARCHITECTURES = [
    {},
    {"pos_encodings": "learned", "H_layers": 2, "puzzle_emb_ndim": 70},
    {"puzzle_emb_ndim": 0, "H_layers": 2, "L_layers": 2, "H_cycles": 3, "L_cycles": 1},
    TINY_RECURSIVE,
    {"mixer": "mlp", "pos_encodings": "learned", "H_layers": 2, "gradient_span": "segment"},
]


def gradients(model) -> dict[str, torch.Tensor]:
    """Dense gradients by name."""
    found = {name: p.grad.to_dense() if p.grad.is_sparse else p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    return found


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_q_logits_ahead_are_those_of_a_whole_segment(changes):
    model = perturbed(tiny_model(**changes))
    inputs = some_inputs()
    carry = model(inputs).carry
    with torch.no_grad():
        want = model(inputs, carry=carry)
        got = model.q_logits_ahead(carry, model.model.embed(inputs))
    torch.testing.assert_close(got[0], want.q_halt_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(got[1], want.q_continue_logits, rtol=0, atol=1e-5)
    assert want.q_halt_logits.std() > 0.1  # the rows differ


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_a_segment_with_kept_weights_is_the_plain_one_bit_for_bit(changes, dtype):
    model = perturbed(tiny_model(compute_dtype=dtype, **changes))
    inputs, labels = some_inputs(), some_inputs(seed=3)
    plain = model(inputs, labels=labels)
    plain.loss.backward()
    want = gradients(model)
    with model.model.kept_weights():
        got = model(inputs_embeds=model.model.embed(inputs), labels=labels)
    got.loss.backward()
    assert torch.equal(got.loss, plain.loss) and torch.equal(got.carry.z_H, plain.carry.z_H)
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, want[name]), name


def test_attention_is_written_out_where_that_is_faster():
    query = torch.zeros(1, 1, WRITTEN_OUT_POSITIONS, 2, dtype=torch.bfloat16)
    assert attention_function("sdpa", query) is eager_attention_forward
    assert attention_function("sdpa", query.float()) is sdpa_attention_forward
    assert attention_function("sdpa", torch.cat((query, query), dim=2)) is sdpa_attention_forward
    assert attention_function("sdpa", query.to("meta")) is sdpa_attention_forward
    assert attention_function("eager", query.float()) is eager_attention_forward


def test_written_out_attention_is_as_accurate_as_the_fused_one():
    generator = torch.Generator().manual_seed(0)
    block = tiny_model(compute_dtype="bfloat16").model.L_level.layers[0]
    inputs = torch.randn(3, 2, 4, 82, 16, generator=generator).bfloat16()  # query, key, value (B, N, T, K)
    outputs = {}
    for name, attention, leaf in (
        ("exact", sdpa_attention_forward, inputs.double()),
        ("fused", sdpa_attention_forward, inputs.clone()),
        ("written out", eager_attention_forward, inputs.clone()),
    ):
        leaf.requires_grad_()
        out, _ = attention(block.self_attn, *leaf, None, scaling=0.25, dropout=0.0)
        out.square().sum().backward()
        outputs[name] = (out.detach().double(), leaf.grad.double())
    for exactly, fused, written in zip(*outputs.values(), strict=True):
        error, bound = (written - exactly).norm() / exactly.norm(), (fused - exactly).norm() / exactly.norm()
        assert error < 3 * bound, (error, bound)


def segment_and_gradients(model, run_block) -> dict[str, torch.Tensor]:
    inputs, labels = some_inputs(), some_inputs(seed=3)
    with model.model.kept_weights():
        embeddings = model.model.embed(inputs)
        out = model(inputs_embeds=embeddings, labels=labels, run_block=run_block)
        ahead = model.q_logits_ahead(out.carry, embeddings.detach(), run_block)
    out.loss.backward()
    return {"logits": out.logits.detach(), "ahead": torch.stack(ahead), **gradients(model)}


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm()).item()


@pytest.fixture(scope="module")
def plain_segments() -> dict[str, dict[str, torch.Tensor]]:
    """By dtype, what a model computes without compiling."""
    return {
        dtype: segment_and_gradients(perturbed(tiny_model(compute_dtype=dtype, **TWO_LAYERS)), HrmBlock.__call__)
        for dtype in ("float32", "bfloat16")
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_compiled_block_is_the_plain_one_and_compiled_once(compiler, plain_segments, dtype):
    """As exact as the plain one: bfloat16's distance from float32 says, for each tensor, how rounding grows in it."""
    model, run_block = perturbed(tiny_model(compute_dtype=dtype, **TWO_LAYERS)), compiled_block(CPU)
    torch._dynamo.utils.counters.clear()
    compiled = segment_and_gradients(model, run_block)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # with gradient and without, for all blocks
    with torch.compiler.set_stance("fail_on_recompile"):
        again = segment_and_gradients(model, run_block)
    exact, coarse = plain_segments["float32"], plain_segments["bfloat16"]
    # Beside float32, compiled bfloat16 may err three times as much as plain bfloat16. Float32 has nothing more exact
    # beside it, so two errors add up, and those of the sums, which are float32's in both.
    factor = 3 if dtype == "bfloat16" else 8
    for name, want in exact.items():
        growth = max(1.0, distance(coarse[name], want) / torch.finfo(torch.bfloat16).eps)
        for got in (compiled[name], again[name]):
            assert distance(got, want) < factor * growth * torch.finfo(getattr(torch, dtype)).eps, (name, growth)


def test_compiled_blocks_solve_the_same_with_any_batch_size(compiler):
    model = perturbed(tiny_model(halt_max_steps=6), seed=5)
    inputs, sizes = some_inputs(24, 4), []
    block = compiled_block(CPU, any_batch_size=True)

    def run_block(*args):
        sizes.append(len(args[1]))
        return block(*args)

    halting = model.solve(inputs, run_block=run_block)  # rows leave, and the batch gets smaller
    assert len(set(sizes)) >= 3 and halting.segments.min() < halting.segments.max()
    for rows in (24, 23, 9, 2):
        want = model.solve(inputs[:rows], max_segments=2, halt=False)
        with torch.compiler.set_stance("fail_on_recompile"):
            got = model.solve(inputs[:rows], max_segments=2, halt=False, run_block=run_block)
        assert sizes[-1] == rows and (got.sequences == want.sequences).float().mean() > 0.98
        torch.testing.assert_close(got.q_halt_logits, want.q_halt_logits, rtol=0, atol=1e-4)


def test_a_run_block_that_cannot_be_called_is_refused():
    with pytest.raises(ArgumentError, match="run_block is True; allowed: None, or what"):
        tiny_model().solve(some_inputs(), run_block=True)


@pytest.mark.parametrize("run", ["D", "K"])
def test_six_recorded_steps_compiled(compiler, monkeypatch, run):
    compiled = []
    monkeypatch.setattr(
        "hrm_hf.training.steps.compiled_block", lambda device: compiled.append(device) or compiled_block(device)
    )
    check_six_recorded_steps("noexplore", run, compile=True)
    assert compiled == [CPU]


def test_six_recorded_steps_in_bfloat16():
    """The losses of float32 to bfloat16's rounding, which the optimiser, blind to scale, soon makes large."""
    record = golden_json("D/config.json")
    args = golden_training_arguments(record["config"], record["variants"]["explore"]["halt_exploration_prob"])
    model = golden_model(record["config"], "D/init.safetensors")
    model.config.compute_dtype = "bfloat16"
    trainer = HrmTrainer(model, args, [])
    for step, scalars in enumerate(record["variants"]["explore"]["scalars"], start=1):
        want = golden_tensors(f"D/explore/step{step}.safetensors")
        sums = trainer.training_step(golden_batch(want), ExplorationDraws(want["draw.rand"], want["draw.randint"]))
        loss = sums["lm_loss"] + 0.5 * (sums["q_halt_loss"] + sums["q_continue_loss"])
        assert loss.item() == pytest.approx(scalars["loss"], rel=0.01 if step <= 2 else 0.1), step
        trainer.optimizer_step()


def some_parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(96, 64), (5, 1000), (2, 64), (2,)]  # above and below the size from which the update is compiled
    return [torch.nn.Parameter(0.05 * torch.randn(shape, generator=generator)) for shape in shapes]


def test_compiled_adam_atan2_is_the_plain_one(compiler):
    pairs = list(zip(some_parameters(), some_parameters(), strict=True))
    how = {"lr": 0.0, "betas": (0.9, 0.95), "weight_decay": 0.1}
    plain = AdamATan2([p for p, _ in pairs], **how)
    compiled = AdamATan2([p for _, p in pairs], **how, compiled=True)
    generator = torch.Generator().manual_seed(1)
    for step in range(1, 9):
        for parameter, other in pairs:
            parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** (-step)
            parameter.grad.view(-1)[::7] = 0
            other.grad = parameter.grad.clone()
        for optimizer in (plain, compiled):
            optimizer.param_groups[0]["lr"] = 0.01 * step
            optimizer.step()
        if step == 4:  # the state goes out and in as it does for every optimiser
            compiled.load_state_dict(compiled.state_dict())
    for parameter, other in pairs:
        # each of 8 steps rounds twice, by half an eps of the largest entry at most
        assert (parameter - other).abs().max() < 8 * torch.finfo(torch.float32).eps * parameter.abs().max()
        mine, theirs = compiled.state[other], plain.state[parameter]
        assert mine.keys() == theirs.keys() and mine["step"] == 8
        for name in ("exp_avg", "exp_avg_sq"):
            assert mine[name].shape == other.shape
            smallest = 1e-7 * theirs[name].abs().max().item()  # what two terms that cancel leave is rounding
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=smallest)


def test_compiled_steps_of_muon_with_a_growing_depth_are_the_plain_ones(compiler):
    """Both depths run the same compiled blocks. (Of Muon's bound: test_muon.py.)"""
    start, trained = perturbed(tiny_model(**TWO_LAYERS)).state_dict(), []
    for is_compiled in (False, True):
        how = {"optimizer": "muon", "max_grad_norm": 0.5, "max_steps": 2, "depth_schedule": "0:2x1,0.5:3x2"}
        model = perturbed(tiny_model(**TWO_LAYERS))
        trainer = HrmTrainer(model, arguments(compile=is_compiled, **how), [])
        trainer.training_step(batch(1))
        trainer.optimizer_step()
        trained.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    with torch.compiler.set_stance("fail_on_recompile"):
        trainer.training_step(batch(2))
    for name, tensor in trained[0].items():
        assert (trained[1][name] - tensor).norm() <= 0.1 * (tensor - start[name]).norm(), name


def test_the_fused_optimizer_is_given_rate_betas_and_decay(monkeypatch):
    """A stand-in for the package, which cannot be imported without CUDA: its defaults are not HRM's."""

    class Fused(AdamATan2):
        pass

    class OnCuda(torch.nn.Parameter):
        is_cuda = True

    monkeypatch.setitem(sys.modules, "adam_atan2", types.SimpleNamespace(AdamATan2=Fused))
    parameters = [OnCuda(parameter.detach()) for parameter in some_parameters()]
    optimizer = make_adam_atan2(parameters, lr=0.5, betas=(0.9, 0.95), weight_decay=0.1)
    (group,) = optimizer.param_groups
    assert type(optimizer) is Fused
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.9, 0.95), 0.1)
    assert type(make_adam_atan2(some_parameters(), 0.5, (0.9, 0.95), 0.1)) is AdamATan2  # not on CUDA

    monkeypatch.setitem(sys.modules, "adam_atan2", None)  # not installed
    assert type(make_adam_atan2(parameters, 0.5, (0.9, 0.95), 0.1)) is AdamATan2


def test_atan2_right_is_atan2():
    lengths = torch.logspace(-18, 18, 73)
    heights = torch.cat((-lengths, torch.zeros(1), lengths))
    y, x = torch.meshgrid(heights, torch.cat((torch.zeros(1), lengths)), indexing="ij")
    want = torch.atan2(y.double(), x.double())
    got = atan2_right(y, x)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=3e-7)
    small = want.abs() < 1e-3
    torch.testing.assert_close(got[small].double(), want[small], rtol=3e-7, atol=1e-38)
    assert atan2_right(torch.tensor(float("nan")), torch.tensor(1.0)).isnan()


def test_summed_rows_of_equal_identifiers_are_equal():
    identifiers = torch.tensor([7, 2, 7, 0, 2, 7])
    rows = torch.arange(12.0).view(6, 2)
    found, sums = sum_rows(identifiers, rows)
    assert found.tolist() == [0, 2, 2, 7, 7, 7]
    want = {0: [6.0, 7.0], 2: [10.0, 12.0], 7: [14.0, 17.0]}
    assert sums.tolist() == [want[identifier] for identifier in found.tolist()]


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    def no_compiler(*args, **kwargs):
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", no_compiler)
    check_compiler.cache_clear()
    with pytest.raises(
        ArgumentError, match=r"torch.compile does not work here \(RuntimeError: no C\+\+ compiler more\)"
    ):
        HrmTrainer(tiny_model(), arguments(compile=True), [])
