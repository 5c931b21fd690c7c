"""The model: recorded forward passes, initialisation, saving and loading, gradients, solving, wrong input."""

import subprocess
import sys

import pytest
import torch
from golden_fixtures import golden_batch, golden_config, golden_json, golden_model, golden_tensors
from huggingface_hub.errors import StrictDataclassError
from plain_twin import PlainHrm
from tiny_models import OPTIONS, TINY, TINY_RECURSIVE, perturbed, plain_solve, some_inputs, tiny_model
from transformers import AutoConfig, AutoModel

from hrm_hf import ArgumentError, HrmConfig, HrmForPuzzleSolving, HrmModel, PuzzleError
from hrm_hf.hrm.halting import q_continue_targets


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", ["A", "B", "C", "I", "J"])
def test_recorded_forward_passes(case, attention):
    recorded = golden_json(f"{case}/config.json")
    want = golden_tensors(f"{case}/eval.safetensors")
    model = golden_model(recorded["config"], f"{case}/weights.safetensors").eval()
    model.set_attn_implementation(attention)
    batch, carry = golden_batch(want), None
    for segment in range(1, recorded["act_steps"] + 1):
        with torch.no_grad():
            out = model(**batch, carry=carry)
        carry = out.carry
        got = {"logits": out.logits, "z_H": carry.z_H, "z_L": carry.z_L}
        got |= {name: out[name] for name in ("q_halt_logits", "q_continue_logits")}
        for name, value in got.items():
            torch.testing.assert_close(value, want[f"step{segment}.{name}"], rtol=0, atol=3e-5)
        rows = len(batch["labels"])
        assert out.loss.item() * rows == pytest.approx(recorded["scalars_float64"][f"step{segment}.loss"], rel=1e-5)


def test_published_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = HrmForPuzzleSolving(HrmConfig())
    assert sum(p.numel() for name, p in model.named_parameters() if "puzzle" not in name) == 27_275_266


@pytest.mark.parametrize(
    ("mixer", "positions", "count"), [("mlp", "none", 5_028_866), ("attention", "rope", 6_828_034)]
)
def test_published_tiny_recursive_models_have_the_published_number_of_parameters(mixer, positions, count):
    sizes = dict(L_layers=2, H_cycles=3, L_cycles=6, num_prefix_positions=16)
    with torch.device("meta"):
        model = HrmForPuzzleSolving(HrmConfig(shared_levels=True, mixer=mixer, pos_encodings=positions, **sizes))
    assert sum(p.numel() for name, p in model.named_parameters() if "puzzle" not in name) == count


def check_fresh_statistics(model: HrmForPuzzleSolving) -> None:
    """Every tensor of a fresh model against the rule that initialises it."""
    width = model.config.hidden_size
    checked = set()
    for name, tensor in model.state_dict().items():
        tensor = tensor.float()
        if name == "q_head.bias":
            assert (tensor == -5).all()
        elif name in ("q_head.weight", "model.puzzle_embeddings.weight"):
            assert (tensor == 0).all()
        else:
            fan_in = tensor.shape[-1] if "level" in name else width
            std = 1.0 if name.endswith("_init") else fan_in**-0.5
            error = 5 / tensor.numel() ** 0.5  # five standard errors, generously
            assert tensor.std().item() == pytest.approx(std, rel=error), name
            assert abs(tensor.mean().item()) < std * error, name
            assert tensor.abs().max() <= std * 2.2738 * 1.01, name
            if tensor.numel() > 2000:
                assert tensor.abs().max() > std * 2.1, name
        checked.add(name)
    assert len(checked) == len(model.state_dict())


@pytest.mark.parametrize("options", [{"pos_encodings": "learned"}, *OPTIONS.values()])
def test_fresh_initialisation(options):
    check_fresh_statistics(tiny_model(hidden_size=64, puzzle_emb_ndim=80, **options))


def test_fresh_initialisation_where_the_config_is_the_only_file(tmp_path):
    config = HrmConfig(**TINY | {"hidden_size": 64}, pos_encodings="learned")
    config.save_pretrained(tmp_path)
    check_fresh_statistics(AutoModel.from_config(AutoConfig.from_pretrained(tmp_path)))


