"""Renders composite clips and writes their features as a folder in AVE's form, so that one loader serves all data.

It also writes `heard.h5` and `seen.h5` (the class heard and the class seen in each segment, used to make new pairs) and
`scenes-SPLIT.jsonl` (the manifest, from which the same clips can be rendered again). Encoders are passed in as functions of arrays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np

from streamav.errors import DataError
from streamav.features.logmel import log_mel, log_mel_options
from streamav.files import whole_file, write_whole
from streamav.training.composite.clips import draw_clips
from streamav.training.composite.drawn import KINDS, drawn_clip
from streamav.training.composite.material import Material
from streamav.training.composite.render import Renderer
from streamav.training.composite.scene import write_scenes
from streamav.training.experiments.export import ENCODERS_FILE
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import AudioCard, Bundle, VisualCard
    from streamav.training.composite.material import Half, Split
    from streamav.training.composite.render import RenderedScene
    from streamav.training.composite.scene import Scene

__all__ = ["ClipCounts", "FrozenEncoders", "bundle_encoders", "compose"]

T = WINDOW_SEGMENTS
FRAMES = 2
"""Pictures rendered in each segment; their features are averaged. Slow pans change little within half a second."""
_HOLDOUT: dict[str, tuple[Split, Half]] = {"train": ("train", "whole"), "val": ("val", "first"), "test": ("val", "second")}
"""Source of each split's material: choices are made on one half of the held-out sources and judged on the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenEncoders:
    """Two encoders with their parts of a model card."""

    audio: AudioCard
    visual: VisualCard
    hear: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """The audio encoder, from patches (B, 96, 64) to (B, A)."""
    look: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """The visual encoder, from pictures (B, S, S, 3) to (B, G, G, V)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCounts:
    """Number of clips of ten seconds in each split."""

    train: int = 1920
    val: int = 384
    test: int = 384
    quiet_share: float = 0.12
    """Number of clips without an event, as a share of those with one."""
    drawn: int = 160
    """Number of clips of the embedded scene in the training split, if its kinds are among the classes."""
    plain: bool = False
    """True: no rooms, filters, night, blur, grain or softness, to measure how many errors these cause."""


def bundle_encoders(bundle: Bundle, weights_dir: Path | None) -> FrozenEncoders:
    """Load the encoders of a bundle in ONNX Runtime.

    Args:
        bundle: the model.
        weights_dir: folder with external encoders; None for the user's default folder.

    Raises:
        ModelError: when weights are missing.
    """
    import torch

    from streamav.engines.modules import build_modules
    from streamav.training.composite.frozen import session

    modules, card = build_modules(bundle, weights_dir), bundle.card
    return FrozenEncoders(
        audio=card.audio,
        visual=card.visual,
        hear=session(modules["audio"], torch.zeros(2, 96, 64)),
        look=session(modules["visual"], torch.zeros(2, *card.visual.picture, 3, dtype=torch.uint8)),
    )


def compose(
    root: Path, out: Path, encoders: FrozenEncoders, cache: Path, counts: ClipCounts, seed: int, progress: Callable[[int, int], None]
) -> None:
    """Render the clips of every split and write their features; complete splits are not made again.

    Args:
        root: folder with index.csv.
        out: folder of the features.
        encoders: the audio and the visual encoder.
        cache: folder for the decoded material.
        counts: number of clips.
        seed: seed of all random choices.
        progress: called with the number of clips done and of all clips.

    Raises:
        DataError: when *out* holds features for other settings, or a split's material lacks a class.
    """
    labels = _begin(out, root, encoders, counts, seed)
    drawn = counts.drawn if set(KINDS) <= set(labels) else 0
    events = {name: getattr(counts, name) for name in _HOLDOUT}
    quiet = {name: round(count * counts.quiet_share) for name, count in events.items()}
    events["train"] += drawn
    side = encoders.visual.picture[0]
    files = _Files(out, encoders, (sum(events.values()), sum(quiet.values()), len(labels)))
    row = still = 0
    total = sum(events.values()) + sum(quiet.values())
    for number, (name, (split, half)) in enumerate(_HOLDOUT.items()):
        if not files.holds(name):
            material = Material(root, split, cache, half)
            if material.labels != labels:
                msg = f"every class must have material in the {half} half of split {split}, got {material.labels} instead of {labels}"
                raise DataError(msg)
            extra = drawn if name == "train" else 0
            scenes = draw_clips(material, events[name] - extra, quiet[name], seed * 10 + number, plain=counts.plain)
            renderer = Renderer(material, side, FRAMES)
            made = 0
            for kind, clips, start in (("event", scenes[0], row), ("quiet", scenes[1], still)):
                for place, scene in enumerate(clips, start):
                    files.write(kind, place, renderer.render(scene))
                    made += 1
                    progress(row + still + made, total)
            for place in range(extra):
                files.write("event", row + events[name] - extra + place, drawn_clip(labels, seed * 100_000 + place, side, FRAMES))
            files.close(name, [*scenes[0], *scenes[1]], np.arange(row, row + events[name]))
        row, still = row + events[name], still + quiet[name]
        progress(row + still, total)


def _begin(out: Path, root: Path, encoders: FrozenEncoders, counts: ClipCounts, seed: int) -> list[str]:
    """Write encoders, classes and settings into the folder, or check those that are there; return the classes."""
    from streamav.training.composite.material import read_index

    out.mkdir(parents=True, exist_ok=True)
    labels = sorted({item.label for item in read_index(root) if item.label})
    cards = {"audio": encoders.audio.model_dump(mode="json"), "visual": encoders.visual.model_dump(mode="json")}
    plan = {"seed": seed, **{name: getattr(counts, name) for name in counts.__dataclass_fields__ if name != "plain" or counts.plain}}
    wanted = {
        ENCODERS_FILE: json.dumps(cards, indent=1) + "\n",
        "classes.txt": "\n".join(labels) + "\n",
        "composite.json": json.dumps(plan, indent=1) + "\n",
    }
    for name, text in wanted.items():
        path = out / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            msg = f"{path} must belong to these settings, got one of other settings; choose another --out"
            raise DataError(msg)
        write_whole(path, text)
    return labels


class _Files:
    """The HDF5 files of a folder while it is filled."""

    def __init__(self, out: Path, encoders: FrozenEncoders, sizes: tuple[int, int, int]) -> None:
        """Make the missing files; *sizes* are the numbers of clips with an event, of clips without one, and of classes."""
        events, quiet, classes = sizes
        self._out, self._encoders, self._classes = out, encoders, classes
        grid = (encoders.visual.grid, encoders.visual.grid, encoders.visual.size)
        shapes = {
            "visual_feature": (events, T, *grid),
            "audio_feature": (events, T, encoders.audio.size),
            "visual_feature_noisy": (quiet, T, *grid),
            "audio_feature_noisy": (quiet, T, encoders.audio.size),
            "right_labels": (events, T, classes + 1),
            "heard": (events, T),
            "seen": (events, T),
        }
        for name, shape in shapes.items():
            with h5py.File(out / f"{name}.h5", "a") as file:
                if "avadataset" not in file:
                    kind = "float16" if "visual" in name else "int16" if name in {"heard", "seen"} else "float32"
                    file.create_dataset("avadataset", shape, dtype=kind)
        self._open: dict[str, h5py.File] = {}

    def holds(self, split: str) -> bool:
        """Return whether a split is complete: its order file is written last."""
        return (self._out / f"{split}_order.h5").is_file()

    def write(self, kind: str, row: int, rendered: RenderedScene) -> None:
        """Encode one clip and write its row."""
        options = log_mel_options(self._encoders.audio)
        heard = self._encoders.hear(np.stack([log_mel(second, options) for second in rendered.samples]))
        grids = self._encoders.look(rendered.pictures.reshape(-1, *rendered.pictures.shape[2:]))
        seen = grids.reshape(T, FRAMES, *grids.shape[1:]).mean(axis=1)
        ending = "" if kind == "event" else "_noisy"
        self._set(f"audio_feature{ending}", row, heard)
        self._set(f"visual_feature{ending}", row, seen.astype(np.float16))
        if kind == "event":
            self._set("right_labels", row, np.eye(self._classes + 1, dtype=np.float32)[rendered.labels])
            self._set("heard", row, rendered.heard)
            self._set("seen", row, rendered.seen)

    def close(self, split: str, scenes: list[Scene], rows: NDArray[np.int64]) -> None:
        """Close the files of a split, write its manifest, and mark it as complete with its order file."""
        for file in self._open.values():
            file.close()
        self._open = {}
        write_whole(self._out / f"scenes-{split}.jsonl", write_scenes(scenes))
        with whole_file(self._out / f"{split}_order.h5", alone=True) as part, h5py.File(part, "w") as file:
            file["order"] = rows

    def _set(self, name: str, row: int, values: NDArray[np.generic]) -> None:
        if name not in self._open:
            self._open[name] = h5py.File(self._out / f"{name}.h5", "r+")
        self._open[name]["avadataset"][row] = values
