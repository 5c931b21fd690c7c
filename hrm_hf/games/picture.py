"""Pictures of puzzles: question, prediction and answer side by side as a PNG, and an answer step by step as a GIF.

Needs matplotlib, the extra `plot`; without it the functions say so. The figures are drawn without pyplot, so nothing
global changes and no window is needed.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hrm.errors import ArgumentError
from ..hrm.puzzle_codecs import CODECS
from ..hrm.sudoku import SYMBOLS, renumber

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

    from ..hrm.processing_hrm import HrmProcessor

ARC_COLOURS = (  # the usual ones, by number
    *("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00"),
    *("#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25"),
)
MAZE_COLOURS = ("#000000", "#FFFFFF", "#2ECC40", "#FF4136", "#0074D9")  # wall, free, start, goal, path
CHARACTERS_OR_COLOURS = {"sudoku": SYMBOLS, "maze": MAZE_COLOURS, "arc": ARC_COLOURS}  # by cell number
WRONG_COLOUR = "#FF4136"
SURE_COLOUR = "#8EC9F0"  # behind a Sudoku's digit of which the model is sure; white behind one of which it is not
OWN_DIGIT_COLOUR = "#123C8C"  # a digit that is not given
PINNED_COLOUR = "#E8590C"  # the outline of a cell that was given as a guess

PANEL_INCHES = 3.0
TITLE_INCHES = 0.4
DOTS_PER_INCH = 100  # of an animation
MAX_FRAMES = 200
LAST_SECONDS = 3.0  # for which the last frame is held, or longer if each one is
CONFIDENCE_LEVELS = 8  # shades of a colour: a GIF has 256 colours in all, and few changes make a small file
STEP_KEYS = ("attempt", "segment", "solution", "confidence", "cell_confidence", "pinned")


def save_picture(
    path: str | os.PathLike,
    grids: Sequence[np.ndarray],
    titles: Sequence[str],
    task: str,
    box_shape: tuple[int, int] | None = None,
) -> None:
    """Draws grids side by side into a PNG file.

    Args:
        path: an existing file is replaced.
        grids: (rows, columns) uint8 each, in the game's own cell numbers: question, prediction and, if it is known,
            the answer. Grids beyond the titles go into further, full lines. With three titles the digits of a
            Sudoku's second grid that differ from its third are red.
        titles: one for each grid of a line.
        task: "sudoku", "maze" or "arc".
        box_shape: rows and columns of a Sudoku's boxes; None for other tasks.

    Raises:
        ImportError: matplotlib is missing.
        ArgumentError: another task, grids that are no arrays, or a Sudoku without its boxes.
        OSError: the file cannot be written.
    """
    check_matplotlib()
    _check_task(task)
    if not all(isinstance(grid, np.ndarray) for grid in grids):
        raise ArgumentError("grids must be arrays: HrmProcessor.read makes one of a puzzle or an answer in any form")
    if task == "sudoku" and box_shape is None:
        raise ArgumentError("box_shape is None; a Sudoku has boxes, such as (3, 3)")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, lines = len(titles), len(grids) // len(titles)
    figure = Figure(figsize=(columns * PANEL_INCHES, lines * (PANEL_INCHES + TITLE_INCHES)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False)  # (lines, columns) of axes
    for index, grid in enumerate(grids):
        line, column = divmod(index, columns)
        axes = panels[line, column]
        axes.set_title(titles[column])
        axes.set_xticks([])
        axes.set_yticks([])
        if not grid.size:
            axes.text(0.5, 0.5, "(empty)", ha="center", va="center", transform=axes.transAxes)
            continue
        if task == "sudoku":
            colours = np.full(grid.shape, "black", object)
            if columns == 3 and column == 1:
                colours[grid != grids[index + 1]] = WRONG_COLOUR
            _draw_digits(axes, grid, box_shape, colours)
        else:
            _draw_colours(axes, _rgb(CHARACTERS_OR_COLOURS[task])[grid], lines_between=task == "arc")
    figure.savefig(path, format="png")


def save_animation(
    path: str | os.PathLike,
    question: Any,
    steps: Sequence[Mapping[str, Any]],
    processor: "HrmProcessor",
    seconds_per_step: float = 0.4,
    symbols: str | None = None,
) -> None:
    """Draws how an answer came about into an animated GIF, a frame per step; it starts again at its end.

        result = solver(puzzle, return_steps=True)
        save_animation("thinking.gif", puzzle, result["steps"], solver.processor)

    A cell's colour shows how sure the model is of it. Behind the digits of a Sudoku it goes from white to light blue;
    givens are bold. The colours of mazes and ARC grids fade to white. Cells given as guesses have an outline.

    Args:
        path: an existing file is replaced.
        question: the puzzle as the pipeline was given it, a dict with "puzzle" too.
        steps: the pipeline's "steps" for it. Of more than `MAX_FRAMES` as many are drawn, evenly spaced, the first
            and the last among them; to choose others, give those alone.
        processor: of the model that solved it.
        seconds_per_step: how long a frame is shown, 0.02 to 60; the last one is held for at least `LAST_SECONDS`.
        symbols: the characters of a Sudoku's blank and digits; None: from 1 or from 0 as the question has them.

    Raises:
        ImportError: matplotlib is missing.
        ArgumentError: a task without pictures, steps that are none or do not fit the question, other seconds.
        PuzzleError: a question that cannot be read.
        OSError: the file cannot be written.
    """
    check_matplotlib()
    _check_task(processor.task)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    if not 0.02 <= seconds_per_step <= 60:
        raise ArgumentError(f"seconds_per_step is {seconds_per_step}; allowed: 0.02 to 60")
    givens, grids = processor.read(_puzzle(question)), step_grids(question, steps, processor)
    if symbols is None:
        counts_from_1 = processor.task != "sudoku" or np.array_equal(renumber(givens, _puzzle(question)), givens)
        symbols = SYMBOLS if counts_from_1 else f".0{SYMBOLS[1:]}"
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MAX_FRAMES)).round().astype(int))
    figure = Figure(figsize=(PANEL_INCHES, PANEL_INCHES + TITLE_INCHES), dpi=DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    height = PANEL_INCHES / (PANEL_INCHES + TITLE_INCHES)
    axes = figure.add_axes((0.03, 0.03, 0.94, 0.94 * height))
    title = figure.text(0.03, height, "", fontsize=9.5)  # where it is, whatever the grid's shape and its numbers
    palette, frames = _palette(processor.task), []
    for number in shown:
        axes.clear()
        step = steps[number]
        title.set_text(f"attempt {step['attempt']}, segment {step['segment']}, confidence {step['confidence']:.2f}")
        _draw_step(axes, givens, grids[number], step, processor, symbols)
        canvas.draw()
        picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
        frames.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    durations = [round(1000 * seconds_per_step)] * len(frames)
    durations[-1] = max(durations[-1], round(1000 * LAST_SECONDS))
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )


def check_matplotlib() -> None:
    """Raises ImportError, with what to install, where matplotlib is missing."""
    try:
        import matplotlib.backends.backend_agg  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures are drawn with matplotlib, which is missing: pip install hrm-hf[plot]") from error


def step_grids(question: Any, steps: Sequence[Mapping[str, Any]], processor: "HrmProcessor") -> list[np.ndarray]:
    """The solutions of steps in the game's own cell numbers, (rows, columns) uint8 each; 0 x 0 for one without cells.

    Arguments, and errors for them, as in `save_animation`.
    """
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        found = f"a {type(steps).__name__}" if steps else "empty"
        raise ArgumentError(f'steps is {found}; give the list result["steps"] of solver(puzzle, return_steps=True)')
    processor.read(_puzzle(question))
    meaning = None if processor.task == "arc" else _meaning_of_signs(question, processor)
    grids = []
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Mapping) or not set(STEP_KEYS) <= set(step):
            raise ArgumentError(f"step {number} is no dict with {', '.join(STEP_KEYS)}")
        solution = step["solution"]
        if meaning is None:  # its grids have shapes of their own, and their numbers one meaning
            grid = processor.read(solution) if len(solution) else np.zeros((0, 0), np.uint8)
        else:
            cells = [meaning.get(sign) for sign in _signs(solution)]
            if None in cells or len(cells) != processor.num_cells:
                raise ArgumentError(f"the solution of step {number} does not have the form of the question")
            grid = np.array(cells, np.uint8).reshape(processor.grid_shape)
        sure = np.array(step["cell_confidence"], np.float64)
        if sure.size != grid.size or grid.size and (sure.shape != grid.shape or not ((sure >= 0) & (sure <= 1)).all()):
            expected = f"a number from 0 to 1 for each of {' x '.join(map(str, grid.shape))} cells"
            raise ArgumentError(f"the cell_confidence of step {number} is not {expected}")
        grids.append(grid)
    return grids


def _check_task(task: str) -> None:
    if task not in CHARACTERS_OR_COLOURS:
        raise ArgumentError(f"there are no pictures of the task {task!r}; allowed: {[*CHARACTERS_OR_COLOURS]}")


def _puzzle(question: Any) -> Any:
    return question["puzzle"] if isinstance(question, dict) and "puzzle" in question else question


def _meaning_of_signs(question: Any, processor: "HrmProcessor") -> dict[Any, int]:
    """What a sign in an answer to this question means: its cell number.

    An answer cannot always be read without its question: of the numbers of a maze, 0 or 1 may be the wall.
    """
    meaning = {}
    for token in range(processor.vocab_size):
        ids = np.full(processor.grid_shape, token)
        sign = _signs(processor.decode(ids.reshape(-1), like=_puzzle(question)))[0]
        meaning[sign] = int(CODECS[processor.task].decode(ids)[0, 0])
    return meaning


def _signs(answer: Any) -> list:
    """The cells of an answer in any written form, row by row."""
    if isinstance(answer, list | tuple) and all(isinstance(row, str) for row in answer):
        answer = "".join(answer)
    if isinstance(answer, str):
        return list(answer.replace("\n", ""))
    return np.array(answer.tolist() if hasattr(answer, "tolist") else answer).reshape(-1).tolist()


def _draw_step(
    axes: "Axes",
    givens: np.ndarray,
    grid: np.ndarray,
    step: Mapping[str, Any],
    processor: "HrmProcessor",
    symbols: str,
) -> None:
    axes.set(xticks=[], yticks=[])
    if not grid.size:
        axes.text(0.5, 0.5, "(empty)", ha="center", va="center", transform=axes.transAxes)
        return
    levels = (np.array(step["cell_confidence"]) * (CONFIDENCE_LEVELS - 1)).round().astype(int)
    if processor.task == "sudoku":
        axes.imshow(_shades([SURE_COLOUR])[0, levels], extent=(0, len(grid), len(grid), 0))
        is_given = givens > 0
        colours = np.where(is_given, "black", OWN_DIGIT_COLOUR)
        _draw_digits(axes, grid, processor.box_shape, colours, is_given, symbols)
    else:
        colours = _shades(CHARACTERS_OR_COLOURS[processor.task])[grid, levels]
        _draw_colours(axes, colours, lines_between=processor.task == "arc")
    corner = 0 if processor.task == "sudoku" else -0.5  # of the first cell
    for row, column in step["pinned"]:
        left, right, top, bottom = column + corner, column + 1 + corner, row + corner, row + 1 + corner
        around = ([left, right, right, left, left], [top, top, bottom, bottom, top])
        axes.plot(*around, color=PINNED_COLOUR, linewidth=2.5, clip_on=False)


def _draw_digits(
    axes: "Axes",
    grid: np.ndarray,
    box_shape: tuple[int, int],
    colours: np.ndarray,
    bold: np.ndarray | None = None,
    symbols: str = SYMBOLS,
) -> None:
    """colours: of each cell's digit; bold: which digits are."""
    size, (box_rows, box_columns) = len(grid), box_shape
    axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal")
    for line in range(size + 1):
        axes.axhline(line, color="black", linewidth=0.5 if line % box_rows else 2, clip_on=False)
        axes.axvline(line, color="black", linewidth=0.5 if line % box_columns else 2, clip_on=False)
    points = 0.6 * 72 * PANEL_INCHES / size  # height of a digit
    for row, column in np.ndindex(grid.shape):
        digit, colour = grid[row, column], colours[row, column]
        if digit or colour == WRONG_COLOUR:  # a cell left blank shows as a red dot where the answer has a digit
            weight = "bold" if bold is not None and bold[row, column] else "normal"
            look = {"color": colour, "weight": weight, "ha": "center", "va": "center_baseline"}
            axes.text(column + 0.5, row + 0.5, symbols[digit], fontsize=points, **look)


