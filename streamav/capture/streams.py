"""Chooses the sound and the picture of a container, of which there may be several.

It decodes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import av

from streamav.errors import MissingModalityError
from streamav.types import SourceContent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.capture.look import Look

__all__ = ["Streams", "find_streams"]

_LOG = logging.getLogger(__name__)
StreamT = TypeVar("StreamT", av.AudioStream, av.VideoStream)


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of a container that are read, at least one."""

    sound: av.AudioStream | None
    picture: av.VideoStream | None

    @property
    def content(self) -> SourceContent:
        """Return which of the two there are."""
        return SourceContent(sound=self.sound is not None, picture=self.picture is not None)


def find_streams(container: av.container.InputContainer, name: str, look: Look) -> Streams:
    """Return the sound and the picture stream that are wanted, else the best ones; the cover picture of a song does not count as a picture.

    A warning lists the tracks where there are several and none was chosen. Without a choice the sound is of the programme of the picture.

    Args:
        container: an open container.
        name: the source, for messages.
        look: which of the two are looked for, and which track.

    Raises:
        MissingModalityError: when there is nothing wanted that can be decoded, or not the track that was chosen.
    """
    still, wanted = av.stream.Disposition.attached_pic, look.wanted
    sounds = [stream for stream in container.streams.audio if wanted.sound and _decodable(stream)]
    pictures = [stream for stream in container.streams.video if wanted.picture and _decodable(stream) and not stream.disposition & still]
    if not sounds and not pictures:
        what = " and no ".join(["sound"] * wanted.sound + ["picture"] * wanted.picture)
        msg = f"{name} has no {what} that can be decoded: choose another source, or another stream of it"
        raise MissingModalityError(msg)
    picture = _chosen(pictures, container.streams.best("video"), name, "picture", look.picture_track)
    related = picture if picture is not None else container.streams.best("video")
    return Streams(_chosen(sounds, container.streams.best("audio", related=related), name, "sound", look.sound_track), picture)


def _chosen(tracks: Sequence[StreamT], best: av.stream.Stream | None, name: str, kind: str, number: int | None) -> StreamT | None:
    """Return the track of a number, counted from 1; without a number the best one, and say what there is."""
    if not tracks:
        return None
    if number is not None:
        if number > len(tracks):
            msg = f"source.{kind}_track must be one of the {len(tracks)} {kind} tracks of {name}, got {number}: {_listed(tracks)}"
            raise MissingModalityError(msg)
        return tracks[number - 1]
    used = next((one for one, track in enumerate(tracks) if best is not None and track.index == best.index), 0)
    if len(tracks) > 1:
        text = "%s has %d %s tracks, number %d is used; source.%s_track chooses another: %s"
        _LOG.warning(text, name, len(tracks), kind, used + 1, kind, _listed(tracks))
    return tracks[used]


def _listed(tracks: Sequence[av.AudioStream | av.VideoStream]) -> str:
    """Return what each track is: codec, size or channels and rate, language."""
    described = []
    for number, track in enumerate(tracks, 1):
        if isinstance(track, av.VideoStream):
            shape = f"{track.codec_context.width}x{track.codec_context.height}"
        else:
            shape = f"{track.codec_context.channels} channels at {track.codec_context.sample_rate} Hz"
        language = f" ({track.language})" if track.language else ""
        described.append(f"{number} {track.codec_context.name} {shape}{language}")
    return "; ".join(described[:8]) + ("; ..." if len(described) > 8 else "")  # noqa: PLR2004 - a line


def _decodable(stream: av.stream.Stream) -> bool:
    context: object = stream.codec_context  # despite its type, None where FFmpeg has no decoder
    return context is not None
