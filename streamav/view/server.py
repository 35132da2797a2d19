"""The page as an application: its files, the login, and the WebSocket over which the messages go.

It knows no source and no event; it sends texts that others encoded.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from streamav.web.guard import COOKIE, LOGIN_PATH, Guard, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from streamav.view.viewers import Viewers

__all__ = ["make_app", "page_sha256"]

_LONGEST_LOGIN = 4096
"""Longest body of the login form, bytes."""
_TRY_AGAIN = 1013  # RFC 6455 registry: try again later
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_CLOSE_S = 1.0
"""Longest wait for a browser's answer to the end, s."""
_WRONG = "<!-- wrong -->"


def make_app(tokens: Tokens, viewers: Viewers, first: Callable[[], Sequence[str]], further: Sequence[Any] = ()) -> Guard:
    """Build the application.

    Args:
        tokens: decides who may look.
        viewers: receives every browser that connects.
        first: returns the messages that a new viewer is sent first.
        further: further routes.
    """
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, RedirectResponse, Response
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles

    folder = resources.files("streamav.view") / "static"
    page, login = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "login.html"))
    page = page.replace('data-page=""', f'data-page="{page_sha256()}"')

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
        *further,
    ]
    return Guard(Starlette(routes=routes), tokens, "view")


@cache
def page_sha256() -> str:
    """Return a hash of the page's files: an open page that finds another one in the hello loads itself again."""
    files = sorted((resources.files("streamav.view") / "static").iterdir(), key=lambda one: one.name)
    return hashlib.sha256(b"".join(one.name.encode() + b"\0" + one.read_bytes() for one in files)).hexdigest()


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
