"""Serves the page: its files, the login, and the WebSocket over which the messages go.

It knows no source and no event; it sends texts that others encoded.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
from contextlib import suppress
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from streamav.config import only_this_machine
from streamav.errors import SettingsError
from streamav.view.guard import COOKIE, LOGIN_PATH, Guard, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from streamav.view.viewers import Viewers

__all__ = ["USUAL_PORT", "listen", "make_app", "make_server", "need_packages"]

_log = logging.getLogger(__name__)

USUAL_PORT = 8734
"""Port of the page where none is named; a free one is taken when it is in use (our choice, not assigned by IANA)."""
_LONGEST_LOGIN = 4096
_TRY_AGAIN = 1013  # RFC 6455 registry: try again later
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_CLOSE_S = 1.0
_WRONG = "<!-- wrong -->"


def need_packages() -> None:
    """Check that the packages of the extra `web` are installed.

    Raises:
        SettingsError: when one is missing.
    """
    missing = [name for name in ("starlette", "uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"the live page (--view) needs the extra web, and {', '.join(missing)} is missing; run: pip install 'streamav[web]'"
        raise SettingsError(msg)


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens; without a port it takes the usual one, or a free one when that is in use.

    Raises:
        SettingsError: when the address or the port cannot be used.
    """
    try:
        return _bound(host, USUAL_PORT if port is None else port)
    except OSError as exc:
        if port is None:
            with suppress(OSError):
                return _bound(host, 0)
        msg = (
            f"the live page must be able to listen on {host}, port {USUAL_PORT if port is None else port}, got: {exc.strerror or exc}; "
            "choose another with --view-port (0 takes a free one)"
        )
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


def make_app(tokens: Tokens, viewers: Viewers, first: Callable[[], Sequence[str]]) -> Guard:
    """Build the application.

    Args:
        tokens: decides who may look.
        viewers: receives every browser that connects.
        first: returns the messages that a new viewer is sent first.
    """
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, RedirectResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles

    folder = resources.files("streamav.view") / "static"
    page, login = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "login.html"))

    async def show(request: Request) -> Response:
        if not tokens.known(dict(request.headers.raw)):
            return HTMLResponse(login, status_code=401)
        return HTMLResponse(page)

    async def log_in(request: Request) -> Response:
        if not await tokens.accepts(await _token_of(request)):
            return HTMLResponse(login.replace(_WRONG, "<p role='alert'>This token is wrong.</p>"), status_code=403)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(COOKIE, tokens.session, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return answer

    async def favicon(_: Request) -> Response:
        return Response((folder / "favicon.svg").read_bytes(), media_type="image/svg+xml")

    async def look(websocket: WebSocket) -> None:
        await _look(websocket, viewers, first)

    routes: list[Any] = [
        Route("/", show),
        Route(LOGIN_PATH, log_in, methods=["POST"]),
        Route("/favicon.ico", favicon),
        Mount("/static", StaticFiles(directory=str(folder))),
        WebSocketRoute("/live", look),
    ]
    return Guard(Starlette(routes=routes), tokens)


def make_server(app: Guard, cert: Path | None, key: Path | None) -> uvicorn.Server:
    """Build the server. It writes no access log, and compresses nothing: the pictures are compressed already."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=1024,  # a viewer has nothing to say
        ws_ping_interval=10.0,
        ws_ping_timeout=10.0,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=cert,
        ssl_keyfile=key,
        limit_concurrency=256,
    )
    return uvicorn.Server(config)


async def _token_of(request: Request) -> str:
    """Return the token of a login form; the form may not be long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_LOGIN:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]


async def _look(websocket: WebSocket, viewers: Viewers, first: Callable[[], Sequence[str]]) -> None:
    """Serve one viewer until it goes, is dropped, or the run ends."""
    if viewers.full:
        await websocket.close(_TRY_AGAIN)
        return
    await websocket.accept()
    viewer = viewers.add()
    sending = asyncio.create_task(viewer.serve(websocket, first()))
    viewer.on_drop = sending.cancel
    receiving = asyncio.create_task(websocket.receive())
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        gone = receiving.done() and receiving.result()["type"] == "websocket.disconnect"
        if not gone:  # the end, a viewer that is too slow, or one that talks
            code = _TRY_AGAIN if viewer.dropped else _POLICY_VIOLATION if receiving.done() else 1000
            with suppress(Exception):
                await asyncio.wait_for(websocket.close(code), _CLOSE_S)
    finally:
        viewers.remove(viewer)
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


def warn_of_exposure(host: str, *, tls: bool) -> None:
    """Log that the page can be seen from other machines, in clear text where there is no TLS."""
    if not only_this_machine(host) and not tls:
        _log.warning(
            "the live page is open to the network without TLS: pictures and the token can be read on the way; set view.cert, view.key"
        )
