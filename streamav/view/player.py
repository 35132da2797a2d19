"""Decides how the player of a report gets the recording (inside the document or as a file beside it), and whether browsers can play it."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from streamav.user_paths import typed_path

if TYPE_CHECKING:
    from pathlib import Path

    import av

__all__ = ["EMBED_MB", "Media", "media_of"]

EMBED_MB: Final = 16
"""Recordings up to this size, MB, are put into the report unless another limit is set (our choice)."""
_TYPES: Final = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
"""Containers that Chromium, Firefox and Safari open, by suffix. Source: MDN, "Media container formats"."""
_PICTURE: Final = frozenset({"h264", "vp8", "vp9", "av1"})
_SOUND: Final = frozenset({"aac", "mp3", "opus", "vorbis", "flac"})
"""Codecs that these browsers decode. Source: MDN, "Web video codec guide" and "Web audio codec guide"."""
_EIGHT_BITS: Final = frozenset({"yuv420p", "yuvj420p"})
"""Pixel formats of H.264 that every browser decodes."""
_MEGA: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Media:
    """The recording for the player of a report."""

    url: str | None
    """Address relative to the report; None when the recording is inside the document, or cannot be played."""
    content: str | None
    """The file in base64, when it is inside the document."""
    type: str
    """Media type, such as video/mp4; empty when browsers cannot play it."""
    note: str
    """A sentence for the reader: where the recording is, or why there is no player."""

    @property
    def policy(self) -> str:
        """The directive of the content security policy that lets it play, and nothing else."""
        return "media-src blob:" if self.content is not None else "media-src 'self' file:" if self.url is not None else "media-src 'none'"


def media_of(file: str, report: Path, embed_mb: float) -> Media:
    """Return how a report at *report* plays a recording.

    Args:
        file: the recording, as the user named it.
        report: where the report will be.
        embed_mb: largest size, MB (10^6 bytes), of a recording that is put into the report.
    """
    path = typed_path(unquote(urlsplit(file).path) if file.lower().startswith("file://") else file)
    problem = _problem(path)
    if problem is not None:
        return Media(
            None, None, "", f"Browsers cannot play this recording ({problem}). To see it here, convert it to MP4 with H.264 and AAC."
        )
    kind = _TYPES[path.suffix.lower()]
    size = path.stat().st_size
    if size <= embed_mb * _MEGA:
        return Media(None, base64.b64encode(path.read_bytes()).decode("ascii"), kind, "The recording is inside this file.")
    url = _relative(path, report)
    note = "The player opens the recording beside this report; it stops working when one of the two is moved."
    return Media(url, None, kind, note)


def _problem(path: Path) -> str | None:
    """Return why browsers cannot play a file, or None."""
    import av

    if path.suffix.lower() not in _TYPES:
        return f"files of the kind {path.suffix or 'without a suffix'}"
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            return _codec_problem(container)
    except (av.error.FFmpegError, OSError):
        return "it cannot be opened"


def _codec_problem(container: av.container.InputContainer) -> str | None:
    picture, sound = container.streams.video[0].codec_context, container.streams.audio[0].codec_context
    if picture.name not in _PICTURE and not picture.name.startswith(("libvpx", "libdav1d", "libaom")):
        return f"its pictures are {picture.name}"
    if picture.name == "h264" and picture.pix_fmt not in _EIGHT_BITS:
        return f"its pictures are H.264 of the format {picture.pix_fmt}"
    if sound.name.removesuffix("float") not in _SOUND and not sound.name.startswith(("libopus", "libvorbis", "libdav1d")):
        return f"its sound is {sound.name}"
    return None


def _relative(path: Path, report: Path) -> str:
    """Return the address of a file relative to a report; a name with a colon is never taken as the name of a protocol."""
    beside = os.path.relpath(path.absolute(), report.absolute().parent)
    return "./" + quote(os.fsencode(beside), safe="/")
