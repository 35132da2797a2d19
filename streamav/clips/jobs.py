"""Runs the jobs that write clips one after another in a thread, bounded in number and in bytes. It knows no clip."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from streamav.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Jobs"]

_log = logging.getLogger(__name__)

_WAITING: Final = 64
"""Clips and snapshots that may wait to be written; further ones are left out."""
MOST_WAITING_BYTES: Final = 256_000_000
"""Most packets of all clips that wait to be written: a disk that hangs must not fill the memory."""
_CLOSE_S: Final = 60.0
"""Longest wait for the last jobs, s."""


class Jobs:
    """A thread and the jobs that wait for it. Its methods may be called from any thread."""

    def __init__(self, warn: Callable[[str], None], failed: str) -> None:
        """Prepare; nothing runs before start().

        Args:
            warn: is told why something is left out.
            failed: first words of the sentence about a job that the disk or FFmpeg refused; the reason follows.
        """
        self._warn, self._failed = warn, failed
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._waiting = self._waiting_bytes = 0
        self._thread = threading.Thread(target=self._work, name="clips", daemon=True)

    @property
    def idle(self) -> bool:
        """True while nothing waits or runs."""
        return not self._waiting

    @property
    def full(self) -> bool:
        """True while no further job finds room."""
        return self._waiting >= _WAITING

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, job: Callable[[], None], size: int = 0) -> None:
        """Let a job that holds *size* bytes wait, or leave it out where too much waits."""

        def work() -> None:
            try:
                job()
            finally:
                with self._lock:
                    self._waiting, self._waiting_bytes = self._waiting - 1, self._waiting_bytes - size

        with self._lock:
            if not self.full and (not size or self._waiting_bytes + size <= MOST_WAITING_BYTES):
                with suppress(queue.Full):
                    self._queue.put_nowait(work)
                    self._waiting, self._waiting_bytes = self._waiting + 1, self._waiting_bytes + size
                    return
        self._warn("too many clips wait to be written, this one is left out: the machine or the disk is too slow")

    def finish(self) -> None:
        """Run what waits, and end the thread; wait at most a minute."""
        if self._thread.ident is None:
            return
        end_s = time.monotonic() + _CLOSE_S
        with suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSE_S)
        self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._thread.is_alive():
            _log.warning("clips are not written in time, the rest is left out")

    def _work(self) -> None:
        from av.error import FFmpegError

        while (job := self._queue.get()) is not None:
            try:
                job()
            except (OSError, FFmpegError) as exc:
                self._warn(f"{self._failed}: {reason_of(exc)}")
            except Exception:  # noqa: BLE001 - the next clip may succeed
                _log.exception("a clip could not be made")
