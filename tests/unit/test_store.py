"""Tests of the store: what a later start finds on disk, damaged files, and disks that cannot be written."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from rigs.closed_connections import connections_are_closed  # noqa: F401 - a fixture for every test here
from rigs.published_events import MODEL, make_event, story, ulid

from streamav.publish.message import describe
from streamav.publish.outbox import Parcel
from streamav.publish.store import Saved, Store
from streamav.types import Event, EventPhase


def parcel(event: Event, number: int) -> Parcel:
    message = describe(event, MODEL, 0.1)
    return Parcel(event_id=event.id, topic="streamav/porch/event", payload=message.to_bytes(), message=message, number=number)


async def stored(path: Path) -> Saved:
    """Return what a new start finds, and close the file again."""
    store = Store(path, Saved)
    found = store.load()
    await store.close()
    return found


def content(saved: Saved) -> tuple[list[tuple[int, str]], list[str]]:
    return [(one.number, one.event_id) for one in saved.parcels], [message.id for message in saved.open_events]


async def test_what_was_not_acknowledged_is_there_at_the_next_start(tmp_path: Path) -> None:
    """The next start finds waiting messages in order, the last message of each open event, retired ids and retained topics."""
    path = tmp_path / "store"
    store = Store(path, Saved)
    assert store.load() == Saved()
    parcels = [parcel(event, number) for number, event in enumerate([*story(2, updates=0), make_event(1)], 1)]
    for one in parcels:
        store.add(one)
        assert one.message is not None
        store.note_event(one.message)
    store.remove(parcels[:1])
    store.retire("X")
    for topic in ("a", "b"):
        store.retain(topic)
    store.release("a")
    await store.close()
    found = await stored(path)
    assert content(found) == ([(2, ulid(2)), (3, ulid(1))], [ulid(1)])
    assert found.parcels[0].payload == parcels[1].payload
    assert (found.retired, found.retained) == (frozenset({"X"}), {"b": ""})


async def test_a_stored_message_survives_kill_9(tmp_path: Path) -> None:
    """A process that is killed right after `stored` returned leaves the message; the file is whole."""
    program = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from unit.test_store import parcel, make_event, Saved, Store
async def main():
    store = Store(Path(sys.argv[2]), Saved)
    store.load()
    for number in range(1, 30):
        one = parcel(make_event(number), number)
        store.add(one)
        store.note_event(one.message)
    await store.stored(one)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(Path(__file__).parents[1]), str(tmp_path / "store")], check=False
    )
    assert done.returncode == -signal.SIGKILL
    saved = await stored(tmp_path / "store")
    assert len(saved.parcels) == len(saved.open_events) == 29


@pytest.mark.parametrize("damage", ["noise", "cut", "version"])
async def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    """A file that is no database, is cut short, or is of another version is set aside with a warning, and a new one works."""
    path = tmp_path / "store"
    store = Store(path, Saved)
    store.load()
    for number in range(1, 100):
        store.add(parcel(make_event(number), number))
    await store.close()
    if damage == "version":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        path.write_bytes(bytes(range(256)) * 64 if damage == "noise" else path.read_bytes()[:20_000])
    again = Store(path, Saved)
    assert again.load() == Saved()
    assert "set aside" in caplog.text
    assert len(await asyncio.to_thread(lambda: list(tmp_path.glob("store.damaged-*")))) == 1
    again.add(parcel(make_event(1), 1))
    await again.close()
    assert len((await stored(path)).parcels) == 1


async def test_a_damaged_message_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stored message that breaks the contract is skipped with a warning; the others are read."""
    path = tmp_path / "store"
    store = Store(path, Saved)
    store.load()
    for number in (1, 2):
        store.add(parcel(make_event(number), number))
    await store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE parcels SET payload = x'7b7d' WHERE number = 1")
    connection.commit()
    connection.close()
    assert content(await stored(path))[0] == [(2, ulid(2))]
    assert "damaged" in caplog.text


async def test_a_full_disk_is_said_once_and_everything_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full disk nothing blocks; this is logged once. When there is room again, the whole content is written."""
    monkeypatch.setattr("streamav.publish.store.RETRY_S", 0.0)
    waiting: list[Parcel] = []
    store = Store(tmp_path / "store", lambda: Saved(parcels=list(waiting)))
    store.load()
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 10")
    for number in range(1, 40):
        waiting.append(parcel(make_event(number), number))
        store.add(waiting[-1])
        await store.stored(waiting[-1])
    assert not store.keeps
    assert sum("cannot be stored" in record.message for record in caplog.records) == 1
    store._connection.execute("PRAGMA max_page_count = 100000")
    waiting.append(parcel(make_event(40, 1, EventPhase.NEW), 40))
    store.add(waiting[-1])
    await store.close()
    assert len((await stored(tmp_path / "store")).parcels) == 40
