"""The state machine of one label as one table: which change may happen in which state, and which message reports it.

It uses no scores and builds no messages.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from streamav.types import EventPhase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "Happening", "State"]


class State(Enum):
    """Which event of a label is open."""

    NOTHING = "nothing"
    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"


class Happening(Enum):
    """What can happen to a label when a segment arrives."""

    SEEN = "seen"
    """There is a run, but fewer than `min_segments` of its segments at or above `on` are final."""
    HELD = "held"
    """There is a run, and `min_segments` of its segments at or above `on` are final."""
    FELL = "fell"
    """The segments that the open event claimed are final and do not confirm it."""
    PASSED = "passed"
    """A confirmed run is over: the pause after it is longer than `gap_segments`."""
    STOPPED = "stopped"
    """The source stops while there is a run."""


TRANSITIONS: Final[Mapping[State, Mapping[Happening, tuple[State, EventPhase]]]] = {
    State.NOTHING: {
        Happening.SEEN: (State.PROVISIONAL, EventPhase.NEW),
        Happening.HELD: (State.CONFIRMED, EventPhase.NEW),
    },
    State.PROVISIONAL: {
        Happening.SEEN: (State.PROVISIONAL, EventPhase.UPDATE),
        Happening.HELD: (State.CONFIRMED, EventPhase.UPDATE),
        Happening.FELL: (State.NOTHING, EventPhase.END),
        Happening.PASSED: (State.NOTHING, EventPhase.END),
        Happening.STOPPED: (State.NOTHING, EventPhase.END),
    },
    State.CONFIRMED: {
        Happening.HELD: (State.CONFIRMED, EventPhase.UPDATE),
        Happening.PASSED: (State.NOTHING, EventPhase.END),
        Happening.STOPPED: (State.NOTHING, EventPhase.END),
    },
}
"""state -> what happens -> next state and kind of message; a combination that is not listed cannot happen."""
