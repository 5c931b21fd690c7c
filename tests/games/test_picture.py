"""Pictures: that the cells have their colours, wrong digits are red, and a missing matplotlib is named."""

import sys

import numpy as np
import pytest

from hrm_hf.games.picture import ARC_COLOURS, MAZE_COLOURS, WRONG_COLOUR, save_picture
from hrm_hf.hrm.errors import ArgumentError

QUESTION = np.array([[1, 0, 0, 4], [0, 0, 1, 0], [0, 1, 0, 0], [4, 0, 0, 1]], np.uint8)
ANSWER = np.array([[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]], np.uint8)
MAZE = np.array([[0, 1, 2], [4, 4, 3]], np.uint8)
ARC_GRID = np.arange(10, dtype=np.uint8).reshape(2, 5)
TITLES = ("input", "prediction", "answer")


def test_missing_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install hrm-hf\[plot\]"):
        save_picture(tmp_path / "out.png", [QUESTION], ["input"], "sudoku")
    assert list(tmp_path.iterdir()) == []


def share_of(path, colour: str, panel: int = 0, num_panels: int = 1) -> float:
    """Share of one panel's pixels (panels side by side) that have exactly the colour '#RRGGBB'."""
    image = pytest.importorskip("matplotlib.image").imread(path)
    pixels = np.round(image[..., :3] * 255).astype(np.uint8)
    width = pixels.shape[1] // num_panels
    pixels = pixels[:, panel * width : (panel + 1) * width]
    return float((pixels == list(bytes.fromhex(colour[1:]))).all(axis=-1).mean())


def test_maze_and_arc_cells_have_their_colours(tmp_path):
    pytest.importorskip("matplotlib")
    for task, grid, colours in (("maze", MAZE, MAZE_COLOURS), ("arc", ARC_GRID, ARC_COLOURS)):
        path = tmp_path / f"{task}.png"
        save_picture(path, [grid], ["input"], task)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        for colour in colours:
            assert share_of(path, colour) > 0.02, (task, colour)


@pytest.mark.parametrize(
    ("prediction", "grids", "red"),
    [
        (ANSWER, 3, False),
        (np.where(ANSWER == 3, 2, ANSWER), 3, True),
        (np.where(ANSWER == 3, 0, ANSWER), 3, True),  # left blank
        (np.where(ANSWER == 3, 2, ANSWER), 2, False),  # no answer is known
    ],
)
def test_wrong_digits_are_red(tmp_path, prediction, grids, red):
    pytest.importorskip("matplotlib")
    path = tmp_path / "sudoku.png"
    save_picture(path, [QUESTION, prediction, ANSWER][:grids], TITLES[:grids], "sudoku", (2, 2))
    assert [share_of(path, WRONG_COLOUR, panel, grids) > 0 for panel in range(grids)] == [False, red, False][:grids]


def test_more_grids_make_more_lines_and_empty_ones_are_drawn(tmp_path):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    heights = []
    for lines in (1, 2):
        path = tmp_path / f"{lines}.png"
        save_picture(path, [ARC_GRID, np.zeros((0, 0), np.uint8), ARC_GRID] * lines, TITLES, "arc")
        heights.append(matplotlib_image.imread(path).shape[0])
    assert heights[1] == 2 * heights[0]


def test_another_task_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ArgumentError, match="'chess'.*'sudoku', 'maze', 'arc'"):
        save_picture(tmp_path / "out.png", [QUESTION], ["input"], "chess")
    assert list(tmp_path.iterdir()) == []
