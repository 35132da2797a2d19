"""Reads the times that people write: ISO 8601, seconds since 1970, an age, a time of today, or a day.

A time without a zone is local. Where clocks go back, the earlier of two equal times is meant; where they go forward, a time that does not
exist is read by the offset before. It is pure, except for the zone of the machine.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from streamav.errors import SettingsError

__all__ = ["LONGEST_TIME", "read_time"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NAMES: Final = {"sec": "s", "secs": "s", "min": "m", "mins": "m", "hr": "h", "hrs": "h"}
_LONG_NAMES: Final = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w"}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")
_LAST_S: Final = 253_402_300_799.0
"""End of the year 9999, the last that ISO 8601 writes with four digits."""
LONGEST_TIME: Final = 64
"""Longest text that is read as a time, characters."""


def read_time(name: str, text: str | None, now_s: float) -> float | None:
    """Return a time as seconds since 1970; None for None.

    Args:
        name: of the option or parameter, for the message.
        text: what was given.
        now_s: seconds since 1970.

    Raises:
        SettingsError: when it is no time, or beyond the year 9999.
    """
    if text is None:
        return None
    found = _time(text.strip(), now_s) if len(text) <= LONGEST_TIME else None
    if found is None or abs(found) > _LAST_S:
        shown = ascii(text if len(text) <= LONGEST_TIME else text[:LONGEST_TIME] + "...")
        msg = (
            f"{name} must be a time like 2026-09-14T10:00Z, 10:30 (today), yesterday, seconds since 1970, or an age like 90m, 2h or 7d, "
            f"got {shown}"
        )
        raise SettingsError(msg)
    return found


def _time(text: str, now_s: float) -> float | None:
    age_s = _age(text.lower())
    if age_s is not None:
        return now_s - age_s
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) and not re.fullmatch(r"(19|20|21)[0-9]{6}", text):
        return float(text)  # eight digits are a date in the basic form of ISO 8601
    try:
        return _moment(text, datetime.fromtimestamp(now_s)).timestamp()  # noqa: DTZ006 - what people write is local
    except (ValueError, OverflowError, OSError):
        return None


def _age(text: str) -> float | None:
    """Return an age in seconds: 90m, 2h30m, 1.5 h, 90 minutes, -2h, 2 days ago; None for anything else."""
    body = text.removesuffix("ago").removeprefix("-").strip()
    if not body or _PART.sub("", body):
        return None
    total_s = 0.0
    for number, unit in _PART.findall(body):
        short = unit if unit in _UNITS else _NAMES.get(unit) or _LONG_NAMES.get(unit.removesuffix("s"))
        if short is None:
            return None
        total_s += float(number) * _UNITS[short]
    return total_s


def _moment(text: str, now: datetime) -> datetime:
    """Return a day or a time of it; *now* is local.

    Raises:
        ValueError: when it is neither.
    """
    word, _, rest = text.lower().partition(" ")
    if text.lower() == "now":
        return now
    if word in {"today", "yesterday"}:
        day = (now - timedelta(days=word == "yesterday")).date().isoformat()
        return datetime.fromisoformat(f"{day}T{rest.strip() or '00:00'}")
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
        return datetime.fromisoformat(f"{now.date().isoformat()}T{text.zfill(5 if text.count(':') == 1 else 8)}")
    named = re.sub(r"\s*(UTC|GMT)$", "Z", text.upper())
    return datetime.fromisoformat(
        re.sub(r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:?[0-9]{2})$", r"\1+\2", named)
    )  # a + of an address is a space
