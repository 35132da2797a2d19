"""Measures by how much the sound of a source is late against its pictures, from flashes and beeps that belong together.

Pure, apart from `make_clip`, which writes such flashes and beeps. Everywhere a positive number means that sound is late.
"""

from __future__ import annotations

from streamav.sync.beeps import Beeps
from streamav.sync.clip import make_clip
from streamav.sync.flashes import Flashes
from streamav.sync.pairing import Skew, SkewError, measure_skew

__all__ = ["Beeps", "Flashes", "Skew", "SkewError", "make_clip", "measure_skew"]
