"""Reads a microphone through PortAudio at its native rate and returns 16 kHz sound on the computer's monotonic clock.

It uses no camera and does not reopen a device. PortAudio's callback only copies; the reader does all other work.
"""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from streamav.capture.deficit import DeficitMonitor, SoundState
from streamav.capture.encoded import EncodedSound
from streamav.capture.portaudio import close_stream, load_sounddevice, look_up, open_stream
from streamav.errors import CaptureError
from streamav.redaction import show_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.types import AudioBlock

__all__ = ["Microphone"]

_LOG = logging.getLogger(__name__)
_BLOCK_S = 0.1
_QUEUE_BLOCKS = 50
_AGE_LIMIT_S = 1.0


class _TimeInfo(Protocol):
    """Times that PortAudio gives for a block."""

    inputBufferAdcTime: float  # noqa: N815 - PortAudio's name
    currentTime: float  # noqa: N815


class Microphone:
    """One open microphone.

    Lost samples leave a gap in the time stamps, which the segmenter fills with zeros and counts. The time stamps follow the drift of
    the sound card against the monotonic clock in steps of 25 ms.
    """

    def __init__(self, device: str, clock: Clock, *, timeout_s: float = 5.0) -> None:
        """Keep the device: "default", a number, or part of its name. A device that gives nothing for *timeout_s* counts as gone."""
        self._device, self._clock, self._timeout_s = device, clock, timeout_s
        self._queue: queue.Queue[tuple[NDArray[np.float32], int, float, float]] = queue.Queue(_QUEUE_BLOCKS)
        self._dead = threading.Event()
        self._stream: Any = None
        self._rate = 0
        self._monitor: DeficitMonitor | None = None
        self._encoded: EncodedSound | None = None

    @property
    def name(self) -> str:
        """The microphone, for messages."""
        return f"microphone {show_address(self._device)!r}"

    @property
    def skew_ms(self) -> int | None:
        """Measured delay of the sound's time stamps that is not corrected yet, ms; None in the first twenty seconds."""
        drift = self._monitor.drift_ns if self._monitor is not None else None
        return None if drift is None else round(drift / 1e6)

    def open(self) -> None:
        """Open the device and start it.

        Raises:
            CaptureError: when there is no such device, it is busy, or PortAudio is missing.
        """
        sounddevice = load_sounddevice()
        try:
            self._stream = open_stream(self._start)
        except (sounddevice.PortAudioError, ValueError) as exc:
            raise CaptureError(self._not_opened(exc)) from exc
        self._monitor = DeficitMonitor(self._rate, 2 * _BLOCK_S)

    def check(self) -> None:
        """Check that the device exists, without opening it.

        Raises:
            CaptureError: when there is no such device, or PortAudio is missing.
        """
        sounddevice = load_sounddevice()
        try:
            look_up(lambda module: module.query_devices(self._number, kind="input"))
        except (sounddevice.PortAudioError, ValueError) as exc:
            raise CaptureError(self._not_opened(exc)) from exc

    @property
    def _number(self) -> int | str | None:
        """The device as PortAudio takes it; None for the default one."""
        return int(self._device) if self._device.isdigit() else None if self._device == "default" else self._device

    def _not_opened(self, exc: Exception) -> str:
        reason = str(exc).replace(self._device, show_address(self._device))  # PortAudio repeats the name
        if "querying device -1" in reason:  # its number for "none"
            reason = "there is no microphone, or no sound server runs"
        return f"{self.name} cannot be opened: {reason}. `streamav devices` lists the devices of this machine"

    def _start(self, sounddevice: ModuleType) -> Any:  # noqa: ANN401 - sounddevice has no types
        """Open and start the device at its native rate."""
        number = self._number
        info = sounddevice.query_devices(number, kind="input")
        self._rate = round(info["default_samplerate"])
        stream = sounddevice.InputStream(
            device=number,
            channels=1,
            samplerate=self._rate,
            blocksize=round(self._rate * _BLOCK_S),
            dtype="float32",
            callback=self._callback,
            finished_callback=self._dead.set,
        )
        try:
            stream.start()
        except sounddevice.PortAudioError:
            stream.close(ignore_errors=True)
            raise
        _LOG.info("microphone opened device=%r rate_hz=%d", info["name"], self._rate)
        return stream

    def close(self) -> None:
        """Close the device; may also be called when it is gone or was never opened."""
        stream, self._stream = self._stream, None
        if stream is not None:
            close_stream(stream)

    def feed(self, tap: PacketTap, offset_ns: int) -> None:
        """Encode its sound for a tap, as SoundInlet."""
        self._encoded = EncodedSound(tap, offset_ns)

    def _callback(self, samples: NDArray[np.float32], frames: int, times: _TimeInfo, status: object) -> None:
        """Copy one block in PortAudio's thread. The status flags are not reliable and are ignored."""
        del frames, status
        with suppress(queue.Full):  # the times of the next blocks show that sound is lost
            self._queue.put_nowait((samples[:, 0].copy(), self._clock.monotonic_ns(), times.inputBufferAdcTime, times.currentTime))

    def blocks(self, stop: threading.Event) -> Iterator[AudioBlock | None]:
        """Yield sound with monotonic time stamps; yield None from time to time while there is none, so that the caller can do other work.

        Raises:
            CaptureError: when the device is gone or gives nothing for `timeout_s`.
        """
        from streamav.capture.sound import Resampler, sound_frame

        placer, resampler = _Placer(self._rate, self._monitor or DeficitMonitor(self._rate, 2 * _BLOCK_S)), Resampler()
        heard_ns = self._clock.monotonic_ns()
        while not stop.is_set():
            try:
                samples, now_ns, card_s, current_s = self._queue.get(timeout=_BLOCK_S / 4)
            except queue.Empty:
                self._check_alive(heard_ns)
                yield None
                continue
            heard_ns = self._clock.monotonic_ns()
            for block, time_ns in placer.place(samples, now_ns, card_s, current_s):
                for one in resampler.push(sound_frame(block, self._rate), time_ns):
                    if self._encoded is not None:
                        self._encoded.take(one.samples, one.start_ns)
                    yield one

    def _check_alive(self, heard_ns: int) -> None:
        if self._dead.is_set() or (self._stream is not None and not self._stream.active):
            msg = f"microphone {show_address(self._device)!r} is gone: it was unplugged, or the sound server ended"
            raise CaptureError(msg)
        if self._clock.monotonic_ns() - heard_ns > self._timeout_s * 1e9:
            msg = (
                f"microphone {show_address(self._device)!r} gave nothing for {self._timeout_s:g} s: the sound server may have suspended "
                "it, or another program may use it; resume it, or close that program. `streamav devices` lists the devices of this machine"
            )
            raise CaptureError(msg)


