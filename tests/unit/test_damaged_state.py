"""Tests of files in the state folder that are damaged anywhere: runs go on, what can be read is kept, and what is set aside is said."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rigs.closed_connections import connections_are_closed  # noqa: F401 - a fixture for every test here
from rigs.damage import damaged_copies
from rigs.published_events import MODEL, SCORES, make_event, ulid

from streamav.cli import main
from streamav.config import JournalSettings
from streamav.control import KeptChanges
from streamav.database import set_aside
from streamav.journal import EventQuery, History, JournalSink
from streamav.publish.message import EventMessage, describe
from streamav.publish.outbox import Parcel
from streamav.publish.store import Saved, Store
from streamav.types import FinalScores

NS = 1_000_000_000


def message(number: int) -> EventMessage:
    return describe(make_event(number, start_s=number), MODEL, 0.1)


def parcel(number: int) -> Parcel:
    told = message(number)
    return Parcel(event_id=told.id, topic="streamav/porch/event", payload=told.to_bytes(), message=told, number=number)


def scores(count: int, first: int = 0) -> list[tuple[str, FinalScores]]:
    now_ns = time.time_ns() - count * NS
    return [("porch", replace(SCORES, start_ns=(first + second) * NS, epoch_ns=now_ns)) for second in range(count)]


def whole_journal(path: Path) -> bytes:
    with History.writing(path) as history:
        history.write([message(number) for number in range(1, 12)], scores(150))
    return path.read_bytes()


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_a_journal_damaged_anywhere_is_written_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong in which page, no event and no score of the run is lost; where the file is set aside, the log says so, once."""
    whole = whole_journal(tmp_path / "journal.sqlite3")
    for name, content in damaged_copies(whole):
        clear(tmp_path)
        caplog.clear()
        path = tmp_path / "journal.sqlite3"
        path.write_bytes(content)
        sink = JournalSink(path, JournalSettings(), lambda: MODEL)
        for number in range(20, 24):
            sink._write_now([message(number)], scores(3, number * 10))
        sink._close()
        sink._thread.shutdown()
        assert sink.lost == 0, (name, caplog.text)
        aside = list(tmp_path.glob("journal.damaged-*"))
        assert len(aside) <= 1, name
        assert caplog.text.count("set aside") == len(aside), name
        with History.reading(path) as history:
            assert {ulid(number) for number in range(20, 24)} <= {one["id"] for one in history.events()}, name
            assert len(history.scores("porch", 0.0, 1e11)) >= 3, name
        if aside:
            assert aside[0].read_bytes()[:16] == content[:16]


