"""Gives Frigate the events that are heard and seen: python examples/frigate_events.py --frigate http://frigate:5000 --host BROKER.

For each confirmed event it creates an event of Frigate, so that Frigate keeps its recording and shows it in its own review, and ends it
when the event ends. A source without --camera has the camera of the same name. What is open is kept in a file, and the broker keeps the
messages while this program is away: nothing stays open for ever.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import aiomqtt

TIMEOUT_S = 10.0
TRIES = 5
"""How often a call is tried; the pause between two tries doubles."""


class Frigate:
    """Frigate's events API: POST /api/events/CAMERA/LABEL/create, PUT /api/events/ID/end."""

    def __init__(self, url: str, cameras: dict[str, str]) -> None:
        """Store the address of Frigate and the names of the cameras by source."""
        self._url = url.rstrip("/")
        self._cameras = cameras

    def create(self, event: dict[str, Any]) -> str:
        """Create an event that stays open, and return its id."""
        camera = self._cameras.get(event["source"], event["source"])
        place = "/".join(urllib.parse.quote(part, safe="") for part in (camera, event["label"]))
        body = {"sub_label": f"streamav {event['top_score']:.0%}", "duration": None, "include_recording": True}
        return str(self._call("POST", f"/api/events/{place}/create", body)["event_id"])

    def end(self, event_id: str, end_ts: float) -> None:
        """End an event."""
        self._call("PUT", f"/api/events/{urllib.parse.quote(event_id, safe='')}/end", {"end_time": end_ts})

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the user names the address
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read(1_000_000))
        return found


class Bridge:
    """Follows events: which ones Frigate knows, under which id."""

    def __init__(self, frigate: Frigate, file: Path) -> None:
        """Read what the last run left open."""
        self._frigate = frigate
        self._file = file
        self._open: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    async def take(self, event: dict[str, Any]) -> None:
        """Take one message of streamav; a message that comes twice changes nothing."""
        known = self._open.get(event["id"])
        if known is None and event["confirmed"] and event["end_time"] is None:
            self._open[event["id"]] = await self._tried(lambda: self._frigate.create(event))
        elif known is not None and event["end_time"] is not None:
            await self._tried(lambda: self._frigate.end(known, event["end_ts"]))
            del self._open[event["id"]]
        else:
            return
        self._file.write_text(json.dumps(self._open), encoding="utf-8")
        print(event["type"], event["source"], event["label"], flush=True)

    @staticmethod
    async def _tried(call: Any) -> Any:  # noqa: ANN401 - what the call gives
        for number in range(TRIES):
            try:
                return await asyncio.to_thread(call)
            except urllib.error.HTTPError as exc:
                if exc.code < 500:  # an unknown camera, or an event that Frigate has forgotten: trying again does not help
                    raise
                problem: Exception = exc
            except OSError as exc:
                problem = exc
            await asyncio.sleep(0.5 * 2**number)
        raise problem


async def follow(bridge: Bridge, host: str, port: int, base: str) -> None:
    """Read the events of all sources, connecting again and again; the broker keeps them while we are away."""
    while True:
        try:
            async with aiomqtt.Client(host, port, identifier="streamav-frigate", clean_session=False) as client:
                await client.subscribe(f"{base}/+/event", qos=1)
                print(f"listening to {host}:{port}", flush=True)
                async for message in client.messages:
                    event = json.loads(message.payload)
                    try:
                        await bridge.take(event)
                    except (OSError, KeyError, ValueError) as exc:
                        print(f"Frigate did not take {event['label']} of {event['source']}: {exc}", file=sys.stderr, flush=True)
        except aiomqtt.MqttError as exc:
            print(f"no connection: {exc}", file=sys.stderr, flush=True)
            await asyncio.sleep(2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frigate", required=True, help="address of Frigate, such as http://frigate:5000")
    parser.add_argument("--camera", action="append", default=[], metavar="SOURCE=CAMERA", help="camera of a source; repeatable")
    parser.add_argument("--host", default="127.0.0.1", help="MQTT broker")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--base", default="streamav")
    parser.add_argument("--state", type=Path, default=Path("frigate-events.json"), help="file for what is open")
    given = parser.parse_args()
    pairs = dict(one.split("=", 1) for one in given.camera)
    asyncio.run(follow(Bridge(Frigate(given.frigate, pairs), given.state), given.host, given.port, given.base))
