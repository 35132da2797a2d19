"""Records a run as a folder and runs it again: what the run saw and heard, when it arrived, and what it read from the clocks.

    DIR/session.json         what ran: version, model, settings without secrets, sources
    DIR/turns.jsonl          what each turn took from which source, and what it read from the clocks
    DIR/events.jsonl         the messages of the run
    DIR/SOURCE/items.jsonl   every block of sound, picture and change of state: time stamp, arrival, checksum
    DIR/SOURCE/media.nut     the sound and the pictures, without loss, at the size of the model

Each file is only appended to, so a recording that was cut off is complete up to the cut.
"""

from __future__ import annotations

from streamav.session.compare import Difference, compare_events
from streamav.session.folder import SessionCard, SourceCard, is_session, read_card, read_turns
from streamav.session.recorder import Recorder
from streamav.session.replayed import ReplayedSource
from streamav.session.transcript import Transcript

__all__ = [
    "Difference",
    "Recorder",
    "ReplayedSource",
    "SessionCard",
    "SourceCard",
    "Transcript",
    "compare_events",
    "is_session",
    "read_card",
    "read_turns",
]
