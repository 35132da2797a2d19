"""Tests of the live page's parts that need no server: messages, what is kept, viewers, and who may look."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import MutableMapping
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.live_page import HOSTILE, observation, shown_event
from rigs.roles import FakeClock, FakeExtractor, FakeLocalizer, FakeSource, RecordingSink, seconds

from streamav.config import Settings, ViewSettings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.features import LogMelOptions
from streamav.pipeline import Pipeline, SourceSetup
from streamav.privacy_modes import PRIVACY_CHOICES, Privacy, privacy_word, read_privacy, stricter
from streamav.remedies import remedy
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import Observation, SourceState
from streamav.view.board import MOST_EVENTS, Board, kept_turns
from streamav.view.hiding import Hiding
from streamav.view.pictures import PictureEncoder, mel_text
from streamav.view.viewers import Viewers
from streamav.web.guard import COOKIE, Guard, Receive, Scope, Send, Tokens
from streamav.web.server import need_packages

# What the loop hands over

FRONT_END = LogMelOptions(offset=0.001)


class RecordingObserver:
    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def observe(self, source: str, observation: Observation) -> None:
        assert source == "porch"
        self.seen.append(observation)


def run_with(observer: RecordingObserver | None, loudnesses: list[float], latency: int) -> RecordingSink:
    label = LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=Thresholds(on=0.5, off=0.3))
    setup = SourceSetup(
        id="porch",
        source=FakeSource(seconds(loudnesses)),
        segmenter=SegmenterOptions(frames_per_second=2, picture=(4, 4)),
        labels=(label,),
        latency_segments=latency,
        paced=False,
    )
    sink = RecordingSink()
    asyncio.run(Pipeline([setup], FakeExtractor(), FakeLocalizer(), sink, FakeClock(), observer=observer).run())
    return sink


def test_an_observer_sees_every_segment_and_every_score() -> None:
    """Each segment is seen once, in order; a score is seen while it is provisional and once when it is final."""
    observer = RecordingObserver()
    run_with(observer, [0.1] * 14, latency=4)
    assert [one.segment.index for one in observer.seen if one.segment is not None] == list(range(14))
    final = [cell.index for one in observer.seen for cell in one.scores if cell.final]
    assert sorted(final) == list(range(14))
    ages = [cell.age for one in observer.seen for cell in one.scores if cell.index == 11 and not cell.final]
    assert ages == [0, 1, 2]


def test_the_stage_times_add_up_to_the_latency() -> None:
    """Every segment has a time for each stage, none negative, and they add up to no more than the run took."""
    observer = RecordingObserver()
    run_with(observer, [0.1] * 12, latency=1)
    times = [one.times for one in observer.seen if one.times is not None]
    assert len(times) == 12
    for one in times:
        parts = (one.capture_s, one.wait_s, one.features_s, one.model_s, one.publish_s)
        assert min(parts) >= 0.0
        assert one.features_s > 0.0


def test_a_run_without_an_observer_has_the_same_events() -> None:
    """An observer changes nothing: the same events come with and without one."""
    loudnesses = [0.1] * 4 + [0.9] * 4 + [0.1] * 6
    events = [
        [(one.phase, one.start_ns, one.end_ns) for one in run_with(watch, loudnesses, 3).events] for watch in (None, RecordingObserver())
    ]
    assert events[0]
    assert events[0] == events[1]


# Media


def test_pictures_are_jpeg_files_of_the_model_s_size() -> None:
    """A browser can decode each picture; its size and colours are those that the networks took."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 0] = 200
    encoder = PictureEncoder()
    for shape in (pixels, pixels[:31, :33]):
        with av.open(BytesIO(encoder.jpeg(shape)), "r") as file:
            decoded = next(file.decode(video=0)).to_ndarray(format="rgb24")
        assert decoded.shape == shape.shape
        assert np.abs(decoded.astype(int) - shape).max() < 12


