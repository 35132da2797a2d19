"""Keeps the events of a cluster that have no end at the broker in a file, so that the next run can end those of a killed run.

The file is written at most once a second. The next run may end an event again that ended in the second before the kill. This `end` has
the same id and `seq` as the first one, so subscribers take it for a repetition (docs/mqtt.md).
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from streamav.errors import reason_of
from streamav.files import PRIVATE_FOLDER, write_whole
from streamav.publish.message import MessageError, decode

if TYPE_CHECKING:
    from pathlib import Path

    from streamav.publish import EventMessage

__all__ = ["OpenEvents"]

_log = logging.getLogger(__name__)


class OpenEvents:
    """Follows event messages. Only one thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        """Read what the run before left open; a file that cannot be read counts as none.

        Args:
            path: the file; its folder is made at the first save.
        """
        self._path = path
        self._open: dict[str, dict[str, EventMessage]] = {}
        self._changed = False
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            for text in kept if isinstance(kept, list) else ():
                self.take(str(text).encode())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as exc:
            _log.warning("what the run before left open cannot be read file=%s: %s", path, reason_of(exc))
        self._changed = False

    def take(self, payload: bytes) -> None:
        """Take a message; what is no event of the contract is left out."""
        try:
            message = decode(payload)
        except MessageError:
            return
        events = self._open.setdefault(message.source, {})
        if message.active:
            events[message.id] = message
        elif events.pop(message.id, None) is None:
            return
        self._changed = True

    def of(self, source: str) -> tuple[bytes, ...]:
        """Return the newest messages of the open events of a source."""
        return tuple(message.to_bytes() for message in self._open.get(source, {}).values())

    def __len__(self) -> int:
        """Return the number of open events."""
        return sum(map(len, self._open.values()))

    def save(self) -> None:
        """Write the file if anything has changed; a disk that refuses costs a warning."""
        if not self._changed:
            return
        self._changed = False
        texts = [message.to_bytes().decode() for events in self._open.values() for message in events.values()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
            write_whole(self._path, json.dumps(texts), private=True)
        except OSError as exc:
            _log.warning("open events cannot be kept file=%s: %s", self._path, reason_of(exc))
