"""Tests the package as a user installs it: a wheel is built and installed into an environment of its own, away from the repository."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rigs.mosquitto import need_mosquitto
from rigs.services import missing

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built wheel. The build backend runs directly, so that nothing is downloaded."""
    if importlib.util.find_spec("hatchling") is None:
        missing("hatchling is missing: pip install hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
@pytest.mark.broker
def test_the_wheel_runs_the_demonstration(wheel: Path, tmp_path: Path) -> None:
    """`pip install` of the wheel, then `streamav demo` in an empty folder: the model, its files and the program are all in the wheel.

    The dependencies are those of this environment: the new one sees their folder, but not the repository.
    """
    need_mosquitto()
    venv.create(tmp_path / "venv", with_pip=False)
    bin_ = tmp_path / "venv" / "bin"
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(bin_ / "python"), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (packages / "dependencies.pth").write_text(f"{Path(np.__file__).parents[1]}\n", encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}

    def run(*command: str, timeout_s: float = 110.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)

    where = run(str(bin_ / "python"), "-c", "import streamav; print(streamav.__file__)").stdout.strip()
    assert where.startswith(str(packages))
    done = run(str(bin_ / "streamav"), "demo", "--seconds", "14", "--speed", "max", "--model", "starter")
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(ROOT) not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_holds_what_runs_need_and_nothing_private(wheel: Path) -> None:
    """The wheel has the models, recipes, the page and the schemas, and no test, cache or file of a user."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for wanted in (
        "streamav/models/starter/model.json", "streamav/engines/recipes/cpu-int8.toml", "streamav/view/static/index.html",
        "streamav/publish/schemas/streamav.event-1.json", "streamav/py.typed", "streamav/api/routes.py",
    ):  # fmt: skip
        assert wanted in names
    assert not [name for name in names if not name.startswith(("streamav/", "streamav-")) or "__pycache__" in name or "/cache/" in name]
