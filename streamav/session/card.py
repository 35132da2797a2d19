"""Makes the card of a recording: what was run, on which machine, with which settings; without secrets and without names of persons."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamav import __version__
from streamav.capture.address import is_network
from streamav.redaction import show_address
from streamav.session.folder import SessionCard, SourceCard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.config import OneOfSources, Settings
    from streamav.protocols import Source

__all__ = ["session_card", "source_card"]

_AUTO = "auto"
_SECRET_SECTIONS = frozenset({"mqtt", "view", "jsonl", "journal", "clips", "state_dir"})
"""Outputs: a replay has its own, and they may hold secrets."""


def source_card(
    one: OneOfSources, source: Source, picture: tuple[int, int], frames_per_second: int, earlier: SourceCard | None = None
) -> SourceCard:
    """Return the card of one source.

    Args:
        one: its settings.
        source: the source itself.
        picture: height and width of its pictures.
        frames_per_second: F.
        earlier: its card in the recording that is copied; None for a run of its own.
    """
    return SourceCard(
        id=one.id,
        shown=_shown(one) if earlier is None else earlier.shown,
        live=source.live,
        session=source.session,
        paced=source.live or one.speed == "1" if earlier is None else earlier.paced,
        picture=picture,
        frames_per_second=frames_per_second,
    )


def session_card(
    settings: Settings, sources: Sequence[SourceCard], model: dict[str, str], masks: tuple[Any, ...], epoch_ns: int | None = None
) -> SessionCard:
    """Return the card of a recording.

    Args:
        settings: of the run.
        sources: cards of its sources.
        model: name, version, sha256 and backend.
        masks: what is removed from the media.
        epoch_ns: when the recording that is copied began, UTC, ns since 1970; None for a run that begins now.
    """
    began_ns = time.time_ns() if epoch_ns is None else epoch_ns
    return SessionCard(
        version=__version__,
        created=datetime.fromtimestamp(began_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        epoch_ns=began_ns,
        python=platform.python_version(),
        platform=platform.platform(),
        model=model,
        masks=masks,
        settings=_without_secrets(settings, model["name"]),
        sources=tuple(sources),
    )


def _without_secrets(settings: Settings, model: str) -> dict[str, Any]:
    """Return the settings that decide what is found; outputs and addresses are left out. The chosen model takes the place of `auto`."""
    tree = settings.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    tree = {key: value for key, value in tree.items() if key not in _SECRET_SECTIONS and key not in {"source", "sources"}}
    if settings.model.name == _AUTO:
        tree["model"] = {**tree.get("model", {}), "name": model}
    # A source keeps its id and its own settings; what it reads is in the card.
    kept = {"id", "detection", "capture"}
    if settings.sources:
        several = [one.model_dump(mode="json", exclude_none=True, exclude_unset=True) for one in settings.sources]
        tree["sources"] = [{key: value for key, value in one.items() if key in kept} for one in several]
    else:
        tree["source"] = {"id": settings.source.id}
    return tree


def _shown(one: OneOfSources) -> str:
    """Return what a source reads, without secrets."""
    if one.scene:
        return "scene"
    if one.uri is not None:
        shown = show_address(one.uri)
        return shown if is_network(one.uri) or "/" not in shown else Path(shown).name  # a folder may name a person
    return f"camera {show_address(one.camera or '')} with microphone {show_address(one.mic or '')}"
