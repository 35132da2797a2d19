"""Holds what is removed from clips and snapshots before they are written. It knows no network: the caller passes the finders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import av
    from numpy.typing import NDArray

__all__ = ["ClipMasks", "MutedSeconds"]

_RATE_HZ: Final = 16_000
"""Sample rate at which speech is looked for: that of the networks."""


@dataclass(frozen=True, slots=True)
class ClipMasks:
    """The finders. They are made for each clip, in the thread that writes it."""

    cover: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    """Returns a picture, shape (H, W, 3) RGB, without faces; called with the pictures of a clip in order. None changes none."""
    speaks: Callable[[NDArray[np.float32]], bool] | None = None
    """Returns whether speech may be heard in one second, shape (16000,), mono. None mutes nothing."""


class MutedSeconds:
    """The seconds of a clip in which speech may be heard, counted from its first sound."""

    def __init__(self, frames: Iterable[av.AudioFrame], speaks: Callable[[NDArray[np.float32]], bool]) -> None:
        """Listen to all sound of a clip; *speaks* is asked about each second, shape (16000,), mono, as in `ClipMasks`."""
        import av

        self._zero_s: float | None = None
        resampler, heard = av.AudioResampler("flt", "mono", _RATE_HZ), list[av.AudioFrame]()
        for frame in frames:
            self._zero_s = frame.time if self._zero_s is None else self._zero_s
            heard += resampler.resample(frame)
        heard += resampler.resample(None)
        sound = np.concatenate([*(one.to_ndarray().reshape(-1).astype(np.float32) for one in heard), np.zeros(0, np.float32)])
        padded = np.concatenate([sound, np.zeros(-sound.size % _RATE_HZ, np.float32)]).reshape(-1, _RATE_HZ)
        self._muted = np.array([speaks(second) for second in padded], np.bool_)

    def silence(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Return a frame of planar floats without the samples of muted seconds; what lies outside of what was listened to is muted."""
        import av

        if frame.time is None or self._zero_s is None:
            return frame
        samples = frame.to_ndarray()
        seconds = np.floor(frame.time - self._zero_s + np.arange(samples.shape[1]) / frame.sample_rate + 1e-6).astype(int)
        known = (seconds >= 0) & (seconds < self._muted.size)
        quiet = ~known | self._muted[np.clip(seconds, 0, max(0, self._muted.size - 1))] if self._muted.size else ~known
        if not quiet.any():
            return frame
        made = av.AudioFrame.from_ndarray(np.where(quiet, np.float32(0.0), samples), format=frame.format.name, layout=frame.layout.name)
        made.sample_rate, made.pts, made.time_base = frame.sample_rate, frame.pts, frame.time_base
        return made
