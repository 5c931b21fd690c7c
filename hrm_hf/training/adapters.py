"""LoRA adapters in training, by PEFT: a few weights learn, the model around them stays as it is."""

import copy
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ..files import one_line
from ..hrm.errors import ArgumentError
from ..hrm.modeling_hrm import HrmForPuzzleSolving


def add_lora(model: HrmForPuzzleSolving, rank: int, seed: int) -> None:
    """Adds a LoRA adapter to every linear layer but the lm head; nothing else is trained from now on.

    It changes no answer until it is trained. Its scale is 2 (`lora_alpha` = 2 `rank`).

    Raises ArgumentError where PEFT is not installed, or is too old for this version of transformers.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ArgumentError("lora_rank needs PEFT: pip install 'hrm-hf[peft]'") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
        except ValueError as error:  # transformers 5.24, for one, asks for a PEFT that came out later
            said = one_line(error)
            raise ArgumentError(f"lora_rank needs another PEFT, or an older transformers: {said}") from error


def has_adapter(model: Any) -> bool:
    """Whether the model was given an adapter by `add_adapter`."""
    return getattr(model, "_hf_peft_config_loaded", False)


@torch.no_grad()
def merged(model: HrmForPuzzleSolving) -> HrmForPuzzleSolving:
    """A copy with its active adapters added to the weights that they adapt: without any, the model.

    Raises ArgumentError for an adapter that changes more than weights.
    """
    if not has_adapter(model):
        return model
    model = copy.deepcopy(model)
    for path, module in [*model.named_modules()]:
        if hasattr(module, "get_base_layer"):
            if not module.disable_adapters:
                module.merge()
            model.set_submodule(path, module.get_base_layer())
        elif hasattr(module, "modules_to_save"):  # a layer that is trained whole, beside the original
            trained = module.modules_to_save[module.active_adapter]
            model.set_submodule(path, module.original_module if module.disable_adapters else trained)
    model._hf_peft_config_loaded = False
    with torch.device("meta"):
        names = HrmForPuzzleSolving(model.config).state_dict().keys()
    if others := model.state_dict().keys() ^ names:
        raise ArgumentError(f"the adapter cannot be merged into the model: {min(others)} is left over or missing")
    return model


@torch.no_grad()
def load_adapter_weights(model: nn.Module, file: str) -> None:
    """Puts the weights of an adapter_model.safetensors into the model's adapter."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(file))
