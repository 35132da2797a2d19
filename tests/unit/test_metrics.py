"""Tests that the metrics are the documented ones, and that their number is bounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
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


def _telemetry() -> Telemetry:
    return Telemetry(frames_per_second=25.0, level_dbfs=-30.0, latency_s=0.1, skew_ms=0, realtime_factor=0.2, dropped_segments=0)
