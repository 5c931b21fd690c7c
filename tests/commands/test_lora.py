"""--lora_rank: an adapter learns on a checkpoint; it is exported merged and by itself, resumed bit for bit."""

import shutil

import pytest
import torch
import training_command
from golden_fixtures import GOLDEN
from safetensors.torch import load_file
from tiny_models import some_inputs, tiny_model
from training_parts import arguments, batch
from transformers.integrations.peft import MIN_PEFT_VERSION

from hrm_hf import ArgumentError, CheckpointError, HrmForPuzzleSolving
from hrm_hf.training import HrmTrainer
from hrm_hf.training.adapters import add_lora, merged

peft = pytest.importorskip("peft", minversion=MIN_PEFT_VERSION)
BASE = GOLDEN / "sudoku_4x4"
SMALL = "--size 4 --num-train 40 --num-test 20 --global-batch-size 8 --warmup-steps 0 --cpu-threads 1"


pytestmark = pytest.mark.usefixtures("process_as_before")


def hrm_train(*words: object) -> int:
    return training_command.hrm_train("sudoku", *SMALL.split(), *words)


def test_an_adapter_is_trained_exported_and_resumed(tmp_path, capsys):
    how = ["--init-from", BASE, "--lora-rank", 4, "--box-shape", "1x4", "--max-steps", 6, "--state-steps", 3]
    run = tmp_path / "run"
    assert hrm_train(*how, "--output-dir", run) == 0
    final = run / "checkpoint-final"
    small = (final / "adapter" / "adapter_model.safetensors").stat().st_size
    assert small < 0.3 * (BASE / "model.safetensors").stat().st_size
    whole, base = HrmForPuzzleSolving.from_pretrained(final), HrmForPuzzleSolving.from_pretrained(BASE)
    inputs = some_inputs()
    adapted = peft.PeftModel.from_pretrained(base, final / "adapter").eval()
    torch.testing.assert_close(adapted(inputs).logits, whole(inputs).logits, rtol=1e-4, atol=1e-4)
    before, after = load_file(BASE / "model.safetensors"), load_file(final / "model.safetensors")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed and all("_proj" in name or "q_head.weight" in name for name in changed)
    assert "lora_rank" in (final / "README.md").read_text()

    for later in run.glob("state-*6"):
        shutil.rmtree(later)
    shutil.rmtree(final)
    assert hrm_train(*how, "--resume", run) == 0
    assert "step 3" in capsys.readouterr().err
    resumed = load_file(final / "model.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in after.items())


def test_the_best_adapter_ends_an_early_stopped_run(tmp_path):
    how = ["--max-steps", 4, "--eval-steps", 2, "--early-stopping-patience", 1, "--learning-rate", 0]
    assert hrm_train("--init-from", BASE, "--lora-rank", 2, *how, "--output-dir", tmp_path / "run") == 0
    before, after = (load_file(path / "model.safetensors") for path in (BASE, tmp_path / "run" / "checkpoint-final"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_muon_trains_an_adapter(tmp_path):
    words = ["--init-from", BASE, "--lora-rank", 2, "--optimizer", "muon", "--max-steps", 2]
    assert hrm_train(*words, "--output-dir", tmp_path / "run") == 0
    final = tmp_path / "run" / "checkpoint-final"
    assert all(tensor.any() for tensor in load_file(final / "adapter" / "adapter_model.safetensors").values())
    before, after = (load_file(path / "model.safetensors") for path in (BASE, final))
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed and all("_level.layers." in name or "q_head.weight" in name for name in changed), changed


@pytest.mark.parametrize(
    "words, message",
    [
        (["--lora-rank", 8], "lora_rank is set, but not init_from"),
        (["--lora-rank", 0, "--init-from", BASE], "lora_rank is 0; it must be at least 1"),
        (
            ["--lora-rank", 8, "--init-from", BASE, "--H-cycles", 3],
            "H_cycles x L_cycles would be 3x2, those of",
        ),
        (["--lora-rank", 8, "--init-from", BASE, "--depth-schedule", "0:1x1,0.5:2x4"], "would be 2x4"),
        (["--box-shape", "2x3"], "box_shape is '2x3'; allowed for size 4: 1x4, 2x2, 4x1"),
        (["--box-shape", "round"], "box_shape is 'round'; allowed are rows x columns of a box"),
    ],
)
def test_what_does_not_go_together_is_one_line(words, message, tmp_path, capsys):
    assert hrm_train(*words, "--output-dir", tmp_path / "run", "--max-steps", 1) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ArgumentError, match=r"lora_rank needs PEFT: pip install 'hrm-hf\[peft\]'"):
        add_lora(tiny_model(), 4, seed=0)


def test_a_model_inside_peft_is_refused_with_what_to_do():
    inside = peft.get_peft_model(tiny_model(), peft.LoraConfig(target_modules="all-linear"))
    with pytest.raises(ArgumentError, match="the model is a PeftModel; .* with model.add_adapter"):
        HrmTrainer(inside, arguments(), [])


def test_a_merged_copy_leaves_the_model_as_it_is():
    model = tiny_model()
    add_lora(model, 4, seed=0)
    trainer = HrmTrainer(model, arguments(learning_rate=1e-2), [batch(seed=0)])
    for _ in range(3):
        trainer.run_step()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = some_inputs()
    copy = merged(model)
    torch.testing.assert_close(copy(inputs).logits, model(inputs).logits, rtol=0, atol=1e-5)
    assert (copy(inputs).logits - tiny_model()(inputs).logits).abs().max() > 1e-3
    assert copy.state_dict().keys() == tiny_model().state_dict().keys()
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert merged(copy) is copy


def test_layers_that_are_trained_whole_are_merged_too(tmp_path):
    model = tiny_model()
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["o_proj"], modules_to_save=["lm_head"]))
    trainer = HrmTrainer(model, arguments(output_dir=str(tmp_path / "run"), learning_rate=1e-2), [batch(seed=0)])
    trainer.train()
    loaded = HrmForPuzzleSolving.from_pretrained(tmp_path / "run" / "checkpoint-final")
    inputs = some_inputs()
    torch.testing.assert_close(loaded(inputs).logits, model(inputs).logits, rtol=0, atol=1e-5)
    assert not torch.equal(loaded.lm_head.weight, tiny_model().lm_head.weight)
    model.disable_adapters()
    assert torch.equal(merged(model)(inputs).logits, tiny_model()(inputs).logits)


def test_a_puzzle_table_that_an_adapter_trains_whole_is_refused():
    model = tiny_model(puzzle_emb_ndim=32)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["o_proj"], modules_to_save=["puzzle_embeddings"]))
    with pytest.raises(ArgumentError, match="modules_to_save names the puzzle table"):
        HrmTrainer(model, arguments(), [])


def test_a_peft_too_old_for_transformers_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "999.0")
    assert hrm_train("--init-from", BASE, "--lora-rank", 2, "--max-steps", 1, "--output-dir", tmp_path / "run") == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "lora_rank needs another PEFT, or an older transformers: " in line and ">= 999.0" in line
    assert not (tmp_path / "run" / "run.json").exists()


def test_quantised_weights_are_not_trained_in_silence():
    quantization = pytest.importorskip("torchao.quantization")
    model = tiny_model()
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    with pytest.raises(CheckpointError, match=r"weight is quantised \(\w+Tensor\): quantise after the training"):
        HrmTrainer(model, arguments(), [])