class _Placer:
    """Computes the monotonic time of every block: time of the first one, plus the samples since, plus lost sound and drift."""

    def __init__(self, rate: int, monitor: DeficitMonitor) -> None:
        self._rate, self._monitor = rate, monitor
        self._zero_ns: int | None = None
        self._count = 0
        self._held: list[NDArray[np.float32]] = []
        self._backlog = False

    def place(self, samples: NDArray[np.float32], now_ns: int, card_s: float, current_s: float) -> list[tuple[NDArray[np.float32], int]]:
        """Return the blocks that can be placed now; blocks are held while a loss is suspected."""
        if self._zero_ns is None:
            age_s = current_s - card_s if 0.0 < current_s - card_s < _AGE_LIMIT_S else samples.size / self._rate
            self._zero_ns = now_ns - round(age_s * 1e9)
        # Some sound systems leave the card's time at zero; that counts as no time.
        verdict = self._monitor.push(samples.size, now_ns, round(card_s * 1e9) if card_s > 0.0 else None)
        self._held.append(samples)
        if verdict.state is SoundState.SUSPECT:
            return []
        if verdict.state is SoundState.LOSS:
            _LOG.warning("sound lost seconds=%.2f", verdict.shift_ns / 1e9)
        if (verdict.state is SoundState.BACKLOG) != self._backlog:
            self._backlog = not self._backlog
            _LOG.warning("sound backlog=%s", "begins" if self._backlog else "ends")
        self._zero_ns += verdict.shift_ns
        placed = []
        for block in self._held:
            placed.append((block, self._zero_ns + self._count * 1_000_000_000 // self._rate))
            self._count += block.size
        self._held = []
        return placed
