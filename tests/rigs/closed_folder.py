"""Runs Python as a user to whom a folder is closed, or read-only, also where the tests run as root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["close", "run_without_rights"]

STRANGER = 65534
_RIGHTS = "-dac_override,-dac_read_search"


def close(folder: Path, mode: int) -> None:
    """Give a folder to another user where that is possible, with these rights for all others in *mode*."""
    if os.getuid() == 0:
        os.chown(folder, STRANGER, STRANGER)
    folder.chmod(mode)


def run_without_rights(program: str, *arguments: str, environment: dict[str, str | None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a Python program that obeys the rights of files; root otherwise does not. None takes a variable away."""
    drop = ("setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}") if os.getuid() == 0 else ()
    changed = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    whole = {name: value for name, value in changed.items() if value is not None}
    return subprocess.run(
        [*drop, sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60, env=whole
    )
