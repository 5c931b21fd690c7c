"""PEFT on the model: any layer, trained, saved, loaded and merged."""

import pytest
import torch
from tiny_models import OPTIONS, TINY_RECURSIVE, perturbed, some_inputs, tiny_model
from transformers import pipeline
from transformers.integrations.peft import MIN_PEFT_VERSION

from hrm_hf import HrmForPuzzleSolving, HrmProcessor

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
BLOCKS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
TARGETS = [*([name] for name in BLOCKS), BLOCKS, "all-linear", ["lm_head"], ["embed_tokens"], ["puzzle_embeddings"]]


def lora(targets, **changes) -> "peft.LoraConfig":
    return peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **changes)


@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_adapter_reloaded_adapter_and_merged_model_agree(targets, tmp_path):
    torch.manual_seed(0)
    base = perturbed(tiny_model(puzzle_emb_ndim=32))
    base.save_pretrained(tmp_path / "base")
    inputs = some_inputs()
    plain = base(inputs).logits
    model = peft.get_peft_model(base, lora(targets)).eval()
    adapted, solved = model(inputs).logits, model.solve(inputs, max_segments=2).sequences
    assert (adapted - plain).abs().max() > 0.05  # it does something

    model.save_pretrained(tmp_path / "adapter")
    again = HrmForPuzzleSolving.from_pretrained(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    assert torch.equal(again(inputs).logits, adapted)

    merged = model.merge_and_unload()
    assert type(merged) is HrmForPuzzleSolving
    torch.testing.assert_close(merged(inputs).logits, adapted, rtol=0, atol=5e-4)
    assert torch.equal(merged.solve(inputs, max_segments=2).sequences, solved)
    merged.save_pretrained(tmp_path / "merged")
    assert torch.equal(HrmForPuzzleSolving.from_pretrained(tmp_path / "merged")(inputs).logits, merged(inputs).logits)


def test_the_pipeline_takes_a_model_of_peft():
    torch.manual_seed(0)
    model = peft.get_peft_model(perturbed(tiny_model(puzzle_emb_ndim=32)), lora(BLOCKS)).eval()
    processor = HrmProcessor(task="sudoku", grid_shape=(4, 4))
    result = pipeline("puzzle-solving", model=model, processor=processor)("1...............")
    sequences = model.solve(**processor("1...............")).sequences
    assert result["solution"] == processor.decode(sequences[0])


def test_all_linear_means_the_blocks_and_the_q_head():
    model = peft.get_peft_model(tiny_model(), lora("all-linear"))
    names = [name.removeprefix("base_model.model.") for name, _ in model.named_parameters() if ".lora_A" in name]
    adapted = {name.split(".lora_A")[0] for name in names}
    parts = ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]
    levels = {f"model.{level}.layers.0.{part}" for level in ("H_level", "L_level") for part in parts}
    assert adapted == levels | {"q_head"}


def test_all_linear_with_shared_levels_and_the_mixer():
    """One adapter for a layer, though two levels use it."""
    model = peft.get_peft_model(perturbed(tiny_model(**TINY_RECURSIVE)), lora("all-linear")).eval()
    adapted = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    parts = [f"model.L_level.layers.0.{mlp}.{part}" for mlp in ("mlp_t", "mlp") for part in BLOCKS[2:]]
    assert adapted == {f"base_model.model.{name}" for name in (*parts, "q_head")}
    logits = model(some_inputs()).logits
    torch.testing.assert_close(model.merge_and_unload()(some_inputs()).logits, logits, rtol=0, atol=5e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_adapter_learns_and_the_rest_stays(dtype, options, tmp_path):
    """As transformers adds it: model.add_adapter. Gradients reach it in spite of the one-step gradient."""
    pytest.importorskip("peft", minversion=MIN_PEFT_VERSION)  # transformers' own wish
    torch.manual_seed(0)
    model = perturbed(tiny_model(compute_dtype=dtype, **options))
    model.save_pretrained(tmp_path / "base")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.add_adapter(peft.LoraConfig(r=4, target_modules="all-linear"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    inputs, labels = some_inputs(), some_inputs(seed=3)
    losses = []
    for _ in range(20):
        loss = model(inputs, labels=labels, num_segments=2).loss
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in trained)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    after = {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    model.save_pretrained(tmp_path / "adapter")
    loaded = HrmForPuzzleSolving.from_pretrained(tmp_path / "base")
    loaded.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(loaded(inputs).logits, model.eval()(inputs).logits)
    loaded.disable_adapters()
    fresh = HrmForPuzzleSolving.from_pretrained(tmp_path / "base")
    assert torch.equal(loaded(inputs).logits, fresh(inputs).logits)
