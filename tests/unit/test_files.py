"""Tests complete writes of files and folders, the hash and the slug."""

from __future__ import annotations

import hashlib
import os
import resource
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from streamav.bundle.classes import AVE_CLASSES
from streamav.errors import DataError, SettingsError
from streamav.files import file_sha256, remove_leftovers, whole_file, whole_folder, write_whole
from streamav.slugs import SLUG_SIZE, class_slugs, slug
from streamav.user_paths import typed_path, user_folder

KILLED = """
import os, sys
from pathlib import Path
from streamav.files import whole_file, whole_folder
path, kind = Path(sys.argv[1]), sys.argv[2]
if kind == "folder":
    with whole_folder(path) as part:
        (part / "one").write_text("half")
        os._exit(9)
elif kind == "between":
    with whole_folder(path) as part:
        (part / "one").write_text("new")
        Path.rename, rename = (lambda self, to: rename(self, to) if to.name.endswith(".old") else os._exit(9)), Path.rename
else:
    with whole_file(path, alone=kind == "alone") as part:
        part.write_text("half")
        os._exit(9)
"""


def kill_a_writer(path: Path, kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), kind], check=False)
    assert done.returncode == 9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_file_is_written_and_nothing_else_is_left(tmp_path: Path, alone: bool, durable: bool) -> None:
    """Bytes and text replace the old content, and no temporary is left."""
    path = tmp_path / "x.txt"
    write_whole(path, b"\x00old", alone=alone, durable=durable)
    assert path.read_bytes() == b"\x00old"
    write_whole(path, "neu: Straße\n", alone=alone, durable=durable)
    assert path.read_bytes() == "neu: Straße\n".encode()
    assert names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("kind", ["alone", "shared"])
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path, kind: str) -> None:
    """A process that dies between writing and renaming changes nothing; the next write with `alone`, or a sweep, removes its temporary."""
    path = tmp_path / "x.txt"
    path.write_text("old")
    (tmp_path / ".x.txt.notes.tmp").write_text("somebody else's")
    kill_a_writer(path, kind)
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 3
    if kind == "alone":
        write_whole(path, "new", alone=True)
        assert path.read_text() == "new"
    else:
        remove_leftovers(path)
    assert names(tmp_path) == [".x.txt.notes.tmp", "x.txt"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.write_bytes"])
def test_an_error_at_any_step_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """After any failure before the rename, the old content stays and the temporary is removed."""
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, fail)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new", durable=True)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """If the system refuses a write (here by a limit on file size), the old content stays and nothing is left beside it."""
    path = tmp_path / "x.bin"
    write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_whole(path, bytes(8192), durable=True)
        with pytest.raises(OSError, match="too large"), whole_folder(tmp_path / "folder") as part:
            (part / "x").write_bytes(bytes(8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_a_reader_never_sees_half(tmp_path: Path) -> None:
    """While two writers replace a file again and again, every read returns the whole content of one of them."""
    path = tmp_path / "x.bin"
    contents = [bytes([number]) * 200_000 for number in (1, 2)]
    write_whole(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(60):
            write_whole(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers) or seen == 0:
        assert path.read_bytes() in contents
        seen += 1
    assert names(tmp_path) == ["x.bin"]


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A folder at the file's path, a file at the folder's path and a missing parent are system errors and leave no temporary."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", "x")
    with pytest.raises(NotADirectoryError), whole_folder(tmp_path / "file"):
        pass
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "x", "x")
    assert names(tmp_path) == ["file", "folder"]


def test_modes_are_those_of_plain_files(tmp_path: Path) -> None:
    """A new file has the umask's mode, also from safetensors, which makes private files; a replaced file keeps its mode."""
    umask = os.umask(0o027)
    try:
        path = tmp_path / "x.safetensors"
        with whole_file(path) as part:
            save_file({"a": np.zeros(3, np.float32)}, part)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_whole(path, "secret")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with whole_folder(tmp_path / "plain") as part:
            pass
        with whole_folder(tmp_path / "private", mode=0o700) as part:
            pass
        assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "private")] == [0o750, 0o700]
    finally:
        os.umask(umask)


