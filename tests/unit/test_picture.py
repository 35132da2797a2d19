from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamav.capture.picture import InstantSampler

SECOND = 1_000_000_000


def needed(times: list[int], rate: int, until: int) -> list[int]:
    """Return, by a plain loop, the pictures that are on display at an instant."""
    shown = set()
    for number in range(until * rate // SECOND + 1):
        earlier = [time for time in times if time <= number * SECOND // rate]
        if earlier:
            shown.add(max(earlier))
    return sorted(shown)


@given(
    gaps=st.lists(
        st.sampled_from([1, 20_000_000, 33_366_667, 40_000_000, 41_000_000, 250_000_000, 1_700_000_000]), min_size=1, max_size=60
    ),
    rate=st.integers(1, 16),
)
def test_every_picture_that_is_on_display_at_an_instant_gets_through(gaps: list[int], rate: int) -> None:
    """For any times of pictures, no picture that a segment needs is dropped, and the order is kept."""
    times = [sum(gaps[:n]) for n in range(len(gaps))]
    sampler: InstantSampler[int] = InstantSampler(rate)
    given_times = [time for time in times for time, _ in sampler.push(time, time)] + [time for time, _ in sampler.flush()]
    assert given_times == sorted(given_times)
    assert set(needed(times, rate, times[-1])) <= set(given_times)


def test_most_of_the_other_pictures_are_dropped() -> None:
    """Of 25 pictures a second with 4 instants, at most 8 are converted."""
    sampler: InstantSampler[int] = InstantSampler(4)
    kept = [item for n in range(250) for item in sampler.push(n * SECOND // 25, n)]
    assert len(kept) <= 80


def test_pictures_out_of_order_are_dropped() -> None:
    """A picture that is not newer than the last one is dropped."""
    sampler: InstantSampler[str] = InstantSampler(4)
    sampler.push(SECOND, "b")
    assert sampler.push(SECOND, "same") == []
    assert sampler.push(0, "older") == []
