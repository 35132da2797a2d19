"""Writes a model's card for a person: a few lines that say what it is, then the details. It reads the card only."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle import Bundle, ModelCard

__all__ = ["info_lines"]

_WIDTH: Final = 79
_NAMES: Final = 14
"""Width of the names before the facts."""
_MOST_FIGURES: Final = 12
"""Figures that are shown; --json has all."""


def info_lines(bundle: Bundle, missing: Sequence[str]) -> list[str]:
    """Return the lines, none longer than 79 characters unless a single word is.

    Args:
        bundle: the model.
        missing: encoders that must be fetched before it runs.
    """
    card = bundle.card
    needs = (
        f"{' and '.join(missing)}, not here yet; run: streamav models pull {card.name}" if missing else "nothing else: it is ready to run"
    )
    height, width = card.visual.picture
    heard = (
        f"; {sum(one.kind == 'sound' for one in card.classes)} of them are only heard"
        if any(one.kind == "sound" for one in card.classes)
        else ""
    )
    return [
        f"{card.name} {card.version}: {len(card.classes)} labels{heard}",
        "",
        *_fact("labels", ", ".join(card.slugs)),
        *_fact("needs", needs),
        *_fact("takes", f"{card.visual.frames_per_second} pictures of {width} x {height} each second, and sound"),
        *_fact("licence", card.licence_note),
        "",
        "Detection",
        *_detection(card),
        "",
        "Figures",
        *_figures(card),
        "",
        "Networks",
        *_fact("sound", _network(card.audio.network, f"{card.audio.size} numbers", external=card.audio.external)),
        *_fact(
            "picture",
            _network(
                card.visual.network,
                f"{card.visual.grid} x {card.visual.grid} cells of {card.visual.size} numbers",
                external=card.visual.external,
            ),
        ),
        *_fact(
            "localizer", card.localizer.network + ("" if card.evidence is None else ", added to the evidence of the encoders' own classes")
        ),
        "",
        "Files",
        *_fact("folder", str(bundle.path)),
        *_fact("SHA-256", bundle.sha256),
        *_data(card),
    ]


def _detection(card: ModelCard) -> list[str]:
    detection = card.detection
    own = {label: one for label, one in (detection.classes or {}).items() if one.on is not None}
    lines = [
        *_fact("begins", f"at a score of {detection.on:g}, for {_seconds(detection.min_segments)}"),
        *_fact("ends", f"below {detection.off:g}; pauses up to {_seconds(detection.gap_segments)} are bridged"),
        *_fact("final", f"after {_seconds(detection.latency_segments)}"),
    ]
    if own:
        lines += _fact("own values", ", ".join(f"{label} {one.on:g}" for label, one in own.items()))
    return lines


def _figures(card: ModelCard) -> list[str]:
    figures = list(card.metrics.values.items())
    if not figures:
        return _fact("", "none")
    lines = [f"  {name.replace('_', ' '):<44}{value:>10.4g}" for name, value in figures[:_MOST_FIGURES]]
    if len(figures) > _MOST_FIGURES:
        lines.append(f"  and {len(figures) - _MOST_FIGURES} more: streamav models info {card.name} --json")
    return [*lines, *(_fact("measured by", card.metrics.command) if card.metrics.command else [])]


def _data(card: ModelCard) -> list[str]:
    if not card.training_data:
        return []
    lines = ["", "Trained on"]
    for one in card.training_data:
        lines += _wrapped("; ".join(filter(None, (f"{one.name}: {one.source}", one.licence, one.note))), "  - ", "    ")
    return lines


def _network(name: str, size: str, *, external: bool) -> str:
    return f"{name}, {size}" + (", a public file that is not part of the model" if external else "")


def _seconds(count: int) -> str:
    return f"{count} second{'' if count == 1 else 's'}"


def _fact(name: str, text: str) -> list[str]:
    return _wrapped(text, f"  {name:<{_NAMES - 2}}", " " * _NAMES)


def _wrapped(text: str, first: str, further: str) -> list[str]:
    return textwrap.wrap(
        text or "-", _WIDTH, initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