def test_a_link_is_replaced_and_what_it_names_is_left_alone(tmp_path: Path) -> None:
    """A symbolic link at the path of the file or of its temporary never redirects a write."""
    (tmp_path / "other").write_text("precious")
    (tmp_path / "x").symlink_to(tmp_path / "other")
    (tmp_path / ".x.tmp").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "x", "new", alone=True)
    assert (tmp_path / "other").read_text() == "precious"
    assert (tmp_path / "x").read_text() == "new"
    assert not (tmp_path / "x").is_symlink()


def test_writers_that_take_a_path_are_served(tmp_path: Path) -> None:
    """HDF5 and safetensors write by path; both files are complete and durable."""
    with whole_file(tmp_path / "a.h5", durable=True) as part, h5py.File(part, "w") as file:
        file["x"] = np.arange(4)
    with whole_file(tmp_path / "b.safetensors", durable=True, alone=True) as part:
        save_file({"x": np.arange(4)}, part)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["x"][:].tolist() == load_file(tmp_path / "b.safetensors")["x"].tolist() == [0, 1, 2, 3]


def test_durable_waits_for_content_then_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `durable` the content is on the disk before the rename, and the name before the call returns; without it nothing is awaited."""
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(opened: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(opened).st_mode) else "file")
        sync(opened)

    def note_replace(self: Path, to: Path) -> Path:
        steps.append("rename")
        return replace(self, to)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_whole(tmp_path / "x", "1", durable=True)
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    write_whole(tmp_path / "x", "2")
    assert steps == ["rename"]
    steps.clear()
    with whole_folder(tmp_path / "f", durable=True) as part:
        (part / "one").write_text("1")
    assert steps == ["file", "folder", "folder"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """The new folder holds only its own files; neither the old folder nor a temporary is left."""
    path = tmp_path / "f"
    for text in ("old", "new"):
        with whole_folder(path, durable=True) as part:
            assert part.parent == tmp_path
            (part / text).write_text(text)
    assert names(path) == ["new"]
    assert names(tmp_path) == ["f"]


def test_an_error_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while the folder is filled, or at the second rename, leaves the old folder under its name."""
    path = tmp_path / "f"
    with whole_folder(path) as part:
        (part / "one").write_text("old")
    with pytest.raises(KeyError), whole_folder(path) as part:  # noqa: PT012 - the error is of the caller
        (part / "one").write_text("new")
        raise KeyError
    assert (path / "one").read_text() == "old"
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(5, "no")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"), whole_folder(path) as part:
        (part / "one").write_text("new")
    assert (path / "one").read_text() == "old"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("kind", ["folder", "between"])
def test_a_killed_writer_of_a_folder_loses_nothing(tmp_path: Path, kind: str) -> None:
    """A process that dies while filling the folder, or between the renames, leaves the old folder, in some cases after a sweep."""
    path = tmp_path / "f"
    with whole_folder(path) as part:
        (part / "one").write_text("old")
    kill_a_writer(path, kind)
    assert path.exists() == (kind == "folder")
    remove_leftovers(path)
    assert (path / "one").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_a_sweep_of_nothing_is_nothing(tmp_path: Path) -> None:
    """A missing folder, no leftovers and files of other names are accepted."""
    remove_leftovers(tmp_path / "missing" / "x")
    (tmp_path / ".y.tmp").write_text("y")
    remove_leftovers(tmp_path / "x")
    assert names(tmp_path) == [".y.tmp"]


