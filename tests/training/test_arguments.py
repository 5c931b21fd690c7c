"""Arguments: defaults, then the recipe, then the command line; what is wrong is named."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from paths import ROOT

from hrm_hf import ArgumentError
from hrm_hf.training import HrmModelArguments, HrmTrainingArguments, parse_arguments

TYPES = (HrmModelArguments, HrmTrainingArguments)
RECIPES = ROOT / "examples" / "recipes"


def recipe(tmp_path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_recipe_over_defaults_and_command_line_over_recipe(tmp_path):
    path = recipe(tmp_path, "learning_rate: 3e-4\nglobal_batch_size: 96\nhidden_size: 64\nmax_steps: null\n")
    model, training = parse_arguments(TYPES, path, ["--global_batch_size", "48", "--weight-decay=0.5"])
    assert (training.learning_rate, training.global_batch_size, training.weight_decay) == (3e-4, 48, 0.5)
    assert model.hidden_size == 64 and training.max_steps is None and training.puzzle_learning_rate == 1e-4


@pytest.mark.parametrize("text", ["1e-4", "0.0001", "1.0e-4", "1E-4", '"1e-4"'])
def test_yaml_numbers_that_read_as_text_become_numbers(tmp_path, text):
    _, training = parse_arguments(TYPES, recipe(tmp_path, f"learning_rate: {text}\n"), [])
    assert training.learning_rate == 1e-4 and isinstance(training.learning_rate, float)


def test_lists_from_recipe_and_command_line(tmp_path):
    path = recipe(tmp_path, "report_to: [tensorboard, wandb]\n")
    assert parse_arguments(TYPES, path, [])[1].report_to == ["tensorboard", "wandb"]
    assert parse_arguments(TYPES, path, ["--report_to", "trackio"])[1].report_to == ["trackio"]
    assert parse_arguments(TYPES, recipe(tmp_path, "report_to: []\n"), [])[1].report_to == []


def test_negative_numbers_and_booleans_pass_through_the_recipe(tmp_path):
    @dataclass
    class More:
        flag: bool = field(default=False)
        offset: float = field(default=1.0)
        name: str = field(default="x")

    path = recipe(tmp_path, "flag: true\noffset: -2.5\nname: '-odd'\n")
    (more,) = parse_arguments((More,), path, [])
    assert more == More(True, -2.5, "-odd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1e-4\n", "'learning_rat', which is no argument; did you mean 'learning_rate'?"),
        ("zzzzzz: 1\n", "'zzzzzz', which is no argument; allowed are hidden_size"),
        ("- 1\n", "must hold one mapping"),
        ("", "must hold one mapping"),
        ("a: [\n", "is not valid YAML"),
        ("learning_rate: fast\n", "learning_rate.*fast"),
        ("hidden_size: 6.5\n", "hidden_size.*6.5"),
        ("learning_rate: {a: 1}\n", "learning_rate must be a single value"),
        ("learning_rate: [1, 2]\n", "gives more values than asked for: 2"),
        ("pos_encodings: sinus\n", "pos_encodings.*sinus"),
        ("global_batch_size: 0\n", "global_batch_size is 0; it must be at least 1"),
        ("halt_exploration_prob: 1.5\n", "halt_exploration_prob is 1.5; allowed is 0 to 1"),
        ("ema_decay: 1.0\n", "ema_decay is 1.0"),
        ("learning_rate: -1\n", "learning_rate is -1.0; it must be 0 or more"),
        ("learning_rate: .nan\n", "learning_rate is nan"),
        ("seed: 1\nmax_steps: 5\nseed: 2\n", "'seed' stands twice"),
        ("seed: '--'\n", "argument --seed: expected a value, not '--'"),
    ],
)
def test_wrong_recipes_are_named(tmp_path, text, message):
    with pytest.raises(ArgumentError, match=message):
        parse_arguments(TYPES, recipe(tmp_path, text), [])


def test_missing_and_binary_recipes(tmp_path):
    with pytest.raises(ArgumentError, match="no.yaml cannot be read"):
        parse_arguments(TYPES, tmp_path / "no.yaml", [])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match="b.yaml cannot be read"):
        parse_arguments(TYPES, tmp_path / "b.yaml", [])


def test_wrong_command_lines_leave_with_usage(capsys):
    for argv in (["--no_such_argument", "1"], ["--learning_rate", "fast"], ["stray"], ["--seed=--"]):
        with pytest.raises(SystemExit):
            parse_arguments(TYPES, None, argv)
    said = capsys.readouterr().err
    assert "invalid float value: 'fast'" in said and "unrecognized arguments: stray" in said
    assert "argument --seed: expected a value, not '--'" in said
    with pytest.raises(SystemExit):
        parse_arguments(TYPES, None, ["--learning-rat", "1"])
    assert "did you mean --learning-rate?" in capsys.readouterr().err


def test_epochs_on_the_command_line_win_over_the_recipes_max_steps(tmp_path):
    path = recipe(tmp_path, "max_steps: 7\n")
    assert parse_arguments(TYPES, path, [])[1].max_steps == 7
    assert parse_arguments(TYPES, path, ["--epochs=2"])[1].max_steps is None
    assert parse_arguments(TYPES, path, ["--epochs", "2", "--max-steps", "5"])[1].max_steps == 5


def test_batch_must_divide():
    args = HrmTrainingArguments(global_batch_size=12, gradient_accumulation_steps=2)
    assert args.local_batch_size(3) == 4
    with pytest.raises(ArgumentError, match="12 is not divisible by 4 processes x 2 gradient_accumulation_steps = 8"):
        args.local_batch_size(4)


def test_the_papers_recipe():
    model, training = parse_arguments(TYPES, RECIPES / "sudoku_extreme_1k.yaml", [])
    assert (training.learning_rate, training.weight_decay, training.global_batch_size) == (1e-4, 1.0, 768)
    assert training.epochs == 20000 and training.halt_exploration_prob == 0.1 and model.compute_dtype == "bfloat16"
