"""Real services that tests start for themselves: a virtual microphone (PulseAudio) and an RTSP server (GStreamer).

Nothing here touches the user's own sound server: each rig has its own folder, socket or port, and ends with its test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray

RTSP_PACKAGES = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad gstreamer1.0-libav python3-gi"
SYSTEM_PYTHON = "/usr/bin/python3"
"""gi is a Debian package, so it lives in the system's Python, not in the virtual environment."""


def need(program: str, package: str) -> None:
    """Skip where *program* is missing, and fail where CI=true: a skip in CI is a test that nobody runs."""
    if shutil.which(program) is None:
        missing(f"{program} is missing: apt-get install {package}")


def missing(message: str) -> None:
    """Fail in CI, skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """Give a port on the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds; fail with its name when it does not."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain for: {what}")
        time.sleep(0.02)


class VirtualMicrophone:
    """A sound server of our own with a null sink: what is played into the sink is what the microphone hears.

    A process that shall hear it needs `environment`; PortAudio's device is called "pulse".
    """

    RATE_HZ = 48_000
    # Without norewinds=1 the sink renders blocks of 2 s and the recording is misaligned.
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
        self._players: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        (self.folder / "run.pa").write_text(self.SCRIPT, encoding="utf-8")
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        for player in self._players:
            player.kill()
            player.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until the microphone is there."""
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
        """Run pactl and give what it prints; nothing while the server is away."""
        done = subprocess.run(["pactl", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=10)
        return done.stdout

    def play(self, samples: NDArray[np.float32]) -> None:
        """Begin to play mono samples at 48 kHz, range [-1, 1], and return at once."""
        path = self.folder / f"play-{time.monotonic_ns()}.raw"
        path.write_bytes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        how = ["--raw", "--format=s16le", f"--rate={self.RATE_HZ}", "--channels=1", "--device=virt", "--latency-msec=30", str(path)]
        self._players.append(subprocess.Popen(["paplay", *how], env=self.environment))

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.wait(timeout=10)


_RTSP_PROGRAM = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
LIVE = (
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25"
    " ! rtph264pay name=pay0 pt=96 config-interval=1"
    " audiotestsrc is-live=true wave=sine freq=440 ! audio/x-raw,rate=48000,channels=1"
    " ! audioconvert ! avenc_aac ! rtpmp4gpay name=pay1 pt=97 )"
)
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(LIVE)
factory.set_shared(True)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


class RtspServer:
    """An RTSP camera: 320 x 240 pixels, 25 pictures a second, a tone of 440 Hz; it can be killed, stopped and continued."""

    def __init__(self) -> None:
        probe = (
            "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; "
            "Gst.init(None); assert Gst.ElementFactory.find('x264enc') and Gst.ElementFactory.find('avenc_aac')"
        )
        found = (
            Path(SYSTEM_PYTHON).exists() and subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
        )
        if not found:
            missing(f"the RTSP server of GStreamer is missing: apt-get install {RTSP_PACKAGES}")
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/live"
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server on its port and wait until it says that it is ready."""
        self._server = subprocess.Popen(
            [SYSTEM_PYTHON, "-c", _RTSP_PROGRAM, str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._server.stdout is None or self._server.stdout.readline().strip() != "ready":
            pytest.fail("the RTSP server did not start")

    def stop(self) -> None:
        """Freeze the server: its connections stay open and say nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the server at once; it may be started again."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.wait(timeout=10)
            if server.stdout is not None:
                server.stdout.close()

    def _signal(self, number: int) -> None:
        if self._server is not None:
            self._server.send_signal(number)
