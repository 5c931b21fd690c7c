"""YAML recipes and command lines with anything in them: arguments, or a reason."""

import pytest
from hostile_inputs import TOKENS, examples, mutated, mutated_text, nothing_written_outside, result_or_documented
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_hf.commands.command import run_as_command
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.training import HrmModelArguments, HrmTrainingArguments, parse_arguments

TYPES = (HrmModelArguments, HrmTrainingArguments)
NAMES = ["learning_rate", "hidden_size", "report_to", "hub_private", "max_steps", "epochs", "pos_encodings", "seed"]
NAMES += ["output_dir", "expansion", "puzzle_emb_ndim", "ema_decay", "push_to_hub", "adam_beta1"]
SEED = """# a comment
hidden_size: 64
learning_rate: 1e-4
report_to: [tensorboard, wandb]
hub_private: false
max_steps: null
output_dir: "runs/x"
pos_encodings: rope
ema_decay: 0.999
"""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
VALUES = [*TOKENS, "[1, 2]", "{a: 1}", "!!binary aGFsbG8=", "!!set {a, b}", "!!timestamp x", "!!int x", "!!float a"]
VALUES += ["!!bool maybe", "!!null x", "!!omap [a: 1]", "!!pairs [a: 1]", "2001-13-45", "2024-01-01", "1:99:99", "0b"]
VALUES += ["0x" + "f" * 5000, "0b1", "0o7", "0777", "1_0", ".inf", "+.inf", "1e999", "yes", "on", "|\n  a\n  b", "? x"]
VALUES += [
    "[--seed, 5]",
    "[-h]",
    "[--help]",
    "--help",
    "[null]",
    "[[1]]",
    "[[[[]]]]",
    "&x 1",
    "*x",
    "&r [*r]",
    "<<: *a",
]
VALUES += [
    "'" + "y" * 99_000 + "'",
    "2 ** 5",
    "a: b: c",
    "%YAML 9.9",
    "---",
    "...",
    '"\\ud800"',
    '"\\0"',
    "@file",
    "-1",
    "'--'",
    "--",
]
VALUES += ["1", "16", "0.5", "true", "rope", "owner/name", "wandb", "3e-4"]


def parse(path, argv=()):
    arguments = parse_arguments(TYPES, path, list(argv))
    assert [type(part) for part in arguments] == list(TYPES)
    return True


def check(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with nothing_written_outside(tmp_path, tmp_path / "none"):
        return result_or_documented(lambda: parse(path))


def test_the_seed_itself_is_read(tmp_path):
    assert check(tmp_path, SEED.encode())


@settings(max_examples=examples(30))
@given(text=mutated_text(SEED, VALUES, max_changes=3))
def test_damaged_recipes(tmp_path, text):
    check(tmp_path, text.encode("utf-8", "surrogatepass"))


@settings(max_examples=examples(15))
@given(content=mutated(SEED.encode(), max_changes=3))
def test_damaged_bytes(tmp_path, content):
    check(tmp_path, content)


@settings(max_examples=examples(60))
@given(settings_=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), min_size=1, max_size=3))
def test_any_values(tmp_path, settings_):
    text = "".join(f"{name}: {value}\n" for name, value in settings_.items())
    check(tmp_path, text.encode("utf-8", "surrogatepass"))


def test_words_of_a_recipe_stay_words(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("report_to: [--seed, '5', --help]\noutput_dir: 2001-13-45\n")
    _, training = parse_arguments(TYPES, path, [])
    assert (training.report_to, training.seed, training.output_dir) == (["--seed", "5", "--help"], 0, "2001-13-45")


@settings(max_examples=examples(50))
@given(data=st.data())
def test_command_lines(data, capsys):
    """As a command reads them: see also `run_as_command`, which refuses `--option=--`."""
    words = st.sampled_from(
        [f"--{name}" for name in NAMES] + ["--help", "-h", "--", "--hidden-size", "--no_hub_private"]
    )
    argv = []
    for _ in range(data.draw(st.integers(1, 4))):
        word, value = data.draw(words), data.draw(st.sampled_from(VALUES) | st.text(max_size=6))
        argv += data.draw(st.sampled_from([[word], [word, value], [f"{word}={value}"], [value]]))
    code = result_or_documented(lambda: run_as_command(lambda words: parse(None, words), argv), SystemExit)
    assert code in (None, 0, 2)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has the key 'a', which is no argument"),
        ("report_to: &r [*r]\n", "report_to must be a single value or a flat list"),
        ("report_to: " + "[" * 5000, "is not valid YAML"),
        ("hidden_size: 1\n" * 10_000, "has more than 100000 bytes"),
        ("seed: 0x" + "f" * 5000 + "\n", "--seed: invalid int value: '0xff"),
        ("seed: " + "9" * 5000 + "\n", "--seed: invalid int value: '999"),
        ("? 0x" + "f" * 50 + "\n: 1\n", "has the key '0xf"),
        ("learning_rate: !!set {a}\n", "learning_rate must be a single value$"),
        ("learning_rate: !!bool maybe\n", "--learning-rate: invalid float value: 'maybe'"),
        ('output_dir: "\\UFFFFFFFF"\n', "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)

    def refuse():
        with pytest.raises(ArgumentError, match=message) as caught:
            parse(path)
        assert len(str(caught.value)) < 2000

    result_or_documented(refuse)
