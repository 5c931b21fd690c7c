"""Six recorded training steps of the published implementation."""

import pytest
from recorded_steps import check_six_recorded_steps


@pytest.mark.parametrize("variant", ["noexplore", "explore"])
def test_six_recorded_steps(variant):
    check_six_recorded_steps(variant)
