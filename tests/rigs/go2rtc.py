"""Runs go2rtc, the program that restreams cameras (also inside Frigate), for a test, with sources that real ffmpeg processes send."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Self

import pytest
from rigs.services import free_port, need, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["Go2rtc", "looped"]


class Go2rtc:
    """A go2rtc on free ports of the loopback interface. It can be killed, stopped, continued and started again."""

    def __init__(self, folder: Path, streams: Mapping[str, str | list[str]]) -> None:
        """Write its configuration.

        Args:
            folder: for the configuration and its log.
            streams: sources by the name of the stream.
        """
        program = shutil.which("go2rtc")
        if program is None:  # also in CI: no distribution packages it, and a program from elsewhere is not fetched for a test
            pytest.skip("go2rtc is missing: put the program of https://github.com/AlexxIT/go2rtc/releases on the PATH")
        need("ffmpeg", "ffmpeg")
        self._program, self._log = program, folder / "go2rtc.log"
        self._rtsp, self._api = free_port(), free_port()
        self._config = folder / "go2rtc.yaml"
        settings = {
            "api": {"listen": f"127.0.0.1:{self._api}"},
            "rtsp": {"listen": f"127.0.0.1:{self._rtsp}"},
            "webrtc": {"listen": ""},
            "srtp": {"listen": ""},
            "ffmpeg": {"loop": "-re -stream_loop -1 -i {input}"},
            "streams": dict(streams),
        }
        self._config.write_text(json.dumps(settings))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def rtsp(self, name: str) -> str:
        """Return the RTSP address of a stream."""
        return f"rtsp://127.0.0.1:{self._rtsp}/{name}"

    def http(self, kind: str, name: str) -> str:
        """Return the HTTP address of a stream in a format: mp4, ts, m3u8, mjpeg."""
        return f"http://127.0.0.1:{self._api}/api/stream.{kind}?src={name}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log, start_new_session=True)
        wait_until("go2rtc listens", lambda: b"[rtsp] listen" in self._log.read_bytes())

    def stop(self) -> None:
        """Freeze it; its connections stay open without data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it; its ffmpeg processes end, because nobody takes what they send."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(timeout=10)


def looped(clip: Path, sound: str = "copy") -> str:
    """Return a source of go2rtc that plays a clip again and again at its own pace, as a camera would send it."""
    return f"ffmpeg:{clip}#input=loop#video=copy" + (f"#audio={sound}" if sound else "")
