"""Answers the requests of the HTTP API. docs/operations.md and /openapi.json describe them.

Every answer about events and sources is JSON; every error is `{"error": "..."}` with a sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from streamav.api.metrics import CONTENT_TYPE
from streamav.api.openapi import document
from streamav.api.parameters import cursor, event_query, moment, single
from streamav.clips.retention import find_clip
from streamav.errors import SettingsError, reason_of
from streamav.journal import History, explain_moment
from streamav.web.files import FileOrGone
from streamav.web.guard import Guard
from streamav.web.questions import BusyError, Questions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from streamav.api.facts import Facts
    from streamav.api.reporter import Reporter
    from streamav.web.guard import App, Receive, Scope, Send, Tokens

__all__ = ["OPEN_PATHS", "make_app"]

_log = logging.getLogger(__name__)

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""What a monitor may ask without the token: one word about the run."""
_LONGEST_S: Final = 5.0
"""Longest time of one question to the journal, s."""
_EVENT_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_KINDS: Final = {"clip": (".mp4", "video/mp4"), "snapshot": (".jpg", "image/jpeg")}
_PATCH_TYPES: Final = ("application/merge-patch+json", "application/json")
"""A change is a JSON Merge Patch (RFC 7396)."""
_LONGEST_BODY: Final = 65_536
"""Longest body of a change, bytes (our choice)."""
_BODY_S: Final = 10.0
"""How long the body of a request may take, s (our choice)."""
_JOURNAL_OFF: Final = "the journal is off; set journal.enabled = true"


