"""Runs a real Home Assistant of its own: configured, onboarded and connected to a broker over its own HTTP and WebSocket interfaces.

It lives in a virtual environment that `scripts/homeassistant` makes, because it needs another Python and other packages than streamav.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest
from rigs.services import free_port

__all__ = ["HomeAssistant", "home_assistant_python"]

_START_S = 120.0
_MAIN = "import sys, homeassistant.__main__ as main; main.validate_python = lambda: None; sys.exit(main.main())"
"""Starts it as `python -m homeassistant` does, also under an earlier patch release of Python than it asks for."""
_MESSAGE = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) \(.*?\) (.*)$")
_ALWAYS = (
    "Skipping pip installation of required modules",
    "zlib_ng and isal are not available",
    "Error loading libturbojpeg",
)
"""What this Home Assistant says of itself, without any device."""


def home_assistant_python() -> Path:
    """Return the Python that has Home Assistant; without the variable skip the test, with a wrong one fail it."""
    folder = os.environ.get("STREAMAV_HOMEASSISTANT")
    if folder is None:
        pytest.skip("STREAMAV_HOMEASSISTANT does not name a virtual environment with Home Assistant: make test-homeassistant")
    python = Path(folder) / "bin" / "python"
    found = subprocess.run(
        [str(python), "-c", "import homeassistant.const as c; print(c.__version__)"] if python.exists() else ["false"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if found.returncode:
        pytest.fail(
            f"STREAMAV_HOMEASSISTANT must name a virtual environment with Home Assistant, got {folder}: "
            f"{found.stderr[-300:] or 'no bin/python'}"
        )
    return python


class HomeAssistant:
    """One Home Assistant in a folder. `start` may be called again after `stop`: it has its users, devices and names then as before."""

    def __init__(self, python: Path, folder: Path, configuration: str = "") -> None:
        """Write the configuration; nothing runs yet.

        Args:
            python: Python that has Home Assistant.
            folder: where its files go; it may hold some already, such as blueprints.
            configuration: YAML that is added to its configuration.
        """
        self._python = python
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._refresh = ""
        folder.mkdir(parents=True, exist_ok=True)
        head = f"homeassistant:\n  name: House\n  time_zone: UTC\nhttp:\n  server_host: 127.0.0.1\n  server_port: {self.port}\n"
        (folder / "configuration.yaml").write_text(f"{head}config:\n{configuration}", encoding="utf-8")

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def client(self) -> str:
        """Who we say that we are when we log in."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and wait until it has started; the first time make a user."""
        command = [str(self._python), "-c", _MAIN, "--config", str(self.folder), "--skip-pip"]
        environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=self.folder)
        self._wait(lambda: bool(self.ask("api/onboarding")))
        if self._refresh:
            self._token = self._form("auth/token", grant_type="refresh_token", refresh_token=self._refresh)["access_token"]
        else:
            self._onboard()
        self._wait(lambda: self.ask("api/config")["state"] == "RUNNING")

    def _wait(self, ready: Any) -> None:  # noqa: ANN401 - a condition that may raise
        end_s = time.monotonic() + _START_S
        while True:
            try:
                if ready():
                    return
            except OSError:
                pass
            if time.monotonic() > end_s or self._process is None or self._process.poll() is not None:
                pytest.fail(f"Home Assistant did not start: {(self.folder / 'output').read_text(encoding='utf-8')[-2000:]}")
            time.sleep(0.2)

    def _onboard(self) -> None:
        user = {"client_id": self.client, "name": "Owner", "username": "owner", "password": "a sleeping cat", "language": "en"}
        code = self.ask("api/onboarding/users", user)["auth_code"]
        tokens = self._form("auth/token", grant_type="authorization_code", code=code)
        self._token, self._refresh = tokens["access_token"], tokens["refresh_token"]
        # The further steps would set up integrations that ask the internet for weather and radio stations.

    def stop(self) -> None:
        """Stop it in order, as a restart of the machine does."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the answer of its HTTP interface: JSON, or bytes for anything else."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        return self._answer(request)

    def _form(self, path: str, **fields: str) -> Any:  # noqa: ANN401 - any JSON
        body = urllib.parse.urlencode({**fields, "client_id": self.client}).encode()
        return self._answer(urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data=body))

    def _answer(self, request: urllib.request.Request) -> Any:  # noqa: ANN401 - any JSON
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                content = answer.read()
                return json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content
        except urllib.error.HTTPError as exc:
            msg = f"Home Assistant answered {exc.code} at {request.full_url}: {exc.read()[:500]!r}"
            raise AssertionError(msg) from None

    def tell(self, kind: str, **fields: object) -> Any:  # noqa: ANN401 - any JSON
        """Return the result of one command of its WebSocket interface, which its own pages use."""
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{self.port}/api/websocket", max_size=None) as socket:
            socket.recv()
            socket.send(json.dumps({"type": "auth", "access_token": self._token}))
            socket.recv()
            socket.send(json.dumps({"id": 1, "type": kind, **fields}))
            answer = json.loads(socket.recv())
        assert answer["success"], answer
        return answer["result"]

    def call(self, action: str, entity: str, **data: object) -> None:
        """Call an action on an entity, as a person does who presses a switch."""
        self.ask(f"api/services/{action.replace('.', '/')}", {"entity_id": entity, **data})

    def use_broker(self, port: int) -> None:
        """Add the MQTT integration, as a person does who fills in its form."""
        flow = self.ask("api/config/config_entries/flow", {"handler": "mqtt", "show_advanced_options": False})
        result = self.ask(f"api/config/config_entries/flow/{flow['flow_id']}", {"broker": "127.0.0.1", "port": port})
        assert result["type"] == "create_entry", result

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the states of all entities by entity id."""
        return {one["entity_id"]: one for one in self.ask("api/states")}

    def state(self, entity: str) -> str | None:
        """Return the state of an entity; None when there is none."""
        found = self.states().get(entity)
        return None if found is None else str(found["state"])

    def devices(self) -> dict[str, dict[str, Any]]:
        """Return the devices of the registry by name."""
        return {one["name"]: one for one in self.tell("config/device_registry/list") if one["manufacturer"] == "streamav"}

    def entities(self) -> dict[str, dict[str, Any]]:
        """Return the MQTT entities of the registry by entity id."""
        return {one["entity_id"]: one for one in self.tell("config/entity_registry/list") if one["platform"] == "mqtt"}

    @property
    def complaints(self) -> list[str]:
        """Warnings and errors of its log, except those about itself."""
        text = (self.folder / "output").read_text(encoding="utf-8", errors="replace")
        found = [match[0] for line in text.splitlines() if (match := _MESSAGE.match(line)) is not None]
        return [line for line in found if not any(word in line for word in _ALWAYS)]
