"""Makes mazes with long ways: walls scattered at random, as in the published data set, no two equal under a symmetry.

Walls are single cells without an outer border. G is drawn among the free cells and S among those that are far enough
from it; a maze in which none is far enough is thrown away.
"""

import math

import numpy as np

from ..hrm.errors import ArgumentError
from ..hrm.maze import FREE, GOAL, START, WALL, check_grid_shape
from ..hrm.symmetry import dihedral
from ..progress import progress
from .maze_answers import as_grids, distances_to_goal, follow_rule

_BATCH_CELLS = 200_000  # cells of the mazes tried at once
_PATIENCE_CELLS = 20_000_000  # give up after so many cells of mazes in a row without a new one (30x30: 22,222 mazes)


def generate_mazes(
    num: int,
    grid_shape: tuple[int, int],
    generator: np.random.Generator,
    min_wall_share: float = 0.3,
    max_wall_share: float = 0.45,
    min_steps: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(questions, answers), both (num, rows, cols) uint8; the same generator state gives the same mazes.

    The share of walls is drawn uniformly between the two bounds. The shortest way from S to G has at least `min_steps`
    steps (default: rows + cols - 4, so 12 for 8x8; the published 30x30 mazes have 109 and more). Answers follow
    `follow_rule`. No two mazes are equal under the 8 dihedral symmetries, so a data set can be split anywhere.

    Raises ArgumentError for impossible arguments, and when many tries in a row give no new maze.
    """
    rows, cols = check_grid_shape(grid_shape)
    num_cells = rows * cols
    min_steps = max(1, rows + cols - 4) if min_steps is None else min_steps
    if num < 1:
        raise ArgumentError(f"the number of mazes must be at least 1, not {num}")
    shares = f"from {min_wall_share} to {max_wall_share}"
    if not 0 <= min_wall_share <= max_wall_share < 1:
        raise ArgumentError(f"wall shares {shares} are not allowed: 0 <= least <= most < 1")
    # Rounded, as 0.3 * 10 is a little more than 3 in binary.
    fewest, most = math.ceil(round(min_wall_share * num_cells, 9)), math.floor(round(max_wall_share * num_cells, 9))
    if fewest > most:
        raise ArgumentError(f"no number of walls in {rows}x{cols} cells has a share {shares}")
    if not 1 <= min_steps < num_cells - fewest:
        reason = f"{rows}x{cols} cells with {fewest} walls leave {num_cells - fewest} to walk on"
        raise ArgumentError(f"min_steps is {min_steps}, allowed are 1 to {num_cells - fewest - 1}: {reason}")
    seen: set[bytes] = set()
    questions = np.empty((num, rows, cols), np.uint8)
    batch, tries_in_vain = max(1, _BATCH_CELLS // num_cells), 0
    with progress(description="generating", unit="mazes", total=num) as bar:
        while len(seen) < num:
            for question in _try(batch, (rows, cols), (fewest, most), min_steps, generator):
                if question is None or (key := class_keys(question[None])[0]) in seen:
                    tries_in_vain += 1
                    continue
                questions[len(seen)] = question
                seen.add(key)
                tries_in_vain = 0
                if len(seen) == num:
                    break
            if len(seen) < num and tries_in_vain * num_cells >= _PATIENCE_CELLS:
                found = f"found only {len(seen)} of {num} mazes of {rows}x{cols} cells, wall share {shares}"
                vain = f"{tries_in_vain} tries in a row gave none that differs under every symmetry"
                raise ArgumentError(f"{found}: {vain}; lower min_steps (now {min_steps}) or the number")
            bar.update(len(seen) - bar.n)
    return questions, follow_rule(questions)


def class_keys(grids: np.ndarray) -> list[bytes]:
    """One key per grid (M, rows, cols), equal for grids that are equal under one of the 8 dihedral symmetries."""
    grids = as_grids(grids)
    turns = range(8) if grids.shape[1] == grids.shape[2] else (0, 2, 4, 5)  # the others swap the sides
    views = [np.ascontiguousarray(dihedral(grids, k)) for k in turns]
    return [min(view[number].tobytes() for view in views) for number in range(len(grids))]


def _try(
    num: int, grid_shape: tuple[int, int], walls: tuple[int, int], min_steps: int, generator: np.random.Generator
) -> list[np.ndarray | None]:
    """`num` drawn questions (rows, cols), None where no cell is `min_steps` from G."""
    num_cells = grid_shape[0] * grid_shape[1]
    num_walls = generator.integers(walls[0], walls[1], num, endpoint=True)
    order = generator.permuted(np.tile(np.arange(num_cells), (num, 1)), axis=1)  # (num, cells), a permutation each
    cells = np.where(order < num_walls[:, None], WALL, FREE).astype(np.uint8)
    cells[order == num_cells - 1] = GOAL  # never a wall, as there are fewer walls than cells
    distances = distances_to_goal(cells.reshape(num, *grid_shape)).reshape(num, num_cells)
    lots = np.where(distances >= min_steps, generator.random((num, num_cells)), -1.0)
    starts = lots.argmax(axis=1)
    found = lots[np.arange(num), starts] >= 0
    cells[found, starts[found]] = START
    return [row.reshape(grid_shape) if is_found else None for row, is_found in zip(cells, found, strict=True)]
