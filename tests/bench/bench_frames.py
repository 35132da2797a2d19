"""Measures how the features and decisions of a segment change when fewer than sixteen of its frames are used.

Run: python -m tests.bench.bench_frames FOLDER [--model starter] [--weights DIR]   (recordings; prints a Markdown table)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamav.app import localizer_head
from streamav.bundle import find_bundle
from streamav.config import ModelSettings
from streamav.engines import open_engine
from streamav.engines.parity import relative_l2
from streamav.features import SegmentExtractor
from streamav.files import MEDIA_SUFFIXES
from streamav.localizer import VscgLocalizer
from streamav.offline import segments_of
from streamav.types import WINDOW_SEGMENTS, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.protocols import Engine
    from streamav.types import Segment

FRAMES = (16, 8, 4, 2, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--weights", type=Path)
    asked = parser.parse_args()
    card = find_bundle(asked.model).card
    engine = open_engine(find_bundle(asked.model), ModelSettings(engine="cpu", precision="fp32", weights_dir=asked.weights))
    files = sorted(path for path in asked.folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES)
    recordings = [list(segments_of(str(path.absolute()), card, max(FRAMES))) for path in files]
    found = {frames: measured(engine, card, recordings, frames) for frames in FRAMES}
    whole, sure = found[max(FRAMES)]
    sys.stdout.write(
        "| frames a second | visual features, relative L2 | largest change of a probability | decided alike |\n|---|---|---|---|\n"
    )
    for frames in FRAMES[1:]:
        visual, scores = found[frames]
        alike = float((scores.argmax(-1) == sure.argmax(-1)).mean())
        sys.stdout.write(f"| {frames} | {relative_l2(visual, whole):.3f} | {np.abs(scores - sure).max():.2f} | {alike:.1%} |\n")


def measured(
    engine: Engine, card: ModelCard, recordings: list[list[Segment]], frames: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the visual features of all segments, and the class probabilities of every window of ten segments."""
    extractor, localizer = SegmentExtractor(engine, card), VscgLocalizer(engine, localizer_head(card))
    grids, scores = [], []
    for segments in recordings:
        seen = [one.looked_at(frames) for one in segments]
        seconds = [one for first in range(0, len(seen), 10) for one in extractor.extract(seen[first : first + 10])]
        grids.append(np.stack([one.visual for one in seconds]))
        windows = [Window(segments=tuple(seconds[first : first + WINDOW_SEGMENTS])) for first in range(len(seconds) - WINDOW_SEGMENTS + 1)]
        scores += [found.class_probabilities for found in localizer.localize(windows)]
    return np.concatenate(grids), np.stack(scores)


if __name__ == "__main__":
    main()
