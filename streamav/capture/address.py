"""Classifies the address of a source.

Pure: it opens nothing.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from streamav.files import MEDIA_SUFFIXES

__all__ = ["LAVFI", "STDIN", "is_live", "is_network"]

LAVFI = "lavfi:"
"""Prefix of an FFmpeg filter graph that makes sound and pictures, for tests."""
STDIN = "-"
"""Address of standard input."""
_FILE_SUFFIXES = frozenset(MEDIA_SUFFIXES) - {".ts"}
"""Suffixes of plain files on a web server. Live streams over HTTP are sent as .ts, so .ts is not one of them."""


def is_network(uri: str) -> bool:
    """Return whether the address names a peer on a network (a scheme with ://, other than file)."""
    return "://" in uri and not uri.lower().startswith("file://") and not uri.startswith(LAVFI)


def is_live(uri: str) -> bool:
    """Return whether the source is live: every network stream except a plain media file on a web server."""
    if not is_network(uri):
        return False
    parts = urlsplit(uri)
    return not (parts.scheme.lower() in {"http", "https"} and PurePosixPath(parts.path).suffix.lower() in _FILE_SUFFIXES)
