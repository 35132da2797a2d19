"""Says what kind of thing the address of a source is.

Pure: it opens nothing.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from streamav.files import MEDIA_SUFFIXES

__all__ = ["LAVFI", "is_live", "is_network"]

LAVFI = "lavfi:"
"""Prefix of an FFmpeg filter graph that makes sound and pictures, for tests."""
_FILE_SUFFIXES = frozenset(MEDIA_SUFFIXES) - {".ts"}
"""Over HTTP, .ts is how live streams are sent."""


def is_network(uri: str) -> bool:
    """Say whether the address names a peer on a network (a scheme with ://, other than file)."""
    return "://" in uri and not uri.lower().startswith("file://") and not uri.startswith(LAVFI)


def is_live(uri: str) -> bool:
    """Say whether the world does not wait: every network stream, but for a plain media file on a web server."""
    if not is_network(uri):
        return False
    parts = urlsplit(uri)
    return not (parts.scheme.lower() in {"http", "https"} and PurePosixPath(parts.path).suffix.lower() in _FILE_SUFFIXES)
