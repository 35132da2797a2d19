"""Holds the labels that this project defines by names of classes, and the presets, which are lists of them by one name.

It resolves no name and holds no scores. A label has one definition, so that its slug means the same in every preset and topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from streamav.vocabulary import definitions

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Definition", "defined_labels", "presets"]

_FILES = ("labels", "further")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A label by names of classes."""

    name: str
    hear: tuple[str, ...]
    """Names of AudioSet classes."""
    see: tuple[str, ...] = ()
    """Names of ImageNet classes, of groups of them, or of picture classes that a model adds; empty for a sound."""
    kind: Literal["audio-visual", "sound"] = "audio-visual"


@cache
def defined_labels() -> Mapping[str, Definition]:
    """Return the definitions by slug: the labels of the models in the package, then labels that no model was trained for."""
    tables = {slug: table for file in _FILES for slug, table in definitions(file).items()}
    return {slug: _definition(table) for slug, table in tables.items()}


@cache
def presets() -> Mapping[str, tuple[str, ...]]:
    """Return the slugs of each preset, by its name."""
    return {name: tuple(slugs) for name, slugs in definitions("presets").items()}


def _definition(table: Mapping[str, Any]) -> Definition:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Definition(**values)
