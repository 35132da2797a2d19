"""Tests of the times that people write for --since, --until, --at and the parameters of the API."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.errors import SettingsError
from streamav.journal import read_time

NOW = datetime(2026, 9, 14, 10, 22, 31, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine stand in a zone with summer time: two hours ahead of UTC in September."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()


@pytest.fixture(autouse=True, scope="module")
def _zone_back() -> object:
    yield
    time.tzset()


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90m", NOW - 5400), ("2h", NOW - 7200), ("2H", NOW - 7200), ("7d", NOW - 7 * 86_400), ("1w", NOW - 7 * 86_400),
        ("2h30m", NOW - 9000), ("1.5 h", NOW - 5400), ("90 minutes", NOW - 5400), ("90min", NOW - 5400), ("2 days", NOW - 172_800),
        ("1 day ago", NOW - 86_400), ("2h ago", NOW - 7200), ("-2h", NOW - 7200), ("1d 12h", NOW - 129_600), ("3 hrs", NOW - 10_800),
        ("0", 0.0), ("1789381351", 1789381351.0), ("1789381351.5", 1789381351.5),
        ("now", NOW), (" now ", NOW),
        ("today", utc("2026-09-13 22:00")), ("yesterday", utc("2026-09-12 22:00")), ("yesterday 18:30", utc("2026-09-13 16:30")),
        ("Today 06:00", utc("2026-09-14 04:00")), ("10:30", utc("2026-09-14 08:30")), ("7:05", utc("2026-09-14 05:05")),
        ("06:00:30", utc("2026-09-14 04:00:30")),
        ("2026-09-14", utc("2026-09-13 22:00")), ("20260914", utc("2026-09-13 22:00")), ("20260914T100000Z", utc("2026-09-14 10:00")),
        ("2026-09-14T10:00Z", utc("2026-09-14 10:00")), ("2026-09-14t10:00z", utc("2026-09-14 10:00")),
        ("2026-09-14 10:00:00Z", utc("2026-09-14 10:00")), ("2026-09-14 10:00 UTC", utc("2026-09-14 10:00")),
        ("2026-09-14T10:00:00.250+02:00", utc("2026-09-14 08:00:00.250")), ("2026-09-14T10:00:00 02:00", utc("2026-09-14 08:00")),
        ("2026-09-14T10:00:00+0200", utc("2026-09-14 08:00")), ("2026-09-14 10:00", utc("2026-09-14 08:00")),
        ("2026-03-29T01:59", utc("2026-03-29 00:59")), ("2026-03-29T03:00", utc("2026-03-29 01:00")),
        ("2026-10-25T02:30", utc("2026-10-25 00:30")), ("2026-10-25T03:00", utc("2026-10-25 02:00")),
    ],
)  # fmt: skip
def test_what_people_write_is_read(written: str, meant: float) -> None:
    """Ages, days, times of today, ISO 8601 with and without a zone, around the change of summer time too."""
    assert read_time("--since", written, NOW) == pytest.approx(meant, abs=1e-6)


@pytest.mark.parametrize(
    "written",
    ["", " ", "tomorrowish", "2x", "h", "1 month", "2026-13-01", "2026-02-30", "25:00", "10:75", "nan", "inf", "1e3", "0x10", "ago",
     "- ago", "1789381351000", "9" * 40 + "d", "9" * 65, "٣h", "2h 10:00", "today 99:00", "yesterday now", "20261399", "--2h"],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_examples(written: str) -> None:
    """The message repeats what was given as ASCII and shows forms that work; milliseconds since 1970 are none."""
    with pytest.raises(SettingsError, match="2026-09-14T10:00Z") as refused:
        read_time("since", written, NOW)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@given(st.text(max_size=80))
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    """Whatever is written, it is a finite time within ten thousand years, or a SettingsError."""
    try:
        found = read_time("since", text, NOW)
    except SettingsError:
        return
    assert found is not None
    assert abs(found) < 253_402_300_800
