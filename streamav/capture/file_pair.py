"""Joins the pictures of one file with the sound of another; both begin at the zero of the media clock."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from functools import cached_property
from heapq import merge
from typing import TYPE_CHECKING

from streamav.capture.media import MediaSource
from streamav.capture.pacing import Pacer
from streamav.capture.tap import HalfTap
from streamav.clock import SystemClock
from streamav.types import AudioBlock, SourceContent, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from streamav.capture.look import Look
    from streamav.capture.stamps import Kind
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.config import CaptureSettings

__all__ = ["FilePairSource"]


class FilePairSource:
    """Two files as one source, which ends with the longer one."""

    def __init__(
        self,
        pictures: str,
        sound: str,
        look: Look,
        *,
        speed: Literal["1", "max"] = "1",
        settings: CaptureSettings | None = None,
        clock: Clock | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        """Keep the names of the files; nothing is opened before items() is called.

        Args:
            pictures: file whose pictures are used.
            sound: file whose sound is used.
            look: which pictures are used, and their size.
            speed: "1" plays the files at their own pace, "max" without waiting.
            settings: settings of capture; None for the defaults.
            clock: clock for the pace; None for the clock of the machine.
            tap: receives the packets of both; None for nobody.
        """
        self._tap = tap
        halves: list[tuple[Kind, str]] = [("picture", pictures), ("sound", sound)]
        self._halves = [
            MediaSource(
                uri,
                replace(look, wanted=SourceContent(sound=kind == "sound", picture=kind == "picture")),
                speed="max",
                settings=settings,
                tap=None if tap is None else HalfTap(tap, kind, 0),
            )
            for kind, uri in halves
        ]
        self._closed = threading.Event()
        self._pacer = None if speed == "max" else Pacer(clock or SystemClock(), self._closed)

    @property
    def live(self) -> bool:
        """Always False."""
        return False

    @cached_property
    def session(self) -> str:
        """Hash of both files' content; random where one of them cannot be read twice.

        Raises:
            CaptureError: when a file cannot be read.
        """
        return hashlib.sha256("".join(half.session for half in self._halves).encode()).hexdigest()

    @property
    def skew_ms(self) -> int | None:
        """None: the files are taken to begin at the same moment."""
        return None

    def items(self) -> Iterator[AudioBlock | VideoFrame]:
        """Yield pictures and sound, each in time order.

        Raises:
            CaptureError: when a file cannot be opened or decoded.
            MissingModalityError: when one has no pictures, or the other one no sound.
        """
        if self._tap is not None:
            self._tap.begin(("sound", "picture"))
        pictures, sound = ((one for one in half.items() if isinstance(one, AudioBlock | VideoFrame)) for half in self._halves)
        for item in merge(pictures, sound, key=lambda one: one.end_ns):
            if self._pacer is not None:
                self._pacer.wait_until(item.end_ns)
            if self._closed.is_set():
                return
            yield item

    def close(self) -> None:
        """Make items() end before its next item."""
        self._closed.set()
        for half in self._halves:
            half.close()
