"""Prints the newest state of every event: python examples/subscribe.py [HOST] [PORT].

A consumer keeps the greatest `seq` of each event `id` and ignores all lower ones. Duplicates and reordering are then harmless.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict

import aiomqtt

REMEMBERED = 1000
"""Events whose newest `seq` is kept; the ones without a message for the longest time are dropped first."""


async def follow(host: str, port: int) -> None:
    """Subscribe with QoS 1 and print every message that is newer than the last one of its event."""
    newest: OrderedDict[str, int] = OrderedDict()
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe("streamav/+/event", qos=1)
        async for message in client.messages:
            event = json.loads(message.payload)
            if event["seq"] <= newest.get(event["id"], 0):
                continue
            newest[event["id"]] = event["seq"]
            newest.move_to_end(event["id"])
            if len(newest) > REMEMBERED:
                newest.popitem(last=False)
            print(event["type"], event["source"], event["label"], f"{event['duration_s']:.0f} s", f"score {event['score']:.2f}")


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 1883))
