"""The addresses under which the live page asks and says something. They take little, check everything, and answer JSON or a clip.

A request needs the cookie of the login where there is a token. One that changes or saves something must come from the page itself: the
origin must be there and be ours, and the body must be JSON, which a form of another web site cannot send.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamav.config import SOURCE_ID_PATTERN
from streamav.errors import SettingsError, reason_of
from streamav.review.desk import RefusedError, ten_seconds
from streamav.slugs import SLUG_SIZE
from streamav.thresholds import Thresholds
from streamav.web.files import FileOrGone
from streamav.web.questions import BusyError, Questions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from streamav.review.desk import Desk
    from streamav.view.moments import Moments
    from streamav.web import Tokens

__all__ = ["review_routes"]

_log = logging.getLogger(__name__)

_LONGEST_BODY: Final = 16_384
"""Longest body of a request, bytes (our choice)."""
_EVENT_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_Source = Annotated[str, Field(pattern=SOURCE_ID_PATTERN)]
_Label = Annotated[str, Field(pattern=rf"^[a-z0-9_]{{1,{SLUG_SIZE}}}$")]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Seconds = Annotated[float, Field(ge=0.0, le=4e9)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Said(_Body):
    """What a person says about an event, or about a second without one."""

    source: _Source
    verdict: Literal["right", "wrong", "missed"]
    label: _Label
    start_s: _Seconds
    end_s: _Seconds
    epoch_ms: Annotated[int, Field(ge=0, le=4_000_000_000_000)]


class _Wanted(_Body):
    """A change of thresholds of a label."""

    source: _Source
    label: _Label
    on: _Share
    off: _Share


class _Zones(_Body):
    """A zone to set, or to remove where it has no corners."""

    source: _Source
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
    corners: Annotated[tuple[tuple[_Share, _Share], ...], Field(max_length=32)]


class _Page:
    """Answers requests; one method for each address."""

    def __init__(self, desk: Desk, moments: Moments) -> None:
        self._desk, self._moments, self._questions = desk, moments, Questions()

    async def facts(self, _: Request) -> Response:
        given = self._desk.given
        return _json({"changes": given.change is not None, "journal": given.journal is not None, "folder": str(given.reviewed.folder)})

    async def why(self, request: Request) -> Response:
        source, at_s = _text(request, "source"), _number(request, "at")
        return _json(await self._questions.work(lambda: self._desk.why(source, at_s)))

    async def what_if(self, request: Request) -> Response:
        source, label = _text(request, "source"), _text(request, "label")
        current = self._desk.given.thresholds(source).get(label)
        on, off = _number(request, "on"), _number(request, "off")
        if current is None or not 0.0 <= off <= on <= 1.0:
            msg = "a label of the source and 0 <= off <= on <= 1 are needed"
            raise RefusedError(msg)
        wanted = Thresholds(on=on, off=off, min_segments=current.min_segments, gap_segments=current.gap_segments)
        return _json(await self._questions.work(lambda: self._desk.what_if(source, label, wanted)))

    async def zones(self, request: Request) -> Response:
        source, given = _text(request, "source"), self._desk.given.zones
        found = {} if given is None else {name: [list(one) for one in corners] for name, corners in given(source).items()}
        return _json({"zones": found})

    async def clip(self, request: Request) -> Response:
        from starlette.responses import Response

        identifier = str(request.path_params["id"])
        if _EVENT_ID.fullmatch(identifier) is None:
            msg = "the id of an event has 26 letters and digits"
            raise RefusedError(msg)
        seconds = self._moments.of_event(identifier)
        found: bytes | Path = await self._questions.work(lambda: self._desk.clip(identifier, seconds))
        if isinstance(found, bytes):
            return Response(found, media_type="video/mp4")
        return FileOrGone(found, "video/mp4", lambda: _json({"error": "the clip of this event was deleted just now"}, 400))

    async def say(self, request: Request) -> Response:
        said = _Said.model_validate(await _body(request))
        span = said.start_s, said.end_s
        newest = self._moments.newest(said.source)
        first, last = ten_seconds(span)
        seconds = self._moments.between(said.source, first, min(last, last if newest is None else newest + 1))
        file = await self._questions.work(
            lambda: self._desk.say(said.verdict, seconds, source=said.source, label=said.label, span_s=span, epoch_ms=said.epoch_ms)
        )
        return _json({"file": file, "folder": str(self._desk.given.reviewed.folder)})

    async def thresholds(self, request: Request) -> Response:
        wanted = _Wanted.model_validate(await _body(request))
        patch = {"classes": {wanted.label: {"on": wanted.on, "off": wanted.off}}}
        await self._questions.work(lambda: self._desk.change(wanted.source, patch))
        return _json({"holds": "from the next second on"})

    async def zone(self, request: Request) -> Response:
        wanted = _Zones.model_validate(await _body(request))
        corners = [list(one) for one in wanted.corners] or None
        await self._questions.work(lambda: self._desk.change(wanted.source, {"zones": {wanted.name: corners}}))
        return _json({"holds": "from the next second on"})


def review_routes(desk: Desk, moments: Moments, tokens: Tokens) -> list[Any]:
    """Return the routes of the page.

    Args:
        desk: answers.
        moments: the newest seconds; it belongs to the thread of the page, in which requests are taken.
        tokens: decides who may ask.
    """
    from starlette.routing import Route

    page = _Page(desk, moments)
    asked = {"facts": page.facts, "why": page.why, "what-if": page.what_if, "zones": page.zones, "clip/{id}": page.clip}
    told = {"say": page.say, "thresholds": page.thresholds, "zone": page.zone}
    return [
        *(Route(f"/page/{name}", _answering(tokens, answer)) for name, answer in asked.items()),
        *(Route(f"/page/{name}", _answering(tokens, _from_here(answer)), methods=["POST"]) for name, answer in told.items()),
    ]


def _answering(tokens: Tokens, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Demand the cookie where there is a token, and turn errors into words."""

    async def answered(request: Request) -> Response:
        if not tokens.known(dict(request.headers.raw)):
            return _json({"error": "log in first"}, 401)
        try:
            return await answer(request)
        except ValidationError as exc:
            first = exc.errors()[0]
            return _json({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 400)
        except (RefusedError, BusyError, SettingsError) as exc:
            return _json({"error": str(exc)}, 400)
        except OSError as exc:
            return _json({"error": f"it cannot be written: {reason_of(exc)}"}, 507)
        except Exception:  # noqa: BLE001 - a bug must not end the page
            _log.exception("a request of the live page failed because of an error in streamav")
            return _json({"error": "an error in streamav; its log has the details"}, 500)

    return answered


def _from_here(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Demand that a request comes from the page itself."""

    async def answered(request: Request) -> Response:
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        if origin is None or urlsplit(origin).netloc != request.headers.get("host") or site != "same-origin":
            return _json({"error": "only the page itself may change or save something"}, 403)
        return await answer(request)

    return answered


async def _body(request: Request) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON of a request.

    Raises:
        RefusedError: when it is none, or too long.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_BODY:
            msg = f"a request must be at most {_LONGEST_BODY} bytes"
            raise RefusedError(msg)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        msg = "a request must be application/json"
        raise RefusedError(msg)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        msg = "a request must be JSON"
        raise RefusedError(msg) from None


def _text(request: Request, name: str) -> str:
    found: str = request.query_params.get(name, "")
    if not 0 < len(found) <= 2 * SLUG_SIZE:
        msg = f"{name} must be given"
        raise RefusedError(msg)
    return found


def _number(request: Request, name: str) -> float:
    try:
        found = float(request.query_params.get(name, ""))
    except ValueError:
        found = float("nan")
    if not 0.0 <= found <= 4e9:  # noqa: PLR2004 - the year 2096
        msg = f"{name} must be a number of at least 0"
        raise RefusedError(msg)
    return found


def _json(value: object, status: int = 200) -> Response:
    from starlette.responses import Response

    return Response(json.dumps(value, allow_nan=False).encode(), status, media_type="application/json")
