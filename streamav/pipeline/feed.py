"""Reads one source in its own thread, cuts it into segments and puts them into the inbox.

It uses the role Source and the segmenter; it does not process segments.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.pipeline.early import PARTS
from streamav.pipeline.inbox import Finished, Inbox
from streamav.pipeline.world_time import WorldTime
from streamav.segmenter import Segmenter
from streamav.types import SourceContent, SourceState, StateChange, VideoFrame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from streamav.clock import Clock
    from streamav.pipeline.turns import SourceReplay
    from streamav.protocols import Source
    from streamav.segmenter import SegmenterOptions
    from streamav.tracker import LabelOptions
    from streamav.types import Segment

__all__ = ["Feed", "SourceSetup"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSetup:
    """One source and its options."""

    id: str
    """Topic level."""
    source: Source
    segmenter: SegmenterOptions
    labels: tuple[LabelOptions, ...]
    latency_segments: int
    """L: a segment is final at age L - 1."""
    queue_segments: int = 4
    paced: bool = True
    """True when media time passes in real time: a live source, or a file at its own pace."""
    duration_s: float | None = None
    """Stop after this many seconds of media, rounded to whole segments (half a second counts as one); None for no limit.

    Counted from the first segment, `segmenter.first_index`."""
    replay: SourceReplay | None = None
    """What a recorded run did with this source, which is then run again in the same way; None for a run of its own."""


class Feed:
    """The capture thread of one source."""

    def __init__(self, setup: SourceSetup, clock: Clock, ready: threading.Condition) -> None:
        """Prepare the thread; start() starts it."""
        self._ready = ready
        self.shows = False
        """True while the worker takes the pictures of the running segment as they come; it sets this."""
        self.running: tuple[int, tuple[NDArray[np.uint8] | None, ...]] = (0, ())
        """Index of the segment that comes next, and the pixels of its frames so far; empty unless `shows`."""
        self._setup = setup
        self._clock = clock
        self._segmenter = Segmenter(setup.segmenter)
        self._stopped = False
        self._limit = None if setup.duration_s is None else setup.segmenter.first_index + math.floor(setup.duration_s + 0.5)
        self._thread = threading.Thread(target=self._run, name=f"capture-{setup.id}", daemon=True)
        self.world = WorldTime(clock, paced=setup.paced, live=setup.source.live)
        self.inbox = Inbox(ready, setup.queue_segments, waits=not setup.source.live or setup.replay is not None)
        self._processed = None if setup.replay is None else setup.replay.processed()
        self.frames = 0
        """Pictures that arrived since the start."""
        self.began = False
        """True once anything arrived; the source could be opened."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Make the thread end soon; return at once."""
        self._stopped = True
        self._setup.source.close()
        self.inbox.close()

    def now_ns(self) -> int:
        """Return the monotonic time of the clock that gives `given_ns`."""
        return self._clock.monotonic_ns()

    @property
    def stopped(self) -> bool:
        """True after stop()."""
        return self._stopped

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; return False when it did not end in time (a driver that hangs)."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._read()
        except Exception as exc:  # noqa: BLE001 - any error must reach the loop, which raises it in the caller
            error = None if self._stopped else exc
        finally:
            self._setup.source.close()
            self.inbox.tell(Finished(error), self._clock.monotonic_ns())

    def _read(self) -> None:
        for item in self._setup.source.items():
            if self._stopped:
                return
            if isinstance(item, StateChange | SourceContent):
                if not self._note(item):
                    return
                continue
            self.began = True
            self.frames += isinstance(item, VideoFrame)
            self.world.arrived(item.end_ns)
            if not self._put(self._segmenter.push(item)):
                return
            if (self.shows or self.running[1]) and isinstance(item, VideoFrame):
                self._show()
        self._put(self._segmenter.close())

    def _show(self) -> None:
        """Show the pictures of the running segment to the worker, and wake it for each whole part of them."""
        running = self._segmenter.running if self.shows else (0, ())
        part = max(1, self._setup.segmenter.frames_per_second // PARTS)
        before = (self.running[0], len(self.running[1]) // part)
        with self._ready:
            self.running = running
            if self.shows and (running[0], len(running[1]) // part) != before:
                self._ready.notify_all()

    def _note(self, note: StateChange | SourceContent) -> bool:
        """Pass a note on behind the segments before it; return False when no more segments are needed."""
        if isinstance(note, SourceContent):
            self._segmenter.expect(note)
            self._warn(note)
        elif note.state is SourceState.LOST:
            self.world.lost()
            if not self._put(self._segmenter.reset()):
                return False
        self.inbox.tell(note, self._clock.monotonic_ns())
        return True

    def _warn(self, content: SourceContent) -> None:
        """Say what cannot be found in a source that lacks sound or picture."""
        if not content.lacks:
            _log.info("the source has sound and picture now source=%s", self._setup.id)
            return
        heard = [one.label for one in self._setup.labels if "picture" not in one.modalities] if content.sound else []
        found = f"only these labels, which are heard alone: {', '.join(heard)}" if heard else "no event"
        remedy = (
            ""
            if heard or not content.sound
            else "; for sounds alone choose labels of kind sound, such as those of --labels home, or define some (docs/labels.md)"
        )
        _log.warning(
            "the source has no %s, so no event can be heard and seen; it finds %s%s source=%s",
            content.lacks,
            found,
            remedy,
            self._setup.id,
        )

    def _put(self, segments: list[Segment]) -> bool:
        """Hand segments over; return False when no more are needed: after stop(), or once the limit is reached.

        The limit counts finished segments, not items. Sound and pictures of a source are interleaved, so after the first item beyond
        the limit, earlier items of the other kind may still arrive.
        """
        for segment in segments:
            if self._processed is not None and not self._processed(segment.index):
                continue
            if self._limit is not None and segment.index >= self._limit:
                return False
            if not self.inbox.put(segment, self._clock.monotonic_ns()):
                return False
        return self._limit is None or not segments or segments[-1].index + 1 < self._limit
