"""Checks a source step by step: its address, its name, its port, and whether pictures and sound arrive and what they are like."""

from __future__ import annotations

import queue
import shlex
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from streamav.capture.address import is_network
from streamav.capture.open import open_source
from streamav.doctor.finding import error, ok, refused, warning
from streamav.errors import StreamavError, reason_of
from streamav.pipeline.health import Health
from streamav.redaction import show_address
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, SourceContent, SourceState, StateChange, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamav.config import OneOfSources
    from streamav.doctor.finding import Finding
    from streamav.types import Segment

__all__ = ["check_source"]

_PORTS: Final = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "http": 80, "https": 443}
"""IANA's ports; a scheme that has none here, or uses UDP, is not connected to."""
_CONNECT_S: Final = 5.0
"""Longest wait for a connection to the host of a source, s (our choice)."""
_FIRST_S: Final = 20.0
"""Longest wait for the first picture and the first sound."""
_LISTEN_S: Final = 12
"""Seconds of media that are judged: as many as a run judges, and a little more."""
_FRAMES: Final = 4
_PICTURE: Final = (112, 112)


@dataclass(slots=True)
class _Arrivals:
    """What arrived of a source."""

    picture_s: float | None = None
    """Seconds from the opening to the first picture."""
    sound_s: float | None = None
    segments: list[Segment] = field(default_factory=list)
    content: SourceContent = field(default_factory=SourceContent)
    error: Exception | None = None


def check_source(one: OneOfSources) -> Iterator[Finding]:
    """Check one source; a later step is left out when an earlier one fails."""
    name = f"source {one.id}"
    if one.uri is not None and is_network(one.uri):
        findings = list(_connect(name, one.uri))
        yield from findings
        if any(finding.remedy for finding in findings):
            return
    arrivals = _listen(one)
    yield from _judge(name, one, arrivals)


def _connect(name: str, uri: str) -> Iterator[Finding]:
    """Resolve the host of an address and connect to its port."""
    parts = urlsplit(uri)
    try:
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme.lower())
    except ValueError:
        yield error(name, f"{show_address(uri)} has a port that is no number", "write the address as scheme://host:port/path", 3)
        return
    if not host or parts.scheme.lower() in {"udp", "srt", "rtp"} or (parts.scheme.lower() == "tcp" and "listen" in parts.query):
        return
    try:
        found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
    except OSError as exc:
        yield error(
            f"{name}: name",
            f"{host} cannot be resolved: {reason_of(exc)}",
            f"correct the name (`getent hosts {host}` tests it), or write its IP address: {parts.scheme}://192.0.2.10/...",
            3,
        )
        return
    yield ok(f"{name}: name", f"{host} is {found[0][4][0]}")
    if port is None:
        return
    began_s = time.monotonic()
    try:
        with socket.create_connection((host, port), _CONNECT_S):
            yield ok(f"{name}: port", f"{host}:{port} answers after {1e3 * (time.monotonic() - began_s):.0f} ms")
    except OSError as exc:
        remedy = f"check that the camera is on and in this network (ping -c 3 {host}), the port in its settings, and the firewall between"
        yield error(f"{name}: port", f"{host}:{port} does not answer: {reason_of(exc)}", remedy, 3)


def _listen(one: OneOfSources) -> _Arrivals:
    """Read a source until enough of it was seen and heard, it ends, fails, or too much time has passed."""
    arrivals, items = _Arrivals(), queue.SimpleQueue[object]()
    try:
        source = open_source(one.model_copy(update={"speed": "max"}), one.capture, picture=_PICTURE, frames_per_second=_FRAMES)
    except StreamavError as exc:
        arrivals.error = exc
        return arrivals

    def read() -> None:
        try:
            for item in source.items():
                items.put(item)
            items.put(None)
        except Exception as exc:  # noqa: BLE001 - becomes a finding
            items.put(exc)

    began_s = time.monotonic()
    segmenter = Segmenter(SegmenterOptions(frames_per_second=_FRAMES, picture=_PICTURE, patience_s=1.5 if source.live else 10.0))
    threading.Thread(target=read, name="doctor", daemon=True).start()
    end_s = began_s + _FIRST_S + (_LISTEN_S if source.live else 0)
    try:
        while len(arrivals.segments) < _LISTEN_S and _take(arrivals, items, segmenter, began_s, end_s):
            pass
    finally:
        source.close()
    return arrivals


