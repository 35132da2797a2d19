"""Publishes events as MQTT messages and as JSON lines.

It does not decide what an event is or when an event ends; the tracker does. The MQTT sink is imported from
`streamav.publish.mqtt`, so that a run without a broker loads no MQTT library.
"""

from __future__ import annotations

from streamav.publish.fanout import FanOut, ObserverFanOut
from streamav.publish.jsonl import JsonlSink
from streamav.publish.message import EventMessage, MessageError, ModelEntry, decode, describe, encode

__all__ = ["EventMessage", "FanOut", "JsonlSink", "MessageError", "ModelEntry", "ObserverFanOut", "decode", "describe", "encode"]
