"""The environment that every test runs in: no network, one thread per process, its own cache folder, repeatable draws.

The variables are set before torch and the Hugging Face libraries are imported, and child processes inherit them.
"""

import os
import shutil
import sys
import tempfile

HF_HOME = tempfile.mkdtemp(prefix="hrm-hf-tests-")
os.environ["HF_HOME"] = HF_HOME
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are tiny, and some tests run two processes

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    # Tests of hostile inputs write files, all of one test into its own folder, each over the one before.
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def compiler() -> None:
    """Skips the test where torch.compile does not work on the CPU."""
    from hrm_hf import ArgumentError
    from hrm_hf.scores.compiled import check_compiler

    try:
        check_compiler(torch.device("cpu"))
    except ArgumentError as error:
        pytest.skip(str(error))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that was to try many hostile inputs (HRM_HOSTILE_AT_LEAST) and has tried fewer."""
    hostile_inputs = sys.modules.get("hostile_inputs")
    if getattr(hostile_inputs, "tried", 0) < int(os.environ.get("HRM_HOSTILE_AT_LEAST", "0")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many hostile inputs the run has tried, if any."""
    hostile_inputs = sys.modules.get("hostile_inputs")
    if hostile_inputs is not None and hostile_inputs.tried:
        terminalreporter.write_line(f"hostile inputs tried: {hostile_inputs.tried}")


def pytest_unconfigure() -> None:
    shutil.rmtree(HF_HOME, ignore_errors=True)
