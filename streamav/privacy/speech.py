"""Finds the seconds in which speech may be heard, with the audio encoder's own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamav.errors import SettingsError
from streamav.features.logmel import log_mel, log_mel_options
from streamav.vocabulary import find_classes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.protocols import Engine

__all__ = ["SpeechFinder", "cannot_hear_speech"]

_SPOKEN: Final = (
    "Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue", "Babbling", "Whispering", "Shout", "Yell", "Screaming",
    "Children shouting", "Singing", "Crying, sobbing", "Laughter", "Chatter", "Hubbub, speech noise, speech babble", "Children playing",
)  # fmt: skip
"""AudioSet classes in which a person's voice may be heard."""
_SCORE: Final = 0.1
"""From this score on: what is said is worse to leave than a second of another sound is to lose."""


def cannot_hear_speech(model: str) -> str:
    """Return why a model cannot find speech, and what to do."""
    return f"to mute speech the model must score AudioSet's classes, and {model} does not; use the model starter or edge"


class SpeechFinder:
    """Tells whether speech may be heard in one second. One thread uses it."""

    def __init__(self, engine: Engine, bundle: Bundle) -> None:
        """Take the audio encoder of an engine.

        Raises:
            SettingsError: when the encoder does not score AudioSet's classes.
        """
        card = bundle.card
        if card.evidence is None:
            raise SettingsError(cannot_hear_speech(card.name))
        self._audio = engine.network("audio")
        self._options = log_mel_options(card.audio)
        self._classes = list(find_classes("hear", _SPOKEN))

    def heard(self, samples: NDArray[np.float32]) -> bool:
        """Return whether speech may be heard in one second, shape (16000,), 16 kHz."""
        scores = self._audio(log_mel(samples, self._options)[None])[1][0]
        return bool(scores[self._classes].max() >= _SCORE)
