"""The live page as an observer and a sink of the loop.

The loop only appends to a bounded queue. A thread of the page's own encodes, keeps and sends; when it falls behind, the oldest entries
of the queue are lost, and the run goes on.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from streamav import __version__
from streamav.view.board import Board, kept_turns
from streamav.view.hiding import Hiding
from streamav.view.messages import text
from streamav.view.server import make_app, page_sha256
from streamav.view.viewers import Viewers
from streamav.web import Tokens, WebServer, need_packages
from streamav.web.server import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.config import ViewSettings
    from streamav.features import LogMelOptions
    from streamav.privacy_modes import Privacy
    from streamav.publish.message import ModelEntry
    from streamav.thresholds import Thresholds
    from streamav.types import Event, FinalScores, Observation, SourceState, Telemetry
    from streamav.view.moments import Moments

__all__ = ["LivePage", "ShownLabel", "Subject"]

_QUEUE = 512
"""Calls of the loop that may wait for the page's thread."""
USUAL_PORT = 8734
"""Port of the page where none is named; a free one is taken when it is in use (our choice, not assigned by IANA)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLabel:
    """A class as the page shows it."""

    label: str
    name: str
    thresholds: Thresholds | None
    """What makes an event of it; None when it makes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the page must know of a source."""

    id: str
    labels: tuple[ShownLabel, ...]
    """The labels of the source."""
    columns: tuple[int, ...]
    """Their columns in the scores."""
    latency_segments: int
    live: bool
    front_end: LogMelOptions
    """Of the model's sound: the spectrogram shows what it hears."""


