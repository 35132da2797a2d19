"""Sends one notification by HTTP for each confirmed event: NOTIFY_URL=https://... python examples/notify.py [HOST] [PORT].

It posts JSON with `title`, `message` and `event`, as a webhook of Home Assistant, Node-RED or your own server takes it. The address
comes from the environment, because such an address often is a secret, and other users of the machine can read the command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request
from collections import OrderedDict

import aiomqtt

REMEMBERED = 1000
"""Events that were told already; the oldest are forgotten first."""


def post(url: str, event: dict[str, object]) -> None:
    """Post one event; an answer other than 2xx raises OSError."""
    body = {"title": f"{event['label_name']} at {event['source']}", "message": f"heard and seen at {event['start_time']}", "event": event}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - the user's own address
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


async def follow(url: str, host: str, port: int) -> None:
    """Tell every event once, as soon as it is confirmed; a notification that fails is named and the next ones go on."""
    told: OrderedDict[str, None] = OrderedDict()
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe("streamav/+/event", qos=1)
        async for message in client.messages:
            event = json.loads(message.payload)
            if not event["confirmed"] or event["id"] in told:
                continue
            told[event["id"]] = None
            if len(told) > REMEMBERED:
                told.popitem(last=False)
            try:
                await asyncio.to_thread(post, url, event)
            except OSError as exc:
                print(f"not told: {event['label']} at {event['start_time']}: {exc}", file=sys.stderr)


if __name__ == "__main__":
    if not os.environ.get("NOTIFY_URL", "").startswith(("http://", "https://")):
        sys.exit("NOTIFY_URL must be an http or https address, for example that of a webhook")
    host, port = (sys.argv[1:] + ["127.0.0.1", "1883"][len(sys.argv) - 1 :])[:2]
    asyncio.run(follow(os.environ["NOTIFY_URL"], host, int(port)))
