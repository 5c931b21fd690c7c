"""The eight dihedral symmetries of a grid, numbered as in the published builders' names of augmented tasks.

0 identity, 1 to 3 rotations by k * 90 degrees counter-clockwise, 4 columns mirrored, 5 rows mirrored, 6 the transpose,
7 the once rotated grid with its columns mirrored.
"""

import numpy as np


def dihedral(grid: np.ndarray, k: int) -> np.ndarray:
    """Transform k, 0 to 7, of grids (..., rows, cols), any dtype: a view, (..., cols, rows) for k = 1, 3, 6, 7."""
    turned = np.rot90(grid, (0, 1, 2, 3, 0, 2, 3, 1)[k], axes=(-2, -1))
    return turned if k < 4 else turned[..., ::-1]


def inverse_dihedral(grid: np.ndarray, k: int) -> np.ndarray:
    """Undoes transform k: inverse_dihedral(dihedral(grid, k), k) == grid."""
    return dihedral(grid, 4 - k if k in (1, 3) else k)
