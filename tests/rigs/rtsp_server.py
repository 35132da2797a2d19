"""Runs an RTSP server (GStreamer) for a test, on a free port of the loopback interface."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from rigs.services import free_port, missing

if TYPE_CHECKING:
    from types import TracebackType

RTSP_PACKAGES = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad gstreamer1.0-libav python3-gi"
SYSTEM_PYTHON = "/usr/bin/python3"
"""The package gi belongs to the system's Python (a Debian package), not to the virtual environment."""

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
FILE = (
    "( filesrc location={} ! qtdemux name=d d.video_0 ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"
    " d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(FILE.format(sys.argv[2]) if len(sys.argv) > 2 else LIVE)
factory.set_shared(True)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


class RtspServer:
    """An RTSP camera: 320 x 240 pixels, 25 frames per second, a tone of 440 Hz. It can be killed, frozen and continued.

    With a file (MP4 with H.264 and AAC) it plays this once, and all who watch at the same time see the same instant.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = () if file is None else (str(file),)
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
        """Start the server on its port and wait until it is ready."""
        self._server = subprocess.Popen(
            [SYSTEM_PYTHON, "-c", _RTSP_PROGRAM, str(self.port), *self._file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._server.stdout is None or self._server.stdout.readline().strip() != "ready":
            pytest.fail("the RTSP server did not start")

    def stop(self) -> None:
        """Freeze the server; its connections stay open without data."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue a frozen server."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server; it can be started again."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.wait(timeout=10)
            if server.stdout is not None:
                server.stdout.close()

    def _signal(self, number: int) -> None:
        if self._server is not None:
            self._server.send_signal(number)
