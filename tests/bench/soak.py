"""Runs six sources for an hour with faults throughout: `make soak`.

    python -m tests.bench.soak --minutes 60

The sources are two RTSP servers, MPEG-TS over TCP from a sender and through a relay, MPEG-TS over UDP, and HLS over HTTP. The four that
ffmpeg sends show the rendered scene in a loop, whose events are known from the recording itself; so an event that does not come, although
nothing was wrong with its source, is lost. Printed are a table of the faults, the events, and the slope of memory, threads and descriptors.

It exits with an error when an event was lost outside an outage, a fault was not noticed or not recovered from, or memory grew. An event
beside which segments were dropped is counted on its own: a machine that is too slow drops the oldest segments, and tells so in its
telemetry.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from _pytest.outcomes import Failed
from rigs.soak import FAULTS, FRAMES, Diary, Rig, reference_events, write_scene

from streamav import app
from streamav.config import Settings
from streamav.features import SegmentExtractor
from streamav.types import SAMPLES_PER_SEGMENT, Segment

_WARM_UP_S = 600.0
"""By then every fault was inflicted and mended; a first reconnect takes its memory once."""
_MOST_SLOPE = 0.2
"""MB a minute."""
_MOST_WAITING = 0.2
"""Share of the time in which processes of the machine waited for a processor. Above it, what is lost says more of the machine."""


def take_batches(application: app.Application) -> None:
    """Run the encoders on batches of all sizes: the runtime keeps the memory of its largest ones.

    A run meets its largest batch when the machine is behind for the first time, perhaps after half an hour. A batch of six takes 16 MB more
    than one segment. So memory that grows during the measurement grows for another reason.
    """
    height, width = application.bundle.card.visual.picture
    dark = np.zeros((application.frames_per_second, height, width, 3), np.uint8)
    segment = Segment(index=0, start_ns=0, audio=np.zeros(SAMPLES_PER_SEGMENT, np.float32), frames=dark)
    extractor = SegmentExtractor(application.engine, application.bundle.card)
    sizes = range(1, len(application.sources) + 1)
    for size in [*sizes, *reversed(sizes)] * 3:
        extractor.extract([segment] * size)


def measure(diary: Diary, stop: threading.Event) -> None:
    """Note memory, threads and descriptors of this process, and the memory of its decoder processes, every five seconds."""
    while not stop.wait(5.0):
        diary.sample()


def torment(rig: Rig, diary: Diary, end_s: float, stop: threading.Event) -> None:
    """Inflict one fault after another until *end_s*; each waits until its source has recovered."""
    for number in range(10_000):
        fault = FAULTS[number % len(FAULTS)]
        if stop.wait(15.0) or time.monotonic() + fault.seconds + fault.settle_s > end_s:
            return
        began = time.monotonic()
        try:
            fault.inflict(rig)
            stop.wait(fault.seconds)
            fault.mend(rig)
        except (Exception, Failed) as exc:  # noqa: BLE001 - the run goes on without faults, and is not well
            diary.failed = f"{fault.name}: {exc}"
            return
        mended = time.monotonic()
        diary.fault(fault, began, mended)
        stop.wait(fault.settle_s)


def report(diary: Diary, rig: Rig, expected: list[tuple[str, float, float]]) -> bool:
    """Print what was found; return whether all is well."""
    print("| fault | times | noticed after, s (median) | recovered after p50 / p95, s | seconds lost (median) |\n|---|---|---|---|---|")
    fine = True
    for name, rows in diary.table().items():
        noticed = [row.noticed_s for row in rows if row.noticed_s is not None]
        back = [row.recovered_s for row in rows if row.recovered_s is not None]
        fine &= all(row.well for row in rows)
        cells = [
            name,
            str(len(rows)),
            f"{np.median(noticed):.1f}" if noticed else "not a loss",
            f"{np.percentile(back, 50):.1f} / {np.percentile(back, 95):.1f}" if back else "-",
            f"{np.median([row.lost_s for row in rows]):.1f}",
        ]
        print("| " + " | ".join(cells) + " |")
        for row in rows:
            if not row.well:
                print(f"not well: {row}", file=sys.stderr)
    lost, due = diary.lost_events(rig, expected)
    behind = [one for one in lost if one.dropped]
    print(f"events due outside outages: {due}, seen in all: {len(diary.events)}")
    print(
        f"lost beside segments that were dropped because the machine was behind: {len(behind)}, lost otherwise: {len(lost) - len(behind)}"
    )
    for one in lost[:20]:
        print(f"lost: {one}", file=sys.stderr)
    use = diary.use(_WARM_UP_S)
    print(f"memory {use.slope:+.2f} MB/min after {use.after_s:.0f} s, peak {use.peak_mb:.0f} MB with the decoder processes")
    print(f"threads {use.threads}, descriptors {use.descriptors}")
    print(f"processes of the machine waited for a processor in {100.0 * use.waiting:.0f} % of the time")
    if use.waiting > _MOST_WAITING:
        print("the machine was too busy: late notices and lost events may be its own", file=sys.stderr)
    if diary.failed is not None:
        print(f"the faults ended early, at {diary.failed}", file=sys.stderr)
    return fine and len(lost) == len(behind) and diary.failed is None and (use.slope < _MOST_SLOPE or not expected)


def main() -> int:
    """Run as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--faults-only", action="store_true", help="count no events and no memory, as in a run that is too short for them")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    folder = Path(tempfile.mkdtemp(prefix="streamav-soak-"))
    clip = write_scene(folder)
    expected = [] if chosen.faults_only else reference_events(clip)
    print(
        f"the loop of 60 s has {len(expected)} certain events: {', '.join(f'{label} {a:.0f}-{b:.0f}' for label, a, b in expected)}",
        flush=True,
    )
    diary, stop = Diary(), threading.Event()
    with Rig(folder, clip) as rig:
        settings = Settings.model_validate(
            {
                "sources": [{"id": name, "uri": uri} for name, uri in rig.sources.items()],
                "model": {"name": "starter", "frames_per_second": FRAMES},
                "detection": {"labels": ["model"]},
                "capture": {"timeout_s": 4.0, "reconnect_min_s": 0.5, "reconnect_max_s": 4.0},
                "state_dir": str(folder / "state"),
            }
        )
        application = app.build(settings, [diary], observer=lambda _: diary)
        take_batches(application)
        end_s = time.monotonic() + 60.0 * chosen.minutes
        threads = [
            threading.Thread(target=measure, args=(diary, stop), daemon=True),
            threading.Thread(target=torment, args=(rig, diary, end_s, stop), daemon=True),
        ]
        timer = threading.Timer(60.0 * chosen.minutes, application.pipeline.stop)
        timer.daemon = True  # a run that was ended by hand ends at once
        for thread in (*threads, timer):
            thread.start()
        asyncio.run(app.run(application))
        stop.set()
        threads[0].join()
        summary = application.pipeline.summary
    if summary is not None:
        print(f"{summary.media_s:.0f} s of media in {summary.wall_s:.0f} s, {summary.dropped_segments} segments dropped")
    fine = report(diary, rig, expected)
    print("all is well" if fine else "NOT WELL")
    return 0 if fine else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
