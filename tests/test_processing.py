"""HrmProcessor: puzzles in every written form to token ids and back, saving, and clear errors."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from hrm_hf import HrmProcessor
from hrm_hf.errors import ArgumentError, CheckpointError, PuzzleError

# A 4x4 Sudoku with boxes of 2x2; token ids: blank 1, digit d is d + 1.
PUZZLE = "1..4..1..1..4..1"
SOLUTION = "1234341221434321"
GRID = np.array([int(cell) for cell in PUZZLE.replace(".", "0")], dtype=np.uint8).reshape(4, 4)
ANSWER = np.array([int(cell) for cell in SOLUTION], dtype=np.uint8).reshape(4, 4)
PUZZLE_IDS = (GRID.reshape(-1) + 1).tolist()
SOLUTION_IDS = (ANSWER.reshape(-1) + 1).tolist()

FORMS = {
    "string": (PUZZLE, SOLUTION),
    "nested list": (GRID.tolist(), ANSWER.tolist()),
    "flat list": (GRID.reshape(-1).tolist(), ANSWER.reshape(-1).tolist()),
    "uint8 array": (GRID, ANSWER),
    "flat float array": (GRID.reshape(-1).astype(np.float32), ANSWER.reshape(-1).astype(np.float32)),
    "tensor": (torch.from_numpy(GRID.astype(np.int64)), torch.from_numpy(ANSWER.astype(np.int64))),
}


@pytest.fixture
def processor():
    return HrmProcessor(task="sudoku", grid_shape=(4, 4))


@pytest.mark.parametrize("form", FORMS)
def test_solution_comes_back_in_the_form_of_the_puzzle(processor, form):
    puzzle, solution = FORMS[form]
    assert processor.encode(puzzle).tolist() == PUZZLE_IDS
    decoded = processor.decode(torch.tensor(SOLUTION_IDS), like=puzzle)
    assert type(decoded) is type(solution)
    if isinstance(solution, (np.ndarray, torch.Tensor)):
        assert decoded.shape == solution.shape and decoded.dtype == solution.dtype
        assert (decoded == solution).all()
    else:
        assert decoded == solution
    assert processor.is_valid(puzzle, decoded) is True


def test_call_makes_a_batch(processor):
    batch = processor([PUZZLE, GRID.tolist(), ANSWER], puzzle_identifiers=[0, 2, 1])
    assert batch["input_ids"].dtype == batch["puzzle_identifiers"].dtype == torch.int64
    assert batch["input_ids"].tolist() == [PUZZLE_IDS, PUZZLE_IDS, SOLUTION_IDS]
    assert batch["puzzle_identifiers"].tolist() == [0, 2, 1]
    assert list(batch) == processor.model_input_names


def test_call_takes_one_puzzle_and_other_tensors(processor):
    assert processor(PUZZLE)["input_ids"].shape == (1, 16)
    assert processor(GRID, puzzle_identifiers=3)["puzzle_identifiers"].tolist() == [3]
    arrays = processor([PUZZLE], return_tensors="np")
    assert arrays["input_ids"].dtype == arrays["puzzle_identifiers"].dtype == np.int64
    assert dict(processor([PUZZLE], return_tensors=None)) == {"input_ids": [PUZZLE_IDS], "puzzle_identifiers": [0]}
    assert processor([])["input_ids"].shape == (0, 16)


def test_batch_decode_writes_each_row_like_its_puzzle(processor):
    assert processor.batch_decode([SOLUTION_IDS, SOLUTION_IDS], [PUZZLE, GRID.tolist()]) == [SOLUTION, ANSWER.tolist()]


@pytest.mark.parametrize("illegal", [0, 1, 6, 300, -1])  # PAD, blank, outside the vocabulary on both sides
def test_illegal_answers_are_blanks_and_not_valid(processor, illegal):
    ids = [illegal, *SOLUTION_IDS[1:]]
    assert processor.decode(ids, like=PUZZLE) == "." + SOLUTION[1:]
    assert processor.decode(ids, like=GRID)[0, 0] == 0
    assert processor.is_valid(PUZZLE, processor.decode(ids, like=PUZZLE)) is False


@pytest.mark.parametrize(
    "solution",
    [
        "4" + SOLUTION[1:],  # changes a given and breaks a row
        "1243" + SOLUTION[4:],  # changes a given
        "1324" + SOLUTION[4:],  # keeps the givens, breaks columns
        SOLUTION[:-1],  # too short
        "x" * 16,
        ANSWER[::-1],  # a full Sudoku with other givens
    ],
)
def test_wrong_solutions_are_not_valid(processor, solution):
    assert processor.is_valid(PUZZLE, solution) is False


def test_save_and_load_by_auto_processor(tmp_path):
    saved = HrmProcessor(task="sudoku", grid_shape=[6, 6], box_shape=[3, 2])
    saved.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings == {
        "task": "sudoku",
        "grid_shape": [6, 6],
        "box_shape": [3, 2],
        "processor_class": "HrmProcessor",
    }
    for loaded in (HrmProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is HrmProcessor
        assert (loaded.task, loaded.grid_shape, loaded.box_shape) == ("sudoku", (6, 6), (3, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["processor_config.json"]


def test_folder_without_processor_is_an_error_not_a_default(tmp_path):
    with pytest.raises(CheckpointError, match="processor_config.json"):
        HrmProcessor.from_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="task"):
        HrmProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(("size", "box_shape", "vocab_size"), [(4, (2, 2), 6), (6, (2, 3), 8), (9, (3, 3), 11)])
def test_usual_sizes(size, box_shape, vocab_size):
    processor = HrmProcessor(grid_shape=(size, size))
    assert (processor.box_shape, processor.num_cells, processor.vocab_size) == (box_shape, size * size, vocab_size)
    assert processor.vocabulary[:3] == ["PAD", ".", "1"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"task": "chess"}, "'chess'.*'sudoku'"),
        ({"grid_shape": (9, 8)}, r"\(9, 8\).*square"),
        ({"grid_shape": (5, 5)}, r"\(5, 5\).*\(9, 9\)"),
        ({"grid_shape": (36, 36), "box_shape": (6, 6)}, r"\(36, 36\).*2 to 16"),
        ({"grid_shape": 9}, "grid_shape is 9"),
        ({"grid_shape": (9, "9")}, "grid_shape is"),
        ({"box_shape": (2, 3)}, r"\(2, 3\).*9 cells"),
        ({"box_shape": (3, 3, 3)}, "box_shape is"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, named):
    with pytest.raises(ArgumentError, match=named):
        HrmProcessor(**settings)


@pytest.mark.parametrize(
    ("puzzles", "named"),
    [
        ([PUZZLE, PUZZLE[1:]], "puzzle 1: .*15"),
        ([PUZZLE, PUZZLE, "x" + PUZZLE[1:]], "puzzle 2: .*'x'"),
        ("11" + PUZZLE[2:], "digit 1 stands twice in row 1"),
        ([None], "puzzle 0: .*NoneType"),
        (GRID.tolist(), "wrap one grid in a list"),
        (GRID.reshape(-1).tolist(), "wrap one grid in a list"),
        (["1..4", "..1.", ".1..", "4..1"], "wrap one grid in a list"),
        (np.stack([GRID, GRID]), r"\(2, 4, 4\)"),
    ],
)
def test_bad_puzzles_are_named(processor, puzzles, named):
    with pytest.raises(PuzzleError, match=named):
        processor(puzzles)


def test_hint_stays_away_from_real_batches(processor):
    for puzzles in ([PUZZLE] * 15 + [PUZZLE[1:]], [PUZZLE[:4]]):  # as many puzzles as cells; one, as long as a row
        with pytest.raises(PuzzleError) as error:
            processor(puzzles)
        assert "wrap" not in str(error.value)


@pytest.mark.parametrize("identifiers", [[0], [0, -1], [0.0, 1.0], [True, False], "ab"])
def test_bad_identifiers_are_named(processor, identifiers):
    with pytest.raises(PuzzleError, match="puzzle_identifiers"):
        processor([PUZZLE, PUZZLE], puzzle_identifiers=identifiers)


def test_other_arguments_are_checked(processor):
    with pytest.raises(ArgumentError, match="'tf'.*'np'"):
        processor(PUZZLE, return_tensors="tf")
    with pytest.raises(ArgumentError, match="15"):
        processor.decode(SOLUTION_IDS[1:])
