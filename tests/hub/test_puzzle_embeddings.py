"""The puzzle table rearranged and resized: rows, unknown rows, what stays as it was, saving, training on."""

import numpy as np
import pytest
import torch

from hrm_hf import HrmConfig, HrmForPuzzleSolving
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hub.puzzle_embeddings import rearrange_puzzle_table, resize_puzzle_table

CONFIG = dict(
    vocab_size=6,
    seq_len=4,
    hidden_size=32,
    num_attention_heads=2,
    H_layers=1,
    L_layers=1,
    num_puzzle_identifiers=5,
    puzzle_emb_ndim=8,
    halt_max_steps=2,
)


def new_model(**changes) -> HrmForPuzzleSolving:
    torch.manual_seed(0)
    model = HrmForPuzzleSolving(HrmConfig(**(CONFIG | changes)))
    with torch.no_grad():
        model.model.puzzle_embeddings.weight.normal_()
    return model


def table_of(model: HrmForPuzzleSolving) -> torch.Tensor:
    return model.model.puzzle_embeddings.weight.detach().clone()


@pytest.mark.parametrize("unknown", ["blank", "mean"])
@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_rows_come_by_number_and_unknown_ones_by_choice(unknown, form):
    model = new_model()
    old = table_of(model)
    rows = [0, 3, -1, 3, 1, -1, 4]
    rearrange_puzzle_table(model, form(rows), unknown=unknown)
    fill = old[0] if unknown == "blank" else torch.stack([old[1], old[2], old[3], old[4]]).mean(0)
    expected = torch.stack([fill if row == -1 else old[row] for row in rows])
    torch.testing.assert_close(table_of(model), expected, rtol=0, atol=0 if unknown == "blank" else 1e-6)
    table = model.model.puzzle_embeddings
    assert model.config.num_puzzle_identifiers == model.model.config.num_puzzle_identifiers == 7
    assert table.num_embeddings == 7 and not table.sparse and table.weight.requires_grad


def test_mean_of_a_table_of_blanks_only_is_the_blank():
    model = new_model(num_puzzle_identifiers=1)
    old = table_of(model)
    resize_puzzle_table(model, 3, new_rows="mean")
    assert torch.equal(table_of(model), old.expand(3, -1))


def test_dtype_and_requires_grad_stay():
    model = new_model()
    table = model.model.puzzle_embeddings
    table.weight = torch.nn.Parameter(table.weight.detach().bfloat16(), requires_grad=False)
    rearrange_puzzle_table(model, [1, -1], unknown="mean")
    assert table.weight.dtype == torch.bfloat16 and not table.weight.requires_grad
    assert isinstance(table.weight, torch.nn.Parameter)


def test_nothing_to_change_leaves_the_parameter():
    model = new_model()
    parameter = model.model.puzzle_embeddings.weight
    rearrange_puzzle_table(model, range(5))
    resize_puzzle_table(model, 5)
    assert model.model.puzzle_embeddings.weight is parameter


def test_resize_keeps_the_first_rows():
    model = new_model()
    old = table_of(model)
    resize_puzzle_table(model, 7)
    assert torch.equal(table_of(model), torch.cat([old, old[:1], old[:1]]))
    resize_puzzle_table(model, 3)
    assert torch.equal(table_of(model), old[:3])
    assert model.config.num_puzzle_identifiers == 3


def test_a_rearranged_model_is_saved_and_trained_like_any_other(tmp_path):
    model = new_model()
    cells, identifiers = torch.tensor([[1, 2, 3, 4]]), torch.tensor([3])
    before = model(cells, identifiers).logits
    rearrange_puzzle_table(model, [0, -1, -1, -1, -1, -1, 3])
    model.save_pretrained(tmp_path)
    loaded = HrmForPuzzleSolving.from_pretrained(tmp_path)
    assert loaded.config.num_puzzle_identifiers == 7
    for same in (model, loaded):
        assert torch.equal(same(cells, torch.tensor([6])).logits, before)
    for sparse in (True, False):
        model.zero_grad()
        model.model.puzzle_embeddings.sparse = sparse
        model(cells, torch.tensor([6]), labels=cells).loss.backward()
        gradient = model.model.puzzle_embeddings.weight.grad
        assert gradient.is_sparse == sparse and gradient.shape == (7, 8)
        assert gradient.to_dense().abs().sum(-1).nonzero().tolist() == [[6]]


@pytest.mark.parametrize(
    ("rows", "unknown", "named"),
    [
        ([0, 5], "blank", "rows hold 5; allowed: 0 to 4"),
        ([0, -2], "blank", "rows hold -2"),
        ([0.0, 1.0], "blank", "float"),
        ([True, False], "blank", "bool"),
        ([[0, 1]], "blank", r"\(1, 2\)"),
        ([], "blank", r"\(0,\)"),
        ([0, -1], "zero", "unknown is 'zero'; allowed: 'blank', 'mean'"),
    ],
)
def test_bad_rows_are_named_and_change_nothing(rows, unknown, named):
    model = new_model()
    old = table_of(model)
    with pytest.raises(ArgumentError, match=named):
        rearrange_puzzle_table(model, rows, unknown=unknown)
    assert torch.equal(table_of(model), old) and model.config.num_puzzle_identifiers == 5


@pytest.mark.parametrize(
    ("num", "new_rows", "named"), [(0, "blank", "num is 0"), (2.0, "blank", "num is 2.0"), (9, "zero", "new_rows is")]
)
def test_bad_sizes_are_named(num, new_rows, named):
    with pytest.raises(ArgumentError, match=named):
        resize_puzzle_table(new_model(), num, new_rows=new_rows)


def test_a_model_without_a_table_says_so():
    model = new_model_without_table()
    for change in (lambda: rearrange_puzzle_table(model, [0]), lambda: resize_puzzle_table(model, 2)):
        with pytest.raises(ArgumentError, match="no puzzle table"):
            change()


def new_model_without_table() -> HrmForPuzzleSolving:
    return HrmForPuzzleSolving(HrmConfig(**(CONFIG | {"puzzle_emb_ndim": 0})))
