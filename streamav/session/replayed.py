"""Implements the role Source with the recorded items of one source of a session, at any speed."""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from streamav.capture.pacing import Pacer
from streamav.clock import SystemClock
from streamav.errors import CaptureError, DataError
from streamav.session.folder import ends_whole, items_file, lines_of, media_file
from streamav.session.media import MediaReader
from streamav.types import AudioBlock, SourceContent, SourceState, StateChange, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamav.clock import Clock
    from streamav.session.folder import SourceCard

    Item = AudioBlock | VideoFrame | StateChange | SourceContent

__all__ = ["ReplayedSource"]

_STATES = {state.value: state for state in SourceState}


class ReplayedSource:
    """A recorded source. A recording that was cut off is played up to the cut."""

    def __init__(
        self,
        folder: Path,
        card: SourceCard,
        *,
        speed: float | None = None,
        picture: tuple[int, int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Keep the session; nothing is opened before items() is called.

        Args:
            folder: of the session.
            card: of the source.
            speed: 1 plays the items when they arrived, 2 in half the time; None as fast as possible.
            picture: height and width to which pictures are scaled, for another model; None as recorded.
            clock: for the pace; None for the clock of the machine.
        """
        self._folder, self._card = folder, card
        self._picture = None if picture == card.picture else picture
        self._closed = threading.Event()
        self._speed = speed
        self._pacer = None if speed is None else Pacer(clock or SystemClock(), self._closed)
        self.skew_ms = None
        """None: the turns of the recorded run hold what was measured."""
        self.cut = False
        """True when the recording was found to be cut off."""

    @property
    def live(self) -> bool:
        """As the recorded source."""
        return self._card.live

    @property
    def session(self) -> str:
        """As the recorded source, so that events have the same ids."""
        return self._card.session

    def items(self) -> Iterator[Item]:
        """Yield what was recorded.

        Raises:
            CaptureError: with the reason that was recorded, when the recorded source failed.
            DataError: when the session is damaged before its end.
        """
        path = items_file(self._folder, self._card.id)
        whole = ends_whole(path)
        reader = _opened(media_file(self._folder, self._card.id))
        if reader is None:
            self.cut = True
            return
        try:
            for number, line in enumerate(lines_of(path), 1):
                if "end" in line:
                    if line["end"]:
                        raise CaptureError(line["end"])
                    return
                item = self._item(line, reader)
                if item is None:
                    if whole or reader.more("sound" in line):
                        msg = f"{path.parent} is damaged at item {number}: its media are not what was recorded; copy the session again"
                        raise DataError(msg)
                    break
                if self._pacer is not None and self._speed is not None:
                    self._pacer.wait_until(round(line.get("at", 0) / self._speed))
                if self._closed.is_set():
                    return
                yield item
            self.cut = True
        finally:
            reader.close()

    def close(self) -> None:
        """Make items() end before its next item."""
        self._closed.set()

    def _item(self, line: dict[str, Any], reader: MediaReader) -> Item | None:
        """Return the item of a line; None where the media hold another one, or none."""
        if "state" in line:
            return StateChange(_STATES[line["state"]], line.get("reason", ""))
        if "content" in line:
            return SourceContent(sound=line["content"][0], picture=line["content"][1])
        found = reader.sound() if "sound" in line else reader.picture()
        if found is None or zlib.crc32(found.tobytes()) != line["crc"]:
            return None
        if "sound" in line:
            return AudioBlock(start_ns=line["sound"], samples=found.astype(np.float32), lone_channel=line.get("lone", False))
        pixels = found.astype(np.uint8)
        return VideoFrame(start_ns=line["picture"], pixels=pixels if self._picture is None else _scaled(pixels, self._picture))


def _opened(path: Path) -> MediaReader | None:
    """Open the media of a source; None when the recording was cut off before any."""
    from av.error import FFmpegError

    try:
        return MediaReader(path)
    except (OSError, FFmpegError):
        return None


def _scaled(pixels: np.ndarray[Any, np.dtype[np.uint8]], picture: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    import av

    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.reformat(width=picture[1], height=picture[0], format="rgb24", interpolation="BILINEAR").to_ndarray().astype(np.uint8)
