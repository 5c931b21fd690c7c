"""Ours -> the published form and back, bit by bit: the recorded checkpoints, own models, a Hub, and bad input."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import warm_processes
import yaml
from hub_server import HubServer
from paths import GOLDEN, ROOT
from safetensors.torch import load_file, save_file

from hrm_hf import HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.hrm.errors import ArgumentError, CheckpointError
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers
from hrm_hf.original.checkpoints import (
    config_from_published,
    published_settings,
    published_state_dict,
    read_published_config,
    read_published_state_dict,
)
from hrm_hf.training import seeded_model

PREFIX = "_orig_mod.model.inner."
NAMES = ["<blank>", "a", "a_t3_0987654321", "", "b"]
SMALL = {"hidden_size": 32, "num_attention_heads": 2, "H_layers": 1, "L_layers": 2, "expansion": 1, "H_cycles": 1}
OWN = {
    "sudoku": HrmConfig(**SMALL, vocab_size=6, seq_len=16, puzzle_emb_ndim=32, token_loss="softmax"),
    "maze": HrmConfig(**SMALL, vocab_size=6, seq_len=900, puzzle_emb_ndim=0, rope_theta=500.0, rms_norm_eps=1e-6),
    "arc": HrmConfig(
        **SMALL,
        vocab_size=12,
        seq_len=900,
        puzzle_emb_ndim=40,
        num_puzzle_identifiers=len(NAMES),
        pos_encodings="learned",
        compute_dtype="bfloat16",
    ),
}


def load_command(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "convert" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


to_hf, to_hrm = load_command("original_checkpoint_to_hf"), load_command("hf_checkpoint_to_original")


def write_published(folder: Path, case: str, init_dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A recorded checkpoint in the published form; its state dict."""
    recorded = json.loads((GOLDEN / case / "config.json").read_text())["config"]
    same = ["H_cycles", "L_cycles", "H_layers", "L_layers", "hidden_size", "num_heads", "expansion"]
    same += ["puzzle_emb_ndim", "pos_encodings", "halt_max_steps", "halt_exploration_prob"]
    arch = {
        "name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1",
        "loss": {"name": "losses@ACTLossHead", "loss_type": recorded["loss_type"]},
        "forward_dtype": str(init_dtype).removeprefix("torch."),
        **{name: recorded[name] for name in same},
    }
    state_dict = load_file(GOLDEN / case / "weights.safetensors")
    for name in ("H_init", "L_init"):
        state_dict[PREFIX + name] = state_dict[PREFIX + name].to(init_dtype)
    folder.mkdir()
    torch.save(state_dict, folder / "checkpoint")
    settings = {"arch": arch, "data_path": "data/made-for-a-test", "global_batch_size": 768, "lr": 1e-4}
    (folder / "all_config.yaml").write_text(yaml.safe_dump(settings))
    return state_dict


