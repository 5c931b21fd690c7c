"""Keywords of forward: a slip is named, and what libraries hand to every model is taken."""

import pytest
import torch
from tiny_models import some_inputs, tiny_model


def both(model):
    return (model, model.model)


def test_a_misspelt_keyword_is_refused_with_the_nearest():
    for model in both(tiny_model(num_puzzle_identifiers=3)):
        with pytest.raises(TypeError, match="argument 'puzzle_identifer'; did you mean 'puzzle_identifiers'"):
            model(some_inputs(), puzzle_identifer=torch.ones(5, dtype=torch.long))
    with pytest.raises(TypeError, match="'label'; did you mean 'labels'"):
        tiny_model()(some_inputs(), label=some_inputs())
    with pytest.raises(TypeError, match="'return_loss'; allowed are input_ids, puzzle_identifiers, labels"):
        tiny_model()(some_inputs(), return_loss=True)


def test_what_libraries_pass_is_taken():
    usual = {"use_cache": True, "num_items_in_batch": torch.tensor(3), "return_dict": True}
    usual |= {
        "attention_mask": torch.ones(5, 16),
        "output_attentions": False,
        "output_hidden_states": None,
        "position_ids": None,
    }
    for model in both(tiny_model()):
        plain = model(some_inputs())
        assert torch.equal(model(some_inputs(), **usual).carry.z_H, plain.carry.z_H)


def test_what_the_model_does_not_give_is_refused():
    hidden = torch.ones(5, 16)
    hidden[0, 3] = 0
    for mask in (hidden, torch.ones(5, dtype=torch.long), [1] * 16):  # the second: identifiers by their position
        with pytest.raises(TypeError, match="attention_mask hides cells"):
            tiny_model()(some_inputs(), attention_mask=mask)
    with pytest.raises(TypeError, match="output_hidden_states is True, but the model hands out its last states"):
        tiny_model()(some_inputs(), output_hidden_states=True)
