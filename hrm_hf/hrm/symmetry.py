"""The eight dihedral symmetries of a rectangular grid, each beside its inverse.

They are numbered as in the published ARC and maze builders, so that the names of augmented tasks (`<task>_t<k>_...`)
keep their meaning: 0 identity, 1 to 3 rotations by k * 90 degrees counter-clockwise, 4 columns mirrored, 5 rows
mirrored, 6 the transpose, 7 the once rotated grid with its columns mirrored.
"""

import numpy as np

from .errors import ArgumentError
from .shown_value import is_integer


def dihedral(grid: np.ndarray, k: int) -> np.ndarray:
    """Transform k of grids (..., rows, cols), any dtype; a view where numpy can give one.

    The result is (..., cols, rows) for k = 1, 3, 6, 7. Raises ArgumentError if k is not 0..7 or the grid has no two
    axes.
    """
    grid = np.asarray(grid)
    if grid.ndim < 2:
        raise ArgumentError(f"a grid has at least two axes (..., rows, cols), got the shape {grid.shape}")
    if not is_integer(k) or k not in range(8):
        raise ArgumentError(f"there is no dihedral transform {k!r}: k is one of 0 to 7")
    if k == 5:
        return grid[..., ::-1, :]
    if k == 6:
        return grid.swapaxes(-2, -1)
    turned = np.rot90(grid, (0, 1, 2, 3, 0, 0, 0, 1)[k], axes=(-2, -1))
    return turned if k < 4 else turned[..., ::-1]


def inverse_dihedral(grid: np.ndarray, k: int) -> np.ndarray:
    """Undoes transform k: inverse_dihedral(dihedral(grid, k), k) == grid. Shapes and errors as in `dihedral`."""
    return dihedral(grid, 4 - k if is_integer(k) and k in (1, 3) else k)
