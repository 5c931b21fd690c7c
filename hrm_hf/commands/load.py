"""Loads the checkpoint that a command line names."""

from pathlib import Path

import torch
from transformers.utils import PROCESSOR_NAME, cached_file

from ..files import one_line
from ..hrm.errors import ArgumentError, CheckpointError, HrmError
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..hrm.processing_hrm import HrmProcessor
from ..hub.checkpoints import load_checkpoint
from ..hub.hub_errors import clear_hub_errors, is_hub_id


def load_model(checkpoint: str, dtype: torch.dtype | None = None) -> tuple[HrmForPuzzleSolving, HrmProcessor | None]:
    """Model, on the CPU, and processor, if there is one, of a folder or Hub repository; dtype: see `load_checkpoint`.

    Raises ArgumentError for a mistyped path, CheckpointError as `load_checkpoint` and for a damaged processor.
    """
    refuse_mistyped_path(checkpoint)
    model = load_checkpoint(checkpoint, dtype=dtype)
    try:
        with clear_hub_errors(checkpoint):
            has_processor = cached_file(checkpoint, PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False)
            return model, HrmProcessor.from_pretrained(checkpoint) if has_processor else None
    except HrmError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} cannot be loaded: {one_line(error)}") from error


def load_model_and_processor(checkpoint: str) -> tuple[HrmForPuzzleSolving, HrmProcessor]:
    """As `load_model`, for a checkpoint that must have a processor; without one it raises CheckpointError."""
    model, processor = load_model(checkpoint)
    if processor is None:
        raise CheckpointError(f"{checkpoint} has no {PROCESSOR_NAME}, which says how to read its puzzles")
    return model, processor


def refuse_mistyped_path(name: str) -> None:
    """Raises ArgumentError for owner/name where there is a folder `owner` without it: the Hub would answer late."""
    folder = Path(name).parent
    if is_hub_id(name) and folder.is_dir():
        raise ArgumentError(f"there is no {name} in the folder {folder}; for the one on the Hub, change the folder")
