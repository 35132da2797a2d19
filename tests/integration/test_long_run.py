"""Tests that a long run keeps nothing of what has passed."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator

import pytest
from rigs.roles import LABELS, PICTURE, FakeExtractor, FakeLocalizer, RecordingSink, second

from streamav.pipeline import Pipeline, SourceSetup
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import AudioBlock, VideoFrame

WARM = 4_000
"""Segments, a little more than an hour: latencies are kept for an hour."""
MORE = 3_000
MOST_BLOCKS = 0.1
"""Blocks of memory that stay of each segment. A float that is kept is one block."""


class Endless:
    """A source without end that keeps nothing; it counts the blocks of memory in use before and after some segments."""

    live, session, skew_ms = False, "long", None

    def __init__(self) -> None:
        self.blocks: list[int] = []

    def items(self) -> Iterator[AudioBlock | VideoFrame]:
        for index in range(WARM + MORE + 1):
            if index in {WARM, WARM + MORE}:
                gc.collect()
                self.blocks.append(sys.getallocatedblocks())
            yield from second(index, 0.9 if index % 20 < 3 else 0.1)

    def close(self) -> None:
        """Do nothing."""


class Forgetful(RecordingSink):
    """A sink that keeps nothing."""

    def event(self, *_: object) -> None:
        """Forget it."""

    def scores(self, *_: object) -> None:
        """Forget them."""

    def telemetry(self, *_: object) -> None:
        """Forget it."""


@pytest.mark.slow
def test_a_segment_that_has_passed_leaves_nothing() -> None:
    """After an hour of segments with events, three thousand more leave no block of memory for every ten of them."""
    source = Endless()
    thresholds = Thresholds(on=0.6, off=0.35)
    labels = tuple(
        LabelOptions(label=label, label_name=label, class_id=number, thresholds=thresholds) for number, label in enumerate(LABELS)
    )
    segmenter = SegmenterOptions(frames_per_second=2, picture=PICTURE)
    setup = SourceSetup(id="porch", source=source, segmenter=segmenter, labels=labels, latency_segments=3, paced=False)
    asyncio.run(Pipeline([setup], FakeExtractor(), FakeLocalizer(), Forgetful()).run())
    before, after = source.blocks
    assert after - before < MOST_BLOCKS * MORE
