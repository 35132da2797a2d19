"""The sink that writes a clip and a snapshot of each confirmed event, in its own thread.

An event never waits for its clip. When the disk is full, clips are left out and events go on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from streamav.clips.jobs import Jobs
from streamav.clips.mp4 import picture_at, write_mp4
from streamav.clips.ready import ReadyMedia
from streamav.clips.retention import file_stem, prune
from streamav.clips.snapshot import drawn, jpeg
from streamav.clock import SteadyClock
from streamav.errors import reason_of
from streamav.files import whole_file
from streamav.privacy_modes import METADATA_ONLY, privacy_word, stricter
from streamav.types import EventPhase, SourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from streamav.clips.masks import ClipMasks
    from streamav.clips.ring import Footage, PacketRing, Recording
    from streamav.config import ClipSettings
    from streamav.privacy_modes import Privacy
    from streamav.types import Event, FinalScores, Telemetry

__all__ = ["ClipSink", "horizon_s"]

_log = logging.getLogger(__name__)

_NS: Final = 1_000_000_000
_REMEMBERED: Final = 10_000
"""Newest files of a run whose age is known without the clock of the machine."""
_WARN_AGAIN_S: Final = 600.0
"""Shortest time between two warnings that clips are left out, s (our choice)."""
_CONFIRMED_S: Final = 20
"""An event is confirmed at most ten segments after its start, a few more are on their way."""


def horizon_s(settings: ClipSettings, queue_segments: int) -> float:
    """Return how much a ring must keep for the beginning of an event that is confirmed now, s."""
    return settings.pre_s + queue_segments + _CONFIRMED_S


class _WithheldError(Exception):
    """A file may not be written any more; it is always caught here."""


class ClipSink:
    """Implements protocols.Sink. Its methods are called in one thread."""

    closes_first = True
    """The last clips of a run are told to other sinks, so these are closed later."""

    def __init__(
        self,
        settings: ClipSettings,
        folder: Path,
        rings: Mapping[str, PacketRing],
        *,
        tell: Callable[[ReadyMedia], None] | None = None,
        masks: Callable[[Privacy], ClipMasks] | None = None,
    ) -> None:
        """Prepare the sink; nothing is written before start().

        Args:
            settings: how much is recorded and kept.
            folder: for the clips.
            rings: source id -> ring; an event of another source gets no clip.
            tell: called on the loop with each file that is ready; None for no call.
            masks: makes what a privacy removes from one clip, in the thread that writes it; None where nothing can be removed.
        """
        self._masks = masks
        self._cleared = dict.fromkeys(rings, 0)
        self._tell_of = tell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settings, self._folder, self._rings = settings, folder, dict(rings)
        self.recordings: dict[str, Recording | None] = {}
        """By event, from its first confirmed message to its last one; None where nothing may be recorded."""
        self._made: deque[tuple[float, Path]] = deque(maxlen=_REMEMBERED)
        self._steady = SteadyClock()
        self._jobs = Jobs(self._warn, f"a clip cannot be written to {folder}")
        self._warned_s: float | None = None
        self.written = 0
        """Files written since the start."""

    async def start(self) -> None:
        """Make the folders and start the thread. A folder that cannot be made now is tried again for each clip."""
        try:
            for source in self._rings:
                (self._folder / source).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            self._warn(f"clips.dir must be a folder that can be made and written, got {self._folder}: {reason_of(exc)}")
        self._loop = asyncio.get_running_loop()
        self._jobs.start()
        self._jobs.put(self._prune)

    def add_source(self, source: str, ring: PacketRing) -> None:
        """Take the packets of a source that is added or started again while the run goes on."""
        self.drop_source(source)
        self._cleared.setdefault(source, 0)
        self._rings[source] = ring

    def drop_source(self, source: str) -> None:
        """Complete the clips of a source that is gone, with what was recorded of them; files stay."""
        ring = self._rings.pop(source, None)
        if ring is not None:
            ring.finish_all()

    def set_privacy(self, source: str, privacy: Privacy) -> None:
        """Use a privacy for a source from now on, in any thread. With metadata_only nothing that came before is written any more."""
        ring = self._rings.get(source)
        if ring is not None:
            ring.set_privacy(privacy)  # before the count: what is recorded between the two is refused
            self._cleared[source] += METADATA_ONLY in privacy

    def event(self, event: Event, latency_s: float) -> None:  # noqa: ARG002 - the protocol requires it
        """Start the clip of an event with its first confirmed message, and set its end with the last one."""
        ring = self._rings.get(event.source)
        if ring is None or not event.confirmed:
            return
        post_ns = round(self._settings.post_s * _NS)
        if event.id not in self.recordings:
            self.recordings[event.id] = None
            begin_ns = event.start_ns - round(self._settings.pre_s * _NS)
            until_ns = event.start_ns + round(self._settings.max_s * _NS) + post_ns
            if ring.wanted:
                path, since = self._path(event), self._cleared[event.source]
                self._snapshot(event, ring, path, since)
                self.recordings[event.id] = ring.record(begin_ns, until_ns, lambda one: self._put_clip(one, ring, path, event, since))
        if event.phase is EventPhase.END and event.end_ns is not None and (recording := self.recordings.pop(event.id)) is not None:
            ring.finish(recording, event.end_ns + post_ns)

    def source_state(self, source: str, state: SourceState, reason: str) -> None:  # noqa: ARG002 - the protocol requires it
        """End the clips of a source that was lost."""
        if state is SourceState.LOST and source in self._rings:
            self._rings[source].finish_all()

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore it."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them."""

    async def close(self) -> None:
        """Write what was recorded, and stop; wait at most a minute."""
        for ring in self._rings.values():
            ring.finish_all()
        await asyncio.to_thread(self._jobs.finish)

    # The thread that writes

    @property
    def idle(self) -> bool:
        """True while nothing waits to be written."""
        return self._jobs.idle

    def _put_clip(self, recording: Recording, ring: PacketRing, path: Path, event: Event, since: int) -> None:
        footage = recording.footage
        if footage is not None:
            self._jobs.put(lambda: self._write(footage, ring, path, event, since), footage.size)

    def _write(self, footage: Footage, ring: PacketRing, path: Path, event: Event, since: int) -> None:
        def write(part: Path, privacy: Privacy) -> None:
            write_mp4(part, footage, self._masked(privacy))

        if self._written(path.with_suffix(".mp4"), ring, event.source, since, footage.privacy, write):
            self._tell(ReadyMedia.of(event, "clip"), since)
            self._prune()

    def _snapshot(self, event: Event, ring: PacketRing, path: Path, since: int) -> None:
        if not self._settings.snapshots or self._jobs.full:
            return
        best = max(event.segments, key=lambda one: one.score)
        middle_ns = best.start_ns + _NS // 2
        footage = ring.footage(middle_ns, middle_ns)

        def write() -> None:
            picture = None if footage is None else picture_at(footage, middle_ns)
            if footage is None or picture is None:
                return
            content = b""

            def draw(part: Path, privacy: Privacy) -> None:
                nonlocal content
                cover = None if (masks := self._masked(privacy)) is None else masks.cover
                content = jpeg(drawn(picture if cover is None else cover(picture), event.location))
                part.write_bytes(content)

            if self._written(path.with_suffix(".jpg"), ring, event.source, since, footage.privacy, draw):
                self._tell(ReadyMedia.of(event, "snapshot", content), since)

        self._jobs.put(write)

    def _written(
        self, path: Path, ring: PacketRing, source: str, since: int, then: Privacy, write: Callable[[Path, Privacy], None]
    ) -> bool:
        """Write a file with what is stricter, the privacy of its footage (*then*) or that of now; return False where it may not be."""
        path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it during the run
        if not self._has_room():
            return False
        try:
            with whole_file(path) as part:
                used: Privacy | None = None
                while used != (privacy := self._strictest(source, ring, then)):  # it may have become stricter during the work
                    self._check_allowed(source, since)
                    write(part, privacy)
                    used = privacy
                self._check_allowed(source, since)
        except _WithheldError:
            return False
        self._note(path)
        return True

    def _strictest(self, source: str, ring: PacketRing, then: Privacy) -> Privacy:
        """Return what a file must not show; the source may have started again with another ring since."""
        return stricter(then, ring.privacy, self._rings.get(source, ring).privacy)

    def _check_allowed(self, source: str, since: int) -> None:
        """Refuse what was taken before the privacy became metadata_only, whatever it is now."""
        if self._cleared[source] != since:
            raise _WithheldError

    def _masked(self, privacy: Privacy) -> ClipMasks | None:
        if not privacy:
            return None
        if self._masks is None:
            msg = f"nothing can hide people here, as detection.privacy {privacy_word(privacy)} asks for"
            raise RuntimeError(msg)
        return self._masks(privacy)

    def _tell(self, ready: ReadyMedia, since: int) -> None:
        """Tell on the loop that a file can be fetched, unless the loop has ended, or the file may not be shown any more."""
        tell = self._tell_of

        def told() -> None:
            if tell is not None and self._cleared[ready.source] == since:
                tell(ready)

        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(told)

    def _note(self, path: Path) -> None:
        self.written += 1
        self._made.append((time.monotonic(), path))
        _log.info("clip written file=%s", path)

    def _has_room(self) -> bool:
        """Return whether the disk has room for a file, after old ones were deleted if need be."""
        least = self._settings.min_free_mb * 1_000_000
        if shutil.disk_usage(self._folder).free >= least:
            return True
        self._prune()
        if shutil.disk_usage(self._folder).free >= least:
            return True
        self._warn(f"the disk of {self._folder} has less than clips.min_free_mb={self._settings.min_free_mb} free")
        return False

    def _prune(self) -> None:
        keep_s = self._settings.keep_days * 86_400.0
        young_s = time.monotonic() - keep_s
        young = {path for made_s, path in self._made if made_s > young_s}  # whatever a clock says that was set meanwhile
        if not self._steady.lasts(time.time(), time.monotonic()):
            keep_s = math.inf  # a clock that is wrong for a moment deletes nothing
        prune(self._folder, time.time(), keep_s, self._settings.max_mb * 1_000_000, young)

    def _warn(self, why: str) -> None:
        """Log why clips are left out, at most every ten minutes."""
        now_s = time.monotonic()
        if self._warned_s is None or now_s - self._warned_s > _WARN_AGAIN_S:
            self._warned_s = now_s
            _log.warning("clips are left out, events go on: %s", why)

    # Names

    def _path(self, event: Event) -> Path:
        utc = datetime.fromtimestamp((event.epoch_ns + event.start_ns) / _NS, UTC).strftime("%Y%m%dT%H%M%SZ")
        return self._folder / event.source / file_stem(utc, event.label, event.id)
