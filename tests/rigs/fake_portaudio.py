"""Replaces the module sounddevice by one microphone, which gives sound while a test wants it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

__all__ = ["FakePortAudio"]

BLOCK_S = 0.1


class FakePortAudio:
    """One microphone, which gives 48 kHz sound while *sounding* is set: silence, or a recording in a loop."""

    PortAudioError = OSError

    def __init__(self, sound: NDArray[np.float32] | None = None) -> None:
        self.sounding = threading.Event()
        self.given = 0
        self.sound = np.zeros(4_800, np.float32) if sound is None else sound

    def query_devices(self, device: object, kind: str) -> dict[str, object]:
        return {"name": "microphone", "default_samplerate": 48_000.0, "max_input_channels": 1}

    def InputStream(self, *, callback: Callable[..., None], blocksize: int, **_: object) -> FakeStream:  # noqa: N802 - sounddevice's name
        return FakeStream(self, callback, blocksize)


class FakeStream:
    """An open microphone; its thread calls back at the pace of real sound."""

    active = True

    def __init__(self, audio: FakePortAudio, callback: Callable[..., None], blocksize: int) -> None:
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(audio, callback, blocksize))

    def _run(self, audio: FakePortAudio, callback: Callable[..., None], blocksize: int) -> None:
        times = SimpleNamespace(inputBufferAdcTime=0.0, currentTime=0.0)
        begin_s, count = time.monotonic(), 0
        while not self._closed.wait(max(0.0, begin_s + (count + 1) * BLOCK_S - time.monotonic())):
            count += 1
            if audio.sounding.is_set():
                places = np.arange(audio.given * blocksize, (audio.given + 1) * blocksize) % audio.sound.size
                audio.given += 1
                callback(audio.sound[places][:, None], blocksize, times, None)

    def start(self) -> None:
        self._thread.start()

    def close(self, *, ignore_errors: bool) -> None:
        self._closed.set()
        self._thread.join()
