"""Arguments: defaults, then the recipe, then the command line; what is wrong is named."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
from paths import ROOT

from hrm_hf import ArgumentError, HrmConfig
from hrm_hf.training import HrmModelArguments, HrmTrainingArguments, parse_arguments

TYPES = (HrmModelArguments, HrmTrainingArguments)
RECIPES = ROOT / "hrm_hf" / "recipes"


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
        ("learning_rat: 1e-4\n", "'learning_rat', which is no argument; did you mean learning_rate\\?"),
        ("zzzzzz: 1\n", "'zzzzzz', which is no argument; allowed are hidden_size"),
        ("- 1\n", "must hold one mapping"),
        ("", "must hold one mapping"),
        ("a: [\n", "is not valid YAML"),
        ("learning_rate: fast\n", "learning_rate.*fast"),
        ("hidden_size: 6.5\n", "hidden_size.*6.5"),
        ("learning_rate: {a: 1}\n", "learning_rate must be a single value"),
        ("learning_rate: [1, 2]\n", "learning_rate must be a single value$"),
        ("report_to: [[a]]\n", "report_to must be a single value or a flat list"),
        ("? [a]\n: 1\n", "has the key '\\(sequence\\)', which is no argument; allowed are"),
        ("pos_encodings: sinus\n", "pos_encodings is 'sinus'; allowed are rope, learned"),
        ("global_batch_size: 0\n", "global_batch_size is 0; it must be at least 1"),
        ("halt_exploration_prob: 1.5\n", "halt_exploration_prob is 1.5; allowed is 0 to 1"),
        ("ema_decay: 1.0\n", "ema_decay is 1.0"),
        ("ema_warmup: false\n", "ema_warmup is False, but ema_decay is None"),
        ("learning_rate: -1\n", "learning_rate is -1.0; it must be 0 or more"),
        ("learning_rate: nan\n", "learning_rate is nan"),
        ("learning_rate: .nan\n", "--learning-rate: invalid float value: '.nan'"),
        ("seed: 1\nmax_steps: 5\nseed: 2\n", "the key 'seed' twice"),
        ("seed: '--'\n", "argument --seed: invalid int value: '--'"),
    ],
)
def test_wrong_recipes_are_named(tmp_path, text, message):
    with pytest.raises(ArgumentError, match=message):
        parse_arguments(TYPES, recipe(tmp_path, text), [])


def test_missing_and_binary_recipes(tmp_path):
    with pytest.raises(
        ArgumentError, match="there is no recipe .*no.yaml; give the path of a YAML file or one of arc_1"
    ):
        parse_arguments(TYPES, tmp_path / "no.yaml", [])
    with pytest.raises(ArgumentError, match="there is no recipe"):
        parse_arguments(TYPES, tmp_path, [])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match="b.yaml is not valid YAML"):
        parse_arguments(TYPES, tmp_path / "b.yaml", [])


def test_wrong_command_lines_leave_with_usage(capsys):
    for argv in (["--no_such_argument", "1"], ["--learning_rate", "fast"], ["stray"]):
        with pytest.raises(SystemExit):
            parse_arguments(TYPES, None, argv)
    said = capsys.readouterr().err
    assert "invalid float value: 'fast'" in said and "unrecognized arguments: stray" in said
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


def test_model_arguments_have_the_defaults_of_the_config():
    ours, config = HrmModelArguments(), HrmConfig()
    shared = [f.name for f in fields(ours) if f.name != "puzzle_emb_ndim"]
    assert {name: getattr(ours, name) for name in shared} == {name: getattr(config, name) for name in shared}
    assert ours.puzzle_emb_ndim is None and config.puzzle_emb_ndim == config.hidden_size
    made = ours.to_config(config.vocab_size, config.seq_len, config.num_puzzle_identifiers)
    assert made.to_dict() == config.to_dict()


def test_a_recipe_is_found_by_name_or_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = parse_arguments(TYPES, "sudoku_extreme_1k", [])
    assert by_name == parse_arguments(TYPES, RECIPES / "sudoku_extreme_1k.yaml", [])
    assert parse_arguments(TYPES, recipe(tmp_path, "seed: 3\n").name, [])[1].seed == 3
    for wrong in ("sudoku_extreme1k", "examples/recipes/sudoku_extreme_1k.yaml"):
        with pytest.raises(ArgumentError, match=f"no recipe {wrong}; did you mean sudoku_extreme_1k\\?"):
            parse_arguments(TYPES, wrong, [])
    with pytest.raises(ArgumentError, match="no recipe zzz; give the path of a YAML file or one of arc_1"):
        parse_arguments(TYPES, "zzz", [])


def test_the_help_names_command_and_arguments(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(TYPES, None, ["--help"], "Train.\n\n    example --size 6", "hrm-train toy")
    said = capsys.readouterr().out
    assert said.startswith("usage: hrm-train toy [-h] [--recipe RECIPE]") and "\n    example --size 6\n" in said
    assert re.search("--max_steps( MAX_STEPS)?, --max-steps MAX_STEPS", said)  # Python 3.13 says it once
    assert "(default: 768)" in said


def test_a_wrong_word_is_told_in_two_lines(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(TYPES, None, ["--max_stepss", "3"], "Train.", "hrm-train toy")
    usage, said = capsys.readouterr().err.splitlines()
    assert "[--ARGUMENT VALUE ...]" in usage
    assert said == "hrm-train toy: error: unrecognized arguments: --max_stepss 3; did you mean --max_steps?"
