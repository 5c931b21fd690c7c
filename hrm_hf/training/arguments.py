"""What changes between runs: dataclasses filled by HfArgumentParser from a YAML recipe and from the command line."""

import argparse
import difflib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import get_origin, get_type_hints

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser

from ..hrm.configuration_hrm import COMPUTE_DTYPES, HrmConfig
from ..hrm.errors import ArgumentError
from ..hrm.shown_value import one_line
from ..hub.hub_errors import check_repo_id


@dataclass
class HrmModelArguments:
    """The architecture of a model trained from scratch. The sizes of vocabulary and grid come from the data."""

    hidden_size: int = field(default=512, metadata={"help": "Width D of the states."})
    num_attention_heads: int = field(default=8, metadata={"help": "Heads N; must divide hidden_size."})
    expansion: float = field(default=4.0, metadata={"help": "Width of the SwiGLU over hidden_size * 2 / 3."})
    H_layers: int = field(default=4, metadata={"help": "Blocks of the high level."})
    L_layers: int = field(default=4, metadata={"help": "Blocks of the low level."})
    H_cycles: int = field(default=2, metadata={"help": "High-level updates in a segment."})
    L_cycles: int = field(default=2, metadata={"help": "Low-level updates before each high-level update."})
    pos_encodings: str = field(default="rope", metadata={"help": "Positions.", "choices": ["rope", "learned"]})
    puzzle_emb_ndim: int | None = field(
        default=None, metadata={"help": "Width of the puzzle table; 0 = none. Default: hidden_size."}
    )
    halt_max_steps: int = field(default=16, metadata={"help": "Segments after which every puzzle halts."})
    token_loss: str = field(
        default="stablemax", metadata={"help": "Loss of a cell.", "choices": ["stablemax", "softmax"]}
    )
    compute_dtype: str = field(
        default="float32", metadata={"help": "Dtype of the activations.", "choices": list(COMPUTE_DTYPES)}
    )
    halting: str = field(
        default="q_learning",
        metadata={
            "help": "When a puzzle halts: q_learning compares q_halt with q_continue; halt_only reads q_halt alone, "
            "which saves the extra forward pass that q_continue learns from.",
            "choices": ["q_learning", "halt_only"],
        },
    )

    def to_config(self, vocab_size: int, seq_len: int, num_puzzle_identifiers: int) -> HrmConfig:
        """The model's configuration for data of these sizes.

        Raises:
            ArgumentError: the sizes do not fit each other.
        """
        values = asdict(self)
        if values["puzzle_emb_ndim"] is None:
            values["puzzle_emb_ndim"] = self.hidden_size
        sizes = {"vocab_size": vocab_size, "seq_len": seq_len, "num_puzzle_identifiers": num_puzzle_identifiers}
        try:
            return HrmConfig(**sizes, **values)
        except StrictDataclassError as error:
            raise ArgumentError(str(error.__cause__ or error)) from error