class _RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class _Bearer:
    """Middleware (ASGI) that demands the token, except at the open paths."""

    def __init__(self, app: App, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not await self._tokens.borne(dict(scope["headers"])):
            answer = _error(401, "this needs the token (http.token_file) as a header: Authorization: Bearer TOKEN")
            answer.headers["www-authenticate"] = 'Bearer realm="streamav"'
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Desk:
    """Answers requests; one method for each address."""

    def __init__(self, reporter: Reporter, facts: Facts) -> None:
        self._reporter, self._facts = reporter, facts
        self._questions = Questions()

    async def events(self, request: Request) -> Response:
        query = event_query(request.query_params.multi_items(), time.time())
        found = await self._ask(lambda history: history.find(query))
        full = query.limit is not None and len(found) == query.limit
        return _json({"events": found, "next": cursor(found[-1]) if full else None})

    async def event(self, request: Request) -> Response:
        identifier = _identifier(request)
        found = await self._ask(lambda history: history.event(identifier))
        if found is None:
            raise _RefusedError(404, "the journal has no event with this id; it may be retracted, too old, or not written yet (1 s)")
        links = {kind: await self._link(kind, identifier) for kind in _KINDS}
        return _json({"event": found, **links})

    async def media(self, request: Request) -> Response:
        kind = request.url.path.rpartition("/")[2]
        single(request.query_params.multi_items(), ())
        path = await self._file(kind, _identifier(request))
        missing = f"there is no {kind} of this event: it is not written yet, was deleted by age or size, or clips.dir is not set"
        if path is None:
            raise _RefusedError(404, missing)
        return FileOrGone(path, _KINDS[kind][1], lambda: _error(404, missing))

    async def sources(self, request: Request) -> Response:
        single(request.query_params.multi_items(), ())
        return _json({"sources": self._reporter.status.sources()})

    async def detection(self, request: Request) -> Response:
        """Answer what a source detects, after a change where the request holds one."""
        known = self._reporter.status.known
        source = str(request.path_params["id"])
        single(request.query_params.multi_items(), ())
        if source not in known:
            raise _RefusedError(404, f"there is no source {source[:80]!a}; the sources are {', '.join(known)}")
        if request.method == "PATCH":
            change = self._facts.change
            if change is None:
                raise _RefusedError(403, "this run takes no changes; set http.commands = true")
            patch = await _patch(request)
            await self._questions.work(lambda: change(source, patch))
        return _json({"source": source, "detection": known[source].detection().model_dump(mode="json")})

    async def stats(self, request: Request) -> Response:
        single(request.query_params.multi_items(), ())
        return _json(self._reporter.stats())

    async def explain(self, request: Request) -> Response:
        known = self._reporter.status.known
        source, at_s = moment(request.query_params.multi_items(), list(known), time.time())
        found = await self._ask(lambda history: explain_moment(history, source, at_s, lambda _: known[source].labels(), known[source].grid))
        return _json({**found, "model": self._facts.model().name})

    async def openapi(self, _: Request) -> Response:
        return _json(document())

    async def healthz(self, _: Request) -> Response:
        alive = self._reporter.alive
        return _json({"status": "ok" if alive else "stalled"}, 200 if alive else 503)

    async def readyz(self, _: Request) -> Response:
        found = self._reporter.readiness()
        return _json(found, 200 if found["ready"] else 503)

    async def metrics(self, _: Request) -> Response:
        from starlette.responses import Response

        return Response(self._reporter.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _ask(self, question: Callable[[History], Any]) -> Any:  # noqa: ANN401 - what the question returns
        """Put a question to the journal in a thread, within bounds of number and time."""
        if self._facts.journal is None:
            raise _RefusedError(404, _JOURNAL_OFF)
        path = self._facts.journal
        return await self._questions.work(lambda: _read(path, question))

    async def _link(self, kind: str, identifier: str) -> str | None:
        return None if await self._file(kind, identifier) is None else f"/api/events/{identifier}/{kind}"

    async def _file(self, kind: str, identifier: str) -> Path | None:
        folder = self._facts.clips
        if folder is None:
            return None
        found: Path | None = await self._questions.work(lambda: find_clip(folder, identifier, _KINDS[kind][0]))
        return found


def make_app(reporter: Reporter, facts: Facts, tokens: Tokens) -> Guard:
    """Build the application.

    Args:
        reporter: says how the run is doing.
        facts: what is known of the run.
        tokens: decides who may ask.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    desk = _Desk(reporter, facts)
    routes = [
        Route("/api/events", desk.events),
        Route("/api/events/{id}", desk.event),
        *(Route(f"/api/events/{{id}}/{kind}", desk.media) for kind in _KINDS),
        Route("/api/sources", desk.sources),
        Route("/api/sources/{id}/detection", desk.detection, methods=["GET", "PATCH"]),
        Route("/api/stats", desk.stats),
        Route("/api/explain", desk.explain),
        Route("/openapi.json", desk.openapi),
        Route("/healthz", desk.healthz),
        Route("/readyz", desk.readyz),
        Route("/metrics", desk.metrics),
    ]
    handlers: Mapping[Any, Any] = {
        SettingsError: _refuse,
        _RefusedError: _refuse,
        BusyError: _refuse,
        HTTPException: _refuse,
        Exception: _fail,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(_Bearer(app, tokens), tokens, "http")


async def _patch(request: Request) -> dict[str, object]:
    """Return the JSON object of a request; a browser asks first before it sends one of this type to another site."""
    if request.headers.get("content-type", "").partition(";")[0].strip() not in _PATCH_TYPES:
        raise _RefusedError(415, f"the content-type of a change must be {' or '.join(_PATCH_TYPES)}")
    try:
        async with asyncio.timeout(_BODY_S):
            body = await _body(request)
    except TimeoutError:
        raise _RefusedError(408, f"a change must arrive within {_BODY_S:g} s") from None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found:
        raise _RefusedError(
            400, 'a change must be a JSON object such as {"privacy": "blur"}; null takes a setting back to the configuration'
        )
    return found


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_BODY:
            raise _RefusedError(413, f"a change must have at most {_LONGEST_BODY} bytes")
    return body


def _identifier(request: Request) -> str:
    identifier = str(request.path_params["id"])
    if _EVENT_ID.fullmatch(identifier) is None:
        raise _RefusedError(404, "the id of an event has 26 letters and digits (ULID); /api/events lists events")
    return identifier


def _read(path: Path, question: Callable[[History], Any]) -> Any:  # noqa: ANN401 - what the question returns
    try:
        with History.reading(path) as history:
            history.limit_time(_LONGEST_S)
            return question(history)
    except sqlite3.OperationalError as exc:
        raise _RefusedError(503, f"the journal did not answer in time ({exc}); ask for a shorter span, or again") from None
    except (sqlite3.Error, OSError) as exc:
        _log.warning("the API cannot read the journal path=%s reason=%s", path, reason_of(exc))
        raise _RefusedError(503, "the journal cannot be read; the log of the run says why") from None


def _json(value: object, status: int = 200) -> Response:
    from starlette.responses import Response

    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")


def _error(status: int, said: str, headers: Mapping[str, str] | None = None) -> Response:
    answer = _json({"error": said}, status)
    answer.headers.update(headers or {})
    if status == 503:  # noqa: PLR2004 - Service Unavailable
        answer.headers["retry-after"] = "1"
    return answer


async def _refuse(_: Request, exc: Any) -> Response:  # noqa: ANN401 - an error of ours or of Starlette
    """Answer a request that asks for something that is not there, or asks wrongly."""
    if isinstance(exc, SettingsError):
        return _error(400, str(exc))
    if isinstance(exc, BusyError):
        return _error(503, str(exc))
    if isinstance(exc, _RefusedError):
        return _error(exc.status, str(exc))
    return _error(exc.status_code, f"{exc.detail}; /openapi.json lists what there is", exc.headers)


async def _fail(request: Request, exc: Exception) -> Response:
    """Answer after a bug; the log has the details, the answer has none."""
    _log.error("a request failed because of an error in streamav path=%s", ascii(request.url.path[:80]), exc_info=exc)
    return _error(500, "an error in streamav; its log has the details")