def _take(arrivals: _Arrivals, items: queue.SimpleQueue[object], segmenter: Segmenter, began_s: float, end_s: float) -> bool:
    """Take the next item; return False after the last one."""
    try:
        item = items.get(timeout=max(0.0, end_s - time.monotonic()))
    except queue.Empty:
        return False
    passed_s = time.monotonic() - began_s
    if isinstance(item, VideoFrame) and arrivals.picture_s is None:
        arrivals.picture_s = passed_s
    if isinstance(item, AudioBlock) and arrivals.sound_s is None:
        arrivals.sound_s = passed_s
    if isinstance(item, (AudioBlock, VideoFrame)):
        arrivals.segments += segmenter.push(item)
    elif isinstance(item, SourceContent):
        arrivals.content = item
        segmenter.expect(item)
    elif isinstance(item, Exception):
        arrivals.error = item
    elif item is None:
        arrivals.segments += segmenter.close()
    return isinstance(item, (AudioBlock, VideoFrame, SourceContent)) or (isinstance(item, StateChange) and item.state is SourceState.ONLINE)


def _judge(name: str, one: OneOfSources, arrivals: _Arrivals) -> Iterator[Finding]:
    """Say what arrived, when, and what it is like."""
    for what, first_s in (("picture", arrivals.picture_s), ("sound", arrivals.sound_s)):
        if arrivals.content.lacks == what:
            remedy = f"switch the {what} of the camera on, or take it from elsewhere (--mic, --sound-source), if such events are wanted"
            yield warning(f"{name}: {what}", "it has none, so no event can be heard and seen", remedy)
        elif first_s is not None:
            yield ok(f"{name}: {what}", f"the first {what} after {first_s:.1f} s")
        elif arrivals.error is None:
            remedy = "switch the camera's microphone on" if what == "sound" else "check the camera's stream settings"
            yield error(f"{name}: {what}", f"none within {_FIRST_S:.0f} s", f"{remedy}, or choose another stream of it", 3)
    if arrivals.error is not None:
        yield _failed(name, one, arrivals.error)
        return
    content = arrivals.content
    if (content.picture and arrivals.picture_s is None) or (content.sound and arrivals.sound_s is None):
        return
    health = Health()
    health.expect(content)
    complaint = None
    for segment in arrivals.segments:
        complaint = health.push(segment.quality, 0)
    level = _level_dbfs(arrivals.segments)
    if complaint is not None:
        found, _, remedy = complaint.partition(": ")
        yield warning(f"{name}: quality", found, remedy or "look at the picture and listen to the sound of the source")
    elif one.scene:
        yield ok(f"{name}: quality", "the embedded scene")
    else:
        words = {"": "seen and heard", "sound": "seen", "picture": "heard"}[content.lacks]
        yield ok(f"{name}: quality", f"{len(arrivals.segments)} s {words}" + (f", sound level {level}" if content.sound else ""))


def _failed(name: str, one: OneOfSources, exc: Exception) -> Finding:
    """Return the finding about a source that cannot be read."""
    if not isinstance(exc, StreamavError):
        return error(name, str(exc), "this is a bug: send the file that `streamav support-bundle` writes", 1)
    player = (
        f"see whether FFmpeg's player can read it: ffplay {shlex.quote(show_address(one.uri))}" if one.uri else "run `streamav devices`"
    )
    return refused(name, exc, player)


def _level_dbfs(segments: list[Segment]) -> str:
    """Return the range of the sound's level, over segments, as words and a meter."""
    from streamav.features.level import level_dbfs

    levels = [level for segment in segments if (level := level_dbfs(segment.audio)) is not None]
    if not levels:
        return "silence"
    bar = "#" * max(0, round((max(levels) + 60.0) / 5.0))
    return f"{min(levels):.0f} to {max(levels):.0f} dBFS [{bar:<12}]"