def assert_same_tensors(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name  # bit by bit


def fields(config: HrmConfig) -> dict:
    """What this package's configuration adds to that of transformers."""
    return {name: getattr(config, name) for name in HrmConfig.__annotations__}


def save_own(folder: Path, task: str, seed: int = 3) -> HrmForPuzzleSolving:
    """A small model of this package with its processor."""
    model = seeded_model(OWN[task], seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    model.save_pretrained(folder)
    identifiers = PuzzleIdentifiers(NAMES) if task == "arc" else None
    side = {"sudoku": 4, "maze": 30, "arc": 30}[task]
    HrmProcessor(task=task, grid_shape=(side, side), puzzle_identifiers=identifiers).save_pretrained(folder)
    return model


@pytest.mark.parametrize("init_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_original_to_ours_to_original(tmp_path, case, init_dtype):
    original = write_published(tmp_path / "original", case, init_dtype)
    arguments = [] if case == "B" else ["--seq-len=16"]
    assert to_hf([f"--checkpoint={tmp_path / 'original'}", f"--output-dir={tmp_path / 'ours'}", *arguments]) == 0
    back = [f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'back'}"]
    assert to_hrm([*back, f"--config={tmp_path / 'original' / 'all_config.yaml'}", "--safetensors"]) == 0
    loaded = torch.load(tmp_path / "back" / "checkpoint", weights_only=True)
    assert type(loaded) is dict
    assert_same_tensors(loaded, original)
    assert_same_tensors(load_file(tmp_path / "back" / "checkpoint.safetensors"), original)
    # the settings too: what the original file says stays, and what it leaves to defaults is written out
    first, second = (read_published_config(tmp_path / name / "all_config.yaml") for name in ("original", "back"))
    arch, written = first.pop("arch"), second.pop("arch")
    assert second == first | {"seq_len": 25 if case == "B" else 16}
    assert written == arch | {"rope_theta": 10000.0, "rms_norm_eps": 1e-5}
    # and once more from what came back: the same file of ours
    assert to_hf([f"--checkpoint={tmp_path / 'back'}", f"--output-dir={tmp_path / 'again'}"]) == 0
    again, ours = (HrmForPuzzleSolving.from_pretrained(tmp_path / name) for name in ("again", "ours"))
    assert_same_tensors(again.state_dict(), ours.state_dict())
    assert fields(again.config) == fields(ours.config)


def test_other_activations_than_published(tmp_path):
    """--compute-dtype on the way in rules what comes out: values as they were, all of it float32."""
    original = write_published(tmp_path / "original", "B", torch.bfloat16)
    arguments = [f"--checkpoint={tmp_path / 'original'}", f"--output-dir={tmp_path / 'ours'}"]
    assert to_hf([*arguments, "--compute-dtype=float32"]) == 0
    back = [f"--checkpoint={tmp_path / 'ours'}", f"--config={tmp_path / 'original' / 'all_config.yaml'}"]
    assert to_hrm([*back, f"--output-dir={tmp_path / 'back'}"]) == 0
    found = torch.load(tmp_path / "back" / "checkpoint", weights_only=True)
    assert_same_tensors(found, {name: tensor.float() for name, tensor in original.items()})
    assert read_published_config(tmp_path / "back" / "all_config.yaml")["arch"]["forward_dtype"] == "float32"
    assert to_hrm([*back, f"--output-dir={tmp_path / 'again'}", "--init-dtype=bfloat16"]) == 0
    assert_same_tensors(torch.load(tmp_path / "again" / "checkpoint", weights_only=True), original)


@pytest.mark.parametrize("task", OWN)
def test_ours_to_original_to_ours(tmp_path, capsys, task):
    model = save_own(tmp_path / "ours", task)
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'original'}"]) == 0
    rounding = "--init-dtype bfloat16 rounds the states to it"
    assert (rounding in capsys.readouterr().out) == (task == "arc")  # drawn in float32 for bfloat16 activations
    files = {"checkpoint", "all_config.yaml"} | ({"identifiers.json"} if task == "arc" else set())
    assert {path.name for path in (tmp_path / "original").iterdir()} == files
    assert to_hf([f"--checkpoint={tmp_path / 'original'}", f"--output-dir={tmp_path / 'back'}"]) == 0
    assert "error" not in capsys.readouterr().err
    again = HrmForPuzzleSolving.from_pretrained(tmp_path / "back")
    assert_same_tensors(again.state_dict(), model.state_dict())
    assert_same_tensors(
        load_file(tmp_path / "back" / "model.safetensors"), load_file(tmp_path / "ours" / "model.safetensors")
    )
    assert fields(again.config) == fields(model.config)
    if task == "sudoku":  # 4x4 is no published task: there is a model, but no processor
        assert not (tmp_path / "back" / "processor_config.json").exists()
    else:
        first, second = (HrmProcessor.from_pretrained(tmp_path / name) for name in ("ours", "back"))
        assert (second.task, second.grid_shape) == (first.task, first.grid_shape)
        assert second.puzzle_identifiers == first.puzzle_identifiers
    if task == "arc":
        assert json.loads((tmp_path / "original" / "identifiers.json").read_text()) == NAMES


def test_dtype_of_the_initial_states():
    """bfloat16 where the activations are and no bit is lost; what was asked for otherwise."""
    model = seeded_model(OWN["arc"], 0)  # drawn in float32
    names = (PREFIX + "H_init", PREFIX + "L_init")

    def dtypes(**options):
        state_dict = published_state_dict(model, **options)
        assert {tensor.dtype for name, tensor in state_dict.items() if name not in names} == {torch.float32}
        return {state_dict[name].dtype for name in names}

    assert dtypes() == {torch.float32}
    assert dtypes(init_dtype="bfloat16") == {torch.bfloat16}
    model.model.z_H_init.copy_(model.model.z_H_init.bfloat16())
    assert dtypes() == {torch.float32}  # the other one still has more bits
    model.model.z_L_init.copy_(model.model.z_L_init.bfloat16())
    assert dtypes() == {torch.bfloat16}
    assert dtypes(init_dtype="float32") == {torch.float32}
    model.config.compute_dtype = "float32"
    assert dtypes() == {torch.float32}
    with pytest.raises(ArgumentError, match="init_dtype is 'float16'"):
        published_state_dict(model, "float16")


def test_the_state_dict_is_a_copy():
    model = seeded_model(OWN["maze"], 0)
    before = model.lm_head.weight.detach().clone()
    published_state_dict(model)[PREFIX + "lm_head.weight"].zero_()
    assert torch.equal(model.lm_head.weight, before)
    assert before.abs().max() > 0


def test_a_bfloat16_model_becomes_float32_exactly(tmp_path):
    model = save_own(tmp_path / "ours", "maze").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "ours")
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'original'}"]) == 0
    state_dict = read_published_state_dict(tmp_path / "original" / "checkpoint")
    assert {tensor.dtype for tensor in state_dict.values()} == {torch.float32}
    assert torch.equal(state_dict["lm_head.weight"], model.lm_head.weight.float())


