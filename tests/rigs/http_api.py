"""Runs the HTTP API alone, without a pipeline, over a journal and clips on disk, and asks it over real connections."""

from __future__ import annotations

import http.client
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rigs.live_page import apart
from rigs.published_events import MODEL
from rigs.services import missing

from streamav.api import Facts, HttpApi, KnownSource
from streamav.config import DetectionSettings, HttpSettings
from streamav.control import Controls
from streamav.publish.pending import MqttCounters
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions

__all__ = ["Answer", "ask", "need_api", "served"]

THRESHOLDS = {"bark": Thresholds(on=0.7, off=0.3), "cat": Thresholds(on=0.6, off=0.2)}

LABELS = tuple(
    LabelOptions(label=label, label_name=label.title(), class_id=number, thresholds=thresholds)
    for number, (label, thresholds) in enumerate(THRESHOLDS.items())
)


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


def need_api() -> None:
    """Skip the test when the extra web is not installed; fail in CI."""
    for name in ("starlette", "uvicorn", "websockets", "prometheus_client"):
        if importlib.util.find_spec(name) is None:
            missing(f"{name} is missing: pip install 'streamav[web]'")


def ask(address: str, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None) -> Answer:
    """Send one request; *path* is sent as it is, after the slash."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.putrequest(method, f"/{path}", skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@contextmanager
def served(
    *,
    journal: Path | None = None,
    clips: Path | None = None,
    settings: HttpSettings | None = None,
    mqtt: MqttCounters | None = None,
    idle_s: float = 0.0,
    grid: int = 7,
    controls: Controls | None = None,
) -> Iterator[HttpApi]:
    """Run the API for the sources porch and gate until the block ends; with controls it tells what they hold and takes changes."""
    need_api()

    def detection(name: str) -> DetectionSettings:
        return DetectionSettings() if controls is None else controls.plan(name).detection

    sources = [
        KnownSource(id=name, live=True, latency_segments=4, labels=lambda: LABELS, grid=grid, detection=partial(detection, name))
        for name in ("porch", "gate")
    ]
    change = None if controls is None else controls.change
    facts = Facts(sources=sources, model=lambda: MODEL, idle_s=lambda: idle_s, journal=journal, clips=clips, mqtt=mqtt, change=change)
    api = HttpApi(settings or HttpSettings(listen="127.0.0.1:0"), facts)
    apart(api.start())
    try:
        yield api
    finally:
        apart(api.close())
