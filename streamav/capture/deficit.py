"""Tells lost sound from late sound, and the drift of a sound card, by two clocks. Pure: times and counts in, verdicts out.

The deficit is the time that has passed minus the sound that has come. Status flags of the sound system stay empty when
samples are lost (measured), so the deficit in two clocks is what tells: the computer's monotonic clock when a block is
handed over, and the time at which the sound card says it took the block.

    deficit stays in both            loss      samples never come: silence takes their place and is counted
    stays in the monotonic clock     backlog   we are too slow
    goes back to zero                stall     late, nothing lost
    grows by less than 500 ppm       drift     the card's second is not the computer's second
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["DeficitMonitor", "SoundState", "Verdict"]

_SECOND_NS = 1_000_000_000
_ENVELOPE_NS = 10 * _SECOND_NS
_DRIFT_STEP_NS = 25_000_000
"""Time stamps follow the drift in steps of this size: just above the jitter that the later stages smooth over."""
_DRIFT_LIMIT = 500e-6
"""Sound cards are off by some 100 ppm at worst; what moves faster is no drift."""


class SoundState(StrEnum):
    """What is to be thought of the newest block."""

    FLOWING = "flowing"
    SUSPECT = "suspect"
    """There is a deficit in both clocks, not yet for long enough: hold the block."""
    LOSS = "loss"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one block tells."""

    state: SoundState
    shift_ns: int = 0
    """By how much this block, the held ones before it and all later ones move on the monotonic clock: lost sound, or drift."""


class DeficitMonitor:
    """Watches the blocks of one microphone stream.

    Source: the rule and the tolerance of two blocks were measured on PulseAudio's null sink with blocks of 100 ms;
    the card's time itself moves by a block.
    """

    def __init__(self, rate_hz: int, tolerance_s: float, *, confirm_s: float = 1.0) -> None:
        """Watch a stream of *rate_hz* samples a second; judge a deficit above *tolerance_s* after *confirm_s*."""
        self._rate = rate_hz
        self._tolerance_ns, self._confirm_ns = round(tolerance_s * _SECOND_NS), round(confirm_s * _SECOND_NS)
        self._first: tuple[int, int | None, int] | None = None  # monotonic time, card's time, samples of the first block
        self._received = 0
        self._shift_ns = 0
        self._suspect: deque[tuple[int, int]] = deque()  # time, deficit in both clocks
        self._late_since: int | None = None
        self._base: tuple[int, int] | None = None  # time, lower envelope that counts as no drift
        self._low: tuple[int, int] | None = None  # begin of the running window, its least deficit
        self.drift_ns: int | None = None
        """Drift that the time stamps do not follow yet, ns, positive when the card is slow; None before it was measured."""

    def push(self, samples: int, now_ns: int, card_ns: int | None) -> Verdict:
        """Take note of one block.

        Args:
            samples: length of the block.
            now_ns: monotonic time at which it was handed over.
            card_ns: when the card says it took the first sample, on any clock of steady pace; None where it does not say.
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
        self._low = self._base = None  # the rest of the deficit is a new zero for the drift
        return Verdict(SoundState.LOSS, lost)

    def _follow_drift(self, now_ns: int, deficit_ns: int) -> int:
        """Measure the drift by the least deficit of ten seconds, which no delay can make too small; give a step when it is due."""
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
