"""Says what a person may have meant by a path or an address that leads nowhere, for the sentences of errors.

It reads the names in one folder and nothing else.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Final

from streamav.user_paths import typed_path

__all__ = ["advice_on_path", "advice_on_source"]

_QUOTES: Final = tuple("\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\xab\xbb")
_WINDOWS: Final = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)
_HOST: Final = re.compile(r"(\d{1,3}\.){3}\d{1,3}([:/].*)?|[\w.-]+:\d{2,5}(/.*)?")
_PAGE: Final = re.compile(r"(www\.|youtube\.|youtu\.be/|vimeo\.|twitch\.tv/).*", re.IGNORECASE)
_ONE_SLASH: Final = re.compile(r"(rtsp|rtmp|https?|udp|srt):/{0,1}[^/]", re.IGNORECASE)
_CAMERA: Final = re.compile(r"\d{1,2}|camera|cam|webcam|video\d+", re.IGNORECASE)
_MOST_NAMES: Final = 2000
"""Most names of a folder that are compared."""


def advice_on_source(text: str) -> str:
    """Return what to do about a source that is no file: a camera and an address are named otherwise; else as `advice_on_path`."""
    if _CAMERA.fullmatch(text):
        number = text if text.isdigit() else "0"
        return f"for a camera of this machine write --camera {number} --mic default (streamav devices lists what there is)"
    if _ONE_SLASH.match(text):
        return "an address has two slashes after its colon, as rtsp://192.0.2.10/stream"
    if _HOST.fullmatch(text):
        return f"for a network camera write its whole address, such as rtsp://{text}"
    if _PAGE.fullmatch(text):
        return "a web page is no stream: save the video as a file and give its path; the address of a stream begins with https://"
    return advice_on_path(text)


def advice_on_path(text: str) -> str:
    """Return what to do about a path that does not exist, such as "did you mean clip.mp4?"; "check the path" where nothing is near."""
    if text.startswith(_QUOTES) or text.endswith(_QUOTES):
        return f"its quotation marks are typographic, as web pages write them; write '{text.strip(''.join(_QUOTES))}'"
    if drive := _WINDOWS.fullmatch(text):
        path = drive[2].replace("\\", "/")
        return f"this is a path of Windows; under WSL it is /mnt/{drive[1].lower()}/{path}"
    slashed = text.replace("\\", "/")
    if slashed != text and typed_path(slashed).exists():
        return f"folders are separated by /: write {slashed}"
    near = _nearest(typed_path(text))
    return "check the path" if near is None else f"did you mean {near}?"


def _nearest(path: Path) -> Path | None:
    """Return the path of the same folder whose name is most alike; None where none is."""
    try:
        names = [one.name for one, _ in zip(path.parent.iterdir(), range(_MOST_NAMES), strict=False)]
    except OSError:  # no such folder, or not ours
        return None
    wanted = path.name.casefold()
    same = sorted(name for name in names if wanted in {name.casefold(), Path(name).stem.casefold()})
    lowered = {name.casefold(): name for name in names if not name.startswith(".")}
    alike = [lowered[one] for one in difflib.get_close_matches(wanted, sorted(lowered), n=1, cutoff=0.75)]
    return next((path.parent / name for name in [*same, *alike]), None)
