"""Loading a checkpoint: the model as it was saved, or one line that says what is wrong and what to do."""

import json
import os
from pathlib import Path

import pytest
import torch
import warm_processes
from hub_server import HubServer
from paths import ROOT
from safetensors.torch import load_file, save_file
from tiny_models import perturbed, tiny_model
from transformers.utils.logging import enable_progress_bar, is_progress_bar_enabled

from hrm_hf import CheckpointError
from hrm_hf.hub.checkpoints import load_checkpoint


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A whole small model; its weights are cut into several files."""
    perturbed(tiny_model()).save_pretrained(tmp_path / "model", max_shard_size="20KB")
    return tmp_path / "model"


@pytest.fixture
def refused(folder, capfd):
    """Loading fails with one line that holds these words, and nothing else is written anywhere."""

    def check(*words: str) -> None:
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        capfd.readouterr()
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(folder)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)
        assert capfd.readouterr() == ("", "")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    return check


def with_one_file(folder: Path, change) -> None:
    """The weights in one file, after `change` of the dict of tensors."""
    model = load_checkpoint(folder)
    for path in [*folder.glob("model-*"), folder / "model.safetensors.index.json"]:
        path.unlink()
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_whole_one(folder, capfd):
    enable_progress_bar()
    model = load_checkpoint(folder)
    assert capfd.readouterr() == ("", "") and is_progress_bar_enabled()
    stored = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training and model.dtype == torch.float32
    assert load_checkpoint(folder, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_weights_that_can_run_code_are_not_read(folder, refused, tmp_path):
    marker = tmp_path / "it ran"
    model = load_checkpoint(folder)
    for path in [*folder.glob("model-*"), folder / "model.safetensors.index.json"]:
        path.unlink()
    torch.save({**model.state_dict(), "more": Malicious(marker)}, folder / "pytorch_model.bin")
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert marker.is_dir()  # it would run
    marker.rmdir()
    refused("has no weights", "Other files can run code and are not read", "save_pretrained")
    assert not marker.exists()


def test_they_are_not_read_beside_others_either(folder, tmp_path):
    marker = tmp_path / "it ran"
    torch.save({"more": Malicious(marker)}, folder / "pytorch_model.bin")
    load_checkpoint(folder)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 4, 200, -50])
def test_a_truncated_file(folder, refused, kept):
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:kept])
    refused(f"{shard} is missing, damaged or cut short", "fetch or save it again")


def test_a_wrong_shape(folder, refused):
    with_one_file(folder, lambda tensors: tensors.update({"q_head.bias": torch.zeros(3)}))
    refused("of the tensor q_head.bias the weights hold (3,), but config.json asks for (2,)")


def test_a_missing_tensor(folder, refused):
    with_one_file(folder, lambda tensors: tensors.pop("lm_head.weight"))
    refused("of the tensor lm_head.weight the weights hold nothing, but config.json asks for (6, 32)")


def test_an_unknown_tensor(folder, refused):
    with_one_file(folder, lambda tensors: tensors.update(more=torch.zeros(2)))
    refused("of the tensor more the weights hold (2,), but config.json asks for nothing")


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        (None, "names None; allowed: safetensors files that lie beside it"),
        ({"lm_head.weight": 7}, "names 7; allowed: safetensors files that lie beside it"),
        ({"lm_head.weight": ["a"]}, "names ['a']; allowed: safetensors files that lie beside it"),
        ({"lm_head.weight": "../other/model.safetensors"}, "names '../other/model.safetensors'; allowed"),
        ({"lm_head.weight": "pytorch_model.bin"}, "names 'pytorch_model.bin'; allowed"),
        ({"lm_head.weight": "gone.safetensors"}, "gone.safetensors is missing"),
    ],
)
def test_a_damaged_index(folder, refused, weight_map, words):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(words)


def test_no_checkpoint_at_all(tmp_path):
    for name, words in (
        (str(tmp_path / "nowhere"), "there is no folder .*nowhere, and it is no owner/name of the Hub"),
        ("nowhere", "there is no folder nowhere"),
        ("you/name", "the model you/name: Cannot reach .*only the cache serves"),
        (tmp_path, "config.json: there is no such file"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(name)


LOADS = """
import sys, torch
from hrm_hf import CheckpointError
from hrm_hf.hub.checkpoints import load_checkpoint
for name, options in (("you/plain", {}), ("you/sharded", {}), ("you/plain", {"revision": "v9"})):
    try:
        model = load_checkpoint(name, **options)
        print(name, sum(tensor.double().sum().item() for tensor in model.state_dict().values()))
    except CheckpointError as error:
        print(error)
"""


def test_from_the_hub_and_then_from_its_cache(folder, tmp_path):
    model = load_checkpoint(folder)
    model.save_pretrained(tmp_path / "plain")
    large = {"optimizer.safetensors": b"x", "pytorch_model.bin": b"x", "notes.txt": b"x"}
    said = []
    with HubServer() as hub:
        for name, source in (("you/plain", tmp_path / "plain"), ("you/sharded", folder)):
            hub.add("model", name, large | {path.name: path.read_bytes() for path in source.iterdir()})
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        for offline in ("0", "1"):
            environment["HF_HUB_OFFLINE"] = offline
            done = warm_processes.run(["-c", LOADS], environment)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout.splitlines())
        fetched = {path.rsplit("/", 1)[1] for method, path in hub.requests if "/resolve/" in path}
    assert not fetched & large.keys()
    total = sum(tensor.double().sum().item() for tensor in model.state_dict().values())
    assert said[0][:2] == said[1][:2] == [f"you/plain {total}", f"you/sharded {total}"]
    assert said[0][2].startswith("the model you/plain: Invalid rev id: v9; see http")
    assert said[1][2].startswith("the model you/plain: ") and "HF_HUB_OFFLINE" in said[1][2]
