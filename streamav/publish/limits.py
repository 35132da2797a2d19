"""Holds what a broker accepts, and explains refusals of single messages.

It is pure: the module client reads the limits from the broker's answers, the module session applies them to messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_WINDOW", "TOO_LARGE", "Limits", "RefusedError"]

DEFAULT_WINDOW: Final = 20
"""Most messages of QoS 1 that we send without an acknowledgement (our choice; the default of Mosquitto and paho)."""
PROPERTY_BYTES: Final = 96
"""Bytes of a PUBLISH packet besides topic and payload: header, packet identifier, content type and user property."""
TOO_LARGE: Final = 0x95
"""Source: MQTT 5.0, section 3.4.2.1: the broker does not accept a message of this size."""
_REMEDIES: Final = {
    0x83: "the broker refuses it for a reason of its own: read the broker's log",
    0x87: "the broker's access list denies it: allow this user to write there",
    0x90: "the broker does not accept the topic: choose another mqtt.base",
    TOO_LARGE: "it is larger than the broker accepts: raise max_packet_size and message_size_limit of the broker",
    0x97: "the broker's quota is used up: raise its limit of queued messages",
    0x99: "the broker does not accept the format of the payload",
}
"""Source: MQTT 5.0, section 3.4.2.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a broker accepts, from its CONNACK (MQTT 5.0, section 3.2.2.3); 3.1.1 brokers do not tell, so nothing is limited."""

    window: int = DEFAULT_WINDOW
    """Most messages of QoS 1 without an acknowledgement (Receive Maximum), 1 to `DEFAULT_WINDOW`."""
    packet_bytes: int | None = None
    """Largest packet; None for no limit."""
    max_qos: int = 1
    """0 or 1; at 0 nothing is acknowledged."""
    retain: bool = True
    """False: the broker keeps no values for later subscribers."""
    tells_refusals: bool = True
    """False: the broker acknowledges also what it denies (MQTT 3.1.1)."""

    def payload_bytes(self, topic: str) -> int | None:
        """Return the largest payload at a topic; None for no limit."""
        return None if self.packet_bytes is None else max(0, self.packet_bytes - PROPERTY_BYTES - len(topic.encode()))

    def notes(self) -> list[str]:
        """Return what the limits cost, one sentence for each, with the remedy."""
        found = []
        if self.max_qos < 1:
            found.append(
                "the broker accepts QoS 0 only, so a message may be lost unnoticed and waiting messages count as delivered when they are "
                "sent: set max_qos of the broker to 1 or more"
            )
        if not self.retain:
            found.append(
                "the broker keeps no retained values, so subscribers learn a state only when it changes: set retain_available true"
            )
        return found


class RefusedError(Exception):
    """The broker does not accept one message, or would not; the connection goes on. It is always caught inside streamav."""

    def __init__(self, code: int) -> None:
        """Store the reason code of the broker's answer."""
        self.code = code
        self.reason = _REMEDIES.get(code, f"the broker refuses it with reason code 0x{code:02X}: read the broker's log")
        super().__init__(self.reason)
