"""Switches a light on while a confirmed bark is heard and seen: python examples/light_on_bark.py [HOST] [PORT].

It follows the retained class state. Only confirmed events change this state, so the program does not need to remember events.
"""

from __future__ import annotations

import asyncio
import sys

import aiomqtt

STATE = "streamav/porch/class/bark/state"
LIGHT = "home/porch/light/set"


async def follow(host: str, port: int) -> None:
    """Forward the state of one class, ON or OFF, to a light."""
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe(STATE, qos=1)
        async for message in client.messages:
            await client.publish(LIGHT, message.payload, qos=1)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 1883))
