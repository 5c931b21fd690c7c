"""When a slot halts in training: exploration and the limit, case by case."""

import torch

from hrm_hf.training.slots import Exploration, ExplorationDraws, exploration_min_steps, training_halt


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def test_halt_only_asks_q_halt_alone():
    q_halt, q_continue = torch.tensor([0.1, 0.1, -0.1, -0.1]), torch.tensor([-5.0, 9.0, -9.0, 4.0])
    # before min_steps, at it, q_halt too low, the limit
    halted = training_halt(ints(1, 2, 2, 4), q_halt, q_continue, ints(2, 2, 0, 0), 4, "halt_only")
    assert halted.tolist() == [False, True, False, True]


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
    first = Exploration(4000, 5, seed=3).draw()
    again = Exploration(4000, 5, seed=3).draw()
    assert torch.equal(first.uniform, again.uniform) and torch.equal(first.min_steps, again.min_steps)
    assert first.min_steps.unique().tolist() == [2, 3, 4, 5] and first.min_steps.dtype == torch.int32
    assert first.uniform.min() >= 0 and first.uniform.max() < 1
    assert Exploration(3, 1, seed=0).draw().min_steps.tolist() == [1, 1, 1]


def test_draws_come_as_reals_then_integers():
    generator = torch.Generator().manual_seed(7)
    uniform = torch.rand(6, generator=generator)
    min_steps = torch.randint(2, 5, (6,), generator=generator, dtype=torch.int32)
    draws = Exploration(6, 4, seed=7).draw()
    assert torch.equal(draws.uniform, uniform) and torch.equal(draws.min_steps, min_steps)
