"""What changes between runs: dataclasses read by HfArgumentParser from a YAML recipe and from the command line."""

import argparse
import difflib
import reprlib
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser

from ..commands.command_parser import CommandParser
from ..hrm.configuration_hrm import COMPUTE_DTYPES, HrmConfig
from ..hrm.errors import ArgumentError
from ..hub.hub_errors import check_repo_id
from .states import MAX_STEP


@dataclass
class HrmModelArguments:
    """The architecture of a model trained from scratch; sizes of vocabulary and grid come from the data."""

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
    halt_max_steps: int = field(default=16, metadata={"help": "Segments after which a puzzle is always left."})
    token_loss: str = field(
        default="stablemax", metadata={"help": "Loss of a cell.", "choices": ["stablemax", "softmax"]}
    )
    compute_dtype: str = field(
        default="float32", metadata={"help": "Dtype of the activations.", "choices": list(COMPUTE_DTYPES)}
    )
    halting: str = field(
        default="q_learning",
        metadata={
            "help": "When a puzzle is left: q_learning compares halting with going on; halt_only asks q_halt alone, "
            "which saves the pass that learns the value of going on.",
            "choices": ["q_learning", "halt_only"],
        },
    )

    def to_config(self, vocab_size: int, seq_len: int, num_puzzle_identifiers: int) -> HrmConfig:
        """The model's configuration for data of these sizes.

        Raises:
            ArgumentError: sizes that do not fit each other.
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
        metadata={
            "help": "Folder of the run; must not hold another, but for --resume. Default: a new one under runs/."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the weights, of the sampling and of the exploration."})
    global_batch_size: int = field(default=768, metadata={"help": "Puzzles (slots) in a step, over all processes."})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Parts that each process cuts its share of the batch into; saves memory."}
    )
    epochs: float | None = field(
        default=None, metadata={"help": "Visits of every original puzzle; sets max_steps when that is not given."}
    )
    max_steps: int | None = field(default=None, metadata={"help": "Optimiser steps; wins over epochs."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Rate of AdamATan2."})
    puzzle_learning_rate: float = field(default=1e-4, metadata={"help": "Rate of the puzzle table's sign-SGD."})
    weight_decay: float = field(default=1.0, metadata={"help": "Decoupled decay of AdamATan2."})
    puzzle_weight_decay: float = field(default=1.0, metadata={"help": "Decay of the puzzle rows that occur."})
    adam_beta1: float = field(default=0.9, metadata={"help": "First moment of AdamATan2."})
    adam_beta2: float = field(default=0.95, metadata={"help": "Second moment of AdamATan2."})
    warmup_steps: int = field(default=2000, metadata={"help": "Steps of linear warm-up from 0."})
    lr_min_ratio: float = field(default=1.0, metadata={"help": "End of the cosine over its start; 1 = constant."})
    halt_exploration_prob: float = field(
        default=0.1, metadata={"help": "Chance that a slot must run a drawn number of segments."}
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Decay of the weight average used for evaluation and export. Default: none."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two log lines."})
    eval_steps: int | None = field(
        default=None, metadata={"help": "Steps between two evaluations. Default: at the end only."}
    )
    eval_batch_size: int = field(default=256, metadata={"help": "Puzzles in an evaluation batch of each process."})
    save_steps: int | None = field(
        default=None, metadata={"help": "Steps between two exports. Default: at the end only."}
    )
    resume: str = field(
        default="never",
        metadata={
            "help": "never: a new run. auto: go on from the newest whole state in output_dir (without one: of the "
            "newest run of the task under runs/), or start if there is none. PATH: go on from this run or this state."
        },
    )
    state_minutes: float = field(
        default=10.0,
        metadata={"help": "Minutes after which the next log line saves a state to go on from; 0 = not by the clock."},
    )
    state_steps: int | None = field(default=None, metadata={"help": "Steps between two saved states, besides."})
    state_limit: int = field(default=2, metadata={"help": "Saved states that are kept: the newest, and the best."})
    metric_for_best: str = field(
        default="exact_accuracy", metadata={"help": "Score of an evaluation that tells the best one; more is better."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Evaluations without a better score after which the run ends, with the best weights."},
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "A better score is better by more than this."}
    )
    cpu_threads: int | None = field(
        default=None,
        metadata={
            "help": "Threads of each process on a CPU. Default: the cores, shared out, whatever OMP_NUM_THREADS says."
        },
    )
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "Trackers by name, through Accelerate: wandb, tensorboard, trackio, ..."},
    )
    push_to_hub: str | None = field(
        default=None,
        metadata={"help": "Repository (owner/name) on the Hub to push the last checkpoint to. Default: none."},
    )
    hub_private: bool = field(default=False, metadata={"help": "Make that repository a private one."})
    compile: bool = field(
        default=False,
        metadata={
            "help": "torch.compile blocks and optimiser; evaluation stays plain. On a CPU it needs a C++ compiler."
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
        if self.max_steps is not None and self.max_steps > MAX_STEP:
            raise ArgumentError(f"max_steps is {self.max_steps}; at most {MAX_STEP} can be saved")
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

    def ruling(self) -> dict[str, Any]:
        """The arguments that must be the same where a run resumes."""
        # The others change no weight beyond the rounding of sums; of epochs and max_steps the latter counts.
        free = ["compile", "cpu_threads", "epochs", "eval_batch_size", "gradient_accumulation_steps", "hub_private"]
        free += ["logging_steps", "output_dir", "push_to_hub", "report_to", "resume", "save_steps"]
        free += ["state_limit", "state_minutes", "state_steps"]
        ruling = {name: value for name, value in vars(self).items() if name not in free}
        if self.lr_min_ratio == 1.0:
            ruling.pop("max_steps")  # the rate stays constant after the warm-up: a run may be made longer
        if self.early_stopping_patience is None:
            for name in ("eval_steps", "metric_for_best", "early_stopping_threshold"):
                ruling.pop(name)
        return ruling

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


_MAX_RECIPE_LENGTH = 100_000  # characters: a recipe has a few thousand, and reading YAML is slow
_MAX_BITS = 1024  # of a whole number: more than any argument allows, and few enough to be shown


class _RecipeLoader(yaml.SafeLoader):
    """Plain values without aliases, with which a few lines can stand for more values than fit into memory, and without
    a key that stands twice, of which PyYAML would take the last.
    """

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "a recipe must not have aliases", mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, found = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in found:
                raise yaml.composer.ComposerError(None, None, f"{key.value!r:.200} stands twice", key.start_mark)
            found.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def read_recipe(path: str | Path, known: list[str]) -> dict:
    """Reads a recipe: one YAML mapping from argument names to values.

    Args:
        path: the YAML file.
        known: names that are allowed.
    Raises:
        ArgumentError: no such file, one of more than 100,000 characters, no mapping, aliases, a key that stands
            twice or does not exist (the nearest one is suggested), or a value that is neither a plain one nor a list
            of those.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MAX_RECIPE_LENGTH + 1)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path that cannot be one
        raise ArgumentError(f"the recipe {path} cannot be read: {error}") from error
    if len(text) > _MAX_RECIPE_LENGTH:
        raise ArgumentError(f"the recipe {path} has more than {_MAX_RECIPE_LENGTH} characters")
    try:
        recipe = yaml.load(text, _RecipeLoader)
    except Exception as error:  # values that their tag does not fit, or nested too deeply, raise more than YAMLError
        raise ArgumentError(f"the recipe {path} is not valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ArgumentError(f"the recipe {path} must hold one mapping of argument names to values")
    for key, value in recipe.items():
        if not isinstance(key, str):
            raise ArgumentError(f"the recipe {path} has a key that is a {type(key).__name__}, needed is a name")
        if key not in known:
            near = difflib.get_close_matches(key[:200], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(known)}"
            raise ArgumentError(f"the recipe {path} has the key {key!r:.200}, which is no argument{hint}")
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, str | int | float | date | None):
                raise ArgumentError(
                    f"the recipe {path}: {key} must be a single value or a flat list, not {reprlib.repr(value)}"
                )
            if isinstance(part, int) and part.bit_length() > _MAX_BITS:
                raise ArgumentError(f"the recipe {path}: {key} is a number of {part.bit_length()} bits")
            if isinstance(value, list) and isinstance(part, str) and part.startswith("-"):
                raise ArgumentError(f"the recipe {path}: {key} holds {part!r:.200}, which reads as an argument")
    return recipe


