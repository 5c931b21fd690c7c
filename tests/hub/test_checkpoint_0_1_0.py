"""A checkpoint that version 0.1.0 wrote loads as before, also where its config.json names code of that version.

tests/golden/checkpoint_0_1_0/ was made with 0.1.0: a tiny untrained model by save_pretrained, its processor with
names, its card, and the entries that add_code writes; the code itself is left out. recorded.safetensors holds a batch
of two puzzles and what that version's model answered in two segments.
"""

import json
import shutil

import pytest
import torch
from paths import GOLDEN
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, pipeline

from hrm_hf import HrmForPuzzleSolving, HrmProcessor
from hrm_hf.hub.checkpoints import check_checkpoint, load_checkpoint
from hrm_hf.hub.push import push_checkpoint
from hrm_hf.hub.travelling_code import add_code, code_files

FOLDER = GOLDEN / "checkpoint_0_1_0"
PUZZLES = ["1..4..1..1..4..1", "142.23....32..1."]


@pytest.mark.parametrize("load", [load_checkpoint, HrmForPuzzleSolving.from_pretrained, AutoModel.from_pretrained])
@torch.no_grad()
def test_the_model_gives_the_recorded_logits(load):
    recorded = load_file(FOLDER / "recorded.safetensors")
    batch = HrmProcessor.from_pretrained(FOLDER)(PUZZLES, puzzle_identifiers=["first", "second"])
    assert all(torch.equal(recorded[name], tensor) for name, tensor in batch.items())
    model, carry = load(FOLDER).eval(), None
    assert type(model) is HrmForPuzzleSolving
    for segment in (1, 2):
        out = model(**batch, carry=carry)
        carry = out.carry
        for name in ("logits", "q_halt_logits", "q_continue_logits"):
            torch.testing.assert_close(out[name], recorded[f"segment{segment}.{name}"], atol=1e-5, rtol=1e-5)


def test_the_pipeline_solves_with_it():
    assert type(AutoProcessor.from_pretrained(FOLDER)) is HrmProcessor
    solver = pipeline("puzzle-solving", model=str(FOLDER), device="cpu", local_files_only=True)
    assert [solved["solution"] for solved in solver(PUZZLES)] == ["1..3..1..1..1..1", "333.4433....233."]


def test_it_is_pushed_with_the_code_of_this_version(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "checkpoint")
    check_checkpoint(folder)
    sent = dict(push_checkpoint(folder, "you/name", dry_run=True))
    assert {file.name for file in code_files()} == {name for name in sent if name.endswith(".py")}
    assert "recorded.safetensors" not in sent
    before = json.loads((folder / "config.json").read_text())
    add_code(folder)
    assert json.loads((folder / "config.json").read_text()) == before