def test_missing_tensors_are_made_afresh_on_loading(tmp_path):
    model = perturbed(tiny_model(hidden_size=64, pos_encodings="learned"))
    model.model.save_pretrained(tmp_path)  # the core alone: no heads
    loaded, report = HrmForPuzzleSolving.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"lm_head.weight", "q_head.weight", "q_head.bias"}
    assert (loaded.q_head.bias == -5).all() and (loaded.q_head.weight == 0).all()
    assert loaded.lm_head.weight.std().item() == pytest.approx(64**-0.5, rel=0.2)
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name


@pytest.mark.parametrize("device_map", [None, "cpu", "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{"pos_encodings": "learned"}, *OPTIONS.values()])
def test_save_and_load_are_bit_exact(tmp_path, dtype, options, device_map):
    model = perturbed(tiny_model(puzzle_emb_ndim=40, **options)).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = HrmForPuzzleSolving.from_pretrained(tmp_path, dtype=dtype, device_map=device_map)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]) and tensor.dtype == loaded.state_dict()[name].dtype
    with torch.no_grad():
        a, b = model(some_inputs()), loaded(some_inputs())
    assert torch.equal(a.logits, b.logits) and torch.equal(a.carry.z_L, b.carry.z_L)
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_auto_model_is_the_puzzle_solver_and_knows_the_dtype_of_the_file(tmp_path):
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is HrmForPuzzleSolving and loaded.dtype == torch.bfloat16
    assert AutoModel.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_compute_dtype_rules_the_activations_whatever_the_weights_are():
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    out = model(some_inputs())
    assert out.logits.dtype == out.carry.z_H.dtype == torch.bfloat16 and out.q_halt_logits.dtype == torch.float32
    model.to(torch.bfloat16).config.compute_dtype = "float32"
    assert model(some_inputs()).logits.dtype == torch.float32


def test_attention_is_bidirectional():
    for attention in ("sdpa", "eager"):
        model = perturbed(tiny_model(H_cycles=1, L_cycles=1))
        model.set_attn_implementation(attention)
        inputs = some_inputs(1)
        changed = inputs.clone()
        changed[0, -1] = changed[0, -1] % 5 + 1
        difference = (model(inputs).logits - model(changed).logits).abs().amax(-1)[0]
        assert (difference > 1e-6).all()  # every cell, the first too, sees the last


@pytest.mark.parametrize("changed", [{}, {"rope_theta": 10_000.0}, {"rms_norm_eps": 1e-5}])
def test_the_base_of_the_rotation_and_the_epsilon_of_the_norms_are_the_configs(changed):
    """Beside the plain twin; with one of the two at its default the twin gives another answer."""
    unusual = {"rope_theta": 500.0, "rms_norm_eps": 1e-3}
    model = perturbed(tiny_model(**unusual))
    twin = PlainHrm(HrmConfig(**TINY | {"puzzle_emb_ndim": 32} | unusual | changed)).load(model.state_dict())
    inputs = some_inputs()
    batch = {"input_ids": inputs, "puzzle_identifiers": torch.zeros(len(inputs), dtype=torch.long)}
    ours, plain = None, twin.initial_carry(len(inputs))
    with torch.no_grad():
        for _ in range(2):
            out = model(inputs, carry=ours)
            ours = out.carry
            plain, logits, q_halt, _ = twin.segment(plain, batch)
    differences = [(out.logits - logits).abs().max().item(), (out.q_halt_logits - q_halt).abs().max().item()]
    assert max(differences) < 1e-4 if not changed else min(differences) > 2e-3


