"""`streamav mqtt`: looks after what a broker keeps of streamav, and prints the contract.

It uses only the message contract, not the process that publishes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.subscribe import broker_of
from streamav.errors import BrokerError
from streamav.publish.url import EXAMPLE_URL

if TYPE_CHECKING:
    from streamav.config import MqttSettings

__all__ = ["app"]

app = typer.Typer(help="Clear what a broker keeps; print the schema of events.", no_args_is_help=True, add_completion=False)


@app.callback()
def _mqtt() -> None:
    """Clear what a broker keeps; print the schema of events."""


@app.command()
def purge(
    url: Annotated[
        str | None,
        typer.Argument(help=f"MQTT broker: mqtt://[user@]host[:port][/base]; parts left out come from the settings, else {EXAMPLE_URL}."),
    ] = None,
    raw: Annotated[bool, typer.Option("--json", help="Print the cleared topics as one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file, for example the one of streamav run.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="mqtt.key=value; overrides everything else; repeatable.")] = None,
) -> None:
    """Clear everything that a broker keeps of streamav.

    Everything below the base, and the devices announced to Home Assistant.

    Use it after the last run with a base, or when sources were removed on another machine. Stop the runs first: a running one
    publishes its states again.

    Exit status: 0 done, 5 the broker cannot be reached, or does not let us clear a value.
    """
    cleared = asyncio.run(_purge(broker_of(url, config, settings or ())))
    if raw:
        typer.echo(json.dumps({"cleared": cleared}))
        return
    for topic in cleared:
        typer.echo(topic)
    typer.echo(f"{len(cleared)} retained values cleared", err=True)


@app.command()
def schema(
    every: Annotated[bool, typer.Option("--all", help="Print the schema of all payloads, with topics, retained flags and QoS.")] = False,
) -> None:
    """Print the JSON Schema of events, or of all payloads."""
    from streamav.publish.contract import packaged_payloads
    from streamav.publish.json_schema import packaged_schema

    typer.echo(packaged_payloads() if every else packaged_schema(), nl=False)


async def _purge(settings: MqttSettings) -> list[str]:
    """Clear the values and return their topics.

    Raises:
        BrokerError: when the broker cannot be used.
    """
    from streamav.publish.failures import ConnectionFailedError
    from streamav.publish.limits import RefusedError
    from streamav.publish.purge import purge as clear

    client_id = f"streamav-purge-{SystemRandom().getrandbits(32):08x}"
    try:
        return await clear(settings, client_id, lambda text: typer.echo(text, err=True))
    except ConnectionFailedError as exc:
        msg = f"no connection to {settings.host}:{settings.port}: {exc.failure.reason}"
        raise BrokerError(msg) from None
    except RefusedError as exc:
        msg = f"the broker did not let us clear a value: {exc.reason}"
        raise BrokerError(msg) from None
