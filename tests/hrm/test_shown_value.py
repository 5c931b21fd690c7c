"""How foreign values appear in messages: short, on one line, without failing."""

import numpy as np
import pytest

from hrm_hf.files import one_line
from hrm_hf.hrm.shown_value import shown

CYCLE: list = []
CYCLE.append(CYCLE)
LAUGHS: list = ["ha"]
for _ in range(100):
    LAUGHS = [LAUGHS] * 10


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", r"'a\nb'"),
        ("x" * 10**6, f"'{'x' * 80}'... (1000000 characters)"),
        ("\ud800\x1b", r"'\ud800\x1b'"),
        (10**5000, "an integer of 16610 bits"),
        (-3, "-3"),
        (True, "True"),
        (None, "None"),
        (float("nan"), "nan"),
        (np.int64(7), "7"),
        ((9, "9"), "(9, '9')"),
        ((1,), "(1,)"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"),
        ({"a": [1, [2]], 3: {}}, "{'a': [1, a list], 3: {}}"),
        (CYCLE, "[[a list]]"),
        (range(3), "a range"),
        (np.zeros(3), "a ndarray"),
        (b"x", "a bytes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_shown(value, text):
    assert shown(value) == text


def test_it_stays_short():
    assert len(shown(LAUGHS)) < 310
    assert len(shown({str(i) * 50: "y" * 70 for i in range(100)})) < 310


def test_messages_on_one_line():
    assert one_line("no file a\nb  \x1b[2J\u2028c\ud800") == r"no file a b \x1b[2J c\ud800"
    assert len(one_line("x" * 10**6)) == 2000
