"""Published checkpoints of the Tiny Recursive Model, both ways: the recorded numbers, the files that people pass on.

The fixtures I (attention, rotary) and J (mixer over positions) are state dicts as the published code saves them.
"""

import json
from pathlib import Path

import pytest
import torch
import yaml
from golden_fixtures import golden_json, golden_tensors
from paths import GOLDEN, ROOT

from hrm_hf import CheckpointError, HrmConfig, HrmForPuzzleSolving
from hrm_hf.commands.checkpoint_to_hf import COMMAND as TO_HF
from hrm_hf.commands.checkpoint_to_original import COMMAND as TO_ORIGINAL
from hrm_hf.original.checkpoints import config_from_published, load_published, published_settings, published_tensors

PREFIX = "_orig_mod.model.inner."
SAME = "H_cycles L_cycles H_layers L_layers hidden_size num_heads expansion puzzle_emb_ndim puzzle_emb_len mlp_t"
SAME += " pos_encodings halt_max_steps halt_exploration_prob forward_dtype no_ACT_continue rope_theta rms_norm_eps"


def settings_of(case: str, **arch) -> dict:
    """The content of an all_config.yaml for a fixture; an entry that is None is left out."""
    recorded = golden_json(f"{case}/config.json")["config"]
    given = {
        "name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
        "loss": {"name": "losses@ACTLossHead", "loss_type": recorded["loss_type"]},
        **{name: recorded[name] for name in SAME.split()},
        **arch,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return {"arch": given, "data_paths": ["data/made-for-a-test"], "ema": True, "ema_rate": 0.999, "lr": 1e-4}


def write(folder: Path, case: str, content=None, settings=None, file: str = "step_1000") -> Path:
    """A checkpoint as the published code leaves it; `content` in place of the recorded state dict."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(golden_tensors(f"{case}/weights.safetensors") if content is None else content, folder / file)
    (folder / "all_config.yaml").write_text(yaml.safe_dump(settings or settings_of(case)))
    return folder


def convert(original: Path, ours: Path, *extra: str) -> HrmForPuzzleSolving:
    assert TO_HF.main([f"--checkpoint={original}", f"--output-dir={ours}", *extra]) == 0
    return HrmForPuzzleSolving.from_pretrained(ours).eval()


def refused(original: Path, *extra: str, capsys) -> str:
    assert TO_HF.main([f"--checkpoint={original}", f"--output-dir={original / 'out'}", *extra]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and not (original / "out").exists(), message
    return message


def fields(config: HrmConfig) -> dict:
    """What this package's configuration adds to that of transformers."""
    return {name: getattr(config, name) for name in HrmConfig.__annotations__}


CELLS = {"I": ["--seq-len=25"], "J": []}  # J's mixer tells


@torch.no_grad()
def largest_differences(model: HrmForPuzzleSolving, case: str, recording: str) -> dict[str, float]:
    """Largest absolute difference to each recorded array, the carry handed from segment to segment."""
    batch, recorded = (golden_tensors(f"{case}/{name}.safetensors") for name in ("eval", recording))
    differences, carry = {}, None
    for segment in range(1, model.config.halt_max_steps + 1):
        out = model(batch["batch.inputs"], batch["batch.puzzle_identifiers"], carry=carry)
        carry = out.carry
        ours = {"logits": out.logits, "z_H": carry.z_H, "z_L": carry.z_L}
        ours |= {name: out[name] for name in ("q_halt_logits", "q_continue_logits")}
        for name, value in ours.items():
            if (key := f"step{segment}.{name}") in recorded:
                assert value.shape == recorded[key].shape
                differences[key] = (value.float() - recorded[key]).abs().max().item()
    return differences


@pytest.mark.parametrize("case", ["I", "J"])
def test_the_command_reproduces_the_recorded_forward_passes(tmp_path, case):
    model = convert(write(tmp_path / "original", case), tmp_path / "ours", *CELLS[case])
    differences = largest_differences(model, case, "eval")
    assert len(differences) == 5 * model.config.halt_max_steps
    assert all(difference < 3e-5 for difference in differences.values()), differences
    assert {entry.ours for entry in published_tensors(model.config)} == model.state_dict().keys()


@pytest.mark.parametrize("case", ["I", "J"])
def test_bfloat16_is_as_near_to_float32_as_the_published_code(tmp_path, case):
    original = write(tmp_path / "original", case)
    model = convert(original, tmp_path / "ours", *CELLS[case], "--compute-dtype=bfloat16")
    bounds = golden_json(f"{case}/config.json")["bf16_vs_f32_max_abs"]
    to_float32, to_bfloat16 = (largest_differences(model, case, name) for name in ("eval", "eval_bf16"))
    assert len(to_bfloat16) == 3 * model.config.halt_max_steps
    compared = bounds.keys() & to_bfloat16.keys()
    assert len(compared) == 2 * model.config.halt_max_steps
    for key in compared:
        assert 0 < to_float32[key] < 3 * bounds[key], (key, to_float32[key], bounds[key])
        assert to_bfloat16[key] < 3 * bounds[key], (key, to_bfloat16[key], bounds[key])  # 0 on some processors


def assert_same_tensors(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name  # bit by bit


@pytest.mark.parametrize("init_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["I", "J"])
def test_there_and_back_gives_the_same_bytes(tmp_path, case, init_dtype):
    weights = golden_tensors(f"{case}/weights.safetensors")
    for name in ("H_init", "L_init"):
        weights[PREFIX + name] = weights[PREFIX + name].to(init_dtype)
    settings = settings_of(case, forward_dtype=str(init_dtype).removeprefix("torch."))
    original = write(tmp_path / "original", case, weights, settings)
    model = convert(original, tmp_path / "ours", *CELLS[case])
    back = [f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'back'}"]
    assert TO_ORIGINAL.main([*back, f"--config={original / 'all_config.yaml'}"]) == 0
    assert_same_tensors(torch.load(tmp_path / "back" / "checkpoint", weights_only=True), weights)
    written = yaml.safe_load((tmp_path / "back" / "all_config.yaml").read_text())
    assert written == settings | {"seq_len": model.config.seq_len}
    # settings that name no family contradict none
    (tmp_path / "unnamed.yaml").write_text(yaml.safe_dump({"arch": {"name": "mine@Model"}, "lr": 1e-4}))
    unnamed = [f"--config={tmp_path / 'unnamed.yaml'}", f"--output-dir={tmp_path / 'unnamed'}"]
    assert TO_ORIGINAL.main([*back[:1], *unnamed]) == 0
    assert fields(convert(tmp_path / "unnamed", tmp_path / "from-unnamed").config) == fields(model.config)
    # without the settings of a run, what the model needs is written all the same
    assert TO_ORIGINAL.main([*back[:1], f"--output-dir={tmp_path / 'bare'}"]) == 0
    again = convert(tmp_path / "bare", tmp_path / "again")
    assert fields(again.config) == fields(model.config)
    assert_same_tensors(dict(again.state_dict()), dict(model.state_dict()))


def test_the_file_of_a_model_with_shared_levels_has_its_tensors_once(tmp_path):
    model = convert(write(tmp_path / "original", "J"), tmp_path / "ours")
    assert model.model.H_level is None
    published = sum(tensor.nbytes for tensor in golden_tensors("J/weights.safetensors").values())
    assert published < (tmp_path / "ours" / "model.safetensors").stat().st_size < published + 4000


@pytest.mark.parametrize("nested", ["model", "state_dict", "model_state_dict", "ema"])
def test_a_nested_state_dict(tmp_path, capsys, nested):
    weights = golden_tensors("J/weights.safetensors")
    content = {nested: weights, "optimizer": {"state": {}, "lr": 1e-4}, "step": 1000}
    original = write(tmp_path / "original", "J", content)
    if nested == "ema":
        assert "'ema' is no named dense tensor; name the state dict by --key" in refused(original, capsys=capsys)
        assert "has no entry 'average'; it holds ['ema', 'opt" in refused(original, "--key=average", capsys=capsys)
        assert "holds a int" in refused(original, "--key=step", capsys=capsys)
    plain = convert(write(tmp_path / "plain", "J"), tmp_path / "of-plain")
    model = convert(original, tmp_path / "ours", *(["--key=ema"] if nested == "ema" else []))
    assert_same_tensors(dict(model.state_dict()), dict(plain.state_dict()))


def test_several_nested_state_dicts_are_told_apart_by_their_key(tmp_path, capsys):
    weights = golden_tensors("J/weights.safetensors")
    original = write(tmp_path, "J", {"model": weights, "state_dict": weights})
    assert "several state dicts: choose from ['model', 'state_dict'] with --key" in refused(original, capsys=capsys)
    convert(original, tmp_path / "ours", "--key=state_dict")


def test_what_was_taken_of_a_file_is_said(tmp_path, capsys):
    live = golden_tensors("J/weights.safetensors")
    average = live | {f"{PREFIX}q_head.bias": torch.tensor([3.0, 4.0])}
    content = {"model": live, "ema_0.999": average, "optimizer": {"state": {}}, "step": 7}
    original = write(tmp_path / "both", "J", content)
    convert(original, tmp_path / "live")
    assert "its entry 'model' was taken; it also holds ['ema_0.999']: --key" in capsys.readouterr().err
    model = convert(original, tmp_path / "average", "--key=ema_0.999")
    assert "taken" not in capsys.readouterr().err and model.q_head.bias.tolist() == [3, 4]
    convert(write(tmp_path / "one", "J", {"model": live, "step": 7}), tmp_path / "of-one")
    assert capsys.readouterr().err.endswith("its entry 'model' was taken\n")


def test_a_state_dict_that_lies_deeper(tmp_path, capsys):
    original = write(tmp_path / "original", "J", {"model": {"state_dict": golden_tensors("J/weights.safetensors")}})
    message = refused(original, capsys=capsys)
    assert "'state_dict' is no named dense tensor; name the state dict by --key model.NAME" in message
    assert "has no entry 'model.other'; it holds ['model']" in refused(original, "--key=model.other", capsys=capsys)
    convert(original, tmp_path / "ours", "--key=model.state_dict")


def test_cells_of_a_mixer_without_puzzle_table_and_prefix_length(tmp_path):
    """The prefix is as long as the settings' row, of 40 numbers over D = 32: 2 positions of 19."""
    weights = golden_tensors("J/weights.safetensors")
    del weights[f"{PREFIX}puzzle_emb.weights"]
    model = convert(write(tmp_path / "original", "J", weights, settings_of("J", puzzle_emb_len=0)), tmp_path / "ours")
    assert (model.config.seq_len, model.config.num_prefix) == (17, 2)


def test_hrm_with_entries_of_trm_that_change_nothing(tmp_path, capsys):
    """As HRM in forks of TRM's repository."""
    arch = {"name": "recursive_reasoning.hrm@Some", "mlp_t": False, "puzzle_emb_len": 0, "no_ACT_continue": False}
    recorded = golden_json("C/config.json")["config"]
    arch |= {name: recorded[name] for name in SAME.split() if name in recorded}
    arch["loss"] = {"loss_type": recorded["loss_type"]}
    weights = golden_tensors("C/weights.safetensors")
    for number, name in enumerate((arch["name"], "mine@Model")):
        settings = {"arch": arch | {"name": name}}
        model = convert(
            write(tmp_path / f"{number}", "C", weights, settings), tmp_path / f"ours{number}", "--seq-len=16"
        )
        assert not model.config.shared_levels and published_settings(model.config, published=settings)
    settings["arch"]["mlp_t"] = True
    message = refused(write(tmp_path / "mlp", "C", weights, settings), "--seq-len=16", "--family=hrm", capsys=capsys)
    assert "HRM does not have: ['mlp_t']" in message


def test_files_of_the_wild(tmp_path, capsys):
    """Another prefix, rotary tables, no puzzle table, entries that change nothing, paths that name the task."""
    weights = golden_tensors("I/weights.safetensors")
    wild = {f"model.inner.{name.removeprefix(PREFIX)}": tensor for name, tensor in weights.items()}
    del wild["model.inner.puzzle_emb.weights"]
    wild |= {f"model.inner.rotary_emb.{name}_cached": torch.zeros(29, 16) for name in ("cos", "sin")}
    # the fixture has 7 cell codes; those of Sudoku
    for name in ("embed_tokens.embedding_weight", "lm_head.weight"):
        wild[f"model.inner.{name}"] = torch.nn.functional.pad(wild[f"model.inner.{name}"], (0, 0, 0, 4))
    settings = settings_of("I", dropout=0.0, causal=False, H_layers=None, mlp_t=None, no_ACT_continue=None)
    settings["data_paths"] = ["data/sudoku-extreme-1k-aug-1000", "data/sudoku-more"]
    model = convert(write(tmp_path / "original", "I", wild, settings), tmp_path / "ours")
    assert "no puzzle table: the model gets one blank row" in capsys.readouterr().err
    assert model.model.puzzle_embeddings.weight.shape == (1, 64) and not model.model.puzzle_embeddings.weight.any()
    assert model.config.seq_len == 81 and model.config.num_prefix == 4 and model.config.halting == "halt_only"
    assert json.loads((tmp_path / "ours" / "processor_config.json").read_text())["task"] == "sudoku"
    settings["data_paths"] = ["data/sudoku", "data/maze"]
    assert "names no task of 11 cell codes" in refused(write(tmp_path, "I", wild, settings), capsys=capsys)


@pytest.mark.parametrize(
    ("arch", "part"),
    [
        ({"dropout": 0.1}, "arch holds entries that the Tiny Recursive Model does not have: ['dropout']"),
        ({"norm": "pre"}, "does not have: ['norm']"),
        ({"puzzle_emb_len": 1}, "num_prefix_positions is arch.puzzle_emb_len"),
        ({"puzzle_emb_len": "4"}, "arch.puzzle_emb_len is '4'"),
        ({"puzzle_emb_ndim": 0, "puzzle_emb_len": None}, "num_prefix_positions is 16; with puzzle_emb_ndim 0"),
        ({"mlp_t": "yes"}, "mixer is 'yes'; allowed are 'attention', 'mlp'; mixer is arch.mlp_t"),
        ({"mlp_t": False}, "missing: ['L_level.layers.0.self_attn.qkv_proj.weight'"),
        ({"name": "recursive_reasoning.trm_singlez@Some"}, "trm_singlez is another model"),
        ({"name": "recursive_reasoning.hrm@Some"}, "taken for HRM, but arch.mlp_t, arch.no_ACT_continue"),
    ],
)
def test_settings_that_are_refused(tmp_path, capsys, arch, part):
    extra = (
        ["--seq-len=16"] if arch.keys() & {"puzzle_emb_len", "puzzle_emb_ndim"} and "4" not in arch.values() else []
    )
    assert part in refused(write(tmp_path, "J", None, settings_of("J", **arch)), *extra, capsys=capsys)


def test_the_family_is_told_by_the_settings_or_the_tensors_or_given(tmp_path, capsys):
    named = write(tmp_path / "named", "J")
    message = refused(named, "--family=hrm", capsys=capsys)
    assert "arch.mlp_t, arch.no_ACT_continue, arch.puzzle_emb_len, the tensors L_level.* without H_level.*" in message
    assert "tell of the Tiny Recursive Model: give --family trm" in message
    model = convert(write(tmp_path / "unnamed", "J", None, settings_of("J", name=None)), tmp_path / "a")
    other = settings_of("J", name="mine@Model", no_ACT_continue=None)
    given = convert(write(tmp_path / "given", "J", None, other), tmp_path / "b", "--family=trm")
    assert fields(given.config) == fields(model.config) and model.config.shared_levels
    # nothing but the tensors tells: the default of puzzle_emb_len, 16, then shows in the number of cells
    bare = settings_of("I", name="mine@Model", mlp_t=None, no_ACT_continue=None, puzzle_emb_len=None)
    told = convert(write(tmp_path / "bare", "I", None, bare), tmp_path / "c", "--seq-len=25")
    assert told.config.shared_levels and told.config.num_prefix == 16
    hrm = golden_tensors("C/weights.safetensors")
    message = refused(write(tmp_path / "hrm", "J", hrm), "--seq-len=16", capsys=capsys)
    assert "taken for the Tiny Recursive Model, but the tensors H_level.* tell of HRM" in message


def test_a_model_that_another_code_trained_solves_a_sudoku():
    """The record of a run by a script of its own, in bfloat16."""
    folder = ROOT / "benchmarks" / "results" / "sudoku_9x9_h200"
    model = load_published(folder / "step_9952.safetensors", folder / "all_config.yaml")
    puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    answer = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
    codes = [[1 if cell == "." else int(cell) + 1 for cell in cells] for cells in (puzzle, answer)]
    assert model.solve(torch.tensor(codes[:1])).sequences.tolist() == codes[1:]


def test_the_mixer_does_not_look_at_rope(tmp_path):
    settings = tmp_path / "all_config.yaml"
    settings.write_text(yaml.safe_dump(settings_of("J", pos_encodings="rope")))
    config = load_published(GOLDEN / "J" / "weights.safetensors", settings).config
    assert (config.mixer, config.pos_encodings, config.gradient_span) == ("mlp", "none", "last_cycle")


def test_q_continue_is_trained_where_the_settings_say_so():
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in golden_tensors("J/weights.safetensors").items()}
    config = config_from_published(settings_of("J", no_ACT_continue=False)["arch"], weights, 16)
    assert config.halting == "q_learning"
    assert published_settings(config)["arch"]["no_ACT_continue"] is False


def test_the_task_becomes_the_data_paths_of_trm():
    config = HrmConfig(shared_levels=True, gradient_span="last_cycle")
    written = published_settings(config, "sudoku")
    assert written["data_paths"] == ["data/sudoku"] and "data_path" not in written
    assert published_settings(config, "sudoku", {"data_paths": ["mine"]})["data_paths"] == ["mine"]


def test_models_of_neither_family_have_no_way_back():
    sizes = dict(hidden_size=32, num_attention_heads=2, puzzle_emb_ndim=32)
    with pytest.raises(
        CheckpointError, match="Tiny Recursive Model has no such model: gradient_span is 'segment', th"
    ):
        published_settings(HrmConfig(**sizes, shared_levels=True, gradient_span="segment"))
    message = "HRM has no such model: mixer is 'mlp', there 'attention'; pos_encodings is 'none', there 'rope'"
    with pytest.raises(CheckpointError, match=message):
        published_settings(HrmConfig(**sizes, mixer="mlp", pos_encodings="none"))
    with pytest.raises(CheckpointError, match="the settings are of the Tiny Recursive Model, the model is HRM"):
        published_settings(HrmConfig(**sizes), published=settings_of("J"))
