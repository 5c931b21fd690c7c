"""The codecs of the tasks: ids against the golden arrays, frames, defaults for a task of one's own."""

import numpy as np
import paths
import pytest
import torch

from hrm_hf import HrmProcessor
from hrm_hf.hrm.errors import ArgumentError, PuzzleError
from hrm_hf.hrm.grids import check_grids, read_grid
from hrm_hf.hrm.puzzle_codecs import CODECS, PuzzleCodec

GOLDEN = paths.GOLDEN / "G"
MAZE = "S #\n   \n# G"


def test_arc_grids_are_framed_top_left_and_cut():
    codec = CODECS["arc"]
    with np.load(GOLDEN / "arc_sequences.npz") as golden:
        for case in range(4):
            for part in ("input", "output"):
                grid = golden[f"case{case}.{part}"]
                ids = codec.encode(codec.read(grid, (30, 30), None), (30, 30))
                assert np.array_equal(ids.reshape(-1), golden[f"case{case}.plain.{part}_seq"])
                assert np.array_equal(codec.decode(ids), grid)
    small = codec.encode(codec.read([[3, 3]], (4, 3), None), (4, 3))
    assert small.tolist() == [[5, 5, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert codec.is_solution is None


@pytest.mark.parametrize("task", ["maze", "arc"])
def test_only_a_sudoku_has_boxes(task):
    assert CODECS[task].fit((12, 7), None) is None
    with pytest.raises(ArgumentError, match=r"box_shape is \(3, 3\)"):
        CODECS[task].fit((9, 9), (3, 3))


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(PuzzleError, match="4"):
        CODECS["arc"].read([[1, 2], [3, 4], [5, 6], [7, 8]], (3, 3), None)
    with pytest.raises(PuzzleError):
        CODECS["maze"].read(MAZE, (3, 4), None)


def test_questions_are_checked_and_answers_are_only_read():
    codec = CODECS["maze"]
    answer = codec.read("So#\n o \n#oG", (3, 3), None)
    with pytest.raises(PuzzleError, match="path"):
        codec.check(answer, None)
    question = codec.read(MAZE, (3, 3), None)
    codec.check(question, None)
    assert codec.is_solution(question, answer, None) is True
    assert codec.is_solution(question, question, None) is False


def test_a_task_of_ones_own_needs_two_functions():
    codec = PuzzleCodec(
        vocabulary=lambda grid_shape: ["PAD", ".", "#"], read=lambda puzzle, grid_shape, box_shape: np.array(puzzle)
    )
    grid = codec.read([[0, 1], [1, 0]], (2, 2), None)
    assert codec.check(grid, None) is None
    assert codec.encode(grid, (2, 2)).tolist() == [[1, 2], [2, 1]]
    assert codec.decode(np.array([[0, 2], [1, 1]])).tolist() == [[0, 1], [0, 0]]
    assert codec.fit((2, 2), None) is None
    assert (codec.write, codec.draw, codec.is_solution, codec.blank_id) == (None,) * 4


def test_cell_numbers_above_255(monkeypatch):
    """A game of 600 kinds of cells, as text and as numbers."""
    symbols = "".join(map(chr, range(0x4E00, 0x4E00 + 599)))

    def read(puzzle, grid_shape, box_shape):
        return check_grids(read_grid(puzzle, "grid", lambda written: (grid_shape, symbols)), len(symbols) - 1)

    codec = PuzzleCodec(vocabulary=lambda grid_shape: ["PAD", *symbols], read=read)
    monkeypatch.setitem(CODECS, "many", codec)
    processor = HrmProcessor(task="many", grid_shape=(1, 3))
    cells = [0, 255, 593]
    ids = [1, 256, 594]
    text = "".join(symbols[cell] for cell in cells)
    assert processor.encode(text).tolist() == processor.encode([cells]).tolist() == ids
    assert processor.decode(ids, like=text) == text and processor.decode(ids, like=[0, 0, 0]) == cells
    for dtype in (np.uint8, np.int8, np.uint16, np.float16, object):
        assert processor.decode(ids, like=np.zeros((1, 3), dtype)).tolist() == [cells]
        assert processor.decode([1, 2, 3], like=np.zeros((1, 3), dtype)).dtype == dtype
    for dtype in (torch.uint8, torch.bfloat16, torch.int64):
        assert processor.decode(ids, like=torch.zeros(3, dtype=dtype)).tolist() == cells
        assert processor.decode([1, 2, 3], like=torch.zeros(3, dtype=dtype)).dtype == dtype
