"""Turns sound of any rate, layout and sample format into 16 kHz mono blocks whose times follow the count of samples.

It uses no file and no device. A new run begins only where the time stamps differ from the count by more than a tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

from streamav.types import SAMPLE_RATE_HZ, AudioBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Resampler", "sound_frame"]

_JITTER_NS = 20_000_000
"""Largest difference between time stamps and the count of samples: containers round time stamps, cameras have jitter."""
_SILENT_SWING = 2.0**-13
_HEARD_SWING = 2.0**-9
"""A channel is digitally silent below four steps of 16 bits from peak to peak, and is heard above 64 of them."""


_STEREO = 2
_OPPOSED, _STILL_OPPOSED = 100.0, 10.0
"""How much stronger the difference of two channels is than their sum where they are opposite: 20 dB, and 10 dB to stay so (our choice)."""
_AUDIBLE = 1e-7
"""Power below which the two channels say nothing, -70 dB of full scale."""
_KEPT = 0.9
"""Share of the powers that is kept from frame to frame: frames of about 20 ms are judged over 0.2 s."""


class Resampler:
    """Resamples the frames of one stream with FFmpeg's swresample (its default filter; several channels are mixed down)."""

    def __init__(self) -> None:
        """Start without a run; the first frame starts one."""
        self._resampler: av.AudioResampler | None = None
        self._key: tuple[str, str, int] | None = None
        self._anchor_ns = 0
        self._taken = 0  # samples at the source's rate since the anchor
        self._lone = False
        self._opposed = _Opposed()
        self._given = 0  # samples at 16 kHz since the anchor

    def push(self, frame: av.AudioFrame, time_ns: int) -> list[AudioBlock]:
        """Take a frame whose first sample has *time_ns*; return the blocks that are ready. The rate or layout may change between frames."""
        self._lone = _one_is_silent(frame)
        frame = self._opposed.one_of(frame)
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        rest: list[AudioBlock] = []
        if self._resampler is None or key != self._key or abs(time_ns - self._expected_ns(frame.sample_rate)) > _JITTER_NS:
            rest = self.flush()
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
            self._key, self._anchor_ns, self._taken, self._given = key, time_ns, 0, 0
        self._taken += frame.samples
        frame.pts = None  # the count of samples sets the time, not the clock of the resampler
        return rest + self._blocks(self._resampler.resample(frame))

    def flush(self) -> list[AudioBlock]:
        """Return the last samples that the filter held, and end the run."""
        if self._resampler is None:
            return []
        rest = self._blocks(self._resampler.resample(None))
        self._resampler = None
        return rest

    def _expected_ns(self, rate: int) -> int:
        return self._anchor_ns + self._taken * 1_000_000_000 // rate

    def _blocks(self, frames: list[av.AudioFrame]) -> list[AudioBlock]:
        blocks = []
        for frame in frames:
            samples = np.nan_to_num(frame.to_ndarray().reshape(-1).astype(np.float32))
            if samples.size:
                start_ns = self._anchor_ns + self._given * 1_000_000_000 // SAMPLE_RATE_HZ
                blocks.append(AudioBlock(start_ns=start_ns, samples=np.clip(samples, -1.0, 1.0), lone_channel=self._lone))
            self._given += samples.size
        return blocks


class _Opposed:
    """Finds two channels that are each other's opposite, as of a balanced line at a stereo input: mixed to mono they would be silence."""

    def __init__(self) -> None:
        self._sum = self._difference = 0.0
        self._found = False

    def one_of(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Return the first channel alone while the channels are opposite, else the frame itself."""
        if frame.layout.nb_channels != _STEREO:
            return frame
        left, right = _channels(frame)
        self._sum = _KEPT * self._sum + float(np.square(left + right).mean())
        self._difference = _KEPT * self._difference + float(np.square(left - right).mean())
        ratio = _STILL_OPPOSED if self._found else _OPPOSED
        self._found = self._difference > max(ratio * self._sum, _AUDIBLE)
        if not self._found:
            return frame
        alone = sound_frame((left * 2**0.5).astype(np.float32), frame.sample_rate)  # as loud as FFmpeg mixes two that are alike
        alone.pts, alone.time_base = frame.pts, frame.time_base
        return alone


def _channels(frame: av.AudioFrame) -> NDArray[np.float64]:
    """Return the channels of a frame, shape (channels, n), full scale 1; unsigned samples are centred."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float64)
    half = float(2 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float64) / half - (samples.dtype.kind == "u")


def _one_is_silent(frame: av.AudioFrame) -> bool:
    """Return whether one of two channels is digitally silent and the other one is not."""
    if frame.layout.nb_channels != _STEREO:  # of more channels some are silent by nature
        return False
    quiet, loud = sorted(np.ptp(_channels(frame), axis=1))
    return bool(quiet < _SILENT_SWING and loud > _HEARD_SWING)


def sound_frame(samples: NDArray[np.float32], rate_hz: int) -> av.AudioFrame:
    """Wrap mono samples, shape (n,), as the frame that Resampler takes."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, :]), format="flt", layout="mono")
    frame.sample_rate = rate_hz
    return frame
