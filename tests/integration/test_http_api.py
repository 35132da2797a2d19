"""Tests of the HTTP API over real connections: what it answers, to whom, and what hostile requests get."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from rigs.closed_folder import close, run_without_rights
from rigs.http_api import ask, need_api, served
from rigs.live_page import TIMES, observation, shown_event
from rigs.program_environment import program_environment
from rigs.published_events import MODEL, SCORES, make_event, ulid
from rigs.services import missing

from streamav.api import HttpApi
from streamav.api.openapi import document
from streamav.config import DetectionSettings, HttpSettings
from streamav.control import Controls, SourcePlan
from streamav.errors import SettingsError
from streamav.journal import History
from streamav.publish.message import describe
from streamav.publish.pending import MqttCounters
from streamav.types import TRYING_AGAIN, SourceState, Telemetry

TOKEN = "a long enough token"  # noqa: S105 - of tests alone


@pytest.fixture(autouse=True)
def _web() -> None:
    need_api()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a journal with thirty events, one each ten seconds, the odd ones at the gate, and the scores of the first seconds."""
    path = tmp_path / "journal.sqlite3"
    with History.writing(path) as history:
        events = [describe(make_event(number, start_s=10 * number), MODEL, 0.1) for number in range(1, 31)]
        moved = [one.model_copy(update={"source": "gate" if number % 2 else "porch"}) for number, one in enumerate(events, 1)]
        history.write(moved, [("porch", SCORES)])
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Return a folder with the clip and snapshot of one event, and things that are no clips."""
    folder = tmp_path / "clips"
    (folder / "porch").mkdir(parents=True)
    stem = f"20260914T102231Z_bark_{ulid(4)}"
    (folder / "porch" / f"{stem}.mp4").write_bytes(bytes(range(256)) * 40)
    (folder / "porch" / f"{stem}.jpg").write_bytes(b"picture")
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"not yours")
    (folder / "porch" / f"20260914T102231Z_bark_{ulid(6)}.mp4").symlink_to(secret)
    (folder / "porch" / f"notes_{ulid(8)}.mp4").write_bytes(b"not a clip")
    return folder


@pytest.fixture
def api(journal: Path, clips: Path) -> Iterator[HttpApi]:
    with served(journal=journal, clips=clips) as found:
        yield found


def fits(value: Any, schema: str) -> None:  # noqa: ANN401 - any JSON value
    """Check a value against a schema of the API's description."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": document()["components"]}
    Draft202012Validator(whole).validate(value)


def test_pages_hold_every_event_once(api: HttpApi) -> None:
    """All pages together hold each event once, oldest first, also with the newest first the other way round; each fits the schema."""
    for order, expected in (("oldest", range(1, 31)), ("newest", range(30, 0, -1))):
        found, after = [], ""
        while True:
            page = ask(api.address, f"api/events?limit=7&order={order}{after}").json
            fits(page, "EventPage")
            found += [one["id"] for one in page["events"]]
            if page["next"] is None:
                break
            after = f"&after={quote(page['next'])}"
        assert found == [ulid(number) for number in expected]


