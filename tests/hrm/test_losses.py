"""Token and halting losses: the recorded values and gradients, and the cases that a plain formula gets wrong."""

import pytest
import torch
from golden_fixtures import golden_json, golden_tensors
from torch.nn.functional import cross_entropy

from hrm_hf.hrm.losses import (
    IGNORE_INDEX,
    log_stablemax,
    rows_solved,
    segment_losses,
    token_losses,
    widest_float,
)
from hrm_hf.training.step_metrics import segment_sums

KINDS = ["stablemax", "softmax"]


@pytest.fixture(scope="module")
def recorded():
    return golden_tensors("E/losses.safetensors")


def close(ours, theirs, absolute=1e-6):
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=absolute, check_dtype=False)


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_token_losses_and_gradients(recorded, kind):
    logits = recorded["logits"].clone().requires_grad_()
    labels = recorded["labels"].long()
    losses = token_losses(logits, labels, kind)
    close(losses, recorded[f"{kind}_cross_entropy.per_token"])
    losses.sum().backward()
    close(logits.grad, recorded[f"{kind}_cross_entropy.grad_of_sum"])
    assert losses.dtype == (torch.float64 if kind == "stablemax" else torch.float32)

    from_bf16 = token_losses(recorded["logits"].bfloat16(), labels, kind)
    close(from_bf16, recorded[f"{kind}_cross_entropy.per_token_from_bf16_logits"])


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_totals_metrics_and_gradients(recorded, kind, mode):
    want = golden_json("E/config.json")["heads"][f"{kind}_cross_entropy.{mode}"]
    leaves = {
        name: recorded[name].clone().requires_grad_() for name in ("logits", "q_halt_logits", "q_continue_logits")
    }
    targets = recorded["target_q_continue"] if mode == "train" else None
    labels = recorded["labels"].long()
    losses = segment_losses(**leaves, labels=labels, token_loss=kind, q_continue_targets=targets)
    total = losses.total().sum()
    close(total.item(), want["loss"])
    total.backward()
    for name, leaf in leaves.items():
        gradient = recorded.get(f"{kind}_cross_entropy.{mode}.grad_{name}")
        if gradient is not None:
            close(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf), gradient)
    sums = segment_sums(
        losses, leaves["logits"], leaves["q_halt_logits"], labels, recorded["steps"], recorded["halted"].bool()
    )
    assert sums.keys() == want["metrics"].keys()
    for name, value in want["metrics"].items():
        close(sums[name].item(), value)


def test_stablemax_gradient_is_finite_and_right_at_the_seams():
    for value, slope in ((0.0, 1.0), (1.0, 0.5), (-1.0, 0.5)):
        logits = torch.tensor([[value, 2.0]], dtype=torch.float64, requires_grad=True)
        log_stablemax(logits)[0, 0].backward()
        share = log_stablemax(logits.detach()).exp()[0, 0]
        # d log s / dx = slope; d log sum s / dx = share * slope
        torch.testing.assert_close(logits.grad[0, 0], slope * (1 - share))


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 4, IGNORE_INDEX], [2, IGNORE_INDEX, 1]])
    assert torch.autograd.gradcheck(lambda x: token_losses(x, labels, "stablemax"), (logits,))


def test_lm_loss_averages_over_labelled_cells_of_the_row():
    logits = torch.zeros(3, 4, 2)
    labels = torch.tensor([[0, 1, 0, 1], [0, *[IGNORE_INDEX] * 3], [IGNORE_INDEX] * 4])
    q = torch.zeros(3)
    lm = segment_losses(logits, q, q, labels, "stablemax").lm
    torch.testing.assert_close(lm, torch.tensor([2.0, 2.0, 0.0]).log().clamp(min=0).double())


def test_rows_solved_ignores_unlabelled_cells_and_counts_empty_rows():
    logits = torch.eye(3).expand(3, 3, 3)  # the answer is always 0, 1, 2
    labels = torch.tensor([[0, 1, 2], [0, IGNORE_INDEX, 1], [IGNORE_INDEX] * 3])
    assert rows_solved(logits, labels).tolist() == [True, False, True]


def test_q_continue_counts_only_with_targets():
    logits, labels, q = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), torch.tensor([0.3, -0.2])
    without = segment_losses(logits, q, q, labels, "softmax")
    withal = segment_losses(logits, q, q, labels, "softmax", torch.tensor([0.5, 0.1]))
    assert without.q_continue is None
    torch.testing.assert_close(withal.total() - without.total(), 0.5 * withal.q_continue)


def test_label_smoothing_spreads_a_share_of_the_target_over_all_codes():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels, q = torch.tensor([[0, 4, IGNORE_INDEX], [2, IGNORE_INDEX, IGNORE_INDEX]]), torch.zeros(2)
    minus_log = -logits.log_softmax(-1)
    of_label = minus_log.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    want = (0.7 * of_label + 0.3 * minus_log.mean(-1)).masked_fill(labels == IGNORE_INDEX, 0)
    torch.testing.assert_close(token_losses(logits, labels, "softmax", 0.3), want)
    lm = segment_losses(logits, q, q, labels, "softmax", smoothing=0.3).lm
    for row in (0, 1):
        torch.testing.assert_close(lm[row], cross_entropy(logits[row], labels[row], label_smoothing=0.3))


def test_the_halting_losses_have_a_weight():
    logits, labels, q = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), torch.tensor([0.3, -0.2])
    losses = segment_losses(logits, q, q, labels, "softmax", torch.tensor([0.5, 0.1]))
    assert torch.equal(losses.total(), losses.total(0.5))
    torch.testing.assert_close(losses.total(0.05), losses.lm + 0.05 * (losses.q_halt + losses.q_continue))


@pytest.mark.parametrize("spread", ["evenly", "by magnitude", "bfloat16", "exactly"])
def test_stablemax_without_float64_is_that_with_it(monkeypatch, spread):
    """Values, and gradients of a single class and of all, for logits from -1e4 to 1e4."""
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(3000, 12, generator=generator)
    if spread == "by magnitude":
        logits = logits.sign() * 10 ** (12 * torch.rand(3000, 12, generator=generator) - 8)
    elif spread == "bfloat16":
        logits = logits.bfloat16().float()
    elif spread == "exactly":
        rows = [[1.0] * 12, [0.0] * 12, [-1.0] * 12, [1e4] + [-1e4] * 11, [-1e4] + [1e4] * 11, [1.0, 0.0] * 6]
        logits = torch.tensor(rows)

    def found() -> list[torch.Tensor]:
        leaf = logits.clone().requires_grad_()
        values = log_stablemax(leaf)
        weights = torch.linspace(-1, 1, 12, dtype=values.dtype)
        of_one = torch.autograd.grad(values[:, 0].sum(), leaf, retain_graph=True)[0]
        return [values.detach(), of_one, torch.autograd.grad((values * weights).sum(), leaf)[0]]

    want = found()
    monkeypatch.setattr("hrm_hf.hrm.losses.widest_float", lambda device: torch.float32)
    got = found()
    assert got[0].dtype == torch.float32 and want[0].dtype == torch.float64
    for ours, theirs in zip(got, want, strict=True):
        bound = 1e-6 * theirs.abs().clamp(min=1)
        assert ((ours - theirs).abs() <= bound).all()


def test_only_where_there_is_no_float64_float32_takes_its_place():
    widest = [widest_float(torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert widest == [torch.float64, torch.float64, torch.float32]