def _draw_colours(axes: "Axes", colours: np.ndarray, lines_between: bool) -> None:
    """colours: (rows, columns, 3) uint8."""
    axes.imshow(colours, interpolation="nearest")
    if lines_between:
        rows, columns, _ = colours.shape
        axes.hlines(np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color="#555555", linewidth=0.5)
        axes.vlines(np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color="#555555", linewidth=0.5)


def _rgb(hex_colours: Sequence[str]) -> np.ndarray:
    """(colours, 3) uint8 of '#RRGGBB' each."""
    return np.array([list(bytes.fromhex(colour[1:])) for colour in hex_colours], np.uint8)


def _shades(hex_colours: Sequence[str]) -> np.ndarray:
    """(colours, CONFIDENCE_LEVELS, 3) uint8: from white to each colour."""
    shares = np.linspace(0, 1, CONFIDENCE_LEVELS)[:, None]
    return (255 - shares * (255.0 - _rgb(hex_colours)[:, None])).round().astype(np.uint8)


def _palette(task: str) -> "Image":
    """The colours of all frames: every shade of a cell, greys of lines and titles, edges of digits."""
    from PIL import Image

    if task == "sudoku":
        behind, ink = _shades([SURE_COLOUR])[0], _rgb(["#000000", OWN_DIGIT_COLOUR])
        edges = [behind + share * (colour - behind.astype(float)) for colour in ink for share in (0.25, 0.5, 0.75)]
        cells = np.concatenate([behind, ink, *edges])
    else:
        cells = _shades(CHARACTERS_OR_COLOURS[task]).reshape(-1, 3)
    greys = np.linspace(0, 255, 16)[:, None].repeat(3, axis=1)
    colours = np.concatenate([cells, greys, _rgb([PINNED_COLOUR])]).round().astype(np.uint8)
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.tobytes())
    return palette
