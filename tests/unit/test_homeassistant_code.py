"""Tests of the messages for Home Assistant with its own code.

It needs other versions of packages than streamav, so it lies in a folder of its own:

    pip install --target /tmp/ha homeassistant==2024.3.3       # the last version for Python 3.11
    STREAMAV_HOMEASSISTANT=/tmp/ha python -m pytest tests/unit/test_homeassistant_code.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamav.publish.homeassistant import Devices
from streamav.publish.topics import Topics

CHECK = Path(__file__).parents[1] / "rigs" / "homeassistant_check.py"


def refusals(messages: list[dict[str, Any]]) -> list[str]:
    """Return what Home Assistant says against messages."""
    folder = os.environ.get("STREAMAV_HOMEASSISTANT")
    if folder is None:
        pytest.skip("STREAMAV_HOMEASSISTANT does not name a folder with the package homeassistant")
    found = subprocess.run(
        [sys.executable, str(CHECK)],
        input=json.dumps(messages),
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": folder},
        check=False,
    )
    assert found.stdout.endswith("checked\n"), found.stderr
    return found.stdout.splitlines()[:-1]


@pytest.mark.slow
def test_home_assistant_takes_every_component() -> None:
    """Each component of each device passes the schema of its platform, and no key is ignored; a wrong one is refused."""
    devices = Devices(
        Topics("house/av"), "homeassistant", {"porch": ["bark", "baby_cry"], "Door-2": ["bark"]}, commands=True, snapshot=True
    )
    messages = [json.loads(one.payload) for one in devices.announcements()]
    assert refusals(messages) == []
    messages[1]["cmps"]["threshold"]["min"] = 2
    messages[1]["cmps"]["class_bark"]["device_class"] = "bark"
    del messages[1]["cmps"]["enabled"]["command_topic"]
    assert len(refusals(messages)) == 3
