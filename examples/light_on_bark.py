"""Switches a light on while a confirmed bark is heard and seen: python examples/light_on_bark.py [HOST] [PORT].

It follows the retained class state. Only confirmed events change this state, so the program does not need to remember events. It
switches off only what it switched on: a light that a person turned on stays on.
"""

from __future__ import annotations

import asyncio
import sys

import aiomqtt

STATE = "streamav/porch/class/bark/state"
LIGHT = "home/porch/light/set"
LIGHT_STATE = "home/porch/light/state"  # retained by the light: ON or OFF


async def follow(host: str, port: int) -> None:
    """Forward the state of one class, ON or OFF, to a light."""
    lit = ours = False  # whether the light is on, and whether we switched it on
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe([(LIGHT_STATE, 1), (STATE, 1)])
        async for message in client.messages:
            on = message.payload == b"ON"
            if str(message.topic) == LIGHT_STATE:
                lit, ours = on, ours and on  # off, by whomever, ends our part
            elif on and not lit:
                lit = ours = True
                await client.publish(LIGHT, b"ON", qos=1)
            elif not on and ours:
                lit = ours = False
                await client.publish(LIGHT, b"OFF", qos=1)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 1883))
