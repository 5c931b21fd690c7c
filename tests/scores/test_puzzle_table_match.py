"""A model's puzzle table follows a file by name: other numbers, unknown names, files and checkpoints without names."""

import numpy as np
import pytest
import torch

from hrm_hf import ArgumentError, DataError, HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.data import PuzzleFile, PuzzleSetInfo, PuzzleWriter
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers
from hrm_hf.scores.puzzle_table_match import match_puzzle_table

KNOWN = ("<blank>", "ant", "bee", "cat")


def puzzle_file(path, names: list[str], num_identifiers: int | None = None) -> PuzzleFile:
    """One puzzle per name; identifiers from 1 on in their order."""
    info = PuzzleSetInfo("maze", "test", 6, ("PAD", *"# SGo"), (2, 2), num_aug=0, seed=0)
    arrays = {}
    if names:
        arrays = {"identifier": np.arange(1, len(names) + 1, dtype=np.int32), "name": np.array(names, "S9")}
    with PuzzleWriter(path, info) as writer:
        cells = np.ones((max(len(names), 1), 2, 4), np.uint8)
        writer.set_num_puzzle_identifiers(num_identifiers or len(names) + 1)
        writer.add_puzzle("all", [cells], "puzzles", {}, arrays)
    return PuzzleFile(path)


def checkpoint(names=KNOWN) -> tuple[HrmForPuzzleSolving, HrmProcessor]:
    sizes = dict(hidden_size=8, num_attention_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=8)
    model = HrmForPuzzleSolving(HrmConfig(vocab_size=6, seq_len=4, num_puzzle_identifiers=4, **sizes))
    rows = torch.arange(4.0)[:, None].expand(4, 8)
    model.model.puzzle_embeddings.weight.data.copy_(rows)
    identifiers = None if names is None else PuzzleIdentifiers(names)
    return model, HrmProcessor(task="maze", grid_shape=(2, 2), puzzle_identifiers=identifiers)


def table(model: HrmForPuzzleSolving) -> list[float]:
    return model.model.puzzle_embeddings.weight[:, 0].tolist()


def test_the_same_numbers_change_nothing(tmp_path):
    model, processor = checkpoint()
    before = model.model.puzzle_embeddings.weight
    assert match_puzzle_table(model, processor, puzzle_file(tmp_path / "a.h5", ["ant", "bee", "cat"])) == []
    assert model.model.puzzle_embeddings.weight is before and processor.puzzle_identifiers.names == KNOWN


def test_a_test_file_that_names_some_changes_nothing(tmp_path):
    model, processor = checkpoint()
    assert match_puzzle_table(model, processor, puzzle_file(tmp_path / "a.h5", ["ant"], num_identifiers=4)) == []
    assert table(model) == [0, 1, 2, 3]


def test_the_same_names_in_another_order_are_followed(tmp_path):
    model, processor = checkpoint()
    assert match_puzzle_table(model, processor, puzzle_file(tmp_path / "a.h5", ["cat", "ant", "bee"])) == []
    assert table(model) == [0, 3, 1, 2]
    assert processor.puzzle_identifiers.names == ("<blank>", "cat", "ant", "bee")


def test_other_numbers_are_followed(tmp_path):
    model, processor = checkpoint()
    assert match_puzzle_table(model, processor, puzzle_file(tmp_path / "a.h5", ["cat", "ant"])) == []
    assert table(model) == [0, 3, 1] and model.config.num_puzzle_identifiers == 3
    assert processor.puzzle_identifiers.names == ("<blank>", "cat", "ant")


@pytest.mark.parametrize(("unknown", "row"), [("blank", 0.0), ("mean", 2.0)])
def test_unknown_names_get_what_was_chosen(tmp_path, unknown, row):
    model, processor = checkpoint()
    file = puzzle_file(tmp_path / "a.h5", ["dog", "bee"])
    with pytest.raises(DataError, match=r"1 of 2 puzzle identifiers are unknown to the checkpoint \(dog\)"):
        match_puzzle_table(model, processor, file)
    assert table(model) == [0, 1, 2, 3]
    assert match_puzzle_table(model, processor, file, unknown) == ["dog"]
    assert table(model) == [0, row, 2]


def test_a_checkpoint_without_names_knows_none_of_a_file(tmp_path):
    model, processor = checkpoint(names=None)
    file = puzzle_file(tmp_path / "a.h5", ["ant"])
    with pytest.raises(DataError, match="1 of 1 puzzle identifiers are unknown"):
        match_puzzle_table(model, processor, file)
    assert match_puzzle_table(model, processor, file, "blank") == ["ant"]
    assert table(model) == [0, 0]


def test_a_file_without_names_changes_nothing(tmp_path):
    model, processor = checkpoint()
    assert match_puzzle_table(model, processor, puzzle_file(tmp_path / "a.h5", [])) == []
    assert table(model) == [0, 1, 2, 3]


def test_another_word_for_unknown_is_refused(tmp_path):
    model, processor = checkpoint()
    with pytest.raises(ArgumentError, match="median"):
        match_puzzle_table(model, processor, puzzle_file(tmp_path / "a.h5", ["dog"]), "median")
