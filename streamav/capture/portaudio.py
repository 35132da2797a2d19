"""Loads PortAudio, and lets it read its list of devices again: it reads the list once, so a microphone plugged in later is not in it.

PortAudio reads the list only when it is started, and it may be restarted only while no stream is open. This module knows which are.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from streamav.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["close_stream", "load_sounddevice", "look_up", "open_stream"]

_LOG = logging.getLogger(__name__)
_LOCK: Final = threading.Lock()
_OPEN: Final[set[int]] = set()
"""The streams that are open, by identity."""


def load_sounddevice() -> ModuleType:
    """Import sounddevice; its import fails where the system library is missing.

    Raises:
        CaptureError: when PortAudio is not installed.
    """
    try:
        import sounddevice
    except OSError as exc:
        msg = "a microphone needs the PortAudio library, which was not found; on Debian or Ubuntu: apt-get install libportaudio2"
        raise CaptureError(msg) from exc
    return sounddevice  # type: ignore[no-any-return]


def look_up(ask: Callable[[ModuleType], object]) -> None:
    """Ask for a device as open_stream opens one: when that fails, the list of devices is read again, and it is asked for once more."""
    with _LOCK:
        _with_new_list(ask)


def _with_new_list(call: Callable[[ModuleType], Any]) -> Any:  # noqa: ANN401 - sounddevice has no types
    sounddevice = load_sounddevice()
    try:
        return call(sounddevice)
    except (sounddevice.PortAudioError, ValueError):
        if _OPEN:
            _LOG.warning("the list of microphones cannot be read again while another one is open; restart to use one plugged in since")
            raise
        _reload(sounddevice)
        return call(sounddevice)


def open_stream(start: Callable[[ModuleType], Any]) -> Any:  # noqa: ANN401 - sounddevice has no types
    """Open and start a stream. When that fails, the list of devices is read again, and it is tried once more.

    Args:
        start: opens and starts the stream of a device; it takes the module sounddevice.

    Raises:
        CaptureError: when PortAudio is missing.
        Exception: what *start* raised last.
    """
    with _LOCK:
        stream = _with_new_list(start)
        _OPEN.add(id(stream))
    return stream


def close_stream(stream: Any) -> None:  # noqa: ANN401 - sounddevice has no types
    """Close a stream of open_stream(), also when its device is gone."""
    with _LOCK:
        _OPEN.discard(id(stream))
        stream.close(ignore_errors=True)


def _reload(sounddevice: ModuleType) -> None:
    """Restart PortAudio. sounddevice has no public function for it; its documentation names these two."""
    sounddevice._terminate()  # noqa: SLF001
    sounddevice._initialize()  # noqa: SLF001
