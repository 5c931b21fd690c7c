"""Pictures: that the cells have their colours, wrong digits are red, and a missing matplotlib is named.

Animations: a frame per step, how long each is shown, colours by confidence, and steps that are none.
"""

import sys

import numpy as np
import pytest

import hrm_hf
from hrm_hf import HrmProcessor
from hrm_hf.games.picture import (
    ARC_COLOURS,
    MAX_FRAMES,
    MAZE_COLOURS,
    PINNED_COLOUR,
    SURE_COLOUR,
    WRONG_COLOUR,
    save_animation,
    save_picture,
    step_grids,
)
from hrm_hf.hrm.errors import ArgumentError, PuzzleError

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
    with pytest.raises(ImportError, match=r"pip install hrm-hf\[plot\]"):
        save_animation(tmp_path / "out.gif", QUESTION, made_up_steps([ANSWER]), SUDOKU)
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


def test_a_puzzle_as_text_and_a_sudoku_without_boxes_are_refused(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ArgumentError, match=r"HrmProcessor\.read makes one"):  # what the pipeline takes and gives
        save_picture(tmp_path / "out.png", ["1..4..1..1..4..1"], ["input"], "sudoku", (2, 2))
    with pytest.raises(ArgumentError, match=r"box_shape is None; a Sudoku has boxes, such as \(3, 3\)"):
        save_picture(tmp_path / "out.png", [QUESTION], ["input"], "sudoku")
    assert list(tmp_path.iterdir()) == []


def test_another_task_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ArgumentError, match="'chess'.*'sudoku', 'maze', 'arc'"):
        save_picture(tmp_path / "out.png", [QUESTION], ["input"], "chess")
    assert list(tmp_path.iterdir()) == []


SUDOKU = HrmProcessor(grid_shape=(4, 4))
SUDOKU_9X9 = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLVED_9X9 = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


def made_up_steps(solutions: list, sure: float = 1.0, pinned: tuple = ()) -> list[dict]:
    """The pipeline's steps to these solutions of 4x4, or of ARC where they are lists."""
    shapes = [np.shape(solution)[:2] if isinstance(solution, list) else (4, 4) for solution in solutions]
    return [
        {
            "attempt": 1,
            "segment": number,
            "solution": solution,
            "confidence": 0.5,
            "cell_confidence": np.full(shape, sure).tolist(),
            "changed": [],
            "pinned": [list(cell) for cell in pinned],
        }
        for number, (solution, shape) in enumerate(zip(solutions, shapes, strict=True), 1)
    ]


def frames_of(path) -> list[tuple[float, np.ndarray]]:
    """(seconds, (height, width, 3) uint8) of each frame of a GIF."""
    image_module, frames = pytest.importorskip("PIL.Image"), []
    with image_module.open(path) as image:
        assert image.info["loop"] == 0
        for index in range(image.n_frames):
            image.seek(index)
            frames.append((image.info["duration"] / 1000, np.asarray(image.convert("RGB"))))
    return frames


def share_in(pixels: np.ndarray, colour: str) -> float:
    return float((pixels == list(bytes.fromhex(colour[1:]))).all(axis=-1).mean())


def test_an_animation_has_a_frame_per_step_and_the_last_is_held(tmp_path):
    pytest.importorskip("matplotlib")
    save_animation(tmp_path / "out.gif", QUESTION, made_up_steps([QUESTION, ANSWER, ANSWER]), SUDOKU)
    assert [seconds for seconds, _ in frames_of(tmp_path / "out.gif")] == [0.4, 0.4, 3.0]
    save_animation(tmp_path / "out.gif", QUESTION, made_up_steps([ANSWER, ANSWER]), SUDOKU, seconds_per_step=5)
    assert [seconds for seconds, _ in frames_of(tmp_path / "out.gif")] == [5.0, 5.0]