@pytest.mark.parametrize("task", OWN)
def test_settings_there_and_back(task):
    config = OWN[task]
    model = seeded_model(config, 0)
    state_dict = {name.removeprefix(PREFIX): tensor for name, tensor in published_state_dict(model).items()}
    settings = yaml.safe_load(yaml.safe_dump(published_settings(config, task)))
    again = config_from_published(settings["arch"], state_dict, settings["seq_len"])
    assert fields(again) == fields(config)
    assert settings["data_path"] == f"data/{task}"
    assert settings["arch"]["halt_exploration_prob"] == 0.1  # the published code wants one


@pytest.mark.parametrize(
    ("seq_len", "part"),
    [(0, "seq_len is 0"), ("16", "'seq_len' expected int, got str"), (True, "'seq_len' expected int, got bool")],
)
def test_a_stated_number_of_cells_that_is_none(tmp_path, capsys, seq_len, part):
    write_published(tmp_path / "original", "A")
    rewrite(tmp_path / "original" / "all_config.yaml", seq_len=seq_len)
    assert to_hf([f"--checkpoint={tmp_path / 'original'}", f"--output-dir={tmp_path / 'ours'}"]) == 2
    assert part in capsys.readouterr().err


def test_a_stated_number_of_cells_that_contradicts_the_positions(tmp_path, capsys):
    write_published(tmp_path / "original", "B")
    rewrite(tmp_path / "original" / "all_config.yaml", seq_len=16)
    assert to_hf([f"--checkpoint={tmp_path / 'original'}", f"--output-dir={tmp_path / 'ours'}"]) == 2
    assert "embed_pos.embedding_weight has shape (27, 64), the configuration gives (18, 64)" in capsys.readouterr().err


def rewrite(path: Path, **changes) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


# --- bad input: one line, exit code 2, nothing written, nothing changed ----------------------------------------------


def without(name: str):
    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights[name]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def with_tensor(name: str, tensor: torch.Tensor):
    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors") | {name: tensor}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def with_config(**changes):
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return damage


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (without("lm_head.weight"), "tensor lm_head.weight the weights hold nothing"),
        (
            with_tensor("head.weight", torch.zeros(2)),
            "head.weight the weights hold (2,), but",
        ),
        (
            with_tensor("lm_head.weight", torch.zeros(6, 8)),
            "lm_head.weight the weights hold (6, 8), but config.json asks for (12, 32)",
        ),
        (
            with_config(hidden_size=64),
            "the weights hold (32,), but config.json asks for (64,)",
        ),
        (with_config(hidden_size=33), "hidden_size 33"),
        (with_config(model_type="bert"), "is no puzzle model: its config.json has the model_type 'bert'"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99),
            "model.safetensors is missing, damaged or cut short",
        ),
        (lambda folder: (folder / "processor_config.json").write_text("{"), "processor_config.json"),
        (lambda folder: (folder / "puzzle_identifiers.txt").write_bytes(b"\xff"), "puzzle_identifiers.txt"),
    ],
)
def test_damaged_checkpoints(tmp_path, capsys, damage, part):
    save_own(tmp_path / "ours", "arc")
    damage(tmp_path / "ours")
    before = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    capsys.readouterr()
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'original'}"]) == 2
    message = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(message) == 1 and part in message[0]
    assert not (tmp_path / "original").exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()} == before


def test_names_that_are_no_checkpoint_and_folders_in_use(tmp_path, capsys):
    arguments = [f"--output-dir={tmp_path / 'original'}"]
    for name, part in (
        (str(tmp_path / "nowhere"), "there is no folder"),
        ("nowhere", "there is no folder nowhere, and it is no owner/name of the Hub"),
        ("owner/name", "the model owner/name: Cannot reach"),
    ):
        assert to_hrm([f"--checkpoint={name}", *arguments]) == 2
        assert part in capsys.readouterr().err
    save_own(tmp_path / "ours", "maze")
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--config={tmp_path / 'no.yaml'}", *arguments]) == 2
    assert "no.yaml: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "original").exists()
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "mine.txt").write_text("kept")
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", *arguments]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "original").iterdir()] == ["mine.txt"]


def test_a_model_without_processor(tmp_path):
    save_own(tmp_path / "ours", "arc")
    (tmp_path / "ours" / "processor_config.json").unlink()
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'original'}"]) == 0
    assert not (tmp_path / "original" / "identifiers.json").exists()
    assert "data_path" not in read_published_config(tmp_path / "original" / "all_config.yaml")


