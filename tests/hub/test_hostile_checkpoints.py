"""Damaged and malicious checkpoints, ours and published ones: loaded, or refused by one documented line.

Every input is a whole checkpoint of a tiny model in which one file was changed.
"""

import copy
import importlib.util
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hostile_inputs import examples, mutated, mutated_text, nothing_written_outside, result_or_documented
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import ROOT
from safetensors.torch import load_file, save, save_file

from hrm_hf import HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.commands.solve import main as solve
from hrm_hf.hrm.errors import ArgumentError, CheckpointError, DataError, HrmError
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, FILE_NAME, PuzzleIdentifiers
from hrm_hf.hub.checkpoints import check_checkpoint, check_puzzle_model, load_checkpoint
from hrm_hf.original.checkpoints import (
    load_published,
    published_settings,
    published_state_dict,
    read_published_config,
    read_published_state_dict,
)
from hrm_hf.original.find_files import read_identifier_names

NAMES = [BLANK_NAME, "aaaa", "aaaa_t1_0123456789"]
PUZZLE = "1..4..1..1..4..1"
# Entries of a config.json that transformers follows when it loads a model: to other files, to code on the Hub, to
# other kinds of weights.
LEADS_ELSEWHERE = (
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
    *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
    *("configuration_files", "quantization_config", "auto_map"),
)
VALUES = st.one_of(
    st.integers(-2, 20),
    st.floats(),
    st.sampled_from(
        [10**9, 2**31, 2**63, 10**30, 10**400, True, None, "", "x", "1", [], {}, [[]], {"": 0}, "a/b", "\n"]
    ),
    st.sampled_from(
        ["eager", "sdpa", "flash_attention_2", "kernels-community/x", "bfloat16", "int8", "float8_e4m3fn"]
    ),
)


def load_command(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "convert" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


to_hf, to_hrm = load_command("hrm_checkpoint_to_hf"), load_command("hf_checkpoint_to_hrm")


def hostile(quick: int):
    return settings(max_examples=examples(quick), suppress_health_check=list(HealthCheck))


class Files(dict):
    """Contents by name, without showing them where a property fails."""

    def __repr__(self) -> str:
        return f"Files({', '.join(self)})"


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def model() -> HrmForPuzzleSolving:
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_attention_heads=2, expansion=1, H_layers=1, L_layers=1, halt_max_steps=1)
    return HrmForPuzzleSolving(
        HrmConfig(vocab_size=6, seq_len=16, puzzle_emb_ndim=16, num_puzzle_identifiers=3, **sizes)
    )


@pytest.fixture(scope="module")
def ours(model, tmp_path_factory) -> dict[str, bytes]:
    """The files of a whole checkpoint, by name."""
    folder = tmp_path_factory.mktemp("ours")
    model.save_pretrained(folder)
    HrmProcessor(grid_shape=(4, 4), puzzle_identifiers=PuzzleIdentifiers(NAMES)).save_pretrained(folder)
    return Files({path.name: path.read_bytes() for path in folder.iterdir()})


