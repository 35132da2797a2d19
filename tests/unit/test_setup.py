"""Tests of scripts/setup: which torch it asks pip for. Its Python is a script that writes its arguments down; nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "setup"
PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> calls
case "$*" in
  "-c import torch") exit "$NO_TORCH" ;;
  *urlopen*) exit "$NO_INDEX" ;;
  *--no-index*) exit "$NO_WHEEL" ;;
esac
"""
INSTALLED = "#!/usr/bin/env bash\necho install ok installed\n"


def asked(folder: Path, **answers: str) -> tuple[list[str], str]:
    """Run `scripts/setup run` in *folder*; return its calls of pip, in order, and what it said."""
    for place, text in {".venv/bin/python": PYTHON, "bin/dpkg-query": INSTALLED}.items():
        file = folder / place
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o755)
    (folder / "scripts").mkdir()
    shutil.copy(SCRIPT, folder / "scripts" / "setup")
    (folder / "pyproject.toml").write_text('dependencies = [\n  "torch>=2.11,<2.16",   # a reason\n  "numpy>=1.26,<3",\n]\n')
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"NO_TORCH": "1", "NO_INDEX": "1", "NO_WHEEL": "1", "PATH": path, "PYTHON": sys.executable} | answers
    command = [str(folder / "scripts" / "setup"), "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    calls = (folder / "calls").read_text().splitlines()
    return [call.split("--disable-pip-version-check ")[1] for call in calls if call.startswith("-m pip")], done.stderr


@pytest.fixture
def without_gpu() -> None:
    """Skip on a machine with a GPU: there pip takes its index's build of torch, the CUDA one."""
    if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvmap").exists() or shutil.which("nvidia-smi"):
        pytest.skip("there is an NVIDIA driver here")
    if not SCRIPT.is_file():
        pytest.skip("not a working tree")


REST = "-e .[web]"
FROM_INDEX = "--index-url https://download.pytorch.org/whl/cpu torch>=2.11,<2.16"
FROM_FOLDER = "--no-index --no-deps torch>=2.11,<2.16"


@pytest.mark.parametrize(
    ("answers", "calls", "said"),
    [
        ({"NO_INDEX": "0"}, [FROM_INDEX, REST], "taking the CPU build of torch"),
        ({"NO_WHEEL": "0"}, [FROM_FOLDER, REST], "took torch from the folder of wheels"),
        ({}, [FROM_FOLDER, REST], "perhaps the CUDA build of about 3 GB"),
        ({"NO_TORCH": "0"}, [REST], ""),
    ],
    ids=["index", "folder", "neither", "there already"],
)
def test_torch_comes_first_and_without_cuda(
    tmp_path: Path, without_gpu: None, answers: dict[str, str], calls: list[str], said: str
) -> None:
    """Torch comes before the rest, from PyTorch's CPU index, else from pip's own folders, in our range; an installed one stays."""
    got, stderr = asked(tmp_path, **answers)
    assert got == calls
    assert said in stderr


def test_the_range_is_found_in_the_real_file() -> None:
    """The script reads the range of torch with a pattern, which finds exactly one line of pyproject.toml."""
    if not SCRIPT.is_file():
        pytest.skip("not a working tree")
    assert r's/^  "\(torch>=[^"]*\)".*/\1/p' in SCRIPT.read_text(encoding="utf-8")
    assert len(re.findall(r'^  "torch>=[^"]*".*', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)) == 1
