"""Writes a tiny folder of material for composites: tones and coloured pictures of two or more classes, listed in index.csv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

RATE = 16_000


def write_wave(file: Path, samples: NDArray[np.float32]) -> None:
    """Write mono samples as a WAV file."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def write_picture(file: Path, colour: tuple[int, int, int]) -> None:
    """Write a PNG file of one colour."""
    pixels = np.broadcast_to(np.array(colour, np.uint8), (64, 80, 3)).copy()
    with av.open(str(file), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "rgb24"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)


def write_material(root: Path, labels: Sequence[str], splits: Sequence[str] = ("train", "val"), origins: int = 2) -> None:
    """Write *origins* sounds and photos per class and split, and *origins* ambient sounds and backdrops per split."""
    rng = np.random.default_rng(0)
    rows = ["path,kind,class,split,original_id"]
    for split in splits:
        for number in range(origins):
            for place, label in enumerate(labels):
                name = f"{split}-{label}-{number}"
                tone = 0.3 * np.sin(2 * np.pi * (300 + 500 * place + 20 * number) * np.arange(3 * RATE) / RATE)
                write_wave(root / f"{name}.wav", tone.astype(np.float32))
                write_picture(root / f"{name}.png", (40 + 190 * (place % 2), 30 + 40 * number, 230 - 190 * (place % 2)))
                rows += [f"{name}.wav,sound,{label},{split},{name}", f"{name}.png,photo,{label},{split},{name}"]
            name = f"{split}-none-{number}"
            write_wave(root / f"{name}.wav", rng.normal(0, 0.1, RATE * 4).clip(-1, 1).astype(np.float32))
            write_picture(root / f"{name}.png", (90, 90 + 10 * number, 90))
            rows += [f"{name}.wav,ambient,,{split},{name}", f"{name}.png,backdrop,,{split},{name}"]
    (root / "index.csv").write_text("\n".join(rows) + "\n")
