"""The pipeline "puzzle-solving": forms, batches, streams, parameters; on fresh weights and a model that knows all."""

import json
import math
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hrm_hf import HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.hrm.arc import ArcAugmentation, cut, frame
from hrm_hf.hrm.errors import ArgumentError, CheckpointError, PuzzleError
from hrm_hf.hrm.modeling_hrm import HrmSolveOutput
from hrm_hf.hrm.pipeline_puzzle import PuzzleSolvingPipeline, check_finite
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers
from hrm_hf.hrm.solving import SolvedRow

PUZZLE = "1..4..1..1..4..1"
SOLUTION = "1234341221434321"
GRID = np.array([int(cell) for cell in PUZZLE.replace(".", "0")], dtype=np.int16).reshape(4, 4)
ANSWER = np.array([int(cell) for cell in SOLUTION], dtype=np.int16).reshape(4, 4)

CONFIG = dict(
    vocab_size=6,
    seq_len=16,
    hidden_size=32,
    num_attention_heads=2,
    H_layers=1,
    L_layers=1,
    num_puzzle_identifiers=4,
    puzzle_emb_ndim=32,
    halt_max_steps=3,
)


class BatchByBatch(HrmForPuzzleSolving):
    """Answers a queue in whole batches by its own `solve`, which a test sets."""

    def solve_queue(self, rows, batch_size, **how):
        rows = iter(rows)
        while batch := list(islice(rows, batch_size)):
            input_ids, identifiers = zip(*batch, strict=True)
            out = self.solve(torch.from_numpy(np.stack(input_ids)), torch.tensor(identifiers), **how)
            yield from map(SolvedRow, out.sequences.numpy(), out.segments.tolist(), out.q_halt_logits.tolist())


