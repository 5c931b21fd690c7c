"""How a foreign value appears in an error message: on one line, short, whatever it is; and whether it is an integer.

`repr` is not safe for that: it fails on deep nesting and long integers, and YAML aliases or a long text swell it.
"""

from itertools import islice
from numbers import Integral
from typing import Any

import numpy as np

_MAX_CHARACTERS = 80  # of a text
_MAX_BITS = 256  # of an integer
_MAX_ENTRIES = 8  # of a list or dict
_MAX_ALL = 300  # characters of any value


def shown(value: object, depth: int = 2) -> str:
    """The value as Python writes it as far as it is short, for lists and dicts `depth` levels deep; else its type."""
    kind = type(value)
    if isinstance(value, str):
        text = str.__repr__(value[:_MAX_CHARACTERS])
        text += f"... ({len(value)} characters)" if len(value) > _MAX_CHARACTERS else ""
    elif kind in (int, bool) and value.bit_length() > _MAX_BITS:
        text = f"an integer of {value.bit_length()} bits"
    elif value is None or kind in (int, bool, float):
        text = repr(value)
    elif isinstance(value, np.number | np.bool_):
        text = str(value)
    elif kind in (list, tuple) and depth:
        parts = [shown(entry, depth - 1) for entry in islice(value, _MAX_ENTRIES)]
        text = ", ".join(parts + ["..."] * (len(value) > _MAX_ENTRIES))
        text = f"[{text}]" if kind is list else f"({text},)" if len(value) == 1 else f"({text})"
    elif kind is dict and depth:
        parts = [f"{shown(k, depth - 1)}: {shown(v, depth - 1)}" for k, v in islice(value.items(), _MAX_ENTRIES)]
        text = "{" + ", ".join(parts + ["..."] * (len(value) > _MAX_ENTRIES)) + "}"
    else:
        text = f"a {kind.__name__}"
    return text if len(text) <= _MAX_ALL else f"{text[:_MAX_ALL]}..."


def is_integer(value: Any) -> bool:
    """Whether it is an integer of Python or NumPy; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)
