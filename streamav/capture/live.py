"""Runs a live source: reads it in its own thread, detects a loss by missing data, and opens the source again.

It uses neither PyAV nor devices: a session is any function that yields sound and pictures until it fails or ends.
"""

from __future__ import annotations

import logging
import queue
import threading
from random import Random
from typing import TYPE_CHECKING

from streamav.backoff import Backoff
from streamav.capture.reader import SessionReader
from streamav.errors import CaptureError
from streamav.redaction import redact
from streamav.types import SourceContent, SourceState, StateChange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamav.capture.reader import Item, Session
    from streamav.clock import Clock
    from streamav.config import CaptureSettings

__all__ = ["LiveLoop"]

_LOG = logging.getLogger(__name__)

_MOST_DOUBLINGS = 3
"""A session gets at most eight times the usual patience for its first item (our choice)."""


class LiveLoop:
    """Yields the items of a live source without end, over as many sessions as needed, with LOST and ONLINE between them."""

    def __init__(self, name: str, session: Session, settings: CaptureSettings, clock: Clock, *, rng: Random | None = None) -> None:
        """Prepare the loop; nothing is opened before items() is called.

        Args:
            name: the source, for messages.
            session: opens the source and yields its items; its first argument returns the media time of the first
                item, its second is set when the session must end.
            settings: timeout and back-off.
            clock: monotonic; the media clock follows it during a loss.
            rng: for the jitter of the back-off.
        """
        self._name, self._session, self._settings, self._clock = name, session, settings, clock
        random = rng or Random()  # noqa: S311 - spreads reconnects, guards no secret
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, random, least_s=settings.reconnect_min_s)
        self._closed = threading.Event()
        self._zero_ns: int | None = None
        self._newest_ns = 0
        self._content = SourceContent()
        self._worked = False  # True once any session gave an item: from then on a failure is a loss
        self._mute = 0  # sessions in a row that were ended because they gave nothing in time

    def close(self) -> None:
        """End items() within a tenth of a second."""
        self._closed.set()

    def items(self) -> Iterator[Item | StateChange]:
        """Yield items and changes of state.

        Raises:
            CaptureError: when the source cannot be opened or gives nothing at the start, or is lost and must not be opened again.
        """
        lost, reason = False, ""
        while not self._closed.is_set():
            reader = SessionReader(self._session, self._origin, self._name)
            seen = False
            try:
                for item in self._receive(reader):
                    if isinstance(item, SourceContent):
                        yield from self._changed(item)
                        continue
                    if lost and not seen:
                        _LOG.info("source is back source=%s", self._name)
                        yield StateChange(SourceState.ONLINE)
                    seen, lost, self._worked = True, False, True
                    self._backoff.reset()
                    self._mute = 0
                    self._newest_ns = max(self._newest_ns, item.start_ns)
                    yield item
            except _LostError as exc:
                if not self._worked and not self._settings.retry_start:
                    raise self._refusal(exc) from exc
                if not lost or str(exc) != reason:
                    _LOG.warning("source lost source=%s reason=%s", self._name, exc)
                    yield StateChange(SourceState.LOST, str(exc))
                reason = str(exc)
                if not self._settings.reconnect:
                    msg = f"{self._name} was lost ({exc}) and capture.reconnect is false"
                    raise CaptureError(msg) from exc
                lost = True
            finally:
                reader.end()
            if not self._closed.is_set():
                self._clock.wait(self._backoff.next_s(), self._closed)

    def _changed(self, content: SourceContent) -> Iterator[SourceContent]:
        """Yield the content of a session if it is another one than before."""
        if content != self._content:
            self._content = content
            yield content

    def _origin(self) -> int:
        """Return the media time of a session's first item: 0 for the first session, later the monotonic time since then."""
        now_ns = self._clock.monotonic_ns()
        if self._zero_ns is None:
            self._zero_ns = now_ns
        # A source that sends old data in a burst is ahead of the clock for a moment; the media time must not go back after a loss.
        return max(now_ns - self._zero_ns, self._newest_ns)

    def _receive(self, reader: SessionReader) -> Iterator[Item]:
        """Yield the items of a session until close(); raise _LostError when it ends, fails or gives nothing for too long."""
        progress_ns = self._clock.monotonic_ns()
        # Opening takes longer than reading, and a session has its own timeouts. This one is for a session without any. On a machine that
        # is far too busy a decoder process starts slower than that, and would be ended again and again: so each attempt gets more time.
        patience_s = (2.0 * self._settings.timeout_s + 2.0) * 2.0 ** min(self._mute, _MOST_DOUBLINGS)
        begun = False
        while not self._closed.is_set():
            try:
                item = reader.get()
            except queue.Empty:
                if self._clock.monotonic_ns() - progress_ns > patience_s * 1e9:
                    self._mute += not begun
                    reason = f"nothing arrived for {patience_s:g} s: check its power, its cable and its network"
                    raise _LostError(reason) from None
                continue
            if item is None:
                reason = "the stream ended: check that the camera, or the program that sends the stream, still runs"
                raise _LostError(reason)
            if isinstance(item, Exception):
                reason = redact(str(item)) or type(item).__name__
                raise _LostError(reason) from item
            if not isinstance(item, SourceContent):  # it says what will come, and is no data
                progress_ns, patience_s, begun = self._clock.monotonic_ns(), self._settings.timeout_s, True
            yield item

    def _refusal(self, lost: _LostError) -> CaptureError:
        """Return the error for a source that never gave anything; a CaptureError of the session is passed on unchanged."""
        if isinstance(lost.__cause__, CaptureError):
            return lost.__cause__
        return CaptureError(
            f"{self._name} cannot be opened: {lost}. Check the address, the user name and the password, and that the source is running"
        )


class _LostError(Exception):
    """A session is over; the message holds the reason."""