class KnowingModel(BatchByBatch):
    """Answers every puzzle with SOLUTION after identifier + 1 segments, and records how it was asked."""

    def __init__(self, config):
        super().__init__(config)
        self.calls = []

    def solve(self, input_ids, puzzle_identifiers=None, max_segments=None, halt=True):
        self.calls.append({"batch": len(input_ids), "max_segments": max_segments, "halt": halt})
        sequences = torch.tensor([int(cell) + 1 for cell in SOLUTION]).repeat(len(input_ids), 1)
        return HrmSolveOutput(
            sequences=sequences,
            segments=puzzle_identifiers + 1,
            q_halt_logits=torch.full((len(input_ids),), math.log(3.0)),
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    HrmForPuzzleSolving(HrmConfig(**CONFIG)).save_pretrained(folder)
    HrmProcessor(grid_shape=(4, 4)).save_pretrained(folder)
    return folder


@pytest.fixture
def solver():
    model = KnowingModel(HrmConfig(**CONFIG))
    return pipeline("puzzle-solving", model=model, processor=HrmProcessor(grid_shape=(4, 4)), device="cpu")


def test_folder_to_solved_puzzle(folder):
    solver = pipeline("puzzle-solving", model=str(folder), device="cpu", local_files_only=True)
    assert type(solver) is PuzzleSolvingPipeline
    result = solver(PUZZLE)
    assert set(result) == {"solution", "segments", "confidence", "valid"}
    assert len(result["solution"]) == 16
    assert type(result["segments"]) is int and 1 <= result["segments"] <= 3
    assert type(result["confidence"]) is float and 0 < result["confidence"] < 1
    assert result["valid"] is False  # fresh weights solve nothing


def test_pipeline_gives_what_the_model_gives(folder):
    model = HrmForPuzzleSolving.from_pretrained(folder)
    processor = HrmProcessor.from_pretrained(folder)
    solver = pipeline("puzzle-solving", model=model, processor=str(folder), device="cpu")
    result = solver(PUZZLE, halt=False)
    out = model.solve(**processor(PUZZLE), halt=False)
    assert result["solution"] == processor.decode(out.sequences[0], like=PUZZLE)
    assert result["segments"] == 3
    assert result["confidence"] == pytest.approx(float(out.q_halt_logits[0].sigmoid()), abs=1e-6)


def test_answers_do_not_depend_on_the_batch_size(folder):
    solver = pipeline("puzzle-solving", model=str(folder), device="cpu", max_segments=2)
    puzzles = [PUZZLE, SOLUTION, "." * 16, {"puzzle": PUZZLE, "puzzle_identifier": 3}, GRID]
    one_by_one, together = (solver(puzzles, batch_size=size) for size in (1, 5))
    for single, batched in zip(one_by_one, together):
        assert np.array_equal(single["solution"], batched["solution"])
        assert single["segments"] == batched["segments"] <= 2
        assert single["confidence"] == pytest.approx(batched["confidence"], abs=1e-5)


@pytest.mark.parametrize(
    ("puzzle", "solution"),
    [
        (PUZZLE, SOLUTION),
        (GRID, ANSWER),
        (GRID.reshape(-1), ANSWER.reshape(-1)),
        ({"puzzle": GRID.tolist()}, ANSWER.tolist()),
        ({"puzzle": PUZZLE, "puzzle_identifier": 0}, SOLUTION),
    ],
)
def test_one_grid_in_each_form(solver, puzzle, solution):
    result = solver(puzzle)
    assert type(result["solution"]) is type(solution)
    assert np.array_equal(result["solution"], solution)
    assert (result["segments"], result["valid"]) == (1, True)
    assert result["confidence"] == pytest.approx(0.75)


def test_the_model_computes_in_the_dtype_that_is_asked_for(folder):
    """The solution may be the same; the confidence tells bfloat16 from float32."""
    exact, coarse = (
        pipeline("puzzle-solving", model=str(folder), device="cpu", compute_dtype=name, max_segments=1)
        for name in ("float32", "bfloat16")
    )
    with torch.no_grad():
        exact.model.q_head.weight.normal_(generator=torch.Generator().manual_seed(0))
        coarse.model.q_head.weight.copy_(exact.model.q_head.weight)
    confidences = [exact(PUZZLE)["confidence"], coarse(PUZZLE)["confidence"]]
    assert exact(PUZZLE, compute_dtype="bfloat16")["confidence"] == confidences[1] != confidences[0]
    assert coarse.model.config.compute_dtype == "float32"


def test_answer_to_another_question_is_not_valid(solver):
    assert solver("2" + "." * 15)["valid"] is False


def test_list_is_always_a_batch_and_may_mix_forms(solver):
    results = solver([PUZZLE, GRID.tolist(), {"puzzle": GRID, "puzzle_identifier": 2}], batch_size=2)
    assert results[0]["solution"] == SOLUTION
    assert results[1]["solution"] == ANSWER.tolist()
    assert results[2]["solution"].dtype == np.int16
    assert [result["segments"] for result in results] == [1, 1, 3]
    assert [call["batch"] for call in solver.model.calls] == [2, 1]
    assert solver([PUZZLE])[0]["solution"] == SOLUTION
    assert solver([]) == []


def test_streams_are_read_as_answers_are_taken(solver):
    read = []

    def puzzles():
        for index in range(5):
            read.append(index)
            yield PUZZLE

    results = solver(puzzles(), batch_size=2)
    assert next(results)["solution"] == SOLUTION
    assert read == [0, 1]
    assert len(list(results)) == 4


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_stream_gives_the_answers_before_a_bad_item(folder, batch_size):
    solver = pipeline("puzzle-solving", model=str(folder), device="cpu")
    results, found = solver(iter([PUZZLE, SOLUTION, GRID, "no puzzle", PUZZLE]), batch_size=batch_size), []
    with pytest.raises(PuzzleError, match="^item 3: "):
        for result in results:
            found.append(result["solution"])
    assert len(found) == 3 and len(found[0]) == 16 and found[2].shape == (4, 4)


def test_datasets_are_streams(solver):
    class Rows(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"question": PUZZLE, "index": index}

    class Stream(IterableDataset):
        def __iter__(self):
            return iter([PUZZLE, GRID])

    assert [result["solution"] for result in solver(KeyDataset(Rows(), "question"))] == [SOLUTION] * 3
    assert len(list(solver(Stream()))) == 2
    with pytest.raises(PuzzleError, match="item 0: .*'question', 'index'"):
        list(solver(Rows()))


def test_parameters_of_the_call_come_before_those_of_the_pipeline():
    model = KnowingModel(HrmConfig(**CONFIG))
    processor = HrmProcessor(grid_shape=(4, 4))
    solver = pipeline(
        "puzzle-solving", model=model, processor=processor, max_segments=7, halt=False, batch_size=1, device="cpu"
    )
    solver([PUZZLE, PUZZLE])
    solver([PUZZLE, PUZZLE], max_segments=2, halt=True, batch_size=2)
    assert model.calls == [
        {"batch": 1, "max_segments": 7, "halt": False},
        {"batch": 1, "max_segments": 7, "halt": False},
        {"batch": 2, "max_segments": 2, "halt": True},
    ]


@pytest.mark.parametrize(
    ("puzzles", "named"),
    [
        ([PUZZLE, PUZZLE, PUZZLE[1:]], "item 2: .*15"),
        ([PUZZLE, "y" + PUZZLE[1:]], "item 1: .*'y'"),
        ([PUZZLE, "11" + PUZZLE[2:]], "item 1: .*row 1"),
        ([PUZZLE, {"puzzle": PUZZLE, "puzzle_identifier": 4}], "item 1: puzzle_identifier is 4; .*0 to 3"),
        ({"puzzle": PUZZLE, "puzzle_identifier": -1}, "puzzle_identifiers hold -1"),
        ({"puzzle": PUZZLE, "puzzle_identifier": True}, "puzzle_identifiers hold True"),
        ({"puzzle": PUZZLE, "puzzle_identifier": "somebody"}, "'somebody'.*no names"),
        ({"task": {"train": [], "test": [{"input": [[1]]}]}, "name": "a"}, "for ARC.*'sudoku'"),
        ({"grid": PUZZLE}, "'grid'.*'puzzle_identifier'"),
        ({"puzzle": PUZZLE, "id": 1}, "'id'"),
        (GRID.tolist(), "item 0: .*wrap one grid in a list"),
        (GRID.reshape(-1).tolist(), "item 0: .*wrap one grid in a list"),
        ((PUZZLE, PUZZLE), "type tuple.*list as a batch"),
        (tuple(map(tuple, GRID.tolist())), "type tuple"),
        (7, "type int"),
        (None, "type NoneType"),
        ([PUZZLE, None], "item 1: .*NoneType"),
    ],
)
def test_bad_items_are_named_before_any_is_solved(solver, puzzles, named):
    with pytest.raises(PuzzleError, match=named):
        solver(puzzles, batch_size=1)
    assert solver.model.calls == []


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"max_segments": 0}, "max_segments is 0"),
        ({"max_segments": 2.0}, "max_segments is 2.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"halt": 1}, "halt is 1"),
        ({"compute_dtype": "float16"}, "compute_dtype is 'float16'; allowed: 'float32', 'bfloat16'"),
        ({"compute_dtype": ["float32"]}, r"compute_dtype is \['float32'\]; allowed: 'float32', 'bfloat16'"),
        ({"num_augmentations": 0}, "num_augmentations is 0"),
        ({"temperature": 1.0}, "'temperature'.*max_segments, halt, compute_dtype, batch_size"),
    ],
)
def test_bad_parameters_are_named(solver, folder, parameters, named):
    with pytest.raises(ArgumentError, match=named):
        solver(PUZZLE, **parameters)
    with pytest.raises(ArgumentError, match=named):
        pipeline("puzzle-solving", model=str(folder), **parameters)


