"""Tests of reading the settings again while a run goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from rigs.waiting import until

from streamav.app import Reload, SourceExchange
from streamav.app.signals import _at_hangup, interruptible
from streamav.config import DetectionSettings, OneOfSources, Settings
from streamav.control import Controls, SourcePlan
from streamav.errors import CaptureError, SettingsError
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


class FakeExchange:
    """Takes what comes and goes; one source cannot be prepared."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.told: list[tuple[list[str], list[str]]] = []

    def prepare(self, settings: Settings, coming: Sequence[OneOfSources]) -> list[str]:
        assert all(one in settings.each_source() for one in coming)
        if self.refused in {one.id for one in coming}:
            msg = f"source {self.refused}: there is no file"
            raise CaptureError(msg)
        return [one.id for one in coming]

    def apply(self, prepared: Sequence[str], gone: Sequence[str]) -> Future[None]:
        self.told.append((list(prepared), list(gone)))
        done: Future[None] = Future()
        done.set_result(None)
        return done


def reloading(read: Callable[[], Settings], begun: Settings, control: Controls, exchange: FakeExchange | None = None) -> Reload:
    return Reload(read, begun, control, cast("SourceExchange", exchange or FakeExchange()))


def source(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    return {"id": name, "uri": f"rtsp://{name}/1"} | more


PORCH, GATE = source("porch", uri="rtsp://a:hunter2@cam/1"), source("gate", uri="rtsp://cam/2")


def test_thresholds_of_one_source_change_and_the_other_stays() -> None:
    """A changed threshold holds for its source; a general one for all that have none of their own."""
    begun = settings()
    own = settings(sources=[PORCH | {"detection": {"on": 0.8}}, GATE])
    control = controls(begun)
    assert reloading(lambda: own, begun, control).now().changed == ("porch",)
    assert [control.plan(name).labels[0].thresholds.on for name in ("porch", "gate")] == [0.8, 0.6]
    both = settings(sources=[PORCH | {"detection": {"on": 0.8}}, GATE], detection={"on": 0.7})
    assert reloading(lambda: both, begun, control).now().changed == ("gate",)
    assert reloading(lambda: both, begun, control).now().changed == ()


def test_what_needs_a_restart_is_named_without_values() -> None:
    """Every setting of the service that differs is named, and no value is shown; the rest takes effect."""
    begun = settings(mqtt={"host": "home", "password": "old secret"})
    newer = settings(
        sources=[PORCH | {"detection": {"on": 0.9, "latency_segments": 3}}, GATE],
        mqtt={"host": "home", "password": "new secret", "outbox": {"messages": 5}},
    )
    control, exchange = controls(begun), FakeExchange()
    found = reloading(lambda: newer, begun, control, exchange).now()
    assert set(found.need_restart) == {"mqtt.password", "mqtt.outbox.messages"}
    assert found.changed == ("porch",)
    assert control.plan("porch").labels[0].thresholds.on == 0.9
    assert not exchange.told


@pytest.mark.parametrize(
    "changed",
    [
        {"uri": "rtsp://a:hunter3@cam/1"},
        {"loop": True, "uri": "film.mp4"},
        {"capture": {"timeout_s": 9.0}},
        {"detection": {"labels": ["bark"]}},
    ],
    ids=["address", "another kind", "capture", "labels"],
)
def test_sources_come_go_and_replace_damaged(changed: dict[str, Any]) -> None:
    """A source with another address, other capture or other labels starts again; the next reload compares with what runs by then."""
    begun = settings(sources=[PORCH, GATE, source("old")])
    newer = settings(sources=[PORCH | changed, GATE | {"detection": {"on": 0.9}}, source("yard")])
    exchange = FakeExchange()
    reload = reloading(lambda: newer, begun, controls(begun), exchange)
    found = reload.now()
    assert (found.added, found.removed, found.restarted, found.changed) == (("yard",), ("old",), ("porch",), ("gate",))
    assert exchange.told == [(["porch", "yard"], ["old"])]
    assert found.need_restart == ()


def test_a_node_of_a_cluster_concerns_no_single_run() -> None:
    """The machine that a cluster would choose reopens nothing here."""
    begun = settings()
    exchange = FakeExchange()
    reloading(lambda: settings(sources=[PORCH | {"node": "attic"}, GATE]), begun, controls(begun), exchange).now()
    assert not exchange.told


@pytest.mark.parametrize("wrong", ["unicorn", "file", "media", "many"])
async def test_a_wrong_file_changes_nothing(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    """When one source is wrong, or the file cannot be read, all sources go on as before, and one line says why."""
    begun = settings()
    gate = GATE | {"detection": {"classes": {"unicorn": {"on": 0.5}}}} if wrong == "unicorn" else GATE
    more = [source("yard", uri="gone.mp4")] if wrong == "media" else [source(f"s{number}") for number in range(63 * (wrong == "many"))]
    newer = settings(sources=[PORCH | {"detection": {"on": 0.9}}, gate, *more])

    def read() -> Settings:
        if wrong == "file":
            msg = "the configuration file x.toml must be TOML"
            raise SettingsError(msg)
        return newer

    control, exchange = controls(begun), FakeExchange(refused="yard")
    await reloading(read, begun, control, exchange)()
    assert control.plan("porch").labels[0].thresholds.on == 0.6
    assert not exchange.told
    assert "not reloaded" in caplog.text


async def test_a_hangup_reloads_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SIGHUP reloads and does not stop the run; many of them at once become few reloads."""
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


async def test_a_hangup_while_the_run_ends_reloads_nothing() -> None:
    """Once the run was asked to stop, SIGHUP neither ends the process nor reads the file."""
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    _at_hangup(loop, asyncio.Event().wait, tasks, lambda: True)  # type: ignore[arg-type]
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        assert not tasks
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def test_a_hangup_ends_no_service(tmp_path: Path) -> None:
    """SIGHUP while the run is built is remembered, and one at the very end of the process does nothing; under nohup nothing changes."""
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, os, signal\n"
        "hangup = lambda: os.kill(os.getpid(), signal.SIGHUP)\n"
        "atexit.register(hangup)\n"  # runs last
        "from streamav.app import hold_hangups\n"
        "came = hold_hangups()\n"
        "hangup()\n"
        "print(came(), came(), signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)\n",
        encoding="utf-8",
    )
    for before, said in ((signal.SIG_DFL, "True False False"), (signal.SIG_IGN, "False False True")):
        older = signal.signal(signal.SIGHUP, before)
        try:
            done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
        finally:
            signal.signal(signal.SIGHUP, older)
        assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr


async def test_the_end_of_a_run_leaves_the_signals_as_they_were() -> None:
    """A SIGHUP while the summary is printed must not end the process: asyncio alone would bring the default action back."""
    older = signal.signal(signal.SIGHUP, handler := lambda *_: None)
    try:
        with interruptible([signal.SIGHUP], lambda: None):
            assert signal.getsignal(signal.SIGHUP) is not handler
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, older)


@pytest.mark.parametrize("fault", [SettingsError("wrong"), RuntimeError("a fault of ours"), None], ids=["file", "internal", "none"])
async def test_the_service_manager_hears_of_the_end_of_every_reload(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """RELOADING=1 is followed by READY=1, also after an error of ours: systemd would wait for ever otherwise."""
    with manager_socket(tmp_path, monkeypatch) as told:

        def read() -> Settings:
            if fault is not None:
                raise fault
            return settings(sources=[PORCH])

        await reloading(read, settings(), controls(settings()))()
        assert [line.partition("=")[0] for line in told()] == ["RELOADING", "MONOTONIC_USEC", "READY"]


async def test_a_reload_that_the_end_of_the_run_overtakes_says_nothing_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The loop makes no exchange after the end; the reload is cancelled, and READY=1 does not follow STOPPING=1."""

    class Late(FakeExchange):
        def apply(self, prepared: Sequence[str], gone: Sequence[str]) -> Future[None]:
            super().apply(prepared, gone)
            return Future()

    with manager_socket(tmp_path, monkeypatch) as told:
        exchange = Late()
        task = asyncio.create_task(reloading(lambda: settings(sources=[PORCH]), settings(), controls(settings()), exchange)())
        await until(lambda: bool(exchange.told))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert "READY=1" not in told()


@contextmanager
def manager_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Listen as the service manager does; yield what returns the lines that came."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))

        def told() -> list[str]:
            found: list[str] = []
            with suppress(BlockingIOError):
                while True:
                    found += listener.recv(4096).decode().splitlines()
            return found

        yield told
