"""HrmProcessor: puzzles in every written form to token ids and back, names of identifiers, saving, clear errors."""

import json
import os

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from hrm_hf import HrmProcessor
from hrm_hf.hrm.errors import ArgumentError, CheckpointError, PuzzleError
from hrm_hf.hrm.puzzle_codecs import CODECS, PuzzleCodec
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, FILE_NAME, PuzzleIdentifiers

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
    "bfloat16 tensor": (torch.from_numpy(GRID).bfloat16(), torch.from_numpy(ANSWER).bfloat16()),
    "lines": ("1..4\n..1.\n.1..\n4..1\n", "1234\n3412\n2143\n4321"),
}
NAMES = PuzzleIdentifiers([BLANK_NAME, "task_a", "task_a_t1_0123456789"])

MAZE = "S# \n   \n# G"
MAZE_ANSWER = "S# \noo \n#oG"
MAZE_IDS = [3, 1, 2, 2, 2, 2, 1, 2, 4]
MAZE_ANSWER_IDS = [3, 1, 2, 5, 5, 2, 1, 5, 4]
MAZE_FORMS = {
    "lines": (MAZE, MAZE_ANSWER),
    "run": (MAZE.replace("\n", ""), MAZE_ANSWER.replace("\n", "")),
    "list of lines": (MAZE.split("\n"), MAZE_ANSWER.split("\n")),
    "nested list": ([[2, 0, 1], [1, 1, 1], [0, 1, 3]], [[2, 0, 1], [4, 4, 1], [0, 4, 3]]),
    "array": (np.array([[2, 0, 1], [1, 1, 1], [0, 1, 3]]), np.array([[2, 0, 1], [4, 4, 1], [0, 4, 3]])),
}

# In a frame of 4x4: a grid of 1x2 with its lines of EOS, and an answer of 2x1.
ARC_IDS = [3, 4, 1, 0, 1, 1] + [0] * 10
ARC_ANSWER_IDS = [5, 1, 0, 0, 6, 1, 0, 0, 1] + [0] * 7
ARC_FORMS = {
    "nested list": ([[1, 2]], [[3], [4]]),
    "array": (np.array([[1, 2]], np.int16), np.array([[3], [4]], np.int16)),
    "tensor": (torch.tensor([[1, 2]]), torch.tensor([[3], [4]])),
    "lines": ("12", "3\n4"),
    "list of lines": (["12"], ["3", "4"]),
}


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, (np.ndarray, torch.Tensor)):
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert (found == expected).all()
    else:
        assert found == expected


@pytest.fixture
def processor():
    return HrmProcessor(task="sudoku", grid_shape=(4, 4))


@pytest.mark.parametrize("form", FORMS)
def test_solution_comes_back_in_the_form_of_the_puzzle(processor, form):
    puzzle, solution = FORMS[form]
    assert processor.encode(puzzle).tolist() == PUZZLE_IDS
    decoded = processor.decode(torch.tensor(SOLUTION_IDS), like=puzzle)
    assert_same(decoded, solution)
    assert processor.is_valid(puzzle, decoded) is True


@pytest.mark.parametrize("form", MAZE_FORMS)
def test_mazes_in_each_form(form):
    processor = HrmProcessor(task="maze", grid_shape=(3, 3))
    puzzle, solution = MAZE_FORMS[form]
    assert processor.encode(puzzle).tolist() == MAZE_IDS
    decoded = processor.decode(MAZE_ANSWER_IDS, like=puzzle)
    assert_same(decoded, solution)
    assert processor.is_valid(puzzle, decoded) is True
    assert processor.is_valid(puzzle, processor.decode(MAZE_IDS, like=puzzle)) is False  # no path
    with pytest.raises(PuzzleError, match="path"):  # an answer is no question
        processor.encode(solution)


