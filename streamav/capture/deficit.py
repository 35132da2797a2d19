"""Separates lost sound from late sound, and measures the drift of a sound card, with two clocks.

Pure: it takes times and counts and returns verdicts. The deficit is the time that has passed minus the sound that has arrived. Status
flags of the sound system stay empty when samples are lost (measured), so the deficit is measured on two clocks: the computer's
monotonic clock when a block is handed over, and the time at which, by the sound card, the block was taken.

    deficit stays in both            loss      samples never arrive: silence replaces them and is counted
    stays in the monotonic clock     backlog   the program is too slow
    goes back to zero                stall     sound is late, nothing is lost
    grows by less than 500 ppm       drift     the card's clock and the computer's clock differ in rate
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["DeficitMonitor", "SoundState", "Verdict"]

_SECOND_NS = 1_000_000_000
_ENVELOPE_NS = 10 * _SECOND_NS
_DRIFT_STEP_NS = 25_000_000
"""Time stamps follow the drift in steps of this size: just above the jitter that the later stages tolerate."""
_DRIFT_LIMIT = 500e-6
"""Sound cards are off by about 100 ppm at worst; a faster change is not drift."""


class SoundState(StrEnum):
    """State of the sound at the newest block."""

    FLOWING = "flowing"
    SUSPECT = "suspect"
    """There is a deficit in both clocks, but not long enough to judge: hold the block."""
    LOSS = "loss"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result for one block."""

    state: SoundState
    shift_ns: int = 0
    """How far this block, the held blocks before it and all later ones move on the monotonic clock, ns; due to lost sound or drift."""


class DeficitMonitor:
    """Monitors the blocks of one microphone stream.

    Source: the rule and the tolerance of two blocks were measured on PulseAudio's null sink with blocks of 100 ms;
    the card's own time varies by one block.
    """

    def __init__(self, rate_hz: int, tolerance_s: float, *, confirm_s: float = 1.0) -> None:
        """Set up for *rate_hz* samples a second; a deficit above *tolerance_s* is judged after *confirm_s*."""
        self._rate = rate_hz
        self._tolerance_ns, self._confirm_ns = round(tolerance_s * _SECOND_NS), round(confirm_s * _SECOND_NS)
        self._first: tuple[int, int | None, int] | None = None  # monotonic time, card's time, samples of the first block
        self._received = 0
        self._shift_ns = 0
        self._suspect: deque[tuple[int, int]] = deque()  # time, deficit in both clocks
        self._late_since: int | None = None
        self._base: tuple[int, int] | None = None  # time, least deficit that counts as zero drift
        self._low: tuple[int, int] | None = None  # start of the running window, its least deficit
        self.drift_ns: int | None = None
        """Drift that the time stamps do not follow yet, ns, positive when the card is slow; None before it is measured."""

    def push(self, samples: int, now_ns: int, card_ns: int | None) -> Verdict:
        """Record one block and judge it.

        Args:
            samples: length of the block.
            now_ns: monotonic time at which it was handed over.
            card_ns: time of its first sample by the sound card, on any clock of constant rate; None where the card gives none.
        """
        if self._first is None:
            self._first = (now_ns, card_ns, samples)
        first_ns, first_card_ns, first_samples = self._first
        before = self._received
        self._received += samples
        monotonic = now_ns - first_ns - (self._received - first_samples) * _SECOND_NS // self._rate - self._shift_ns
        card = monotonic
        if card_ns is not None and first_card_ns is not None:
            card = card_ns - first_card_ns - before * _SECOND_NS // self._rate - self._shift_ns
        both = min(monotonic, card)
        if both > self._tolerance_ns:
            return self._judge_loss(now_ns, both)
        self._suspect.clear()
        if monotonic > self._tolerance_ns:
            self._late_since = now_ns if self._late_since is None else self._late_since
            return Verdict(SoundState.BACKLOG if now_ns - self._late_since >= self._confirm_ns else SoundState.FLOWING)
        self._late_since = None
        return Verdict(SoundState.FLOWING, self._follow_drift(now_ns, monotonic))

    def _judge_loss(self, now_ns: int, both_ns: int) -> Verdict:
        self._suspect.append((now_ns, both_ns))
        if now_ns - self._suspect[0][0] < self._confirm_ns:
            return Verdict(SoundState.SUSPECT)
        lost = min(deficit for _, deficit in self._suspect)
        self._suspect.clear()
        self._shift_ns += lost
        self._low = self._base = None  # the remaining deficit is the new zero of the drift
        return Verdict(SoundState.LOSS, lost)

    def _follow_drift(self, now_ns: int, deficit_ns: int) -> int:
        """Measure the drift by the least deficit of ten seconds, which no delay can make too small; return a step when one is due."""
        if self._low is None:
            self._low = (now_ns, deficit_ns)
        started, least = self._low
        self._low = (started, min(least, deficit_ns))
        if now_ns - started < _ENVELOPE_NS:
            return 0
        least, self._low = self._low[1], None
        if self._base is None:
            self._base = (now_ns, least)
        since, base = self._base
        self.drift_ns = least - base
        if abs(self.drift_ns) < _DRIFT_STEP_NS:
            return 0
        step = self.drift_ns
        if abs(step) > _DRIFT_LIMIT * (now_ns - since):
            self._base = (now_ns, least)
            step = 0
        else:
            self._base = (now_ns, base)
        self._shift_ns += step
        self.drift_ns = 0
        return step
