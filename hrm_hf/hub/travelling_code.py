"""Lets a checkpoint carry the code that loads it, for those who do not have hrm_hf installed.

transformers reads in the checkpoint's JSON files which class of which file to take, fetches that file with all that it
imports by `from .module import Name`, and runs them when the caller says trust_remote_code=True. Where hrm_hf is
imported its own classes are taken and nobody is asked.
"""

import json
import os
from pathlib import Path

from ..files import read_json, write_whole
from ..hrm.errors import CheckpointError
from ..hrm.shown_value import shown

ROOM = Path(__file__).parents[1] / "hrm"
AUTO_MAPS = {  # file of the checkpoint -> its auto_map: Auto class -> module.class
    "config.json": {"AutoConfig": "configuration_hrm.HrmConfig", "AutoModel": "modeling_hrm.HrmForPuzzleSolving"},
    "processor_config.json": {"AutoProcessor": "processing_hrm.HrmProcessor"},
}
# Another name than the task's that hrm_hf registers: transformers wants trust_remote_code from whoever asks for a task
# that stands here.
CUSTOM_PIPELINES = {
    "hrm-puzzle-solving": {"impl": "pipeline_puzzle.PuzzleSolvingPipeline", "pt": ["AutoModel"], "type": "text"}
}


def code_files() -> list[Path]:
    """The files that travel, by name: the whole room hrm/."""
    return sorted(file for file in ROOM.glob("*.py") if file.name != "__init__.py")


def add_code(folder: str | os.PathLike) -> list[Path]:
    """Makes a saved checkpoint loadable without hrm_hf, by the Auto classes and `pipeline(model=folder)`.

    Writes the package's code, flat, beside the weights and names it in config.json and, where there is one, in
    processor_config.json; code of another version is replaced. Returns the code files in the folder.

    Raises CheckpointError, before it writes, for no config.json of this package's models or a damaged JSON file.
    """
    folder = Path(folder)
    names = [name for name in AUTO_MAPS if name == "config.json" or (folder / name).exists()]
    settings = {name: read_json(folder / name, CheckpointError) for name in names}
    found = settings["config.json"].get("model_type")
    if found != "hrm":
        raise CheckpointError(f"{folder}: config.json has the model_type {shown(found)}; code is added to 'hrm' alone")
    written = [folder / file.name for file in code_files()]
    for file in written:
        write_whole(file, (ROOM / file.name).read_bytes())  # never through a link: the Hub's cache shares files
    settings["config.json"]["custom_pipelines"] = CUSTOM_PIPELINES
    for name, content in settings.items():  # after the code: they name it
        content["auto_map"] = AUTO_MAPS[name]
        write_whole(folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n")
    return written
