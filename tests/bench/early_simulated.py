"""Simulates early pictures with the real worker on a clock of its own: `python -m tests.bench.early_simulated`.

A turn costs what it was measured to cost on an idle machine (docs/performance.md); nothing else takes time. So the figures hold for a
machine without other work, and do not depend on the one that computes them.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rigs.roles import EPOCH_NS, PICTURE, FakeLocalizer, FakeSource, features

from streamav.pipeline.feed import SourceSetup
from streamav.pipeline.lane import Lane, make_lane
from streamav.pipeline.worker import Worker
from streamav.segmenter import SegmenterOptions
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, LookedAt, Segment, SegmentFeatures

GOLDEN = 0.618034
SILENCE = np.zeros(SAMPLES_PER_SEGMENT, np.float32)


@dataclass(frozen=True)
class Machine:
    """What a model costs: of a segment without its pictures, of a picture, and of a batch of pictures, s."""

    name: str
    frames: int
    segment_s: float
    picture_s: float
    batch_s: float = 0.001


class World:
    """Cameras whose pictures come one by one, and a machine."""

    def __init__(self, machine: Machine, streams: int, *, early: bool) -> None:
        self.machine, self.now_ns, self.late_s, self.looked = machine, 0, [0.0][:0], 0
        self.ready = _Ready(self)
        self.lanes = [self._lane(number) for number in range(streams)]
        self.phases_ns = [round(number * GOLDEN % 1.0 * SEGMENT_NS) for number in range(streams)]
        self.given = [0] * streams
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 256, (machine.frames, *PICTURE, 3), np.uint8)
        self.worker = Worker(self.lanes, self, FakeLocalizer(), self, self.ready, ahead=self if early else None)

    def _lane(self, number: int) -> Lane:
        source = FakeSource([], live=True)
        source.session = str(number)
        options = SegmenterOptions(frames_per_second=self.machine.frames, picture=PICTURE)
        made = SourceSetup(id=f"s{number}", source=source, segmenter=options, labels=(), latency_segments=1)
        return make_lane(made, self, self.ready)

    def run(self, seconds: int) -> None:
        """Let time pass; a turn without work lasts until the next picture."""
        while self.now_ns < seconds * SEGMENT_NS:
            self.deliver()
            before = {lane.setup.id: lane.meter.segments for lane in self.lanes}
            self.worker.turn()
            for lane in self.lanes:
                lane.events.clear()
                lane.finals.clear()
                if lane.meter.segments > before[lane.setup.id]:
                    self.late_s.append((self.now_ns - lane.given_ns) / 1e9)

    def deliver(self) -> None:
        """Give what has come by now."""
        for number, lane in enumerate(self.lanes):
            since_ns = self.now_ns - self.phases_ns[number]
            while self.given[number] < since_ns // SEGMENT_NS:
                index = self.given[number]
                due_ns = self.phases_ns[number] + (index + 1) * SEGMENT_NS
                lane.feed.inbox.put(Segment(index=index, start_ns=index * SEGMENT_NS, audio=SILENCE, frames=self.frames), due_ns)
                self.given[number] += 1
            index, inside_ns = divmod(max(0, since_ns), SEGMENT_NS)
            lane.feed.running = (index, tuple(self.frames[: inside_ns * self.machine.frames // SEGMENT_NS]))

    def _work(self, segments: int, pictures: int) -> None:
        cost_s = segments * self.machine.segment_s + pictures * self.machine.picture_s + (self.machine.batch_s if pictures else 0.0)
        self.looked += pictures
        self.now_ns += round(cost_s * 1e9)

    # Clock and extractor

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return EPOCH_NS + self.now_ns

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        self.now_ns += round(seconds * 1e9)
        return stop.is_set()

    def look(self, pixels: NDArray[np.uint8]) -> list[LookedAt]:
        self._work(0, len(pixels))
        return [LookedAt(one, ()) for one in pixels]

    def extract(self, segments: Sequence[Segment], ahead: Sequence[Sequence[LookedAt]] | None = None) -> list[SegmentFeatures]:
        early = sum(map(len, ahead or ()))
        self._work(len(segments), sum(len(one.frames) for one in segments) - early)
        return [features(one.index, 0.1, one) for one in segments]


class _Ready(threading.Condition):
    """Waits by letting time pass until the next picture."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        self._world.now_ns += SEGMENT_NS // 64
        self._world.deliver()
        return True


MACHINES = (
    Machine("starter", 4, 0.003, 0.0011),
    Machine("edge", 4, 0.006, 0.0031),
    Machine("paper, int8 with AMX", 16, 0.009, 0.0064),
    Machine("paper, int8 with VNNI", 16, 0.020, 0.029),
)


def row(machine: Machine, streams: int, seconds: int = 60) -> dict[str, object]:
    """Simulate one model with a number of streams, late and early."""
    found: dict[str, object] = {"model": machine.name, "streams": streams}
    for name, early in (("late", False), ("early", True)):
        world = World(machine, streams, early=early)
        world.run(seconds)
        late_s = world.late_s[len(world.late_s) // 6 :]
        found[f"{name}_p50_s"] = round(statistics.median(late_s), 4)
        found[f"{name}_p95_s"] = round(statistics.quantiles(late_s, n=20)[-1], 4)
        found[f"{name}_pictures_a_second"] = round(world.looked / seconds, 1)
        found[f"{name}_dropped"] = sum(lane.feed.inbox.dropped for lane in world.lanes)
    return found


if __name__ == "__main__":
    for machine in MACHINES:
        for streams in (1, 8, 16):
            sys.stdout.write(json.dumps(row(machine, streams)) + "\n")
