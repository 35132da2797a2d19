"""Reads one session in a thread of its own, so that no other thread waits inside a blocked read."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamav.types import AudioBlock, SourceContent, VideoFrame

    Item = AudioBlock | VideoFrame | SourceContent
    Session = Callable[[Callable[[], int], threading.Event], Iterator[Item]]

__all__ = ["SessionReader"]

_QUEUE_ITEMS: Final = 128
_POLL_S: Final = 0.1
"""Time between two looks at the end, s."""


class SessionReader:
    """Reads a session into a bounded queue; when it is full, the thread waits."""

    def __init__(self, session: Session, origin: Callable[[], int], name: str) -> None:
        """Start to read.

        Args:
            session: opens the source and yields its items; its first argument returns the media time of the first item, its second is
                set when the session must end.
            origin: the first argument.
            name: the source, for the name of the thread.
        """
        self.stop = threading.Event()
        self._queue: queue.Queue[Item | Exception | None] = queue.Queue(_QUEUE_ITEMS)
        self._session, self._origin = session, origin
        self._thread = threading.Thread(target=self._read, name=f"capture {name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in self._session(self._origin, self.stop):
                if not self._put(item):
                    return
            self._put(None)
        except Exception as exc:  # noqa: BLE001 - handed to the reader of the queue, which handles it
            self._put(exc)

    def _put(self, item: Item | Exception | None) -> bool:
        while not self.stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def get(self) -> Item | Exception | None:
        """Return the next item, the exception that ended the session, or None at its end.

        Raises:
            queue.Empty: when none arrives within a tenth of a second.
        """
        return self._queue.get(timeout=_POLL_S)

    def end(self) -> None:
        """Ask the thread to stop and wait up to 0.5 s for it; a thread in a blocked read ends with the timeout of the read."""
        self.stop.set()
        self._thread.join(timeout=0.5)
