"""Draws where several networks look in the same clip, side by side: Figures 4 and 5 of the VSCG paper, on any clip.

One row for each network, one column for each second: the picture with the network's attention as a heat map; under it what the network
decided, green where it is right. matplotlib is in the extra `train`.

Source: VSCG section IV-D, Figures 4 and 5 (AVEL, PSP-Net and VSCG over the seconds of a clip).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from streamav.errors import MissingExtraError
from streamav.networks.heads import decide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from streamav.networks.options import Decision

__all__ = ["Looked", "Shown", "draw_attention", "look"]

_DPI: Final = 200
_CELL: Final = 1.15
"""Width of a picture, inches."""
_RIGHT, _WRONG, _PLAIN = "#17713f", "#b3261e", "#333333"


@dataclass(frozen=True, eq=False, slots=True)
class Looked:
    """What one network did with a clip."""

    name: str
    attention: NDArray[np.float32]
    """Shape (T, G, G), each grid sums to 1."""
    decided: tuple[str, ...]
    """T names of classes, or "background"."""


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """The clip."""

    pictures: NDArray[np.uint8]
    """Shape (T, h, w, 3), RGB."""
    truth: tuple[str, ...] | None
    """T names of classes, or "background"; None where it is not known."""


def look(
    name: str,
    network: nn.Module,
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
    rule: tuple[Decision, float],
    classes: Sequence[str],
) -> Looked:
    """Run a network over one clip.

    Args:
        name: of the network, for the figure.
        network: in evaluation mode; it returns the attention of every segment.
        features: of the sound, shape (T, A), and of the pictures, shape (T, G, G, V).
        rule: how it decides, and the relevance from which it does.
        classes: names of its classes.
    """
    with torch.inference_mode():
        output = network(*(torch.from_numpy(one)[None] for one in features))
        labels = decide(output, *rule)[0].tolist()
    names = [*classes, "background"]
    return Looked(name, np.asarray(output.attention[0].numpy(), dtype=np.float32), tuple(names[label] for label in labels))


def draw_attention(path: Path, clip: Shown, looked: Sequence[Looked], title: str) -> None:
    """Write the figure; the suffix of *path* decides its format (.png, .pdf, .svg).

    Raises:
        MissingExtraError: when matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        package, extra = "matplotlib", "train"
        raise MissingExtraError(package, extra) from None
    seconds, rows = len(clip.pictures), len(looked) + 1
    figure = Figure(figsize=(_CELL * seconds + 1.0, 1.35 * _CELL * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, seconds, squeeze=False)
    for second in range(seconds):
        _cell(places[0][second], clip.pictures[second], None, f"{second} s", "" if clip.truth is None else clip.truth[second], _PLAIN)
        for row, one in enumerate(looked, start=1):
            said = one.decided[second]
            paint = _PLAIN if clip.truth is None else _RIGHT if said == clip.truth[second] else _WRONG
            _cell(places[row][second], clip.pictures[second], one.attention[second], "", said, paint)
    for row, name in enumerate(["truth" if clip.truth is not None else "picture", *(one.name for one in looked)]):
        places[row][0].set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=_DPI, metadata={"Creator": "streamav"} if path.suffix == ".pdf" else None)


def _cell(axes, picture: NDArray[np.uint8], attention: NDArray[np.float32] | None, above: str, below: str, paint: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - matplotlib has no types
    """Draw one picture; an attention lies over it, enlarged to its size."""
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0))
    if attention is not None:
        low, high = 1.0 / attention.size, float(attention.max())
        strength = np.clip((attention - low) / max(high - low, 1e-6), 0.0, 1.0)
        axes.imshow(strength, extent=(0, width, height, 0), cmap="jet", alpha=0.45, vmin=0.0, vmax=1.0, interpolation="bilinear")
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    axes.set_title(above, fontsize=7, pad=2)
    axes.set_xlabel(below.replace("_", " "), fontsize=6, color=paint, labelpad=1)
