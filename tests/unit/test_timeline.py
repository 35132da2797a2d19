from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamav.capture.timeline import Timeline

SECOND = 1_000_000_000
BLOCK = SECOND // 50


def test_the_earliest_time_stamp_becomes_the_origin() -> None:
    """Media time begins at the origin for any zero of the stream."""
    timeline = Timeline(first_ns=95_443 * SECOND, origin_ns=7 * SECOND)
    assert timeline.place("sound", 95_443 * SECOND, BLOCK) == 7 * SECOND
    assert timeline.place("picture", 95_443 * SECOND + 40, 0) == 7 * SECOND + 40


@given(leap_s=st.one_of(st.integers(-100_000, -1), st.integers(62, 100_000)), picture_first=st.booleans())
def test_a_leap_of_the_stream_is_no_leap_of_the_media_clock(leap_s: int, picture_first: bool) -> None:
    """When a stream restarts its time stamps, both kinds continue from their last media time and stay in step."""
    timeline = Timeline(0, 0)
    for n in range(100):
        timeline.place("sound", n * BLOCK, BLOCK)
        timeline.place("picture", n * BLOCK, BLOCK)
    after = 2 * SECOND + leap_s * SECOND
    kinds = ("picture", "sound") if picture_first else ("sound", "picture")
    placed = [timeline.place(kind, after, BLOCK) for kind in kinds]  # type: ignore[arg-type]
    assert placed == [2 * SECOND, 2 * SECOND]
    assert timeline.leaps == 2


def test_a_pause_of_the_recording_stays_a_pause() -> None:
    """A gap of some seconds is real and is kept."""
    timeline = Timeline(0, 0)
    timeline.place("sound", 0, BLOCK)
    assert timeline.place("sound", 10 * SECOND, BLOCK) == 10 * SECOND


def test_one_packet_with_a_wrong_time_does_no_lasting_harm() -> None:
    """A single wrong time stamp is placed where it arrived, and the next ones as before."""
    timeline = Timeline(0, 0)
    for n in range(10):
        timeline.place("sound", n * BLOCK, BLOCK)
        timeline.place("picture", n * BLOCK, BLOCK)
    assert timeline.place("sound", 90_000 * SECOND, BLOCK) == 10 * BLOCK
    assert timeline.place("sound", 11 * BLOCK, BLOCK) == 11 * BLOCK
