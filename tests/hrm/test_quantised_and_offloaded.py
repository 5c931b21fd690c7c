"""Weights in another form or at another place: torchao, quantize_dynamic, Accelerate's offloading."""

import re

import accelerate
import pytest
import torch
import transformers
from golden_fixtures import GOLDEN
from packaging.version import Version
from safetensors.torch import load_file
from tiny_models import TINY_RECURSIVE, perturbed, some_inputs, tiny_model
from transformers import pipeline

from hrm_hf import ArgumentError, CheckpointError, HrmForPuzzleSolving, HrmProcessor

CPU = torch.device("cpu")
CHECKPOINT = GOLDEN / "sudoku_4x4"  # what `make demo` leaves, and its 500 test puzzles


@pytest.fixture
def model() -> HrmForPuzzleSolving:
    return HrmForPuzzleSolving.from_pretrained(CHECKPOINT)


def percent_exact(model, **how) -> float:
    puzzles = load_file(CHECKPOINT / "puzzles.safetensors")
    solved = model.solve(puzzles["input_ids"].long(), **how).sequences == puzzles["labels"]
    return 100 * solved.all(-1).float().mean().item()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("activations", [False, True])
def test_int8_of_torchao_loses_nothing(model, activations, dtype):
    quantization = pytest.importorskip("torchao.quantization")
    exact = percent_exact(model, compute_dtype=dtype)
    kinds = (quantization.Int8WeightOnlyConfig, quantization.Int8DynamicActivationInt8WeightConfig)
    quantization.quantize_(model, kinds[activations]())
    weight = model.model.H_level.layers[0].mlp.down_proj.weight
    assert type(weight) is not torch.nn.Parameter and re.search("Int8|Quantized", type(weight).__name__)
    assert exact > 99 and percent_exact(model, compute_dtype=dtype) >= exact - 0.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning")
def test_quantize_dynamic_loses_nothing(model):
    exact = percent_exact(model)
    small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    swapped = torch.ao.nn.quantized.dynamic.Linear
    assert all(isinstance(each, swapped) for name, each in small.named_modules() if name.endswith(("_proj", "_head")))
    assert exact > 99 and percent_exact(small) >= exact - 0.5
    with pytest.raises(ArgumentError, match="quantize_dynamic take float32 alone: set compute_dtype to 'float32'"):
        small.solve(torch.ones(1, 16, dtype=torch.long), compute_dtype="bfloat16")


def on_disk(path, folder) -> HrmForPuzzleSolving:
    parts = ("embed_tokens", "embed_positions", "puzzle_embeddings", "H_level", "L_level", "z_H_init", "z_L_init")
    device_map = {f"model.{part}": "disk" if "level" in part else "cpu" for part in parts}
    device_map |= {"lm_head": "cpu", "q_head": "disk"}
    return HrmForPuzzleSolving.from_pretrained(path, device_map=device_map, offload_folder=folder)


WAYS = {
    "cpu_offload": lambda path, _: accelerate.cpu_offload(HrmForPuzzleSolving.from_pretrained(path), CPU),
    "disk_offload": lambda path, folder: accelerate.disk_offload(
        HrmForPuzzleSolving.from_pretrained(path), folder, CPU
    ),
    "levels on disk": on_disk,
}
if Version(transformers.__version__) >= Version("5.14"):  # older ones never fetch such a model's weights
    WAYS["all on disk"] = lambda path, folder: HrmForPuzzleSolving.from_pretrained(
        path, device_map={"": "disk"}, offload_folder=folder
    )


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_an_offloaded_model_solves_in_the_pipeline(way, tmp_path):
    whole = pipeline("puzzle-solving", model=str(CHECKPOINT))
    offloaded = WAYS[way](CHECKPOINT, tmp_path / "folder")
    solver = pipeline("puzzle-solving", model=offloaded, processor=whole.processor)
    puzzles = ["142.23....32..1.", "1..............."]
    assert solver(puzzles) == whole(puzzles)


def test_nan_in_quantised_weights_is_refused(model):
    quantization = pytest.importorskip("torchao.quantization")
    with torch.no_grad():
        model.lm_head.weight[1, 2] = torch.nan
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    with pytest.raises(CheckpointError, match="the tensor lm_head.weight holds NaN or infinity"):
        pipeline("puzzle-solving", model=model, processor=HrmProcessor.from_pretrained(CHECKPOINT))


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match:UserWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"pos_encodings": "learned"}, TINY_RECURSIVE])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_offloaded_model_gives_the_same_bits(way, options, dtype, tmp_path):
    model = perturbed(tiny_model(compute_dtype=dtype, **options))
    model.save_pretrained(tmp_path / "model")
    offloaded = WAYS[way](tmp_path / "model", tmp_path / "folder")
    assert offloaded.model.L_level.layers[0].mlp.down_proj.weight.is_meta
    inputs = some_inputs()
    with torch.no_grad():
        assert torch.equal(offloaded(inputs).logits, model(inputs).logits)
    want, got = (each.solve(inputs, max_segments=3) for each in (model, offloaded))
    assert torch.equal(got.sequences, want.sequences) and torch.equal(got.q_halt_logits, want.q_halt_logits)
