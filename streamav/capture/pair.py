"""Joins pictures and sound of different origin into one source: two clocks are put on one media clock.

Both put their data on the computer's monotonic clock; the sound card's drift against it is measured and followed. A source of only one
of the two is read in the same way.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from streamav.capture.live import LiveLoop
from streamav.clock import SystemClock
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.types import AudioBlock, SourceContent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamav.capture.inlets import PictureInlet, SoundInlet
    from streamav.capture.look import Look
    from streamav.capture.reader import Item
    from streamav.capture.stamps import Kind
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.types import StateChange, VideoFrame

__all__ = ["PairSource"]

_QUEUE_PICTURES: Final = 32
"""Pictures that may wait; the oldest is dropped (our choice: one second of a usual camera)."""
_IDLE_S: Final = 0.025
"""How often a source without sound looks for pictures, s."""


class PairSource:
    """Pictures and sound of different origin. When either is lost, the source is lost, and both are opened again."""

    def __init__(
        self,
        pictures: Callable[[], PictureInlet] | None,
        sound: Callable[[], SoundInlet] | None,
        look: Look,
        *,
        settings: CaptureSettings | None = None,
        clock: Clock | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        """Keep what makes the two; nothing is opened before items() is called.

        Args:
            pictures: makes what gives the pictures of one session; None for a source without pictures.
            sound: makes what gives the sound of one session; None for a source without sound.
            look: which pictures are used, and their size.
            settings: timeouts and reconnecting; None for the defaults.
            clock: monotonic; None for the clock of the machine.
            tap: receives what the two give, encoded for clips; None encodes nothing.
        """
        self._tap = tap
        self._pictures, self._sound, self._look = pictures, sound, look
        self._settings = settings or CaptureSettings()
        self._clock = clock or SystemClock()
        name = " with ".join(make().name for make in (pictures, sound) if make is not None)
        self._loop = LiveLoop(name, self._session, self._settings, self._clock)
        self._open_sound: SoundInlet | None = None
        self.session = secrets.token_hex(8)
        """A random word, because what a camera records cannot be played again."""

    @property
    def live(self) -> bool:
        """Always True: both are live."""
        return True

    @property
    def skew_ms(self) -> int | None:
        """Delay of the sound's time stamps against the monotonic clock, ms; below 25 ms unless drift is faster than its correction."""
        return self._open_sound.skew_ms if self._open_sound is not None else None

    def items(self) -> Iterator[Item | StateChange]:
        """Yield sound and pictures, and a StateChange when either is lost and returns.

        Raises:
            CaptureError: when one cannot be opened at the start, or is lost and must not be opened again.
        """
        return self._loop.items()

    def close(self) -> None:
        """Make items() end within a tenth of a second."""
        self._loop.close()

    def _session(self, origin: Callable[[], int], stop: threading.Event) -> Iterator[Item]:
        """Open both once and yield their data until one of them fails."""
        sound = None if self._sound is None else self._sound()
        yield SourceContent(sound=sound is not None, picture=self._pictures is not None)
        if sound is not None:
            sound.open()
        try:
            yield from self._joined(sound, origin, stop)
        finally:
            if sound is not None:
                sound.close()

    def _joined(self, sound: SoundInlet | None, origin: Callable[[], int], stop: threading.Event) -> Iterator[Item]:
        inlet = None if self._pictures is None else self._pictures()
        if inlet is not None:
            inlet.open()  # from here on its own thread reads and closes it
        offset_ns = origin() - self._clock.monotonic_ns()
        if self._tap is not None:
            fed: list[tuple[Kind, PictureInlet | SoundInlet]] = [("sound", sound)] if sound is not None else []
            fed += [("picture", inlet)] if inlet is not None else []
            self._tap.begin([kind for kind, _ in fed])
            for _, one in fed:
                one.feed(self._tap, offset_ns)
        pictures = None if inlet is None else _Pictures(inlet, self._look, offset_ns, self._clock, stop)
        self._open_sound = sound
        # Nothing is yielded before both gave data: a device that is silent from the start never worked.
        began, held = False, list[AudioBlock]()
        for block in self._silence(stop) if sound is None else sound.blocks(stop):
            if block is not None:
                held.append(AudioBlock(start_ns=block.start_ns + offset_ns, samples=block.samples, lone_channel=block.lone_channel))
            began = began or ((sound is None or bool(held)) and (pictures is None or pictures.waiting))
            if began:
                if pictures is not None:
                    yield from pictures.take()
                yield from held
                held.clear()
            if pictures is not None:
                pictures.check(self._settings.timeout_s)

    def _silence(self, stop: threading.Event) -> Iterator[None]:
        """Yield None from time to time, as a microphone does while there is no sound."""
        while not self._clock.wait(_IDLE_S, stop):
            yield None


class _Pictures:
    """Reads pictures in a thread; when the queue is full, the oldest picture is dropped."""

    def __init__(self, inlet: PictureInlet, look: Look, offset_ns: int, clock: Clock, stop: threading.Event) -> None:
        self._inlet, self._look, self._offset_ns, self._clock, self._stop = inlet, look, offset_ns, clock, stop
        self._seen_ns: int | None = None  # arrival of the newest picture
        self._opened_ns = clock.monotonic_ns()
        self._waiting: deque[VideoFrame] = deque(maxlen=_QUEUE_PICTURES)
        self._failure: CaptureError | None = None
        threading.Thread(target=self._read, name="capture camera", daemon=True).start()

    def _read(self) -> None:
        try:
            for picture in self._inlet.pictures(self._look, self._offset_ns, self._stop):
                self._seen_ns = self._clock.monotonic_ns()
                self._waiting.append(picture)
        except CaptureError as exc:
            self._failure = exc
        except Exception as exc:  # noqa: BLE001 - a failure of the thread must be reported: the source is lost, with this reason
            self._failure = CaptureError(f"the camera's pictures cannot be used: {exc}")
        finally:
            self._inlet.close()

    @property
    def waiting(self) -> bool:
        """True when a picture can be taken."""
        return bool(self._waiting)

    def take(self) -> Iterator[VideoFrame]:
        """Yield the pictures that have come."""
        while self._waiting:
            yield self._waiting.popleft()

    def check(self, timeout_s: float) -> None:
        """Raise the error that ended the pictures, or an error when none came for *timeout_s*.

        Raises:
            CaptureError: when the camera failed, ended or is silent.
        """
        if self._failure is not None:
            raise self._failure
        patience_s = self._inlet.first_s if self._seen_ns is None else timeout_s
        if self._clock.monotonic_ns() - (self._seen_ns or self._opened_ns) > patience_s * 1e9:
            msg = (
                f"{self._inlet.name} gave no picture for {patience_s:g} s: another program may use it, or its port or network may be too "
                "slow for its pictures; close that program, or use another port. `streamav devices` lists the devices of this machine"
            )
            raise CaptureError(msg)