def test_filters_are_those_of_the_command(api: HttpApi, journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same question gives the same events over HTTP and from `streamav events --json`."""
    from streamav.cli import main

    start = ask(api.address, "api/events?limit=1").json["events"][0]["start_ts"]
    for source, since, until in (("porch", 0, 1e10), ("gate", start + 100, start + 200), ("nobody", 0, 1e10)):
        over_http = ask(api.address, f"api/events?source={source}&since={since:.3f}&until={until:.3f}&label=bark").json["events"]
        arguments = ["--source", source, "--since", f"{since:.3f}", "--until", f"{until:.3f}", "--label", "bark"]
        assert main(["events", "--json", *arguments, "--set", f"state_dir={journal.parent}"]) == 0
        assert json.loads(capsys.readouterr().out) == over_http
        assert bool(over_http) is (source != "nobody")


WRONG_QUESTIONS = [
        "limit=0", "limit=-1", "limit=1001", "limit=1e3", "limit=" + "9" * 5000, "limit=NaN", "limit=",
        "since=tomorrowish", "since=inf", "since=nan", "since=" + "9" * 400, "until=99999999999999d", "since=1e999",
        "source=../../etc", "source=%00", "source=a%0d%0aSet-Cookie:x", "source=" + "a" * 65,
        "source=", "label=Bark'%20OR%20'1'='1", "label=%F0%9F%90%95", "label=" + "b" * 300,
        "after=1", "after=0_" + "0" * 27, "after=nan_" + "0" * 26, "order=up", "lable=bark", "limit=1&limit=2", "x[]=1", "%ff=%ff",
        "since=%ff%fe",
]  # fmt: skip
NOT_OFFERED = [
        "", "nothing", "api", "api/events/", "api/events/../stats", "api/events/%2e%2e%2f%2e%2e%2fsecret.mp4/clip",
        f"api/events/{ulid(6)}/clip", f"api/events/{ulid(8)}/clip", f"api/events/{ulid(9)}/clip", f"api/events/{'a' * 26}/clip",
        f"api/events/*{ulid(4)[1:]}/clip", f"api/events/{ulid(4)}/clip/../../../secret.mp4", f"api/events/{ulid(4)}/secret",
        f"api/events/{ulid(99)}", "api/events/" + "A" * 4000, "static/page.js", "//etc/passwd", "api/events/%00/clip",
]  # fmt: skip


def test_a_wrong_question_is_one_sentence(api: HttpApi) -> None:
    """Whatever a parameter holds, the answer is status 400 and one ASCII sentence, never an error of the server."""
    for query in WRONG_QUESTIONS:
        answer = ask(api.address, f"api/events?{query}")
        assert answer.status == 400, (query, answer.body)
        fits(answer.json, "Error")
        assert answer.json["error"].isascii(), query
        assert answer.json["error"].isprintable(), query
        assert len(answer.body) < 600, query


def test_nothing_but_what_is_offered_is_found(api: HttpApi) -> None:
    """Other addresses, ids of other shapes, links and files that are no clips are not found, and nothing of them is sent."""
    for path in NOT_OFFERED:
        answer = ask(api.address, path)
        assert answer.status == 404, (path, answer.body)
        assert b"not yours" not in answer.body, path
        fits(answer.json, "Error")


def test_a_clip_comes_whole_and_in_parts(api: HttpApi) -> None:
    """An event names its clip and snapshot; the clip is sent whole, and any range of it, as players ask for it."""
    detail = ask(api.address, f"api/events/{ulid(4)}").json
    fits(detail, "EventDetail")
    assert (detail["clip"], detail["snapshot"]) == (f"/api/events/{ulid(4)}/clip", f"/api/events/{ulid(4)}/snapshot")
    whole = ask(api.address, detail["clip"][1:])
    assert (whole.status, whole.headers["content-type"], len(whole.body)) == (200, "video/mp4", 10_240)
    part = ask(api.address, detail["clip"][1:], {"Range": "bytes=256-511"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, bytes(range(256)), "bytes 256-511/10240")
    assert ask(api.address, detail["clip"][1:], {"Range": "bytes=99999-"}).status == 416
    assert ask(api.address, detail["clip"][1:], {"Range": "bytes=x-y"}).status == 400
    assert ask(api.address, detail["clip"][1:], method="HEAD").body == b""
    assert ask(api.address, detail["snapshot"][1:]).body == b"picture"
    assert ask(api.address, f"api/events/{ulid(2)}").json["clip"] is None


def test_what_the_run_does_is_told(api: HttpApi) -> None:
    """States, figures and counts are those that the loop handed over, and fit the schemas."""
    assert ask(api.address, "readyz").status == 503
    api.source_state("porch", SourceState.ONLINE, "sound and picture arrive")
    api.source_state("gate", SourceState.LOST, f"no answer from rtsp://admin:hunter2@cam/live{TRYING_AGAIN}")
    api.telemetry("porch", Telemetry(
        frames_per_second=25.0, level_dbfs=-31.25, latency_s=0.2, skew_ms=-40, realtime_factor=0.1, dropped_segments=3
    ))  # fmt: skip
    api.event(shown_event("porch"), 0.2)
    sources = ask(api.address, "api/sources").json
    fits(sources, "Sources")
    porch, gate = sources["sources"]
    assert (porch["state"], porch["telemetry"]["skew_ms"], len(porch["open_events"]), porch["confirmed_events"]) == ("online", -40, 1, 1)
    assert gate["state"] == "lost"
    assert "hunter2" not in json.dumps(sources)
    assert "power" in gate["remedy"]
    api.event(shown_event("porch", end=12), 0.2)
    stats = ask(api.address, "api/stats").json
    fits(stats, "Stats")
    assert (stats["open_events"], stats["confirmed_events"]) == (0, {"porch": {"bark": 1}, "gate": {}})
    ready = ask(api.address, "readyz")
    fits(ready.json, "Readiness")
    assert ready.status == 200


def test_why_a_second_was_no_event_is_told(api: HttpApi) -> None:
    """The explanation names scores, thresholds and rule; without scores, or with a source that is not here, it says so."""
    at = (SCORES.epoch_ns + SCORES.start_ns) / 1e9
    found = ask(api.address, f"api/explain?at={at}&source=porch").json
    fits(found, "Explanation")
    assert found["labels"][0]["rule"] in {"on", "off", "gap", "min_segments", "no_run"}
    assert ask(api.address, "api/explain?at=1000&source=porch").json["labels"] == []
    for wrong in (
        "at=1000",
        "source=porch",
        "at=1000&source=../x",
        "at=never&source=porch",
        "at=1000&source=porch&x=1",
        "at=nan&source=porch",
    ):
        assert ask(api.address, f"api/explain?{wrong}").status == 400


def test_a_run_that_hangs_is_not_healthy(journal: Path) -> None:
    """A monitor gets 503 once the loop takes no turns; a broker that is away makes the run alive but not ready."""
    with served(journal=journal, idle_s=3600.0) as api:
        assert (ask(api.address, "healthz").status, ask(api.address, "healthz").json) == (503, {"status": "stalled"})
    with served(journal=journal, mqtt=MqttCounters()) as api:
        api.source_state("porch", SourceState.ONLINE, "sound and picture arrive")
        assert ask(api.address, "healthz").status == 200
        ready = ask(api.address, "readyz")
        assert (ready.status, ready.json["checks"]) == (503, {"loop": True, "sources": True, "broker": False})


def test_metrics_count_what_happens(journal: Path) -> None:
    """The metrics are in Prometheus's text format, by the names of the contract, and count what the loop handed over."""
    from prometheus_client.parser import text_string_to_metric_families

    counters = MqttCounters(connected=True, published=7, dropped=2, queue_depth=5)
    with served(journal=journal, mqtt=counters) as api:
        api.source_state("porch", SourceState.LOST, "no more data")
        api.source_state("porch", SourceState.WARMING_UP, "the source is back")
        for index in range(5):
            api.observe("porch", observation(index))
        api.event(shown_event("porch"), 0.2)
        answer = ask(api.address, "metrics")
        counters.published = 9
        again = ask(api.address, "metrics").body.decode()
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert found["streamav_source_state", "porch", "warming_up"] == 1.0
    assert found["streamav_source_state", "lost", "porch"] == 0.0
    assert found["streamav_source_reconnects_total", "porch"] == 1.0
    assert found["streamav_buffer_fill_ratio", "porch"] == 0.5
    assert found["streamav_av_skew_seconds", "porch"] == 0.012
    assert found["streamav_window_latency_seconds_count", "features"] == 5.0
    assert found["streamav_window_latency_seconds_sum", "features"] == pytest.approx(5 * TIMES.features_s)
    assert found["streamav_events_total", "bark", "porch"] == 1.0
    assert found["streamav_event_active",] == 1.0
    assert found["streamav_mqtt_published_total", "acknowledged"] == 7.0
    assert found["streamav_mqtt_dropped_total",] == 2.0
    assert found["streamav_mqtt_queue_depth",] == 5.0
    assert 'streamav_mqtt_published_total{result="acknowledged"} 9.0' in again


def test_the_description_is_valid_and_complete(api: HttpApi) -> None:
    """/openapi.json is valid OpenAPI 3.1, and describes every address that is served."""
    if importlib.util.find_spec("openapi_spec_validator") is None:
        missing("openapi-spec-validator is missing: pip install openapi-spec-validator")
    from openapi_spec_validator import OpenAPIV31SpecValidator

    found = ask(api.address, "openapi.json").json
    OpenAPIV31SpecValidator(found).validate()
    for path in found["paths"]:
        answer = ask(api.address, path[1:].replace("{id}", ulid(4)), method="OPTIONS")
        assert answer.status == 405, path  # it exists, and takes GET, or also PATCH


JSON = {"content-type": "application/json"}


def test_nothing_can_be_changed(api: HttpApi) -> None:
    """A request that would change something is refused, unless http.commands is set, and the answer says so."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(api.address, "api/events", method=method, body=b"{}").status == 405
    answer = ask(api.address, "api/sources/porch/detection", JSON, "PATCH", b'{"privacy": "blur"}')
    assert answer.status == 403
    assert "http.commands = true" in answer.json["error"]
    assert ask(api.address, "api/sources/porch/detection").json["detection"]["privacy"] == []


def _controls() -> Controls:
    def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
        return SourcePlan(source=source, detection=detection, labels=(), latency_segments=detection.latency_segments or 4)

    return Controls({"porch": DetectionSettings(), "gate": DetectionSettings()}, resolve)


def test_what_is_detected_can_be_changed(journal: Path) -> None:
    """With http.commands a merge patch changes one source; null takes a value back; the answer is what holds, and fits the schema."""
    controls = _controls()
    with served(journal=journal, controls=controls) as api:
        where = "api/sources/porch/detection"
        changed = ask(api.address, where, JSON, "PATCH", b'{"privacy": "blur,mute_speech", "classes": {"bark": {"on": 0.8}}}')
        assert changed.status == 200
        fits(changed.json, "Detection")
        assert (changed.json["source"], changed.json["detection"]["privacy"]) == ("porch", ["blur", "mute_speech"])
        assert controls.plan("porch").privacy == ("blur", "mute_speech")
        assert controls.plan("gate").privacy == ()
        told = {one["id"]: one["privacy"] for one in ask(api.address, "api/sources").json["sources"]}
        assert told == {"porch": "blur,mute_speech", "gate": "off"}
        merge = {"content-type": "application/merge-patch+json; charset=utf-8"}
        back = ask(api.address, where, merge, "PATCH", b'{"privacy": null}').json["detection"]
        assert (back["privacy"], back["classes"]["bark"]["on"]) == ([], 0.8)
        assert ask(api.address, where).json["detection"] == back


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "says"),
    [
        ("porch/detection", JSON, b'{"privacy": "nobody"}', 400, "detection.privacy: it must be one of off, blur"),
        ("porch/detection", JSON, b'{"privacyy": "blur"}', 400, "the nearest is detection.privacy"),
        ("porch/detection", JSON, b'{"labels": ["bark"]}', 400, "cannot be changed by a command"),
        ("porch/detection", JSON, b"[" * 60_000, 400, "must be a JSON object"),
        ("porch/detection", JSON, b"{}", 400, "must be a JSON object"),
        ("porch/detection", JSON, b"\xff", 400, "must be a JSON object"),
        ("porch/detection", JSON, b'{"on": 1e999}', 400, "detection.on"),
        ("porch/detection", JSON, b" " * 70_000, 413, "at most"),
        ("porch/detection", {"content-type": "text/plain"}, b'{"privacy": "blur"}', 415, "application/json"),
        ("porch/detection", {}, b'{"privacy": "blur"}', 415, "application/json"),
        ("porch/detection?privacy=blur", JSON, b'{"privacy": "blur"}', 400, "unknown parameter"),
        ("shed/detection", JSON, b'{"privacy": "blur"}', 404, "the sources are porch, gate"),
        ("porch/detection", {**JSON, "origin": "https://evil.example"}, b'{"privacy": "off"}', 403, "another web site"),
    ],
)
def test_a_wrong_change_changes_nothing(journal: Path, path: str, headers: dict[str, str], body: bytes, status: int, says: str) -> None:
    """The answer is one sentence that says what must be; no web site can send a change through a browser."""
    controls = _controls()
    with served(journal=journal, controls=controls) as api:
        answer = ask(api.address, f"api/sources/{path}", headers, "PATCH", body)
        assert answer.status == status
        assert says in answer.body.decode()
    assert controls.differences() == []


def test_without_the_token_nothing_but_health_is_told(journal: Path) -> None:
    """With a token every address needs it as a bearer, except /healthz and /readyz; a wrong one is refused and costs time."""
    settings = HttpSettings(listen="0.0.0.0:0", token=SecretStr(TOKEN))
    with served(journal=journal, settings=settings) as api:
        address = api.address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - where it listens
        for path in ("api/events", "api/stats", "metrics", "openapi.json", "nothing", f"api/events/{ulid(4)}/clip"):
            answer = ask(address, path)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="streamav"')
        assert ask(address, "healthz").status == 200
        began_s = time.monotonic()
        for wrong in ("Bearer wrong and long enough", f"Basic {TOKEN}", "Bearer ", f"Bearer {TOKEN}x"):
            assert ask(address, "api/stats", {"Authorization": wrong}).status == 401
        assert time.monotonic() - began_s > 1.5
        assert ask(address, "api/stats", {"Authorization": f"Bearer {TOKEN}"}).status == 200
        assert ask(address, "api/stats", {"Authorization": f"bearer {TOKEN}"}).status == 200


def test_a_web_site_cannot_read_it_through_a_browser(api: HttpApi) -> None:
    """Without a token only requests that name this machine are answered, so that a name that leads here (DNS rebinding) gets nothing."""
    hosts = ("evil.example", "evil.example:8735", "127.0.0.1.evil.example", "", "a b", "[::1", "[1.2.3.4]", "[::::]", "[....]:80", "[dead]")
    for host in hosts:
        assert ask(api.address, "api/events", {"Host": host}).status in {400, 403}, host
    for origin in ("http://[1.2.3.4]", "http://[", "null", "\xff://x"):
        answer = ask(api.address, "api/sources/porch/detection", {"origin": origin}, "PATCH", b"{}")
        assert answer.status == 403, origin


@pytest.mark.parametrize("listen", ["0.0.0.0:8735", "192.168.1.4:8735", "[::]:8735", "camera.local:8735"])
def test_an_open_address_demands_a_token(listen: str) -> None:
    """An address that other machines reach is refused without a token, before anything listens."""
    with pytest.raises(ValueError, match=r"STREAMAV_HTTP_TOKEN"):
        HttpSettings(listen=listen)


@pytest.mark.parametrize("listen", ["", "localhost", "127.0.0.1:", "127.0.0.1:99999", "http://127.0.0.1:80", "::1:80", "a b:80", ":80"])
def test_a_wrong_address_is_one_sentence(listen: str) -> None:
    """What is no address and port is refused with an example."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:8735"):
        HttpSettings(listen=listen)


