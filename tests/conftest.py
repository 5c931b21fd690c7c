"""The environment that every test runs in: no network, one thread per process, its own cache folder, repeatable draws.

The variables are set before torch and the Hugging Face libraries are imported, and child processes inherit them. With
pytest-xdist every worker has its own.
"""

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator

HF_HOME = tempfile.mkdtemp(prefix="hrm-hf-tests-")
os.environ["HF_HOME"] = HF_HOME
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are tiny, and some tests run two processes

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from packaging.version import Version  # noqa: E402
from tqdm import tqdm  # noqa: E402
from transformers import initialization  # noqa: E402

# Some tests interrupt themselves. A Ctrl-C while tqdm takes its two locks leaves the one between processes taken, and
# forked workers of a DataLoader, for which datasets makes bars, would wait for it for ever.
tqdm.set_lock(threading.RLock())


def trunc_normal_(tensor, mean, std, a, b, generator=None) -> torch.Tensor:
    """As torch 2.13 has it: what is cut is drawn again. Some tests know what their seeds give."""
    with torch.no_grad():
        tensor.normal_(mean, std, generator=generator)
        while not tensor.is_meta and (cut := (tensor < a) | (tensor > b)).any():
            tensor.copy_(torch.where(cut, torch.empty_like(tensor).normal_(mean, std, generator=generator), tensor))
    return tensor


if Version(torch.__version__) < Version("2.13"):
    initialization.TORCH_INIT_FUNCTIONS["trunc_normal_"] = trunc_normal_

# PyTorch's compiler keeps what it compiled, and takes it for another class of CPU than that it was compiled for
# (ATEN_CPU_CAPABILITY): the results are NaN, or memory is damaged. So each class has a folder of its own.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR",
    f"{tempfile.gettempdir()}/hrm-hf-tests-compiled-{os.getuid()}-{torch.backends.cpu.get_cpu_capability()}",
)
TRIED_BY_WORKERS = pytest.StashKey[int]()
pytest.register_assert_rewrite("golden_fixtures", "plain_runs", "processes", "recorded_steps", "scripts")

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
    """Skip the tests marked `gpu` where there is no CUDA device. Rooms whose tests start processes go first, so that
    at the end no worker is left alone with a long file.
    """
    items.sort(key=lambda item: item.path.parent.name not in ("training", "commands", "hub", "benchmarks", "examples"))
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def neither_dtype_is_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what this processor multiplies faster, but for those of the measurement."""
    monkeypatch.setattr("hrm_hf.hrm.compute_dtype._speed", lambda *_: 1.0)


@pytest.fixture(autouse=True)
def messages_as_before() -> Iterator[None]:
    """What a command does about messages and bars, for its own process, is undone."""
    yield
    if transformers := sys.modules.get("transformers"):
        transformers.logging.set_verbosity_warning()
        transformers.logging.enable_progress_bar()
        logging.getLogger("transformers.hrm_hf").setLevel(logging.NOTSET)


@pytest.fixture
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long writes a line for everything that it has done, not one every 30 seconds."""
    from hrm_hf import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    progress.show_messages()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: as many workers as cores that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, cores or 1)


def hostile_inputs_tried(config: pytest.Config) -> int:
    """By this process and by the workers that have ended."""
    return config.stash.get(TRIED_BY_WORKERS, 0) + getattr(sys.modules.get("hostile_inputs"), "tried", 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Add what a worker has tried; one that crashed says nothing."""
    tried = getattr(node, "workeroutput", {}).get("hostile_inputs_tried", 0)
    node.config.stash[TRIED_BY_WORKERS] = node.config.stash.get(TRIED_BY_WORKERS, 0) + tried


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that was to try many hostile inputs (HRM_HOSTILE_AT_LEAST) and has tried fewer."""
    tried = hostile_inputs_tried(session.config)
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist: the controller judges
        session.config.workeroutput["hostile_inputs_tried"] = tried
    elif tried < int(os.environ.get("HRM_HOSTILE_AT_LEAST", "0")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many hostile inputs the run has tried, if any."""
    if tried := hostile_inputs_tried(config):
        terminalreporter.write_line(f"hostile inputs tried: {tried}")


def pytest_unconfigure() -> None:
    shutil.rmtree(HF_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Sums of floats depend on the number of threads, which a command sets for its own process."""
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accelerate's state, which a training command sets for its own process, is as before afterwards."""
    from training_command import reset_accelerate

    reset_accelerate()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    reset_accelerate()
