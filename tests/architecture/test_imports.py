"""Tests of the imports between packages, and of modules that are imported late."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamav

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnxruntime", "av", "sounddevice", "aiomqtt", "h5py", "matplotlib")


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """All import contracts of pyproject.toml hold: the layers, the pure stages, the loop."""
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import streamav",
        "import streamav.cli",
        "from streamav.cli import main; assert main(['--help']) == 0",
        "from streamav.cli import main; assert main(['run', '--help']) == 0",
        "import streamav.pipeline",
        "import streamav.engines",
    ],
)
def test_what_is_heavy_is_loaded_late(code: str) -> None:
    """Importing the package and showing help import no torch, no media library and no MQTT client."""
    check = f"{code}\nimport sys\nfound = [name for name in {HEAVY!r} if name in sys.modules]\nassert not found, found"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def _modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(streamav.__path__, "streamav.") if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", _modules())
def test_public_names_are_declared_and_exist(name: str) -> None:
    """Every module has __all__, sorted as ruff sorts it, and each name in it exists."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        pytest.skip(f"an optional package is missing: {exc.name}")
    if not (module.__doc__ or "").strip():
        pytest.fail(f"{name} has no docstring")
    public = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == name and callable(value)
    ]
    declared = getattr(module, "__all__", None)
    if declared is None:
        assert not public, f"{name} defines {public} and has no __all__"
        return
    assert all(hasattr(module, key) for key in declared)


@pytest.mark.parametrize(
    ("what", "use"),
    [
        (r"os\.fsync|os\.replace|\.rename\(|mkstemp|mkdtemp|NamedTemporaryFile", "files.whole_file or files.whole_folder"),
        (r"\.update\(block\)|while block := \w+\.read\(_BLOCK\)", "files.file_sha256"),
        (r"isalnum\(\)", "slugs.slug"),
        (r"\.mkv", "files.MEDIA_SUFFIXES"),
    ],
)
def test_what_files_and_slugs_do_is_done_nowhere_else(what: str, use: str) -> None:
    """Only streamav.files renames files into place, hashes files and lists the endings of media files; only streamav.slugs makes slugs."""
    there = ROOT / "streamav" / f"{use.partition('.')[0]}.py"
    found = [path for path in sorted((ROOT / "streamav").rglob("*.py")) if path != there and re.search(what, path.read_text())]
    assert not found, f"use streamav.{use}"
