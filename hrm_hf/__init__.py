"""hrm_hf: Hierarchical Reasoning Models and Tiny Recursive Models for puzzles, at home in the Hugging Face ecosystem.

Importing registers the classes with AutoConfig, AutoModel, AutoProcessor and the "puzzle-solving" pipeline, and stays
light: no h5py, no accelerate, no network. Data sets: `hrm_hf.data`; training: `hrm_hf.training`; pictures and
animations: `hrm_hf.picture`, which is imported when it is first used.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .hrm.configuration_hrm import HrmConfig
from .hrm.errors import ArgumentError, CheckpointError, DataError, HrmError, PuzzleError
from .hrm.modeling_hrm import HrmCarry, HrmForPuzzleSolving, HrmModel, HrmOutput, HrmPreTrainedModel, HrmSolveOutput
from .hrm.pipeline_puzzle import PuzzleSolvingPipeline
from .hrm.processing_hrm import HrmProcessor

__version__ = "0.1.0"


def pretrained(name: str) -> str:
    """The folder of a model that comes with the package, for every `from_pretrained`; ArgumentError for another name.

    "sudoku-9x9": 9x9 Sudokus, 1.3 M weights; the README.md of the folder tells its training and its figures.
    """
    folders = {path.name: path for path in Path(__file__).with_name("pretrained").iterdir() if path.is_dir()}
    if name not in folders:
        raise ArgumentError(f"no model {name!r} comes with hrm_hf; allowed: {', '.join(map(repr, sorted(folders)))}")
    return str(folders[name])


AutoConfig.register(HrmConfig.model_type, HrmConfig)
AutoModel.register(HrmConfig, HrmForPuzzleSolving)
AutoProcessor.register(HrmConfig, HrmProcessor)
PIPELINE_REGISTRY.register_pipeline(
    "puzzle-solving",
    pipeline_class=PuzzleSolvingPipeline,
    pt_model=AutoModel,
    default={"model": (str(Path(__file__).with_name("pretrained") / "sudoku-9x9"), "main")},
    type="text",
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
    "pretrained",
]


def __getattr__(name: str) -> Any:
    if name == "picture":
        from .games import picture

        return picture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
