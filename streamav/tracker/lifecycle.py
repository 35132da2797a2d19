"""What a label may do when, and which message tells of it: one table.

It knows no score and no message's content.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from streamav.types import EventPhase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "Happening", "State"]


class State(Enum):
    """What is published of a label."""

    NOTHING = "nothing"
    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"


class Happening(Enum):
    """What a second can bring to a label."""

    SEEN = "seen"
    """There is a run; too few of its seconds are final."""
    HELD = "held"
    """There is a run, and enough of its seconds are final."""
    FELL = "fell"
    """The seconds that were claimed are final and do not hold."""
    PASSED = "passed"
    """A run that held is over, and so is the longest pause."""
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
"""state -> what happens -> next state and kind of message; what is not listed cannot happen."""
