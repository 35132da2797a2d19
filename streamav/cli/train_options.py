"""Lists the options of `streamav train` that each kind of data takes, and refuses options that would have no effect.

It trains nothing. A new option must be added to `TAKES`; otherwise it is refused for every kind.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal, get_args

from streamav.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import typer

__all__ = ["KINDS", "TAKES", "Kind", "check_options", "kind_of"]

Kind = Literal["features", "baseline", "table", "clips", "clip_features", "clips_alone", "clip_features_alone", "material"]

KINDS: Final[Mapping[Kind, str]] = {
    "features": "a folder of features",
    "baseline": "a folder of features with the --network of a baseline",
    "table": "a folder of features with --table",
    "clips": "a folder of own clips (labels.csv)",
    "clip_features": "the features of own clips (extraction.json)",
    "clips_alone": "a folder of own clips with --localizer-only",
    "clip_features_alone": "the features of own clips with --localizer-only",
    "material": "composite material (index.csv)",
}
"""The name of each kind in messages."""
_ALL = frozenset(get_args(Kind))
_FEATURES: frozenset[Kind] = frozenset({"features", "baseline", "table"})
_ALONE: frozenset[Kind] = frozenset({"clips_alone", "clip_features_alone"})
_CLIPS: frozenset[Kind] = _ALONE | {"clips", "clip_features"}

TAKES: Final[Mapping[str, frozenset[Kind]]] = {
    "data": _ALL,
    "out": _ALL,
    "force": _ALL,
    "epochs": _FEATURES | _ALONE,
    "batch": _FEATURES | _ALONE,
    "seed": _FEATURES | _ALONE,
    "seeds": _FEATURES | _ALONE,
    "settings": _FEATURES | _ALONE,
    "device": _FEATURES | _ALONE,
    "test_selected": _FEATURES | _ALONE,
    "tensorboard": _FEATURES | _ALONE,
    "predictions": (_FEATURES | _CLIPS) - {"table"},
    "resume": _FEATURES | _ALONE,
    "as_json": _FEATURES | _CLIPS,
    "supervision": _FEATURES,
    "compatible": _FEATURES,
    "loss": (_FEATURES | _ALONE) - {"table"},
    "network": frozenset({"features", "baseline"}),
    "table": frozenset({"features", "table"}),
    "encoders": _CLIPS | {"features"},
    "weights": frozenset({"clips", "clips_alone"}),
    "features": frozenset({"clips", "clips_alone"}),
    "localizer_only": _CLIPS,
}
"""The kinds that take each option, by the name of its parameter."""


def kind_of(data: Path, *, table: str | None, network: str) -> Kind:
    """Return the kind of *data*, for features also by what is trained on them.

    Raises:
        DataError: when *data* is not a folder, or none of these kinds.
    """
    from streamav.cli.own_clips import is_own_clips
    from streamav.training.clips.features import EXTRACTION_FILE

    if not data.is_dir():
        msg = f"--data must be a folder, got {data}"
        raise DataError(msg)
    if (data / "index.csv").is_file():
        return "material"
    if is_own_clips(data):
        return "clip_features" if (data / EXTRACTION_FILE).is_file() else "clips"
    if next(data.glob("*.h5"), None) is None:
        msg = (
            f"--data must be a folder with labels.csv (own clips, docs/own-clips.md), with features or with index.csv (docs/training.md), "
            f"got {data}, which has none of them"
        )
        raise DataError(msg)
    if table is not None:
        return "table"
    return "features" if network == "vscg" else "baseline"


def check_options(context: typer.Context, kind: Kind, data: Path) -> None:
    """Refuse options that were given but would have no effect, and torchrun for data that one process trains on.

    Raises:
        SettingsError: the message names each option, the kind of data, and the kinds that take the option.
    """
    refused = []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        takes = TAKES.get(name, frozenset())
        if source is not None and source.name != "DEFAULT" and kind not in takes:
            flag = "/".join([*parameter.opts, *parameter.secondary_opts])
            refused.append(f"{flag} (it is for {', '.join(words for one, words in KINDS.items() if one in takes)})")
    if refused:
        msg = f"{data} is {KINDS[kind]}, which does not take {'; '.join(refused)}; leave it out"
        raise SettingsError(msg)
    if os.environ.get("WORLD_SIZE", "1") != "1" and kind not in _FEATURES:
        msg = (
            f"torchrun works only for training on a folder of features, and {data} is {KINDS[kind]}, which one process trains on; "
            "call streamav train without torchrun"
        )
        raise SettingsError(msg)
