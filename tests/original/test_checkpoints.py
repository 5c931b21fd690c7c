"""Published checkpoints -> ours: the recorded numbers of the published code through the command, and bad input.

The fixtures A (rotary, P = 1), B (learned positions, P = 2) and C (no puzzle table, softmax) are state dicts as the
published code saves them; the tests write the all_config.yaml that would lie beside them.
"""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
import warm_processes
import yaml
from paths import GOLDEN, ROOT
from safetensors.torch import load_file, save_file

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.hrm.errors import ArgumentError, CheckpointError
from hrm_hf.original.checkpoints import (
    DROPPED_TENSORS,
    config_from_published,
    convert_state_dict,
    find_cells,
    load_published,
    published_tensors,
    read_published_config,
    read_published_state_dict,
)

COMMAND = ROOT / "convert" / "original_checkpoint_to_hf.py"
PREFIX = "_orig_mod.model.inner."
LAYOUTS = ("safetensors", "torch.save", "torch.save model.inner.", "torch.save without prefix")
PREFIXES = ("inner.", "model.inner.", "_orig_mod.model.inner.", "module.model.inner.", "module._orig_mod.model.inner.")
PREFIXES += ("_orig_mod.module.inner.", "module.", "")


def golden_settings(case: str) -> dict:
    """The content of an all_config.yaml for a fixture."""
    config = json.loads((GOLDEN / case / "config.json").read_text())["config"]
    copied = ["H_cycles", "L_cycles", "H_layers", "L_layers", "hidden_size", "num_heads", "expansion"]
    copied += ["puzzle_emb_ndim", "pos_encodings", "halt_max_steps", "halt_exploration_prob", "forward_dtype"]
    arch = {
        "name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1",
        "loss": {"name": "losses@ACTLossHead", "loss_type": config["loss_type"]},
        **{name: config[name] for name in copied},
    }
    return {"arch": arch, "data_path": "data/made-for-a-test", "global_batch_size": 768, "lr": "1e-4", "seed": 0}


def write_settings(path: Path, settings: dict) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def write_checkpoint(folder: Path, case: str, layout: str) -> Path:
    """The fixture's weights as one of the files that the command accepts."""
    if layout == "safetensors":
        return GOLDEN / case / "weights.safetensors"
    prefix = {"torch.save": PREFIX, "torch.save model.inner.": "model.inner.", "torch.save without prefix": ""}[layout]
    weights = load_file(GOLDEN / case / "weights.safetensors")
    path = folder / "step_1000"
    torch.save({prefix + name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}, path)
    return path


