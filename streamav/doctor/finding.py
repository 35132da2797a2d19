"""What one check found, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamav.errors import StreamavError

__all__ = ["Finding", "Verdict"]

_TO_DO: Final = re.compile(r"; |: (?=check |set |ask |allow |if )|\. (?=`)")
"""Text in our error messages between what was got and what to do."""


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


def refused(check: str, exc: StreamavError, remedy: str) -> Finding:
    """Return a finding with which a run would not work, from the error that the run would end with.

    Args:
        check: what was checked.
        exc: the error; what its message says to do becomes the remedy.
        remedy: what to do where the message does not say it.
    """
    found, told = divided(str(exc))
    return error(check, found, told or remedy, exc.exit_code)


def divided(message: str) -> tuple[str, str]:
    """Return what an error message says that was got, and what it says to do, which is empty where it does not."""
    found, *told = _TO_DO.split(message, maxsplit=1)
    return found, told[0] if told else ""
