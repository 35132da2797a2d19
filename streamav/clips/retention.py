"""Names, finds and deletes clips and snapshots: old ones go by age, and the oldest when there are too many.

It deletes only files that have the names of clips.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["file_stem", "find_clip", "prune"]

_CLIP: Final = r"\d{8}T\d{6}Z_[a-zA-Z0-9_-]{1,64}_[0-9A-HJKMNP-TV-Z]{26}\.(mp4|jpg)"
_NAME: Final = re.compile(_CLIP)
_LEFT: Final = re.compile(rf"\.{_CLIP}\.[0-9a-f]{{16}}\.tmp")
"""What a killed writer left (`streamav.files.whole_file`)."""
_LEFT_S: Final = 3_600.0
"""Nobody writes a clip for so long."""


def file_stem(utc: str, label: str, event_id: str) -> str:
    """Return the name, without suffix, of the files of an event.

    Args:
        utc: time of its start, as in 20260914T102231Z.
        label: slug of its class.
        event_id: its id.
    """
    return f"{utc}_{label}_{event_id}"


def prune(folder: Path, now_s: float, keep_s: float, most_bytes: int) -> int:
    """Delete clips that are older than *keep_s*, then the oldest ones until the rest has at most *most_bytes*; return how many.

    What a killed writer left more than an hour ago is deleted, too.

    Args:
        folder: of all sources.
        now_s: seconds since 1970.
        keep_s: age from which a file is deleted, s.
        most_bytes: largest size of all files together.
    """
    files = []
    for path in (path for source in folder.glob("*") if source.is_dir() for path in source.iterdir()):
        if _LEFT.fullmatch(path.name) and now_s - path.stat().st_mtime > _LEFT_S:
            path.unlink(missing_ok=True)
        if _NAME.fullmatch(path.name) and path.is_file():
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    files.sort(reverse=True)  # newest first
    kept_bytes = deleted = 0
    for changed_s, size, path in files:
        kept_bytes += size
        if now_s - changed_s > keep_s or kept_bytes > most_bytes:
            path.unlink(missing_ok=True)
            kept_bytes -= size
            deleted += 1
    return deleted


def find_clip(folder: Path, event_id: str, suffix: str) -> Path | None:
    """Return the clip or snapshot of an event, or None. Only a plain file with the name of a clip, in a folder of a source, is found.

    Args:
        folder: of all sources.
        event_id: id of the event; it may be any text.
        suffix: .mp4 or .jpg.
    """
    ending = f"_{event_id}{suffix}"
    for source in folder.glob("*"):
        if source.is_symlink() or not source.is_dir():
            continue
        for path in source.iterdir():
            if path.name.endswith(ending) and _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                return path
    return None
