"""The halting rules, case by case."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_models import perturbed, tiny_model
from training_parts import arguments, batch

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.hrm.halting import (
    ExplorationDraws,
    draw_exploration,
    exploration_min_steps,
    q_continue_targets,
    select_rows,
    training_halt,
    wants_to_halt,
)
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
    # before min_steps, at it, q_halt too low, the limit
    halted = training_halt(ints(1, 2, 2, 4), q_halt[[1, 1, 2, 2]], q_continue, ints(2, 2, 0, 0), 4, "halt_only")
    assert halted.tolist() == [False, True, False, True]


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


def test_training_halt():
    q_halt, q_continue = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    steps, min_steps = ints(1, 2, 3, 3, 4), ints(2, 2, 2, 0, 0)
    # before min_steps; at it; after it; tie; limit reached although q says continue
    assert training_halt(steps, q_halt, q_continue, min_steps, 4).tolist() == [False, True, True, False, True]


def test_the_limit_halts_whatever_exploration_says():
    assert training_halt(ints(4), torch.zeros(1), torch.ones(1), ints(4), 4).tolist() == [True]


def test_limit_of_one_always_halts():
    q = torch.tensor([-5.0, 3.0])
    assert training_halt(ints(1, 1), q, -q, ints(1, 1), 1).all()


def test_exploration_takes_the_drawn_steps_below_its_probability():
    draws = ExplorationDraws(torch.tensor([0.05, 0.1, 0.5]), ints(3, 3, 3))
    assert exploration_min_steps(draws, 0.1).tolist() == [3, 0, 0]
    assert exploration_min_steps(draws, 0.0).tolist() == [0, 0, 0]


def test_draws_repeat_with_the_seed_and_stay_in_range():
    first = draw_exploration(4000, 5, torch.Generator().manual_seed(3))
    again = draw_exploration(4000, 5, torch.Generator().manual_seed(3))
    assert torch.equal(first.uniform, again.uniform) and torch.equal(first.min_steps, again.min_steps)
    assert first.min_steps.unique().tolist() == [2, 3, 4, 5] and first.min_steps.dtype == torch.int32
    assert first.uniform.min() >= 0 and first.uniform.max() < 1
    assert draw_exploration(3, 1, torch.Generator()).min_steps.tolist() == [1, 1, 1]


def test_draws_come_as_reals_then_integers():
    generator = torch.Generator().manual_seed(7)
    uniform = torch.rand(6, generator=generator)
    min_steps = torch.randint(2, 5, (6,), generator=generator, dtype=torch.int32)
    draws = draw_exploration(6, 4, torch.Generator().manual_seed(7))
    assert torch.equal(draws.uniform, uniform) and torch.equal(draws.min_steps, min_steps)


def test_q_continue_targets_at_and_before_the_limit():
    q_halt, q_continue = torch.tensor([-1.0, -1.0, 2.0]), torch.tensor([1.0, 1.0, 1.0])
    got = q_continue_targets(q_halt, q_continue, ints(3, 4, 3), 4)
    torch.testing.assert_close(got, torch.sigmoid(torch.tensor([1.0, -1.0, 2.0])))


def test_select_rows_lets_no_nan_through():
    new, old = torch.zeros(2, 3), torch.full((2, 3), float("nan"))
    old[1] = 5.0
    got = select_rows(torch.tensor([True, False]), new, old)
    assert got.tolist() == [[0.0] * 3, [5.0] * 3]
