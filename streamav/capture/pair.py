"""A camera and a microphone as one source: two devices, two clocks, one media clock.

Both put their data on the computer's monotonic clock; the sound card's drift against it is measured and followed.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING

from streamav.capture.camera import Camera
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
    from streamav.clock import Clock
    from streamav.types import SourceState

__all__ = ["PairSource"]

_QUEUE_PICTURES = 32


class PairSource:
    """A camera with a microphone; when either goes, the source is lost, and both are opened again."""

    def __init__(
        self, camera: str, microphone: str, look: Look, *, settings: CaptureSettings | None = None, clock: Clock | None = None
    ) -> None:
        """Keep the devices' names; nothing is opened before items() is called.

        Args:
            camera: a number, a path, or part of a name.
            microphone: "default", a number, or part of a name.
            look: which pictures are wanted, and how large.
            settings: timeouts and reconnecting; None for the defaults.
            clock: monotonic; None for the machine's.
        """
        self._camera, self._microphone, self._look = camera, microphone, look
        self._settings = settings or CaptureSettings()
        self._clock = clock or SystemClock()
        self._loop = LiveLoop(f"camera {camera} with microphone {microphone}", self._session, self._settings, self._clock)
        self._open_microphone: Microphone | None = None
        self.session = secrets.token_hex(8)
        """A random word: what a camera sees does not come again."""

    @property
    def live(self) -> bool:
        """True: the world does not wait."""
        return True

    @property
    def skew_ms(self) -> int | None:
        """How late the sound's time stamps are against the monotonic clock, ms; below 25 ms unless drift outruns correction."""
        return self._open_microphone.skew_ms if self._open_microphone is not None else None

    def items(self) -> Iterator[AudioBlock | VideoFrame | SourceState]:
        """Yield sound and pictures, and LOST and ONLINE when a device goes and comes back.

        Raises:
            CaptureError: when a device cannot be opened at the start, or is lost and shall not be opened again.
        """
        return self._loop.items()

    def close(self) -> None:
        """End items() within a tenth of a second."""
        self._loop.close()

    def _session(self, origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        """Open both devices once and yield what they give until one of them fails."""
        camera = Camera(self._camera, self._clock, timeout_s=self._settings.timeout_s)
        microphone = Microphone(self._microphone, self._clock, timeout_s=self._settings.timeout_s)
        microphone.open()
        try:
            camera.open()  # read, and closed, by a thread of its own from here on
            offset_ns = origin() - self._clock.monotonic_ns()
            pictures = _Pictures(camera, self._look, offset_ns, self._clock, stop)
            self._open_microphone = microphone
            # Nothing is given before both devices gave something: one that is silent from its opening on has not worked.
            began, held = False, list[AudioBlock]()
            for block in microphone.blocks(stop):
                if block is not None:
                    held.append(AudioBlock(start_ns=block.start_ns + offset_ns, samples=block.samples))
                began = began or (bool(held) and pictures.waiting)
                if began:
                    yield from pictures.take()
                    yield from held
                    held.clear()
                pictures.check(self._settings.timeout_s)
        finally:
            microphone.close()


class _Pictures:
    """Reads the camera in a thread; the oldest picture is dropped when nobody fetches them."""

    def __init__(self, camera: Camera, look: Look, offset_ns: int, clock: Clock, stop: threading.Event) -> None:
        self._camera, self._look, self._offset_ns, self._clock, self._stop = camera, look, offset_ns, clock, stop
        self._seen_ns = clock.monotonic_ns()  # arrival of the newest picture, or the opening
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
                for shown_ns, wanted in sampler.push(time_ns + self._offset_ns, frame):
                    self._waiting.append(VideoFrame(start_ns=shown_ns, pixels=scaler.scale(wanted)))
        except CaptureError as exc:
            self._failure = exc
        except Exception as exc:  # noqa: BLE001 - a thread must not die unheard: the source is lost, and says why
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
        """Raise what ended the camera, or that it gave nothing for *timeout_s*.

        Raises:
            CaptureError: when the camera failed, ended or is silent.
        """
        if self._failure is not None:
            raise self._failure
        if self._clock.monotonic_ns() - self._seen_ns > timeout_s * 1e9:
            msg = (
                f"camera {self._camera.device!r} gave no picture for {timeout_s:g} s: another program may hold it, or its port cannot "
                "carry its pictures; close that program, or plug the camera in elsewhere. `streamav devices` lists what there is"
            )
            raise CaptureError(msg)
