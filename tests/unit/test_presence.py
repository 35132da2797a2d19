"""A device that does not exist is told before a model is loaded."""

from __future__ import annotations

from importlib import import_module

import pytest

from streamav.capture.microphone import Microphone
from streamav.cli import main
from streamav.clock import SystemClock
from streamav.errors import CaptureError


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


def test_a_machine_without_a_microphone_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says that there is no microphone, not the number by which PortAudio means none."""
    module = import_module("sounddevice")

    def refuse(*_: object, **__: object) -> object:
        msg = "Error querying device -1"
        raise module.PortAudioError(msg)

    monkeypatch.setattr(module, "query_devices", refuse)
    with pytest.raises(CaptureError, match=r"microphone 'default' cannot be opened: there is no microphone"):
        Microphone("default", SystemClock()).check()
