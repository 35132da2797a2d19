"""The HTTP API as an observer and a sink of the loop.

The loop only replaces values and adds to counters. Requests are answered in a thread of the API's own. The journal and clips are read in
a few threads beside it, so that a question never makes the run wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.web import Tokens, WebServer, need_packages
from streamav.web.server import Place

if TYPE_CHECKING:
    from streamav.api.facts import Facts, KnownSource
    from streamav.config import HttpSettings
    from streamav.types import Event, FinalScores, Observation, SourceState, Telemetry

__all__ = ["HttpApi"]


class HttpApi:
    """Fills the roles Observer and Sink."""

    def __init__(self, settings: HttpSettings, facts: Facts) -> None:
        """Read the token and take the port, so that a mistake shows before the run begins.

        Args:
            settings: where to listen, and who may ask.
            facts: what is known of the run.

        Raises:
            SettingsError: when packages are missing, the token is too short or cannot be read, or the port is in use.
        """
        need_packages("the HTTP API (--http)", ("starlette", "uvicorn", "websockets", "prometheus_client"))
        from streamav.api.reporter import Reporter
        from streamav.api.routes import make_app

        reporter = Reporter(facts)
        self._status, self._metrics = reporter.status, reporter.metrics
        place = Place(
            what="the HTTP API",
            section="http",
            remedy="choose another with --http ADDRESS:PORT (port 0 takes a free one)",
            host=settings.host,
            port=settings.port,
            usual_port=settings.port,
            cert=settings.cert,
            key=settings.key,
        )
        self._server = WebServer(make_app(reporter, facts, Tokens(settings.secret())), place)

    @property
    def address(self) -> str:
        """The address of the API, with a slash at the end."""
        return self._server.address

    # Role Sink

    async def start(self) -> None:
        """Start to serve."""
        await self._server.start()

    def event(self, event: Event, latency_s: float) -> None:  # noqa: ARG002 - a sink
        """Count a message about an event."""
        self._status.event(event)
        self._metrics.event(event)

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Note the state of a source."""
        self._status.source_state(source, state, reason)
        self._metrics.source_state(source, state)

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Note the newest figures of a source."""
        self._status.telemetry(source, telemetry)
        self._metrics.telemetry(source, telemetry)

    def add_source(self, known: KnownSource) -> None:
        """Add a source, or start it again, before its first report."""
        self._status.add_source(known)
        self._metrics.add_source(known.id, tuple(known.thresholds()))

    def drop_source(self, source: str) -> None:
        """Tell nothing of a source any more."""
        self._status.drop_source(source)
        self._metrics.drop_source(source)

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them: the journal keeps them."""

    async def close(self) -> None:
        """Stop serving."""
        await self._server.close()

    # Role Observer

    def observe(self, source: str, observation: Observation) -> None:
        """Count what a turn did for a source."""
        self._metrics.observe(source, observation)
