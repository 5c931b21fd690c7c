"""optimizer muon: torch.optim.Muon for the matrices of the blocks, AdamATan2 for the rest."""

import pytest
import torch
from tiny_models import TINY_RECURSIVE, perturbed, tiny_model
from training_parts import arguments, batch

from hrm_hf import ArgumentError
from hrm_hf.training import AdamATan2, HrmTrainer

TABLE = "model.puzzle_embeddings.weight"
MUON = {"optimizer": "muon", "muon_learning_rate": 0.03, "muon_weight_decay": 0.2, "muon_momentum": 0.8}


@pytest.mark.parametrize("options", [{}, TINY_RECURSIVE], ids=["HRM", "TRM"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_steps_are_those_of_the_optimisers_of_torch_on_the_same_gradients(options, max_grad_norm):
    model = perturbed(tiny_model(**options))
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "puzzle_learning_rate": 0.05, "puzzle_weight_decay": 0.0}
    settings |= {"warmup_steps": 2, "max_grad_norm": max_grad_norm, "max_steps": 3}
    trainer = HrmTrainer(model, arguments(**settings, **MUON), [])
    plain = {n: torch.nn.Parameter(p.detach().clone()) for n, p in model.named_parameters() if n != TABLE}
    blocks = [p for n, p in plain.items() if n.startswith(("model.H_level.", "model.L_level."))]
    rest = [p for n, p in plain.items() if n.startswith(("model.embed_tokens.", "lm_head.", "q_head."))]
    assert len(blocks) == (4 if options else 8) and len(blocks) + len(rest) == len(plain)
    optimizers = [torch.optim.Muon(blocks, lr=0.03, weight_decay=0.2, momentum=0.8)]
    optimizers += [AdamATan2(rest, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step in (1, 2, 3):
        trainer.training_step(batch(step))
        gradients = {name: p.grad.to_dense().clone() for name, p in model.named_parameters()}
        if max_grad_norm is not None:
            norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
            assert norm > max_grad_norm
            gradients = {name: gradient * max_grad_norm / norm for name, gradient in gradients.items()}
        for name, parameter in plain.items():
            parameter.grad = gradients[name]
        for optimizer, base in zip(optimizers, (0.03, 0.01), strict=True):
            optimizer.param_groups[0]["lr"] = base * min(1.0, step / 2)
            optimizer.step()
        trainer.optimizer_step()
        for name, parameter in model.named_parameters():
            if name != TABLE:
                # Muon works in bfloat16, and makes a length of directions that hold little but rounding
                moved = (parameter - before[name]).norm()
                assert (parameter - plain[name]).norm() <= (0 if max_grad_norm is None else 0.1) * moved, name


def test_frozen_parts_and_nothing_to_train():
    def trainer(frozen: str) -> HrmTrainer:
        model = tiny_model()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(("_level." in name) != (frozen == "blocks"))
        return HrmTrainer(model, arguments(**MUON), [])

    with pytest.raises(ArgumentError, match="optimizer is muon, but no matrix of the blocks is trained"):
        trainer("blocks")
    only_blocks = trainer("rest")
    before = {name: p.detach().clone() for name, p in only_blocks.model.named_parameters()}
    only_blocks.training_step(batch(0))
    only_blocks.optimizer_step()
    for name, parameter in only_blocks.model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("_level." not in name), name
    assert only_blocks.moments.state_dict() == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adamw"}, "optimizer is 'adamw'; allowed are 'adam_atan2', 'muon'"),
        ({"muon_momentum": 0.9}, "muon_momentum is 0.9, but optimizer is adam_atan2"),
        (MUON | {"muon_momentum": 1.0}, "muon_momentum is 1.0; it must be 0 or more, below 1"),
        (MUON | {"muon_learning_rate": -1.0}, "muon_learning_rate is -1.0; it must be 0 or more"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        arguments(**changes)
