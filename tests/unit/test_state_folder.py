"""Tests of the state folder of a connection, and of the client id in it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from rigs.published_events import dice

from streamav.publish.state_folder import StateFolder
from streamav.publish.store import Saved, Store


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
    assert folder.store_path is not None
    (folder.store_path.parent / "client_id").write_bytes(b"\xff\x00 nonsense")
    assert folder.client_id().startswith("streamav-")
    folder.release()


def test_a_second_process_does_not_share_journal_and_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second process logs a warning, uses its own client id and stores nothing."""
    first, second = StateFolder(tmp_path, "a", dice(1)), StateFolder(tmp_path, "a", dice(2))
    assert first.acquire()
    assert not second.acquire()
    assert "another streamav" in caplog.text
    assert second.store_path is None
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
            assert folder.store_path is not None
            store = Store(folder.store_path, Saved)
            store.load()
            asyncio.run(store.close())
            found = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
            assert found.pop(Path("state")) == 0o755
            assert len(found) == 5
            assert all(mode == (0o700 if (tmp_path / path).is_dir() else 0o600) for path, mode in found.items())
            folder.store_path.chmod(0o644)
            folder.release()
    finally:
        os.umask(old)
