"""Runs brokers beside Mosquitto for tests: ejabberd and RabbitMQ of Debian, aedes of npm, amqtt of PyPI. None of them is needed elsewhere.

Each runs on free loopback ports with its own configuration and data in a temporary folder, and can be killed and started again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rigs.services import free_port

__all__ = ["KINDS", "OtherBroker"]

_START_S = 180.0
"""Erlang's brokers need a minute on a busy machine."""

_EJABBERD = """\
hosts: [localhost]
auth_method: anonymous
anonymous_protocol: both
allow_multiple_connections: true
acl: {{local: {{user_regexp: ""}}}}
listen: [{{port: {port}, ip: 127.0.0.1, module: mod_mqtt, max_payload_size: {payload}}}]
modules: {{mod_mqtt: {{}}}}
"""
_RABBITMQ = """\
listeners.tcp.1 = 127.0.0.1:{other}
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
"""
_AEDES = """\
const {{ Aedes }} = require('aedes');
Aedes.createBroker().then((broker) => require('net').createServer(broker.handle).listen({port}, '127.0.0.1'));
"""
_AMQTT = """\
listeners: {{default: {{type: tcp, bind: "127.0.0.1:{port}"}}}}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}
"""


@dataclass(frozen=True)
class Kind:
    """A program, the protocols that it speaks, and how it deals with retained values."""

    protocols: tuple[str, ...]
    keeps: bool
    """Whether it keeps retained values over a restart, as configured here."""
    wildcards: bool = True
    """Whether a filter with wildcards gets retained values."""


KINDS = {
    "ejabberd": Kind(("3.1.1", "5"), keeps=True),
    "rabbitmq": Kind(("3.1.1",), keeps=True, wildcards=False),
    "aedes": Kind(("3.1.1",), keeps=False),
    "amqtt": Kind(("3.1.1",), keeps=False),
}


@dataclass
class OtherBroker:
    """One broker of a kind."""

    kind: str
    folder: Path
    payload: int = 1_000_000
    """Largest payload that it takes, bytes; only of ejabberd."""
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _other: int = field(default_factory=free_port)
    _node: int = field(default_factory=free_port)
    _names: int = field(default_factory=free_port)

    def start(self) -> OtherBroker:
        """Start it, and wait until it accepts connections; skip the test where it is not asked for or not installed."""
        wanted = os.environ.get("STREAMAV_OTHER_BROKERS")
        if not wanted or self.kind not in wanted.split(","):
            pytest.skip(f"STREAMAV_OTHER_BROKERS does not name {self.kind}: make test-brokers")
        self.folder.mkdir(parents=True, exist_ok=True)
        command, environment = getattr(self, f"_{self.kind}")()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | environment,
                start_new_session=True,
            )
        give_up = time.monotonic() + _START_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                pytest.fail(f"{self.kind} did not start: {(self.folder / 'log').read_text(encoding='utf-8', errors='replace')[-2000:]}")
            time.sleep(0.05)
        return self

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text.format(port=self.port, other=self._other, payload=self.payload), encoding="utf-8")
        return path

    def _ejabberd(self) -> tuple[list[str], dict[str, str]]:
        (program,) = _programs("erl")
        (libraries,) = {path.parent for path in Path("/usr/lib").glob("*/ejabberd-*") if path.is_dir()} or {Path("/usr/lib")}
        config = self._write("ejabberd.yml", _EJABBERD)
        database = [
            "-mnesia",
            "dir",
            json.dumps(str(self.folder / "db")),
            "-ejabberd",
            "log_path",
            json.dumps(str(self.folder / "own.log")),
        ]
        return [program, "-noinput", *database, "-s", "ejabberd"], {"ERL_LIBS": str(libraries), "EJABBERD_CONFIG_PATH": str(config)}

    def _rabbitmq(self) -> tuple[list[str], dict[str, str]]:
        (program,) = _programs("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in PATH changes the user
        self._write("plugins", "[rabbitmq_mqtt].")
        (self.folder / "home").mkdir(exist_ok=True)
        return [program], {
            "HOME": str(self.folder / "home"),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self._write("rabbitmq.conf", _RABBITMQ)),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "db"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_DIST_PORT": str(self._node),
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _aedes(self) -> tuple[list[str], dict[str, str]]:
        (program,) = _programs("node")
        return [program, str(self._write("broker.js", _AEDES))], {}  # NODE_PATH names the folder node_modules with aedes

    def _amqtt(self) -> tuple[list[str], dict[str, str]]:
        return [*_programs("amqtt"), "-c", str(self._write("amqtt.yaml", _AMQTT))], {}

    def kill(self) -> None:
        """Kill it, and what it started."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self.kind == "rabbitmq" and (names := shutil.which("epmd")):  # its own server of names, on a port of its own
            ours = os.environ | {"ERL_EPMD_PORT": str(self._names), "ERL_EPMD_ADDRESS": "127.0.0.1"}
            subprocess.run([names, "-kill"], check=False, capture_output=True, env=ours)


def _programs(name: str) -> list[str]:
    program = shutil.which(name)
    if program is None:
        pytest.fail(f"{name} is missing, although STREAMAV_OTHER_BROKERS asks for it; Python: {sys.executable}")
    return [program]
