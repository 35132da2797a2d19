"""Chooses the model when none is named: the better one where its encoders are on this machine, else the one that needs nothing else.

It downloads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from streamav.bundle.catalogue import encoder_file, encoders_of
from streamav.bundle.store import find_bundle
from streamav.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from streamav.bundle.card import ModelCard
    from streamav.bundle.store import Bundle

__all__ = ["AUTO", "Choice", "choose_bundle", "missing_encoders"]

AUTO: Final = "auto"
"""The name that stands for a choice."""
_BETTER: Final = "edge"
_WHOLE: Final = "starter"


class Choice(NamedTuple):
    """A model, and what to tell the user about the choice."""

    bundle: Bundle
    note: str = ""
    """One sentence, empty when there is nothing to tell."""


def choose_bundle(name: str, weights: Path | None = None) -> Choice:
    """Load a model by name or folder, or choose one for the name `auto`.

    Args:
        name: as for `find_bundle`, or `auto`.
        weights: folder of the encoders that a bundle does not contain; None for the user's folder.

    Raises:
        ModelError: when there is no such bundle, or it is damaged, or *weights* is no folder.
    """
    if weights is not None and not weights.is_dir():
        msg = f"--weights (model.weights_dir) must be a folder, got {weights}: there is no such folder; check the path"
        raise ModelError(msg)
    if name != AUTO:
        return Choice(find_bundle(name))
    better = find_bundle(_BETTER)
    missing = missing_encoders(better.card, weights)
    if not missing:
        return Choice(better)
    megabytes = sum(one.size or 0 for one in encoders_of(_BETTER) if one.network in missing) / 1e6
    note = (
        f"model {_WHOLE} runs, because the encoders of {_BETTER}, which finds more on real recordings, are not here "
        f"({' and '.join(missing)}); to get them, {megabytes:.0f} MB, run: streamav models pull {_BETTER}"
    )
    return Choice(find_bundle(_WHOLE), note)


def missing_encoders(card: ModelCard, weights: Path | None = None) -> list[str]:
    """Return the external encoders of a model that are not on this machine.

    Args:
        card: the model's card.
        weights: folder of the encoders; None for the user's folder.
    """
    missing: list[str] = []
    for part in (card.visual, card.audio):
        if part.external:
            try:
                encoder_file(part.network, weights)
            except ModelError:
                missing.append(part.network)
    return missing