def test_missing_processor_is_named(folder, tmp_path):
    model = HrmForPuzzleSolving.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path.name}.*processor_config.json"):
        pipeline("puzzle-solving", model=str(tmp_path))
    with pytest.raises(CheckpointError, match="processor="):
        PuzzleSolvingPipeline(model=model)
    with pytest.raises(OSError, match="nowhere"):  # no silent use of the processor beside the model
        pipeline("puzzle-solving", model=str(folder), processor=str(tmp_path / "nowhere"))


def test_model_and_processor_of_other_sizes_are_named(folder, tmp_path):
    with pytest.raises(CheckpointError, match="16 cells with 6 token ids.*9x9 has 81 cells and 11"):
        pipeline("puzzle-solving", model=str(folder), processor=HrmProcessor())


def test_model_and_names_of_other_numbers_are_named(folder):
    names = PuzzleIdentifiers([BLANK_NAME, "a"])
    with pytest.raises(CheckpointError, match="4 rows.*2 names"):
        pipeline(
            "puzzle-solving", model=str(folder), processor=HrmProcessor(grid_shape=(4, 4), puzzle_identifiers=names)
        )


MAZE = "S# \n   \n# G"
MAZE_ANSWER = "S# \noo \n#oG"


class KnowingMazeModel(BatchByBatch):
    """Answers the maze MAZE with MAZE_ANSWER."""

    def solve(self, input_ids, puzzle_identifiers=None, max_segments=None, halt=True):
        answer = torch.tensor([1 + "# SGo".index(cell) for cell in MAZE_ANSWER.replace("\n", "")])
        return HrmSolveOutput(
            sequences=answer.repeat(len(input_ids), 1),
            segments=torch.ones_like(puzzle_identifiers),
            q_halt_logits=torch.zeros(len(input_ids)),
        )


