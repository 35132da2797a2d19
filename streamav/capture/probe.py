"""Reads the length that a recording states in its header, without decoding it."""

from __future__ import annotations

from streamav.user_paths import typed_path

__all__ = ["duration_s"]


def duration_s(path: str) -> float | None:
    """Return the length that a file announces, s; None where it announces none or cannot be opened."""
    import av

    file = typed_path(path)
    if not file.is_file():  # reading a pipe would take its content away
        return None
    try:
        with av.open(str(file.absolute()), metadata_errors="replace") as container:
            return container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError):
        return None
