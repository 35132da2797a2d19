"""Tests of the live page's server over real connections: login, files, messages, slow viewers, the end of a run."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from rigs.live_page import apart, need_web, observation, read_until, served, shown_event, subject
from rigs.program_environment import program_environment
from rigs.services import wait_until

from streamav.config import ViewSettings
from streamav.errors import SettingsError
from streamav.types import SourceState
from streamav.view import LivePage
from streamav.web.server import Place, listen

TOKEN = "a long enough token"  # noqa: S105 - of tests alone


@pytest.fixture(autouse=True)
def _web() -> None:
    need_web()


def place(port: int | None) -> Place:
    return Place(
        what="the live page", section="view", remedy="choose another with --view-port", host="127.0.0.1", port=port, usual_port=8734
    )


def connect(page: LivePage, **options: Any) -> AbstractContextManager[Any]:  # noqa: ANN401 - options of websockets
    from websockets.sync.client import connect as connect_to

    address = page.address.replace("http", "ws", 1) + "live"
    connection: AbstractContextManager[Any] = connect_to(address, proxy=None, max_size=None, open_timeout=5, **options)
    return connection


def get(page: LivePage, path: str = "", headers: dict[str, str] | None = None, data: bytes | None = None) -> tuple[int, str, Any]:
    """Return status, body and headers; redirections are not followed."""
    parts = urllib.parse.urlsplit(page.address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
    try:
        connection.request("GET" if data is None else "POST", f"/{path}", data, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def test_a_viewer_gets_what_was_before_it_and_everything_after() -> None:
    """A new viewer is sent the sources, the newest turns and events; from then on every message, in order and once."""
    with served() as page:
        page.source_state("porch", SourceState.WARMING_UP, "started")
        for index in range(12):
            page.observe("porch", observation(index))
        page.event(shown_event(), 0.2)
        with connect(page) as viewer:
            before = read_until(viewer.recv, lambda one: one["type"] == "event")
            page.observe("porch", observation(12))
            after = read_until(viewer.recv, lambda one: one["type"] == "turn")
    assert before[0]["type"] == "hello"
    assert before[0]["sources"][0]["labels"][0] == {
        "label": "bark",
        "name": "bark",
        "thresholds": {"on": 0.7, "off": 0.3, "min_segments": 1, "gap_segments": 1},
    }
    assert [one["segment"]["index"] for one in before if one["type"] == "turn"] == list(range(12))
    assert [one["segment"]["index"] for one in after if one["type"] == "turn"] == [12]


def test_a_slow_viewer_still_gets_the_end() -> None:
    """A viewer that has much to receive when the run ends gets all of it and the end, instead of a broken connection."""
    noise = np.random.default_rng(0).integers(0, 255, (4, 512, 512, 3), np.uint8)
    with served() as page, connect(page) as viewer:
        viewer.recv()
        for index in range(24):
            page.observe("porch", observation(index, pictures=noise))  # 20 MB in all: more than sockets hold
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(apart, page.close())
            time.sleep(0.7)
            found = read_until(viewer.recv, lambda one: one["type"] == "end")
            closing.result()
    assert sum(one["type"] == "turn" for one in found) == 24


def test_the_end_of_the_run_is_told_and_the_port_is_free_again() -> None:
    """When the run ends, each viewer is told so and the connection closes in order; another run may take the port."""
    with served() as page:
        port = urllib.parse.urlsplit(page.address).port
        with connect(page) as viewer:
            json.loads(viewer.recv())
            apart(page.close())
            assert read_until(viewer.recv, lambda one: one["type"] == "end")
            from websockets.exceptions import ConnectionClosedOK

            with pytest.raises(ConnectionClosedOK):
                viewer.recv(timeout=5)
    listen(place(port)).close()


def test_a_viewer_that_reads_nothing_slows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that stops reading is dropped once its queue is full; meanwhile another one receives every message."""
    monkeypatch.setattr("streamav.view.viewers._QUEUE", 16)
    with served() as page, connect(page) as fast:
        json.loads(fast.recv())
        stuck = _stuck_viewer(page)
        count = 0
        noise = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)  # large messages fill the buffers soon
        while page.viewers == 2 and count < 1000:
            page.observe("porch", observation(count, pictures=noise))
            while json.loads(fast.recv(timeout=10))["type"] != "turn":
                pass
            count += 1
        assert page.dropped == 1, f"after {count} messages the viewer that reads nothing is still served"
        stuck.close()


