"""Lets a checkpoint carry the code that loads it, for those who do not have hrm_hf installed.

transformers reads in the checkpoint's JSON files which class of which file to take, fetches that file with all that it
imports by `from .module import Name`, and runs them when the caller says trust_remote_code=True. Where hrm_hf is
imported its own classes are taken and nobody is asked.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..hrm.errors import CheckpointError

ROOM = Path(__file__).parents[1] / "hrm"
AUTO_MAPS = {  # file of the checkpoint -> its auto_map: Auto class -> module.class
    "config.json": {
        "AutoConfig": "configuration_hrm.HrmConfig",
        "AutoModel": "modeling_hrm.HrmForPuzzleSolving",
    },
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
    processor_config.json. Code of another version that lies there is replaced; a second call changes nothing.

    Args:
        folder: where `save_pretrained` of a model, and usually of a processor, has written.

    Returns:
        The code files in the folder.

    Raises:
        CheckpointError: no config.json of this package's models, or a JSON file that cannot be read. Nothing has been
            written then.
    """
    folder = Path(folder)
    settings = {"config.json": _read_json(folder / "config.json")}
    if settings["config.json"].get("model_type") != "hrm":
        raise CheckpointError(
            f"{folder / 'config.json'} has the model_type {settings['config.json'].get('model_type')!r}; code can be "
            "added to checkpoints of the model_type 'hrm'"
        )
    if (folder / "processor_config.json").exists():
        settings["processor_config.json"] = _read_json(folder / "processor_config.json")

    written = [folder / file.name for file in code_files()]
    for file in written:
        _replace(file, (ROOM / file.name).read_bytes())
    settings["config.json"]["custom_pipelines"] = CUSTOM_PIPELINES
    for name, content in settings.items():  # after the code: they name it
        content["auto_map"] = AUTO_MAPS[name]
        _replace(folder / name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    return written


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a UnicodeDecodeError and a JSONDecodeError are ValueErrors
        raise CheckpointError(f"{path} cannot be read: {error}; code is added to a saved checkpoint") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a JSON object of settings")
    return content


def _replace(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing, and never through a link: in the Hub's cache files are links to shared ones."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