def test_at_most_four_pictures_of_a_segment_are_shown() -> None:
    """A model that takes 16 pictures a second does not send 16 to every browser."""
    segment = observation(3).segment
    assert segment is not None
    many = type(segment)(index=3, start_ns=segment.start_ns, audio=segment.audio, frames=np.repeat(segment.frames, 4, axis=0))
    assert len(PictureEncoder().pictures(many)) == 4


def test_the_spectrogram_is_the_patch_of_the_model() -> None:
    """A tone of 1 kHz is brightest in the band of 1 kHz in all 96 columns; silence is 0 everywhere."""
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)
    patch = np.frombuffer(b64decode(mel_text(tone, FRONT_END)), np.uint8).reshape(96, 64)
    assert set(patch.argmax(axis=1)) == {patch[0].argmax()}
    low, high, mel = (1127 * np.log1p(hz / 700) for hz in (125.0, 7500.0, 1000.0))
    assert abs(patch[0].argmax() - ((mel - low) / (high - low) * 65 - 1)) < 1.0
    assert max(b64decode(mel_text(np.zeros(16_000, np.float32), FRONT_END))) == 0


# What is kept


def test_the_board_keeps_the_newest_of_everything() -> None:
    """A new viewer is sent the newest 60 turns of one source and the newest events, however long the run is."""
    board = Board({"porch": FRONT_END}, {"porch": (0, 1, 2)})
    for index in range(90):
        board.turn("porch", observation(index))
    for number in range(MOST_EVENTS + 20):
        board.event(shown_event(identifier=f"{number:026d}"), 0.1)
    board.state("porch", SourceState.ONLINE, "sound and picture arrive")
    found = [json.loads(one) for one in board.newest()]
    turns = [one["segment"]["index"] for one in found if one["type"] == "turn"]
    assert turns == list(range(30, 90))
    events = [one["id"] for one in found if one["type"] == "event"]
    assert events == [f"{number:026d}" for number in range(20, MOST_EVENTS + 20)]
    assert found[0]["state"] == "online"


@pytest.mark.parametrize("sources", [1, 4, 16, 64])
def test_many_sources_keep_less_each(sources: int) -> None:
    """The turns of all sources together stay below 800, and a window and a bit is always kept."""
    assert kept_turns(sources) * sources <= 800
    assert kept_turns(sources) >= 12


def test_an_event_shows_the_picture_of_its_best_segment() -> None:
    """The thumbnail is the picture of the segment with the best score, and stays when that segment is no longer kept."""
    board = Board({"porch": FRONT_END}, {"porch": (0, 1, 2)})
    message: dict[str, Any] = {}
    for index in range(12):
        turn = json.loads(board.turn("porch", observation(index)))
        if index == 9:
            middle = turn["segment"]["pictures"][2]
            message = json.loads(board.event(shown_event(start=9), 0.1))
    assert message["thumbnail"] == middle
    for index in range(12, 90):
        board.turn("porch", observation(index))
    assert json.loads(board.event(shown_event(start=9, end=80), 0.1))["thumbnail"] == middle


def test_a_turn_without_a_segment_is_shown_too() -> None:
    """When a source is lost, the scores that become final then reach the page."""
    whole = observation(12, 0.9)
    lost = Observation(segment=None, scores=whole.scores, times=None, busy_s=0.0, epoch_ns=whole.epoch_ns, skew_ms=None, dropped_segments=0)
    message = json.loads(Board({"porch": FRONT_END}, {"porch": (0, 1, 2)}).turn("porch", lost))
    assert message["segment"] is None
    assert len(message["cells"]) == 4


