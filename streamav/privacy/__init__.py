"""Removes people from pictures and sound before they are stored or shared: faces, the band above the telephone's, speech.

It finds them with the model of the run. It knows no file and no event.
"""

from __future__ import annotations

from streamav.privacy.band import LowPass
from streamav.privacy.faces import FaceCover, FaceFinder, mosaic
from streamav.privacy.speech import SpeechFinder, cannot_hear_speech

__all__ = ["FaceCover", "FaceFinder", "LowPass", "SpeechFinder", "cannot_hear_speech", "mosaic"]
