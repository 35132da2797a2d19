"""Reads the recorded material to calibrate and check an int8 engine, such as a user's own clips or recordings of their camera."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamav.engines.samples import Calibration, Samples
from streamav.errors import SettingsError
from streamav.features.audio import patches
from streamav.features.logmel import log_mel_options
from streamav.files import MEDIA_SUFFIXES
from streamav.offline import recordings_in, segments_of
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle import ModelCard
    from streamav.types import Segment

__all__ = ["recorded_material"]

MOST_SEGMENTS = 120
"""Most segments in each part: more hardly widen the ranges of activations, and one picture for VGG-19 takes 150 kB."""


def recorded_material(places: Sequence[str], card: ModelCard) -> Calibration:
    """Read one picture and the sound of each segment, and divide them: every other file is to fit, the rest to check.

    Of a single file or stream, the first half is to fit and the second half to check. At most `MOST_SEGMENTS` segments
    are read for each part, also from a stream that does not end.

    Args:
        places: files, folders of files, or any other value of `streamav run --source`.
        card: the model's card.

    Raises:
        CaptureError: when a file cannot be read.
        SettingsError: when there is too little material: each part needs ten segments.
    """
    sources = [source for place in places for source in _sources(place)]
    most = 2 * MOST_SEGMENTS if len(sources) == 1 else max(1, -(-2 * MOST_SEGMENTS // max(1, len(sources))))
    read = [list(itertools.islice(segments_of(source, card, 1), most)) for source in sources]
    if len(read) == 1:
        middle = len(read[0]) // 2
        read = [read[0][:middle], read[0][middle:]]
    fit, check = (list(itertools.chain.from_iterable(read[first::2]))[:MOST_SEGMENTS] for first in (0, 1))
    if min(len(fit), len(check)) < WINDOW_SEGMENTS:
        msg = (
            f"calibration needs at least {2 * WINDOW_SEGMENTS} s of recordings, half for each part, got {len(fit)} and {len(check)} s; "
            "use longer clips"
        )
        raise SettingsError(msg)
    total = f"{len(fit)} s to fit, {len(check)} s to check"
    return Calibration(fit=_samples(fit, card), check=_samples(check, card), source=f"{len(sources)} recordings: {total}")


def _sources(place: str) -> list[str]:
    """Return the recordings in a folder and its subfolders (as for `tune --quiet`), or the place itself if it is no folder."""
    if not place:
        msg = "--calibration must be a recording, a folder or an address, got an empty value"
        raise SettingsError(msg)
    path = Path(place)
    if not path.is_dir():
        return [str(path.absolute()) if path.exists() else place]
    found = recordings_in(path.absolute())
    if not found:
        msg = f"the calibration folder {place} must hold recordings ({', '.join(MEDIA_SUFFIXES)}), got none"
        raise SettingsError(msg)
    return found


def _samples(segments: Sequence[Segment], card: ModelCard) -> Samples:
    return Samples(np.concatenate([one.frames[:1] for one in segments]), patches(segments, log_mel_options(card.audio)))
