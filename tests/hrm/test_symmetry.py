"""The dihedral transforms: against recorded results, against each other, and by hand."""

import json

import numpy as np
import paths
import pytest
from golden_fixtures import golden_arrays

from hrm_hf.hrm.symmetry import dihedral, inverse_dihedral

GOLDEN = paths.GOLDEN / "G"


@pytest.mark.parametrize("k", range(8))
def test_matches_the_recorded_transforms(k):
    recorded = golden_arrays(GOLDEN / "dihedral.npz")
    np.testing.assert_array_equal(dihedral(recorded["input"], k), recorded[f"transform{k}"])
    np.testing.assert_array_equal(inverse_dihedral(recorded["input"], k), recorded[f"inverse{k}"])


def test_inverse_table_matches_the_recorded_one():
    grid = np.arange(9).reshape(3, 3)
    inverses = [j for k in range(8) for j in range(8) if np.array_equal(inverse_dihedral(grid, k), dihedral(grid, j))]
    assert inverses == json.loads((GOLDEN / "config.json").read_text())["dihedral_inverse"]


@pytest.mark.parametrize("k", range(8))
def test_inverse_undoes_the_transform_of_a_batch(k):
    grids = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    changed = dihedral(grids, k)
    assert changed.shape == ((2, 3, 5, 4) if k in (1, 3, 6, 7) else (2, 3, 4, 5))
    np.testing.assert_array_equal(inverse_dihedral(changed, k), grids)
    np.testing.assert_array_equal(changed[1, 2], dihedral(grids[1, 2], k))


def test_by_hand():
    grid = np.array([[1, 2], [3, 4]])
    assert dihedral(grid, 1).tolist() == [
        [2, 4],
        [1, 3],
    ]  # a quarter turn counter-clockwise: the right column comes up
    assert dihedral(grid, 4).tolist() == [[2, 1], [4, 3]]
    assert dihedral(grid, 5).tolist() == [[3, 4], [1, 2]]
    assert dihedral(grid, 6).tolist() == [[1, 3], [2, 4]]
    assert len({dihedral(grid, k).tobytes() for k in range(8)}) == 8