@dataclass
class HrmTrainingArguments:
    """How a model is trained. Defaults: the paper's Sudoku-Extreme run (1,000 puzzles)."""

    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of the run, new or with --resume. Default: a new one under runs/."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of the weights, of the sampling and of the exploration."})
    global_batch_size: int = field(default=768, metadata={"help": "Puzzles (slots) in a step, over all processes."})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Parts into which each process cuts its share of the batch, to save memory."}
    )
    epochs: float | None = field(
        default=None, metadata={"help": "Visits to every original puzzle; sets max_steps if that is not given."}
    )
    max_steps: int | None = field(default=None, metadata={"help": "Optimiser steps; wins over epochs."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Rate of AdamATan2."})
    puzzle_learning_rate: float = field(default=1e-4, metadata={"help": "Rate of the puzzle table's sign-SGD."})
    weight_decay: float = field(default=1.0, metadata={"help": "Decoupled decay of AdamATan2."})
    puzzle_weight_decay: float = field(
        default=1.0, metadata={"help": "Decay of the rows of the puzzle table that occur in a batch."}
    )
    adam_beta1: float = field(default=0.9, metadata={"help": "First moment of AdamATan2."})
    adam_beta2: float = field(default=0.95, metadata={"help": "Second moment of AdamATan2."})
    warmup_steps: int = field(default=2000, metadata={"help": "Steps of linear warm-up from 0."})
    lr_min_ratio: float = field(
        default=1.0, metadata={"help": "Last learning rate over the first (cosine decay); 1 = constant."}
    )
    halt_exploration_prob: float = field(
        default=0.1,
        metadata={"help": "Probability that a puzzle must run a drawn number of segments before it may halt."},
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Decay of the weight average used for evaluation and export. Default: none."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two log lines."})
    eval_steps: int | None = field(
        default=None, metadata={"help": "Steps between two evaluations. Default: one at the end."}
    )
    eval_batch_size: int = field(default=256, metadata={"help": "Puzzles in an evaluation batch of each process."})
    save_steps: int | None = field(
        default=None, metadata={"help": "Steps between two exports. Default: one at the end."}
    )
    resume: str = field(
        default="never",
        metadata={
            "help": "never: start a new run. auto: resume from the newest complete state in output_dir (if that is "
            "not given, of the newest run of the task under runs/), or start if there is none. PATH: resume from this "
            "run or this state."
        },
    )
    state_minutes: float = field(
        default=10.0,
        metadata={
            "help": "Minutes after which the next log line saves a state to resume from; 0 = never by the clock."
        },
    )
    state_steps: int | None = field(
        default=None, metadata={"help": "Steps between two saved states, in addition to state_minutes."}
    )
    state_limit: int = field(default=2, metadata={"help": "Saved states to keep: the newest ones, and the best one."})
    metric_for_best: str = field(
        default="exact_accuracy",
        metadata={"help": "Score that decides which evaluation is the best; higher is better."},
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "The run ends after this many evaluations without a better score, with the best weights."},
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "How much higher a score must be to count as better."}
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={
            "help": "Threads of each process on a CPU. Default: its share of the cores, whatever OMP_NUM_THREADS says."
        },
    )
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "Names of trackers, used through Accelerate: wandb, tensorboard, trackio, ..."},
    )
    push_to_hub: str | None = field(
        default=None,
        metadata={"help": "Repository (owner/name) on the Hub that receives the last checkpoint. Default: none."},
    )
    hub_private: bool = field(default=False, metadata={"help": "Make that repository private."})
    compile: bool = field(
        default=False,
        metadata={
            "help": "torch.compile blocks and optimiser, not the evaluation. On a CPU this needs a C++ compiler."
        },
    )

    def __post_init__(self):
        if self.push_to_hub is not None:
            check_repo_id(self.push_to_hub)
        elif self.hub_private:
            raise ArgumentError("hub_private is set, but push_to_hub names no repository")
        at_least_one = ["global_batch_size", "gradient_accumulation_steps", "logging_steps", "eval_batch_size"]
        at_least_one += ["max_steps", "eval_steps", "save_steps", "cpu_threads", "state_steps", "state_limit"]
        at_least_one += ["early_stopping_patience"]
        for name in at_least_one:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"{name} is {value}; it must be at least 1")
        not_negative = ["epochs", "learning_rate", "puzzle_learning_rate", "weight_decay", "puzzle_weight_decay"]
        not_negative += ["state_minutes", "early_stopping_threshold"]
        for name in [*not_negative, "warmup_steps", "seed"]:
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**63:
                raise ArgumentError(f"{name} is {value}; it must be 0 or more, and finite")
        for name in ("lr_min_ratio", "halt_exploration_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} is {getattr(self, name)}; allowed is 0 to 1")
        if self.early_stopping_patience is not None and self.eval_steps is None:
            raise ArgumentError(
                f"early_stopping_patience is {self.early_stopping_patience}, but eval_steps is not set: give the "
                "steps between two evaluations"
            )
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ArgumentError(f"{name} is {value}; allowed is 0 up to, but not, 1")

    def local_batch_size(self, num_processes: int) -> int:
        """Slots of one process.

        Raises:
            ArgumentError: the batch cannot be cut evenly over processes and accumulation steps.
        """
        parts = num_processes * self.gradient_accumulation_steps
        if self.global_batch_size % parts:
            raise ArgumentError(
                f"global_batch_size {self.global_batch_size} is not divisible by {num_processes} processes x "
                f"{self.gradient_accumulation_steps} gradient_accumulation_steps = {parts}"
            )
        return self.global_batch_size // num_processes


RECIPES = Path(__file__).parents[1] / "recipes"
_MAX_RECIPE_LENGTH = 100_000  # characters: a recipe has a few thousand, a file named by mistake may have gigabytes


def find_recipe(name: str | Path) -> Path:
    """The YAML file of a recipe: one of the package's by its name, such as sudoku_extreme_1k, or any file by its path.

    Raises:
        ArgumentError: there is none; the nearest name is suggested.
    """
    ours = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if str(name) in ours:
        return ours[str(name)]
    if not os.path.exists(name):
        hint = _did_you_mean(Path(name).stem, ours) or f"; recipes are {', '.join(ours)}"
        raise ArgumentError(f"there is no recipe {name}{hint}; or give the path of a YAML file")
    return Path(name)


