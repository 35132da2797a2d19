"""Hands events on: MQTT messages and JSON lines.

It neither decides what an event is nor when one ends; that is the tracker's part. The MQTT sink is imported from
`streamav.publish.mqtt`, so that a run without a broker loads no MQTT library.
"""

from __future__ import annotations

from streamav.publish.fanout import FanOut
from streamav.publish.jsonl import JsonlSink
from streamav.publish.message import EventMessage, MessageError, ModelEntry, decode, describe, encode

__all__ = ["EventMessage", "FanOut", "JsonlSink", "MessageError", "ModelEntry", "decode", "describe", "encode"]
