"""Turns scores of seconds into events: when each label begins, goes on and ends, and where it is.

Pure: it knows no clock, thread, broker or picture. Labels are independent of each other: several may be active at once.
"""

from __future__ import annotations

from streamav.tracker.identity import ulid
from streamav.tracker.lifecycle import TRANSITIONS, Happening, State
from streamav.tracker.options import LabelOptions, TrackerOptions
from streamav.tracker.place import locate
from streamav.tracker.tracking import Tracker

__all__ = ["TRANSITIONS", "Happening", "LabelOptions", "State", "Tracker", "TrackerOptions", "locate", "ulid"]
