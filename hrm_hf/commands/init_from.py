"""The checkpoint that a run starts from (--init_from): its architecture and its weights, for the run's data."""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from ..data import PuzzleFile
from ..hrm.configuration_hrm import HrmConfig
from ..hrm.errors import ArgumentError, DataError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hub.puzzle_embeddings import resize_puzzle_table
from ..progress import get_logger
from ..scores.puzzle_table_match import match_puzzle_table
from ..training import HrmModelArguments, on_main_process
from ..training.depth import depth_stages
from ..training.resuming import saved_architecture
from .load import load_model

# What a command line may change: the weights fit every value.
CHANGEABLE = ("H_cycles", "L_cycles", "gradient_span", "halt_max_steps", "token_loss", "halting", "compute_dtype")
CHANGEABLE += ("label_smoothing", "halting_loss_weight")

logger = get_logger(__name__)


class Start(NamedTuple):
    """What a run starts from."""

    name: str  # folder or id on the Hub
    config: HrmConfig
    model: HrmForPuzzleSolving | None  # None where the run resumes: its state holds the weights
    processor: HrmProcessor | None

    def architecture(self) -> dict[str, Any]:
        """The values that stand in for those of the recipe."""
        values = {field.name: getattr(self.config, field.name) for field in fields(HrmModelArguments)}
        if self.config.compute_dtype == "bfloat16":
            values["compute_dtype"] = "auto"  # the machine that trained them may be of another kind
        return values

    def check(self, model_args: HrmModelArguments) -> None:
        """Raises ArgumentError for a value of the command line that the weights do not fit."""
        for name, own in self.architecture().items():
            if name not in CHANGEABLE and getattr(model_args, name) != own:
                found = f"{name} is {getattr(model_args, name)}, but the weights of {self.name} have {name} {own}"
                raise ArgumentError(f"{found}: leave it out. What can be changed: {', '.join(CHANGEABLE)}")

    def check_depth(self, model_args: HrmModelArguments, schedule: str | None) -> None:
        """Raises ArgumentError where an adapter would be trained at another depth than its file's base model has."""
        own = (self.config.H_cycles, self.config.L_cycles)
        cycles = (model_args.H_cycles, model_args.L_cycles) if schedule is None else depth_stages(schedule)[-1][1:]
        if tuple(cycles) != own:
            found = f"H_cycles x L_cycles would be {cycles[0]}x{cycles[1]}, those of {self.name} are {own[0]}x{own[1]}"
            raise ArgumentError(f"{found}: an adapter (lora_rank) keeps them")

    def config_for(self, model_args: HrmModelArguments, file: PuzzleFile) -> HrmConfig:
        """The configuration for training on a file. Raises DataError for one of other cells than the weights know."""
        sizes = {name: getattr(file.info, name) for name in ("vocab_size", "seq_len", "num_puzzle_identifiers")}
        for name in ("vocab_size", "seq_len"):
            if sizes[name] != (known := getattr(self.config, name)):
                found = f"{file.path}: {name} is {sizes[name]}, but the weights of {self.name} have {name} {known}"
                raise DataError(f"{found}: take a checkpoint for grids of this size, or leave out --init_from")
        others = {name: getattr(self.config, name) for name in ("rope_theta", "rms_norm_eps", "num_segments")}
        return model_args.to_config(**sizes, **others)

    def load_weights(self, model: HrmForPuzzleSolving, file: PuzzleFile) -> None:
        """Puts the weights into a model for this file; its rows of the puzzle table by the puzzles' names.

        A puzzle that the checkpoint does not know starts with the mean of the rows that it has.
        """
        info = file.info
        if self.processor is not None and self.processor.task != info.task:
            logger.warning(f"{self.name} was trained on {self.processor.task!r}, the data is {info.task!r}")
        if self.model.model.puzzle_embeddings is not None:
            processor = self.processor or HrmProcessor(info.task, info.grid_shape, info.box_shape)
            new = match_puzzle_table(self.model, processor, file, "mean")
            resize_puzzle_table(self.model, info.num_puzzle_identifiers, "mean")  # where the file has no names
            if new:
                of = f"{len(new)} of {info.num_puzzle_identifiers} rows of the puzzle table"
                logger.info(f"{of} are of puzzles that {self.name} does not know: they start as the mean of its rows")
        model.load_state_dict(self.model.state_dict())
        logger.info(f"the run starts from the weights of {self.name}")


def find_start(name: str, run_dir: Path, goes_on: bool, accelerator: Accelerator) -> Start:
    """What a run in this folder starts from; where it resumes from a state, `name` is not read.

    Raises HrmError for no such checkpoint, one that is not whole or holds NaN, or a run without a whole state.
    """
    saved = on_main_process(accelerator, lambda: saved_architecture(run_dir), share=True) if goes_on else None
    if saved is not None:
        return Start(name, HrmConfig(**saved), None, None)
    model, processor = load_model(name, dtype=torch.float32)
    return Start(name, model.config, model, processor)