def test_of_many_steps_evenly_spaced_ones_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    assert MAX_FRAMES == 200
    monkeypatch.setattr("hrm_hf.games.picture.MAX_FRAMES", 3)
    steps = made_up_steps([QUESTION] * 8 + [ANSWER])
    save_animation(tmp_path / "some.gif", QUESTION, steps, SUDOKU)
    save_animation(tmp_path / "chosen.gif", QUESTION, steps[::4], SUDOKU)  # first, middle and last
    assert len(frames_of(tmp_path / "some.gif")) == 3
    assert (tmp_path / "some.gif").read_bytes() == (tmp_path / "chosen.gif").read_bytes()


def test_an_animation_is_small(tmp_path):
    pytest.importorskip("matplotlib")
    draw, steps = np.random.default_rng(0), []
    order = draw.permutation(81)
    for number in range(20):  # the cells come one after another, and the model gets surer of each
        known = order < 81 * (number + 1) / 20
        solution = "".join(digit if known[cell] else "1" for cell, digit in enumerate(SOLVED_9X9))
        step = made_up_steps([solution])[0] | {"segment": number + 1}
        steps.append(step | {"cell_confidence": np.where(known, 1.0, draw.random(81)).reshape(9, 9)})
    save_animation(tmp_path / "out.gif", SUDOKU_9X9, steps, HrmProcessor())
    assert len(frames_of(tmp_path / "out.gif")) == 20
    assert (tmp_path / "out.gif").stat().st_size < 150_000


def test_cells_of_which_the_model_is_unsure_are_white(tmp_path):
    pytest.importorskip("matplotlib")
    maze, arc = HrmProcessor(task="maze", grid_shape=(2, 3)), HrmProcessor(task="arc", grid_shape=(5, 5))
    for processor, question, steps, colours in (
        (SUDOKU, QUESTION, made_up_steps([ANSWER]), [SURE_COLOUR]),
        (maze, "# S\n  G", made_up_steps(["# S\nooG"]), set(MAZE_COLOURS) - {"#FFFFFF"}),
        (arc, ARC_GRID, made_up_steps([ARC_GRID.tolist()]), ARC_COLOURS),
    ):
        shape = np.shape(ARC_GRID) if processor is arc else processor.grid_shape
        for sure in (0.0, 1.0):
            steps[0]["cell_confidence"] = np.full(shape, sure)
            save_animation(tmp_path / "out.gif", question, steps, processor)
            ((_, pixels),) = frames_of(tmp_path / "out.gif")
            for colour in colours:
                assert (share_in(pixels, colour) > 0.02) == bool(sure), (processor.task, colour, sure)


def test_guessed_cells_have_an_outline(tmp_path):
    pytest.importorskip("matplotlib")
    for pinned, outlined in (((), False), ([(0, 1), (3, 2)], True)):
        save_animation(tmp_path / "out.gif", QUESTION, made_up_steps([ANSWER], pinned=pinned), SUDOKU)
        ((_, pixels),) = frames_of(tmp_path / "out.gif")
        assert (share_in(pixels, PINNED_COLOUR) > 0) == outlined


def test_arc_grids_may_change_their_shape_and_be_empty(tmp_path):
    pytest.importorskip("matplotlib")
    steps = made_up_steps([[[1, 2]], [[3], [4], [5]], []])
    steps[-1]["cell_confidence"] = []
    question = {"puzzle": [[1, 2]], "puzzle_identifier": 0}
    save_animation(tmp_path / "out.gif", question, steps, HrmProcessor(task="arc", grid_shape=(5, 5)))
    first, second, empty = [pixels for _, pixels in frames_of(tmp_path / "out.gif")]
    assert share_in(first, ARC_COLOURS[1]) > 0.1 and share_in(first, ARC_COLOURS[3]) == 0
    assert share_in(second, ARC_COLOURS[3]) > 0.05 and share_in(second, ARC_COLOURS[1]) == 0
    assert share_in(empty, "#FFFFFF") > 0.9
    assert all((pixels[:, -1] == 255).all() for pixels in (first, second, empty))  # the words stay within the frame