def test_mazes_come_back_in_their_form():
    model = KnowingMazeModel(HrmConfig(**(CONFIG | dict(seq_len=9))))
    solver = pipeline("puzzle-solving", model=model, processor=HrmProcessor(task="maze", grid_shape=(3, 3)))
    grid = np.array([[2, 0, 1], [1, 1, 1], [0, 1, 3]])
    lines, listed, array = solver([MAZE, {"puzzle": MAZE.split("\n")}, grid])
    assert lines == {"solution": MAZE_ANSWER, "segments": 1, "confidence": 0.5, "valid": True}
    assert listed["solution"] == MAZE_ANSWER.split("\n")
    assert array["solution"].tolist() == [[2, 0, 1], [4, 4, 1], [0, 4, 3]]
    assert solver("S  \n   \n  G")["valid"] is False  # the answer to another maze
    with pytest.raises(PuzzleError, match="item 1: .*2 S"):
        solver([MAZE, MAZE.replace("G", "S")])
    with pytest.raises(PuzzleError, match="wrap one grid in a list"):
        solver(MAZE.split("\n"))


ARC_NAMES = PuzzleIdentifiers(
    [BLANK_NAME, "aaaa_t1_0213456789", "aaaa", "bbbb", "aaaa_t6_0123456798", "aaaa_t4_0123456789"]
)
ARC_GRIDS = [[[1, 2, 3], [0, 9, 8]], [[5, 0]]]
ARC_TASK = {"train": [], "test": [{"input": grid} for grid in ARC_GRIDS]}


class KnowingArcModel(BatchByBatch):
    """Turns every grid upside down, as each variant's identifier sees it; but under number 4 it says [[7]]."""

    def __init__(self, config):
        super().__init__(config)
        self.batches = []

    def solve(self, input_ids, puzzle_identifiers=None, max_segments=None, halt=True):
        self.batches.append(puzzle_identifiers.tolist())
        answers = []
        for ids, identifier in zip(input_ids.numpy(), puzzle_identifiers.tolist()):
            _, augmentation = ArcAugmentation.parse(ARC_NAMES.names[identifier])
            grid = augmentation.undo(cut(ids.reshape(6, 6)))
            answer = np.full((1, 1), 7) if identifier == 4 else grid[::-1]
            answers.append(frame(augmentation.apply(answer), (6, 6)).reshape(-1).astype(np.int64))
        return HrmSolveOutput(
            sequences=torch.from_numpy(np.stack(answers)),
            segments=puzzle_identifiers + 1,
            q_halt_logits=puzzle_identifiers.float(),
        )


@pytest.fixture
def arc_solver():
    model = KnowingArcModel(HrmConfig(**(CONFIG | dict(vocab_size=12, seq_len=36, num_puzzle_identifiers=6))))
    processor = HrmProcessor(task="arc", grid_shape=(6, 6), puzzle_identifiers=ARC_NAMES)
    return pipeline("puzzle-solving", model=model, processor=processor)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_arc_task_is_voted_on(arc_solver, batch_size):
    result = arc_solver({"task": ARC_TASK, "name": "aaaa"}, batch_size=batch_size)
    upside_down = [grid[::-1] for grid in ARC_GRIDS]
    assert result["solutions"] == upside_down
    assert result["attempts"] == [[grid, [[7]]] for grid in upside_down]
    assert result["votes"] == [3, 3]
    sure = [1 / (1 + math.exp(-identifier)) for identifier in (1, 2, 5)]
    assert result["confidence"] == pytest.approx([sum(sure) / 3] * 2)
    assert result["segments"] == [4.0, 4.0]  # mean of 2, 3, 5, 6
    assert result["num_augmentations"] == 4
    asked = [identifier for batch in arc_solver.model.batches for identifier in batch]
    assert asked == [2, 1, 4, 5] * 2  # the original first
    assert max(map(len, arc_solver.model.batches)) == min(batch_size, 8)


def test_num_augmentations_takes_the_original_first(arc_solver):
    result = arc_solver({"task": ARC_TASK, "name": "aaaa"}, num_augmentations=1)
    assert arc_solver.model.batches == [[2, 2]]
    assert result["attempts"] == [[grid[::-1]] for grid in ARC_GRIDS]
    assert (result["votes"], result["num_augmentations"]) == ([1, 1], 1)