def test_a_port_in_use_is_one_sentence(api: HttpApi) -> None:
    """A port that is in use is an error that names the option."""
    port = urlsplit(api.address).port
    with pytest.raises(SettingsError, match="--http"), served(settings=HttpSettings(listen=f"127.0.0.1:{port}")):
        pass


def test_rubbish_on_the_wire_harms_nobody(api: HttpApi) -> None:
    """Bytes that are no HTTP, headers without an end and many idle connections leave the API answering."""
    parts = urlsplit(api.address)
    place = (str(parts.hostname), int(parts.port or 0))
    idle = [socket.create_connection(place) for _ in range(40)]
    for rubbish in (b"\x16\x03\x01\x02\x00" * 100, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000, b"\x00" * 70_000, b"GET /\r\n\r\n"):
        with socket.create_connection(place, timeout=5) as connection:
            try:
                connection.sendall(rubbish)
                connection.recv(1000)
            except OSError:
                pass
    assert ask(api.address, "healthz").status == 200
    for one in idle:
        one.close()


def ends(connection: socket.socket) -> bool:
    """Return whether the server closes a connection within some seconds."""
    connection.settimeout(8.0)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_a_client_that_does_not_ask_loses_its_place(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a whole request, at its begin or after an answer, is ended; one whose answer takes long is not."""
    monkeypatch.setattr("streamav.web.hurry.ASK_S", 0.4)
    settings = HttpSettings(listen="127.0.0.1:0", token=SecretStr(TOKEN))
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with served(journal=journal, settings=settings) as api:
        parts = urlsplit(api.address)
        for begin in (b"", b"GET / HTTP/1.1\r\nHost:", request + b"G", request + request + b"GET /", b"POST / HTTP/1.1\r\nContent-Le"):
            with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as connection:
                connection.sendall(begin)
                assert ends(connection), begin
        began_s = time.monotonic()
        assert ask(api.address, "api/stats", {"Authorization": "Bearer wrong and long enough"}).status == 401
        assert time.monotonic() - began_s > 0.9


def test_a_client_that_drips_is_ended(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that comes byte by byte, and a body that never ends, do not last; the body is answered with 408."""
    monkeypatch.setattr("streamav.web.hurry.ASK_S", 0.5)
    monkeypatch.setattr("streamav.api.routes._BODY_S", 0.5)
    with served(journal=journal, controls=_controls()) as api:
        parts = urlsplit(api.address)
        place = (str(parts.hostname), int(parts.port or 0))
        with socket.create_connection(place) as connection:
            end_s = time.monotonic() + 8.0
            try:
                for letter in b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 10_000:
                    connection.sendall(bytes([letter]))
                    time.sleep(0.02)
                    assert time.monotonic() < end_s
            except OSError:
                pass
        with socket.create_connection(place) as connection:
            lines = "PATCH /api/sources/porch/detection HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 99"
            connection.sendall("\r\n".join([*lines, "", "{"]).encode())
            connection.settimeout(8.0)
            assert b" 408 " in connection.recv(4096)


def test_a_journal_is_read_where_nothing_can_be_written(journal: Path) -> None:
    """The API reads a journal in a read-only folder, and makes none where no run has begun one."""
    asked = "import sys; from pathlib import Path; from streamav.journal import History; "
    asked += "h = History.reading(Path(sys.argv[1])); print(len(h.events()), len(h.scores('porch', 0, 1e11)), h.sources())"
    journal.chmod(0o444)
    folder = journal.parent
    mode = folder.stat().st_mode
    close(folder, 0o555)
    try:
        done = run_without_rights(asked, str(journal))
        assert (done.returncode, done.stdout) == (0, "30 1 ['gate', 'porch']\n"), done.stderr
        assert {path.name for path in folder.iterdir()} <= {journal.name, "clips", "secret.mp4"}
        denied = run_without_rights("import sys; open(sys.argv[1] + '-wal', 'w')", str(journal))
        assert "Permission denied" in denied.stderr
    finally:
        folder.chmod(mode)
    with served(journal=journal.with_name("none.sqlite3")) as api:
        assert ask(api.address, "api/events").json == {"events": [], "next": None}
    assert not journal.with_name("none.sqlite3").exists()


def test_a_journal_that_is_damaged_or_off_is_said(tmp_path: Path) -> None:
    """A damaged journal is an error of its own and is left where it is; without a journal the answer says how to turn it on."""
    damaged = tmp_path / "journal.sqlite3"
    damaged.write_bytes(b"no database" * 1000)
    with served(journal=damaged) as api:
        assert ask(api.address, "api/events").status == 503
        assert "log" in ask(api.address, "api/events").json["error"]
    assert damaged.read_bytes() == b"no database" * 1000
    with served() as api:
        assert "journal.enabled" in ask(api.address, "api/events").json["error"]


def test_a_question_that_takes_too_long_is_ended(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question to the journal is bounded in time; the answer says what to do."""
    monkeypatch.setattr("streamav.api.routes._LONGEST_S", -1.0)
    monkeypatch.setattr("streamav.journal.history._STEPS", 1)
    with served(journal=journal) as api:
        answer = ask(api.address, "api/events")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "shorter span" in answer.json["error"]


@contextmanager
def service_manager(address: str) -> Iterator[list[str]]:
    """Listen as systemd does, and collect what is told until the block ends."""
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)

        def listen() -> None:
            while (message := listener.recv(4096)) != b"end":
                told.extend(message.decode().splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield told
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", address)
            thread.join(10)


@pytest.mark.slow
def test_a_run_of_a_file_answers(tiny_bundle: Path, engine_home: Path, tmp_path: Path) -> None:
    """`streamav run --source FILE --http ADDRESS` answers while it runs; the log is JSON, and the service manager is told how it goes."""
    clean = program_environment()
    environment = clean | {
        "STREAMAV_HOME": str(engine_home),
        "STREAMAV_STATE_DIR": str(tmp_path),
        "STREAMAV_CLIPS_DIR": str(tmp_path / "c"),
    }
    environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
    command = [sys.executable, "-m", "streamav", "run", "--source", "scene", "--model", str(tiny_bundle), "--http", "127.0.0.1:0"]
    command += ["--log-format", "json"]
    with (
        service_manager(environment["NOTIFY_SOCKET"]) as told,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as run,
    ):
        try:
            assert run.stderr is not None
            log = []
            for line in run.stderr:
                log.append(json.loads(line))
                if log[-1]["message"].startswith("http: "):
                    break
            address = log[-1]["message"].split()[1]
            deadline = time.monotonic() + 60
            while not (events := ask(address, "api/events").json["events"]) and time.monotonic() < deadline:
                time.sleep(0.2)
            while ask(address, "readyz").status != 200 and time.monotonic() < deadline:
                time.sleep(0.2)
            while "STATUS=1 of 1 sources online" not in told and time.monotonic() < deadline:
                time.sleep(0.2)
            sources, metrics = ask(address, "api/sources").json, ask(address, "metrics").body.decode()
            assert ask(address, "healthz").status == 200
        finally:
            run.terminate()
        log += [json.loads(line) for line in run.stderr]
        assert run.wait(30) == 0
    assert told[0] == "READY=1"
    assert told[-2:] == ["STOPPING=1", "STATUS=ending the run"]
    assert "WATCHDOG=1" in told
    assert "STATUS=1 of 1 sources online" in told
    assert any(line.get("label") and line.get("type") == "new" for line in log)
    assert any(line.get("state") == "online" for line in log)
    assert "source=camera state=online" in (tmp_path / "streamav.log").read_text(encoding="utf-8")
    assert events[0]["source"] == "camera"
    fits(sources, "Sources")
    assert sources["sources"][0]["state"] in {"online", "degraded"}
    assert 'streamav_source_state{source="camera",state="lost"} 0.0' in metrics
