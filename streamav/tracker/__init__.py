"""Turns scores of segments into events: the onset, the updates and the offset of each label, and its place in the picture.

It is pure: it uses no clock, thread, broker or picture. Labels are independent of each other, so several may be active at once.
"""

from __future__ import annotations

from streamav.tracker.identity import ulid
from streamav.tracker.lifecycle import TRANSITIONS, Happening, State
from streamav.tracker.options import LabelOptions, TrackerOptions
from streamav.tracker.place import locate, strongest
from streamav.tracker.tracking import Tracker

__all__ = ["TRANSITIONS", "Happening", "LabelOptions", "State", "Tracker", "TrackerOptions", "locate", "strongest", "ulid"]
