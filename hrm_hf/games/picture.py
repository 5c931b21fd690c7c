"""Pictures of puzzles as PNG files: input, prediction and answer side by side.

Needs matplotlib, the extra `plot`; without it `save_picture` says so. The figure is drawn without pyplot, so nothing
global changes and no window is needed.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..hrm.errors import ArgumentError
from ..hrm.sudoku import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARC_COLOURS = (  # the usual ones, by number
    *("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00"),
    *("#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25"),
)
MAZE_COLOURS = ("#000000", "#FFFFFF", "#2ECC40", "#FF4136", "#0074D9")  # wall, free, start, goal, path
CHARACTERS_OR_COLOURS = {"sudoku": SYMBOLS, "maze": MAZE_COLOURS, "arc": ARC_COLOURS}  # by cell number
WRONG_COLOUR = "#FF4136"

PANEL_INCHES = 3.0
TITLE_INCHES = 0.4


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
        ArgumentError: another task.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures are drawn with matplotlib, which is missing: pip install hrm-hf[plot]") from error
    if task not in CHARACTERS_OR_COLOURS:
        raise ArgumentError(f"there are no pictures of the task {task!r}; allowed: {[*CHARACTERS_OR_COLOURS]}")
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
            _draw_digits(axes, grid, grids[index + 1] if columns == 3 and column == 1 else None, box_shape)
        else:
            _draw_colours(axes, grid, CHARACTERS_OR_COLOURS[task], lines_between=task == "arc")
    figure.savefig(path, format="png")


def _draw_digits(axes: "Axes", grid: np.ndarray, answer: np.ndarray | None, box_shape: tuple[int, int]) -> None:
    size, (box_rows, box_columns) = len(grid), box_shape
    axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal")
    for line in range(size + 1):
        axes.axhline(line, color="black", linewidth=0.5 if line % box_rows else 2, clip_on=False)
        axes.axvline(line, color="black", linewidth=0.5 if line % box_columns else 2, clip_on=False)
    points = 0.6 * 72 * PANEL_INCHES / size  # height of a digit
    for row, column in np.ndindex(grid.shape):
        digit = grid[row, column]
        wrong = answer is not None and digit != answer[row, column]
        if digit or wrong:  # a cell left blank shows as a red dot where the answer has a digit
            look = {"color": WRONG_COLOUR if wrong else "black", "ha": "center", "va": "center_baseline"}
            axes.text(column + 0.5, row + 0.5, SYMBOLS[digit], fontsize=points, **look)


def _draw_colours(axes: "Axes", grid: np.ndarray, hex_colours: Sequence[str], lines_between: bool) -> None:
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in hex_colours], np.uint8)  # (colours, 3)
    axes.imshow(colours[grid], interpolation="nearest")
    if lines_between:
        rows, columns = grid.shape
        axes.hlines(np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color="#555555", linewidth=0.5)
        axes.vlines(np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color="#555555", linewidth=0.5)