def test_a_question_to_a_damaged_journal_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Questions answer what can be read, or end with one sentence and status 2; the file stays as it is, byte by byte."""
    whole = whole_journal(tmp_path / "journal.sqlite3")
    for name, content in damaged_copies(whole, seed=2):
        clear(tmp_path)
        path = tmp_path / "journal.sqlite3"
        path.write_bytes(content)
        code = main(["events", "--json", "--set", f"state_dir={tmp_path}"])
        printed = capsys.readouterr()
        assert code in {0, 2}, name
        if code == 0:
            assert len(json.loads(printed.out)) <= 11, name
        else:
            assert str(path) in printed.err, name
        with suppress(sqlite3.DatabaseError), History.reading(path) as history:  # and nothing else
            history.sources()
            history.scores("porch", 0.0, 1e11)
        assert path.read_bytes() == content, name
        assert not list(tmp_path.glob("*damaged*")), name


def test_a_damaged_row_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An event or a segment that cannot be read, of any type, is left out and named; all others are found."""
    path = tmp_path / "j"
    with History.writing(path) as history:
        history.write([message(number) for number in range(1, 9)], scores(9))
        for number, value in enumerate((b"{}", b"\xff\xfe", b"[1]", "text", 7, b"{" * 5000), 1):
            history._connection.execute("UPDATE events SET payload = ? WHERE id = ?", (value, ulid(number)))
        odd: list[object] = [b"", b"\x00", b"\x00\x7e" * 6, "text", b"\x00\x7c" * 8]
        for second, value in enumerate(odd):
            history._connection.execute("UPDATE scores SET numbers = ? WHERE media_ms = ?", (value, second * 1000))
        history._connection.execute("UPDATE scores SET media_ms = 'x' WHERE media_ms = 6000")
        history._connection.commit()
    with History.reading(path) as history:
        assert [one["id"] for one in history.find(EventQuery())] == [ulid(7), ulid(8)]
        assert history.event(ulid(1)) is None
        assert [one.start_ns // NS for one in history.scores("porch", 0.0, 1e11)] == [5, 7, 8]
    assert "left out" in caplog.text


async def test_an_outbox_damaged_anywhere_keeps_what_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A start with a damaged outbox finds the messages that can be read, in order; the new file holds them, and works."""
    path = tmp_path / "store.sqlite3"
    store = Store(path, Saved)
    store.load()
    for number in range(1, 25):
        store.add(parcel(number))
        store.note_event(message(number))
        store.retain(f"streamav/porch/class/bark{number}/state")
    await store.close()
    whole, kept = path.read_bytes(), []
    for name, content in damaged_copies(whole, seed=3):
        clear(tmp_path)
        caplog.clear()
        path.write_bytes(content)
        store = Store(path, Saved)
        found = await asyncio.to_thread(store.load)
        numbers = [one.number for one in found.parcels]
        assert numbers == sorted(numbers), name
        assert store.keeps, (name, caplog.text)
        store.add(parcel(99))
        await store.close()
        again = Store(path, Saved)
        assert [one.number for one in again.load().parcels] == [*numbers, 99], name
        await again.close()
        if len(content) == len(whole):
            kept.append(len(numbers))
        assert ("set aside" in caplog.text) == await asyncio.to_thread(lambda: any(tmp_path.glob("*damaged*"))), name
    assert sum(count == 24 for count in kept) > len(kept) // 2, kept  # nothing can be read below a damaged root page


async def test_an_outbox_that_turns_out_to_be_damaged_is_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage that is found only while a run writes costs nothing: the file is set aside, and everything in memory is in the new one."""
    path = tmp_path / "store.sqlite3"
    waiting: list[Parcel] = []
    store = Store(path, lambda: Saved(parcels=list(waiting)))
    store.load()
    for number in range(1, 30):
        waiting.append(parcel(number))
        store.add(waiting[-1])
    await store.settle()
    assert store._connection is not None
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 60_000)
    store._connection.execute("PRAGMA shrink_memory")
    for number in range(30, 33):
        waiting.append(parcel(number))
        store.add(waiting[-1])
        await store.stored(waiting[-1])
    assert store.keeps
    await store.close()
    again = Store(path, Saved)
    assert [one.number for one in again.load().parcels] == list(range(1, 33))
    await again.close()
    assert caplog.text.count("set aside") == 1


def test_damaged_changes_are_set_aside_before_they_are_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Kept changes that cannot be read are not overwritten: they may hold those of other sources."""
    path = tmp_path / "changes.json"
    damaged = b'{"porch": {"privacy": ["blur"]}, "gate": '
    path.write_bytes(damaged)
    KeptChanges(path).write({"yard": {"enabled": False}})
    assert KeptChanges(path).read() == {"yard": {"enabled": False}}
    (aside,) = tmp_path.glob("changes.damaged-*")
    assert aside.read_bytes() == damaged
    assert "set aside" in caplog.text


def test_changes_that_cannot_be_read_or_written_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`streamav changes` never says that there are none, or that they are removed, where it does not know or could not do it."""
    path = tmp_path / "changes.json"
    for content in (b"\xff\xfe", b"[]", b"[" * 100_000, b"{"):
        path.write_bytes(content)
        for more in ([], ["--forget"], ["--json"]):
            assert main(["changes", *more, "--set", f"state_dir={tmp_path}"]) == 2
            said = capsys.readouterr()
            assert str(path) in said.err
            assert "no changes" not in said.err
    path.unlink()
    path.mkdir()
    assert main(["changes", "--set", f"state_dir={tmp_path}"]) == 2


def test_what_is_set_aside_replaces_nothing(tmp_path: Path) -> None:
    """Two files that are set aside in the same second both stay, and the write-ahead log goes with its file."""
    kept = []
    for number in range(3):
        path = tmp_path / "j.sqlite3"
        path.write_bytes(b"%d" % number)
        path.with_name("j.sqlite3-wal").write_bytes(b"wal %d" % number)
        kept.append(set_aside(path))
    assert [path.read_bytes() for path in kept] == [b"0", b"1", b"2"]
    assert [path.with_name(f"{path.name}-wal").read_bytes() for path in kept] == [b"wal 0", b"wal 1", b"wal 2"]
    assert not (tmp_path / "j.sqlite3-wal").exists()
