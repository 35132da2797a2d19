"""Checks what a run needs beside its sources: the model and its engine, and the broker, from its name to a published message."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from typing import TYPE_CHECKING

from streamav.doctor.finding import divided, error, ok, refused
from streamav.errors import BrokerError, StreamavError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamav.config import MqttSettings, Settings
    from streamav.doctor.finding import Finding

__all__ = ["check_broker", "check_model"]


def check_model(settings: Settings) -> Iterator[Finding]:
    """Load the model, check labels and thresholds against it, and build or load its engine."""
    from streamav.app import check_model as check_card
    from streamav.bundle import choose_bundle
    from streamav.engines import open_engine

    try:
        check_card(settings)
        bundle = choose_bundle(settings.model.name, settings.model.weights_dir).bundle
        card = bundle.card
        yield ok("model", f"{card.name} {card.version}, {len(card.classes)} classes, {card.visual.frames_per_second} pictures a second")
    except StreamavError as exc:
        remedy = "name one that `streamav models list` shows, or fetch one: streamav models pull edge"
        yield error("model", str(exc), remedy, exc.exit_code)
        return
    began_s = time.monotonic()
    try:
        engine = open_engine(bundle, settings.model)
        yield ok("engine", f"{engine.name}, ready after {time.monotonic() - began_s:.1f} s")
    except StreamavError as exc:
        yield refused("engine", exc, "run without a built engine: add --set model.engine=torch; build it again: streamav engines build")


def check_broker(mqtt: MqttSettings) -> Iterator[Finding]:
    """Resolve the broker's name, connect, log in, publish a probe and receive it back."""
    try:
        found = socket.getaddrinfo(mqtt.host, mqtt.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        remedy = f"correct the name (`getent hosts {mqtt.host}` tests it), or write its IP address: --mqtt mqtt://192.0.2.5"
        yield error("broker: name", f"{mqtt.host} cannot be resolved: {reason_of(exc)}", remedy, BrokerError.exit_code)
        return
    yield ok("broker: name", f"{mqtt.host} is {found[0][4][0]}")
    try:
        yield from asyncio.run(_publish(mqtt))
    except StreamavError as exc:
        yield refused("broker: login", exc, "correct the section mqtt of the settings; `streamav config check FILE` checks a file")


async def _publish(mqtt: MqttSettings) -> list[Finding]:
    """Log in, and send one message to ourselves."""
    from streamav.publish.client import open_client
    from streamav.publish.credentials import Credentials
    from streamav.publish.failures import ConnectionFailedError

    topic, said, findings = f"{mqtt.base}/doctor/probe", secrets.token_hex(8).encode(), []
    began_s = time.monotonic()
    try:
        async with open_client(mqtt, Credentials(mqtt), f"streamav-doctor-{secrets.token_hex(4)}", None) as client:
            findings.append(ok("broker: login", f"accepted after {1e3 * (time.monotonic() - began_s):.0f} ms"))
            await client.subscribe(topic)
            await client.publish(topic, said, qos=1, retain=False)
            async with asyncio.timeout(mqtt.timeout_s):
                async for received in client.messages():
                    if received.payload == said:
                        findings.append(ok("broker: publish", f"a message to {topic} came back"))
                        break
    except TimeoutError:
        remedy = f"allow this user to read and write {mqtt.base}/# in the broker's access list"
        findings.append(error("broker: publish", f"a message to {topic} did not come back", remedy, BrokerError.exit_code))
    except ConnectionFailedError as exc:
        found, told = divided(str(exc))
        start = f"start the broker on {mqtt.host} (sudo systemctl start mosquitto), or name its port: --mqtt mqtt://{mqtt.host}:PORT"
        address = f"{mqtt.host}:{mqtt.port}"
        answered = exc.failure.fatal or exc.failure.closed  # else the command that starts it helps more than the message
        remedy = told if told and answered else start
        findings.append(error("broker: login", f"{address}: {found}", remedy, BrokerError.exit_code))
    return findings
