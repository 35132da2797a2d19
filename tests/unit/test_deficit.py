from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamav.capture.deficit import DeficitMonitor, SoundState, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RATE, BLOCK, SECOND = 48_000, 4_800, 1_000_000_000


def watch(
    blocks: Iterable[int], now_s: Callable[[int], float], card_s: Callable[[int], float] | None, *, monitor: DeficitMonitor | None = None
) -> list[Verdict]:
    """Feed blocks of 100 ms; *now_s* and *card_s* map the number of a block to the two clocks."""
    monitor = monitor or DeficitMonitor(RATE, 0.2)
    return [monitor.push(BLOCK, round(now_s(n) * SECOND), None if card_s is None else round(card_s(n) * SECOND)) for n in blocks]


def states(verdicts: list[Verdict]) -> set[SoundState]:
    return {verdict.state for verdict in verdicts}


def test_undisturbed_sound_flows() -> None:
    """Blocks that arrive on time, within a few ms, are never suspected."""
    verdicts = watch(range(600), lambda n: 0.1 * n + 0.005 * (n % 3), lambda n: 5 + 0.1 * n)
    assert states(verdicts) == {SoundState.FLOWING}
    assert sum(verdict.shift_ns for verdict in verdicts) == 0


def test_a_deficit_in_both_clocks_is_loss() -> None:
    """Two seconds missing in both clocks are lost; the blocks after them are held for a second, then moved by the loss."""

    def late(n: int) -> float:
        return 0.1 * n + (2.0 if n >= 20 else 0.0)

    verdicts = watch(range(60), late, late)
    assert {verdict.state for verdict in verdicts[20:30]} == {SoundState.SUSPECT}
    losses = [verdict.shift_ns for verdict in verdicts if verdict.state is SoundState.LOSS]
    assert losses == [2 * SECOND]
    assert states(verdicts[31:]) == {SoundState.FLOWING}


def test_a_burst_after_a_stall_is_no_loss() -> None:
    """Blocks that arrive late and all at once, with unbroken times of the card, leave no gap."""
    verdicts = watch(range(60), lambda n: max(0.1 * n, 4.0 if n >= 20 else 0.0), lambda n: 0.1 * n)
    assert SoundState.LOSS not in states(verdicts)
    assert SoundState.SUSPECT not in states(verdicts)


def test_lateness_in_the_monotonic_clock_alone_is_backlog() -> None:
    """If every block is fetched later than the one before, and the card's times are right, there is a backlog."""
    verdicts = watch(range(60), lambda n: 0.15 * n, lambda n: 0.1 * n)
    assert verdicts[-1].state is SoundState.BACKLOG
    assert SoundState.LOSS not in states(verdicts)


def test_without_a_card_clock_a_lasting_deficit_counts_as_loss() -> None:
    """Where the sound system gives no time, a lasting deficit counts as lost sound."""
    verdicts = watch(range(60), lambda n: 0.1 * n + (1.0 if n >= 20 else 0.0), None)
    assert [verdict.shift_ns for verdict in verdicts if verdict.state is SoundState.LOSS] == [SECOND]


@pytest.mark.parametrize("drift", [100e-6, -100e-6])
def test_drift_is_followed_in_steps_and_never_called_loss(drift: float) -> None:
    """An hour at 100 ppm is 0.36 s; the time stamps follow it to within 25 ms, and the rest is reported."""
    monitor = DeficitMonitor(RATE, 0.2)

    def pace(n: int) -> float:
        return 0.1 * n * (1.0 + drift)

    verdicts = watch(range(36_000), lambda n: pace(n) + 0.004 * (n % 5), pace, monitor=monitor)
    moved = sum(verdict.shift_ns for verdict in verdicts)
    assert states(verdicts) == {SoundState.FLOWING}
    assert moved / SECOND == pytest.approx(3_600 * drift, abs=0.03)
    assert monitor.drift_ns is not None
    assert abs(monitor.drift_ns) < 25_000_000
