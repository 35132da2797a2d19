"""Makes the items of a source of decoded frames: sound and the pictures that are used, on one media clock.

It reads no container: `demux` decodes.
"""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING

import av

from streamav.capture.picture import InstantSampler, Scaler
from streamav.capture.sound import Resampler
from streamav.capture.stamps import Kind, steady_start
from streamav.capture.timeline import Timeline
from streamav.errors import CaptureError
from streamav.types import AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.capture.demux import DecodedFrame
    from streamav.capture.look import Look
    from streamav.capture.tap import PacketTap
    from streamav.types import SourceContent

    _Shown = av.VideoFrame | NDArray[np.uint8]

__all__ = ["read_items"]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_KINDS: tuple[Kind, ...] = ("sound", "picture")
_START_FRAMES = 300
"""Most frames that are held at the start of a session; this and the next four are our choice."""
_START_SPAN_NS = 2 * _SECOND_NS
"""Longest wait for the second kind, media time."""
_START_EACH = 5
"""Frames of each kind that are enough."""
_START_ENOUGH_NS = _SECOND_NS // 2
"""Media time after the first frames of both kinds that is enough."""
_START_STEP_NS = _SECOND_NS // 5
"""No single time stamp counts for more progress than this."""


def read_items(
    frames: Iterator[DecodedFrame], content: SourceContent, look: Look, origin: Callable[[], int], name: str, tap: PacketTap
) -> Iterator[AudioBlock | VideoFrame]:
    """Yield sound and pictures on the media clock; the earliest time stamp of both becomes the origin.

    Args:
        frames: decoded frames, as `decode` yields them.
        content: which kinds there are.
        look: which pictures are used.
        origin: returns the media time of the first frame, ns; called once, when that frame has arrived.
        name: the source, for messages.
        tap: is told how time stamps become media times.

    Raises:
        CaptureError: when nothing could be decoded.
    """
    start = _until_both(frames, [kind for kind in _KINDS if getattr(content, kind)])
    firsts = {kind: steady_start([(one.time_ns, one.length_ns) for one in start if one.kind == kind]) for kind in _KINDS}
    known = {kind: first for kind, first in firsts.items() if first is not None}
    if not known:
        msg = f"{name} could be opened but nothing in it could be decoded: it is damaged or empty; try to play it with another program"
        raise CaptureError(msg)
    scaler, resampler = Scaler(look.picture), Resampler()
    sampler: InstantSampler[_Shown] = InstantSampler(look.frames_per_second)

    def scaled(frame: av.AudioFrame | _Shown) -> av.AudioFrame | _Shown:
        return scaler.scale(frame) if isinstance(frame, av.VideoFrame) else frame

    def shown(pictures: list[tuple[int, _Shown]]) -> Iterator[VideoFrame]:
        for time_ns, frame in pictures:
            yield VideoFrame(start_ns=time_ns, pixels=scaler.scale(frame) if isinstance(frame, av.VideoFrame) else frame)

    timeline: Timeline[av.AudioFrame | _Shown] = Timeline(known, origin(), keep=scaled)

    def placed() -> Iterator[tuple[int, Kind, av.AudioFrame | _Shown]]:
        told: dict[Kind, int] = {}
        for one in chain(start, frames):
            yield from timeline.push(one.kind, one.time_ns, one.length_ns, one.frame)
            _tell(tap, timeline, told)
        yield from timeline.flush()

    for time_ns, _, frame in placed():
        if isinstance(frame, av.AudioFrame):
            yield from resampler.push(frame, time_ns)
        else:
            yield from shown(sampler.push(time_ns, frame))
    yield from resampler.flush()
    yield from shown(sampler.flush())
    if timeline.leaps or timeline.outliers:
        _LOG.warning("time stamps jumped source=%s times=%d not_believed=%d", name, timeline.leaps, timeline.outliers)


def _tell(tap: PacketTap, timeline: Timeline[av.AudioFrame | _Shown], told: dict[Kind, int]) -> None:
    """Tell the offset of each kind when it is another one than before."""
    for kind in _KINDS:
        offset_ns = timeline.offset_ns(kind)
        if told.get(kind) != offset_ns:
            told[kind] = offset_ns
            tap.place(kind, offset_ns)


def _until_both(frames: Iterator[DecodedFrame], kinds: Sequence[Kind]) -> list[DecodedFrame]:
    """Collect the first frames of all kinds, some of each: only then is the earliest time known, whatever one stamp says.

    Gives up after 2 s of one kind. Half a second after both were seen is enough, however few the frames.
    """
    seen: list[DecodedFrame] = []
    newest: dict[Kind, int] = {}
    count = dict.fromkeys(kinds, 0)
    came = dict.fromkeys(kinds, 0)
    both_ns: int | None = None
    for frame in frames:
        seen.append(frame)
        if frame.time_ns is not None:
            count[frame.kind] += 1
            came[frame.kind] += min(max(0, frame.time_ns - newest.get(frame.kind, frame.time_ns)), _START_STEP_NS)
            newest[frame.kind] = frame.time_ns
        far = max(came.values())
        if both_ns is None and all(count.values()):
            both_ns = far
        enough = all(number >= _START_EACH for number in count.values()) or (both_ns is not None and far - both_ns >= _START_ENOUGH_NS)
        if enough or len(seen) >= _START_FRAMES or (both_ns is None and far > _START_SPAN_NS):
            break
    return seen
