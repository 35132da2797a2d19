"""Tests of the search for the greatest number of streams and of the sources of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.tiny_model import make_tiny_bundle

from streamav.bench.early import EarlyRow, _measure
from streamav.bench.streams import find_most, memory_per_stream_mb
from streamav.bench.trial import CameraLike, Trial, TrialRequest, run_trial
from streamav.errors import CaptureError
from streamav.types import SEGMENT_NS, AudioBlock, VideoFrame


@given(st.integers(0, 70), st.integers(1, 64), st.integers(1, 64))
def test_the_greatest_number_is_found_with_few_trials(limit: int, most: int, first: int) -> None:
    """The search finds the number that a machine carries; it tries no number twice and none above the limit."""
    tried: list[int] = []

    def carries(streams: int) -> bool:
        tried.append(streams)
        return streams <= limit

    assert find_most(carries, most, first) == min(limit, most)
    assert len(tried) == len(set(tried)) <= 14
    assert all(1 <= streams <= most for streams in tried)


def trial(streams: int, memory_mb: float) -> Trial:
    return Trial(
        streams=streams,
        engine="torch-fp32",
        threads=1,
        load=0.1,
        realtime_factor=0.1,
        latency_p50_s=0.1,
        latency_p95_s=0.1,
        latency_p99_s=0.1,
        dropped=0,
        thinned=0,
        memory_mb=memory_mb,
        processor_s=0.1,
        looked_s=4.0,
        carried=True,
    )


def test_memory_of_a_further_stream_is_a_slope() -> None:
    """The memory of a stream does not include what all streams share; one point has no slope."""
    assert memory_per_stream_mb([trial(1, 107.0), trial(2, 114.0), trial(4, 128.0)]) == pytest.approx(7.0)
    assert memory_per_stream_mb([trial(1, 107.0), trial(1, 108.0)]) is None
    assert memory_per_stream_mb([]) is None


def test_a_trials_source_goes_on_and_on() -> None:
    """The source repeats its scene on one media clock in real time; it is live and ends when it is closed."""
    block = AudioBlock(start_ns=0, samples=np.zeros(160, np.float32))
    picture = VideoFrame(start_ns=0, pixels=np.zeros((4, 4, 3), np.uint8))
    source = CameraLike(lambda: [picture, block], name="s0", phase_s=0.0)
    times = []
    for item in source.items():
        times.append(item.start_ns)
        if len(times) == 6:
            source.close()
    assert times == [0, 0, SEGMENT_NS // 100, SEGMENT_NS // 100, SEGMENT_NS // 50, SEGMENT_NS // 50]
    assert source.live


def test_a_trials_source_must_play_something() -> None:
    """A scene without items is refused, because it would repeat forever."""
    with pytest.raises(CaptureError, match="got nothing"):
        list(CameraLike(list, name="s0", phase_s=0.0).items())


def test_a_full_trial_loses_and_thins_nothing(tmp_path: Path) -> None:
    """Real sources and networks: the sources wait for the networks, so nothing is dropped or thinned on the busiest machine."""
    make_tiny_bundle(tmp_path / "tiny", "fully")
    found = run_trial(TrialRequest(streams=3, seconds=2.0, model=str(tmp_path / "tiny"), engine="cpu-fp32", full=True, early=True))
    assert (found.dropped, found.thinned) == (0, 0)
    assert found.looked_s > 0.0


def test_a_late_source_waits_for_no_time() -> None:
    """The second picture is an hour after the first one, and comes at once; the source is a file and not live."""
    pictures = [VideoFrame(start_ns=hour * 3600 * SEGMENT_NS, pixels=np.zeros((4, 4, 3), np.uint8)) for hour in range(2)]
    source = CameraLike(lambda: pictures, name="s0", phase_s=0.0, late=True)
    assert not source.live
    assert [one.start_ns for one, _ in zip(source.items(), range(2), strict=False)] == [0, 3600 * SEGMENT_NS]


def test_pairs_begin_with_either_way_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down while it is measured favours neither; the throughput that is kept is compared within each pair."""
    order: list[bool] = []

    def ask(_module: str, request: dict[str, Any], **_rest: object) -> dict[str, object]:
        order.append(request["early"])
        slow = 1.0 + 0.1 * len(order)  # every trial is slower than the one before
        values = {"engine": "x", "realtime_factor": 0.5, "looked_s": 100.0 / slow, "processor_s": 1.0}
        return values | {"latency_p50_s": 0.1, "latency_p95_s": 0.2}

    monkeypatch.setattr("streamav.bench.early.ask", ask)
    rows: list[EarlyRow] = []
    _measure(TrialRequest(streams=1, seconds=5.0, model="x"), "x", rows.append, auto=False)
    pairs = order[4:]  # of the full machine, after those of 1 and 8 streams
    assert pairs == [False, True, True, False, False, True, True, False, False, True]
    full = rows[-1]
    assert full.full
    assert full.late_p50_s is None  # of sources that are late all the time
    assert full.kept == pytest.approx(1.0, abs=0.05)
    assert full.kept_by_processor == pytest.approx(full.kept)
    assert "streams, full machine: " in full.words
    assert rows[0].words == "x, x, 1 stream: p50 0.1 and 0.1 s, p95 0.2 and 0.2 s, 90.9 and 83.3 pictures/s; auto is late"
