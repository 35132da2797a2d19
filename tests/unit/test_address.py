from __future__ import annotations

import pytest

from streamav.capture.address import is_live, is_network


@pytest.mark.parametrize(
    ("uri", "live"),
    [
        ("rtsp://camera/live", True),
        ("udp://127.0.0.1:5000", True),
        ("tcp://127.0.0.1:5000?listen=1", True),
        ("http://camera/stream", True),
        ("https://camera/index.m3u8", True),
        ("https://server/film.MP4", False),
        ("http://camera:8080/live.ts", True),
        ("clip.mp4", False),
        ("file:///tmp/clip.mp4", False),
        ("lavfi:testsrc[out0];sine[out1]", False),
        ("lavfi:movie=rtsp\\://camera[out0]", False),
    ],
)
def test_network_streams_are_live_and_files_are_not(uri: str, live: bool) -> None:
    """Network streams are live; a plain media file on a web server is not."""
    assert is_live(uri) is live
    assert is_network(uri) or not live
