"""Tests of reading the settings again while a run goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from streamav.app import Reload
from streamav.config import DetectionSettings, Settings
from streamav.control import Controls, SourcePlan
from streamav.errors import SettingsError
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions


def settings(**changes: Any) -> Settings:  # noqa: ANN401 - any setting
    sources = [{"id": "porch", "uri": "rtsp://a:hunter2@cam/1"}, {"id": "gate", "uri": "rtsp://cam/2"}]
    return Settings.model_validate({"sources": sources, **changes})


def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
    if "unicorn" in detection.classes:
        msg = "detection.classes.unicorn: there is no such label"
        raise SettingsError(msg)
    thresholds = Thresholds(on=detection.on or 0.6, off=0.3)
    label = LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=thresholds)
    return SourcePlan(source=source, detection=detection, labels=(label,), latency_segments=1)


def controls(begun: Settings) -> Controls:
    return Controls({one.id: one.detection for one in begun.each_source()}, resolve)


def source(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    return {"id": name, "uri": f"rtsp://{name}/1"} | more


PORCH, GATE = source("porch", uri="rtsp://a:hunter2@cam/1"), source("gate", uri="rtsp://cam/2")


def test_thresholds_of_one_source_change_and_the_other_stays() -> None:
    """A changed threshold holds for its source; a general one for all that have none of their own."""
    begun = settings()
    own = settings(sources=[PORCH | {"detection": {"on": 0.8}}, GATE])
    control = controls(begun)
    assert Reload(lambda: own, begun, control).now().changed == ("porch",)
    assert [control.plan(name).labels[0].thresholds.on for name in ("porch", "gate")] == [0.8, 0.6]
    both = settings(sources=[PORCH | {"detection": {"on": 0.8}}, GATE], detection={"on": 0.7})
    assert Reload(lambda: both, begun, control).now().changed == ("gate",)
    assert Reload(lambda: both, begun, control).now().changed == ()


def test_what_needs_a_restart_is_named_without_values() -> None:
    """Every other setting that differs is named, also sources that come and go, and no value is shown; the rest takes effect."""
    begun = settings(mqtt={"host": "home", "password": "old secret"})
    newer = settings(
        sources=[source("porch", uri="rtsp://a:hunter3@cam/1", detection={"on": 0.9, "latency_segments": 3}), source("yard")],
        mqtt={"host": "home", "password": "new secret", "outbox": {"messages": 5}},
        capture={"timeout_s": 9.0},
    )
    control = controls(begun)
    found = Reload(lambda: newer, begun, control).now()
    assert set(found.need_restart) == {
        "mqtt.password", "mqtt.outbox.messages", "source porch: uri", "source porch: capture.timeout_s",
        "source yard (new)", "source gate (gone)",
    }  # fmt: skip
    assert found.changed == ("porch",)
    assert control.plan("porch").labels[0].thresholds.on == 0.9


def test_other_labels_wait_for_a_restart_and_hold_nothing_up() -> None:
    """The choice of labels of one source needs a restart; the thresholds of the others change all the same."""
    begun = settings()
    newer = settings(sources=[PORCH | {"detection": {"labels": ["bark"], "on": 0.9}}, GATE | {"detection": {"on": 0.9}}])
    found = Reload(lambda: newer, begun, controls(begun)).now()
    assert (found.changed, found.need_restart) == (("gate",), ("source porch: detection.labels",))


@pytest.mark.parametrize("wrong", ["unicorn", "file"])
async def test_a_wrong_file_changes_nothing(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    """When one source is wrong, or the file cannot be read, all sources go on as before, and one line says why."""
    begun = settings()
    newer = settings(sources=[PORCH | {"detection": {"on": 0.9}}, GATE | {"detection": {"classes": {"unicorn": {"on": 0.5}}}}])

    def read() -> Settings:
        if wrong == "file":
            msg = "the configuration file x.toml must be TOML"
            raise SettingsError(msg)
        return newer

    control = controls(begun)
    await Reload(read, begun, control)()
    assert control.plan("porch").labels[0].thresholds.on == 0.6
    assert "not reloaded" in caplog.text


async def test_a_hangup_reloads_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SIGHUP reloads and does not stop the run; many of them at once become few reloads."""
    from streamav.app.signals import _at_hangup

    began, go, count = asyncio.Event(), asyncio.Event(), 0

    async def reload() -> None:
        nonlocal count
        count += 1
        began.set()
        await go.wait()

    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    _at_hangup(loop, reload, tasks)
    try:
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)
        await began.wait()
        go.set()
        await asyncio.gather(*tasks)
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
    assert 1 <= count <= 2
