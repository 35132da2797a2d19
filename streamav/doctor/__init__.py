"""Checks whether a run would work: the machine, the source, the model with its engine, and the broker. Each finding has its remedy."""

from __future__ import annotations

from streamav.doctor.examination import examine
from streamav.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
