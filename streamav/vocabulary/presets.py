"""Holds the presets: lists of labels by one name.

It resolves no name and holds no scores. A label has one definition, so that its slug means the same in every preset and topic.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from streamav.vocabulary import definitions

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["presets"]


@cache
def presets() -> Mapping[str, tuple[str, ...]]:
    """Return the slugs of each preset, by its name."""
    return {name: tuple(slugs) for name, slugs in definitions("presets").items()}
