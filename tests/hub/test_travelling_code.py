"""Checkpoints that carry their code: what add_code writes, and who uses which classes.

One process without hrm_hf, in an environment made for it, loads the same checkpoint from a folder and over HTTP, where
examples/push_to_hub.py has put it; its answers are compared, bit for bit, with those of the package.
"""

import ast
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import warm_processes
from bare_environment import make_bare_environment
from hub_server import HubServer
from load_without_package import NAMES, PUZZLE
from paths import FIXTURES, ROOT
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

from hrm_hf import CheckpointError, HrmConfig, HrmForPuzzleSolving, HrmProcessor, PuzzleSolvingPipeline
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers
from hrm_hf.hub.travelling_code import add_code, code_files

SCRIPT = FIXTURES / "load_without_package.py"
PUSH = ROOT / "examples" / "push_to_hub.py"
REPO = "user/hrm-with-code"
CONFIG = dict(
    vocab_size=6,
    seq_len=16,
    hidden_size=32,
    num_attention_heads=2,
    H_layers=1,
    L_layers=1,
    num_puzzle_identifiers=2,
    puzzle_emb_ndim=32,
    halt_max_steps=3,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A model with its processor, the names of its puzzles and a card."""
    folder = tmp_path_factory.mktemp("plain")
    torch.manual_seed(0)
    model = HrmForPuzzleSolving(HrmConfig(**CONFIG))
    torch.nn.init.normal_(model.model.puzzle_embeddings.weight)  # fresh rows are zeros: all puzzles alike
    model.save_pretrained(folder)
    HrmProcessor(grid_shape=(4, 4), puzzle_identifiers=PuzzleIdentifiers(NAMES)).save_pretrained(folder)
    (folder / "README.md").write_text("A model that knows nothing.\n")
    return folder


@pytest.fixture(scope="module")
def checkpoint(plain, tmp_path_factory) -> Path:
    """The same with the code."""
    folder = tmp_path_factory.mktemp("with_code") / "hrm-4x4.1"  # no Python module has points and hyphens in its name
    shutil.copytree(plain, folder)
    add_code(folder)
    return folder


@pytest.fixture(scope="module")
def by_package(checkpoint, tmp_path_factory) -> Path:
    """The same loaded and saved by someone who has hrm_hf."""
    folder = tmp_path_factory.mktemp("by_package") / "again_by_package"
    AutoModel.from_pretrained(checkpoint).save_pretrained(folder)
    AutoProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def without_package(plain, checkpoint, by_package, tmp_path_factory) -> dict[str, dict]:
    """What load_without_package found, by source; the repository ("http") is private, with cut weights."""
    work = tmp_path_factory.mktemp("without_package")
    python = make_bare_environment(work / "environment")
    push = [PUSH, "--checkpoint", plain, "--repo-id", REPO, "--with-code", "--private", "--max-shard-size", "100KB"]
    with HubServer() as hub:
        done = warm_processes.run(push, hub.environment(work / "author"))
        assert done.returncode == 0, done.stderr[-3000:]
        assert "model.safetensors.index.json" in hub.repos["model", REPO].files
        load = [python, "-I", SCRIPT, work / "answers.json", work, checkpoint, REPO, by_package]
        run(load, env=hub.environment(work / "stranger"), cwd=work)
    found = json.loads((work / "answers.json").read_text())
    return {"folder": found[str(checkpoint)], "http": found[REPO], "by_package": found[str(by_package)]}


def run(command: list, **options) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def with_package(checkpoint) -> dict:
    """The same answers from the package's own classes, which are asked for by name."""
    model = HrmForPuzzleSolving.from_pretrained(checkpoint)
    processor = HrmProcessor.from_pretrained(checkpoint)
    with torch.no_grad():
        logits = model(**processor([PUZZLE, PUZZLE], puzzle_identifiers=NAMES)).logits
    solver = PuzzleSolvingPipeline(model, processor, device="cpu")
    results = solver([{"puzzle": PUZZLE, "puzzle_identifier": name} for name in NAMES])
    assert not torch.equal(*logits)  # the names of the puzzles matter
    return {"logits": logits.tolist(), "results": results}


@pytest.mark.parametrize("source", ["folder", "http", "by_package"])
class TestWithoutPackage:
    def test_trust_is_asked_for(self, without_package, source):
        assert "trust_remote_code=True" in without_package[source]["refusal"]

    def test_same_numbers(self, without_package, with_package, source):
        found = without_package[source]
        assert found["logits"] == with_package["logits"]
        assert found["results"] == with_package["results"]

    def test_classes_come_from_the_checkpoint(self, without_package, source):
        classes = without_package[source]["classes"]
        assert list(classes) == ["HrmConfig", "HrmForPuzzleSolving", "HrmProcessor", "PuzzleSolvingPipeline"]
        place = {"folder": "hrm_hyphen_4x4_dot_1", "http": "transformers_modules.user.hrm_hyphen_with_hyphen_code"}
        assert all(place.get(source, "again_by_package") in module for module in classes.values()), classes

    def test_saved_again_with_its_code(self, without_package, with_package, source):
        for again in without_package[source]["again"]:
            assert all("again" in module for module in again["classes"].values()), again["classes"]
            assert again["logits"] == with_package["logits"]
            assert again["results"] == with_package["results"]

    def test_error_names_the_item(self, without_package, source):
        assert without_package[source]["error"].startswith("PuzzleError: item 1: ")


@pytest.mark.parametrize("trust", [None, True])
def test_package_wins(checkpoint, trust):
    name = str(checkpoint)
    assert type(AutoConfig.from_pretrained(name, trust_remote_code=trust)) is HrmConfig
    assert type(AutoModel.from_pretrained(name, trust_remote_code=trust)) is HrmForPuzzleSolving
    assert type(AutoProcessor.from_pretrained(name, trust_remote_code=trust)) is HrmProcessor
    solver = pipeline("puzzle-solving", model=name, trust_remote_code=trust, device="cpu", local_files_only=True)
    assert type(solver) is PuzzleSolvingPipeline


def test_package_saves_what_carried_code(checkpoint, tmp_path):
    model = AutoModel.from_pretrained(checkpoint)
    assert model.config.to_dict()["auto_map"]["AutoModel"] == "modeling_hrm.HrmForPuzzleSolving"
    model.save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path)
    again = pipeline("puzzle-solving", model=str(tmp_path), device="cpu", local_files_only=True)
    assert again.processor.puzzle_identifiers.names == tuple(NAMES)
    for file in code_files():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.model.parameters(), model.parameters()))


