"""`streamav figure`: draws where networks look in a clip, side by side, for a paper.

It extracts the features of the clip and prints the path of the figure; `streamav.training.experiments.figures` draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from streamav.cli.model_options import WeightsOption
from streamav.cli.outputs import check_output
from streamav.config import ModelSettings
from streamav.errors import DataError, SettingsError
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.training.experiments.figures import Looked
    from streamav.types import Segment

__all__ = ["figure"]

_SUFFIXES = (".png", ".pdf", ".svg")
Features = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


def figure(
    clip: Annotated[str, typer.Argument(help="A recording with sound and picture.")],
    networks: Annotated[
        list[str],
        typer.Option(
            "--network", help="NAME=FOLDER of a trained network (streamav train), a bundle or a baseline; one row each, in order."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The figure: .png, .pdf or .svg.")],
    encoders: Annotated[str, typer.Option("--encoders", help="Model whose encoders made the features that the networks were trained on.")],
    start: Annotated[int, typer.Option(min=0, help="First second of the recording that is shown.")] = 0,
    weights: WeightsOption = None,
) -> None:
    """Draw the attention of several networks over ten seconds of a clip, side by side, as in Figures 4 and 5 of the VSCG paper.

    The network's decision is written under each picture: green is right, red is wrong, where labels.csv beside the clip holds the truth.
    Exit status: 0 done, 2 settings, 3 the clip cannot be read, 4 a network cannot be used, 7 the clip is too short.
    """
    from streamav.bundle import find_bundle
    from streamav.training.experiments.figures import Shown, draw_attention

    check_output("--out", out)
    if out.suffix.lower() not in _SUFFIXES:
        msg = f"--out must end in {', '.join(_SUFFIXES)}, got {out.name}"
        raise SettingsError(msg)
    named = [_named(one) for one in networks]
    bundle = find_bundle(encoders)
    segments = _segments(clip, bundle, start)
    features = _features(segments, bundle, ModelSettings(name=encoders, weights_dir=weights))
    looked = [_looked(name, folder, features) for name, folder in named]
    pictures = np.stack([segment.looked_at(1).frames[0] for segment in segments])
    draw_attention(out, Shown(pictures, _truth(clip, start, len(segments))), looked, Path(clip).name)
    typer.echo(str(out))


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        msg = f"--network must be NAME=FOLDER, such as AVEL=runs/avel, got {text!r}"
        raise SettingsError(msg)
    return name, Path(folder)


def _segments(clip: str, bundle: Bundle, start: int) -> list[Segment]:
    """Return ten seconds of the clip.

    Raises:
        DataError: when it is shorter.
    """
    from streamav.offline import segments_of

    found: list[Segment] = []
    for segment in segments_of(clip, bundle.card, bundle.card.visual.frames_per_second):
        if segment.index >= start:
            found.append(segment)
        if len(found) == WINDOW_SEGMENTS:
            return found
    msg = f"{clip} must last at least {start + WINDOW_SEGMENTS} s, got {start + len(found)} s; take a longer clip, or a smaller --start"
    raise DataError(msg)


def _features(segments: list[Segment], bundle: Bundle, model: ModelSettings) -> Features:
    from streamav.engines import open_engine
    from streamav.features import SegmentExtractor

    made = SegmentExtractor(open_engine(bundle, model), bundle.card).extract(segments)
    return np.stack([one.audio for one in made]), np.stack([one.visual for one in made])


def _looked(name: str, folder: Path, features: Features) -> Looked:
    """Run one network.

    Raises:
        ModelError: when the folder holds no network.
        DataError: when the network takes other features.
    """
    from streamav.bundle import find_bundle
    from streamav.engines.modules import build_localizer
    from streamav.training.experiments.figures import look
    from streamav.training.experiments.kept_network import holds_network, load_network

    if holds_network(folder):
        network, options, classes = load_network(folder)
        sizes = options.audio_size, options.visual_size
        rule = options.decision, options.decision_threshold
    else:
        bundle = find_bundle(str(folder))
        network = build_localizer(bundle).eval()
        sizes = network.options.audio_size, network.options.visual_size
        rule, classes = (network.options.decision, network.options.decision_threshold), bundle.card.slugs
    got = features[0].shape[1], features[1].shape[3]
    if sizes != got:
        taken = f"{name} ({folder}) takes features of {sizes[0]} and {sizes[1]} numbers"
        msg = f"{taken}, and --encoders gives {got[0]} and {got[1]}; name its encoders"
        raise DataError(msg)
    return look(name, network, features, rule, classes)


def _truth(clip: str, start: int, seconds: int) -> tuple[str, ...] | None:
    """Return the true label of each second, when labels.csv beside the clip names it."""
    from streamav.evaluation.recordings import labels_of, read_labels

    table = Path(clip).parent / "labels.csv"
    spans = read_labels(table).get(Path(clip).name) if table.is_file() else None
    return None if spans is None else tuple(label or "background" for label in labels_of(spans, start + seconds)[start:])