class LivePage:
    """Fills the roles Observer and Sink."""

    def __init__(
        self,
        settings: ViewSettings,
        model: Callable[[], ModelEntry],
        subjects: Sequence[Subject],
        *,
        further: Callable[[Moments, Tokens], Sequence[Any]] | None = None,
        offers: Mapping[str, bool] | None = None,
        broker: Callable[[], dict[str, Any] | None] = lambda: None,
        hide: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Read the token and take the port, so that a mistake shows before the run begins.

        Args:
            settings: where to listen, and who may look.
            model: returns which model and backend compute at the moment.
            subjects: one for each source.
            further: returns further routes of the page, for what a viewer may ask and say; None for none.
            offers: what these routes offer, for the hello: "changes", "journal".
            broker: returns the state of the broker with what to do, or None without a broker.
            hide: makes people in one picture, shape (h, w, 3) RGB, unrecognisable; None blackens the picture.

        Raises:
            SettingsError: when packages are missing, the token is too short or cannot be read, or the port is in use.
        """
        need_packages("the live page (--view)", ("starlette", "uvicorn", "websockets"))
        self._model = model
        self._subjects = tuple(subjects)
        self._viewers = Viewers()
        self._hiding = Hiding()
        front_ends, columns = {one.id: one.front_end for one in subjects}, {one.id: one.columns for one in subjects}
        self._board = Board(front_ends, columns, hide=hide, hiding=self._hiding)
        self._run = secrets.token_hex(8)
        self._waiting: deque[Callable[[], str]] = deque(maxlen=_QUEUE)
        self._woken = False
        self._backend = ""
        place = Place(
            what="the live page",
            section="view",
            remedy="choose another with --view-port (0 takes a free one)",
            host=settings.host,
            port=settings.port,
            usual_port=USUAL_PORT,
            cert=settings.cert,
            key=settings.key,
        )
        self._broker = broker
        self._offers = {"review": further is not None, **(offers or {})}
        self._told_broker: dict[str, Any] | None = None
        tokens = Tokens(settings.secret())
        routes = () if further is None else further(self._board.moments, tokens)
        app = make_app(tokens, self._viewers, self._first, routes)
        self._server = WebServer(app, place, on_start=self._work)

    @property
    def address(self) -> str:
        """The address of the page."""
        return self._server.address

    @property
    def viewers(self) -> int:
        """How many browsers are connected."""
        return len(self._viewers)

    @property
    def dropped(self) -> int:
        """How many browsers were dropped because they did not keep up."""
        return self._viewers.dropped

    # Role Sink

    async def start(self) -> None:
        """Start to serve."""
        await self._server.start()

    def event(self, event: Event, latency_s: float) -> None:
        """Show a message about an event."""
        self._give(partial(self._board.event, event, latency_s))

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Show a change of a source's state."""
        self._give(partial(self._board.state, source, state, reason))

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Show the telemetry of a source."""
        self._give(partial(self._board.telemetry, source, telemetry))

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them: an observation holds the same scores, and the provisional ones."""

    def changed(self, source: str, thresholds: Mapping[str, Thresholds]) -> None:
        """Show other thresholds of a source from now on; a label that is not among them makes no event."""
        self._give(partial(self._changed, source, dict(thresholds)))

    def add_source(self, subject: Subject) -> None:
        """Show one more source, or a source that starts again, before its first turn. Browsers connect again and learn of it."""
        self._board.add_source(subject.id, subject.front_end, subject.columns)
        self._subjects = (*(one for one in self._subjects if one.id != subject.id), subject)
        self._server.call(self._reconnect)

    def drop_source(self, source: str) -> None:
        """Stop showing a source, after its last turn. Browsers connect again."""
        self._subjects = tuple(one for one in self._subjects if one.id != source)
        self._server.call(partial(self._board.drop_source, source))  # behind the turns that wait
        self._server.call(self._reconnect)

    def _reconnect(self) -> None:
        """Let every browser connect again half a second later; then it gets the sources as they are now."""
        self._viewers.send(None)

    def set_privacy(self, source: str, privacy: Privacy) -> None:
        """Hide people in a source from now on, also in what the page and its viewers have already; in any thread."""
        if any(one.id == source for one in self._subjects):
            self._hiding.set(source, privacy)
            self._server.call(lambda: self._viewers.send(self._board.refresh(source)))  # not by the queue, which may lose it

    async def close(self) -> None:
        """Tell the viewers that the run has ended, and stop serving."""
        await self._server.close(self._end, lambda: not len(self._viewers))

    # Role Observer

    def observe(self, source: str, observation: Observation) -> None:
        """Show what a turn did for a source."""
        self._give(partial(self._board.turn, source, observation))

    # From here on: the page's own thread, except _give

    def _give(self, make: Callable[[], str]) -> None:
        """Pass work on to the page's thread; the oldest is lost when too much waits."""
        self._waiting.append(make)
        if not self._woken and self._server.running:
            self._woken = True
            self._server.call(self._work)

    def _work(self) -> None:
        """Encode what waits, and send it to all viewers."""
        self._woken = False
        while True:
            try:
                make = self._waiting.popleft()
            except IndexError:
                return
            self._viewers.send(make())
            self._tell_backend()
            self._tell_broker()

    def _changed(self, source: str, thresholds: dict[str, Thresholds]) -> str:
        shown = {label: asdict(one) for label, one in thresholds.items()}
        self._subjects = tuple(
            replace(one, labels=tuple(replace(label, thresholds=thresholds.get(label.label)) for label in one.labels))
            if one.id == source
            else one
            for one in self._subjects
        )
        return text({"type": "thresholds", "source": source, "labels": shown})

    def _tell_backend(self) -> None:
        """Tell the viewers when another engine has taken over."""
        backend = self._model().backend
        if backend != self._backend:
            self._backend = backend
            self._viewers.send(text({"type": "engine", "name": backend}))

    def _tell_broker(self) -> None:
        """Tell the viewers when the state of the broker has changed."""
        state = self._broker()
        if state is not None and state != self._told_broker:
            self._told_broker = state
            self._viewers.send(text({"type": "broker", **state}))

    def _end(self) -> None:
        self._work()
        self._viewers.send(text({"type": "end"}))
        self._viewers.send(None)

    def _first(self) -> Sequence[str]:
        broker = [] if self._told_broker is None else [text({"type": "broker", **self._told_broker})]
        return [self._hello(), *broker, *self._board.newest()]

    def _hello(self) -> str:
        model = self._model()
        return text(
            {
                "type": "hello",
                "run": self._run,
                "version": __version__,
                "page": page_sha256(),
                "model": {"name": model.name, "version": model.version},
                "engine": model.backend,
                "kept": kept_turns(len(self._subjects)),
                "sources": [asdict(one) for one in self._subjects],
                **self._offers,
            }
        )
