"""Tests of the journal: what is written is read, old content goes, damage is survived, and the questions of the command line."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.published_events import MODEL, SCORES, make_event, story, ulid

from streamav.cli import main
from streamav.config import JournalSettings
from streamav.evaluation.counting import runs_of_column
from streamav.journal import History, JournalSink, Surroundings, explain
from streamav.publish.message import describe
from streamav.rules import NO_RULES, Rules
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import EndReason, EventPhase, FinalScores

NS = 1_000_000_000


def scores_at(second: int, probability: float, *, label: str = "bark") -> FinalScores:
    return replace(SCORES, start_ns=second * NS, labels={label: probability})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The journal holds the last message of each event and the scores of each segment; a retracted event is not in it."""
    retracted = make_event(2, 2, EventPhase.END, confirmed=False, reason=EndReason.RETRACTED)
    told = [
        describe(event, MODEL, 0.1) for event in (*story(1, updates=1), make_event(2, confirmed=False), retracted, make_event(3, start_s=9))
    ]
    with History.writing(tmp_path / "j") as history:
        history.write(told, [("porch", SCORES), ("porch", scores_at(6, 0.5))])
        assert [(one["id"], one["type"]) for one in history.events()] == [(ulid(1), "end"), (ulid(3), "new")]
        assert history.events()[0] == json.loads(told[2].to_bytes())
        assert history.events(label="cat") == history.events(source="door") == history.events(until=1.0) == []
        start = history.events()[1]["start_ts"]
        assert isinstance(start, float)
        assert [one["id"] for one in history.events(since=start)] == [ulid(3)]
        history.write([], [("porch", replace(scores_at(8, 0.5), place=(0.0714, 0.5)))])
        assert history.scores("porch", 0.0, 1e11)[-1].place == pytest.approx((0.0714, 0.5), abs=1e-3)
        history._connection.execute("DELETE FROM scores WHERE media_ms = 8000")
        first, second = history.scores("porch", 0.0, 1e11)
        assert (first.start_ns, first.epoch_ns, first.level_dbfs) == (SCORES.start_ns, SCORES.epoch_ns, None)
        assert first.labels == pytest.approx(dict(SCORES.labels), abs=1e-3)
        assert second.labels == {"bark": 0.5}
        assert history.sources() == ["porch"]


def test_old_content_goes_by_age_and_by_size(tmp_path: Path) -> None:
    """What is older than the limit is removed; above the size the oldest scores go first, then the oldest events."""
    with History.writing(tmp_path / "j") as history:
        rows = [("porch", scores_at(second, 0.5)) for second in range(3000)]
        history.write([describe(make_event(number, start_s=number), MODEL, 0.1) for number in range(1, 50)], rows)
        begin = SCORES.epoch_ns / NS
        history.thin(begin + 1000.0, 10**9)
        assert len(history.scores("porch", 0.0, 1e11)) == 2000
        history.write([describe(make_event(99, start_s=2000), MODEL, 0.1)], [])
        before = history.used_bytes
        history.thin(0.0, before * 3 // 4)
        left = history.scores("porch", 0.0, 1e11)
        assert 0 < len(left) < 2000
        assert left[-1].start_ns == 2999 * NS
        assert ulid(99) in [one["id"] for one in history.events()]


@pytest.mark.parametrize("damage", [b"", b"no database at all, and longer than a header of one hundred bytes" * 20])
def test_a_damaged_journal_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes) -> None:
    """A damaged journal is set aside with a warning and a new one works; an empty file is a new journal."""
    path = tmp_path / "j.sqlite3"
    path.write_bytes(damage)
    with History.writing(path) as history:
        history.write([], [("porch", SCORES)])
        assert len(history.scores("porch", 0.0, 1e11)) == 1
    assert ("set aside" in caplog.text) == bool(damage)
    assert len(list(tmp_path.glob("j.damaged-*"))) == bool(damage)


