"""max_grad_norm: the clip of torch.nn.utils on dense gradients. (Whole runs, by two processes too: plain_loop.py.)"""

import pytest
import torch
from tiny_models import perturbed, tiny_model
from training_parts import arguments, batch

from hrm_hf import ArgumentError
from hrm_hf.training import HrmTrainer

TABLE = "model.puzzle_embeddings.weight"


def trainer_of(max_grad_norm: float | None, parts: int = 1, **changes) -> HrmTrainer:
    """After the backward pass of a step whose four rows are of the puzzles 1, 2, 1 and 0; puzzle 3 has none."""
    model = perturbed(tiny_model(num_puzzle_identifiers=4, **changes))
    args = arguments(max_grad_norm=max_grad_norm, gradient_accumulation_steps=parts, learning_rate=0.1)
    trainer = HrmTrainer(model, args, [])
    identifiers = torch.tensor([1, 2, 1, 0]) if changes.get("puzzle_emb_ndim", 1) else torch.zeros(4).long()
    trainer.training_step(batch(0) | {"puzzle_identifiers": identifiers})
    return trainer


def gradients(trainer: HrmTrainer) -> dict[str, torch.Tensor]:
    return {name: p.grad.to_dense().clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("changes", [{}, {"puzzle_emb_ndim": 0}])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("share", [0.25, 4.0])  # of the norm: it is clipped, or left alone
def test_it_is_the_clip_of_torch_on_dense_gradients(changes, parts, share):
    found = gradients(trainer_of(None, parts, **changes))
    plain = {name: torch.nn.Parameter(torch.zeros_like(gradient)) for name, gradient in found.items()}
    for name, parameter in plain.items():
        parameter.grad = found[name].clone()
    whole = torch.stack([gradient.norm() for gradient in found.values()]).norm().item()
    norm = torch.nn.utils.clip_grad_norm_(plain.values(), share * whole)

    trainer = trainer_of(share * whole, parts, **changes)
    torch.testing.assert_close(trainer.clip_gradients(), norm)
    for name, gradient in gradients(trainer).items():
        if name != TABLE:
            torch.testing.assert_close(gradient, plain[name].grad)
            assert torch.equal(gradient, found[name]) == (share > 1 or not gradient.any())


def test_the_puzzle_table_counts_in_the_norm_with_rows_summed_over_the_batch():
    trainer = trainer_of(1e-3)
    dense = torch.stack([g.norm() for name, g in gradients(trainer).items() if name != TABLE]).norm()
    table = gradients(trainer)[TABLE]
    torch.testing.assert_close(trainer.clip_gradients(), torch.hypot(dense, table.norm()))
    assert table.norm() > 0.01 * dense and not torch.equal(table[1], table[2])
    assert torch.equal(gradients(trainer)[TABLE], table)  # sign-SGD reads signs


def test_a_step_clips_before_the_update():
    free, clipped = trainer_of(None), trainer_of(1e-3)
    for trainer in (free, clipped):
        trainer.optimizer_step()
    ours, theirs = ({n: s["exp_avg"] for n, s in t.moments.state_dict().items()} for t in (clipped, free))
    norm = torch.stack([moment.norm() for moment in theirs.values()]).norm()
    assert torch.stack([moment.norm() for moment in ours.values()]).norm() <= 1e-4 < norm
    assert torch.equal(*(t.model.state_dict()[TABLE] for t in (free, clipped)))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_norm_is_refused(value):
    with pytest.raises(ArgumentError, match=f"max_grad_norm is {value}; it must be more than 0, and finite"):
        arguments(max_grad_norm=value)


def test_a_run_resumes_with_the_same_norm_only(tmp_path):
    def train(max_steps: int, resume: str, max_grad_norm: float | None) -> HrmTrainer:
        args = arguments(
            output_dir=str(tmp_path), max_steps=max_steps, resume=resume, max_grad_norm=max_grad_norm, state_steps=1
        )
        trainer = HrmTrainer(tiny_model(), args, [batch(0), batch(1)])
        trainer.train()
        return trainer

    train(2, "never", 0.5)
    with pytest.raises(ArgumentError, match="training.max_grad_norm was 0.5, now it is None"):
        train(3, "auto", None)
    assert train(3, "auto", 0.5).step == 3
