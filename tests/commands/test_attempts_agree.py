"""One puzzle with one seed gets one answer: from the pipeline, hrm-solve, hrm-evaluate and the queue itself."""

import re

import numpy as np
import torch
from safetensors.numpy import load_file
from sudoku_grids import ANSWER, QUESTION
from tiny_models import perturbed, tiny_model
from transformers import pipeline

from hrm_hf import HrmForPuzzleSolving, HrmProcessor, pretrained
from hrm_hf.commands import build, evaluate, solve
from hrm_hf.hrm.attempts import Attempts

HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
HARD_ANSWER = "812753649943682175675491283154237896369845721287169534521974368438526917796318452"
NUM, SEED = 3, 7


def test_all_ways_to_ask_agree(tmp_path, capsys):
    table = tmp_path / "puzzles.csv"
    table.write_text(f"question,answer\n{QUESTION},{ANSWER}\n{HARD},{HARD_ANSWER}\n")
    other = tmp_path / "other.csv"
    other.write_text(f"question,answer\n{ANSWER[:30]}...{ANSWER[33:]},{ANSWER}\n")
    built = [
        "sudoku",
        "--output-dir",
        str(tmp_path / "data"),
        "--train-source",
        str(other),
        "--test-source",
        str(table),
    ]
    assert build.main(built) == 0
    folder = pretrained("sudoku-9x9")
    asked = ["--attempts", str(NUM), "--seed", str(SEED)]
    scored = ["--checkpoint", folder, "--data", str(tmp_path / "data" / "test.h5"), "--batch-size", "2"]
    saved, plot = tmp_path / "answers.safetensors", tmp_path / "curve.png"
    assert evaluate.main([*scored, *asked, "--save-predictions", str(saved), "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG") and re.search(r"attempts +exact_accuracy +segments\n +1 ", said)
    answers, solver = load_file(saved), pipeline("puzzle-solving")
    processor = HrmProcessor.from_pretrained(folder)
    model = HrmForPuzzleSolving.from_pretrained(folder)
    for place, puzzle in enumerate((QUESTION, HARD)):
        result = solver(puzzle, num_attempts=NUM, seed=SEED)
        attempts = Attempts(processor, NUM, seed=SEED)
        (row,) = model.solve_queue([(processor.encode(puzzle), 0)], 1, attempts=attempts)
        assert (row.segments, row.attempts) == (result["segments"], result["attempts"])
        assert processor.decode(row.sequence, like=puzzle) == result["solution"]
        np.testing.assert_array_equal(answers["sequences"][place], row.sequence)
        assert answers["segments"][place] == row.segments
        assert solve.main([puzzle, *asked]) == 0
        *_, drawn, summary = capsys.readouterr().out.split("\n\n")
        assert re.sub(r"[^1-9.]", "", drawn) == result["solution"] and summary.startswith(f"{row.segments} segment(s)")


def test_refusals_of_evaluate_come_before_the_work(tmp_path, capsys):
    folder = pretrained("sudoku-9x9")
    for words, named in {
        ("--attempts", "0"): "--attempts is 0; it must be 1 or more",
        ("--strategy", "noise"): "--strategy says something about attempts: give --attempts N too",
        ("--attempts", "2", "--plot", "curve.jpg"): "--plot curve.jpg: a plot is a PNG file",
        ("--attempts", "2", "--plot", "no/curve.png"): "--plot no/curve.png: there is no folder no",
        ("--save-predictions", str(tmp_path)): f"--save-predictions {tmp_path} is a folder: name a file",
        ("--submission", str(tmp_path)): f"--submission {tmp_path} is a folder: name a file",
    }.items():
        assert evaluate.main(["--checkpoint", folder, "--data", str(tmp_path / "no.h5"), *words]) == 2
        assert named in capsys.readouterr().err


def test_steps_on_the_command_line_are_those_of_the_engine(tmp_path, capsys):
    torch.manual_seed(0)
    model = perturbed(tiny_model())
    model.save_pretrained(tmp_path)
    HrmProcessor(grid_shape=(4, 4)).save_pretrained(tmp_path)
    asked = ["--attempts", "3", "--strategy", "noise", "--steps"]
    assert solve.main(["--checkpoint", str(tmp_path), "1..............4", *asked]) == 0
    said = capsys.readouterr().out
    steps = re.findall(r"attempt (\d+), segment (\d+): confidence", said)
    assert [int(attempt) for attempt, _ in steps] == sorted(int(attempt) for attempt, _ in steps)
    assert {attempt for attempt, _ in steps} == {"1", "2", "3"}
    assert f"{len(steps)} segment(s) in 3 attempts" in said
