"""Keywords of a model's forward: those that libraries hand to every model, and a word on all others."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import torch

# What transformers, Accelerate, PEFT and the pipelines may hand to any model.
IGNORED = ("num_items_in_batch", "use_cache")
NOT_GIVEN = ("output_attentions", "output_hidden_states")


def refuse_keywords(given: dict[str, Any], forward: Callable) -> None:
    """Raises TypeError for keywords that `forward` does not know, or that ask for what it does not give."""
    for name, value in given.items():
        if name in IGNORED or value is None and name == "attention_mask" or not value and name in NOT_GIVEN:
            continue
        if name == "attention_mask":
            if isinstance(value, torch.Tensor) and bool(value.all()):
                continue
            raise TypeError("attention_mask hides cells, but the model attends to all; leave it out")
        if name in NOT_GIVEN:
            raise TypeError(f"{name} is {value!r}, but the model hands out its last states alone: leave it out")
        known = [each for each in inspect.signature(forward).parameters if each not in ("self", "kwargs")]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}"
        raise TypeError(f"forward() got an unexpected keyword argument {name!r}; {hint}")
