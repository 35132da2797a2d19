"""Reads a camera and a microphone as one source: two devices with two clocks are put on one media clock.

Both put their data on the computer's monotonic clock; the sound card's drift against it is measured and followed.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING

from streamav.capture.camera import Camera
from streamav.capture.encoded import PairEncoder
from streamav.capture.live import LiveLoop
from streamav.capture.microphone import Microphone
from streamav.clock import SystemClock
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.types import AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import av

    from streamav.capture.look import Look
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.types import SourceState

__all__ = ["PairSource"]

_QUEUE_PICTURES = 32


class PairSource:
    """A camera with a microphone. When either device is lost, the source is lost, and both are opened again."""

    def __init__(
        self,
        camera: str,
        microphone: str,
        look: Look,
        *,
        settings: CaptureSettings | None = None,
        clock: Clock | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        """Keep the devices' names; nothing is opened before items() is called.

        Args:
            camera: a number, a path, or part of a name.
            microphone: "default", a number, or part of a name.
            look: which pictures are used, and their size.
            settings: timeouts and reconnecting; None for the defaults.
            clock: monotonic; None for the clock of the machine.
            tap: receives what the devices give, encoded for clips; None encodes nothing.
        """
        self._tap = tap
        self._camera, self._microphone, self._look = camera, microphone, look
        self._settings = settings or CaptureSettings()
        self._clock = clock or SystemClock()
        self._loop = LiveLoop(f"camera {camera} with microphone {microphone}", self._session, self._settings, self._clock)
        self._open_microphone: Microphone | None = None
        self.session = secrets.token_hex(8)
        """A random word, because what a camera records cannot be played again."""

    @property
    def live(self) -> bool:
        """Always True: both devices are live."""
        return True

    @property
    def skew_ms(self) -> int | None:
        """Delay of the sound's time stamps against the monotonic clock, ms; below 25 ms unless drift is faster than its correction."""
        return self._open_microphone.skew_ms if self._open_microphone is not None else None

    def items(self) -> Iterator[AudioBlock | VideoFrame | SourceState]:
        """Yield sound and pictures, and LOST and ONLINE when a device is lost and returns.

        Raises:
            CaptureError: when a device cannot be opened at the start, or is lost and must not be opened again.
        """
        return self._loop.items()

    def close(self) -> None:
        """Make items() end within a tenth of a second."""
        self._loop.close()

    def _session(self, origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        """Open both devices once and yield their data until one of them fails."""
        camera = Camera(self._camera, self._clock, timeout_s=self._settings.timeout_s)
        microphone = Microphone(self._microphone, self._clock, timeout_s=self._settings.timeout_s)
        microphone.open()
        try:
            camera.open()  # from here on its own thread reads and closes it
            offset_ns = origin() - self._clock.monotonic_ns()
            encoder = None if self._tap is None else PairEncoder(self._tap, *camera.size)
            pictures = _Pictures(camera, self._look, offset_ns, self._clock, stop, encoder)
            self._open_microphone = microphone
            # Nothing is yielded before both devices gave data: a device that is silent from the start never worked.
            began, held = False, list[AudioBlock]()
            for block in microphone.blocks(stop):
                if block is not None:
                    held.append(AudioBlock(start_ns=block.start_ns + offset_ns, samples=block.samples))
                    if encoder is not None:
                        encoder.sound(block.samples, held[-1].start_ns)
                began = began or (bool(held) and pictures.waiting)
                if began:
                    yield from pictures.take()
                    yield from held
                    held.clear()
                pictures.check(self._settings.timeout_s)
        finally:
            microphone.close()


class _Pictures:
    """Reads the camera in a thread; when the queue is full, the oldest picture is dropped."""

    def __init__(
        self, camera: Camera, look: Look, offset_ns: int, clock: Clock, stop: threading.Event, encoder: PairEncoder | None
    ) -> None:
        self._encoder = encoder
        self._camera, self._look, self._offset_ns, self._clock, self._stop = camera, look, offset_ns, clock, stop
        self._seen_ns = clock.monotonic_ns()  # arrival of the newest picture, or time of opening
        self._waiting: deque[VideoFrame] = deque(maxlen=_QUEUE_PICTURES)
        self._failure: CaptureError | None = None
        threading.Thread(target=self._read, name="capture camera", daemon=True).start()

    def _read(self) -> None:
        from streamav.capture.picture import InstantSampler, Scaler

        sampler: InstantSampler[av.VideoFrame] = InstantSampler(self._look.frames_per_second)
        scaler = Scaler(self._look.picture)
        try:
            for time_ns, frame in self._camera.frames(self._stop):
                self._seen_ns = self._clock.monotonic_ns()
                if self._encoder is not None:
                    self._encoder.picture(frame, time_ns + self._offset_ns)
                for shown_ns, wanted in sampler.push(time_ns + self._offset_ns, frame):
                    self._waiting.append(VideoFrame(start_ns=shown_ns, pixels=scaler.scale(wanted)))
        except CaptureError as exc:
            self._failure = exc
        except Exception as exc:  # noqa: BLE001 - a failure of the thread must be reported: the source is lost, with this reason
            self._failure = CaptureError(f"the camera's pictures cannot be used: {exc}")
        finally:
            self._camera.close()

    @property
    def waiting(self) -> bool:
        """True when a picture can be taken."""
        return bool(self._waiting)

    def take(self) -> Iterator[VideoFrame]:
        """Yield the pictures that have come."""
        while self._waiting:
            yield self._waiting.popleft()

    def check(self, timeout_s: float) -> None:
        """Raise the error that ended the camera, or an error when it gave nothing for *timeout_s*.

        Raises:
            CaptureError: when the camera failed, ended or is silent.
        """
        if self._failure is not None:
            raise self._failure
        if self._clock.monotonic_ns() - self._seen_ns > timeout_s * 1e9:
            msg = (
                f"camera {self._camera.device!r} gave no picture for {timeout_s:g} s: another program may use it, or its port may be too "
                "slow for its pictures; close that program, or use another port. `streamav devices` lists the devices of this machine"
            )
            raise CaptureError(msg)
