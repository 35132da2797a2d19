"""Tests of the journal of open events and of the client id on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from rigs.published_events import MODEL, dice, make_event, ulid

from streamav.publish.journal import Journal, StateFolder
from streamav.publish.message import EventMessage, describe
from streamav.types import EventPhase


def message(number: int, sequence: int = 1, phase: EventPhase = EventPhase.NEW) -> EventMessage:
    return describe(make_event(number, sequence, phase), MODEL, 0.1)


def test_what_was_noted_and_not_cleared_is_open(tmp_path: Path) -> None:
    """The next start finds the last message of each open event, in the order of their starts."""
    journal = Journal(tmp_path / "open")
    journal.note(message(2))
    journal.note(message(1))
    journal.note(message(2, 2, EventPhase.UPDATE))
    journal.note(message(3))
    journal.clear(ulid(3))
    journal.clear("unknown")
    assert Journal(tmp_path / "open").load() == [message(1), message(2, 2, EventPhase.UPDATE)]


def test_a_crash_between_any_two_steps_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When any step of writing fails, the file holds the old or the new content, never a mixture."""
    path = tmp_path / "open"
    Journal(path).note(message(1))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("os.fsync", "pathlib.Path.replace"):
        journal = Journal(path)
        journal.load()
        with monkeypatch.context() as patch:
            patch.setattr(name, die)
            with pytest.raises(KeyboardInterrupt):
                journal.note(message(2))
        assert Journal(path).load() == [message(1)]


def test_damaged_lines_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged or foreign line is skipped, and the other events are read."""
    path = tmp_path / "open"
    path.write_bytes(message(1).to_bytes()[:50] + b"\n\xff\xfe\n" + message(2).to_bytes() + b"\n")
    assert Journal(path).load() == [message(2)]
    assert "damaged line" in caplog.text


def test_the_journal_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above its bound the journal removes the oldest entry."""
    monkeypatch.setattr("streamav.publish.journal.MAX_OPEN_EVENTS", 2)
    journal = Journal(tmp_path / "open")
    for number in (1, 2, 3):
        journal.note(message(number))
    assert Journal(tmp_path / "open").load() == [message(2), message(3)]


def test_a_disk_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the journal cannot be written, this is logged once and publishing goes on."""
    journal = Journal(tmp_path / "no such folder" / "open")
    journal.note(message(1))
    journal.note(message(2))
    assert len(caplog.records) == 1


def test_the_client_id_is_drawn_once_and_kept(tmp_path: Path) -> None:
    """A second start uses the same client id; another broker gets another one."""
    ids = []
    for seed, connection in ((1, "a_1883_streamav"), (2, "a_1883_streamav"), (3, "b_1883_streamav")):
        folder = StateFolder(tmp_path, connection, dice(seed))
        assert folder.acquire()
        ids.append(folder.client_id())
        folder.release()
    assert ids[0] == ids[1] != ids[2]
    assert all(client_id.startswith("streamav-") and len(client_id) <= 64 for client_id in ids)


def test_a_spoilt_client_id_is_drawn_anew(tmp_path: Path) -> None:
    """A stored client id that is not valid is replaced by a new one."""
    folder = StateFolder(tmp_path, "a", dice(1))
    folder.acquire()
    assert folder.journal_path is not None
    (folder.journal_path.parent / "client_id").write_bytes(b"\xff\x00 nonsense")
    assert folder.client_id().startswith("streamav-")
    folder.release()


def test_a_second_process_does_not_share_journal_and_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second process logs a warning, uses its own client id and stores nothing."""
    first, second = StateFolder(tmp_path, "a", dice(1)), StateFolder(tmp_path, "a", dice(2))
    assert first.acquire()
    assert not second.acquire()
    assert "another streamav" in caplog.text
    assert second.journal_path is None
    assert first.client_id() != second.client_id()
    first.release()
    assert second.acquire()
    second.release()


def test_a_state_folder_that_cannot_be_made_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """When the state folder cannot be created, the run goes on without a journal."""
    folder = StateFolder(Path("/proc/nothing"), "a", dice(1))
    assert not folder.acquire()
    assert "cannot be used" in caplog.text


def test_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Folders have mode 0700 and files 0600 under any umask, also if an older version created them readable by all users."""
    old = os.umask(0)
    try:
        (tmp_path / "state" / "mqtt").mkdir(parents=True)
        (tmp_path / "state").chmod(0o755)  # the user's mode stays
        for _ in range(2):
            folder = StateFolder(tmp_path / "state", "h_1883_base", dice(1))
            assert folder.acquire()
            folder.client_id()
            assert folder.journal_path is not None
            Journal(folder.journal_path).note(message(1))
            found = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
            assert found.pop(Path("state")) == 0o755
            assert len(found) == 5
            assert all(mode == (0o700 if (tmp_path / path).is_dir() else 0o600) for path, mode in found.items())
            folder.journal_path.chmod(0o644)
            folder.release()
    finally:
        os.umask(old)
