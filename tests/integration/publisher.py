"""A process that publishes one open event and waits to be killed; started by the tests of the will.

Arguments: host, port, protocol, state folder; then a user and a password, if there are any.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rigs.published_events import MODEL, make_event

from streamav.config import MqttSettings
from streamav.publish.mqtt import MqttIdentity, MqttSink


async def main() -> None:
    """Publish one open event and wait for ever."""
    host, port, protocol, state_dir, *login = sys.argv[1:]
    values = {"host": host, "port": int(port), "protocol": protocol, "keepalive_s": 2, "timeout_s": 2}
    settings = MqttSettings.model_validate(values | dict(zip(("username", "password"), login, strict=False)))
    sink = MqttSink(settings, MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}), Path(state_dir))
    await sink.start()
    sink.event(make_event(1), 0.1)
    await asyncio.Event().wait()


asyncio.run(main())
