"""Redaction shows the parts of an address that identify the camera, and hides all parts that may be secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.redaction import has_secret, redact, show_address

SECRET = "Xq7zWv"  # noqa: S105 - the planted secret
_PASSWORDS = st.text("abXYZ19@/?#:&=+%!$;,'. ", min_size=0, max_size=6).flatmap(
    lambda around: st.sampled_from([SECRET + around, around + SECRET, f"{around}@{SECRET}", f"{SECRET}/{around}", f"{SECRET}@{around}"])
)


@given(password=_PASSWORDS, host=st.sampled_from(["10.0.0.2", "10.0.0.2:554", "cam.local", "[fe80::1]:554", "cam"]))
def test_a_password_with_any_sign_in_it_is_not_shown(password: str, host: str) -> None:
    """No part of a password is shown, also with @, / or spaces in it. A second redaction changes nothing."""
    shown = show_address(f"rtsp://admin:{password}@{host}/live")
    assert SECRET not in shown
    assert shown.startswith("rtsp://")
    assert show_address(shown) == shown


@pytest.mark.parametrize("password", ["hunter2", "p@ss", "p/ss", "p@ss/w0rd", "p/s@s", "p?ss", "p#ss", "p%40ss", "p ss", "p:ss", "@", "/"])
def test_the_camera_is_still_known_by_its_host_and_path(password: str) -> None:
    """Scheme, host, port and a path of common words are shown, whatever the password is."""
    assert show_address(f"rtsp://admin:{password}@10.0.0.2:554/live") == "rtsp://...@10.0.0.2:554/live"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"rtsp://10.0.0.2/user=admin_password={SECRET}_channel=1_stream=0.sdp?real_stream", "rtsp://10.0.0.2/...?..."),
        (f"rtsps://10.0.0.1:7441/{SECRET}aBcDeF?enableSrtp", "rtsps://10.0.0.1:7441/...?..."),
        (f"http://cam/videostream.cgi?user=admin&pwd={SECRET}", "http://cam/videostream.cgi?..."),
        (f"rtmp://cam/bcs/channel0_main.bcs?channel=0&stream=0&user=a&password={SECRET}", None),
        (f"http://cam/live#{SECRET}", "http://cam/live#..."),
        (f"srt://cam:9000?passphrase={SECRET}", "srt://cam:9000?..."),
        (f"rtsp://cam/{SECRET}/live", "rtsp://cam/.../live"),
        (f"rtsp://cam/live?pw=p@{SECRET}", None),
        (f"rtsp://10.0.0.2/live?pw=p@{SECRET}", "rtsp://...@10.0.0.2/..."),
        (f"rtsp://cam;{SECRET}/live", "rtsp://..."),
        (f"admin:{SECRET}@10.0.0.2/live", "...@10.0.0.2/live"),
        (f"rtsp:/admin:{SECRET}@10.0.0.2/live", "...@10.0.0.2/live"),
        (f"rtsp%3A%2F%2Fadmin%3A{SECRET}%4010.0.0.2%2Flive", "rtsp://...@10.0.0.2/live"),
        ("a%20film.mp4", "a%20film.mp4"),
        (f"10.0.0.2/videostream.cgi?user=a&pwd={SECRET}", "10.0.0.2/videostream.cgi?..."),
        (f"lavfi:movie=rtsp\\://a\\:{SECRET}@h[out0]", "lavfi:..."),
        (f"async:rtsp://a:{SECRET}@cam/live", "rtsp://...@cam/live"),
        ("rtsp://nvr:8554/front_door", "rtsp://nvr:8554/front_door"),
        ("http://nvr/cam/realmonitor?channel=3&subtype=1", "http://nvr/cam/realmonitor?channel=3&subtype=1"),
        ("rtsp://cam/Streaming/Channels/101", "rtsp://cam/Streaming/Channels/101"),
        ("rtsp://cam/h264Preview_01_main", "rtsp://cam/h264Preview_01_main"),
        ("clips/2026-09-14T10:22:31.mp4", "clips/2026-09-14T10:22:31.mp4"),
        ("file:///home/me/film.mp4", "file:///home/me/film.mp4"),
        ("lavfi:testsrc[out0];sine[out1]", "lavfi:testsrc[out0];sine[out1]"),
    ],
)
def test_addresses_as_cameras_have_them(address: str, shown: str | None) -> None:
    """A secret in path, query or fragment is hidden; the channel of a recorder, common paths and file names are shown."""
    if shown is not None:
        assert show_address(address) == shown
    assert SECRET not in show_address(address)


def test_addresses_in_the_middle_of_a_text_are_redacted() -> None:
    """The rest of the text stays as it is, and so does the path of a model or a broker, which is no secret."""
    text = f"rtsp://a:{SECRET}@10.0.0.2:554/live failed, http://x:{SECRET}@h/m-7.zip?sig={SECRET} too ('rtsp://h/{SECRET}'): a@b.c stays"
    assert redact(text) == "rtsp://...@10.0.0.2:554/live failed, http://...@h/m-7.zip?... too ('rtsp://h/...'): a@b.c stays"
    text = f"no file rtsp:/a:{SECRET}@10.0.0.2/live, 'a:{SECRET}/@cam' or source=a:{SECRET}@cam:554 at 10:22:31.5 of a@b.c"
    assert redact(text) == "no file ...@10.0.0.2/live, '...@cam' or source=...@cam:554 at 10:22:31.5 of a@b.c"
    assert redact(redact(text)) == redact(text)
    assert redact("a broker like mqtts://user@host:8883/streamav.") == "a broker like mqtts://user@host:8883/streamav."
    assert redact(f"given password={SECRET}, x") == "given password=... x"


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("rtsp://a:b@h/", True),
        ("http://h/?pwd=x", True),
        ("udp://@239.0.0.1:1234", False),
        ("rtsp://192.0.2.10/stream", False),
        ("a.mp4", False),
    ],
)
def test_an_address_with_a_password_is_told_from_one_without(address: str, secret: bool) -> None:
    """The result decides whether a warning about the command line is logged."""
    assert has_secret(address) == secret
