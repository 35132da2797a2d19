"""Tests that the metrics are the documented ones, and that their number is bounded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.http_api import need_api
from rigs.live_page import observation
from rigs.published_events import MODEL, make_event

from streamav.publish.pending import MqttCounters
from streamav.types import EventPhase, SourceState, Telemetry

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(autouse=True)
def _web() -> None:
    need_api()


def exported(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each metric of ours by its name, as Prometheus reads the text."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("streamav_"):
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, frozenset(labels))
    return found


def test_the_table_of_metrics_is_what_a_run_exports() -> None:
    """The table in docs/operations.md names each metric with its type and labels, and no other."""
    from streamav.api.metrics import Metrics

    metrics = Metrics({"porch": ("bark",)}, lambda: MODEL, MqttCounters(), lambda: 0, lambda: None)
    metrics.observe("porch", observation(0))
    metrics.telemetry("porch", _telemetry())
    rows = re.findall(r"^\| `(streamav_\w+)` \| (\w+) \|([\w, ]*)\|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: (kind, frozenset(filter(None, labels.strip().split(", ")))) for name, kind, labels in rows}
    assert exported(metrics.text().decode()) == documented


def test_a_long_run_makes_no_more_series() -> None:
    """However many events come and go, and however often states change, the number of series stays the same."""
    from streamav.api.metrics import Metrics

    metrics = Metrics({"porch": ("bark", "cat")}, lambda: MODEL, MqttCounters(), lambda: 0, lambda: None)
    metrics.observe("porch", observation(0))
    metrics.telemetry("porch", _telemetry())
    before = metrics.text().count(b"streamav_")
    for number in range(1, 200):
        metrics.source_state("porch", list(SourceState)[number % 5])
        metrics.event(make_event(number))
        metrics.event(make_event(number, 2, EventPhase.END))
        metrics.observe("porch", observation(number))
    assert metrics.text().count(b"streamav_") == before
    assert b'streamav_events_total{label="bark",source="porch"} 199.0' in metrics.text()
    assert b"streamav_event_active 0.0" in metrics.text()


def test_silence_is_not_the_level_of_before() -> None:
    """A microphone that gives digital silence shows -Inf, below every alarm, and not the last level that it had."""
    from streamav.api.metrics import Metrics

    metrics = Metrics({"porch": ("bark",)}, lambda: MODEL, None, None, lambda: None)
    metrics.telemetry("porch", _telemetry())
    assert b'streamav_audio_rms_dbfs{source="porch"} -30.0' in metrics.text()
    metrics.telemetry("porch", _telemetry(None))
    assert b'streamav_audio_rms_dbfs{source="porch"} -Inf' in metrics.text()


def test_names_follow_the_rules_of_prometheus() -> None:
    """As `promtool check metrics` wants: help and type for each, _total for counters alone, base units, nothing in capital letters."""
    from prometheus_client.parser import text_string_to_metric_families

    from streamav.api.metrics import Metrics

    metrics = Metrics({"porch": ("bark",)}, lambda: MODEL, MqttCounters(), lambda: 0, lambda: None)
    metrics.observe("porch", observation(0))
    metrics.telemetry("porch", _telemetry())
    for family in text_string_to_metric_families(metrics.text().decode()):
        assert family.documentation, family.name
        assert family.type in {"counter", "gauge", "histogram"}, family.name
        assert family.name == family.name.lower()
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent|info_total|count|sum|bucket)$", family.name), family.name
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples), family.name


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 300)), max_size=40))
def test_counters_never_fall(steps: list[tuple[int, int, int]]) -> None:
    """Whatever happens in whatever order, also a source that starts again and counters of the broker that jump, no counter falls."""
    from streamav.api.metrics import Metrics

    counters = MqttCounters()
    metrics = Metrics({"porch": ("bark",)}, lambda: MODEL, counters, lambda: 0, lambda: None)
    before = _counts(metrics.text().decode())
    for what, choice, number in steps:
        if what == 0:
            metrics.source_state("porch", list(SourceState)[choice])
        elif what == 1:
            metrics.event(make_event(number, phase=EventPhase.END if choice % 2 else EventPhase.NEW))
        elif what == 2:
            metrics.observe("porch", replace(observation(number % 20), dropped_segments=number))
        elif what == 3:
            metrics.add_source("porch", ("bark", "cat"))
        else:
            counters.published, counters.failed, counters.dropped = number, choice, number // 2
        now = _counts(metrics.text().decode())
        assert {key: (value, now[key]) for key, value in before.items() if now[key] < value} == {}
        before = now


def _counts(text: str) -> dict[str, float]:
    rows = (line.rpartition(" ") for line in text.splitlines() if line.startswith("streamav_") and "_total" in line.partition("{")[0])
    return {name: float(value) for name, _, value in rows}


def _telemetry(level_dbfs: float | None = -30.0) -> Telemetry:
    return Telemetry(frames_per_second=25.0, level_dbfs=level_dbfs, latency_s=0.1, skew_ms=0, realtime_factor=0.2, dropped_segments=0)