def parse_arguments(
    dataclass_types: tuple[type, ...], recipe: str | Path | None, argv: list[str], description: str | None = None
) -> tuple:
    """Dataclasses filled from their defaults, then the recipe, then the command line.

    The recipe's values are handed to the parser as text before the command line's, so both are converted and checked
    in one place: `1e-4`, which YAML reads as text, becomes the number that its field asks for.

    Args:
        dataclass_types: what to fill.
        recipe: a YAML file, see `read_recipe`.
        argv: the command line.
        description: what --help says first.
    Raises:
        ArgumentError: see `read_recipe`; or a recipe value of the wrong type.
        SystemExit: a wrong command line (argparse prints what is wrong).
    """
    known = [f.name for dataclass_type in dataclass_types for f in fields(dataclass_type)]
    from_recipe: list[str] = []
    if recipe is not None:
        settings = read_recipe(recipe, known)
        on_command_line = {word.split("=")[0].lstrip("-").replace("-", "_") for word in argv if word.startswith("--")}
        if "epochs" in on_command_line:
            settings.pop("max_steps", None)  # which would win over epochs
        for key, value in settings.items():
            if isinstance(value, list):
                from_recipe += [f"--{key}", *map(str, value)] if value else []
            elif value is not None:  # null: the field's own default
                from_recipe.append(f"--{key}={value}")
        _parse(dataclass_types, from_recipe, of_recipe=recipe)
    return _parse(dataclass_types, [*from_recipe, *argv], description=description)


class _DataclassParser(CommandParser, HfArgumentParser):
    """The project's parser over dataclasses."""


def _parse(
    dataclass_types: tuple[type, ...],
    argv: list[str],
    of_recipe: str | Path | None = None,
    description: str | None = None,
) -> tuple:
    parser = _DataclassParser(
        dataclass_types, allow_abbrev=False, exit_on_error=of_recipe is None, description=description
    )
    try:
        *parsed, unknown = parser.parse_args_into_dataclasses(
            argv, look_for_args_file=False, return_remaining_strings=True
        )
    except argparse.ArgumentError as error:
        raise ArgumentError(f"the recipe {of_recipe}: {error}") from error
    if unknown and of_recipe is not None:
        raise ArgumentError(f"the recipe {of_recipe} gives more values than asked for: {' '.join(unknown)}")
    if unknown:
        names = [f"--{name}" for kind in dataclass_types for f in fields(kind) for name in (f.name, _dashed(f.name))]
        near = difflib.get_close_matches(unknown[0].split("=")[0], names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return tuple(parsed)


def _dashed(name: str) -> str:
    return name.replace("_", "-")