async def test_the_sink_writes_and_never_stops_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events and scores of a run are in the journal after its end; without a folder one warning is logged and the loss is counted."""
    for folder, lost in ((tmp_path, 0), (Path("/proc/nothing"), 4)):
        sink = JournalSink(folder / "j", JournalSettings(), lambda: MODEL)
        await sink.start()
        for event in story(1, updates=1):
            sink.event(event, 0.1)
        sink.scores("porch", replace(SCORES, epoch_ns=time.time_ns()))
        await sink.close()
        assert sink.lost == lost
    assert sum("cannot be written" in record.message for record in caplog.records) == 1
    with History.writing(tmp_path / "j") as history:
        assert len(history.scores("porch", 0.0, 1e11)) == 1


async def test_two_processes_share_a_journal(tmp_path: Path) -> None:
    """Two runs write into one file at the same time, and nothing of either is lost."""
    sinks = [JournalSink(tmp_path / "j", JournalSettings(), lambda: MODEL) for _ in range(2)]
    now_ns = time.time_ns()
    for number, sink in enumerate(sinks):
        await sink.start()
        for second in range(200):
            sink.scores(f"s{number}", replace(SCORES, start_ns=second * NS, epoch_ns=now_ns))
    await asyncio.gather(*(sink.close() for sink in sinks))
    with History.writing(tmp_path / "j") as history:
        assert [len(history.scores(source, 0.0, 1e11)) for source in history.sources()] == [200, 200]


def test_a_journal_of_a_later_version_is_kept(tmp_path: Path) -> None:
    """A journal of an unknown version is set aside, not overwritten."""
    path = tmp_path / "j.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    History.writing(path).close()
    (aside,) = tmp_path.glob("j.damaged-*")
    kept = sqlite3.connect(aside)
    assert kept.execute("PRAGMA user_version").fetchone() == (7,)
    kept.close()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", '"label": "bark"'),
        ("csv", "id,source,label,start_time"),
        ("vtt", "00:00:05.000 --> 00:00:07.000"),
        ("audacity", "5.000\t7.000\tbark"),
        ("table", "1 event\n"),
    ],
)
def test_events_are_printed_in_each_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str, expected: str
) -> None:
    """`streamav events` prints the events of the journal; --since leaves out older ones; without a journal there are none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["events", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    with History.writing(tmp_path / "streamav" / "journal.sqlite3") as history:
        history.write([describe(event, MODEL, 0.1) for event in story(1, updates=0)], [])
    assert main(["events", "--format", form]) == 0
    assert expected in capsys.readouterr().out
    assert main(["events", "--json", "--since", "2099-01-01T00:00Z"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_question_that_finds_nothing_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer names what the question has wrong: the folder, the source, the label, the span. It stays an answer, status 0."""
    with History.writing(tmp_path / "journal.sqlite3") as history:
        history.write([describe(event, MODEL, 0.1) for event in story(1, updates=0)], [])
    asked = (
        (["--set", f"state_dir={tmp_path}/none"], "there is no journal at"),
        (["--source", "proch"], "no source 'proch'; it has porch"),
        (["--label", "brak"], "no event of the label 'brak'; it has bark"),
        (["--since", "now", "--until", "2h"], "--until is not after --since"),
        (["--since", "2099-01-01"], ""),
    )
    for more, says in asked:
        assert main(["events", "--set", f"state_dir={tmp_path}", *more]) == 0
        printed = capsys.readouterr()
        assert printed.out == "0 events\n"
        assert says in printed.err
        assert bool(says) is bool(printed.err)


def test_no_question_and_no_removal_reads_all_scores(tmp_path: Path) -> None:
    """A month of scores is a gigabyte: what a run does every ten minutes, and what people ask, finds its rows by the index."""
    with History.writing(tmp_path / "j") as history:
        history.write([describe(make_event(1), MODEL, 0.1)], [("porch", scores_at(second, 0.5)) for second in range(50)])
        said: list[str] = []
        history._connection.set_trace_callback(said.append)
        history.sources()
        history.scores("porch", 0.0, 1e11)
        history.thin(1.0, 10**9)
        history.thin(None, history.used_bytes - 1)
        history._connection.set_trace_callback(None)
        asked = [one for one in said if one.lstrip().startswith(("SELECT", "DELETE", "WITH"))]
        assert len(asked) >= 6
        for one in asked:
            plan = [row[3] for row in history._connection.execute(f"EXPLAIN QUERY PLAN {one}")]
            assert not any(step.startswith("SCAN scores") for step in plan), (one, plan)


def test_a_journal_that_a_killed_run_left_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands only in the write-ahead log of a run that was killed is found, also in a copy of both files."""
    with History.writing(tmp_path / "journal.sqlite3") as history:
        history.write([describe(event, MODEL, 0.1) for event in story(1, updates=0)], [("porch", SCORES)])
        copy = tmp_path / "copy"
        copy.mkdir()
        for ending in ("", "-wal"):
            content = (tmp_path / f"journal.sqlite3{ending}").read_bytes()
            assert content
            (copy / f"journal.sqlite3{ending}").write_bytes(content)
    assert main(["events", "--json", "--set", f"state_dir={copy}"]) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == [ulid(1)]
    with History.reading(copy / "journal.sqlite3") as history:
        assert len(history.scores("porch", 0.0, 1e11)) == 1


def test_a_question_makes_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asking where no run has written, perhaps as root, makes nothing that a later run could not write; explain says so."""
    assert main(["events", "--json", "--set", f"state_dir={tmp_path}/none"]) == 0
    assert main(["explain", "--at", "2h", "--set", f"state_dir={tmp_path}/none"]) == 2
    assert "there is no journal at" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_question_does_not_set_a_journal_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal of a newer version, perhaps of a run that goes on, stays where it is; the question says what it is."""
    path = tmp_path / "journal.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = path.read_bytes()
    for command in (["events"], ["explain", "--at", "2h"]):
        assert main([*command, "--set", f"state_dir={tmp_path}"]) == 2
        assert "version 7" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def bark(thresholds: Thresholds, rules: Rules = NO_RULES) -> list[LabelOptions]:
    return [LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=thresholds, rules=rules)]


RULE = bark(Thresholds(on=0.6, off=0.3, min_segments=2, gap_segments=1))


@pytest.mark.parametrize(
    ("second", "event", "rule"),
    [
        (0, False, "no_run"),
        (2, True, "on"),
        (3, True, "off"),
        (4, True, "gap"),
        (5, True, "on"),
        (7, False, "no_run"),
        (8, False, "min_segments"),
    ],
)
def test_the_rule_that_decided_is_named(second: int, event: bool, rule: str) -> None:
    """For each second the rule of the tracker is named: on, off, gap, min_segments, or that there was no run."""
    probabilities = (0.1, 0.7, 0.7, 0.4, 0.1, 0.8, 0.1, 0.1, 0.9, 0.1, 0.1)
    found = explain(
        [scores_at(n, value) for n, value in enumerate(probabilities)], second * NS + NS // 2, RULE, Surroundings(disabled=("cat",))
    )
    label = json.loads(json.dumps(found))["labels"][0]
    assert (found["event"], label["rule"]) == (event, rule)
    assert str(found["why"]).startswith("bark is an event" if event else "bark is no event")
    assert found["disabled"] == ["cat"]
    assert label["thresholds"] == {"on": 0.6, "off": 0.3, "min_segments": 2, "gap_segments": 1}


def test_a_second_without_scores_is_said() -> None:
    """A second that has no scores is no event, and the span of the scores is named."""
    found = explain([scores_at(n, 0.1) for n in range(3)], 9 * NS, RULE)
    assert found["event"] is False
    assert "from 0 s to 3 s" in str(found["why"])


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(st.sampled_from((0.0, 0.2, 0.35, 0.5, 0.65, 0.9)), min_size=1, max_size=25),
    least=st.integers(1, 4),
    gap=st.integers(0, 3),
)
def test_explanations_agree_with_the_events(values: list[float], least: int, gap: int) -> None:
    """A second is explained as an event exactly when it lies in a confirmed run, as evaluation counts them."""
    thresholds = Thresholds(on=0.6, off=0.3, min_segments=least, gap_segments=gap)
    scores = [scores_at(n, value) for n, value in enumerate(values)]
    runs = runs_of_column(np.array(values), 0.6, 0.3, gap)
    spans = zip(runs.start, runs.end, runs.held, strict=True)
    inside = {n for start, end, held in spans if held >= least for n in range(start, end)}
    for second in range(len(values)):
        assert explain(scores, second * NS, bark(thresholds))["event"] == (second in inside)


def test_a_journal_of_an_older_version_has_no_places(tmp_path: Path) -> None:
    """Scores that were written before places were kept are read, without a place."""
    with History.writing(tmp_path / "j") as history:
        history.write([], [("porch", scores_at(1, 0.5))])
        (numbers,) = history._connection.execute("SELECT numbers FROM scores").fetchone()
        history._connection.execute("UPDATE scores SET numbers = ?", (numbers[:-4],))
        (found,) = history.scores("porch", 0.0, 1e11)
        assert (found.labels, found.place) == ({"bark": 0.5}, None)
