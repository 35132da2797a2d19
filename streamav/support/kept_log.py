"""Keeps the newest lines of the log in a private file of bounded size, for `streamav support-bundle`."""

from __future__ import annotations

import io
import logging
import os
import queue
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from typing import TYPE_CHECKING, Any, Final

from streamav.errors import reason_of
from streamav.files import PRIVATE_FILE, PRIVATE_FOLDER
from streamav.redaction import RedactingFormatter

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["KEPT_NAME", "KeptLog"]

KEPT_NAME: Final = "streamav.log"
"""Name of the kept log in the folder of all state; the one before has .1 behind it."""
_KEPT_BYTES: Final = 1_000_000
"""The kept log and the one before have at most this many bytes each (our choice)."""
_WAITING: Final = 1000
"""Lines that may wait for the disk; further ones are lost."""


class KeptLog:
    """Keeps the newest lines of the log, from INFO on, in a private file, for `streamav support-bundle`. Use it in a `with` block.

    A thread writes, and lines that it cannot write are lost: a full or slow disk does not hold up the run.
    """

    def __init__(self, folder: Path) -> None:
        """Begin to keep lines in the file `streamav.log` of *folder*; nothing is kept when the file cannot be opened."""
        self._listener: QueueListener | None = None
        try:
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            file = _PrivateFile(folder / KEPT_NAME, maxBytes=_KEPT_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace")
        except OSError as exc:
            logging.getLogger(__name__).info("no log is kept for support bundles path=%s reason=%s", folder / KEPT_NAME, reason_of(exc))
            return
        file.setFormatter(RedactingFormatter("%(asctime)sZ %(process)d %(levelname)s %(name)s %(message)s"))
        self._handler = _Patient(queue.Queue(_WAITING))
        self._handler.setLevel(logging.INFO)
        self._listener = QueueListener(self._handler.queue, file)  # its thread ends with the block

    def __enter__(self) -> None:
        if self._listener is not None:
            ours = logging.getLogger("streamav")
            if ours.getEffectiveLevel() > logging.INFO:
                ours.setLevel(logging.INFO)
            logging.getLogger().addHandler(self._handler)
            self._listener.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, place: TracebackType | None) -> None:
        if self._listener is not None:
            logging.getLogger().removeHandler(self._handler)
            self._listener.stop()
            for handler in self._listener.handlers:
                handler.close()


class _PrivateFile(RotatingFileHandler):
    """A file that only its owner reads; an error of the disk is not printed for each line."""

    def _open(self) -> io.TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
        return io.TextIOWrapper(io.FileIO(descriptor, "a"), encoding=self.encoding, errors=self.errors, line_buffering=True)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging names it
        """Lose the line."""


class _Patient(QueueHandler):
    """Puts records into a bounded queue; the newest are lost when it is full."""

    queue: queue.Queue[Any]

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging names it
        """Lose the record."""
