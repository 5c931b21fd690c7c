"""The halting rules, case by case."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import perturbed, tiny_model
from training_parts import arguments, batch

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.hrm.halting import q_continue_targets, select_rows, wants_to_halt
from hrm_hf.training import HrmTrainer


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def test_a_tie_goes_on():
    assert wants_to_halt(torch.tensor([-5.0, 0.1, 0.0]), torch.tensor([-5.0, 0.0, 0.1])).tolist() == [
        False,
        True,
        False,
    ]


def test_halt_only_asks_q_halt_alone():
    q_halt, q_continue = torch.tensor([0.0, 0.1, -0.1, 3.0]), torch.tensor([-5.0, 9.0, -9.0, 4.0])
    assert wants_to_halt(q_halt, q_continue, "halt_only").tolist() == [False, True, False, True]


def test_training_halt_only_teaches_q_halt_alone():
    trainer = HrmTrainer(perturbed(tiny_model(halting="halt_only")), arguments(halt_exploration_prob=0.0), [])
    with torch.no_grad():
        trainer.model.q_head.bias[1] = 100.0  # what q_continue says does not matter
    halted = []
    for seed in range(3):
        sums = trainer.training_step(batch(seed))
        gradient = trainer.model.q_head.weight.grad
        assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0
        assert "q_continue_loss" not in sums and sums["lm_loss"] > 0
        halted += trainer.slots[0].halted.tolist()
        trainer.optimizer_step()
    assert any(halted[:8]) and not all(halted)  # the limit is 3


def test_the_rule_is_saved_with_the_model(tmp_path):
    tiny_model(halting="halt_only").save_pretrained(tmp_path)
    assert HrmForPuzzleSolving.from_pretrained(tmp_path).config.halting == "halt_only"
    assert tiny_model().config.halting == "q_learning"
    with pytest.raises(StrictDataclassError, match="halting is 'never'; allowed are 'q_learning', 'halt_only'"):
        tiny_model(halting="never")


def test_q_continue_targets_at_and_before_the_limit():
    q_halt, q_continue = torch.tensor([-1.0, -1.0, 2.0]), torch.tensor([1.0, 1.0, 1.0])
    got = q_continue_targets(q_halt, q_continue, ints(3, 4, 3), 4)
    torch.testing.assert_close(got, torch.sigmoid(torch.tensor([1.0, -1.0, 2.0])))


def test_select_rows_lets_no_nan_through():
    new, old = torch.zeros(2, 3), torch.full((2, 3), float("nan"))
    old[1] = 5.0
    got = select_rows(torch.tensor([True, False]), new, old)
    assert got.tolist() == [[0.0] * 3, [5.0] * 3]