@given(content=st.binary(max_size=3000), times=st.integers(0, 200))
def test_the_hash_is_sha256(tmp_path_factory: pytest.TempPathFactory, content: bytes, times: int) -> None:
    """The hash of a file is the SHA-256 of its bytes, for any size."""
    path = tmp_path_factory.mktemp("hash") / "x"
    path.write_bytes(content * times)
    assert file_sha256(path) == hashlib.sha256(content * times).hexdigest()


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Dog bark", "dog_bark"),
        ("Dog-bark", "dog_bark"),
        ("  Café (au lait) ", "cafe_au_lait"),
        ("Straße", "strasse"),
        ("e\u0301clair", "eclair"),
        ("İstanbul", "istanbul"),
        ("Siren 2", "siren_2"),
        ("🐶 bark", "bark"),
        ("x" * SLUG_SIZE, "x" * SLUG_SIZE),
    ],
)
def test_what_a_name_becomes(name: str, plain: str) -> None:
    """A slug has small letters and digits, no accents, and one _ for everything between them."""
    assert slug(name) == plain
    assert slug(name, "-") == plain.replace("_", "-")


@pytest.mark.parametrize("name", ["", "  ", "?!", "🐶", "犬", "smørrebrød", "лай", "bell 鐘", "x" * (SLUG_SIZE + 1)])
def test_a_name_without_a_plain_form_is_refused(name: str) -> None:
    """No letter is guessed or left out: the error shows the name."""
    with pytest.raises(DataError, match="must"):
        slug(name)


@given(st.text(max_size=80))
@example("ǅ")
@example("ᾳ")
@example("ﷺ")
def test_a_slug_is_its_own_slug(name: str) -> None:
    """A slug fits the form of the card and does not change when it is made again, or shown to people and read back."""
    try:
        made = slug(name)
    except DataError:
        return
    assert all(word.isascii() and word.isalnum() and word == word.lower() for word in made.split("_"))
    assert len(made) <= SLUG_SIZE
    assert slug(made) == made
    assert slug(made.replace("_", " ").capitalize()) == made
    assert slug(unicodedata.normalize("NFC", name)) == slug(unicodedata.normalize("NFD", name)) == made


def test_ave_names_keep_their_labels() -> None:
    """The rule gives the released labels of AVE, so they can be written into any table."""
    assert class_slugs(Path("x"), enumerate((entry.slug for entry in AVE_CLASSES), 1)) == tuple(entry.slug for entry in AVE_CLASSES)


def test_all_that_is_wrong_with_classes_is_told_with_lines(tmp_path: Path) -> None:
    """Two names with one label, a name without a label, background, and a name of two lines are listed with file and line."""
    wrong = [(1, "Dog bark"), (2, "犬"), (4, "Dog-bark"), (5, "Background"), (6, "two\nlines"), (7, "x " * 150)]
    with pytest.raises(DataError) as found:
        class_slugs(tmp_path / "classes.txt", wrong)
    said = str(found.value)
    assert said.startswith(f"{tmp_path / 'classes.txt'} must be corrected:")
    lines = said.splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == ["line 2", "line 4", "line 5", "line 6", "line 7"]
    assert "'Dog-bark' and 'Dog bark' (line 1) would both be the label dog_bark; rename one" in lines[1]
    with pytest.raises(DataError, match="and 5 more"):
        class_slugs(tmp_path, [(line, "?") for line in range(25)])


@pytest.mark.parametrize("write", [lambda path: write_whole(path, "x", durable=True), lambda path: write_whole(path, "x", alone=True)])
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """In a folder without write permission the old file stays."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "x").write_text("old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write(tmp_path / "x")
    finally:
        tmp_path.chmod(0o700)
    assert (tmp_path / "x").read_text() == "old"


def test_a_user_without_a_home_has_a_folder_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME and with an unknown user number, the folder is in the temporary folder, and only this user can read it."""

    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = tmp_path / f"streamav-{os.getuid()}"
    for _ in range(2):
        assert user_folder("XDG_STATE_HOME", ".local/state") == own / ".local/state"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert typed_path("~/clip.mp4") == Path("~/clip.mp4")
    own.chmod(0o777)
    with pytest.raises(SettingsError, match="set HOME, or XDG_STATE_HOME"):
        user_folder("XDG_STATE_HOME", ".local/state")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "named"))
    assert user_folder("XDG_STATE_HOME", ".local/state") == tmp_path / "named"
