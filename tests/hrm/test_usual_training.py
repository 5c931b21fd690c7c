"""The loops that everyone has: AdamW, clip_grad_norm_, transformers.Trainer, gradient checkpointing, autocast."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_models import OPTIONS, perturbed, some_inputs, tiny_model
from transformers import Trainer, TrainingArguments

from hrm_hf import ArgumentError
from hrm_hf.hrm.halting import q_continue_targets


def gradients(model, **how) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(some_inputs(), labels=some_inputs(seed=3), **how).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_adamw_and_clipping_train_all_weights():
    model = perturbed(tiny_model(num_puzzle_identifiers=3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    inputs, labels, losses = some_inputs(), some_inputs(seed=3), []
    for _ in range(15):
        loss = model(inputs, torch.tensor([0, 1, 2, 1, 0]), labels, num_segments=2).loss
        optimizer.zero_grad()
        loss.backward()
        assert torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).isfinite()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("halting", ["q_learning", "halt_only"])
def test_segments_in_one_forward_are_segments_one_by_one(halting):
    """The loss is their mean, the carry between them detached; under Q-learning each teaches the one before."""
    model = perturbed(tiny_model(halting=halting, halt_max_steps=3))
    inputs, labels = some_inputs(), some_inputs(seed=3)
    got = gradients(model, num_segments=3)
    out = model(inputs, labels=labels, num_segments=3)

    model.zero_grad()
    carry, outs = None, []
    with torch.no_grad():
        for _ in range(3):
            outs.append(model(inputs, carry=carry))
            carry = outs[-1].carry
    carry, losses = None, []
    for number in (1, 2, 3):
        targets = None
        if halting == "q_learning" and number < 3:
            following = outs[number]
            steps = torch.full((5,), number)
            targets = q_continue_targets(following.q_halt_logits, following.q_continue_logits, steps, 3)
        one = model(inputs, labels=labels, carry=carry, q_continue_targets=targets)
        (one.loss / 3).backward()
        losses.append(one.loss)
        carry = one.carry
    torch.testing.assert_close(out.loss, torch.stack(losses).mean())
    assert torch.equal(out.logits, one.logits) and torch.equal(out.carry.z_L, one.carry.z_L)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    with pytest.raises(ArgumentError, match="num_segments is 0; allowed: integers from 1"):
        model(inputs, num_segments=0)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_no_gradient(dtype, options):
    model = perturbed(tiny_model(compute_dtype=dtype, **{"H_layers": 2} | options)).train()
    want = gradients(model, num_segments=2)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()  # its newer name
    blocks = []
    for level in filter(None, (model.model.H_level, model.model.L_level)):
        level.layers[0].mlp.register_forward_hook(lambda *_: blocks.append(1))
    got = gradients(model, num_segments=2)
    updates = 2 * (2 + 4)  # segments x updates of the levels
    carried = {"last_updates": 2, "last_cycle": 3, "segment": 6}[model.config.gradient_span]
    assert len(blocks) == updates + 2 * carried  # those with gradient are run again
    assert all(torch.equal(got[name], gradient) for name, gradient in want.items())


def test_autocast_keeps_the_gradients():
    """Its cache of cast weights is filled by the updates without gradient first."""
    model = perturbed(tiny_model())
    want = gradients(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(some_inputs(), labels=some_inputs(seed=3)).loss
    model.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad - want[name]).norm() < 0.1 * want[name].norm(), name


ROWS = Dataset.from_dict(
    {
        "input_ids": some_inputs(32).tolist(),
        "labels": some_inputs(32, seed=3).tolist(),
        "puzzle_identifiers": [0] * 32,
        "comment": ["not for the model"] * 32,
    }
)


def exact(prediction) -> dict[str, float]:
    logits = prediction.predictions[0]  # of logits, q_halt_logits, q_continue_logits
    return {"exact": float((logits.argmax(-1) == prediction.label_ids).all(-1).mean())}


def usual_trainer(folder, seed: int = 0, options=None, **changes) -> Trainer:
    settings = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    settings |= {"eval_strategy": "steps", "eval_steps": 2, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    args = TrainingArguments(output_dir=str(folder), **settings | changes)
    model = perturbed(tiny_model(num_segments=2, **(options or {})), seed)
    return Trainer(model, args, train_dataset=ROWS, eval_dataset=ROWS, compute_metrics=exact)


SOFTENED = {"token_loss": "softmax", "label_smoothing": 0.1, "halting_loss_weight": 0.05}


@pytest.mark.parametrize("options", [*OPTIONS.values(), SOFTENED], ids=[*OPTIONS, "softened"])
def test_the_trainer_of_transformers_trains_evaluates_predicts_and_resumes(tmp_path, options):
    trainer = usual_trainer(tmp_path, learning_rate=1e-2, options=options)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < before["eval_loss"] - 0.05 and 0 <= after["eval_exact"] <= 1
    predictions = trainer.predict(ROWS).predictions
    assert predictions[0].shape == (32, 16, 6) and predictions[1].shape == (32,)
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    resumed = usual_trainer(tmp_path, seed=7, learning_rate=1e-2, options=options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.model.state_dict().items())


def test_accumulated_steps_of_that_trainer_are_those_of_the_whole_batch(tmp_path):
    weights = []
    for rows, parts in ((8, 1), (4, 2)):
        how = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": parts, "max_steps": 2}
        trainer = usual_trainer(tmp_path / str(parts), eval_strategy="no", optim="sgd", learning_rate=0.1, **how)
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-5)
