"""Loads checkpoints where hrm_hf cannot be imported and writes down what they answer; test_travelling_code runs it.

    python -I load_without_package.py ANSWERS.json WORK_FOLDER CHECKPOINT...

A checkpoint is a folder or a repository of the Hub; each is also saved again, in the work folder, and loaded there.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

PUZZLE = "1..4..1..1..4..1"
NAMES = ["<blank>", "second"]


def refusal(checkpoint: str) -> str:
    """What transformers says to who does not trust the checkpoint's code."""
    try:
        AutoConfig.from_pretrained(checkpoint)
    except ValueError as error:
        return str(error)
    return ""


def answers(checkpoint: str, save_again: Path | None = None) -> dict:
    """What the checkpoint's classes are and say; the pipeline goes first, as it imports the other files itself."""
    solver = pipeline(model=checkpoint, trust_remote_code=True, device="cpu")
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=True)
    model = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    with torch.no_grad():
        logits = model(**processor([PUZZLE, PUZZLE], puzzle_identifiers=NAMES)).logits
    try:
        solver([PUZZLE, "12"])
        error = ""
    except ValueError as raised:
        error = f"{type(raised).__name__}: {raised}"
    if save_again is not None:
        solver.save_pretrained(save_again)
    return {
        "classes": {type(part).__name__: type(part).__module__ for part in (config, model, processor, solver)},
        "logits": logits.tolist(),
        "results": solver([{"puzzle": PUZZLE, "puzzle_identifier": name} for name in NAMES]),
        "error": error,
    }


if __name__ == "__main__":
    answers_file, work_folder, *checkpoints = sys.argv[1:]
    assert importlib.util.find_spec("hrm_hf") is None, "hrm_hf can be imported here"
    found = {}
    for number, checkpoint in enumerate(checkpoints):
        again = Path(work_folder) / f"again{number}"
        found[checkpoint] = {"refusal": refusal(checkpoint)} | answers(checkpoint, save_again=again)
        found[checkpoint]["again"] = answers(str(again))
    Path(answers_file).write_text(json.dumps(found), encoding="utf-8")
