"""Tests of encoding and decoding `streamav.event/1`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.published_events import MODEL, events, make_event

from streamav.errors import ShapeError
from streamav.publish.message import MAX_MESSAGE_BYTES, EventMessage, MessageError, decode, describe, encode, ended_by_restart, fitted
from streamav.types import Event, EventPhase

EXAMPLE = """{
  "schema": "streamav.event/1", "type": "update", "seq": 3, "id": "01M2FQ15JR5C4M5W1X2T7R3H6B",
  "source": "porch", "label": "bark", "label_name": "Bark", "class_id": 2,
  "start_time": "2026-09-14T10:22:31.000Z", "end_time": null, "start_ts": 1789381351.0, "end_ts": null,
  "duration_s": 4.0, "media_start_s": 151.0, "media_end_s": null,
  "score": 0.91, "top_score": 0.94, "is_event_score": 0.88, "av_similarity": 0.63, "score_kind": "segment_scores",
  "segments": [
    {"ts": 1789381351.0, "score": 0.86, "is_event": 0.81}, {"ts": 1789381352.0, "score": 0.94, "is_event": 0.90},
    {"ts": 1789381353.0, "score": 0.92, "is_event": 0.89}, {"ts": 1789381354.0, "score": 0.91, "is_event": 0.88}],
  "location": {"grid": [7, 7], "peak": [0.64, 0.41], "box": [0.52, 0.30, 0.78, 0.55]},
  "zones": ["driveway"], "audio": {"rms_dbfs": -24.1}, "latency_s": 1.8, "av_skew_ms": -12, "confirmed": true, "end_reason": null,
  "snapshot_url": "http://host:8550/api/events/01M2FQ15JR5C4M5W1X2T7R3H6B/snapshot.jpg", "clip_url": null, "has_clip": false,
  "model": {"name": "vscg-ave", "version": "1.0", "sha256": "ab", "backend": "tensorrt-fp16"},
  "modalities": ["sound", "picture"], "trained": true
}"""

# The frozen contract: key -> allowed JSON types. Within /1 a key may be added, but never changed or removed.
TEXT, NUMBER, INTEGER, FLAG, NULL, LIST, TABLE = str, float, int, bool, type(None), list, dict
CONTRACT: dict[str, tuple[type, ...]] = {
    "schema": (TEXT,),
    "type": (TEXT,),
    "seq": (INTEGER,),
    "id": (TEXT,),
    "source": (TEXT,),
    "label": (TEXT,),
    "label_name": (TEXT,),
    "class_id": (INTEGER, NULL),
    "start_time": (TEXT,),
    "end_time": (TEXT, NULL),
    "start_ts": (NUMBER,),
    "end_ts": (NUMBER, NULL),
    "duration_s": (NUMBER,),
    "media_start_s": (NUMBER,),
    "media_end_s": (NUMBER, NULL),
    "score": (NUMBER,),
    "top_score": (NUMBER,),
    "is_event_score": (NUMBER, NULL),
    "av_similarity": (NUMBER, NULL),
    "score_kind": (TEXT,),
    "segments": (LIST,),
    "location": (TABLE, NULL),
    "zones": (LIST,),
    "audio": (TABLE,),
    "latency_s": (NUMBER,),
    "av_skew_ms": (NUMBER, INTEGER, NULL),
    "confirmed": (FLAG,),
    "end_reason": (TEXT, NULL),
    "snapshot_url": (TEXT, NULL),
    "clip_url": (TEXT, NULL),
    "has_clip": (FLAG,),
    "model": (TABLE,),
    "modalities": (LIST,),
    "trained": (FLAG,),
}
ADDED = {"modalities", "trained"}
"""Keys that were added within /1: a message of an older version lacks them and is read all the same."""
NESTED: dict[str, dict[str, tuple[type, ...]]] = {
    "location": {"grid": (LIST,), "peak": (LIST,), "box": (LIST, NULL)},
    "audio": {"rms_dbfs": (NUMBER, NULL)},
    "model": {"name": (TEXT,), "version": (TEXT,), "sha256": (TEXT,), "backend": (TEXT,)},
}
SEGMENT = {"ts": (NUMBER,), "score": (NUMBER,), "is_event": (NUMBER, NULL)}


def _breaches(tree: dict[str, object], contract: dict[str, tuple[type, ...]]) -> list[str]:
    """Return the keys that are missing or have another type; keys that the contract does not list are no breach."""
    return [key for key, kinds in contract.items() if key not in tree or type(tree[key]) not in kinds]


def test_the_example_of_the_contract_comes_back_as_it_was() -> None:
    """Decoding the documented example and encoding it again gives the same object, with the keys in the same order."""
    tree = json.loads(EXAMPLE)
    again = json.loads(decode(EXAMPLE.encode()).to_bytes())
    assert again == tree
    assert list(again) == list(tree)


@cases(60)
@given(event=events())
def test_every_key_is_there_with_the_type_of_the_contract(event: Event) -> None:
    """Every event is encoded with every key of the contract, with the right type, and with no other key."""
    tree = json.loads(encode(event, MODEL, 0.4))
    assert list(tree) == list(CONTRACT)
    assert _breaches(tree, CONTRACT) == []
    for key, contract in NESTED.items():
        assert tree[key] is None or _breaches(tree[key], contract) == []
    for segment in tree["segments"]:
        assert _breaches(segment, SEGMENT) == []


@pytest.mark.parametrize("key", sorted(CONTRACT))
def test_a_removed_or_retyped_key_is_noticed(key: str) -> None:
    """The check above finds each key that is removed or has another type, and accepts an added key."""
    tree = json.loads(EXAMPLE)
    assert _breaches({**tree, "extra": 1}, CONTRACT) == []
    assert _breaches({k: v for k, v in tree.items() if k != key}, CONTRACT) == [key]
    assert _breaches({**tree, key: ("no JSON type",)}, CONTRACT) == [key]
    if key in ADDED:
        return
    with pytest.raises(MessageError):
        decode(json.dumps({k: v for k, v in tree.items() if k != key} | ({"schema": "x/2"} if key == "schema" else {})).encode())


@cases(100)
@given(event=events(), latency_s=st.floats(-10, 1e5))
def test_decoding_what_was_encoded_gives_the_same_message(event: Event, latency_s: float) -> None:
    """Encoding and decoding lose and change nothing, and the values are those of the event."""
    data = encode(event, MODEL, latency_s)
    message = decode(data)
    assert message == describe(event, MODEL, latency_s)
    assert (message.id, message.seq, message.type, message.source, message.label) == (
        event.id,
        event.sequence,
        event.phase.value,
        event.source,
        event.label,
    )
    assert message.confirmed == event.confirmed
    assert message.label_name == event.label_name
    assert abs(message.score - event.score) <= 0.5e-4 + 1e-12
    assert round(message.media_start_s * 1e9) == event.start_ns
    assert abs(message.start_ts - (event.epoch_ns + event.start_ns) / 1e9) <= 0.0011
    assert len(data) < MAX_MESSAGE_BYTES


def test_times_are_utc_with_milliseconds_and_name_the_same_instant() -> None:
    """start_time equals start_ts, end_time equals end_ts, and media times are on the clock of the source."""
    tree = json.loads(encode(make_event(phase=EventPhase.END, start_s=151, seconds=4), MODEL, 1.8))
    assert (tree["start_time"], tree["start_ts"]) == ("2026-09-14T10:22:31.000Z", 1789381351.0)
    assert (tree["end_time"], tree["end_ts"]) == ("2026-09-14T10:22:35.000Z", 1789381355.0)
    assert (tree["media_start_s"], tree["media_end_s"], tree["duration_s"]) == (151.0, 155.0, 4.0)


def test_an_hour_long_event_stays_small() -> None:
    """A message holds only the last ten segments, so its size does not grow with the length of the event."""
    data = encode(make_event(phase=EventPhase.UPDATE, seconds=3600), MODEL, 0.1)
    assert len(data) < 4096
    assert len(json.loads(data)["segments"]) == 10


@pytest.mark.parametrize("change", [{"score": float("nan")}, {"top_score": float("inf")}, {"score": 1.5}, {"id": "short"}, {"sequence": 0}])
def test_an_event_that_breaks_the_contract_is_not_published(change: dict[str, object]) -> None:
    """An event with a wrong value raises ShapeError and is not encoded."""
    with pytest.raises(ShapeError, match="cannot be published"):
        encode(replace(make_event(), **change), MODEL, 0.1)  # type: ignore[arg-type]


@cases(200)
@given(data=st.binary(max_size=400) | st.text(max_size=200).map(str.encode) | st.just(b"[" * 100_000) | st.just(b'{"a":' * 50_000))
def test_hostile_bytes_give_one_clear_error(data: bytes) -> None:
    """For any bytes decode returns a message or raises MessageError, and no other error."""
    with pytest.raises(MessageError):
        decode(data)


@cases(150)
@given(data=st.data())
def test_a_message_with_one_key_replaced_is_read_or_refused(data: st.DataObject) -> None:
    """Any JSON value at any key is accepted or refused with the name of the key, never with another error."""
    tree = json.loads(EXAMPLE)
    key = data.draw(st.sampled_from(sorted(tree)))
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    tree[key] = data.draw(leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=3), leaves, max_size=2))
    with suppress(MessageError):
        assert isinstance(decode(json.dumps(tree).encode()), EventMessage)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seq": "3"}, "seq"),
        ({"seq": True}, "seq"),
        ({"confirmed": 1}, "confirmed"),
        ({"score": "0.9"}, "score"),
        ({"start_time": "2026-09-14 10:22:31"}, "start_time"),
        ({"end_time": "2026-09-14T10:22:31.000Z"}, "together"),
        ({"type": "end"}, "must have an end_time"),
        ({"source": "a/b"}, "source"),
        ({"segments": []}, "segments"),
        ({"schema": "streamav.event/2"}, "schema"),
    ],
)
def test_a_breach_is_named(change: dict[str, object], words: str) -> None:
    """The error names the key that is wrong."""
    with pytest.raises(MessageError, match=words):
        decode(json.dumps(json.loads(EXAMPLE) | change).encode())


def test_nan_and_oversize_are_refused() -> None:
    """NaN is refused, and a message over 256 KiB is refused before it is parsed."""
    with pytest.raises(MessageError):
        decode(EXAMPLE.replace('"score": 0.91,', '"score": NaN,').encode())
    with pytest.raises(MessageError, match="at most"):
        decode(b" " * (MAX_MESSAGE_BYTES + 1))


def test_unknown_keys_and_reasons_are_accepted() -> None:
    """Unknown keys and unknown end reasons are accepted, because a later minor version may add them."""
    tree = json.loads(encode(make_event(phase=EventPhase.END), MODEL, 0.1)) | {"colour": "red", "end_reason": "tired"}
    assert decode(json.dumps(tree).encode()).end_reason == "tired"


def test_a_message_from_before_labels_by_definition_is_read() -> None:
    """A message without the added keys, as in a journal of an older version, was heard and seen by a trained label."""
    message = decode(json.dumps({key: value for key, value in json.loads(EXAMPLE).items() if key not in ADDED}).encode())
    assert (message.modalities, message.trained) == (("sound", "picture"), True)


def test_an_event_that_is_only_heard_says_so() -> None:
    """`modalities` holds sound alone, and nothing is said about the picture: no place, no relevance, no agreement."""
    tree = json.loads(encode(replace(make_event(), modalities=("sound",), trained=False, class_id=None, location=None), MODEL, 0.1))
    assert (tree["modalities"], tree["trained"], tree["class_id"]) == (["sound"], False, None)
    assert (tree["location"], tree["is_event_score"], tree["av_similarity"]) == (None, None, None)
    assert {segment["is_event"] for segment in tree["segments"]} == {None}
    both = json.loads(encode(make_event(), MODEL, 0.1))
    assert (both["modalities"], both["trained"]) == (["sound", "picture"], True)


def test_an_event_left_open_ends_where_it_was_last_known() -> None:
    """An end with `restart` keeps id and start, has the next seq, and ends at the last segment that was published."""
    message = describe(make_event(sequence=4, phase=EventPhase.UPDATE, seconds=3), MODEL, 0.1)
    end = decode(ended_by_restart(message).to_bytes())
    assert (end.id, end.seq, end.type, end.end_reason) == (message.id, 5, "end", "restart")
    assert end.end_ts == message.start_ts + 3
    assert end.media_end_s == message.media_start_s + 3
    assert ended_by_restart(end) == end


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused_in_unknown_keys_too(constant: str) -> None:
    """NaN and Infinity in a key that is ignored break the contract; the words in a text do not."""
    good = describe(make_event(), MODEL, 0.1).to_bytes()
    assert decode(good[:-1] + b',"more":"' + constant.encode() + b'"}').id
    with pytest.raises(MessageError, match="JSON has no"):
        decode(good[:-1] + b',"more":[' + constant.encode() + b"]}")


@pytest.mark.parametrize("segments", [1, 4, 10])
def test_a_message_is_fitted_by_fewer_segments(segments: int) -> None:
    """A message above a limit loses its oldest segments, never the newest; what is no message, or fits, is unchanged."""
    message = describe(make_event(seconds=segments), MODEL, 0.1)
    whole = message.to_bytes()
    assert fitted(whole, len(whole)) == whole
    short = decode(fitted(whole, 0))
    assert short.segments == message.segments[-1:]
    assert fitted(b"x" * 100, 10) == b"x" * 100
    if segments == 10:
        less = fitted(whole, len(whole) - 100)
        assert len(less) <= len(whole) - 100
        assert 1 < len(decode(less).segments) < 10
