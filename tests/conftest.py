"""Fixtures of all tests: the shared data and the tiny model. Skips tests whose hardware is missing."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # must be set before torch or ONNX Runtime are loaded; several processes share the cores

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="streamav-tests-")  # the user's own journal stays unchanged

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from rigs.mosquitto import Broker

ROOT = Path(__file__).parents[1]

settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "local")
settings.register_profile("quick", settings(), max_examples=20)  # taken by make quick; rigs/cases.py keeps the tests in proportion


LONGEST = (
    "test_tensorrt_operators.py",
    "test_tensorrt_facts.py",
    "test_view_browser.py",
    "test_cluster.py",
    "test_train_processes.py",
    "test_own_clips.py",
    "test_notebooks.py",
)
"""Files of more than a minute. They come first, so that no process of `make test` waits for the other one's last file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files, and skip, with a reason, the tests that need a missing GPU or camera."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    reasons = {"gpu": _without_gpu(items), "hardware": None if os.environ.get("STREAMAV_HARDWARE") else "set STREAMAV_HARDWARE=1 to use it"}
    for item in items:
        for marker, reason in reasons.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _without_gpu(items: list[pytest.Item]) -> str | None:
    """Return the reason why GPU tests cannot run, or None; torch is imported only when there is such a test and a driver."""
    if not any(item.get_closest_marker("gpu") for item in items):
        return None
    from streamav.engines.machine import has_nvidia_driver

    if not has_nvidia_driver():
        return "no NVIDIA driver here"
    import torch

    return None if torch.cuda.is_available() else "torch sees no NVIDIA GPU"


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread(request: pytest.FixtureRequest) -> None:
    """Limit torch to one thread, in sessions that have imported it already."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Restore the logging settings after each test, because a tested command or the import linter changes them."""
    root, ours = logging.getLogger(), logging.getLogger("streamav")
    levels, handlers = (root.level, ours.level), list(root.handlers)
    yield
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("streamav") and isinstance(logger, logging.Logger):
            logger.disabled = False  # logging.config disables all loggers that exist when it is called
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of shared data: $STREAMAV_SHARED_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("STREAMAV_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.exists():
        pytest.skip(f"the shared data are missing: {folder}; set STREAMAV_SHARED_DATA to their folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        reason = f"the shared data are broken: {folder} is empty or not a folder"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a complete model with random weights."""
    from rigs.roles import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of built engines, one for all processes of pytest, so that an engine is built only once."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "home"
    home.mkdir(exist_ok=True)
    return home


@pytest.fixture(scope="session", autouse=True)
def _own_home(engine_home: Path) -> Iterator[None]:
    """Use `engine_home` in all tests: they neither read nor change the user's own engines and models."""
    before = os.environ.get("STREAMAV_HOME")
    os.environ["STREAMAV_HOME"] = str(engine_home)
    yield
    del os.environ["STREAMAV_HOME"]
    if before is not None:
        os.environ["STREAMAV_HOME"] = before


@pytest.fixture(scope="module")
def quiet_trace() -> Iterator[None]:
    """Keep pytest from recording torch's trace of every node, which doubles the time of an export."""
    trace = logging.getLogger("torch.__trace")
    before, trace.disabled = trace.disabled, True
    yield
    trace.disabled = before


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Return a running broker without passwords; without the program mosquitto skip the test, or fail in CI."""
    from rigs.mosquitto import Broker

    one = Broker(tmp_path / "broker").start()
    yield one
    one.stop()
