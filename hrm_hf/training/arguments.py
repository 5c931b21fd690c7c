"""What changes between runs: dataclasses filled by HfArgumentParser from a YAML recipe and from the command line."""

import argparse
import difflib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from ..files import one_line, read_within
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import ArgumentError
from ..hub.hub_errors import check_repo_id
from .depth import depth_stages


@dataclass
class HrmModelArguments:
    """The architecture of a model trained from scratch. The sizes of vocabulary and grid come from the data."""

    hidden_size: int = HfArg(default=512, help="Width D of the states.")
    num_attention_heads: int = HfArg(default=8, help="Heads N; must divide hidden_size.")
    expansion: float = HfArg(default=4.0, help="Width of the SwiGLU over hidden_size * 2 / 3.")
    H_layers: int = HfArg(default=4, help="Blocks of the high level.")
    L_layers: int = HfArg(default=4, help="Blocks of the low level.")
    H_cycles: int = HfArg(default=2, help="High-level updates in a segment.")
    L_cycles: int = HfArg(default=2, help="Low-level updates before each high-level update.")
    shared_levels: bool = HfArg(default=False, help="One level is both; H_layers is not read.")
    gradient_span: Literal["last_updates", "last_cycle", "segment"] = HfArg(
        default="last_updates", help="Updates of a segment that carry gradients."
    )
    mixer: Literal["attention", "mlp"] = HfArg(default="attention", help="What mixes positions; mlp takes no rope.")
    pos_encodings: Literal["rope", "learned", "none"] = HfArg(default="rope", help="Positions.")
    puzzle_emb_ndim: int | None = HfArg(default=None, help="Width of the puzzle table, 0 = none; unset: hidden_size.")
    num_prefix_positions: int | None = HfArg(
        default=None, help="Positions before the cells; unset: those that the puzzle vector fills."
    )
    halt_max_steps: int = HfArg(default=16, help="Segments after which every puzzle halts.")
    token_loss: Literal["stablemax", "softmax"] = HfArg(default="stablemax", help="Loss of a cell.")
    label_smoothing: float = HfArg(default=0.0, help="Share of a cell's target spread over all codes; softmax only.")
    halting_loss_weight: float = HfArg(default=0.5, help="Weight of the halting losses beside the token loss.")
    compute_dtype: Literal["float32", "bfloat16", "auto"] = HfArg(
        default="float32", help="Dtype of the activations; auto, in all recipes: the quicker one on this machine."
    )
    halting: Literal["q_learning", "halt_only"] = HfArg(
        default="q_learning", help="Halt at q_halt > q_continue; or by q_halt alone, without its extra forward pass."
    )

    def to_config(self, vocab_size: int, seq_len: int, num_puzzle_identifiers: int, **others: Any) -> HrmConfig:
        """The model's configuration for data of these sizes; `others`: fields of HrmConfig that are no arguments.

        Raises ArgumentError if they do not fit each other, and for compute_dtype "auto": see `processes.agreed_dtype`.
        """
        values = asdict(self) | others
        if self.puzzle_emb_ndim is None:
            values["puzzle_emb_ndim"] = self.hidden_size
        sizes = {"vocab_size": vocab_size, "seq_len": seq_len, "num_puzzle_identifiers": num_puzzle_identifiers}
        try:
            return HrmConfig(**sizes, **values)
        except StrictDataclassError as error:
            raise ArgumentError(str(error.__cause__ or error)) from error