@pytest.mark.parametrize("form", ["text", "numbers", "list", "flat", "unsigned"])
def test_numbers_of_an_answer_mean_what_they_mean_in_the_question(form):
    """A model in training breaks walls and rules, so that an answer alone may not tell."""
    sudoku = HrmProcessor(grid_shape=(16, 16), box_shape=(4, 4))
    maze = HrmProcessor(task="maze", grid_shape=(3, 3))
    zero_based = np.full((16, 16), -1)
    zero_based[0] = np.arange(16)
    walls_are_1 = np.array([[2, 1, 0], [0, 0, 0], [1, 0, 3]])
    own_sudoku, own_maze = np.full((16, 16), 3), np.array([[2, 0, 4], [4, 0, 4], [0, 1, 3]])
    for processor, question, own in ((sudoku, zero_based, own_sudoku), (maze, walls_are_1, own_maze)):
        if form == "text":
            signs = "0123456789ABCDEF." if processor is sudoku else "01SG"
            question = "\n".join("".join(signs[cell] for cell in row) for row in question.tolist())
            question = question if processor is sudoku else question.replace("1", "#").replace("0", ".")
        elif form == "unsigned":
            question = question.astype(np.uint8) if processor is maze else np.maximum(question, 0)
        elif form != "numbers":
            question = question.tolist() if form == "list" else question.reshape(-1)
        ids = (own + 1).reshape(-1)
        steps = made_up_steps([processor.decode(ids, like=question)])
        steps[0]["cell_confidence"] = np.ones(own.shape)
        (grid,) = step_grids(question, steps, processor)
        np.testing.assert_array_equal(grid, own)
        assert grid.dtype == np.uint8


def without(key: str) -> list[dict]:
    return [{name: value for name, value in made_up_steps([ANSWER])[0].items() if name != key}]


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([], r"steps is empty; give the list result\[.steps.\] of solver\(puzzle, return_steps=True\)"),
        ({"solution": ANSWER, "steps": []}, "steps is a dict; give the list result"),
        ([ANSWER], "step 1 is no dict with attempt, segment, solution"),
        (without("confidence"), "step 1 is no dict with attempt, segment, solution"),
        (made_up_steps([ANSWER, SOLVED_9X9]), "the solution of step 2 does not have the form of the question"),
        (made_up_steps([ANSWER, "1234" * 4]), "the solution of step 2 does not have the form of the question"),
        (made_up_steps([ANSWER], sure=1.5), "cell_confidence of step 1 is not a number from 0 to 1 for each of 4 x 4"),
        (made_up_steps([ANSWER], sure=np.nan), "cell_confidence of step 1 is not a number from 0 to 1"),
    ],
)
def test_steps_that_are_none_are_refused(tmp_path, steps, named):
    pytest.importorskip("matplotlib")
    with pytest.raises(ArgumentError, match=named):
        save_animation(tmp_path / "out.gif", QUESTION, steps, SUDOKU)
    assert list(tmp_path.iterdir()) == []


def test_an_animation_of_what_cannot_be_read_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    steps = made_up_steps([ANSWER])
    with pytest.raises(PuzzleError):
        save_animation(tmp_path / "out.gif", "123", steps, SUDOKU)
    for seconds in (0, -1, 61, float("nan")):
        with pytest.raises(ArgumentError, match="seconds_per_step is .*; allowed: 0.02 to 60"):
            save_animation(tmp_path / "out.gif", QUESTION, steps, SUDOKU, seconds_per_step=seconds)
    assert list(tmp_path.iterdir()) == []


def test_the_package_offers_pictures_when_they_are_first_used():
    assert hrm_hf.picture.save_animation is save_animation
    with pytest.raises(AttributeError, match="module 'hrm_hf' has no attribute 'pictures'"):
        hrm_hf.pictures  # noqa: B018
