"""Chooses how many frames of a segment the networks process, so that they keep up with live sources.

Pure: it takes the cost of turns and the time; it uses no segment, source or clock.

    cost of a turn     = a x segments + f x frames                     s; a and f are learned from the turns
    load with k frames = live x (a + f k) + replays x (a + f F)        s of work in one second

The load should be at most 0.8. The rest is for capture, and for work that a mean does not predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from streamav.errors import ShapeError

__all__ = ["BudgetChange", "Demand", "FrameBudget", "TurnCost"]

LIMIT = 0.8
"""Largest planned load."""
RAISE_LIMIT = 0.75
"""Largest planned load when frames are added. It is below LIMIT, so that noise does not take the frames away again."""
CATCH_UP = 0.5
"""Largest planned load while segments wait in a queue. Half of the time is then left to work them off."""
HOLD_S = 10.0
"""Frames are added after the load was low for this time, s. It is doubled each time that was too early, up to MOST_HOLD_S."""
MOST_HOLD_S = 320.0
"""Longest such time, s."""
TRIAL_S = 60.0
"""If frames are taken away within this time after they were added, they were added too early, s."""
_LEVELS = (1, 2, 4, 8, 16, 32)
_FIRST_TURNS = 2
"""Turns of each source that are measured before frames are taken away, as a single turn may be an outlier. Not used while segments wait."""

# How the cost is estimated (our choices; shares of the cost itself)
_FIXED_SHARE = 0.1
"""First estimate of `a`, before the number of frames has ever changed."""
_SHARE_DOUBT = 0.3
_NOISE = 0.2
_SPEED_DRIFT = 0.03
"""How much the speed of the machine may change in one second; the doubt grows with the root of time."""
_BEHIND_DRIFT = 0.5
"""The same while segments wait, because then the estimate is wrong."""
_SHARE_DRIFT = 0.01
_MOST_SURPRISE = 3.0
"""A turn changes the estimate at most as if it had been off by this many standard deviations, unless segments wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Work that the sources demand of the machine in one second."""

    live: int
    """Live sources, of which fewer frames may be processed."""
    replays: int = 0
    """Sources that play at real-time pace and of which all frames are processed."""
    behind: bool = False
    """True when segments of a live source wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChange:
    """A decision and the numbers behind it."""

    before: int
    after: int
    load_before: float
    """Predicted load with the frames before the change."""
    load: float
    """Predicted load with the frames after the change."""


class TurnCost:
    """Estimates a and f with a Kalman filter of two states.

    While the number of frames is constant, only their sum can be observed. A change of the cost is then treated as a change of the
    machine's speed, which scales both. The first turn with another number of frames separates them.
    """

    def __init__(self) -> None:
        """Start without an estimate."""
        self.segment_s = 0.0
        """a: seconds of work for a segment, independent of its frames."""
        self.frame_s = 0.0
        """f: seconds of work for a frame."""
        self.turns = 0
        self._doubt = (0.0, 0.0, 0.0)  # variances of a and f, and between them their covariance: (aa, af, ff)
        self._mean_frames = 1.0

    def learn(self, cost_s: float, segments: int, frames: int, *, share: float = 1.0, trust: bool = False) -> None:
        """Update the estimate with the cost of one turn.

        Args:
            cost_s: cost of the turn, s, above 0.
            segments: segments of the turn, at least 1.
            frames: frames of all its segments together, at least 1.
            share: time since the turn before, as a share of one second.
            trust: True accepts a large deviation at once.
        """
        self.turns += 1
        self._mean_frames = frames / segments
        expected_s = self.segment_s * segments + self.frame_s * frames
        if expected_s <= 0.0:
            each_s = cost_s / segments
            self.segment_s = _FIXED_SHARE * each_s
            self.frame_s = (1.0 - _FIXED_SHARE) * each_s / self._mean_frames
            self._doubt = (0.0, 0.0, 0.0)
            self._widen(_NOISE, _SHARE_DOUBT)
            return
        self._widen(_BEHIND_DRIFT if trust else _SPEED_DRIFT * sqrt(share), _SHARE_DRIFT)
        aa, af, ff = self._doubt
        along_a, along_f = aa * segments + af * frames, af * segments + ff * frames
        spread = along_a * segments + along_f * frames + (_NOISE * expected_s) ** 2
        most = _MOST_SURPRISE * sqrt(spread)
        off = cost_s - expected_s if trust else max(-most, min(most, cost_s - expected_s))
        gain_a, gain_f = along_a / spread, along_f / spread
        self.segment_s = max(0.0, self.segment_s + gain_a * off)
        self.frame_s = max(0.0, self.frame_s + gain_f * off)
        self._doubt = (aa - gain_a * along_a, af - gain_a * along_f, ff - gain_f * along_f)

    def work_s(self, frames: int) -> float:
        """Return the work for one segment with *frames* frames, s."""
        return self.segment_s + self.frame_s * frames

    def _widen(self, speed: float, share: float) -> None:
        """Add doubt: of the speed, along (a, f), and of a's share, along (1, -1 / frames) times the cost of a segment."""
        each_s = self.segment_s + self.frame_s * self._mean_frames
        aa, af, ff = self._doubt
        step_a, step_f = speed * self.segment_s, speed * self.frame_s
        aa, af, ff = aa + step_a**2, af + step_a * step_f, ff + step_f**2
        if aa < (_SHARE_DOUBT * each_s) ** 2:
            step_a, step_f = share * each_s, -share * each_s / self._mean_frames
            aa, af, ff = aa + step_a**2, af + step_a * step_f, ff + step_f**2
        self._doubt = (aa, af, ff)


