"""Runs a virtual microphone (PulseAudio) for a test.

The rig does not use the user's sound server: it has its own folder and socket, and stops at the end of the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from rigs.services import need, wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray


class VirtualMicrophone:
    """A separate sound server with a null sink: the microphone records what is played into the sink.

    A process that records from it needs `environment`; PortAudio's device is called "pulse".
    """

    RATE_HZ = 48_000
    # Without norewinds=1 the sink renders blocks of 2 s, and the recording is misaligned.
    SCRIPT = (
        "load-module module-native-protocol-unix\n"
        "load-module module-null-sink norewinds=1 sink_name=virt rate=48000 channels=1 channel_map=mono\n"
        "load-module module-remap-source master=virt.monitor source_name=virtmic\n"
        "set-default-sink virt\n"
        "set-default-source virtmic\n"
    )

    def __init__(self) -> None:
        need("pulseaudio", "pulseaudio pulseaudio-utils libasound2-plugins libportaudio2")
        need("pactl", "pulseaudio-utils")
        self.folder = Path(tempfile.mkdtemp(prefix="streamav-pulse-"))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULSE_")},
            "XDG_RUNTIME_DIR": str(self.folder),
            "HOME": str(self.folder),
            "PULSE_SOURCE": "virtmic",
        }
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self.folder / "run.pa").write_text(self.SCRIPT, encoding="utf-8")
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until the microphone exists."""
        arguments = [
            "-n",
            "-F",
            str(self.folder / "run.pa"),
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--disallow-exit",
            "--use-pid-file=no",
        ]
        with (self.folder / "pulse.log").open("ab") as log:
            self._server = subprocess.Popen(["pulseaudio", *arguments], env=self.environment, stdout=log, stderr=log)
        wait_until("the virtual microphone", lambda: "virtmic" in self.control("list", "short", "sources"))

    def control(self, *arguments: str) -> str:
        """Run pactl and return its output; the output is empty while the server is not running."""
        done = subprocess.run(["pactl", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=10)
        return done.stdout

    def play(self, samples: NDArray[np.float32]) -> tuple[int, int]:
        """Play mono samples at 48 kHz, range [-1, 1]; return the monotonic times (ns) before and after the server began.

        The server holds the whole sound before it begins, so that a player that gets no processor time cannot interrupt it.
        """
        path = self.folder / f"play-{time.monotonic_ns()}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.RATE_HZ)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        self.control("upload-sample", str(path), path.stem)
        before_ns = time.monotonic_ns()
        self.control("play-sample", path.stem, "virt")
        return before_ns, time.monotonic_ns()

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.wait(timeout=10)
