"""Reads the parameters of a request; they may be anything. An error says what must be, what was given, and what to do.

It is pure.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Final

from streamav.config import SOURCE_ID_PATTERN
from streamav.errors import SettingsError
from streamav.journal import EventQuery, read_time
from streamav.slugs import SLUG_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CURSOR_PATTERN", "MOST_EVENTS", "USUAL_EVENTS", "cursor", "event_query", "moment", "single"]

MOST_EVENTS: Final = 1000
"""Most events of one answer (our choice)."""
USUAL_EVENTS: Final = 100
"""Events of one answer where the request names no limit (our choice)."""
_EVENT_PARAMETERS: Final = ("since", "until", "source", "label", "limit", "after", "order")
_LABEL: Final = re.compile(rf"[a-z0-9_]{{1,{SLUG_SIZE}}}")
_SOURCE: Final = re.compile(SOURCE_ID_PATTERN)
CURSOR_PATTERN: Final = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)_([0-9A-HJKMNP-TV-Z]{26})"
"""Start of an event (UTC, seconds since 1970) and its id."""
_CURSOR: Final = re.compile(CURSOR_PATTERN)
_LONGEST_SHOWN: Final = 60


def single(parameters: Sequence[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    """Return the parameters by name.

    Raises:
        SettingsError: when one is unknown, or is given twice.
    """
    found: dict[str, str] = {}
    for name, value in parameters:
        if name not in known:
            near = difflib.get_close_matches(name[:_LONGEST_SHOWN], known, n=1, cutoff=0.0)
            offer = f"the nearest is {near[0]}; known are {', '.join(known)}" if near else "it must have none"
            msg = f"unknown parameter {_shown(name)}: {offer}"
            raise SettingsError(msg)
        if name in found:
            msg = f"{name} must be given once, got it twice; ask once for each value"
            raise SettingsError(msg)
        found[name] = value
    return found


def event_query(parameters: Sequence[tuple[str, str]], now_s: float) -> EventQuery:
    """Return which events a request asks for.

    Raises:
        SettingsError: when a parameter is unknown or wrong.
    """
    given = single(parameters, _EVENT_PARAMETERS)
    return EventQuery(
        since=read_time("since", given.get("since"), now_s) or 0.0,
        until=read_time("until", given.get("until"), now_s),
        source=_matching(given, "source", _SOURCE, "the id of a source"),
        label=_matching(given, "label", _LABEL, "the slug of a label"),
        limit=_limit(given.get("limit")),
        after=_after(given.get("after")),
        newest_first=_newest_first(given.get("order")),
    )


def moment(parameters: Sequence[tuple[str, str]], sources: Sequence[str], now_s: float) -> tuple[str, float]:
    """Return the source and the time (UTC, seconds since 1970) that a request wants to have explained.

    Raises:
        SettingsError: when a parameter is unknown, missing or wrong.
    """
    given: Mapping[str, str] = single(parameters, ("at", "source"))
    at_s = read_time("at", given.get("at"), now_s)
    if at_s is None or not math.isfinite(at_s):
        msg = "at must name the second: a time like 2026-09-14T10:00:07Z, seconds since 1970, or an age like 90s; got none"
        raise SettingsError(msg)
    source = given.get("source")
    if source is None and len(sources) == 1:
        return sources[0], at_s
    if source is None or source not in sources:
        got = "none" if source is None else _shown(source)
        msg = f"source must be one of the sources of this run ({', '.join(sources)}), got {got}"
        raise SettingsError(msg)
    return source, at_s


def cursor(event: Mapping[str, object]) -> str:
    """Return the text that asks for the events behind *event*, for the parameter `after`."""
    return f"{event['start_ts']}_{event['id']}"


def _matching(given: Mapping[str, str], name: str, pattern: re.Pattern[str], what: str) -> str | None:
    value = given.get(name)
    if value is not None and pattern.fullmatch(value) is None:
        msg = f"{name} must be {what} ({pattern.pattern.strip('^$')}), got {_shown(value)}"
        raise SettingsError(msg)
    return value


def _limit(text: str | None) -> int:
    if text is None:
        return USUAL_EVENTS
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= MOST_EVENTS:
        msg = f"limit must be 1 to {MOST_EVENTS}, got {_shown(text)}; ask for further events with the value of next as after"
        raise SettingsError(msg)
    return int(text)


def _after(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        msg = f"after must be the value of next in an earlier answer, got {_shown(text)}"
        raise SettingsError(msg)
    return float(found[1]), found[2]


def _newest_first(text: str | None) -> bool:
    if text not in {None, "oldest", "newest"}:
        msg = f"order must be oldest (first) or newest (first), got {_shown(str(text))}"
        raise SettingsError(msg)
    return text == "newest"


def _shown(text: str) -> str:
    """Return what was given, as ASCII without control characters, and not long."""
    return ascii(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!a}... of {len(text)} characters"
