"""Keeps what happened: the events of all runs and the scores of each segment, in one SQLite file, for later questions.

It does not publish and decides nothing about events.
"""

from __future__ import annotations

from streamav.journal.explain import Surroundings, explain
from streamav.journal.history import History, journal_path
from streamav.journal.inquiry import explain_moment
from streamav.journal.query import EventQuery
from streamav.journal.sink import JournalSink
from streamav.journal.times import read_time

__all__ = ["EventQuery", "History", "JournalSink", "Surroundings", "explain", "explain_moment", "journal_path", "read_time"]