@dataclass
class HrmTrainingArguments:
    """How a model is trained. Defaults: the paper's Sudoku-Extreme run (1,000 puzzles)."""

    output_dir: str | None = HfArg(default=None, help="Folder of the run; unset: a new one under runs/.")
    seed: int = HfArg(default=0, help="Seed of the weights, of the sampling and of the exploration.")
    global_batch_size: int = HfArg(default=768, help="Puzzles (slots) in a step, over all processes.")
    gradient_accumulation_steps: int = HfArg(default=1, help="Parts of each process's share of the batch.")
    epochs: float | None = HfArg(default=None, help="Visits to every original puzzle, where max_steps is unset.")
    max_steps: int | None = HfArg(default=None, help="Optimiser steps; wins over epochs.")
    learning_rate: float = HfArg(default=1e-4, help="Rate of AdamATan2.")
    puzzle_learning_rate: float = HfArg(default=1e-4, help="Rate of the puzzle table's sign-SGD.")
    weight_decay: float = HfArg(default=1.0, help="Decoupled decay of AdamATan2.")
    puzzle_weight_decay: float = HfArg(default=1.0, help="Decay of the puzzle table's rows that occur in a batch.")
    adam_beta1: float = HfArg(default=0.9, help="First moment of AdamATan2.")
    adam_beta2: float = HfArg(default=0.95, help="Second moment of AdamATan2.")
    optimizer: Literal["adam_atan2", "muon"] = HfArg(
        default="adam_atan2", help="muon: torch.optim.Muon for the matrices of the blocks, AdamATan2 for the rest."
    )
    muon_learning_rate: float = HfArg(default=0.02, help="Rate of Muon.")
    muon_weight_decay: float = HfArg(default=0.005, help="Decoupled decay of Muon.")
    muon_momentum: float = HfArg(default=0.95, help="Momentum of Muon.")
    depth_schedule: str | None = HfArg(
        default=None,
        help="Cycles that grow, as START:HxL,... with START a share of max_steps: 0:1x2,0.3:2x4,0.6:3x6. "
        "Evaluation and export take the last stage, whatever H_cycles and L_cycles are.",
    )
    max_grad_norm: float | None = HfArg(default=None, help="Norm to scale longer gradients to, of the whole model.")
    warmup_steps: int = HfArg(default=2000, help="Steps of linear warm-up from 0.")
    lr_min_ratio: float = HfArg(default=1.0, help="Last learning rate over the first (cosine decay); 1 = constant.")
    halt_exploration_prob: float = HfArg(default=0.1, help="How often a puzzle must run a drawn number of segments.")
    ema_decay: float | None = HfArg(default=None, help="Decay of the weight average that is evaluated and exported.")
    ema_warmup: bool = HfArg(default=True, help="The average's decay warms up, as (1 + step) / (10 + step).")
    logging_steps: int = HfArg(default=50, help="Steps between two log lines.")
    eval_steps: int | None = HfArg(default=None, help="Steps between two evaluations; unset: one at the end.")
    eval_batch_size: int = HfArg(default=256, help="Puzzles in an evaluation batch of each process.")
    save_steps: int | None = HfArg(default=None, help="Steps between two exports; unset: one at the end.")
    resume: str = HfArg(
        default="never",
        help="never: start a new run. auto: resume from the newest complete state in output_dir (unset: of the newest "
        "run of the task under runs/), or start if there is none. PATH: resume from this run or this state.",
    )
    state_minutes: float = HfArg(default=10.0, help="Minutes between two saved states to resume from; 0 = never.")
    state_steps: int | None = HfArg(default=None, help="Steps between two saved states, beside state_minutes.")
    state_limit: int = HfArg(default=2, help="Saved states to keep: the newest ones, and the best one.")
    metric_for_best: str = HfArg(default="exact_accuracy", help="Score that makes an evaluation best, if higher.")
    early_stopping_patience: int | None = HfArg(
        default=None, help="The run ends after this many evaluations without a better score, with the best weights."
    )
    early_stopping_threshold: float = HfArg(default=0.0, help="How much higher a score must be to count as better.")
    cpu_threads: int | None = HfArg(default=None, help="Threads of a process on a CPU; unset: its share of the cores.")
    report_to: list[str] = HfArg(default_factory=list, help="Trackers, by Accelerate's names: wandb, tensorboard, ...")
    push_to_hub: str | None = HfArg(default=None, help="Repository (owner/name) that receives the last checkpoint.")
    hub_private: bool = HfArg(default=False, help="Make that repository private.")
    compile: bool = HfArg(
        default=False,
        help="torch.compile blocks and optimiser (a CPU needs a C++ compiler); one GPU replays a CUDA graph too.",
    )

    def __post_init__(self):
        if self.push_to_hub is not None:
            check_repo_id(self.push_to_hub)
        elif self.hub_private:
            raise ArgumentError("hub_private is set, but push_to_hub names no repository")
        at_least_one = """global_batch_size gradient_accumulation_steps logging_steps eval_batch_size max_steps
            eval_steps save_steps cpu_threads state_steps state_limit early_stopping_patience"""
        not_negative = """epochs learning_rate puzzle_learning_rate weight_decay puzzle_weight_decay state_minutes
            early_stopping_threshold warmup_steps seed muon_learning_rate muon_weight_decay"""
        below_one = "adam_beta1 adam_beta2 muon_momentum ema_decay"
        for names, is_allowed, allowed in (
            (at_least_one, lambda value: value >= 1, "it must be at least 1"),
            (not_negative, lambda value: 0 <= value < 2**63, "it must be 0 or more, and finite"),
            ("lr_min_ratio halt_exploration_prob", lambda value: 0 <= value <= 1, "allowed is 0 to 1"),
            (below_one, lambda value: 0 <= value < 1, "it must be 0 or more, below 1"),
            ("max_grad_norm", lambda value: 0 < value < math.inf, "it must be more than 0, and finite"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not is_allowed(value):
                    raise ArgumentError(f"{name} is {value}; {allowed}")
        if self.optimizer not in ("adam_atan2", "muon"):
            raise ArgumentError(f"optimizer is {self.optimizer!r}; allowed are 'adam_atan2', 'muon'")
        for name in ("muon_learning_rate", "muon_weight_decay", "muon_momentum"):
            if self.optimizer != "muon" and getattr(self, name) != getattr(HrmTrainingArguments, name):
                raise ArgumentError(f"{name} is {getattr(self, name)}, but optimizer is {self.optimizer}")
        if self.depth_schedule is not None:
            depth_stages(self.depth_schedule)
        if not self.ema_warmup and self.ema_decay is None:
            raise ArgumentError("ema_warmup is False, but ema_decay is None")
        if self.early_stopping_patience is not None and self.eval_steps is None:
            raise ArgumentError(f"early_stopping_patience is {self.early_stopping_patience}, but eval_steps is None")

    def ruling(self) -> dict[str, Any]:
        """The arguments that must be the same where a run resumes."""
        # The others change no weight beyond the rounding of sums; of epochs and max_steps the latter counts.
        free = ["compile", "cpu_threads", "epochs", "eval_batch_size", "gradient_accumulation_steps", "hub_private"]
        free += ["logging_steps", "output_dir", "push_to_hub", "report_to", "resume", "save_steps"]
        free += ["state_limit", "state_minutes", "state_steps"]
        if self.lr_min_ratio == 1.0:
            free += ["max_steps"]  # the rate stays constant after the warm-up: a run may be made longer
        if self.early_stopping_patience is None:
            free += ["eval_steps", "metric_for_best", "early_stopping_threshold"]
        return {name: value for name, value in vars(self).items() if name not in free}

    def local_batch_size(self, num_processes: int) -> int:
        """Slots of one process. Raises ArgumentError unless processes and accumulation steps get equal parts."""
        parts = num_processes * self.gradient_accumulation_steps
        if self.global_batch_size % parts:
            divisor = f"{num_processes} processes x {self.gradient_accumulation_steps} gradient_accumulation_steps"
            raise ArgumentError(f"global_batch_size {self.global_batch_size} is not divisible by {divisor} = {parts}")
        return self.global_batch_size // num_processes


RECIPES = Path(__file__).parents[1] / "recipes"
# Arguments of the command line, and those of the recipe that would win over them.
_BEATS = {"epochs": "max_steps", "H_cycles": "depth_schedule", "L_cycles": "depth_schedule"}
_MAX_RECIPE_BYTES = 100_000  # a recipe has a few thousand, a file named by mistake may have gigabytes


def find_recipe(name: str | Path) -> Path:
    """The YAML file of a recipe: one of the package's by its name, such as sudoku_extreme_1k, or any file by its path.

    Raises ArgumentError if there is none, and suggests the nearest name.
    """
    ours = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if str(name) not in ours and not os.path.isfile(name):
        hint = _did_you_mean(Path(name).stem, ours) or f"; give the path of a YAML file or one of {', '.join(ours)}"
        raise ArgumentError(f"there is no recipe {name}{hint}")
    return ours.get(str(name), Path(name))


def read_recipe(path: str | Path, dataclass_types: Iterable[type]) -> dict[str, str | list[str]]:
    """Reads a recipe: one YAML mapping from argument names to values, all as text. A null stands for the default.

    Raises ArgumentError for a file that cannot be read or has more than 100,000 bytes; no mapping; a key that stands
    twice or is no field of the dataclasses (the nearest one is suggested); a value that the field cannot hold.
    """
    content = read_within(path, ArgumentError, _MAX_RECIPE_BYTES)
    try:
        # Nodes, not values: each argument's own type says what a text means, and nothing is built from a file.
        recipe = yaml.compose(content, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # codes past Unicode; deep nesting
        raise ArgumentError(f"the recipe {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(recipe, yaml.MappingNode):
        raise ArgumentError(f"the recipe {path} must hold one mapping of argument names to values")
    hints = _field_types(dataclass_types)
    settings: dict[str, str | list[str] | None] = {}
    for key, value in recipe.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else f"({key.id})"
        if name not in hints:
            hint = _did_you_mean(name, hints) or f"; allowed are {', '.join(hints)}"
            raise ArgumentError(f"the recipe {path} has the key {name!r:.200}, which is no argument{hint}")
        if name in settings:
            raise ArgumentError(f"the recipe {path} has the key {name!r} twice")
        takes_list = get_origin(hints[name]) is list
        parts = value.value if takes_list and isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(part, yaml.ScalarNode) for part in parts):
            allowed = "a single value or a flat list" if takes_list else "a single value"
            raise ArgumentError(f"the recipe {path}: {name} must be {allowed}")
        texts = [part.value for part in parts]
        settings[name] = None if value.tag.endswith(":null") else texts if takes_list else texts[0]
    return {name: text for name, text in settings.items() if text is not None}


def options_of(argv: list[str]) -> set[str]:
    """The names of the arguments that a command line gives, with underscores."""
    return {word.split("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}


def given_words(
    dataclass_types: tuple[type, ...], argv: list[str], description: str | None = None, prog: str | None = None
) -> argparse.Namespace:
    """What the command line alone says, or the defaults; nothing is checked but the types. For what picks the recipe.

    Raises SystemExit for a word of the wrong type, and for --help.
    """
    return _parser(dataclass_types, description, prog).parse_known_args(argv)[0]


def parse_arguments(
    dataclass_types: tuple[type, ...],
    recipe: str | Path | None,
    argv: list[str],
    description: str | None = None,
    prog: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple:
    """Dataclasses filled from their defaults, then the recipe, then the command line.

    Args:
        dataclass_types: what to fill; every field has a default, lists are lists of str.
        recipe: a name or a path, see `find_recipe`.
        argv: the command line; of two words for one argument the later counts.
        description, prog: what --help says first, and what it calls the command.
        defaults: take the place of the dataclasses' own, by name.
    Raises:
        ArgumentError: see `find_recipe` and `read_recipe`; or a recipe value of the wrong type.
        SystemExit: a wrong command line (argparse prints what is wrong).
    """
    parser = _parser(dataclass_types, description, prog)
    parser.set_defaults(**(defaults or {}))
    hints = _field_types(dataclass_types)
    if recipe is not None:
        settings = read_recipe(find_recipe(recipe), dataclass_types)
        for name in options_of(argv) & _BEATS.keys():
            settings.pop(_BEATS[name], None)
        parser.set_defaults(**settings)
        parser.exit_on_error = False
        try:
            typed = parser.parse_args([])  # argparse gives a default that is text its argument's type
        except argparse.ArgumentError as error:
            raise ArgumentError(f"the recipe {recipe}: {one_line(error):.500}") from error
        parser.exit_on_error = True
        for name, hint in hints.items():  # argparse does not compare defaults with choices
            if get_origin(hint) is Literal and getattr(typed, name) not in get_args(hint):
                value, allowed = f"{getattr(typed, name)!r:.200}", ", ".join(map(str, get_args(hint)))
                raise ArgumentError(f"the recipe {recipe}: {name} is {value}; allowed are {allowed}")
    *read, unknown = parser.parse_args_into_dataclasses(argv, look_for_args_file=False, return_remaining_strings=True)
    if unknown:
        names = [option for name in hints for option in (f"--{name}", f"--{name.replace('_', '-')}")]
        hint = _did_you_mean(unknown[0].split("=")[0], names)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return tuple(read)


def _parser(dataclass_types: tuple[type, ...], description: str | None, prog: str | None) -> HfArgumentParser:
    # argparse's own usage would put 55 lines of options above an error
    usage = "%(prog)s [-h] [--recipe RECIPE] [--ARGUMENT VALUE ...]"
    how = {"description": description, "prog": prog, "usage": usage, "formatter_class": _HelpFormatter}
    return HfArgumentParser(dataclass_types, allow_abbrev=False, **how)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the lines of the description and adds the defaults."""


def _field_types(dataclass_types: Iterable[type]) -> dict[str, Any]:
    return {f.name: get_type_hints(kind)[f.name] for kind in dataclass_types for f in fields(kind)}


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:200], names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
