"""Builds events for the tests of publishing."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from streamav.publish.message import ModelEntry
from streamav.types import EndReason, Event, EventPhase, FinalScores, Location, ScoredSegment

SECOND_NS = 1_000_000_000
EPOCH_NS = 1_789_381_200_000_000_000
MODEL = ModelEntry(name="vscg-test", version="1.0", sha256="ab" * 32, backend="onnxruntime-fp32")

SCORES = FinalScores(
    start_ns=5_000_000_000,
    epoch_ns=1_789_381_346_000_000_000,
    labels={"bark": 0.12345678, "cat": 0.25},
    background=0.62654321,
    relevance=0.5,
    agreement=-0.25,
    level_dbfs=None,
)


def dice(seed: int) -> Random:
    """Return a random generator with the given seed."""
    return Random(seed)


def ulid(number: int) -> str:
    """Return a well-formed id; ids of greater numbers sort later."""
    return f"{number:026d}"


def make_event(  # noqa: PLR0913 - each argument may differ in a test
    number: int = 1,
    sequence: int = 1,
    phase: EventPhase = EventPhase.NEW,
    *,
    label: str = "bark",
    source: str = "porch",
    start_s: int = 5,
    seconds: int = 1,
    confirmed: bool = True,
    reason: EndReason = EndReason.ENDED,
) -> Event:
    """Return one message of the event *number*."""
    start_ns, reach_ns = start_s * SECOND_NS, (start_s + seconds) * SECOND_NS
    ended = phase is EventPhase.END
    return Event(
        id=ulid(number),
        sequence=sequence,
        phase=phase,
        source=source,
        label=label,
        label_name=label.replace("_", " ").title(),
        class_id=2,
        start_ns=start_ns,
        end_ns=reach_ns if ended else None,
        newest_end_ns=reach_ns,
        epoch_ns=EPOCH_NS,
        score=0.91,
        top_score=0.94,
        relevance=0.88,
        agreement=0.63,
        segments=tuple(
            ScoredSegment(start_ns=start_ns + i * SECOND_NS, score=0.9, relevance=0.8) for i in range(max(0, seconds - 10), seconds)
        ),
        location=Location(grid=(7, 7), peak=(0.64, 0.41), box=(0.52, 0.3, 0.78, 0.55)),
        level_dbfs=-24.1,
        skew_ms=-12,
        confirmed=confirmed,
        end_reason=reason if ended else None,
    )


def story(number: int, updates: int = 1, *, label: str = "bark", start_s: int = 5) -> list[Event]:
    """Return all messages of one confirmed event: new, updates, end."""
    phases = [EventPhase.NEW, *[EventPhase.UPDATE] * updates, EventPhase.END]
    return [make_event(number, i + 1, phase, label=label, start_s=start_s, seconds=i + 1) for i, phase in enumerate(phases)]


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Draw any event that the types allow."""
    share = st.floats(0.0, 1.0)
    pair = st.tuples(share, share)
    start_s = draw(st.integers(0, 100_000))
    seconds = draw(st.integers(1, 4000))
    phase = draw(st.sampled_from(EventPhase))
    ended = phase is EventPhase.END
    first = max(0, seconds - 10)
    segments = tuple(
        ScoredSegment(start_ns=(start_s + i) * SECOND_NS, score=draw(share), relevance=draw(share)) for i in range(first, seconds)
    )
    return Event(
        id=draw(st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26)),
        sequence=draw(st.integers(1, 10**6)),
        phase=phase,
        source=draw(st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)),
        label=draw(st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True)),
        label_name=draw(st.text(st.characters(codec="utf-8"), max_size=40)),
        class_id=draw(st.integers(0, 1000)),
        start_ns=start_s * SECOND_NS,
        end_ns=(start_s + seconds) * SECOND_NS if ended else None,
        newest_end_ns=(start_s + seconds + draw(st.integers(0, 9))) * SECOND_NS,
        epoch_ns=draw(st.integers(0, 4 * 10**18)),
        score=draw(share),
        top_score=draw(share),
        relevance=draw(share),
        agreement=draw(st.floats(-1.0, 1.0)),
        segments=segments,
        location=draw(st.none() | st.builds(_location, pair, st.none() | st.tuples(share, share, share, share))),
        level_dbfs=draw(st.none() | st.floats(-120.0, 0.0)),
        skew_ms=draw(st.none() | st.integers(-10_000, 10_000)),
        confirmed=draw(st.booleans()),
        end_reason=draw(st.sampled_from(EndReason)) if ended else None,
    )


def _location(peak: tuple[float, float], box: tuple[float, float, float, float] | None) -> Location:
    return Location(grid=(7, 7), peak=peak, box=box)