def test_arc_tasks_and_grids_share_batches(arc_solver):
    items = [
        {"puzzle": ARC_GRIDS[0], "puzzle_identifier": "bbbb"},
        {"task": ARC_TASK, "name": "aaaa"},
        {"puzzle": np.array(ARC_GRIDS[1]), "puzzle_identifier": 3},
        {"task": {**ARC_TASK, "test": [{"input": [[4], [6]], "output": [[1]]}]}, "name": "bbbb"},
    ]
    for results in (arc_solver(items, batch_size=4), list(arc_solver(iter(items), batch_size=4))):
        assert results[0]["solution"] == ARC_GRIDS[0][::-1] and results[0]["valid"] is None
        assert results[1]["solutions"] == [grid[::-1] for grid in ARC_GRIDS]
        assert results[2]["solution"].tolist() == ARC_GRIDS[1]
        assert results[3]["solutions"] == [[[6], [4]]]
    assert [len(batch) for batch in arc_solver.model.batches] == [4, 4, 3] * 2


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({"task": ARC_TASK, "name": "aaab"}, "task 'aaab'.*not trained on.*aaaa"),
        ({"task": ARC_TASK, "name": "aaaa_t1_0213456789"}, "aaaa_t1_0213456789"),
        ({"task": ARC_TASK, "name": 7}, "7"),
        ({"task": ARC_TASK}, "'task'.*'name'"),
        ({"task": ARC_TASK, "name": "aaaa", "puzzle": [[1]]}, "'puzzle'.*'task' and 'name'"),
        ({"task": {"train": []}, "name": "aaaa"}, "aaaa.*'test'"),
        ({"task": {"train": [], "test": []}, "name": "aaaa"}, "aaaa.*test"),
        ({"task": {"train": [], "test": [{"input": [[1, 2], [3]]}]}, "name": "aaaa"}, "aaaa.*test pair 1.*row 2"),
        ({"task": {"train": [], "test": [{"input": [[1] * 7]}]}, "name": "aaaa"}, "aaaa.*1 x 7 cells"),
        ({"puzzle": [[1, 10]], "puzzle_identifier": "bbbb"}, "10 at row 1, column 2"),
        ({"puzzle": [[1]], "puzzle_identifier": "bbbc"}, "'bbbc'.*bbbb"),
        ({"puzzle": [[1]], "puzzle_identifier": 6}, "puzzle_identifiers hold 6; allowed: names and 0 to 5"),
    ],
)
def test_bad_arc_items_are_named(arc_solver, item, named):
    with pytest.raises(PuzzleError, match=named):
        arc_solver(item)
    with pytest.raises(PuzzleError, match=f"item 1: .*{named}"):
        arc_solver([{"task": ARC_TASK, "name": "aaaa"}, item])
    assert arc_solver.model.batches == []


def test_arc_model_without_names_says_so():
    model = KnowingArcModel(HrmConfig(**(CONFIG | dict(vocab_size=12, seq_len=36, num_puzzle_identifiers=6))))
    solver = pipeline("puzzle-solving", model=model, processor=HrmProcessor(task="arc", grid_shape=(6, 6)))
    with pytest.raises(PuzzleError, match="no names"):
        solver({"task": ARC_TASK, "name": "aaaa"})


def test_saved_pipeline_loads_without_remote_code(folder, tmp_path):
    solver = pipeline("puzzle-solving", model=str(folder), device="cpu")
    solver.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    assert pipeline("puzzle-solving", model=str(tmp_path), device="cpu")(PUZZLE) == solver(PUZZLE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(folder, tmp_path, value):
    model = HrmForPuzzleSolving.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[2, 3] = value
    with pytest.raises(CheckpointError, match="the tensor lm_head.weight holds NaN or infinity"):
        pipeline("puzzle-solving", model=model, processor=HrmProcessor(grid_shape=(4, 4)))
    model.save_pretrained(tmp_path)
    HrmProcessor(grid_shape=(4, 4)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: the tensor lm_head.weight holds NaN or infinity"):
        pipeline("puzzle-solving", model=str(tmp_path), device="cpu")


def test_weights_elsewhere_are_not_looked_at(folder):
    model = HrmForPuzzleSolving.from_pretrained(folder)
    model.lm_head.to("meta")  # as Accelerate leaves a module whose weights are on the disk
    check_finite(model, "the model")