@pytest.mark.parametrize("form", ARC_FORMS)
def test_arc_grids_in_each_form(form):
    processor = HrmProcessor(task="arc", grid_shape=(4, 4))
    puzzle, solution = ARC_FORMS[form]
    assert processor.encode(puzzle).tolist() == ARC_IDS
    assert_same(processor.decode(ARC_ANSWER_IDS, like=puzzle), solution)
    assert processor.is_valid(puzzle, solution) is None
    assert len(processor.decode([0] * 16, like=puzzle)) == 0  # an answer without cells


def test_grids_are_drawn(processor):
    assert processor.draw(PUZZLE) == processor.draw(GRID) == "1 . | . 4\n. . | 1 .\n----+----\n. 1 | . .\n4 . | . 1"
    assert "|S# |" in HrmProcessor(task="maze", grid_shape=(3, 3)).draw(MAZE)
    assert HrmProcessor(task="arc", grid_shape=(4, 4)).draw([[1, 2]]) == "1 2"


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(4, 4, dtype=torch.complex64), torch.zeros(4, 4).to_sparse(), torch.zeros(4, 4, device="meta")],
)
def test_tensors_that_hold_no_cells_are_named(processor, tensor):
    with pytest.raises(PuzzleError):
        processor.encode(tensor)


def test_a_task_of_ones_own(monkeypatch, tmp_path):
    def read(puzzle, grid_shape, box_shape):
        return np.array([list(map(".#".index, row)) for row in puzzle.split()])

    monkeypatch.setitem(CODECS, "lights", PuzzleCodec(vocabulary=lambda grid_shape: ["PAD", ".", "#"], read=read))
    HrmProcessor(task="lights", grid_shape=(2, 3)).save_pretrained(tmp_path)
    processor = HrmProcessor.from_pretrained(tmp_path)
    assert processor(["..#\n#.."])["input_ids"].tolist() == [[1, 1, 2, 2, 1, 1]]
    assert processor.decode([2, 1, 1, 1, 1, 0], like="..#\n#..") == processor.draw("#..\n...") == "#..\n..."
    assert processor.is_valid("..#\n#..", "...\n...") is None
    with pytest.raises(PuzzleError, match=r"\(2, 2\).*\(2, 3\)"):
        processor.encode("..\n##")
    monkeypatch.delitem(CODECS, "lights")
    with pytest.raises(ArgumentError, match="'lights'.*CODECS"):
        HrmProcessor.from_pretrained(tmp_path)


def test_cells_outside_the_vocabulary_are_named(monkeypatch):
    codec = PuzzleCodec(vocabulary=lambda shape: ["PAD", ".", "#"], read=lambda puzzle, shape, box: np.array(puzzle))
    monkeypatch.setitem(CODECS, "lights", codec)
    with pytest.raises(PuzzleError, match="row 2, column 1 has the token id 3.*vocabulary of 3"):
        HrmProcessor(task="lights", grid_shape=(2, 2)).encode([[0, 1], [2, 0]])


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


def test_names_are_saved_beside_the_settings(tmp_path):
    saved = HrmProcessor(grid_shape=(4, 4), puzzle_identifiers=NAMES)
    files = saved.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"processor_config.json", FILE_NAME}
    assert sorted(files) == sorted(str(path) for path in tmp_path.iterdir())
    assert "task_a" not in (tmp_path / "processor_config.json").read_text() and "task_a" not in repr(saved)
    assert saved.puzzle_identifiers is NAMES  # saving leaves the processor as it was
    for loaded in (
        HrmProcessor.from_pretrained(tmp_path),
        HrmProcessor.from_pretrained(tmp_path / "processor_config.json"),
        AutoProcessor.from_pretrained(tmp_path),
    ):
        assert loaded.puzzle_identifiers == NAMES and loaded.num_puzzle_identifiers == 3
    HrmProcessor(grid_shape=(4, 4)).save_pretrained(tmp_path)  # nobody's names must not stay behind
    assert HrmProcessor.from_pretrained(tmp_path).puzzle_identifiers is None
    assert HrmProcessor.from_pretrained(tmp_path).num_puzzle_identifiers == 1
    (tmp_path / FILE_NAME).write_text("a\na\n")
    with pytest.raises(CheckpointError, match=FILE_NAME):
        HrmProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("how", ["save_pretrained", "push_to_hub"])
