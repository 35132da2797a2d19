"""Checks a folder of AVE's videos against Annotations.txt: which clips have a file, and whether it has sound, picture and ten seconds.

It decodes nothing and changes nothing. `ave_media` extracts the features of such a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamav.errors import DataError, reason_of
from streamav.files import MEDIA_SUFFIXES
from streamav.training.clips.ave_media import find_media
from streamav.training.data.annotations import read_annotations
from streamav.training.data.ave_check import AVE_COUNTS, FileFinding, Severity
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["annotations_of", "check_videos", "has_videos", "video_counts"]

_TOLERANCE_S: Final = 0.5
"""A clip that is shorter than ten seconds by more than this lacks a segment."""
_MOST_NAMED: Final = 20
"""Files of one kind that are named one by one; further ones are counted."""


def has_videos(folder: Path) -> bool:
    """Return whether a folder holds recordings."""
    return any(path.suffix.lower() in MEDIA_SUFFIXES for path in folder.iterdir())


def annotations_of(folder: Path) -> Path | None:
    """Return Annotations.txt in the folder or beside it."""
    for place in (folder, folder.parent):
        for name in ("Annotations.txt", "annotations.txt"):
            if (place / name).is_file():
                return place / name
    return None


def check_videos(folder: Path, annotations: Path | None) -> Iterator[FileFinding]:
    """Yield a finding about the annotations, about each file that is wrong, and about the whole folder.

    Args:
        folder: one file for each video id.
        annotations: Annotations.txt; None when there is none.
    """
    if annotations is None:
        remedy = "fetch it from the folder data of github.com/YapengTian/AVE-ECCV18 and put it into the folder or beside it"
        yield FileFinding(file="Annotations.txt", severity="error", found="missing", remedy=remedy)
        return
    try:
        rows = read_annotations(annotations)
    except DataError as exc:
        yield FileFinding(file=annotations.name, severity="error", found=str(exc), remedy="fetch it again")
        return
    videos = list(dict.fromkeys(row.video for row in rows))
    yield FileFinding(
        file=annotations.name,
        severity="ok",
        found=f"{len(rows)} clips of {len(videos)} videos; AVE has {AVE_COUNTS['clips']} of {AVE_COUNTS['videos']}",
    )
    missing, wrong = [], 0
    for video in videos:
        try:
            path = find_media(folder, video)
        except DataError:
            missing.append(video)
            continue
        problem = _problem(path)
        wrong += problem is not None
        if problem is not None and wrong <= _MOST_NAMED:
            yield FileFinding(file=path.name, severity=problem[0], found=problem[1], remedy=problem[2])
    if wrong > _MOST_NAMED:
        yield FileFinding(
            file="", severity="warning", found=f"{wrong - _MOST_NAMED} further files have such problems", remedy="mend the ones above first"
        )
    yield from _about_folder(folder, videos, missing)


def video_counts(folder: Path, annotations: Path | None) -> dict[str, tuple[int | None, int]]:
    """Return how many annotated clips and videos have a file, and what AVE has."""
    if annotations is None:
        return {"clips": (None, AVE_COUNTS["clips"]), "videos": (None, AVE_COUNTS["videos"])}
    try:
        rows = read_annotations(annotations)
    except DataError:
        rows = []
    there = {path.stem for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES}
    found = [row for row in rows if row.video in there]
    return {"clips": (len(found), AVE_COUNTS["clips"]), "videos": (len({row.video for row in found}), AVE_COUNTS["videos"])}


def _about_folder(folder: Path, videos: list[str], missing: list[str]) -> Iterator[FileFinding]:
    known = set(videos)
    strange = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES and path.stem not in known)
    if strange:
        told = f"{len(strange)} recordings are not in Annotations.txt, such as {strange[0]}"
        yield FileFinding(file="", severity="note", found=told, remedy="a file must be named VIDEO_ID.mp4; these are not used")
    if missing:
        told = f"{len(missing)} of {len(videos)} videos are missing, such as {missing[0]}"
        remedy = "fetch the videos from the drive link in the README of github.com/YapengTian/AVE-ECCV18; on YouTube some may be gone"
        yield FileFinding(file="", severity="error" if len(missing) == len(videos) else "warning", found=told, remedy=remedy)
    else:
        yield FileFinding(
            file="", severity="ok", found=f"every one of {len(videos)} videos is there; next: streamav extract --media {folder} ..."
        )


def _problem(path: Path) -> tuple[Severity, str, str] | None:
    """Return severity, what is wrong and what to do, or None."""
    import av

    again = "copy or fetch it again"
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            sound, picture = bool(container.streams.audio), bool(container.streams.video)
            seconds = container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError) as exc:
        return "error", f"cannot be read: {reason_of(exc)}", again
    if not (sound and picture):
        return "error", f"has no {'picture' if sound else 'sound'}", again
    if seconds is not None and seconds < WINDOW_SEGMENTS - _TOLERANCE_S:
        return (
            "warning",
            f"lasts {seconds:.1f} s instead of {WINDOW_SEGMENTS} s",
            "its last segments will be silent and black; fetch it again",
        )
    return None