def top_level_names(file: Path) -> set[str]:
    """The functions and classes that a file defines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_nothing_travels_that_solving_does_not_need(checkpoint):
    """No generator, no exact solver, no symmetry group; who has to trust the code can read it."""
    files = sorted(checkpoint.glob("*.py"))
    games = [file for file in (ROOT / "hrm_hf" / "games").glob("*.py") if file.name != "__init__.py"]
    assert len(games) >= 3 and not {file.name for file in files} & {file.name for file in games}
    defined = set.union(*map(top_level_names, files))
    of_games = {name for file in games for name in top_level_names(file) if not name.startswith("_")}
    assert len(of_games) > 5 and not defined & of_games
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 3600
    assert not (checkpoint / "__init__.py").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_add_code_twice_changes_nothing(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    before = contents(folder)
    add_code(folder)
    assert contents(folder) == before


def test_add_code_leaves_the_other_settings(checkpoint, tmp_path):
    for name, added in (("config.json", {"auto_map", "custom_pipelines"}), ("processor_config.json", {"auto_map"})):
        shutil.copy(checkpoint / name, tmp_path)
        bare = json.loads((tmp_path / name).read_text())
        bare = {key: value for key, value in bare.items() if key not in added} | {"mine": [1, 2]}
        (tmp_path / name).write_text(json.dumps(bare))
    written = add_code(tmp_path)
    assert [file.name for file in written] == [file.name for file in code_files()]
    assert all(file.read_bytes() == (checkpoint / file.name).read_bytes() for file in written)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["mine"] == [1, 2] and config["hidden_size"] == 32
    assert list(config["custom_pipelines"]) == ["hrm-puzzle-solving"]
    assert json.loads((tmp_path / "processor_config.json").read_text())["mine"] == [1, 2]
    assert not list(tmp_path.glob(".*"))


def test_add_code_without_processor(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "hrm"}')
    add_code(tmp_path)
    assert sorted(contents(tmp_path)) == sorted(["config.json", *(file.name for file in code_files())])


def test_add_code_does_not_write_through_links(tmp_path):
    shared = {"config.json": '{"model_type": "hrm"}', "errors.py": "# of another version\n"}
    (tmp_path / "shared").mkdir()
    (tmp_path / "checkpoint").mkdir()
    for name, text in shared.items():
        (tmp_path / "shared" / name).write_text(text)
        os.symlink(tmp_path / "shared" / name, tmp_path / "checkpoint" / name)
    add_code(tmp_path / "checkpoint")
    assert {name: (tmp_path / "shared" / name).read_text() for name in shared} == shared
    assert (tmp_path / "checkpoint" / "errors.py").read_text() != shared["errors.py"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "config.json: there is no such file"),
        ({"config.json": "{"}, "config.json is not valid JSON"),
        ({"config.json": "[]"}, "config.json holds a JSON list"),
        ({"config.json": '{"model_type": "bert"}'}, "model_type 'bert'"),
        ({"config.json": '{"model_type": "hrm"}', "processor_config.json": "\x00"}, "processor_config.json is not"),
    ],
)
def test_add_code_refuses(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        add_code(tmp_path)
    assert contents(tmp_path) == {name: text.encode() for name, text in files.items()}
