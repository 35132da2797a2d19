"""Remembers on disk which published events are open, and under which client id we are known, so that a crash leaves no event open for ever.

It knows neither broker nor clock. Files are replaced as a whole, so a crash at any moment leaves the old or the new content.
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
"""Events remembered at most; sources times labels is far below it."""
CLIENT_ID_PATTERN = r"[a-zA-Z0-9_-]{1,64}"

_log = logging.getLogger(__name__)


def default_state_dir() -> Path:
    """Give $XDG_STATE_HOME/streamav, or ~/.local/state/streamav.

    Source: XDG Base Directory Specification 0.8.
    """
    return user_folder("XDG_STATE_HOME", ".local/state") / "streamav"


class Journal:
    """The last message of each open event, in one small file; one JSON object a line."""

    def __init__(self, path: Path | None) -> None:
        """Take the file; None to remember nothing beyond this process."""
        self._path = path
        self._open: dict[str, EventMessage] = {}
        self._told = False

    def load(self) -> list[EventMessage]:
        """Read what the last run left open, oldest first; a line that is damaged is left out and said."""
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                lines = [file.readline(MAX_MESSAGE_BYTES + 2) for _ in range(MAX_OPEN_EVENTS)]
        except FileNotFoundError:
            return []
        except OSError as exc:
            _log.warning("journal of open events cannot be read path=%s reason=%s", self._path, exc.strerror)
            return []
        for line in filter(None, lines):
            try:
                message = decode(line)
            except MessageError as exc:
                _log.warning("journal of open events has a damaged line, left out path=%s reason=%s", self._path, exc)
            else:
                self._open[message.id] = message
        return sorted(self._open.values(), key=lambda message: message.id)

    def note(self, message: EventMessage) -> None:
        """Remember *message*, which is about to be published, as the last of its event."""
        opened = message.id not in self._open
        self._open[message.id] = message
        while len(self._open) > MAX_OPEN_EVENTS:
            del self._open[next(iter(self._open))]
        self._write(durable=opened)

    def clear(self, event_id: str) -> None:
        """Forget an event whose end the broker has acknowledged."""
        if self._open.pop(event_id, None) is not None:
            self._write(durable=True)

    def _write(self, *, durable: bool) -> None:
        """Replace the file; *durable* also waits until it is on the disk, for what must outlive a power cut."""
        if self._path is None:
            return
        lines = b"".join(message.to_bytes() + b"\n" for message in self._open.values())
        try:
            write_whole(self._path, lines, durable=durable, alone=True, private=True)  # the folder is locked
        except OSError as exc:
            if not self._told:
                _log.warning("journal of open events cannot be written path=%s reason=%s", self._path, exc.strerror)
            self._told = True


class StateFolder:
    """The folder of one connection: journal and client id, locked against a second process."""

    def __init__(self, state_dir: Path, connection: str, random: Random) -> None:
        """Take where all state lives, a text that tells this connection from others, and where chance comes from."""
        readable = re.sub(r"[^a-zA-Z0-9_-]", "-", connection)[:40]
        digest = hashlib.sha256(connection.encode()).hexdigest()[:8]
        self._folder = state_dir / "mqtt" / f"{readable}-{digest}"
        self._random = random
        self._lock: TextIO | None = None

    @property
    def journal_path(self) -> Path | None:
        """File of open events; None when the folder is not ours to use."""
        return self._folder / "open_events.jsonl" if self._lock is not None else None

    def acquire(self) -> bool:
        """Make the folder ours; False, said in the log, when that cannot be: then nothing is remembered."""
        try:
            self._make_private()
            lock = open(self._folder / "lock", "w", encoding="ascii", opener=_open_private)  # noqa: SIM115 - held until release()
        except OSError as exc:
            _log.warning("state folder cannot be used, open events will not survive a crash path=%s reason=%s", self._folder, exc.strerror)
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            _log.warning(
                "another streamav uses this broker and base from this machine: give each its own mqtt.base, or its own state_dir path=%s",
                self._folder,
            )
            return False
        self._lock = lock
        return True

    def _make_private(self) -> None:
        """Make the folder and what it lies in, for us alone; a state folder that the user made keeps its mode."""
        state_dir = self._folder.parents[1]
        state_dir.parent.mkdir(parents=True, exist_ok=True)
        state_dir.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            with contextlib.suppress(PermissionError):  # somebody else's
                folder.chmod(PRIVATE_FOLDER)  # an older streamav left it open to all

    def release(self) -> None:
        """Let another process use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def client_id(self) -> str:
        """Give the id under which this installation is known to the broker: drawn once and kept, or drawn anew where it cannot be kept."""
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
            _log.warning("client id cannot be kept path=%s reason=%s", path, exc)
        return fresh

    def _draw(self) -> str:
        host = re.sub(r"[^a-zA-Z0-9_-]", "-", socket.gethostname())[:32]
        return f"streamav-{host}-{self._random.getrandbits(32):08x}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)
