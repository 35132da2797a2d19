"""Chooses how many frames of a second are looked at, so that the networks keep up with the world.

Pure: it is told what turns cost and what time it is; it knows no segment, source or clock.

    cost of a turn    = a x segments + f x frames                      s; a and f are learned from the turns
    load with k frames = live x (a + f k) + replays x (a + f F)        s of work in one s of the world

The load shall be at most 0.8: the rest is for capture, and for what no mean foresees.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from streamav.errors import ShapeError

__all__ = ["BudgetChange", "Demand", "FrameBudget", "TurnCost"]

LIMIT = 0.8
"""Greatest load that is planned for."""
RAISE_LIMIT = 0.75
"""Greatest load that is planned for when more frames are to be looked at: below LIMIT, so that noise does not take them away again."""
CATCH_UP = 0.5
"""Greatest load that is planned for while seconds wait: they are worked off as fast as new ones come."""
HOLD_S = 10.0
"""So long must everything be well before more frames are looked at; doubled each time that was too early, up to MOST_HOLD_S."""
MOST_HOLD_S = 320.0
TRIAL_S = 60.0
"""Frames that are taken away within this time after they were given were given too early."""
_LEVELS = (1, 2, 4, 8, 16, 32)
_FIRST_SECONDS = 2
"""So many turns of each source are measured before frames are taken away, unless seconds wait already: one may be an accident."""

# How the cost is followed (our choices; shares of the cost itself)
_FIXED_SHARE = 0.1
"""What is believed of `a` before frames have ever changed."""
_SHARE_DOUBT = 0.3
_NOISE = 0.2
_SPEED_DRIFT = 0.03
"""How much the speed of a machine is believed to change in a second of the world; it grows with the root of time."""
_BEHIND_DRIFT = 0.5
"""The same while seconds wait: then what is believed is wrong."""
_SHARE_DRIFT = 0.01
_MOST_SURPRISE = 3.0
"""A single turn changes what is believed by no more than if it had been off by so many standard deviations, unless seconds wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the world asks of the machine in one second."""

    live: int
    """Sources of which fewer frames may be looked at."""
    replays: int = 0
    """Sources at the world's pace of which all frames are looked at."""
    behind: bool = False
    """True when seconds of a live source wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChange:
    """A decision, with the numbers that led to it."""

    before: int
    after: int
    load_before: float
    """Load that was foreseen with the frames of before."""
    load: float
    """Load that is foreseen now."""


class TurnCost:
    """Follows a and f by a Kalman filter of two states.

    With one number of frames only their sum can be seen. So a change of the cost is then taken for one of the machine's
    speed, which scales both, and the first turn with another number of frames tells them apart.
    """

    def __init__(self) -> None:
        """Begin without knowing anything."""
        self.segment_s = 0.0
        """a: seconds of work for a segment, whatever its frames."""
        self.frame_s = 0.0
        """f: seconds of work for a frame."""
        self.turns = 0
        self._doubt = (0.0, 0.0, 0.0)  # variances of a and f, and between them their covariance: (aa, af, ff)
        self._mean_frames = 1.0

    def learn(self, cost_s: float, segments: int, frames: int, *, share: float = 1.0, trust: bool = False) -> None:
        """Take what a turn cost.

        Args:
            cost_s: above 0.
            segments: at least 1.
            frames: at least 1, of all segments together.
            share: of a second of the world that passed since the turn before.
            trust: believe a surprise at once.
        """
        self.turns += 1
        self._mean_frames = frames / segments
        expected_s = self.segment_s * segments + self.frame_s * frames
        if expected_s <= 0.0:
            second_s = cost_s / segments
            self.segment_s = _FIXED_SHARE * second_s
            self.frame_s = (1.0 - _FIXED_SHARE) * second_s / self._mean_frames
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

    def second_s(self, frames: int) -> float:
        """Give the work for one second of one source with so many frames, s."""
        return self.segment_s + self.frame_s * frames

    def _widen(self, speed: float, share: float) -> None:
        """Add doubt: of the speed, along (a, f), and of a's share, along (1, -1 / frames) times the cost of a second."""
        second_s = self.segment_s + self.frame_s * self._mean_frames
        aa, af, ff = self._doubt
        step_a, step_f = speed * self.segment_s, speed * self.frame_s
        aa, af, ff = aa + step_a**2, af + step_a * step_f, ff + step_f**2
        if aa < (_SHARE_DOUBT * second_s) ** 2:
            step_a, step_f = share * second_s, -share * second_s / self._mean_frames
            aa, af, ff = aa + step_a**2, af + step_a * step_f, ff + step_f**2
        self._doubt = (aa, af, ff)


class FrameBudget:
    """Says how many frames of each live second are looked at: the same for every source, so none pays for another."""

    def __init__(self, most: int) -> None:
        """Begin with all frames.

        Args:
            most: F, frames of a segment.

        Raises:
            ShapeError: when it is below 1.
        """
        if most < 1:
            msg = f"the frames of a segment must be at least 1, got {most}"
            raise ShapeError(msg)
        self.levels = (*(level for level in _LEVELS if level < most), most)
        """What may be chosen, ascending."""
        self.frames = most
        """What is chosen."""
        self.cost = TurnCost()
        self._behind = False
        self._sources = 1
        self._hold_s = HOLD_S
        self._raised_s: float | None = None
        self._well_since_s: float | None = None

    def spent(self, cost_s: float, segments: int, frames: int) -> None:
        """Take what a turn cost; see TurnCost.learn()."""
        if cost_s > 0.0 and segments > 0 and frames > 0:
            self.cost.learn(cost_s, segments, frames, share=min(1.0, segments / self._sources), trust=self._behind)

    def load(self, frames: int, demand: Demand) -> float:
        """Give the seconds of work that a second of the world brings when so many frames are looked at."""
        return demand.live * self.cost.second_s(frames) + demand.replays * self.cost.second_s(self.levels[-1])

    def choose(self, demand: Demand, now_s: float) -> BudgetChange | None:
        """Choose anew: fewer frames at once, more only after a while; None when nothing changes."""
        self._behind, self._sources = demand.behind, max(1, demand.live + demand.replays)
        if self.cost.turns == 0 or demand.live == 0:
            return None
        limit = CATCH_UP if demand.behind else LIMIT
        fitting = max((level for level in self.levels if self.load(level, demand) <= limit), default=self.levels[0])
        if fitting < self.frames:
            self._well_since_s = None
            return self._lower(fitting, demand, now_s) if demand.behind or self.cost.turns >= _FIRST_SECONDS * self._sources else None
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
