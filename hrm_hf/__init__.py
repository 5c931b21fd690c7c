"""hrm_hf: Hierarchical Reasoning Models and Tiny Recursive Models for puzzles, at home in the Hugging Face ecosystem.

Importing registers the classes with AutoConfig, AutoModel, AutoProcessor and the "puzzle-solving" pipeline, and stays
light: no h5py, no accelerate, no network. Data sets: `hrm_hf.data`; training: `hrm_hf.training`; pictures and
animations: `hrm_hf.picture`, which is imported when it is first used.
"""

from typing import Any

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .hrm.configuration_hrm import HrmConfig
from .hrm.errors import ArgumentError, CheckpointError, DataError, HrmError, PuzzleError
from .hrm.modeling_hrm import HrmCarry, HrmForPuzzleSolving, HrmModel, HrmOutput, HrmPreTrainedModel, HrmSolveOutput
from .hrm.pipeline_puzzle import PuzzleSolvingPipeline
from .hrm.processing_hrm import HrmProcessor

__version__ = "0.1.0"

AutoConfig.register(HrmConfig.model_type, HrmConfig)
AutoModel.register(HrmConfig, HrmForPuzzleSolving)
AutoProcessor.register(HrmConfig, HrmProcessor)
PIPELINE_REGISTRY.register_pipeline(
    "puzzle-solving", pipeline_class=PuzzleSolvingPipeline, pt_model=AutoModel, type="text"
)

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "DataError",
    "HrmCarry",
    "HrmConfig",
    "HrmError",
    "HrmForPuzzleSolving",
    "HrmModel",
    "HrmOutput",
    "HrmPreTrainedModel",
    "HrmProcessor",
    "HrmSolveOutput",
    "PuzzleError",
    "PuzzleSolvingPipeline",
]


def __getattr__(name: str) -> Any:
    if name == "picture":
        from .games import picture

        return picture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
