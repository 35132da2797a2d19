from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rigs.roles import FakeClock
from rigs.source_items import plain

from streamav.capture.live import LiveLoop
from streamav.config import CaptureSettings
from streamav.errors import CaptureError, MissingModalityError
from streamav.types import AudioBlock, SourceState, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = CaptureSettings(timeout_s=1.0, reconnect_min_s=1.0, reconnect_max_s=8.0)
BLOCK = np.zeros(160, np.float32)


def rng() -> random.Random:
    return random.Random(1)


def sessions(
    *plans: list[int] | Exception,
) -> Callable[[Callable[[], int], threading.Event], Iterator[AudioBlock | VideoFrame]]:
    """Build a session that plays one plan after another: blocks at the given times after the origin, or an error at once."""
    left = list(plans)

    def session(origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        plan = left.pop(0) if left else OSError("the script is over")
        if isinstance(plan, Exception):
            raise plan
        zero = origin()
        for time_ns in plan:
            yield AudioBlock(start_ns=zero + time_ns, samples=BLOCK)

    return session


def collect(loop: LiveLoop, count: int) -> list[AudioBlock | VideoFrame | SourceState]:
    """Take items until there are *count*, then close."""
    taken = []
    for item in plain(loop.items()):
        taken.append(item)
        if len(taken) == count:
            loop.close()
    return taken


def test_the_end_of_a_live_stream_is_a_loss_and_it_comes_back() -> None:
    """End, refusal and new data give LOST once and ONLINE once, in the right places."""
    clock = FakeClock(step_ns=0)
    loop = LiveLoop("camera", sessions([0, 10], OSError("refused"), OSError("refused"), [0]), SETTINGS, clock, rng=rng())
    items = collect(loop, 5)
    assert [item for item in items if isinstance(item, SourceState)] == [SourceState.LOST, SourceState.ONLINE]
    assert items[2] is SourceState.LOST
    assert items[3] is SourceState.ONLINE


def test_media_time_goes_on_over_a_loss() -> None:
    """After a loss the media clock follows the monotonic clock, not the time of the stream."""
    clock = FakeClock(step_ns=0)
    loop = LiveLoop("camera", sessions([0], OSError("x"), [0]), SETTINGS, clock, rng=rng())
    items = collect(loop, 4)
    last = items[-1]
    assert isinstance(last, AudioBlock)
    assert last.start_ns == sum(round(pause * 1e9) for pause in clock.pauses)
    assert last.start_ns > 0


def test_time_never_goes_back_even_when_a_stream_ran_ahead() -> None:
    """After a stream gave ten seconds in a burst, no earlier media times follow."""
    loop = LiveLoop("camera", sessions([0, 10_000_000_000], [0]), SETTINGS, FakeClock(step_ns=0), rng=rng())
    items = [item for item in collect(loop, 5) if isinstance(item, AudioBlock)]
    assert [item.start_ns for item in items] == sorted(item.start_ns for item in items)


def test_a_source_that_never_opens_is_refused() -> None:
    """The first failure is raised to the user; a CaptureError of the session is passed on unchanged."""
    with pytest.raises(CaptureError, match="camera cannot be opened: nobody there"):
        list(LiveLoop("camera", sessions(OSError("nobody there")), SETTINGS, FakeClock(step_ns=0)).items())
    with pytest.raises(MissingModalityError, match="no sound"):
        list(LiveLoop("camera", sessions(MissingModalityError("no sound")), SETTINGS, FakeClock(step_ns=0)).items())


def test_a_source_that_opens_and_gives_nothing_is_refused() -> None:
    """A source that opens but gives nothing is an error, not a loss that is waited for."""

    def session(origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        origin()
        msg = "microphone 'x' gave nothing for 5 s"
        raise CaptureError(msg)
        yield

    with pytest.raises(CaptureError, match="gave nothing for 5 s"):
        collect(LiveLoop("camera", session, SETTINGS, FakeClock(step_ns=0)), 1)


def test_without_reconnecting_a_loss_is_final() -> None:
    """With capture.reconnect = false the run ends, after LOST, with an error that names the setting."""
    loop = LiveLoop("camera", sessions([0]), SETTINGS.model_copy(update={"reconnect": False}), FakeClock(step_ns=0))
    seen: list[object] = []

    def run() -> None:
        for item in plain(loop.items()):
            seen.append(item)  # noqa: PERF402 - extend() keeps nothing when it is interrupted

    with pytest.raises(CaptureError, match=r"capture\.reconnect"):
        run()
    assert seen[-1] is SourceState.LOST


@pytest.mark.slow
def test_a_session_that_gives_nothing_is_lost() -> None:
    """A source that still exists but gives no data is lost: only new data counts."""
    clock = FakeClock(step_ns=0)

    def session(origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        yield AudioBlock(start_ns=origin(), samples=BLOCK)
        clock.now_ns += 1_500_000_000
        stop.wait(10.0)

    loop = LiveLoop("camera", session, SETTINGS, clock, rng=rng())
    assert collect(loop, 2)[1] is SourceState.LOST


def test_closing_from_another_thread_ends_items_soon() -> None:
    """A session that blocks does not delay close()."""

    def session(origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        yield AudioBlock(start_ns=origin(), samples=BLOCK)
        stop.wait(10.0)

    loop = LiveLoop("camera", session, SETTINGS, FakeClock(step_ns=0))
    for _ in plain(loop.items()):
        start = time.monotonic()
        loop.close()
    assert time.monotonic() - start < 1.0


@pytest.mark.slow
def test_a_session_that_begins_slowly_gets_more_time_with_each_attempt() -> None:
    """A source comes back on a machine that is far too busy: after an attempt that gave nothing in time, the next one may take longer."""
    clock, opened = FakeClock(step_ns=0), list[int]()

    def session(origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        opened.append(clock.now_ns)
        clock.step_ns = 1_000_000_000 if len(opened) > 1 else 0  # each look at the clock takes a second
        while clock.now_ns < opened[-1] + 10_000_000_000 and len(opened) > 1:  # the process that decodes starts as slowly as this
            if stop.wait(0.01):
                return
        yield AudioBlock(start_ns=origin(), samples=BLOCK)

    items = collect(LiveLoop("camera", session, SETTINGS, clock, rng=rng()), 4)
    assert items[1:3] == [SourceState.LOST, SourceState.ONLINE]
    assert len(opened) == 4  # the patience was 4 s, 8 s and 16 s
