"""Defines what is kept of people: the words of `detection.privacy`, and the stricter of several.

It removes nothing from pictures and sound; `streamav.privacy`, `streamav.clips` and `streamav.view` do.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator

__all__ = ["METADATA_ONLY", "PRIVACY_CHOICES", "Privacy", "PrivacySetting", "privacy_word", "read_privacy", "stricter"]

PrivacyWord = Literal["metadata_only", "blur", "mute_speech"]
Privacy = tuple[PrivacyWord, ...]
"""() keeps everything. The words stand once, in the order of `_HIDING`; metadata_only stands alone."""

METADATA_ONLY: Final[PrivacyWord] = "metadata_only"
_HIDING: Final[Privacy] = ("blur", "mute_speech")
_OFF: Final = "off"
PRIVACY_CHOICES: Final = (_OFF, "blur", "mute_speech", "blur,mute_speech", METADATA_ONLY)
"""Every privacy that there is, as text, from the least strict to the strictest."""


def stricter(*privacies: Privacy) -> Privacy:
    """Return the privacy that hides whatever one of these hides."""
    words = {word for one in privacies for word in one}
    return (METADATA_ONLY,) if METADATA_ONLY in words else tuple(word for word in _HIDING if word in words)


def privacy_word(privacy: Privacy) -> str:
    """Return a privacy as text, one of `PRIVACY_CHOICES`."""
    return ",".join(stricter(privacy)) or _OFF


def read_privacy(text: str) -> Privacy:
    """Read a privacy: off, metadata_only, or words between commas.

    Raises:
        ValueError: when it is anything else.
    """
    words = [word.strip() for word in text.split(",")]
    if words == [_OFF]:
        return ()
    known = [word for word in (METADATA_ONLY, *_HIDING) if word in words]
    if set(words) != set(known):
        msg = f"it must be one of {', '.join(PRIVACY_CHOICES[:3])}, {METADATA_ONLY}, or blur,mute_speech for both"
        raise ValueError(msg)
    return stricter(tuple(known))


def _words(value: object) -> object:
    return read_privacy(value) if isinstance(value, str) else value


def _canonical(value: Privacy) -> Privacy:
    return stricter(value)


PrivacySetting = Annotated[Privacy, BeforeValidator(_words), AfterValidator(_canonical)]
"""A privacy as settings write it: a text, or a list of words."""
