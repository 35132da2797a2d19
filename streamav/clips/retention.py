"""Names, finds and deletes clips and snapshots: old ones go by age, and the oldest when there are too many.

It deletes only files that have the names of clips.
"""

from __future__ import annotations

import re
from contextlib import suppress
from stat import S_ISREG
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
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


def prune(folder: Path, now_s: float, keep_s: float, most_bytes: int, young: Collection[Path] = ()) -> int:
    """Delete clips that are older than *keep_s*, then the oldest ones until the rest has at most *most_bytes*; return how many.

    What a killed writer left more than an hour ago is deleted, too. What cannot be read, or is deleted by somebody else, is passed over.

    Args:
        folder: of all sources.
        now_s: seconds since 1970.
        keep_s: age from which a file is deleted, s.
        most_bytes: largest size of all files together.
        young: files that are not too old, whatever their time says.
    """
    files = []
    for path in _below(folder):
        with suppress(OSError):
            found = path.lstat()
            if _LEFT.fullmatch(path.name) and now_s - found.st_mtime > _LEFT_S:
                path.unlink()
            if _NAME.fullmatch(path.name) and S_ISREG(found.st_mode):
                files.append((found.st_mtime, found.st_size, path))
    files.sort(reverse=True)  # newest first
    kept_bytes = deleted = 0
    for changed_s, size, path in files:
        kept_bytes += size
        if (now_s - changed_s > keep_s and path not in young) or kept_bytes > most_bytes:
            deleted += _deleted(path)
            kept_bytes -= size
    return deleted


def _below(folder: Path) -> Iterator[Path]:
    """Yield what is in the folders of the sources."""
    for source in folder.glob("*"):
        with suppress(OSError):
            yield from source.iterdir()


def _deleted(path: Path) -> bool:
    with suppress(OSError):
        path.unlink()
        return True
    return False


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