def _stuck_viewer(page: LivePage) -> socket.socket:
    """Open a WebSocket that never reads anything."""
    parts = urllib.parse.urlsplit(page.address)
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect((parts.hostname, parts.port))
    lines = [
        "GET /live HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    stuck.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    wait_until("the stuck viewer is connected", lambda: page.viewers == 2)
    return stuck


def test_a_viewer_that_talks_is_closed() -> None:
    """The page listens to nothing that a browser says."""
    from websockets.exceptions import ConnectionClosedError

    with served() as page, connect(page) as viewer:
        viewer.recv()
        viewer.send("delete everything")
        with pytest.raises(ConnectionClosedError):
            read_until(lambda: viewer.recv(timeout=5), lambda _: False)


def test_another_origin_gets_no_connection() -> None:
    """A web site cannot read the page through the browser of its visitor."""
    from websockets.exceptions import InvalidStatus

    with served() as page, pytest.raises(InvalidStatus), connect(page, origin="http://evil.example"):
        pass


def test_the_files_come_from_the_page_alone() -> None:
    """The page and its files name no other machine, and no file outside the folder is served."""
    with served() as page:
        status, body, headers = get(page)
        assert status == 200
        assert headers["content-security-policy"].startswith("default-src 'none'")
        for name in ("page.js", "store.js", "lanes.js", "picture.js", "panels.js", "colours.js", "page.css", "dark.css", "favicon.svg"):
            status, text, _ = get(page, f"static/{name}")
            assert status == 200
            assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in text
            assert "innerHTML" not in text
        assert "http" not in body
        for path in ("static/../page.py", "static/%2e%2e/page.py", "static//etc/passwd", "nothing"):
            assert get(page, path)[0] == 404


def test_the_token_opens_the_page_and_nothing_else_does() -> None:
    """With a token the page shows a login; the right token gives a cookie that opens page and WebSocket, a wrong one does not."""
    from websockets.exceptions import InvalidStatus

    settings = ViewSettings(enabled=True, host="0.0.0.0", port=0, token=SecretStr(TOKEN))  # noqa: S104 - what the token is for
    with served(settings=settings) as page:
        status, body, _ = get(page)
        assert (status, "Token" in body, "page.js" in body) == (401, True, False)
        status, body, headers = get(page, "login", data=b"token=wrong")
        assert (status, headers["set-cookie"], "wrong" in body) == (403, None, True)
        status, _, headers = get(page, "login", data=urllib.parse.urlencode({"token": TOKEN}).encode())
        cookie = headers["set-cookie"]
        assert status == 303
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert TOKEN not in cookie
        given = cookie.split(";")[0]
        assert get(page, headers={"Cookie": given})[0] == 200
        with pytest.raises(InvalidStatus), connect(page):
            pass
        with connect(page, additional_headers={"Cookie": given}) as viewer:
            assert json.loads(viewer.recv())["type"] == "hello"
        assert get(page, "login", data=b"token=" + b"x" * 100_000)[0] == 403


def test_tls_is_offered(tmp_path: Path) -> None:
    """With a certificate and its key the page is served over TLS; files that are none are refused before the run."""
    from rigs.mosquitto import make_certificates

    files = make_certificates(tmp_path, "127.0.0.1")
    with served(settings=ViewSettings(enabled=True, port=0, cert=files.cert, key=files.key)) as page:
        assert page.address.startswith("https://")
        context = ssl.create_default_context(cafile=str(files.ca))
        context.check_hostname = False
        with urllib.request.urlopen(page.address, context=context, timeout=5) as answer:  # noqa: S310 - https
            assert b"streamav" in answer.read()
    with (
        pytest.raises(SettingsError, match=r"view\.cert"),
        served(settings=ViewSettings(enabled=True, port=0, cert=files.ca, key=files.key)),
    ):
        pass


def test_a_port_in_use_is_one_sentence() -> None:
    """A port that was asked for and is in use is an error with the way out; the usual one gives way to a free one."""
    with listen(place(0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="--view-port"):
            listen(place(port))


def test_more_viewers_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of viewers is bounded."""
    from websockets.exceptions import InvalidStatus

    monkeypatch.setattr("streamav.view.viewers.MOST_VIEWERS", 1)
    with served() as page, connect(page) as first:
        first.recv()
        with pytest.raises(InvalidStatus), connect(page):
            pass


def test_several_sources_have_their_own_messages() -> None:
    """Every message names its source, and a new viewer is sent all sources."""
    with served(subject("porch"), subject("gate")) as page:
        page.observe("gate", observation(0))
        with connect(page) as viewer:
            found = read_until(viewer.recv, lambda one: one["type"] == "turn")
    assert [one["id"] for one in found[0]["sources"]] == ["porch", "gate"]
    assert found[-1]["source"] == "gate"


@pytest.mark.slow
def test_browsers_learn_of_sources_that_come_and_go() -> None:
    """Every connection is closed when the sources change; the next one, which the page makes by itself, has them as they are."""
    from websockets.exceptions import ConnectionClosedOK

    with served(subject("porch"), subject("gate")) as page:
        page.source_state("gate", SourceState.ONLINE, "")
        page.event(shown_event("gate"), 0.1)
        with connect(page) as viewer:
            read_until(viewer.recv, lambda one: one["type"] == "event")
            page.drop_source("gate")
            page.add_source(subject("yard"))
            with pytest.raises(ConnectionClosedOK):
                read_until(viewer.recv, lambda _: False)
        page.observe("yard", observation(0))
        with connect(page) as viewer:
            found = read_until(viewer.recv, lambda one: one["type"] == "turn")
        assert [one["id"] for one in found[0]["sources"]] == ["porch", "yard"]
        assert {one.get("source") for one in found[1:]} <= {"yard"}


@pytest.mark.slow
def test_the_program_prints_the_address_of_the_page(tiny_bundle: Path, engine_home: Path, tmp_path: Path) -> None:
    """`streamav run --view-port 0` prints `view: http://127.0.0.1:PORT/` to standard error, and the page shows the run."""
    from websockets.sync.client import connect as connect_to

    command = [sys.executable, "-m", "streamav", "run", "--source", "scene", "--model", str(tiny_bundle), "--duration", "14"]
    clean = program_environment()
    environment = clean | {"STREAMAV_HOME": str(engine_home), "STREAMAV_STATE_DIR": str(tmp_path)}
    with subprocess.Popen(
        [*command, "--view-port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        line = next(line for line in run.stderr if line.startswith("view: "))
        address = line.split()[1]
        assert address.startswith("http://127.0.0.1:")
        with connect_to(address.replace("http", "ws", 1) + "live", proxy=None, max_size=None) as viewer:
            found = read_until(viewer.recv, lambda one: one["type"] == "end")
        assert run.wait(30) == 0
        out = run.stdout.read() if run.stdout else ""
    assert out == ""
    cells = [cell for one in found if one["type"] == "turn" for cell in one["cells"]]
    assert {cell["index"] for cell in cells if cell["final"]} == set(range(14))
    assert any(one["type"] == "event" for one in found)


def test_the_page_without_its_packages_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra web is not installed, the error says what to install."""
    import importlib.util

    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name, *more))
    with pytest.raises(SettingsError, match=r"uvicorn is missing; run: pip install 'streamav\[web\]'"):
        LivePage(ViewSettings(enabled=True), lambda: None, [subject()])  # type: ignore[arg-type, return-value]
