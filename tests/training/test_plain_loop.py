"""HrmTrainer's whole run is the one that tests/fixtures/plain_loop.py writes out. (By two: test_two_processes.py.)"""

import pytest
from plain_runs import check_plain_run, first_model, train


@pytest.mark.parametrize("parts", [1, 2])
def test_a_run_is_the_one_written_out(tmp_path, parts):
    model = first_model()
    train(model, tmp_path / "run", parts=parts)
    check_plain_run(tmp_path / "run", model.state_dict())
