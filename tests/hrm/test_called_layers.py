"""The model's layers are layers: each is called in forward, solving and training, and cast no more than once."""

import copy
import pickle
import threading

import pytest
import torch
import torch.nn.utils.prune as prune
from tiny_models import TINY_RECURSIVE, perturbed, some_inputs, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from training_parts import arguments, batch

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.hrm.modeling_hrm import linear
from hrm_hf.training import HrmTrainer

KINDS = (torch.nn.Linear, torch.nn.Embedding)
WAYS = ("forward", "solve", "training", "training with targets of q_continue")


def run(model, way: str) -> torch.Tensor:
    """Something that the weights decide."""
    if way == "forward":
        return model(some_inputs()).logits
    if way == "solve":
        return model.solve(some_inputs(), max_segments=2).q_halt_logits
    model.config.halting = "q_learning" if "targets" in way else "halt_only"
    trainer = HrmTrainer(model, arguments(), [batch(seed=0)])
    trainer.run_step()
    return torch.cat(trainer.row_losses)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"pos_encodings": "learned"}, TINY_RECURSIVE])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_hooks_fire_on_every_linear_and_embedding(way, options, dtype):
    model = perturbed(tiny_model(compute_dtype=dtype, **options))
    calls: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, KINDS):
            calls[name] = 0
            module.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    run(model, way)
    assert len(calls) >= (12 if model.model.H_level else 8) and min(calls.values()) >= 1, calls


@pytest.mark.parametrize("way", WAYS)
def test_what_a_hook_changes_changes_the_answer(way):
    """Of every linear layer of the blocks."""
    for name in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"):
        model = perturbed(tiny_model())
        plain = run(model, way)
        model = perturbed(tiny_model())
        for layer in (module for path, module in model.named_modules() if path.endswith(name)):
            layer.register_forward_hook(lambda module, inputs, output: 2 * output)
        assert (run(model, way) - plain).abs().max() > 1e-3, name


class Casts(TorchDispatchMode):
    """Counts, by the name of the weight, what is cast to bfloat16."""

    def __init__(self, model):
        super().__init__()
        self.names = {p.data_ptr(): name for name, p in model.model.named_parameters() if "embed" not in name}
        self.counts: dict[str, int] = dict.fromkeys(self.names.values(), 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        is_cast = function is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16
        if is_cast and args[0].data_ptr() in self.names:
            self.counts[self.names[args[0].data_ptr()]] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, TINY_RECURSIVE])
def test_a_weight_is_cast_once_and_not_in_every_cycle(way, options):
    """Once for a segment, once for both passes of a training step, once for all segments of a solve."""
    model = perturbed(tiny_model(compute_dtype="bfloat16", H_cycles=3, L_cycles=3, **options))
    with Casts(model) as casts:
        run(model, way)
    assert set(casts.counts.values()) == {1}


def test_weights_that_change_between_segments_are_cast_again():
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    before = model(some_inputs()).logits
    model.model.L_level.layers[0].mlp.down_proj.weight.data.mul_(2)
    assert not torch.equal(model(some_inputs()).logits, before)


def test_gradients_pass_although_weights_were_kept_without_them():
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    with torch.no_grad():
        kept = model.model.kept_weights()
    model(some_inputs()).logits.float().square().mean().backward()
    want = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with kept:
        model(some_inputs()).logits.float().square().mean().backward()
    assert want and all(torch.equal(dict(model.named_parameters())[name].grad, each) for name, each in want.items())


def test_threads_do_not_see_each_others_kept_weights():
    """One keeps weights while the other changes them and goes on; nothing is left behind when both have ended."""
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    theirs = model.model.kept_weights()
    other = threading.Thread(target=theirs.__enter__)
    other.start()
    other.join()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    fresh = HrmForPuzzleSolving(model.config)
    fresh.load_state_dict(model.state_dict())
    want = fresh(some_inputs()).logits
    assert torch.equal(model(some_inputs()).logits, want)
    with model.model.kept_weights():
        assert torch.equal(model(some_inputs()).logits, want)
        theirs.__exit__()
        assert torch.equal(model(some_inputs()).logits, want)
    assert all(layer.kept_weight is None for layer in model.modules() if "kept_weight" in vars(layer))


def test_several_threads_solve_at_once():
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    want, found = model.solve(some_inputs()), []
    threads = [threading.Thread(target=lambda: found.append(model.solve(some_inputs()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(torch.equal(got.q_halt_logits, want.q_halt_logits) for got in found)
    assert all(layer.kept_weight is None for layer in model.modules() if "kept_weight" in vars(layer))


def test_a_weight_that_its_layer_computes_is_not_passed_over():
    """As pruning does, and PEFT for target_parameters."""
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    layer = model.model.L_level.layers[0].mlp.down_proj
    prune.l1_unstructured(layer, "weight", amount=0.5)
    before = model(some_inputs()).logits
    with torch.no_grad():
        layer.weight_orig.mul_(3)
    got = model(some_inputs()).logits
    prune.remove(layer, "weight")
    assert torch.equal(got, model(some_inputs()).logits) and not torch.equal(got, before)


def test_a_replica_of_data_parallel_reads_its_own_weight():
    layer = linear(3, 2)
    replica = layer._replicate_for_data_parallel()
    replica.weight, replica.bias = torch.zeros(2, 3), None  # what DataParallel puts there
    assert replica(torch.ones(1, 3)).abs().sum() == 0 and layer(torch.ones(1, 3)).abs().sum() > 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_a_model_of_its_own(copied):
    model = perturbed(tiny_model(compute_dtype="bfloat16"))
    want = model(some_inputs()).logits
    other = copied(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(other(some_inputs()).logits, want) and other.lm_head.forward.__self__ is other.lm_head
    assert other.state_dict().keys() == model.state_dict().keys()