class _Page:
    """A board of one source, whose clock stands still, with what it sends a new viewer."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.hiding = Hiding(lambda: self.now_s)
        halves = np.zeros((1, 1, 3), np.uint8)
        self.board = Board({"porch": FRONT_END}, {"porch": (0, 1, 2)}, hide=lambda picture: picture * 0 + halves, hiding=self.hiding)
        self.sound = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)

    def turn(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.board.turn("porch", observation(index, sound=self.sound)))
        return found

    def set(self, privacy: Privacy) -> None:
        self.hiding.set("porch", privacy)
        self.board.refresh("porch")

    @property
    def shown(self) -> str:
        return "".join(self.board.newest())


def pictured(turn: dict[str, Any]) -> int:
    """Return the brightest value of the pictures of a turn; -1 without pictures."""
    brightest = -1
    for one in turn["segment"]["pictures"]:
        with av.open(BytesIO(b64decode(one)), "r", format="jpeg_pipe") as file:
            brightest = max(brightest, int(next(file.decode(video=0)).to_ndarray(format="rgb24").max()))
    return brightest


def heard(turn: dict[str, Any]) -> int:
    return max(b64decode(turn["segment"]["mel"]))


@pytest.mark.parametrize(
    ("privacy", "bright", "loud"),
    [((), True, True), (("blur",), False, True), (("mute_speech",), True, False), (("blur", "mute_speech"), False, False)],
)
def test_privacy_hides_pictures_and_sound_of_the_page(privacy: Privacy, bright: bool, loud: bool) -> None:
    """With blur no picture is as it was, with mute_speech there is no spectrogram; the scores go on. So are the seconds of clips."""
    page = _Page()
    page.set(privacy)
    turn = page.turn(200)
    assert (pictured(turn) > 150, heard(turn) > 0) == (bright, loud)
    assert turn["privacy"] == privacy_word(privacy)
    (second,) = page.board.moments.between("porch", 200, 201)
    assert (second.privacy, bool(np.any(second.sound))) == (privacy, loud)


def test_metadata_only_takes_all_pictures_off_the_page() -> None:
    """What the page kept is dropped: pictures, spectrograms, thumbnails, seconds and clips; events, places and scores stay."""
    page = _Page()
    for index in range(12):
        page.turn(index)
    page.board.event(shown_event(start=9), 0.1)
    assert page.board.moments.of_event(shown_event().id)
    page.set(("metadata_only",))
    assert '"pictures":["' not in page.shown
    assert '"thumbnail":"' not in page.shown
    assert all(heard(one) == 0 for one in map(json.loads, page.board.newest()) if one["type"] == "turn")
    assert page.board.moments.of_event(shown_event().id) == ()
    assert page.board.moments.between("porch", 0, 12) == ()
    turn = page.turn(12)
    assert (turn["segment"]["pictures"], heard(turn), len(turn["cells"])) == ([], 0, 4)
    message = json.loads(page.board.event(shown_event(start=9, end=13), 0.1))
    assert (message["thumbnail"], message["box"] is None) == (None, False)


def test_a_less_strict_privacy_holds_for_the_page_a_little_later() -> None:
    """Seconds that were recorded before the change are still on their way, so the page shows them as they were to be shown."""
    page = _Page()
    page.set(("metadata_only",))
    page.now_s = 100.0
    page.set(())
    page.now_s = 110.0
    assert pictured(page.turn(200)) == -1
    page.now_s = 120.0
    assert pictured(page.turn(201)) > 150


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.sampled_from(PRIVACY_CHOICES)), max_size=30), st.floats(0.0, 40.0))
def test_what_is_shown_was_never_to_be_hidden(changes: list[tuple[float, str]], later_s: float) -> None:
    """For any changes, what holds for the page is at least as strict as everything of the last ten seconds, and memory is bounded."""
    now_s, told = 0.0, list[tuple[float, Privacy]]()
    hiding = Hiding(lambda: now_s)
    for pause_s, word in changes:
        now_s += pause_s
        told.append((now_s, read_privacy(word)))
        hiding.set("porch", told[-1][1])
    now_s += later_s
    ends = [*(begin_s for begin_s, _ in told[1:]), now_s]
    recent = [privacy for (_, privacy), end_s in zip(told, ends, strict=False) if now_s - end_s <= 10.0]
    assert stricter(hiding.of("porch"), *recent) == hiding.of("porch")
    if told and all(now_s - begin_s > 20.0 for begin_s, _ in told):
        assert hiding.of("porch") == told[-1][1]


def test_no_secret_of_an_address_reaches_the_page() -> None:
    """The reason of a state may hold the address of a camera; its password is not sent."""
    board = Board({"porch": FRONT_END}, {"porch": (0, 1, 2)})
    text = board.state("porch", SourceState.LOST, "rtsp://admin:hunter2@192.0.2.7/live does not answer")
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("state", "reason", "word"),
    [
        (SourceState.LOST, "no more data; trying again", "cable"),
        (SourceState.LOST, "a.mp4 is not a media file", "start the run again"),
        (SourceState.DEGRADED, "no sound for 4 s", "microphone"),
        (SourceState.DEGRADED, "no picture for 3 s", "camera"),
        (SourceState.DEGRADED, "2 s skipped, the machine is behind", "keep up"),
        (SourceState.WARMING_UP, "started", "ten seconds"),
    ],
)
def test_every_trouble_has_a_remedy(state: SourceState, reason: str, word: str) -> None:
    """A person reads what to do, not only that something is wrong."""
    assert word in remedy(state, reason)


# Viewers


async def test_a_viewer_that_does_not_keep_up_is_dropped_and_the_others_stay() -> None:
    """A browser whose connection never takes anything is dropped once its queue is full; a fast one gets every message."""

    class Stuck:
        async def send_text(self, data: str) -> None:
            await asyncio.Event().wait()

    class Fast:
        def __init__(self) -> None:
            self.got: list[str] = []

        async def send_text(self, data: str) -> None:
            self.got.append(data)

    viewers, fast = Viewers(), Fast()
    slow_viewer, fast_viewer = viewers.add(), viewers.add()
    slow = asyncio.create_task(slow_viewer.serve(Stuck(), ["hello"]))
    slow_viewer.on_drop = slow.cancel
    quick = asyncio.create_task(fast_viewer.serve(fast, ["hello"]))
    for number in range(1000):
        viewers.send(str(number))
        await asyncio.sleep(0)
    viewers.send(None)
    await quick
    assert fast.got == ["hello", *(str(number) for number in range(1000))]
    assert viewers.dropped == 1
    assert slow_viewer.dropped
    with pytest.raises(asyncio.CancelledError):
        await slow


# Who may look


async def ask(
    guard_host: str, *, kind: str = "http", method: str = "GET", token: str | None = None, **headers: str
) -> list[dict[str, Any]]:
    """Return what the guard answers; the page behind it answers 200 or accepts."""
    sent: list[dict[str, Any]] = []

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    async def receive() -> MutableMapping[str, Any]:
        return {}

    tokens = Tokens(token)
    raw = [(b"host", guard_host.encode())] + [(name.encode(), value.encode()) for name, value in headers.items()]
    raw = [(name, tokens.session.encode().join(value.split(b"SESSION"))) for name, value in raw]
    await Guard(page, tokens, "view")({"type": kind, "method": method, "scheme": "http", "path": "/", "headers": raw}, receive, send)
    return sent


def passed(sent: list[dict[str, Any]]) -> bool:
    return sent[0]["type"] == "websocket.accept" or sent[0].get("status") == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8734", "localhost:8734", "[::1]:8734", "LOCALHOST"])
async def test_this_machine_may_look_without_a_token(host: str) -> None:
    """The page answers under every name of this machine."""
    assert passed(await ask(host))
    assert passed(await ask(host, kind="websocket", origin=f"http://{host}"))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8734", "192.0.2.1", "127.0.0.1.evil.example", "", "127.0.0.1/x", "a b"])
async def test_a_foreign_name_is_refused_without_a_token(host: str) -> None:
    """A web site that points its own name at 127.0.0.1 (DNS rebinding) gets nothing."""
    assert not passed(await ask(host))
    assert not passed(await ask(host, kind="websocket"))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8734", "file://"])
async def test_another_origin_cannot_open_the_websocket(origin: str) -> None:
    """Only the page itself may open the WebSocket: a script of another site, or of another port, is refused."""
    assert not passed(await ask("127.0.0.1:8734", kind="websocket", origin=origin))
    assert not passed(await ask("127.0.0.1:8734", method="POST", origin=origin))


async def test_with_a_token_only_the_cookie_opens_the_websocket() -> None:
    """Without the cookie of this run, or with a wrong one, the WebSocket is refused under any name."""
    token = "a long enough token"  # noqa: S105 - of tests alone
    assert passed(await ask("cam.home", kind="websocket", token=token, cookie=f"{COOKIE}=SESSION", origin="http://cam.home"))
    assert not passed(await ask("cam.home", kind="websocket", token=token, origin="http://cam.home"))
    assert not passed(await ask("cam.home", kind="websocket", token=token, cookie=f"{COOKIE}=guess", origin="http://cam.home"))
    assert not passed(await ask("cam.home", kind="websocket", token=token, cookie=f"{COOKIE}=SESSION", origin="http://evil.example"))


async def test_the_headers_keep_foreign_code_out() -> None:
    """Every answer forbids inline scripts, frames and other origins."""
    (start,) = await ask("127.0.0.1:8734")
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "connect-src 'self' ws://127.0.0.1:8734;" in policy
    assert headers["x-content-type-options"] == "nosniff"


# Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.5", "cam.home"])  # noqa: S104 - what the token is for
def test_an_exposed_page_needs_a_token(host: str, tmp_path: Path) -> None:
    """An address that other machines reach is refused without a token, and taken with one."""
    with pytest.raises(SettingsError, match="STREAMAV_VIEW_TOKEN"):
        load_settings(overrides=[f"view.host={host}"], environment={})
    settings = load_settings(overrides=[f"view.host={host}"], environment={"STREAMAV_VIEW_TOKEN": "a long enough token"})
    assert settings.view.secret() == "a long enough token"
    file = tmp_path / "token"
    file.write_text("another long token\n", encoding="utf-8")
    assert load_settings(overrides=[f"view.host={host}", f"view.token_file={file}"], environment={}).view.secret() == "another long token"


def test_a_short_token_is_refused_and_not_shown() -> None:
    """A token that can be guessed is refused; no message and no display of the settings holds it."""
    with pytest.raises(SettingsError, match="at least 12 letters, got 5") as caught:
        load_settings(environment={"STREAMAV_VIEW_TOKEN": "short"}).view.secret()
    assert "short" not in str(caught.value)
    assert "a long enough token" not in repr(load_settings(environment={"STREAMAV_VIEW_TOKEN": "a long enough token"}))


@pytest.mark.parametrize("override", ["view.token=a long enough token", "view={token='a long enough token'}"])
def test_the_token_is_refused_on_the_command_line(override: str) -> None:
    """Other users of the machine can read the command line."""
    with pytest.raises(SettingsError, match="STREAMAV_VIEW_TOKEN") as caught:
        load_settings(overrides=[override], environment={})
    assert "long enough" not in str(caught.value)


def test_without_being_asked_there_is_no_page() -> None:
    """The page is off unless it is asked for, and listens on the loopback interface."""
    assert Settings().view == ViewSettings(enabled=False, host="127.0.0.1")


def test_hostile_texts_stay_texts() -> None:
    """A label's name with markup is sent as JSON text, unchanged, for the page to set as text."""
    board = Board({"porch": FRONT_END}, {"porch": (0, 1, 2)})
    assert json.loads(board.event(shown_event(name=HOSTILE), 0.1))["name"] == HOSTILE
    assert json.loads(board.state("porch", SourceState.LOST, HOSTILE))["reason"].startswith("<img")


@pytest.mark.parametrize(("names", "said"), [(["no_a"], "no_a is missing; run"), (["json", "no_a", "no_b"], "no_a, no_b are missing; run")])
def test_packages_of_an_extra_that_are_missing_are_named(names: list[str], said: str) -> None:
    """The sentence names what is missing and the extra to install, for one package and for several."""
    with pytest.raises(SettingsError, match=said):
        need_packages("the live page (--view)", names)
