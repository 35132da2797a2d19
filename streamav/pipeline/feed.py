"""Reads one source in a thread of its own, cuts it into segments and puts them into the inbox.

It knows the role Source and the segmenter; what a segment is good for it does not know.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.pipeline.inbox import Finished, Inbox
from streamav.pipeline.measure import WorldTime
from streamav.segmenter import Segmenter
from streamav.types import SAMPLE_RATE_HZ, SEGMENT_NS, AudioBlock, SourceState, VideoFrame

if TYPE_CHECKING:
    from streamav.pipeline.measure import Clock
    from streamav.protocols import Source
    from streamav.segmenter import SegmenterOptions
    from streamav.tracker import LabelOptions
    from streamav.types import Segment

__all__ = ["Feed", "SourceSetup"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSetup:
    """One source and how it is treated."""

    id: str
    """Topic level."""
    source: Source
    segmenter: SegmenterOptions
    labels: tuple[LabelOptions, ...]
    latency_segments: int
    """L: a second is final at age L - 1."""
    queue_segments: int = 4
    paced: bool = True
    """True when media time passes as fast as the world's: live, or a file at its own pace."""
    duration_s: float | None = None
    """Stop after so many seconds of media; None for no limit."""


class Feed:
    """The capture thread of one source."""

    def __init__(self, setup: SourceSetup, clock: Clock, ready: threading.Condition) -> None:
        """Prepare the thread; start() starts it."""
        self._setup = setup
        self._clock = clock
        self._segmenter = Segmenter(setup.segmenter)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"capture-{setup.id}", daemon=True)
        self.world = WorldTime(clock, paced=setup.paced)
        self.inbox = Inbox(ready, setup.queue_segments, waits=not setup.source.live)
        self.frames = 0
        """Pictures that arrived since the start."""
        self.began = False
        """True once anything arrived: the source could be opened."""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Make the thread end soon; returns at once."""
        self._stopped = True
        self._setup.source.close()
        self.inbox.close()

    @property
    def stopped(self) -> bool:
        """True after stop()."""
        return self._stopped

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; False when it did not come (a driver that hangs)."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._read()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the loop must hear of it and raise it where it can be seen
            error = None if self._stopped else exc
        finally:
            self._setup.source.close()
            self.inbox.tell(Finished(error), self._clock.monotonic_ns())

    def _read(self) -> None:
        limit_ns = None if self._setup.duration_s is None else round(self._setup.duration_s * SEGMENT_NS)
        for item in self._setup.source.items():
            if self._stopped:
                return
            if isinstance(item, SourceState):
                self._note(item)
                continue
            self.began = True
            start_ns, end_ns = _span(item)
            self.frames += isinstance(item, VideoFrame)
            self.world.arrived(end_ns)
            if limit_ns is not None and start_ns >= limit_ns:
                break
            if not self._put(self._segmenter.push(item)):
                return
        rest = self._segmenter.close()
        self._put(rest if limit_ns is None else [one for one in rest if one.start_ns < limit_ns])

    def _note(self, state: SourceState) -> None:
        """Pass a change on behind the seconds that came before it."""
        if state is SourceState.LOST:
            self._put(self._segmenter.reset())
        self.inbox.tell(state, self._clock.monotonic_ns())

    def _put(self, segments: list[Segment]) -> bool:
        return all(self.inbox.put(segment, self._clock.monotonic_ns()) for segment in segments)


def _span(item: AudioBlock | VideoFrame) -> tuple[int, int]:
    """Give the times from which and up to which an item reaches."""
    if isinstance(item, VideoFrame):
        return item.time_ns, item.time_ns
    return item.start_ns, item.start_ns + item.samples.size * SEGMENT_NS // SAMPLE_RATE_HZ