def test_only_the_last_updates_carry_gradients():
    """The one-step gradient equals the full gradient of those two updates with everything before them held fixed."""
    model = perturbed(tiny_model(H_cycles=2, L_cycles=3))
    inputs = some_inputs()
    model(inputs).logits.square().sum().backward()
    got = {
        name: p.grad.to_dense() if p.grad.is_sparse else p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }

    core = model.model
    e = core.embed(inputs)
    from hrm_hf.hrm.modeling_hrm import rotary_tables

    rotary = rotary_tables(e.shape[1], core.config.head_dim, core.config.rope_theta, e.device)
    z_H, z_L = core.initial_carry(len(inputs))
    for h in range(2):
        for _ in range(3):
            z_L = core.L_level(z_L.detach(), z_H.detach() + e, rotary)
        if h == 0:
            z_H = core.H_level(z_H.detach(), z_L.detach(), rotary)
    z_H = core.H_level(z_H.detach(), z_L, rotary)
    logits = z_H[:, core.config.num_prefix :] @ model.lm_head.weight.T
    names = list(got)
    parameters = [dict(model.named_parameters())[name] for name in names]
    want = torch.autograd.grad(logits.square().sum(), parameters)
    for name, gradient in zip(names, want, strict=True):
        gradient = gradient.to_dense() if gradient.is_sparse else gradient
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("mixer", ["attention", "mlp"])
@pytest.mark.parametrize(("span", "carried"), [("last_updates", 2), ("last_cycle", 4), ("segment", 8)])
def test_the_span_of_the_gradient(span, carried, mixer, shared):
    """The last updates of the segment, as many as the span has, by a plain loop with autograd through them."""
    options = {"mixer": mixer, "shared_levels": shared, "pos_encodings": "none", "num_prefix_positions": 2}
    model = perturbed(tiny_model(H_cycles=2, L_cycles=3, gradient_span=span, **options))
    inputs, core = some_inputs(), model.model
    model(inputs).logits.square().sum().backward()

    e = core.embed(inputs)
    z_H, z_L = core.initial_carry(len(inputs))
    updates = "LLLHLLLH"
    for number, level in enumerate(updates):
        if number == len(updates) - carried:
            z_H, z_L = z_H.detach(), z_L.detach()
        if level == "L":
            z_L = core.L_level(z_L, z_H + e, None)
        else:
            z_H = (core.L_level if shared else core.H_level)(z_H, z_L, None)
    logits = z_H[:, 2:] @ model.lm_head.weight.T
    parameters = {name: p for name, p in model.named_parameters() if "q_head" not in name}
    want = torch.autograd.grad(logits.square().sum(), parameters.values())
    for (name, parameter), gradient in zip(parameters.items(), want, strict=True):
        assert gradient.norm() > 0
        assert (parameter.grad - gradient).norm() < 1e-5 * gradient.norm(), name


def test_every_parameter_gets_a_gradient_and_buffers_get_none():
    for positions in ("rope", "learned"):
        model = perturbed(tiny_model(pos_encodings=positions, puzzle_emb_ndim=40))
        out = model(
            some_inputs(), labels=some_inputs(seed=3), q_continue_targets=torch.rand(5, generator=torch.Generator())
        )
        out.loss.backward()
        for name, parameter in model.named_parameters():
            gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
            assert gradient.abs().sum() > 0, name
        assert not model.model.puzzle_embeddings.weight.grad.is_sparse
        assert not model.model.z_H_init.requires_grad


def test_loss_is_the_mean_over_rows_of_the_parts():
    model = perturbed(tiny_model())
    inputs, labels = some_inputs(), some_inputs(seed=3)
    targets = torch.linspace(0, 1, 5)
    whole = model(inputs, labels=labels, q_continue_targets=targets).loss
    rows = [
        model(inputs[i : i + 1], labels=labels[i : i + 1], q_continue_targets=targets[i : i + 1]).loss
        for i in range(5)
    ]
    torch.testing.assert_close(whole, torch.stack(rows).mean())
    as_tuple = model(inputs, labels=labels, return_dict=False)
    assert isinstance(as_tuple, tuple) and len(as_tuple) == 5


def test_carry_reset_replaces_rows_even_when_they_hold_nan():
    model = tiny_model()
    carry = model(some_inputs()).carry
    carry.z_H[1] = float("nan")
    reset = model.reset_carry(carry, torch.tensor([False, True, False, False, False]))
    fresh = model.initial_carry(5)
    assert torch.equal(reset.z_H[1], fresh.z_H[1]) and torch.equal(reset.z_L[1], fresh.z_L[1])
    assert torch.equal(reset.z_H[0], carry.z_H[0])