@pytest.fixture(scope="module")
def published(model, tmp_path_factory) -> dict[str, bytes]:
    """The files of a published checkpoint of the same model, by name."""
    folder = tmp_path_factory.mktemp("published")
    torch.save(published_state_dict(model), folder / "checkpoint")
    (folder / "all_config.yaml").write_text(yaml.safe_dump(published_settings(model.config, "sudoku")))
    (folder / "identifiers.json").write_text(json.dumps(NAMES))
    return Files({path.name: path.read_bytes() for path in folder.iterdir()})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """The files in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def try_ours(tmp_path_factory):
    """Tries every way into a checkpoint: each ends in a result or one line, and writes into `out` only."""
    root = tmp_path_factory.mktemp("try_ours")

    def run(capsys, files: dict[str, bytes], command: bool) -> bool:
        folder, out = write(root / "folder", files), root / "out"
        shutil.rmtree(out, ignore_errors=True)
        with nothing_written_outside(root, out):
            loaded = result_or_documented(lambda: load_checkpoint(folder), CheckpointError)
            result_or_documented(lambda: check_checkpoint(folder), HrmError)
            result_or_documented(lambda: check_puzzle_model(folder), CheckpointError)
            if loaded is not None:
                assert all(tensor.isfinite().all() for tensor in loaded.state_dict().values())
            if command:
                one_line(capsys, lambda: solve(["--checkpoint", str(folder), PUZZLE]))
                arguments = ["--checkpoint", str(folder), "--output-dir", str(out)]
                code = one_line(capsys, lambda: to_hrm(arguments))
                assert code == 0 or not out.exists()
        return loaded is not None

    return run


def one_line(capsys, action) -> int:
    """The exit code of a command, which is 0 or, with one line on stderr, 2."""
    capsys.readouterr()
    code = result_or_documented(action, ZeroDivisionError)
    err = capsys.readouterr().err
    assert code in (0, 2), code
    if code:
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert line.isprintable() and err.endswith(f"{line}\n")
    return code


class TestOurs:
    @hostile(40)
    @given(st.data())
    def test_settings_of_another_kind(self, ours, try_ours, capsys, data):
        name = data.draw(st.sampled_from(["config.json", "config.json", "processor_config.json"]))
        content = json.loads(ours[name])
        keys = [
            *content,
            *LEADS_ELSEWHERE,
            "dtype",
            "torch_dtype",
            "auto_map",
            "id2label",
            "tie_word_embeddings",
            "x",
        ]
        keys += ["puzzle_identifiers", "audio_tokenizer", "chat_template", "output_attentions", "transformers_version"]
        for _ in range(data.draw(st.integers(1, 2))):
            key = data.draw(st.sampled_from(keys))
            if data.draw(st.booleans()):
                content[key] = data.draw(VALUES)
            else:
                content.pop(key, None)
        changed = {name: json.dumps(content).encode()}
        try_ours(capsys, ours | changed, command=data.draw(st.integers(0, 2)) == 0)

    @hostile(50)
    @given(st.data())
    def test_text_files(self, ours, try_ours, capsys, data):
        name = data.draw(st.sampled_from(["config.json", "processor_config.json", FILE_NAME]))
        text = mutated_text(ours[name].decode()).map(lambda text: text.encode("utf-8", "surrogatepass"))
        changed = {name: data.draw(st.one_of(text, mutated(ours[name])))}
        try_ours(capsys, ours | changed, command=data.draw(st.integers(0, 2)) == 0)

    @hostile(40)
    @given(st.data())
    def test_weights(self, ours, try_ours, capsys, data):
        content = ours["model.safetensors"]
        size = 8 + struct.unpack("<Q", content[:8])[0]
        kind = data.draw(st.sampled_from(["header", "header", "entry", "tail", "any"]))
        if kind == "header":  # its text, with its length set right
            header = data.draw(mutated_text(content[8:size].decode())).encode("utf-8", "surrogatepass")
            content = struct.pack("<Q", len(header)) + header + content[size:]
        elif kind == "entry":
            header = json.loads(content[8:size])
            key = data.draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
            dtype = st.sampled_from(["F64", "F16", "I32", "BOOL", "F8_E4M3", "F4", "C64", "X", 1, None])
            number = st.sampled_from([-1, 0, 1, 4, 2**31, 2**62, 2**64, 10**30, 1.5, "1"])
            entries = {
                "dtype": dtype,
                "shape": st.lists(number, max_size=4),
                "data_offsets": st.lists(number, max_size=3),
            }
            part = data.draw(st.sampled_from(sorted(entries)))
            header[key][part] = data.draw(entries[part])
            header = json.dumps(header).encode()
            content = struct.pack("<Q", len(header)) + header + content[size:]
        elif kind == "tail":
            content = content[:size] + data.draw(mutated(content[size : size + 256])) + content[size + 256 :]
        else:
            content = data.draw(mutated(content))
        try_ours(capsys, ours | {"model.safetensors": content}, command=data.draw(st.integers(0, 3)) == 0)

    @hostile(25)
    @given(st.data())
    def test_index_of_weights(self, ours, try_ours, capsys, data):
        keys = sorted(load_keys(ours["model.safetensors"]))
        files = dict(ours)
        files["a.safetensors"] = files.pop("model.safetensors")
        shard = st.sampled_from(
            ["a.safetensors", "a.safetensors", "../x.safetensors", "/etc/x.safetensors", "a\0", "b.bin"]
        )
        shard = st.one_of(
            shard, st.sampled_from(["", ".", "config.json", "\ud800.safetensors", "\n.safetensors", 1, None])
        )
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, "a.safetensors")}
        if data.draw(st.booleans()):
            index["weight_map"][data.draw(st.sampled_from(keys))] = data.draw(shard)
            text = json.dumps(index)
        else:
            text = data.draw(mutated_text(json.dumps(index)))
        files["model.safetensors.index.json"] = text.encode("utf-8", "surrogatepass")
        try_ours(capsys, files, command=False)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_values_that_are_not_finite(self, ours, tmp_path, value):
        folder = write(tmp_path / "folder", ours)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"][2, 3] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="the tensor lm_head.weight holds NaN or infinity"):
            load_checkpoint(folder)

    def test_a_dtype_that_no_weights_have(self, ours, tmp_path):
        folder = write(tmp_path / "folder", ours)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int32)
        (folder / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
        with pytest.raises(CheckpointError, match="lm_head.weight the weights hold I32 \\(6, 16\\)"):
            load_checkpoint(folder)

    @pytest.mark.parametrize("entry", LEADS_ELSEWHERE)
    @pytest.mark.parametrize("value", ["kernels-community/elsewhere", ["elsewhere.json"], {"quant_method": "gptq"}])
    def test_settings_that_lead_elsewhere_are_not_followed(self, ours, model, tmp_path, entry, value):
        folder = write(tmp_path / "folder", ours)
        (folder / "config.json").write_text(json.dumps(json.loads(ours["config.json"]) | {entry: value}))
        loaded = load_checkpoint(folder)
        assert loaded.config._attn_implementation == model.config._attn_implementation
        assert not hasattr(loaded.config, "quantization_config") and not hasattr(loaded.config, "auto_map")
        assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), model.parameters()))

    def test_the_processor_fetches_nothing_else(self, ours, tmp_path):
        settings = json.loads(ours["processor_config.json"])
        settings["audio_tokenizer"] = {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "a/b"}
        settings["puzzle_identifiers"] = ["x"]
        folder = write(tmp_path / "folder", ours | {"processor_config.json": json.dumps(settings).encode()})
        processor = HrmProcessor.from_pretrained(folder)
        assert processor.puzzle_identifiers.names == tuple(NAMES) and not hasattr(processor, "audio_tokenizer")

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "/dev/null", "..", "\n"])
    def test_names_of_no_folder(self, name):
        for read in (load_checkpoint, check_checkpoint, check_puzzle_model):
            with pytest.raises(CheckpointError):
                read(name)


def load_keys(content: bytes) -> list[str]:
    size = struct.unpack("<Q", content[:8])[0]
    return [name for name in json.loads(content[8 : 8 + size]) if name != "__metadata__"]


@pytest.fixture(scope="module")
def try_published(tmp_path_factory):
    """As `try_ours`, for the files of the published training code."""
    root = tmp_path_factory.mktemp("try_published")

    def run(capsys, files: dict[str, bytes]) -> int:
        folder, out = write(root / "folder", files), root / "out"
        shutil.rmtree(out, ignore_errors=True)
        arguments = ["--checkpoint", str(folder), "--output-dir", str(out), "--seq-len", "16"]
        with nothing_written_outside(root, out):
            code = one_line(capsys, lambda: to_hf(arguments))
            assert code == 0 or not out.exists()
            checkpoint, settings = folder / "checkpoint", folder / "all_config.yaml"
            result_or_documented(lambda: load_published(checkpoint, settings, 16), CheckpointError, ArgumentError)
            result_or_documented(lambda: load_published(checkpoint, settings), CheckpointError, ArgumentError)
        return code

    return run


class TestPublished:
    @hostile(40)
    @given(st.data())
    def test_settings(self, published, try_published, capsys, data):
        text = published["all_config.yaml"].decode()
        if data.draw(st.booleans()):
            content = data.draw(mutated_text(text)).encode("utf-8", "surrogatepass")
        else:
            changed = copy.deepcopy(yaml.safe_load(text))
            for _ in range(data.draw(st.integers(1, 2))):
                keys = [*changed["arch"], "x", 3, None]
                changed["arch"][data.draw(st.sampled_from(keys))] = data.draw(VALUES)
                changed[data.draw(st.sampled_from(["data_path", "seq_len", "x"]))] = data.draw(VALUES)
            content = yaml.dump(changed).encode()
        try_published(capsys, published | {"all_config.yaml": content})

    @hostile(25)
    @given(st.data())
    def test_state_dicts(self, published, try_published, capsys, data):
        content = data.draw(mutated(published["checkpoint"], max_changes=3))
        try_published(capsys, published | {"checkpoint": content})

    @hostile(30)
    @given(st.data())
    def test_their_pickles(self, published, try_published, capsys, data):
        """The pickle inside the zip is changed, and the zip is whole."""
        content = rezipped(published["checkpoint"], lambda name, part: data.draw(mutated(part, 3)))
        try_published(capsys, published | {"checkpoint": content})

    @hostile(30)
    @given(st.data())
    def test_other_contents(self, published, try_published, capsys, data):
        tensors = torch.load(io.BytesIO(published["checkpoint"]))
        values = [
            *(None, 1, "x", {}, [], {"a": torch.ones(2)}, torch.ones(3), torch.ones(1).expand(10**12, 16)),
            *(torch.ones(1).expand(16, 10**6), torch.zeros(6, 16, device="meta"), torch.ones(6, 16).to_sparse()),
            *(
                torch.ones(6, 16, dtype=torch.int64),
                torch.full((6, 16), float("nan")),
                torch.zeros(0, 16),
                torch.ones(()),
            ),
            torch.ones(6, 16, dtype=torch.complex64).conj(),
        ]
        for _ in range(data.draw(st.integers(1, 2))):
            key = data.draw(st.sampled_from([*tensors, "x", 1, ("a", 2), 10**5000]))
            tensors[key] = values[data.draw(st.integers(0, len(values) - 1))]
        if data.draw(st.integers(0, 4)) == 0:
            tensors = values[data.draw(st.integers(0, len(values) - 1))]
        stream = io.BytesIO()
        torch.save(tensors, stream, _use_new_zipfile_serialization=data.draw(st.booleans()))
        try_published(capsys, published | {"checkpoint": stream.getvalue()})

    @hostile(25)
    @given(st.data())
    def test_names(self, published, try_published, capsys, data):
        names = st.lists(st.one_of(st.text(max_size=5), st.sampled_from(["a", "\ud800", " x", 1, None])), max_size=4)
        text = data.draw(st.one_of(mutated_text(json.dumps(NAMES)), names.map(json.dumps)))
        try_published(capsys, published | {"identifiers.json": text.encode("utf-8", "surrogatepass")})

    @hostile(25)
    @given(st.data())
    def test_settings_for_the_way_back(self, ours, published, tmp_path_factory, capsys, data):
        root = tmp_path_factory.getbasetemp() / "back"
        folder, out = write(root, ours), root / "out"
        text = data.draw(mutated_text(published["all_config.yaml"].decode()))
        (folder / "settings").write_bytes(text.encode("utf-8", "surrogatepass"))
        arguments = ["--checkpoint", str(folder), "--output-dir", str(out), "--config", str(folder / "settings")]
        with nothing_written_outside(root, out):
            assert one_line(capsys, lambda: to_hrm(arguments)) == 0 or not out.exists()

    @pytest.mark.parametrize("zipped", [True, False])
    def test_planted_code_does_not_run(self, published, try_published, capsys, tmp_path, zipped):
        marker = tmp_path / "it ran"
        tensors = torch.load(io.BytesIO(published["checkpoint"])) | {"more": Planted(marker)}
        stream = io.BytesIO()
        torch.save(tensors, stream, _use_new_zipfile_serialization=zipped)
        assert try_published(capsys, published | {"checkpoint": stream.getvalue()}) == 2
        assert try_published(capsys, published | {"checkpoint": pickle.dumps(Planted(marker))}) == 2
        assert not marker.exists()

    def test_compressed_data(self, published, tmp_path):
        bomb = rezipped(published["checkpoint"], lambda name, part: part, zipfile.ZIP_DEFLATED, more=b"\0" * 10**8)
        assert len(bomb) < 10**6
        (tmp_path / "checkpoint").write_bytes(bomb)
        with pytest.raises(CheckpointError, match="compressed"):
            read_published_state_dict(tmp_path / "checkpoint")

    def test_settings_by_reference(self, tmp_path):
        lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
        (tmp_path / "all_config.yaml").write_text("\n".join([*lines, "arch: {loss: *a59}"]))
        with pytest.raises(CheckpointError, match="an alias"):
            read_published_config(tmp_path / "all_config.yaml")
        (tmp_path / "all_config.yaml").write_text("arch: {}\n" * 100_000)
        with pytest.raises(CheckpointError, match="more than"):
            read_published_config(tmp_path / "all_config.yaml")

    def test_values_that_are_not_finite(self, published, try_published, capsys, tmp_path):
        tensors = torch.load(io.BytesIO(published["checkpoint"]))
        tensors[next(name for name in tensors if name.endswith("lm_head.weight"))][0, 0] = float("nan")
        folder = write(tmp_path / "folder", published)
        torch.save(tensors, folder / "checkpoint")
        with pytest.raises(CheckpointError, match="lm_head.weight holds NaN or infinity"):
            load_published(folder / "checkpoint", folder / "all_config.yaml", 16)

    @pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"{}", b"[1]", b""])
    def test_lists_of_names_that_are_none(self, tmp_path, content):
        (tmp_path / "identifiers.json").write_bytes(content)
        with pytest.raises(DataError):
            read_identifier_names(tmp_path / "identifiers.json")


def rezipped(content: bytes, change, compression: int = zipfile.ZIP_STORED, more: bytes = b"") -> bytes:
    """A file of torch.save whose pickle went through `change(name, bytes)`, with a further entry if there is more."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, change(name, part) if name.endswith("data.pkl") else part)
        if more:
            new.writestr(f"{old.namelist()[0].split('/')[0]}/data/9999", more)
    return stream.getvalue()
