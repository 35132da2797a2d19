"""Defines what a message of MQTT 5 carries beside its payload."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PLAIN", "Extras"]


class Extras(NamedTuple):
    """Properties of a message. With MQTT 3.1.1 they are left out."""

    schema: str | None = None
    """Name of the schema, for consumers; it does not change the payload."""
    expires: bool = False
    """True lets the broker drop the message when it cannot deliver it in time (mqtt.expiry_s)."""
    correlation: bytes | None = None
    """What an answer must carry."""
    epoch: int | None = None
    """Epoch of the lease under which it is published."""


PLAIN = Extras()
"""Nothing beside the payload."""
