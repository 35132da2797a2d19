"""Stores on disk which published events are open, and our client id. After a crash, the next start ends these events.

It uses no connection and no clock. Each file is replaced as a whole, so a crash at any moment leaves the old or the new content.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import socket
from typing import TYPE_CHECKING, TextIO

from streamav.files import PRIVATE_FILE, PRIVATE_FOLDER, user_folder, write_whole
from streamav.publish.message import MAX_MESSAGE_BYTES, MessageError, decode

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from streamav.publish.message import EventMessage

__all__ = ["Journal", "StateFolder", "default_state_dir"]

MAX_OPEN_EVENTS = 1000
"""Most events that are stored; sources times labels is far below it."""
CLIENT_ID_PATTERN = r"[a-zA-Z0-9_-]{1,64}"

_log = logging.getLogger(__name__)


def default_state_dir() -> Path:
    """Return $XDG_STATE_HOME/streamav, or ~/.local/state/streamav.

    Source: XDG Base Directory Specification 0.8.
    """
    return user_folder("XDG_STATE_HOME", ".local/state") / "streamav"


class Journal:
    """The last message of each open event, in one small file with one JSON object per line."""

    def __init__(self, path: Path | None) -> None:
        """Store the path of the file; None keeps the open events in memory only, until this process ends."""
        self._path = path
        self._open: dict[str, EventMessage] = {}
        self._told = False

    def load(self) -> list[EventMessage]:
        """Return the last messages of the events that the last run left open, oldest first; a damaged line is skipped with a warning."""
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                lines = [file.readline(MAX_MESSAGE_BYTES + 2) for _ in range(MAX_OPEN_EVENTS)]
        except FileNotFoundError:
            return []
        except OSError as exc:
            _log.warning("the journal of open events cannot be read path=%s reason=%s", self._path, exc.strerror)
            return []
        for line in filter(None, lines):
            try:
                message = decode(line)
            except MessageError as exc:
                _log.warning("the journal of open events has a damaged line, it is skipped path=%s reason=%s", self._path, exc)
            else:
                self._open[message.id] = message
        return sorted(self._open.values(), key=lambda message: message.id)

    def note(self, message: EventMessage) -> None:
        """Store *message* as the last one of its event; called before the message is published."""
        opened = message.id not in self._open
        self._open[message.id] = message
        while len(self._open) > MAX_OPEN_EVENTS:
            del self._open[next(iter(self._open))]
        self._write(durable=opened)

    def clear(self, event_id: str) -> None:
        """Remove an event after the broker has acknowledged its end."""
        if self._open.pop(event_id, None) is not None:
            self._write(durable=True)

    def _write(self, *, durable: bool) -> None:
        """Replace the file; with *durable* also wait until it is on the disk, so that it survives a power cut."""
        if self._path is None:
            return
        lines = b"".join(message.to_bytes() + b"\n" for message in self._open.values())
        try:
            write_whole(self._path, lines, durable=durable, alone=True, private=True)  # the folder is locked
        except OSError as exc:
            if not self._told:
                _log.warning("the journal of open events cannot be written path=%s reason=%s", self._path, exc.strerror)
            self._told = True


class StateFolder:
    """The folder of one connection, with the journal and the client id; a lock keeps a second process out."""

    def __init__(self, state_dir: Path, connection: str, random: Random) -> None:
        """Store the folder of all state, a text that differs between connections, and the random generator."""
        readable = re.sub(r"[^a-zA-Z0-9_-]", "-", connection)[:40]
        digest = hashlib.sha256(connection.encode()).hexdigest()[:8]
        self._folder = state_dir / "mqtt" / f"{readable}-{digest}"
        self._random = random
        self._lock: TextIO | None = None

    @property
    def journal_path(self) -> Path | None:
        """File of open events; None when this process does not hold the lock of the folder."""
        return self._folder / "open_events.jsonl" if self._lock is not None else None

    def acquire(self) -> bool:
        """Create and lock the folder; return False and log a warning when that fails, and then nothing is stored."""
        try:
            self._make_private()
            lock = open(self._folder / "lock", "w", encoding="ascii", opener=_open_private)  # noqa: SIM115 - held until release()
        except OSError as exc:
            _log.warning(
                "the state folder cannot be used, so open events are lost in a crash path=%s reason=%s", self._folder, exc.strerror
            )
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            _log.warning(
                "another streamav on this machine uses this broker and base: give each its own mqtt.base, or its own state_dir path=%s",
                self._folder,
            )
            return False
        self._lock = lock
        return True

    def _make_private(self) -> None:
        """Create the folder and its parents, readable by the owner only. A state folder that the user created keeps its mode."""
        state_dir = self._folder.parents[1]
        state_dir.parent.mkdir(parents=True, exist_ok=True)
        state_dir.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            with contextlib.suppress(PermissionError):  # the folder of another user
                folder.chmod(PRIVATE_FOLDER)  # older versions created it readable by all users

    def release(self) -> None:
        """Unlock the folder, so that another process can use it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def client_id(self) -> str:
        """Return the client id of this installation: drawn once and stored; drawn at each start when it cannot be stored."""
        fresh = self._draw()
        if self._lock is None:
            return fresh
        path = self._folder / "client_id"
        try:
            known = path.read_text(encoding="ascii").strip() if path.exists() else ""
            if re.fullmatch(CLIENT_ID_PATTERN, known):
                return known
            write_whole(path, f"{fresh}\n", durable=True, alone=True, private=True)
        except (OSError, UnicodeDecodeError) as exc:
            _log.warning("the client id cannot be stored path=%s reason=%s", path, exc)
        return fresh

    def _draw(self) -> str:
        host = re.sub(r"[^a-zA-Z0-9_-]", "-", socket.gethostname())[:32]
        return f"streamav-{host}-{self._random.getrandbits(32):08x}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)
