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
_MOST_PLANES = 8
_CANCELLED, _STILL_CANCELLED = 100.0, 10.0
"""How much stronger the loudest channel is than the mean of all where they cancel: 20 dB, and 10 dB to stay so (our choice).

A single channel among many is that much stronger, too, so the limit is at least twice what it is then."""
_TWO_ALIKE = 2**0.5
"""FFmpeg mixes two channels that are alike so much louder than one of them."""
_AUDIBLE = 1e-7
"""Power below which channels say nothing, -70 dB of full scale."""
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
        self._mix = _Mix()
        self._given = 0  # samples at 16 kHz since the anchor

    def push(self, frame: av.AudioFrame, time_ns: int) -> list[AudioBlock]:
        """Take a frame whose first sample has *time_ns*; return the blocks that are ready. The rate or layout may change between frames."""
        self._lone = _one_is_silent(frame)
        frame = self._mix.of(frame)
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


class _Mix:
    """Mixes what FFmpeg would mix to silence.

    It mixes channels by their places. Channels without known places, as of an array of microphones, would get those of a cinema, where one
    is for low tones and is left out. Channels that are each other's opposite, as of a balanced line at a stereo input, would cancel.
    Ambisonics, as of a camera for all directions, it does not mix at all; their first channel is what a microphone there would hear.
    """

    def __init__(self) -> None:
        self._mean = 0.0
        self._each: NDArray[np.float64] | None = None
        self._found = False
        self._packer: tuple[str, av.AudioResampler] | None = None

    def of(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Return one channel while all would cancel, the mean of those without places, the first of ambisonics, else the frame itself."""
        count = frame.layout.nb_channels
        if count < _STEREO:
            return frame
        channels = _channels(self._packed(frame))
        if frame.layout.name.startswith("ambisonic"):
            return _mono(channels[0], frame)
        mean, each = channels.mean(axis=0), np.square(channels).mean(axis=1)
        self._each = each if self._each is None or self._each.size != count else _KEPT * self._each + each
        self._mean = _KEPT * self._mean + float(np.square(mean).mean())
        loudest = float(self._each.max())
        ratio = max(_STILL_CANCELLED if self._found else _CANCELLED, 2.0 * count**2)
        self._found = loudest > max(ratio * self._mean, _AUDIBLE)
        if self._found:
            return _mono(channels[int(self._each.argmax())] * _TWO_ALIKE, frame)
        return _mono(mean * _TWO_ALIKE, frame) if frame.layout.name == f"{count} channels" else frame

    def _packed(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Return a frame whose samples PyAV can hand over: of eight planes and more it reads past their end, and ends the process."""
        if not frame.format.is_planar or frame.layout.nb_channels < _MOST_PLANES:
            return frame
        key = f"{frame.format.name} {frame.layout.name} {frame.sample_rate}"
        if self._packer is None or self._packer[0] != key:
            self._packer = key, av.AudioResampler("flt", frame.layout, frame.sample_rate)
        return self._packer[1].resample(frame)[0]


def _mono(samples: NDArray[np.float64], like: av.AudioFrame) -> av.AudioFrame:
    return sound_frame(samples.astype(np.float32), like.sample_rate)


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