class FrameBudget:
    """Chooses how many frames of each live segment are processed. The number is the same for every source, which is fair to all."""

    def __init__(self, most: int) -> None:
        """Start with all frames.

        Args:
            most: F, frames of a segment.

        Raises:
            ShapeError: when it is below 1.
        """
        if most < 1:
            msg = f"the frames of a segment must be at least 1, got {most}"
            raise ShapeError(msg)
        self.levels = (*(level for level in _LEVELS if level < most), most)
        """Numbers of frames that may be chosen, ascending."""
        self.frames = most
        """Number of frames that is chosen."""
        self.cost = TurnCost()
        self._behind = False
        self._sources = 1
        self._hold_s = HOLD_S
        self._raised_s: float | None = None
        self._well_since_s: float | None = None

    def spent(self, cost_s: float, segments: int, frames: int) -> None:
        """Record the cost of a turn; see TurnCost.learn()."""
        if cost_s > 0.0 and segments > 0 and frames > 0:
            self.cost.learn(cost_s, segments, frames, share=min(1.0, segments / self._sources), trust=self._behind)

    def load(self, frames: int, demand: Demand) -> float:
        """Return the predicted load, seconds of work in one second, with *frames* frames of each live segment."""
        return demand.live * self.cost.work_s(frames) + demand.replays * self.cost.work_s(self.levels[-1])

    def choose(self, demand: Demand, now_s: float) -> BudgetChange | None:
        """Choose again: fewer frames at once, more frames only after a while. Return None when nothing changes."""
        self._behind, self._sources = demand.behind, max(1, demand.live + demand.replays)
        if self.cost.turns == 0 or demand.live == 0:
            return None
        limit = CATCH_UP if demand.behind else LIMIT
        fitting = max((level for level in self.levels if self.load(level, demand) <= limit), default=self.levels[0])
        if fitting < self.frames:
            self._well_since_s = None
            return self._lower(fitting, demand, now_s) if demand.behind or self.cost.turns >= _FIRST_TURNS * self._sources else None
        above = next((level for level in self.levels if level > self.frames), None)
        if above is None or demand.behind or self.load(above, demand) > RAISE_LIMIT:
            self._well_since_s = None
            return None
        if self._well_since_s is None:
            self._well_since_s = now_s
        if now_s - self._well_since_s < self._hold_s:
            return None
        self._well_since_s, self._raised_s = None, now_s
        return self._change(above, demand)

    def _lower(self, frames: int, demand: Demand, now_s: float) -> BudgetChange:
        too_early = self._raised_s is not None and now_s - self._raised_s < TRIAL_S
        self._hold_s = min(2.0 * self._hold_s, MOST_HOLD_S) if too_early else HOLD_S
        self._raised_s = None
        return self._change(frames, demand)

    def _change(self, frames: int, demand: Demand) -> BudgetChange:
        before, self.frames = self.frames, frames
        return BudgetChange(before=before, after=frames, load_before=self.load(before, demand), load=self.load(frames, demand))
