"""Keywords of a model's forward: those that libraries hand to every model are taken, all others refused."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any


def refuse_keywords(given: dict[str, Any], forward: Callable) -> None:
    """Raises TypeError for keywords that `forward` does not know, or that ask for what it does not give."""
    for name, value in given.items():
        if name in ("num_items_in_batch", "use_cache") or value is None:
            continue
        if name == "attention_mask":
            if getattr(value, "ndim", 0) != 2 or not value.all():  # PEFT passes a second positional argument by it
                raise TypeError("attention_mask hides cells or is none, but the model attends to all: leave it out")
        elif name in ("output_attentions", "output_hidden_states"):
            if value:
                raise TypeError(f"{name} is {value!r}, but the model hands out its last states alone: leave it out")
        else:
            known = [each for each in inspect.signature(forward).parameters if each not in ("self", "kwargs")]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}"
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}; {hint}")
