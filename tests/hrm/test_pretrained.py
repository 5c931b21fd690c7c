"""The model that comes with the package: found without a name, small, and it solves."""

from pathlib import Path

import pytest
from sudoku_grids import ANSWER, QUESTION
from transformers import pipeline

import hrm_hf
from hrm_hf import ArgumentError, HrmForPuzzleSolving, HrmProcessor, pretrained

FOLDER = Path(pretrained("sudoku-9x9"))
HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."


def test_the_pipeline_without_a_model_solves_a_newspaper_puzzle():
    solver = pipeline("puzzle-solving")
    result = solver(QUESTION)
    assert (result["solution"], result["valid"]) == (ANSWER, True)
    result = solver(HARD, num_attempts=64)
    assert result["valid"] and 1 <= result["attempts"] <= 64


def test_it_loads_by_name_and_is_small():
    model = HrmForPuzzleSolving.from_pretrained(hrm_hf.pretrained("sudoku-9x9"))
    HrmProcessor.from_pretrained(FOLDER).check_fits(model.config)
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 5_000_000
    assert {"README.md", "config.json", "model.safetensors", "processor_config.json"} <= {
        file.name for file in FOLDER.iterdir()
    }
    with pytest.raises(ArgumentError, match="no model 'sudoku-4x4' comes with hrm_hf; allowed: 'sudoku-9x9'"):
        pretrained("sudoku-4x4")