HUB_CLIENT = """
import runpy, sys
root, out = sys.argv[1:]
to_hf = runpy.run_path(f"{root}/convert/hrm_checkpoint_to_hf.py")["main"]
to_hrm = runpy.run_path(f"{root}/convert/hf_checkpoint_to_hrm.py")["main"]
codes = [
    to_hf(["--checkpoint=user/original", f"--output-dir={out}/ours", "--seq-len=16"]),
    to_hf(["--checkpoint=user/one-step", f"--output-dir={out}/one-step", "--seq-len=16"]),
    to_hf(["--checkpoint=user/steps", f"--output-dir={out}/none", "--seq-len=16"]),
    to_hf(["--checkpoint=user/steps", "--filename=step_20", f"--output-dir={out}/steps", "--seq-len=16"]),
    to_hf(["--checkpoint=user/other", f"--output-dir={out}/none"]),
    to_hf(["--checkpoint=user/nothing", f"--output-dir={out}/none"]),
    to_hrm(["--checkpoint=user/ours", f"--output-dir={out}/back"]),
    to_hrm(["--checkpoint=user/nothing", f"--output-dir={out}/none"]),
]
sys.exit(0 if codes == [0, 0, 2, 0, 2, 2, 0, 2] else f"exit codes {codes}")
"""


def test_repositories_of_the_hub_in_place_of_files(tmp_path):
    original = write_published(tmp_path / "original", "A")
    checkpoint, settings = ((tmp_path / "original" / name).read_bytes() for name in ("checkpoint", "all_config.yaml"))
    model = save_own(tmp_path / "own", "arc")
    with HubServer() as hub:
        hub.add("model", "user/original", {"checkpoint": checkpoint, "all_config.yaml": settings})
        hub.add(
            "model", "user/one-step", {"step_7": checkpoint, "all_config.yaml": settings, "README.md": b"---\n---"}
        )
        hub.add("model", "user/steps", {"step_7": b"", "step_20": checkpoint, "all_config.yaml": settings})
        hub.add("model", "user/other", {"weights.bin": checkpoint, "all_config.yaml": settings})
        hub.add("model", "user/ours", {path.name: path.read_bytes() for path in (tmp_path / "own").iterdir()})
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        finished = warm_processes.run(["-c", HUB_CLIENT, ROOT, tmp_path], environment)
    assert finished.returncode == 0, finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    for message, part in zip(
        errors,
        (
            "user/steps has several checkpoints: choose from ['step_20', 'step_7'] with --filename",
            "user/other has no file checkpoint or step_<number>: choose from ['all_config.yaml', 'weights.bin'] with",
            "the model user/nothing: Repository not found; check the name",
            "the model user/nothing: Repository not found; check the name",
        ),
        strict=True,
    ):
        assert part in message
    assert not (tmp_path / "none").exists()
    for name in ("ours", "one-step", "steps"):
        found = published_state_dict(HrmForPuzzleSolving.from_pretrained(tmp_path / name))
        assert_same_tensors(found, original)
    back = torch.load(tmp_path / "back" / "checkpoint", weights_only=True)
    assert_same_tensors(back, published_state_dict(model))
    assert json.loads((tmp_path / "back" / "identifiers.json").read_text()) == NAMES


def test_a_prefix_of_as_many_positions_as_the_row_fills_is_hrms():
    same, longer = (HrmConfig(**SMALL, puzzle_emb_ndim=40, num_prefix_positions=number) for number in (2, 3))
    assert published_settings(same) == published_settings(HrmConfig(**SMALL, puzzle_emb_ndim=40))
    with pytest.raises(CheckpointError, match="HRM has no such model: num_prefix_positions is 3"):
        published_settings(longer)


def test_options_that_the_published_code_does_not_have_are_named(tmp_path, capsys):
    options = dict(token_loss="softmax", label_smoothing=0.2, halting_loss_weight=0.05)
    config = HrmConfig(**SMALL, vocab_size=6, seq_len=16, puzzle_emb_ndim=32, **options)
    seeded_model(config, seed=0).save_pretrained(tmp_path / "ours")
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'original'}"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert line.endswith("no such options: label_smoothing 0.2, halting_loss_weight 0.05")


def test_a_model_that_halts_by_another_rule_is_refused(tmp_path, capsys):
    config = HrmConfig(**SMALL, vocab_size=6, seq_len=16, puzzle_emb_ndim=32, halting="halt_only")
    seeded_model(config, seed=0).save_pretrained(tmp_path / "ours")
    assert to_hrm([f"--checkpoint={tmp_path / 'ours'}", f"--output-dir={tmp_path / 'original'}"]) == 2
    assert not (tmp_path / "original").exists()
    message = "the published code of HRM has no such model: halting is 'halt_only', there 'q_learning'"
    assert message in capsys.readouterr().err
