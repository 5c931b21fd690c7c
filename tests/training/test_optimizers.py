"""AdamATan2 and the sparse sign-SGD against their rules written out."""

import math

import pytest
import torch
from golden_fixtures import golden_json, golden_tensors
from torch.utils._python_dispatch import TorchDispatchMode

from hrm_hf import ArgumentError
from hrm_hf.training import AdamATan2, SparseSignSGD, WeightAverage, learning_rate_at
from hrm_hf.training.adam_atan2 import make_adam_atan2


def test_adam_atan2_is_its_rule():
    lr, b1, b2, decay = 0.01, 0.9, 0.95, 0.1
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(3, generator=generator))
    optimizer = AdamATan2([parameter], lr=lr, betas=(b1, b2), weight_decay=decay)
    p, m, v = parameter.detach().double().tolist(), [0.0] * 3, [0.0] * 3
    for t in range(1, 31):
        gradient = torch.randn(3, generator=generator)
        parameter.grad = gradient
        optimizer.step()
        for i, g in enumerate(gradient.double().tolist()):
            p[i] *= 1 - lr * decay
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            p[i] -= lr / (1 - b1**t) * math.atan2(m[i], math.sqrt(v[i]) / math.sqrt(1 - b2**t))
        torch.testing.assert_close(parameter.detach().double(), torch.tensor(p).double(), rtol=1e-5, atol=1e-6)


class Operations(TorchDispatchMode):
    """Counts them, as they would be launched on a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_adam_atan2_takes_few_operations_for_many_tensors():
    counts = []
    for num_tensors in (1, 41):
        parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(num_tensors)]
        optimizer = AdamATan2(parameters)
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.ones(3)
            with Operations() as operations:
                optimizer.step()
        counts.append(operations.count)
    assert (
        counts[0] <= 10 and counts[1] == counts[0] + 40
    )  # of all operations atan2 alone has no form for many tensors


def test_adam_atan2_corrects_each_tensor_by_its_own_updates():
    together, alone = ([torch.nn.Parameter(torch.ones(3)) for _ in range(2)] for _ in range(2))
    optimizers = [AdamATan2(together), AdamATan2(alone[:1]), AdamATan2(alone[1:])]
    for step in range(3):
        for parameters in (together, alone):
            parameters[0].grad = torch.full((3,), 0.1)
            parameters[1].grad = None if step == 0 else torch.full((3,), 0.1)
        for optimizer in optimizers:
            optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))
    assert not torch.equal(*together)


def test_adam_atan2_at_rate_zero_changes_nothing_but_moments():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = AdamATan2([parameter], lr=0.0, weight_decay=1.0)
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert parameter.tolist() == [1.0, 1.0] and optimizer.state[parameter]["exp_avg"].abs().sum() > 0


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"weight_decay": -1.0}, {"lr": math.nan}]
)
def test_adam_atan2_refuses(wrong):
    with pytest.raises(ArgumentError, match="AdamATan2"):
        AdamATan2([torch.nn.Parameter(torch.ones(1))], **wrong)


def test_the_plain_optimizer_is_used_on_the_cpu():
    assert type(make_adam_atan2([torch.nn.Parameter(torch.ones(1))], 1e-3, (0.9, 0.95), 0.1)) is AdamATan2


def test_recorded_two_process_sign_sgd():
    want, recorded = golden_tensors("F/sparse_signsgd.safetensors"), golden_json("F/config.json")["sparse"]
    table = torch.nn.Parameter(want["weights_0"].clone())
    for step, lr in enumerate(recorded["lr"], start=1):
        optimizer = SparseSignSGD(table, lr=lr, weight_decay=recorded["wd"])
        identifiers = torch.cat([want[f"step{step}.ids_rank{rank}"] for rank in (0, 1)]).long()
        rows = torch.cat([want[f"step{step}.grad_rank{rank}"] for rank in (0, 1)])
        table.grad = torch.sparse_coo_tensor(identifiers[None], rows, table.shape, check_invariants=True)
        optimizer.step()
        torch.testing.assert_close(table.detach(), want[f"step{step}.weights_after"], rtol=0, atol=1e-7)


def test_sign_sgd_touches_only_rows_that_occur():
    table = torch.nn.Parameter(torch.ones(4, 2))
    table.grad = torch.sparse_coo_tensor(
        torch.tensor([[2, 2, 0]]), [[1.0, -3.0], [-1.0, 1.0], [5.0, 0.0]], (4, 2), check_invariants=True
    )
    SparseSignSGD(table, lr=0.1, weight_decay=1.0).step()
    # row 2: gradients sum to (0, -2): the first entry only decays
    torch.testing.assert_close(table.detach(), torch.tensor([[0.8, 0.9], [1.0, 1.0], [0.9, 1.0], [1.0, 1.0]]))


def test_recorded_schedule():
    records = golden_json("H/lr_schedule.json")
    compared = 0
    for record in records:
        step, total, base = record["current_step"], record["num_training_steps"], record["base_lr"]
        got = learning_rate_at(step, base, record["num_warmup_steps"], total, record["min_ratio"])
        if step <= total or record["min_ratio"] == 1.0:
            assert got == pytest.approx(record["lr"], rel=1e-9, abs=0)
            compared += 1
        else:  # ours stays where the published cosine rises again
            assert got == pytest.approx(base * record["min_ratio"], rel=1e-9, abs=1e-300)
    assert compared > 300


def test_weight_average_follows_its_rule_and_swaps_back():
    parameter = torch.nn.Parameter(torch.zeros(2))
    average = WeightAverage([parameter], decay=0.5)
    expected = 0.0
    for update, value in enumerate([1.0, 2.0, 3.0, 4.0] * 5, start=1):
        parameter.data.fill_(value)
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        torch.testing.assert_close(parameter.detach(), torch.full((2,), expected))
    assert parameter.tolist() == [4.0, 4.0]