def test_pushing_uploads_the_names_too(monkeypatch, tmp_path, how):
    class Repository:
        repo_id = "me/model"

        def create_repo(self, repo_id, **kwargs):
            assert repo_id == "model"
            return self

        def save(self, path):
            pass

    uploaded = []
    monkeypatch.setattr("transformers.utils.hub.hf_api", Repository)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *args, **kwargs: Repository())
    monkeypatch.setattr(
        HrmProcessor,
        "_upload_modified_files",
        lambda self, folder, repo_id, **kwargs: uploaded.extend([repo_id, *sorted(os.listdir(folder))]),
    )
    processor = HrmProcessor(puzzle_identifiers=NAMES)
    if how == "push_to_hub":
        processor.push_to_hub("model")
    else:
        processor.save_pretrained(tmp_path / "model", push_to_hub=True)
    assert uploaded == ["me/model", "processor_config.json", FILE_NAME]


def test_identifiers_may_be_names():
    processor = HrmProcessor(grid_shape=(4, 4), puzzle_identifiers=NAMES)
    batch = processor([PUZZLE] * 3, puzzle_identifiers=["task_a_t1_0123456789", 1, BLANK_NAME])
    assert batch["puzzle_identifiers"].tolist() == [2, 1, 0]
    assert processor(PUZZLE, puzzle_identifiers="task_a")["puzzle_identifiers"].tolist() == [1]
    assert processor([PUZZLE], puzzle_identifiers=torch.tensor([2]))["puzzle_identifiers"].tolist() == [2]
    with pytest.raises(PuzzleError, match="'task_b'.*task_a"):
        processor(PUZZLE, puzzle_identifiers="task_b")
    with pytest.raises(PuzzleError, match="3; allowed: names and 0 to 2"):
        processor(PUZZLE, puzzle_identifiers=3)
    with pytest.raises(PuzzleError, match=f"'task_a'.*{FILE_NAME}"):
        HrmProcessor(grid_shape=(4, 4))(PUZZLE, puzzle_identifiers="task_a")


def test_folder_without_processor_is_an_error_not_a_default(tmp_path):
    with pytest.raises(CheckpointError, match="processor_config.json.*'sudoku', 'maze', 'arc'"):
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
        ({"grid_shape": (36, 36), "box_shape": (6, 6)}, r"\(36, 36\).*2 to 25"),
        ({"grid_shape": 9}, "grid_shape is 9"),
        ({"grid_shape": (9, "9")}, "grid_shape is"),
        ({"box_shape": (2, 3)}, r"\(2, 3\).*9 cells"),
        ({"box_shape": (3, 3, 3)}, "box_shape is"),
        ({"task": "maze", "box_shape": (3, 3)}, "box_shape is"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, named):
    with pytest.raises(ArgumentError, match=named):
        HrmProcessor(**settings)


@pytest.mark.parametrize(
    ("puzzles", "named"),
    [
        ([PUZZLE, PUZZLE[1:]], "puzzle 1: .*15"),
        ([PUZZLE, PUZZLE, "y" + PUZZLE[1:]], "puzzle 2: .*'y'"),
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


def test_hint_knows_the_rows_of_an_arc_grid():
    processor = HrmProcessor(task="arc", grid_shape=(30, 30))
    with pytest.raises(PuzzleError, match="wrap one grid in a list"):
        processor([[1, 2], [3, 4]])


def test_other_arguments_are_checked(processor):
    with pytest.raises(ArgumentError, match="'tf'.*'np'"):
        processor(PUZZLE, return_tensors="tf")
    with pytest.raises(ArgumentError, match=r"ids of shape .15,.; expected .16,."):
        processor.decode(SOLUTION_IDS[1:])