def load_command():
    spec = importlib.util.spec_from_file_location("original_checkpoint_to_hf", COMMAND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


main = load_command().main


def convert(tmp_path: Path, case: str, layout: str = "safetensors", *extra: str) -> HrmForPuzzleSolving:
    """Runs the whole command on a fixture and loads what it wrote."""
    config = json.loads((GOLDEN / case / "config.json").read_text())["config"]
    settings = write_settings(tmp_path / "all_config.yaml", golden_settings(case))
    arguments = [
        f"--checkpoint={write_checkpoint(tmp_path, case, layout)}",
        f"--config={settings}",
        f"--output-dir={tmp_path / 'converted'}",
        *extra,
    ]
    if config["pos_encodings"] == "rope":
        arguments.append(f"--seq-len={config['seq_len']}")
    assert main(arguments) == 0
    return HrmForPuzzleSolving.from_pretrained(tmp_path / "converted").eval()


@torch.no_grad()
def largest_differences(model: HrmForPuzzleSolving, case: str, recording: str) -> dict[str, float]:
    """Largest absolute difference to each recorded array, the carry handed from segment to segment."""
    batch = load_file(GOLDEN / case / "eval.safetensors")
    recorded = load_file(GOLDEN / case / recording)
    differences, carry = {}, None
    for segment in range(1, model.config.halt_max_steps + 1):
        out = model(batch["batch.inputs"], batch["batch.puzzle_identifiers"], carry=carry)
        carry = out.carry
        ours = {
            "logits": out.logits,
            "q_halt_logits": out.q_halt_logits,
            "q_continue_logits": out.q_continue_logits,
            "z_H": carry.z_H,
            "z_L": carry.z_L,
        }
        for name, value in ours.items():
            key = f"step{segment}.{name}"
            if key in recorded:
                assert value.shape == recorded[key].shape
                differences[key] = (value.float() - recorded[key]).abs().max().item()
    return differences


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_command_reproduces_the_recorded_forward_passes(tmp_path, case, layout):
    model = convert(tmp_path, case, layout)
    differences = largest_differences(model, case, "eval.safetensors")
    assert len(differences) == 5 * model.config.halt_max_steps
    assert all(difference < 3e-5 for difference in differences.values()), differences


@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_bfloat16_is_as_near_to_float32_as_the_published_code(tmp_path, case):
    model = convert(tmp_path, case, "safetensors", "--compute-dtype=bfloat16")
    assert model.dtype == torch.float32 and model.config.compute_dtype == "bfloat16"
    bounds = json.loads((GOLDEN / case / "config.json").read_text())["bf16_vs_f32_max_abs"]
    to_float32 = largest_differences(model, case, "eval.safetensors")
    to_bfloat16 = largest_differences(model, case, "eval_bf16.safetensors")
    assert to_bfloat16.keys() == {key for key in to_float32 if not key.endswith("z_L")}  # z_L is not recorded
    for key, bound in bounds.items():
        assert 0 < to_float32[key] < 3 * bound, (key, to_float32[key], bound)
        if key in to_bfloat16:
            assert to_bfloat16[key] < 3 * bound, (key, to_bfloat16[key], bound)


def test_table_covers_the_model_exactly(tmp_path):
    for case in "ABC":
        settings = write_settings(tmp_path / "all_config.yaml", golden_settings(case))
        model = load_published(GOLDEN / case / "weights.safetensors", settings, None if case == "B" else 16)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        assert {entry.ours: entry.shape for entry in published_tensors(model.config)} == shapes
        assert not model.training


def test_sizes_come_from_the_shapes():
    state_dict = read_published_state_dict(GOLDEN / "B" / "weights.safetensors")
    cells = find_cells(golden_settings("B"), state_dict)
    config = config_from_published(golden_settings("B")["arch"], state_dict, cells.seq_len)
    assert (config.seq_len, config.vocab_size, config.num_puzzle_identifiers) == (25, 12, 7)
    assert (config.num_prefix, config.token_loss, config.halt_max_steps) == (2, "stablemax", 3)


@pytest.mark.parametrize(
    ("vocab_size", "data_path", "found"),
    [
        (11, "data/sudoku-extreme-1k-aug-1000", (81, "sudoku")),
        (6, "data/maze-30x30-hard-1k/", (900, "maze")),
        (12, "data/arc-2-aug-1000", (900, "arc")),
        (6, "data/maze-10x10", None),  # a maze of another size
        (11, "data/maze-30x30-hard-1k", None),  # another vocabulary
        (11, "sudoku/run-7", None),  # the folder itself names nothing
        (12, "data/arc-and-sudoku", None),
        (11, None, None),
    ],
)
def test_cells_from_the_data_path(vocab_size, data_path, found):
    state_dict = {"embed_tokens.embedding_weight": torch.zeros(vocab_size, 64)}
    published = {"arch": {"pos_encodings": "rope"}, "data_path": data_path}
    if found is None:
        with pytest.raises(ArgumentError, match="--seq-len or --task"):
            find_cells(published, state_dict)
    else:
        cells = find_cells(published, state_dict)
        assert (cells.seq_len, cells.task) == found
        assert data_path in cells.source


def test_cells_that_contradict_the_checkpoint_are_refused(tmp_path):
    learned, rotary = (GOLDEN / case / "weights.safetensors" for case in "BC")
    settings = {case: write_settings(tmp_path / f"{case}.yaml", golden_settings(case)) for case in "BC"}
    with pytest.raises(CheckpointError, match=r"embed_pos.* has shape \(27, 64\), the configuration gives \(83, 64\)"):
        load_published(learned, settings["B"], seq_len=81)
    with pytest.raises(ArgumentError, match="task is 'sudoku', but a checkpoint of 12 cell codes is of arc"):
        load_published(learned, settings["B"], task="sudoku")
    with pytest.raises(ArgumentError, match="task is 'chess'"):
        load_published(learned, settings["B"], task="chess")
    with pytest.raises(CheckpointError, match="seq_len is 0"):
        load_published(rotary, settings["C"], seq_len=0)
    assert load_published(rotary, settings["C"], task="sudoku").config.seq_len == 81


def test_sudoku_checkpoint_gets_its_processor(tmp_path, capsys):
    settings = golden_settings("C") | {"data_path": "data/sudoku-extreme-1k-aug-1000"}
    assert run(tmp_path, settings=settings) == 0
    assert json.loads((tmp_path / "out" / "processor_config.json").read_text())["task"] == "sudoku"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["seq_len"] == 81
    assert "cells: 81 (from data_path data/sudoku-extreme-1k-aug-1000)" in capsys.readouterr().out


def test_bfloat16_init_vectors_become_float32_exactly(tmp_path):
    weights = load_file(GOLDEN / "C" / "weights.safetensors")
    init = weights[PREFIX + "H_init"].bfloat16()
    save_file(weights | {PREFIX + "H_init": init}, tmp_path / "weights.safetensors")
    settings = golden_settings("C")
    del settings["arch"]["forward_dtype"]  # published files do not name it: bfloat16
    model = load_published(tmp_path / "weights.safetensors", write_settings(tmp_path / "c.yaml", settings), 16)
    assert model.model.z_H_init.dtype == torch.float32
    assert torch.equal(model.model.z_H_init, init.float())
    assert model.config.compute_dtype == "bfloat16"


def test_rows_of_the_last_training_batch_are_dropped(tmp_path):
    weights = load_file(GOLDEN / "A" / "weights.safetensors")
    weights |= {PREFIX + DROPPED_TENSORS[0]: torch.zeros(4, 64), PREFIX + DROPPED_TENSORS[1]: torch.zeros(4).int()}
    save_file(weights, tmp_path / "weights.safetensors")
    read = read_published_state_dict(tmp_path / "weights.safetensors")
    assert len(read) == len(weights) - 2
    config = config_from_published(golden_settings("A")["arch"], read, 16)
    assert set(convert_state_dict(read, config)) == {entry.ours for entry in published_tensors(config)}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_derived_repositories(tmp_path, prefix):
    weights = load_file(GOLDEN / "A" / "weights.safetensors")
    save_file(
        {prefix + name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}, tmp_path / "w.safetensors"
    )
    read = read_published_state_dict(tmp_path / "w.safetensors")
    assert read.keys() == {name.removeprefix(PREFIX) for name in weights}
    assert all(torch.equal(read[name.removeprefix(PREFIX)], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("rename", "part"),
    [
        (lambda name: f"ema.{name}", "it lacks embed_tokens.embedding_weight and holds ['ema.H_init'"),
        (lambda name: f"modelinner.{name}", "it lacks embed_tokens.embedding_weight and holds ['modelinner."),
        (lambda name: name.replace("q_head.", "ema.q_head."), "unexpected: ['ema.q_head"),
        (lambda name: f"inner.{name}".replace("embed_tokens", "embed_tokenz"), "it lacks embed_tokens"),
    ],
)
def test_prefixes_that_are_not_known(tmp_path, rename, part):
    weights = load_file(GOLDEN / "A" / "weights.safetensors")
    renamed = {rename(name.removeprefix(PREFIX)): tensor for name, tensor in weights.items()}
    save_file(renamed, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read = read_published_state_dict(tmp_path / "w.safetensors")
        convert_state_dict(read, config_from_published(golden_settings("A")["arch"], read, 16))
    assert part in str(caught.value)


def test_two_models_in_one_file(tmp_path):
    weights = load_file(GOLDEN / "A" / "weights.safetensors")
    average = {name.removeprefix(PREFIX): tensor.clone() for name, tensor in weights.items()}
    save_file(weights | {f"ema.{name}": tensor for name, tensor in average.items()}, tmp_path / "w.safetensors")
    read = read_published_state_dict(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected: \['ema.H_init'"):
        convert_state_dict(read, config_from_published(golden_settings("A")["arch"], read, 16))
    save_file(weights | average, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="holds several models"):
        read_published_state_dict(tmp_path / "w.safetensors")


def test_numbers_that_yaml_reads_as_text(tmp_path):
    text = yaml.safe_dump(golden_settings("C")).replace("  forward_dtype:", "  rms_norm_eps: 1e-4\n  forward_dtype:")
    (tmp_path / "all_config.yaml").write_text(text)
    arch = read_published_config(tmp_path / "all_config.yaml")["arch"]
    assert arch["rms_norm_eps"] == "1e-4"
    state_dict = read_published_state_dict(GOLDEN / "C" / "weights.safetensors")
    assert config_from_published(arch, state_dict, 16).rms_norm_eps == 1e-4


def test_all_problems_of_the_tensors_are_named_at_once():
    state_dict = read_published_state_dict(GOLDEN / "A" / "weights.safetensors")
    config = config_from_published(golden_settings("A")["arch"], state_dict, 16)
    del state_dict["lm_head.weight"], state_dict["H_init"]
    state_dict["H_level.layers.2.mlp.down_proj.weight"] = torch.zeros(64, 256)
    state_dict["q_head.bias"] = torch.zeros(3)
    state_dict["L_init"] = torch.zeros(64, dtype=torch.int32)
    with pytest.raises(CheckpointError) as caught:
        convert_state_dict(state_dict, config)
    message = str(caught.value)
    assert "missing: ['H_init', 'lm_head.weight']" in message
    assert "unexpected: ['H_level.layers.2.mlp.down_proj.weight']" in message
    assert "q_head.bias has shape (3,), the configuration gives (2,)" in message
    assert "L_init is torch.int32" in message


# --- bad input through the command: one line, exit code 2, nothing written -------------------------------------------


def run(tmp_path: Path, checkpoint: Path = GOLDEN / "C" / "weights.safetensors", settings=None, *extra: str) -> int:
    config = write_settings(tmp_path / "all_config.yaml", golden_settings("C") if settings is None else settings)
    return main([f"--checkpoint={checkpoint}", f"--config={config}", f"--output-dir={tmp_path / 'out'}", *extra])


def assert_refused(tmp_path: Path, capsys, code: int, *parts: str) -> None:
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
    for part in parts:
        assert part in captured.err
    assert not (tmp_path / "out").exists()


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_not_run(tmp_path, capsys, zipped):
    path, marker = tmp_path / "step_1000", tmp_path / "it ran"
    weights = load_file(GOLDEN / "C" / "weights.safetensors")
    torch.save(weights | {"more": Malicious(marker)}, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    assert marker.is_dir()  # it would run
    marker.rmdir()
    assert_refused(
        tmp_path,
        capsys,
        run(tmp_path, path),
        "nothing was read",
        "ask its publisher for a plain dict of tensors or a .safetensors file",
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello world, no checkpoint\n" * 9, b"PK\x03\x04" + bytes(500), b"\x80\x02}q\x00."]
)
@pytest.mark.parametrize("name", ["step_1000", "weights.safetensors"])
def test_foreign_bytes(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path, capsys, run(tmp_path, tmp_path / name), name)


@pytest.mark.parametrize("layout", ["safetensors", "torch.save"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_truncated_files(tmp_path, capsys, layout, kept):
    content = write_checkpoint(tmp_path, "C", layout).read_bytes()
    path = tmp_path / ("cut.safetensors" if layout == "safetensors" else "cut")
    path.write_bytes(content[: int(len(content) * kept)])
    assert_refused(tmp_path, capsys, run(tmp_path, path), str(path))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({}, "lacks embed_tokens.embedding_weight"),
        ({"embed_tokens.embedding_weight": torch.zeros(11, 64), "step": 7}, "'step' is no named dense tensor"),
        ({"transformer.wte.weight": torch.zeros(11, 64)}, "transformer.wte.weight"),
        ({7: torch.zeros(2)}, "7 is no named dense tensor"),
        ({"embed_tokens.embedding_weight": torch.zeros(11, 64).to_sparse()}, "no named dense tensor"),
        ({"lm_head.weight": torch.zeros(11, 64), "inner.lm_head.weight": torch.zeros(11, 64)}, "several models"),
        ({"embed_tokens.embedding_weight": torch.zeros(11)}, "two axes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")  # torch 2.14 says what it does
def test_files_of_torch_save_that_are_no_hrm(tmp_path, capsys, content, part):
    torch.save(content, tmp_path / "step_1000")
    assert_refused(tmp_path, capsys, run(tmp_path, tmp_path / "step_1000", None, "--seq-len=16"), part)


def test_missing_files_and_folders(tmp_path, capsys):
    assert_refused(tmp_path, capsys, run(tmp_path, tmp_path / "nowhere"), "nowhere: no such file")
    assert_refused(tmp_path, capsys, run(tmp_path, tmp_path), "has no file checkpoint or step_<number>")
    weights = GOLDEN / "C" / "weights.safetensors"
    arguments = [f"--checkpoint={weights}", f"--config={tmp_path / 'no.yaml'}", f"--output-dir={tmp_path / 'out'}"]
    assert_refused(tmp_path, capsys, main(arguments), "no.yaml: there is no such file")
    del arguments[1]
    assert_refused(tmp_path, capsys, main(arguments), "there is no all_config.yaml beside")
    arguments[0] = "--checkpoint=owner/name"  # the tests run offline
    assert_refused(tmp_path, capsys, main(arguments), "the model owner/name: Cannot reach")


def test_a_folder_in_place_of_a_file(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    write_settings(folder / "all_config.yaml", golden_settings("B"))
    (folder / "identifiers.json").write_text(json.dumps(["<blank>", *"abcdef"]))
    write_checkpoint(folder, "B", "torch.save")
    assert main([f"--checkpoint={folder}", f"--output-dir={tmp_path / 'out'}"]) == 0
    assert f"checkpoint: {folder / 'step_1000'}" in capsys.readouterr().out
    (folder / "step_20").write_bytes(b"")
    arguments = [f"--checkpoint={folder}", f"--output-dir={tmp_path / 'again'}"]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "has several checkpoints: choose from ['step_1000', 'step_20'] with --filename" in message
    assert main([*arguments, "--filename=step_1000"]) == 0
    (folder / "step_1000").rename(folder / "checkpoint")  # the published name comes first
    assert main([f"--checkpoint={folder}", f"--output-dir={tmp_path / 'third'}"]) == 0
    first, *others = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again", "third")]
    assert others == [first, first]
    (folder / "identifiers.json").write_text(json.dumps(["<blank>"]))
    assert main([f"--checkpoint={folder}", f"--output-dir={tmp_path / 'fourth'}"]) == 2
    assert "has 1 names, the puzzle table 7 rows" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a: [", "- 1", "lr: 1e-4", "arch: 3", ""])
def test_yaml_that_is_no_all_config(tmp_path, text):
    (tmp_path / "all_config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="is not YAML|no mapping 'arch'"):
        read_published_config(tmp_path / "all_config.yaml")


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("num_heads", None, "arch lacks num_heads"),
        ("H_cycles", "two", "'H_cycles' expected int, got str (value: 'two')"),
        ("H_cycles", True, "'H_cycles' expected int, got bool"),
        ("expansion", float("inf"), "expansion is inf"),
        ("rms_norm_eps", "tiny", "could not convert string to float: 'tiny'"),
        ("L_layers", 2.5, "'L_layers' expected int, got float (value: 2.5)"),
        ("num_heads", 7, "num_attention_heads 7"),
        ("pos_encodings", "alibi", "'alibi'"),
        ("forward_dtype", "float16", "'float16'"),
        ("loss", {"name": "losses@ACTLossHead"}, "stablemax_cross_entropy, softmax_cross_entropy"),
        ("mlp_t", True, "mlp_t"),
        ("H_layers", 3, "missing: ['H_level.layers.2.self_attn.qkv_proj.weight'"),
        ("hidden_size", 32, "lm_head.weight has shape (11, 64), the configuration gives (11, 32)"),
        ("puzzle_emb_ndim", 64, "missing: ['puzzle_emb.weights']"),
    ],
)
def test_wrong_arch_entries(tmp_path, capsys, name, value, part):
    settings = golden_settings("C")
    settings["arch"][name] = value
    assert_refused(
        tmp_path, capsys, run(tmp_path, GOLDEN / "C" / "weights.safetensors", settings, "--seq-len=16"), part
    )


def test_an_output_folder_in_use_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    assert run(tmp_path) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_command_line_without_the_number_of_cells(tmp_path):
    config = write_settings(tmp_path / "all_config.yaml", golden_settings("C"))
    weights = GOLDEN / "C" / "weights.safetensors"
    command = [COMMAND, "--checkpoint", weights, "--config", config, "--output-dir", tmp_path / "out"]
    finished = warm_processes.run(command, os.environ | {"PYTHONPATH": str(ROOT)})
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: the number of cells") and finished.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_names_of_a_task_that_is_not_known_are_refused(tmp_path, capsys):
    weights, names = GOLDEN / "A" / "weights.safetensors", tmp_path / "names.json"
    names.write_text(json.dumps(["<blank>"]))
    code = run(tmp_path, weights, golden_settings("A"), "--seq-len=16", f"--identifiers={names}")
    assert_refused(tmp_path, capsys, code, "--identifiers needs a known task")
