"""Keeps what happened: the events of all runs and the scores of each segment, in one SQLite file, for later questions.

It does not publish and decides nothing about events.
"""

from __future__ import annotations

from streamav.journal.explain import Surroundings, explain
from streamav.journal.history import History, journal_path
from streamav.journal.sink import JournalSink

__all__ = ["History", "JournalSink", "Surroundings", "explain", "journal_path"]