def test_padded_prefix_of_several_positions():
    model = perturbed(tiny_model(puzzle_emb_ndim=70, num_puzzle_identifiers=3))
    assert model.config.num_prefix == 3 and model.config.num_positions == 19
    e = model.model.embed(some_inputs(2), torch.tensor([0, 2]))
    row = model.model.puzzle_embeddings.weight[2]
    flat = e[1, :3].flatten() / 32**0.5
    torch.testing.assert_close(flat[:70], row)
    assert (flat[70:] == 0).all()


@pytest.mark.parametrize("options", [{}, TINY_RECURSIVE])
@pytest.mark.parametrize("halt", [True, False])
def test_solve_equals_solving_row_by_row(halt, options):
    model = perturbed(tiny_model(**options), seed=5)
    inputs = some_inputs(12)
    out = model.solve(inputs, max_segments=6, halt=halt)
    want = plain_solve(model, inputs, 6, halt)
    assert out.segments.tolist() == [segment for _, segment, _ in want]
    assert torch.equal(out.sequences, torch.stack([sequence for sequence, _, _ in want]))
    torch.testing.assert_close(out.q_halt_logits, torch.stack([q for _, _, q in want]), rtol=0, atol=1e-5)
    assert len(set(out.segments.tolist())) > 1 if halt else set(out.segments.tolist()) == {6}


def test_solve_takes_the_models_limit_and_an_empty_batch():
    model = perturbed(tiny_model())
    assert model.solve(some_inputs(), halt=False).segments.tolist() == [3] * 5
    assert model.solve(some_inputs()[:0]).sequences.shape == (0, 16)


def test_wrong_input_is_named():
    model = tiny_model(num_puzzle_identifiers=4)
    inputs = some_inputs()
    with pytest.raises(PuzzleError, match=r"input_ids has shape \(5, 15\); expected \(batch, 16\)"):
        model(inputs[:, 1:])
    with pytest.raises(PuzzleError, match="input_ids holds 6, which is outside the vocabulary: allowed are 0 to 5"):
        model(inputs.index_fill(1, torch.tensor([3]), 6))
    with pytest.raises(
        PuzzleError, match="puzzle_identifiers holds 4, which is outside the puzzle table: allowed are 0 to 3"
    ):
        model(inputs, puzzle_identifiers=torch.tensor([0, 1, 2, 3, 4]))
    with pytest.raises(PuzzleError, match=r"puzzle_identifiers has shape \(1,\)"):
        model(inputs, puzzle_identifiers=torch.tensor([0]))
    with pytest.raises(PuzzleError, match="labels holds -1, which is outside the vocabulary"):
        model(inputs, labels=inputs.index_fill(1, torch.tensor([3]), -1))
    with pytest.raises(ArgumentError, match="max_segments is 0; allowed: integers from 1"):
        model.solve(inputs, max_segments=0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_attention_heads", 3, "hidden_size 32 is not divisible by num_attention_heads 3"),
        ("num_attention_heads", 32, "rope needs an even head width"),
        ("hidden_size", 0, "hidden_size is 0; it must be greater than 0"),
        ("puzzle_emb_ndim", -1, "puzzle_emb_ndim is -1"),
        ("pos_encodings", "sinus", "pos_encodings is 'sinus'; allowed are 'rope', 'learned', 'none'"),
        ("mixer", "mlp", "pos_encodings is 'rope'; with mixer 'mlp' allowed are 'learned', 'none'"),
        ("mixer", "conv", "mixer is 'conv'; allowed are 'attention', 'mlp'"),
        ("gradient_span", "all", "gradient_span is 'all'; allowed are 'last_updates', 'last_cycle', 'segment'"),
        (
            "num_prefix_positions",
            15,
            "num_prefix_positions is 15; with puzzle_emb_ndim 512 and hidden_size 32 allowed",
        ),
        ("num_prefix_positions", 1025, "num_prefix_positions is 1025; .* allowed are None and 16 to 1024"),
        ("shared_levels", "yes", "shared_levels"),
        ("token_loss", "mse", "token_loss is 'mse'"),
        ("label_smoothing", 0.1, "label_smoothing is 0.1; allowed is 0, with softmax also up to below 1"),
        ("label_smoothing", 1.0, "label_smoothing is 1.0; allowed is 0"),
        ("label_smoothing", float("nan"), "label_smoothing is nan; allowed is 0"),
        ("halting_loss_weight", 0.0, "halting_loss_weight is 0.0; it must be greater than 0"),
        ("halting_loss_weight", float("inf"), "halting_loss_weight is inf"),
        ("compute_dtype", "float16", "compute_dtype is 'float16'"),
        ("halt_max_steps", 0, "halt_max_steps is 0"),
        ("seq_len", "81", "seq_len"),
    ],
)
def test_config_refuses(field, value, message):
    with pytest.raises(StrictDataclassError, match=message):
        HrmConfig(**{**TINY, field: value})


