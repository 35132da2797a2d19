"""Decides who may ask, and sets the headers that keep foreign code out.

Without a token only this machine may: the server listens on the loopback interface, and the names of hosts and origins are checked, so
that no web site can read it through the visitor's browser (DNS rebinding, cross-site WebSockets). With a token, a visitor of the page
enters it once and gets a cookie that holds for this run; a program that asks the API sends it with each request.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from streamav.config import only_this_machine

__all__ = ["COOKIE", "LOGIN_PATH", "App", "Guard", "Receive", "Scope", "Send", "Tokens"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE: Final = "streamav_view"
LOGIN_PATH: Final = "/login"
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_WRONG_PAUSE_S: Final = 1.0
"""Pause after a wrong token, so that guessing is slow."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; connect-src 'self' {socket}; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer a browser sends the login form with the origin "null"
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Tokens:
    """Checks the token and the cookies that were given for it. Without a token everybody who gets this far may look."""

    def __init__(self, token: str | None) -> None:
        """Store the token; None for none."""
        self._token = token
        self.session = secrets.token_urlsafe(32)
        """Value of the cookie of this run."""

    @property
    def needed(self) -> bool:
        """True when a token must be given."""
        return self._token is not None

    async def accepts(self, token: str) -> bool:
        """Return whether a token is right; a wrong one is answered after a pause."""
        if self._token is None or hmac.compare_digest(token.encode(), self._token.encode()):
            return True
        await asyncio.sleep(_WRONG_PAUSE_S)
        return False

    def known(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether a request may pass: no token is needed, or it has the cookie."""
        if self._token is None:
            return True
        try:
            found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self.session.encode())

    async def borne(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether a request may pass: no token is needed, or it has `Authorization: Bearer TOKEN` (RFC 6750)."""
        if self._token is None:
            return True
        scheme, _, token = headers.get(b"authorization", b"").decode("utf-8", "replace").partition(" ")
        return scheme.lower() == "bearer" and bool(token) and await self.accepts(token.strip())


class Guard:
    """Middleware (ASGI) before the whole application."""

    def __init__(self, app: App, tokens: Tokens, section: Literal["view", "http"]) -> None:
        """Stand before *app*; *section* is the section of its settings, for messages."""
        self._app = app
        self._tokens = tokens
        self._section = section

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what may not pass; add the headers to what may."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        problem = self._problem(scope, headers, host)
        if problem is not None:
            await _refuse(scope, send, problem)
            return
        if scope["type"] == "http":
            send = _with_headers(send, host, secure=scope.get("scheme") == "https")
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope, headers: dict[bytes, bytes], host: str) -> str | None:
        """Return why a request is refused, or None."""
        if not _HOST.fullmatch(host):
            return "the request must name a host"
        if not self._tokens.needed and not only_this_machine(_name(host)):
            return f"without a token ({self._section}.token_file) this is for this machine only: open it under 127.0.0.1 or localhost"
        origin = headers.get(b"origin")
        asks = scope["type"] == "websocket" or scope["method"] not in {"GET", "HEAD"}
        if asks and origin is not None and not _same(origin.decode("latin-1"), host):
            return "another web site may not use this"
        if scope["type"] == "websocket" and not self._tokens.known(headers):
            return "log in first"
        return None


def _name(host: str) -> str:
    """Return the name in the header Host without its port, as far as it is one."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets around what is no address
        return ""


def _same(origin: str, host: str) -> bool:
    """Return whether an origin is our own page."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


async def _refuse(scope: Scope, send: Send, problem: str) -> None:
    if scope["type"] == "websocket":  # before it is accepted: the browser sees status 403
        await send({"type": "websocket.close", "code": 1008})
        return
    body = f"403: {problem}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send, host: str, *, secure: bool) -> Send:
    policy = _POLICY.format(socket=f"{'wss' if secure else 'ws'}://{host}")  # older browsers do not count a WebSocket as 'self'
    added = [(name.encode(), value.encode()) for name, value in {**_HEADERS, "content-security-policy": policy}.items()]

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return wrapped
