"""Runs real Mosquitto brokers for tests: plain, with passwords and access list, or with TLS. Brokers can be stopped, frozen and killed.

Each broker runs on free loopback ports with its own configuration in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rigs.services import free_port

__all__ = ["Broker", "Certificates", "make_certificates", "need_mosquitto"]

USER, PASSWORD = "publisher", "a sleeping cat"
READER, READER_PASSWORD = "reader", "a waking cat"
_START_S = 10.0


def need_mosquitto() -> str:
    """Return the path of the program; without it skip the test, or fail in CI."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        reason = "the program mosquitto is missing: apt-get install mosquitto mosquitto-clients"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server certificate that it signed with its key, and another authority."""

    ca: Path
    cert: Path
    key: Path
    other_ca: Path


def make_certificates(folder: Path, host: str = "localhost") -> Certificates:
    """Create two authorities and a server certificate for *host*, signed by the first, with openssl."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        run("req", "-x509", *curve, "-days", "2", "-subj", f"/CN=test {name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    run("req", *curve, "-subj", f"/CN={host}", "-keyout", "server.key", "-out", "server.csr")
    (folder / "ext").write_text(f"subjectAltName=DNS:{host}\n", encoding="ascii")
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
    run("x509", "-req", "-in", "server.csr", *sign, "-out", "server.crt")
    return Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key", folder / "other.crt")


@dataclass
class Broker:
    """One Mosquitto broker. A restart loses its retained messages, as with `persistence false`, unless *persistent*."""

    folder: Path
    passwords: bool = False
    """True: only the users `publisher` (may read and write below *base*) and `reader` (may only read) have access."""
    publisher_may_write: bool = True
    certificates: Certificates | None = None
    persistent: bool = False
    base: str = "streamav"
    options: tuple[str, ...] = ()
    """Further lines of the configuration."""
    logs: str = "all"
    """What it logs; "all" is a few lines for each message, which slow it down."""
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        """Start the broker and wait until it accepts connections."""
        program = need_mosquitto()
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text("\n".join(self._lines()) + "\n", encoding="ascii")
        self._process = subprocess.Popen([program, "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + _START_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > give_up:
                msg = f"mosquitto did not start: {self.log}"
                raise RuntimeError(msg)
            time.sleep(0.02)
        return self

    def _lines(self) -> list[str]:
        lines = [
            "per_listener_settings false",
            f"allow_anonymous {'false' if self.passwords else 'true'}",
            f"persistence {'true' if self.persistent else 'false'}",
            f"persistence_location {self.folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            f"log_dest file {self.folder / 'log'}",
            f"log_type {self.logs}",
            "user root",  # otherwise it drops root's rights and cannot read keys in a temporary folder
            f"listener {self.port} 127.0.0.1",
        ]
        if self.passwords:
            self._write_users()
            lines += [f"password_file {self.folder / 'passwords'}", f"acl_file {self.folder / 'acl'}"]
        if self.certificates is not None:
            lines += [
                f"listener {self.tls_port} 127.0.0.1",
                f"cafile {self.certificates.ca}",
                f"certfile {self.certificates.cert}",
                f"keyfile {self.certificates.key}",
            ]
        return [*lines, *self.options]

    def _write_users(self) -> None:
        file = self.folder / "passwords"
        for flags, user, password in ((["-b", "-c"], USER, PASSWORD), (["-b"], READER, READER_PASSWORD)):
            subprocess.run(["mosquitto_passwd", *flags, str(file), user, password], check=True, capture_output=True)
        rights = "readwrite" if self.publisher_may_write else "read"
        access = f"user {USER}\ntopic {rights} {self.base}/#\n\nuser {READER}\ntopic read {self.base}/#\n"
        acl = self.folder / "acl"
        acl.write_text(access, encoding="ascii")
        acl.chmod(0o600)

    def change_password(self, user: str, password: str) -> None:
        """Change a user's password while the broker runs (it reads its files again on SIGHUP)."""
        file = self.folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True, capture_output=True)
        self._signal(signal.SIGHUP)

    def reload(self) -> None:
        """Let the broker read passwords and access list again (SIGHUP)."""
        self._signal(signal.SIGHUP)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        return 0 if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        """The broker's log so far."""
        file = self.folder / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def connects_of(self, client_id: str) -> int:
        """Return the number of connections of a client that the broker has accepted."""
        return sum(f" as {client_id} " in line for line in self.log.splitlines() if "New client connected" in line)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def freeze(self) -> None:
        """Freeze the broker; its connections stay open (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue a frozen broker (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the broker (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop the broker in order (SIGTERM), frozen or not; kill it after 5 s."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
