"""A device that does not exist is told before a model is loaded."""

from __future__ import annotations

from importlib import import_module

import pytest

from streamav.cli import main


@pytest.mark.parametrize("devices", [["--camera", "97", "--mic", "none"], ["--camera", "none", "--mic", "no such microphone"]])
def test_a_missing_device_is_told_before_the_model_is_loaded(
    devices: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose only source is a device that is not there ends with exit code 3 and the device's name, and opens no engine."""
    monkeypatch.setattr(import_module("streamav.app.build"), "open_engine", lambda *_, **__: pytest.fail("the engine was opened first"))
    assert main(["run", *devices, "--model", "starter"]) == 3
    told = capsys.readouterr().err
    assert repr(next(one for one in devices[1::2] if one != "none")) in told
    assert "streamav devices" in told
