"""Tests of what is said when something answers at the broker's address that is no broker; real sockets of this machine."""

from __future__ import annotations

import asyncio

import pytest

from streamav.config import MqttSettings
from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.failures import ConnectionFailedError


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\xff" * 50, r"no MQTT broker, or speaks another version.*: check the host 127\.0\.0\.1 and the port \d+ .*mqtt\.protocol"),
        (b"220 mail ESMTP\r\n", r"nothing answered within 0\.5 s: check the host 127\.0\.0\.1 and the port \d+ \(--mqtt, or mqtt\.host"),
        (b"", r"nothing answered within 0\.5 s: check the host 127\.0\.0\.1 and the port \d+ \(--mqtt, or mqtt\.host"),
    ],
    ids=["other bytes", "a mail server", "silence"],
)
async def test_what_is_no_broker_is_told_with_what_to_check(protocol: str, said: bytes, words: str) -> None:
    """A wrong host or port is named as such, instead of the number or the words of the client library."""
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = MqttSettings.model_validate({"host": "127.0.0.1", "port": port, "protocol": protocol, "timeout_s": 0.5})
    try:
        with pytest.raises(ConnectionFailedError, match=words):
            async with open_client(settings, Credentials(settings), "test", None):
                pass
        if not said.startswith(b"\xff"):
            with pytest.raises(ConnectionFailedError) as silent:
                async with open_client(settings, Credentials(settings), "test", None):
                    pass
            assert ("set mqtt.protocol to 3.1.1" in str(silent.value)) == (protocol == "5")
    finally:
        ended.set()
        server.close()