def read_recipe(path: str | Path, dataclass_types: Iterable[type]) -> dict[str, str | list[str]]:
    """Reads a recipe: one YAML mapping from argument names to values, all as text. A null stands for the default.

    Raises:
        ArgumentError: a file that cannot be read or has more than 100,000 characters; no mapping; a key that stands
            twice or is no field of the dataclasses (the nearest one is suggested); a value that is neither a single
            one nor a flat list, or a list for a field that is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MAX_RECIPE_LENGTH + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise ArgumentError(f"the recipe {path} cannot be read: {error}") from error
    if len(text) > _MAX_RECIPE_LENGTH:
        raise ArgumentError(f"the recipe {path} has more than {_MAX_RECIPE_LENGTH} characters")
    try:
        # Nodes, not values: each argument's own type says what a text means, and nothing is built from a file.
        recipe = yaml.compose(text, yaml.SafeLoader)
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:  # escapes beyond Unicode; deep nesting
        raise ArgumentError(f"the recipe {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(recipe, yaml.MappingNode):
        raise ArgumentError(f"the recipe {path} must hold one mapping of argument names to values")
    hints = {f.name: get_type_hints(kind)[f.name] for kind in dataclass_types for f in fields(kind)}
    settings: dict[str, str | list[str] | None] = {}
    for key, value in recipe.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ArgumentError(f"the recipe {path} has a {key.id} as a key; keys must be names of arguments")
        name = key.value
        if name not in hints:
            hint = _did_you_mean(name, hints) or f"; allowed are {', '.join(hints)}"
            raise ArgumentError(f"the recipe {path} has the key {name!r:.200}, which is no argument{hint}")
        if name in settings:
            raise ArgumentError(f"the recipe {path} has the key {name!r} twice")
        is_list, takes_list = isinstance(value, yaml.SequenceNode), get_origin(hints[name]) is list
        parts = value.value if is_list else [value]
        if not all(isinstance(part, yaml.ScalarNode) for part in parts) or is_list and not takes_list:
            raise ArgumentError(
                f"the recipe {path}: {name} must be a single value{' or a flat list' if takes_list else ''}"
            )
        text = [part.value for part in parts] if takes_list else value.value
        settings[name] = None if value.tag.endswith(":null") else text
    return {name: text for name, text in settings.items() if text is not None}


def parse_arguments(
    dataclass_types: tuple[type, ...],
    recipe: str | Path | None,
    argv: list[str],
    description: str | None = None,
    prog: str | None = None,
) -> tuple:
    """Dataclasses filled from their defaults, then the recipe, then the command line.

    Args:
        dataclass_types: what to fill; every field has a default, lists are lists of str.
        recipe: a name or a path, see `find_recipe`.
        argv: the command line.
        description, prog: what --help says first, and what it calls the command.
    Raises:
        ArgumentError: see `find_recipe` and `read_recipe`; or a recipe value of the wrong type.
        SystemExit: a wrong command line (argparse prints what is wrong).
    """
    parser = HfArgumentParser(
        dataclass_types, allow_abbrev=False, description=description, prog=prog, formatter_class=_HelpFormatter
    )
    if recipe is not None:
        settings = read_recipe(find_recipe(recipe), dataclass_types)
        if any(word.split("=")[0] == "--epochs" for word in argv):
            settings.pop("max_steps", None)  # which would win over epochs
        _set_defaults(parser, settings, dataclass_types, recipe)
    *parsed, unknown = parser.parse_args_into_dataclasses(
        argv, look_for_args_file=False, return_remaining_strings=True
    )
    if unknown:
        names = [f"--{f.name}" for kind in dataclass_types for f in fields(kind)]
        names += [name.replace("_", "-") for name in names]
        hint = _did_you_mean(unknown[0].split("=")[0], names)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return tuple(parsed)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the lines of the description and adds the defaults."""


def _set_defaults(
    parser: HfArgumentParser, settings: dict[str, str | list[str]], dataclass_types: Iterable[type], recipe: str | Path
) -> None:
    """Makes a recipe's values the parser's defaults: argparse gives a default that is text its argument's type."""
    parser.set_defaults(**settings)
    parser.exit_on_error = False
    try:
        typed = parser.parse_args([])
    except argparse.ArgumentError as error:
        raise ArgumentError(f"the recipe {recipe}: {one_line(error):.500}") from error
    parser.exit_on_error = True
    for f in (f for kind in dataclass_types for f in fields(kind) if "choices" in f.metadata):
        value, choices = getattr(typed, f.name), f.metadata["choices"]
        if value not in choices:
            allowed = ", ".join(map(str, choices))
            raise ArgumentError(f"the recipe {recipe}: {f.name} is {value!r:.200}; allowed are {allowed}")


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:200], names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
