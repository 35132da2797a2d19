"""Holds the folder in which one MQTT connection keeps its state, and our client id; a lock keeps a second process out.

It uses no connection and no clock. The module `store` keeps the rest of the folder's content.
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

from streamav.errors import reason_of
from streamav.files import PRIVATE_FILE, PRIVATE_FOLDER, write_whole
from streamav.user_paths import user_folder

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

__all__ = ["StateFolder", "default_state_dir"]

_UNUSABLE = (
    "the state folder cannot be used, so waiting messages and open events are lost when this process ends path=%s reason=%s; "
    "set state_dir (STREAMAV_STATE_DIR) to %s"
)
CLIENT_ID_PATTERN = r"[a-zA-Z0-9_-]{1,64}"

_log = logging.getLogger(__name__)


def default_state_dir() -> Path:
    """Return $XDG_STATE_HOME/streamav, or ~/.local/state/streamav.

    Source: XDG Base Directory Specification 0.8.
    """
    return user_folder("XDG_STATE_HOME", ".local/state") / "streamav"


class StateFolder:
    """The folder of one connection, with its store and the client id; a lock keeps a second process out."""

    def __init__(self, state_dir: Path, connection: str, random: Random) -> None:
        """Store the folder of all state, a text that differs between connections, and the random generator."""
        readable = re.sub(r"[^a-zA-Z0-9_-]", "-", connection)[:40]
        digest = hashlib.sha256(connection.encode()).hexdigest()[:8]
        self._folder = state_dir / "mqtt" / f"{readable}-{digest}"
        self._random = random
        self._lock: TextIO | None = None

    @property
    def store_path(self) -> Path | None:
        """File of waiting messages and open events; None when this process does not hold the lock of the folder."""
        return self._folder / "outbox.sqlite3" if self._lock is not None else None

    def acquire(self) -> bool:
        """Create and lock the folder; return False and log a warning when that fails, and then nothing is stored."""
        try:
            self._make_private()
            lock = open(self._folder / "lock", "w", encoding="ascii", opener=_open_private)  # noqa: SIM115 - held until release()
        except OSError as exc:
            _log.warning(_UNUSABLE, self._folder, reason_of(exc), "a folder that this user can write")
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            _log.warning(
                "another streamav on this machine uses this broker and base: set another mqtt.base, or another state_dir, for each path=%s",
                self._folder,
            )
            return False
        except OSError as exc:  # a network file system without locks
            lock.close()
            _log.warning(_UNUSABLE, self._folder, f"it cannot be locked, {reason_of(exc)}", "a folder on a local disk")
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
            _log.warning("the client id cannot be stored path=%s reason=%s", path, reason_of(exc))
        return fresh

    def _draw(self) -> str:
        host = re.sub(r"[^a-zA-Z0-9_-]", "-", socket.gethostname())[:32]
        return f"streamav-{host}-{self._random.getrandbits(32):08x}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)
