"""Tests that the example unit for systemd agrees with the program."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "examples" / "streamav.service"


def settings() -> dict[str, list[str]]:
    """Return the values of each key of the unit."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if found_line := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(found_line[1], []).append(found_line[2])
    return found


def test_the_unit_names_what_the_program_knows() -> None:
    """The command and the variables of the unit exist; the service manager is told what Type and WatchdogSec promise."""
    from streamav.cli import COMMANDS
    from streamav.config_loading import check_environment

    unit = settings()
    (command,) = unit["ExecStart"]
    assert shlex.split(command)[1] in COMMANDS
    check_environment(dict(word.partition("=")[::2] for words in unit["Environment"] for word in words.split()))
    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) >= 30


def test_the_unit_gives_few_rights() -> None:
    """The service has no capability, sees no home, writes only its own folders, and gets no other system calls than a service needs."""
    unit = settings()
    assert unit["CapabilityBoundingSet"] == [""]
    expected = {"NoNewPrivileges": "true", "ProtectSystem": "strict", "ProtectHome": "true", "SystemCallFilter": "@system-service"}
    assert all(unit[key] == [value] for key, value in expected.items())


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Where systemd-analyze is installed, it finds no fault in the unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing")
    copy = tmp_path / UNIT.name
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    copy.write_text(text.replace("User=streamav", "User=root"), encoding="utf-8")
    done = subprocess.run([program, "verify", str(copy)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "")
