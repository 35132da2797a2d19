"""Serves an application in a thread of its own: takes the port at once, starts, takes work from other threads, and ends.

It knows no page, no event and no source.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamav.certificates import load_certificate
from streamav.config import only_this_machine
from streamav.errors import SettingsError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import uvicorn

    from streamav.web.guard import Guard

__all__ = ["Place", "WebServer", "listen", "need_packages"]

_log = logging.getLogger(__name__)

_START_S: Final = 10.0
"""Longest wait for the server to start, s (our choice)."""
_STOP_S: Final = 5.0
_FAREWELL_S: Final = 3.0
_LOOK_AGAIN_S: Final = 0.02
"""Longest wait for the thread to end and for the last messages, and time between two looks, s (our choice)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is served, and what it is called in messages."""

    what: str
    """Name for people, such as "the live page"."""
    section: str
    """Section of its settings, such as "view"."""
    remedy: str
    """How to choose another port."""
    host: str
    port: int | None
    """None: the usual port, or a free one when that is in use."""
    usual_port: int
    cert: Path | None = None
    key: Path | None = None


def need_packages(what: str, names: Sequence[str]) -> None:
    """Check that packages of the extra `web` are installed.

    Args:
        what: what needs them.
        names: names of the packages, as they are imported.

    Raises:
        SettingsError: when one is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        msg = f"{what} needs the extra web, and {', '.join(missing)} {are} missing; run: pip install 'streamav[web]'"
        raise SettingsError(msg)


def listen(place: Place) -> socket.socket:
    """Return a socket that listens; without a port it takes the usual one, or a free one when that is in use.

    Raises:
        SettingsError: when the address or the port cannot be used.
    """
    port = place.usual_port if place.port is None else place.port
    try:
        return _bound(place.host, port)
    except (OSError, UnicodeError) as exc:  # UnicodeError: a name that is too long for DNS
        if place.port is None:
            with suppress(OSError):
                return _bound(place.host, 0)
        msg = f"{place.what} must be able to listen on {place.host}, port {port}, got: {reason_of(exc)}; {place.remedy}"
        raise SettingsError(msg) from exc


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(64)
    except OSError:
        bound.close()
        raise
    return bound


class WebServer:
    """A server in a thread of its own. Whatever fails in it does not end the run."""

    def __init__(self, app: Guard, place: Place, on_start: Callable[[], None] | None = None) -> None:
        """Load the certificate and take the port, so that a mistake shows before the run begins.

        Args:
            app: the application.
            place: where it is served.
            on_start: called in the thread of the server, before the first request.

        Raises:
            SettingsError: when the certificate cannot be used, or the port is in use.
        """
        self._place = place
        self._on_start = on_start
        self._server = _uvicorn_server(app, place)
        self._load_certificate()
        self._socket = listen(place)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Future[None] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=place.section, daemon=True)
        if not only_this_machine(place.host) and place.cert is None:
            _log.warning(
                "%s is open to the network without TLS: what it sends and the token can be read on the way; set %s.cert, %s.key",
                place.what,
                place.section,
                place.section,
            )

    @property
    def address(self) -> str:
        """Its address, with a slash at the end."""
        host, port = self._socket.getsockname()[:2]
        host = "127.0.0.1" if only_this_machine(self._place.host) and ":" not in host else f"[{host}]" if ":" in host else host
        return f"{'http' if self._place.cert is None else 'https'}://{host}:{port}/"

    async def start(self) -> None:
        """Start to serve."""
        self._thread.start()
        await asyncio.to_thread(self._ready.wait, _START_S)

    @property
    def running(self) -> bool:
        """True once the thread takes work."""
        return self._loop is not None

    def call(self, work: Callable[[], object]) -> None:
        """Run work in the thread of the server; nothing happens when the thread has ended, or has not begun."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(work)

    async def close(self, farewell: Callable[[], object] = lambda: None, gone: Callable[[], bool] = lambda: True) -> None:
        """Run *farewell* in the thread of the server, stop serving and free the port.

        Args:
            farewell: says goodbye to those who are connected.
            gone: returns whether all of them have got it; the server waits for this, at most 3 s.
        """

        def end() -> None:
            farewell()
            self._ending = asyncio.ensure_future(self._end(gone))

        if self._loop is not None:
            self.call(end)
            await asyncio.to_thread(self._thread.join, _FAREWELL_S + _STOP_S)
        self._socket.close()

    async def _end(self, gone: Callable[[], bool]) -> None:
        """Wait until the last messages have arrived: uvicorn closes every connection at once, also one with messages that wait."""
        end_s = time.monotonic() + _FAREWELL_S
        while not gone() and time.monotonic() < end_s:  # noqa: ASYNC110 - who is connected is known to the application only
            await asyncio.sleep(_LOOK_AGAIN_S)
        self._server.should_exit = True

    def _load_certificate(self) -> None:
        """Load certificate and key now, because the thread could only log an error."""
        try:
            if self._place.cert is not None:
                load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._place.cert, self._place.key)
            self._server.config.load()
        except OSError as exc:
            where = self._place.section
            msg = (
                f"{where}.cert and {where}.key must be the PEM files of a certificate and its key, got {self._place.cert}: {reason_of(exc)}"
            )
            raise SettingsError(msg) from exc

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:  # noqa: BLE001 - whatever fails here must not end the run
            _log.exception("%s failed; the run goes on without it", self._place.what)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()  # the socket listens already
        if self._on_start is not None:
            self._on_start()
        await self._server.serve(sockets=[self._socket])


def _uvicorn_server(app: Guard, place: Place) -> uvicorn.Server:
    """Build the server. It writes no access log, and compresses nothing: pictures and clips are compressed already."""
    import uvicorn

    from streamav.web.hurry import HurriedProtocol

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        http=HurriedProtocol,
        ws="websockets-sansio",
        ws_max_size=1024,  # a viewer has nothing to say
        ws_ping_interval=10.0,
        ws_ping_timeout=10.0,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=place.cert,
        ssl_keyfile=place.key,
        limit_concurrency=256,
    )
    return uvicorn.Server(config)
