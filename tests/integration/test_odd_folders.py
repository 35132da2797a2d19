"""Tests of folders that a user may not use: closed, full, read-only, of another user, a file in their place."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from rigs.closed_folder import close, run_without_rights
from rigs.published_events import dice

from streamav.cli import main
from streamav.database import open_database
from streamav.publish.state_folder import StateFolder

COMMANDS = """
import sys
from streamav.cli import main
for command in sys.argv[1:]:
    sys.stderr.write(f"== {command}: {main(command.split())}\\n")
"""


def test_a_closed_home_is_no_bug(tmp_path: Path) -> None:
    """With a home that belongs to another user (sudo -u, setpriv) every command works without it, or says so; none ends in a traceback."""
    home = tmp_path / "home"
    home.mkdir()
    close(home, 0o700 if os.getuid() == 0 else 0)
    commands = {"events": 2, "changes": 2, "explain --at 5": 2, "models list": 0, f"support-bundle {tmp_path}/b.zip --no-doctor": 0}
    others = dict.fromkeys(("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "STREAMAV_HOME", "STREAMAV_STATE_DIR"))
    try:
        done = run_without_rights(COMMANDS, *commands, environment={**others, "HOME": str(home)})
    finally:
        home.chmod(0o700)
    assert "Traceback" not in done.stderr, done.stderr
    for command, code in commands.items():
        assert f"== {command}: {code}" in done.stderr, done.stderr
    assert done.stderr.count("Permission denied") >= 3


def test_whatever_the_system_refuses_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system about a path, from wherever it comes, is a sentence with a remedy and status 2; other errors stay bugs."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(wrong, os.strerror(wrong), str(tmp_path / "place"))

    monkeypatch.setattr("streamav.cli.changes.load_settings", refuse)
    for number, word in ((errno.EACCES, "rights"), (errno.EROFS, "read-only"), (errno.ELOOP, "circle"), (errno.ENOSPC, "room")):
        wrong = number
        assert main(["changes"]) == 2
        said = capsys.readouterr().err
        assert str(tmp_path / "place") in said
        assert word in said
    wrong = errno.EBADF
    with pytest.raises(OSError, match="place"):
        main(["changes"])


def test_a_folder_without_locks_is_not_another_streamav(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system has no locks, as some network ones, the log says that, and not that a second process runs."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    folder = StateFolder(tmp_path, "a", dice(1))
    assert not folder.acquire()
    assert "local disk" in caplog.text
    assert "another streamav" not in caplog.text


def test_a_full_disk_does_not_hold_up_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Only another process that writes is waited for; any other error of SQLite is told at once."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "x.sqlite3"
    path.mkdir()
    began_s = time.monotonic()
    with pytest.raises(OSError, match=r"x\.sqlite3"):
        open_database(path, "CREATE TABLE a (b)", 1, synchronous="FULL", isolation_level=None)
    path.rmdir()
    monkeypatch.setattr("streamav.database.BUSY_S", 1000.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signalled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(sqlite3.OperationalError):
            open_database(path, "CREATE TABLE a (b)", 1, synchronous="FULL", isolation_level=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signalled)
    assert time.monotonic() - began_s < 100.0