DOUBTFUL = golden_json("J0/config.json")


@pytest.mark.parametrize("case", DOUBTFUL["cases"], ids=lambda case: case["case"])
def test_settings_that_fail_in_the_published_code_are_refused_when_the_config_is_made(case):
    recorded = DOUBTFUL["base"] | case["differs_by"]
    if recorded["mlp_t"] and recorded["pos_encodings"] == "rope":
        recorded["pos_encodings"] = "none"  # the published code does not look at it
    if "error" in case["outcome"] and recorded["no_ACT_continue"] and "softmax" not in recorded["loss_type"]:
        with pytest.raises(StrictDataclassError, match=r"num_prefix_positions is \d+; with puzzle_emb_ndim"):
            golden_config(recorded)
    else:
        config = golden_config(recorded)
        assert config.num_prefix == case["prefix_positions_P"]
        answers = HrmForPuzzleSolving(config).solve(torch.ones(3, 8, dtype=torch.long))
        assert answers.sequences.shape == (3, 8)


def test_inner_width_is_rounded_up_to_256():
    assert [HrmConfig(hidden_size=d, num_attention_heads=1).intermediate_size for d in (64, 96, 98, 512)] == [
        256,
        256,
        512,
        1536,
    ]


def test_core_alone_runs_one_segment():
    model = tiny_model()
    out = model.model(some_inputs())
    assert isinstance(model.model, HrmModel) and out.last_hidden_state.shape == (5, 17, 32)
    assert torch.equal(out.carry.z_H, out.last_hidden_state) and not out.carry.z_H.requires_grad


def test_q_continue_target_needs_no_gradient_and_uses_the_new_carry():
    model = perturbed(tiny_model())
    first = model(some_inputs())
    following = model(some_inputs(), carry=first.carry)
    targets = q_continue_targets(following.q_halt_logits, following.q_continue_logits, torch.full((5,), 3), 3)
    torch.testing.assert_close(targets, following.q_halt_logits.sigmoid())


def test_segment_compiles_without_graph_breaks():
    model = perturbed(tiny_model())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    inputs = some_inputs()
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs).logits, model(inputs).logits, rtol=0, atol=1e-6)


def test_importing_the_package_stays_light():
    # transformers itself takes accelerate where it is installed: what counts is what hrm_hf adds to it
    code = (
        "import sys, transformers.modeling_utils, transformers.pipelines; before = set(sys.modules); import hrm_hf;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}"
        " & {'h5py', 'accelerate', 'datasets', 'evaluate', 'yaml', 'pyarrow'}));"
        # pictures come when asked for
        "print(sorted(m for m in sys.modules if m.startswith(('hrm_hf.games', 'hrm_hf.data'))));"
        "hrm_hf.picture.save_picture; print('hrm_hf.games.picture' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]", "True False"]


def test_fields_given_to_from_pretrained_are_checked(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="compute_dtype is 'int8'; allowed are 'float32', 'bfloat16'"):
        HrmForPuzzleSolving.from_pretrained(tmp_path, compute_dtype="int8")
