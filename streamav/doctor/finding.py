"""What one check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Verdict"]


class Verdict(StrEnum):
    """Whether a run would work."""

    OK = "ok"
    WARNING = "warning"
    """A run would work, but not all of it, or not for long."""
    ERROR = "error"
    """A run would not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str
    """What was checked."""
    verdict: Verdict
    found: str
    remedy: str = ""
    """What to do; empty when all is well."""
    exit_code: int = 1
    """Exit status that a run would end with; it counts only for an error."""


def ok(check: str, found: str) -> Finding:
    """Return a good finding."""
    return Finding(check=check, verdict=Verdict.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which a run would work."""
    return Finding(check=check, verdict=Verdict.WARNING, found=found, remedy=remedy)


def error(check: str, found: str, remedy: str, exit_code: int) -> Finding:
    """Return a finding with which a run would not work."""
    return Finding(check=check, verdict=Verdict.ERROR, found=found, remedy=remedy, exit_code=exit_code)
