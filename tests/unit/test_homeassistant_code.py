"""Tests of the messages for Home Assistant with the schemas of its own code; `make test-homeassistant` installs it and runs them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rigs.homeassistant import home_assistant_python

from streamav.publish.homeassistant import Devices
from streamav.publish.topics import Topics

pytestmark = [pytest.mark.homeassistant, pytest.mark.slow]

CHECK = Path(__file__).parents[1] / "rigs" / "homeassistant_check.py"


def refusals(messages: list[dict[str, Any]]) -> list[str]:
    """Return what Home Assistant says against messages."""
    found = subprocess.run(
        [str(home_assistant_python()), "-P", str(CHECK)],
        input=json.dumps(messages),
        capture_output=True,
        text=True,
        timeout=100,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        check=False,
    )
    assert found.stdout.endswith("checked\n"), found.stderr
    return found.stdout.splitlines()[:-1]


def test_home_assistant_takes_every_device_and_component() -> None:
    """Each device and each component passes its schema, and no key is ignored; wrong ones are refused."""
    devices = Devices(
        Topics("house/av"), "homeassistant", {"porch": ["bark", "baby_cry"], "Door-2": ["bark"]}, commands=True, snapshot=True
    )
    messages = [json.loads(one.payload) for one in devices.announcements()]
    assert refusals(messages) == []
    messages[0]["o"]["colour"] = "red"
    messages[1]["cmps"]["threshold"]["min"] = 2
    messages[1]["cmps"]["class_bark"]["device_class"] = "bark"
    del messages[1]["cmps"]["enabled"]["command_topic"]
    assert len(refusals(messages)) == 4
