"""Six recorded training steps of the published implementations, HRM (D) and TRM (K)."""

import pytest
from recorded_steps import check_six_recorded_steps


@pytest.mark.parametrize("run", ["D", "K"])
@pytest.mark.parametrize("variant", ["noexplore", "explore"])
def test_six_recorded_steps(variant, run):
    check_six_recorded_steps(variant, run)
