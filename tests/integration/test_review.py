"""Tests of what a viewer of the live page may ask and say, over real connections: who may, what is saved, and that it can be used."""

from __future__ import annotations

import http.client
import io
import json
import math
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import SecretStr
from rigs.live_page import apart, need_web, observation, served, shown_event
from rigs.review_desk import NOW_S, make_desk, write_scores
from rigs.roles import EPOCH_NS, LABELS
from rigs.services import wait_until
from websockets.sync.client import connect as connect_to

from streamav.app import build
from streamav.config import ViewSettings
from streamav.config_loading import load_settings
from streamav.evaluation.recordings import read_labels
from streamav.offline import find_recordings
from streamav.publish.pending import MqttCounters
from streamav.review import broker_state
from streamav.thresholds import Thresholds
from streamav.view import LivePage
from streamav.view.moments import Moments, small_mp4

EVENT = "01M2FQ15JR5C4M5W1X2T7R3H6B"
TOKEN = "a long enough token"  # noqa: S105 - of tests alone


pytestmark = pytest.mark.slow  # encodes clips


@pytest.fixture(autouse=True)
def _web() -> None:
    need_web()


def asked(page: LivePage, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Return status and answer; a body is sent as the page sends it, unless headers are given."""
    parts = urllib.parse.urlsplit(page.address)
    usual = {"origin": page.address.rstrip("/"), "content-type": "application/json", "sec-fetch-site": "same-origin"}
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(
            "GET" if data is None else "POST",
            f"/page/{path}",
            data,
            dict((usual if data is not None else {}) if headers is None else headers),
        )
        answer = connection.getresponse()
        content = answer.read()
        kind = answer.headers.get("content-type", "")
        return answer.status, content if kind == "video/mp4" else json.loads(content) if kind == "application/json" else content.decode()
    finally:
        connection.close()


def feed(page: LivePage, seconds: int = 20) -> None:
    """Give the page some seconds with a tone, and an event over 9 to 14."""
    tone = (0.5 * np.sin(2 * math.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
    for index in range(seconds):
        page.observe("porch", observation(index, 0.9, sound=tone))
    page.event(shown_event(start=9, end=14), 0.1)
    wait_until("the clip is there", lambda: asked(page, f"clip/{EVENT}")[0] == 200, 30.0)


def said(verdict: str, start: float = 9.0, end: float = 14.0, **changed: object) -> dict[str, object]:
    return {
        "source": "porch",
        "verdict": verdict,
        "label": LABELS[0],
        "start_s": start,
        "end_s": end,
        "epoch_ms": EPOCH_NS // 1_000_000,
        **changed,
    }


def streams_of(content: bytes) -> tuple[float, str, str, float]:
    """Return length, codecs and loudness of a clip."""
    with av.open(io.BytesIO(content), "r") as file:
        length = (file.duration or 0) / av.time_base
        names = file.streams.video[0].codec_context.name, file.streams.audio[0].codec_context.name
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in file.decode(file.streams.audio[0])])
    return length, *names, float(np.sqrt(np.mean(samples**2)))


def test_a_clip_has_picture_and_sound(tmp_path: Path) -> None:
    """The clip of an event is an MP4 that browsers play, from two seconds before it, with the sound at its loudness."""
    with served(desk=make_desk(tmp_path)) as page:
        feed(page)
        status, clip = asked(page, f"clip/{EVENT}")
        length, picture, sound, loudness = streams_of(clip)
        assert (status, picture, sound) == (200, "h264", "aac")
        assert 6.9 <= length <= 7.2
        assert loudness == pytest.approx(0.5 / math.sqrt(2), rel=0.1)
        assert asked(page, "clip/01M2FQ15JR5C4M5W1X2T7R3H6C") == (
            400,
            {"error": "the clip of this event is gone; set clips.dir to keep clips of all events (docs/clips.md)"},
        )
        assert asked(page, "clip/..%2F..%2Fetc%2Fpasswd")[0] in {400, 404}


def test_a_clip_on_disk_comes_first(tmp_path: Path) -> None:
    """Where the run writes clips, the page shows the written one."""
    folder = tmp_path / "clips" / "porch"
    folder.mkdir(parents=True)
    (folder / f"20260914T102231Z_bark_{EVENT}.mp4").write_bytes(b"written")
    with served(desk=make_desk(tmp_path, clips=tmp_path / "clips")) as page:
        assert asked(page, f"clip/{EVENT}") == (200, b"written")


def test_what_is_said_can_be_trained_and_tuned_on(tmp_path: Path) -> None:
    """Right and missed events are labelled clips of ten seconds; a wrong one is background; what is said last about a clip counts."""
    with served(desk=make_desk(tmp_path)) as page:
        feed(page)
        assert asked(page, "say", said("right"))[0] == 200
        status, answer = asked(page, "say", said("wrong"))
        assert status == 200
        assert answer["folder"] == str(tmp_path / "reviewed")
        assert asked(page, "say", said("missed", 3.0, 5.0, label=LABELS[1]))[0] == 200
        assert asked(page, "say", said("right", 900.0, 905.0))[0] == 400
    labels = read_labels(tmp_path / "reviewed" / "labels.csv")
    wrong = "nothing/porch-20260914T102007Z-bark.mp4"
    missed = "found/porch-20260914T102001Z-bird.mp4"
    assert {name: [(one.label, one.onset_s, one.offset_s) for one in spans] for name, spans in labels.items()} == {
        wrong: [],
        missed: [(LABELS[1], 2.0, 4.0)],
    }
    assert find_recordings([str(tmp_path / "reviewed" / "nothing")]) == [str(tmp_path / "reviewed" / wrong)]
    assert 9.9 <= streams_of((tmp_path / "reviewed" / missed).read_bytes())[0] <= 10.2
    assert not list((tmp_path / "reviewed" / "found").glob("*bark*"))


def test_only_the_page_itself_may_save(tmp_path: Path) -> None:
    """Without our origin, from another site, as a form, too long, too deep or incomplete: refused, and nothing is written."""
    changes: list[tuple[str, Mapping[str, object]]] = []
    with served(desk=make_desk(tmp_path, changes=changes)) as page:
        feed(page)
        own, json_type = {"origin": page.address.rstrip("/")}, {"content-type": "application/json"}
        for headers, body, status in (
            (json_type, None, 403),
            ({"origin": "https://evil.example", **json_type}, None, 403),
            ({**own, **json_type, "sec-fetch-site": "cross-site"}, None, 403),
            ({**own, "content-type": "text/plain"}, None, 400),
            ({**own, **json_type}, b"{" * 20_000, 400),
            ({**own, **json_type}, b"[" * 9_000, 400),
            ({**own, **json_type}, b'{"source": "porch"}', 400),
        ):
            for path in ("say", "thresholds", "zone"):
                found, _ = asked(page, path, said("right") if body is None else body, headers)
                assert found == status, (path, headers, body)
    assert not (tmp_path / "reviewed").exists()
    assert changes == []


def test_a_token_is_needed_for_every_question(tmp_path: Path) -> None:
    """With a token, no address of the page answers without the cookie of the login."""
    settings = ViewSettings(enabled=True, port=0, token=SecretStr(TOKEN))
    write_scores(tmp_path / "journal.sqlite3", [0.9] * 10)
    with served(settings=settings, desk=make_desk(tmp_path, changes=[])) as page:
        for path in (
            "facts",
            "why?source=porch&at=1",
            "what-if?source=porch&label=bark&on=0.5&off=0.2",
            "zones?source=porch",
            f"clip/{EVENT}",
        ):
            assert asked(page, path)[0] == 401, path
        for path in ("say", "thresholds", "zone"):
            assert asked(page, path, said("right"))[0] == 401, path


def test_hostile_names_stay_in_the_folder(tmp_path: Path) -> None:
    """Sources and labels that are no slugs are refused: nothing is written outside the folder."""
    with served(desk=make_desk(tmp_path)) as page:
        feed(page)
        for changed in (
            {"source": "../x"},
            {"label": "../../x"},
            {"label": "a/b"},
            {"verdict": "maybe"},
            {"start_s": -1.0},
            {"extra": 1},
            {"epoch_ms": 10**15},
        ):
            assert asked(page, "say", said("right") | changed)[0] == 400, changed
    assert not (tmp_path / "reviewed").exists()


def test_seconds_without_people_are_no_training_data(tmp_path: Path) -> None:
    """With a privacy nothing is saved for training, and the answer says why; the clip of the page is gone with metadata_only."""
    with served(desk=make_desk(tmp_path)) as page:
        page.set_privacy("porch", ("blur",))
        feed(page)
        status, answer = asked(page, "say", said("right"))
        assert status == 400
        assert "detection.privacy blur" in answer["error"]
        page.set_privacy("porch", ("metadata_only",))
        wait_until("the clip is gone", lambda: asked(page, f"clip/{EVENT}")[0] == 400, 30.0)
        status, answer = asked(page, "say", said("right"))
        assert status == 400
        assert "metadata_only" in answer["error"]
    assert not list(tmp_path.rglob("*.mp4"))


def test_the_last_hour_is_counted_by_the_rule_of_the_tracker(tmp_path: Path) -> None:
    """What if: a lower threshold gives more events, of the right length and time; a gap in the scores ends an event."""
    write_scores(tmp_path / "journal.sqlite3", [0.0] * 10 + [0.9] * 4 + [0.0] * 5 + [0.5] * 3 + [0.0] * 5)
    write_scores(tmp_path / "journal.sqlite3", [0.9] * 3, first=100)
    desk = make_desk(tmp_path)
    found = desk.what_if("porch", LABELS[0], Thresholds(on=0.4, off=0.2, min_segments=2, gap_segments=1), NOW_S)
    zero = EPOCH_NS / 1e9
    assert found["seconds"] == 30
    assert (found["now"]["events"], found["then"]["events"]) == (2, 3)
    assert found["then"]["spans"] == [[zero + 10, zero + 14], [zero + 19, zero + 22], [zero + 100, zero + 103]]
    assert (found["now"]["seconds"], found["then"]["seconds"]) == (7, 10)
    with served(desk=desk) as page:
        assert asked(page, "what-if?source=porch&label=nothing&on=0.5&off=0.2")[0] == 400
        assert asked(page, "what-if?source=porch&label=bark&on=0.2&off=0.5")[0] == 400
        status, answer = asked(page, f"why?source=porch&at={zero + 11.5}")
        assert status == 200
        assert "bark is an event" in answer["why"]


def test_changes_are_passed_on_and_refused_in_words(tmp_path: Path) -> None:
    """Thresholds and zones become a part of the settings; what the run refuses is answered with its sentence, and nothing changes."""
    changes: list[tuple[str, Mapping[str, object]]] = []
    with served(desk=make_desk(tmp_path, changes=changes)) as page:
        assert asked(page, "thresholds", {"source": "porch", "label": LABELS[0], "on": 0.5, "off": 0.25})[0] == 200
        corners = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]
        assert asked(page, "zone", {"source": "porch", "name": "gate", "corners": corners})[0] == 200
        assert asked(page, "zone", {"source": "porch", "name": "gate", "corners": []})[0] == 200
        assert asked(page, "thresholds", {"source": "porch", "label": LABELS[0], "on": 0.05, "off": 0.01}) == (
            400,
            {"error": "on must be at least 0.1"},
        )
        assert asked(page, "zone", {"source": "porch", "name": "<b>", "corners": corners})[0] == 400
        assert asked(page, "zones?source=porch")[1]["zones"]["door"][1] == [0.4, 0.1]
    assert changes == [
        ("porch", {"classes": {LABELS[0]: {"on": 0.5, "off": 0.25}}}),
        ("porch", {"zones": {"gate": corners}}),
        ("porch", {"zones": {"gate": None}}),
    ]
    with served(desk=make_desk(tmp_path)) as page:
        assert asked(page, "zone", {"source": "porch", "name": "gate", "corners": corners}) == (400, {"error": "this run takes no changes"})


def test_the_seconds_are_bounded_and_have_no_gap() -> None:
    """The newest minute of each source is kept; after a gap only what follows it is used."""
    moments = Moments(["porch"])
    for index in [*range(70), *range(75, 80)]:
        segment = observation(index).segment
        assert segment is not None
        moments.add("porch", segment, [b"jpeg"])
    assert [one.index for one in moments.between("porch", 0, 70)] == list(range(15, 70))
    assert [one.index for one in moments.between("porch", 66, 90)] == list(range(75, 80))
    assert moments.newest("porch") == 79


def test_pictures_of_any_number_make_a_clip() -> None:
    """Seconds with one to four pictures of odd sizes give a clip of their length."""
    from streamav.view.moments import Second
    from streamav.view.pictures import PictureEncoder

    encoder = PictureEncoder()
    shots = [encoder.jpeg(np.full((33, 47, 3), value, np.uint8)) for value in (0, 90, 180)]
    clip = small_mp4([Second(0, (shots[0],), np.zeros(16_000, np.int16)), Second(1, tuple(shots), np.zeros(16_000, np.int16))])
    assert 1.9 <= streams_of(clip)[0] <= 2.2


@pytest.mark.parametrize(
    ("changed", "state", "says"),
    [
        ({"connected": True, "connects": 1}, "online", ""),
        ({"attempts": 1}, "warming_up", ""),
        ({"attempts": 3, "queue_depth": 2}, "lost", "2 messages about events wait"),
        ({"attempts": 3, "connects": 1, "queue_depth": 1}, "lost", "1 message about events wait"),
        ({"connected": True, "connects": 1, "refused": 4}, "degraded", "access rules"),
    ],
)
def test_the_broker_is_told_in_words(changed: dict[str, int | bool], state: str, says: str) -> None:
    """Each state of the connection has a reason and, where there is something to do, a remedy."""
    counters = MqttCounters()
    for name, value in changed.items():
        setattr(counters, name, value)
    told = broker_state(counters)
    assert told["state"] == state
    assert says in told["remedy"]
    assert told["reason"]


def test_a_run_takes_what_the_page_changes(tmp_path: Path) -> None:
    """Thresholds and zones from the page hold in a real run: its plan has them, they are kept, and viewers are told."""
    settings = load_settings(
        options={
            "source": {"scene": True, "id": "porch", "duration_s": 5.0},
            "view": {"enabled": True, "port": 0},
            "model": {"engine": "torch"},
            "state_dir": str(tmp_path),
        }
    )
    application = build(settings, journal=True)
    page = application.page
    assert page is not None
    apart(page.start())
    try:
        assert asked(page, "facts")[1] == {"changes": True, "journal": True, "folder": str(tmp_path / "reviewed")}
        assert asked(page, "thresholds", {"source": "porch", "label": "siren", "on": 0.6, "off": 0.3})[0] == 200
        corners = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
        assert asked(page, "zone", {"source": "porch", "name": "left", "corners": corners})[0] == 200
        status, answer = asked(page, "zone", {"source": "porch", "name": "flat", "corners": corners[:2]})
        assert status == 400
        assert "3 to 100 corners" in answer["error"]
        plan = application.controls.plan("porch")
        assert next(one.thresholds.on for one in plan.labels if one.label == "siren") == 0.6
        assert asked(page, "zones?source=porch")[1] == {"zones": {"left": corners}}
        application.controls.change("porch", {"privacy": "metadata_only"})  # as MQTT and the HTTP API do
        page.observe("porch", observation(0))
        page.changed("porch", {one.label: one.thresholds for one in plan.labels})
        with connect_to(page.address.replace("http", "ws", 1) + "live", proxy=None, max_size=None) as viewer:
            hello, turn = (json.loads(viewer.recv()) for _ in range(2))
        assert (turn["privacy"], turn["segment"]["pictures"]) == ("metadata_only", [])
        siren = next(one for one in hello["sources"][0]["labels"] if one["label"] == "siren")
        assert (hello["review"], hello["changes"], siren["thresholds"]["on"]) == (True, True, 0.6)
    finally:
        apart(page.close())
