"""Takes MQTT commands while a connection is open: it refuses a command or passes its change to the controls, and answers.

The sink echoes the new value once it holds. This module uses no connection: answers wait in `pending`.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from streamav.errors import SettingsError
from streamav.publish.commands import FILTERS, CommandError, read_command
from streamav.publish.payloads import AnswerPayload
from streamav.publish.pending import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.control import Controls
    from streamav.publish.client import Incoming
    from streamav.publish.ledger import Ledger
    from streamav.publish.pending import Pending
    from streamav.publish.topics import Topics

__all__ = ["Commander"]

AT_ONCE: Final = 100
"""Most commands in `PERIOD_S` (our choice: more than all settings of two sources, far less than a flood)."""
PERIOD_S: Final = 10.0
"""Time in which commands are counted, s (our choice)."""
MOST_LOGGED: Final = 20
"""Most refusals that are logged in a minute (our choice)."""
MINUTE_S: Final = 60.0

_log = logging.getLogger(__name__)


class Commander:
    """Commands of one service."""

    def __init__(self, controls: Controls, topics: Topics, ledger: Ledger, pending: Pending, monotonic: Callable[[], float]) -> None:
        """Store where changes go, and where echoes and answers go."""
        self._controls = controls
        self._topics = topics
        self._ledger = ledger
        self._pending = pending
        self._monotonic = monotonic
        self._times: deque[float] = deque(maxlen=AT_ONCE)
        self._logged: deque[float] = deque(maxlen=MOST_LOGGED)

    @property
    def filters(self) -> list[str]:
        """What to subscribe to."""
        return [*(f"{self._topics.base}/{one}" for one in FILTERS), self._topics.restate]

    def take(self, message: Incoming, restate: Callable[[], None]) -> bool:
        """Take a message; return False when it is no command.

        Args:
            message: what arrived.
            restate: sends all retained values again.
        """
        below = message.topic.removeprefix(f"{self._topics.base}/")
        if below == message.topic or not below.endswith("/set"):
            return False
        source = below.partition("/")[0]
        if message.retained:
            self._pending.tell_once(
                f"a retained command is ignored topic={message.topic}: publish commands without the retain flag, and clear this one"
            )
            self._echo(source)
            return True
        if not self._allowed():
            self._refuse(message, source, f"there are more than {AT_ONCE} commands in {PERIOD_S:g} s")
            return True
        if message.topic == self._topics.restate:
            restate()
            self._answer(message, None, None)
            return True
        try:
            command = read_command(below, message.payload)
            self._controls.change(command.source, command.patch)
        except (CommandError, SettingsError) as exc:
            self._refuse(message, source, str(exc))
            self._echo(source)
        else:
            self._answer(message, source, None)
        return True

    def _allowed(self) -> bool:
        now_s = self._monotonic()
        if len(self._times) == AT_ONCE and now_s - self._times[0] < PERIOD_S:
            return False
        self._times.append(now_s)
        return True

    def _refuse(self, message: Incoming, source: str, reason: str) -> None:
        now_s = self._monotonic()
        if len(self._logged) < MOST_LOGGED or now_s - self._logged[0] > MINUTE_S:
            self._logged.append(now_s)
            _log.warning("a command is refused topic=%s reason=%s", message.topic, reason)
        self._answer(message, source, reason)

    def _echo(self, source: str) -> None:
        """Publish the values that hold."""
        if source in self._controls.sources:
            self._pending.put([], self._ledger.retained.settings(source))

    def _answer(self, message: Incoming, source: str | None, reason: str | None) -> None:
        """Answer where the command asks for it, else at the topic of the source's answers; commands for other services get none."""
        own = source is None or source in self._controls.sources
        wanted = message.response_topic
        if wanted is not None and wanted.startswith(f"{self._topics.answer}/") and not set(wanted) & set("+#"):
            topic = wanted
        elif own:
            topic = self._topics.answer if source is None else self._topics.source_answer(source)
        else:
            return
        said = AnswerPayload(topic=message.topic, accepted=reason is None, reason=reason)
        self._pending.answer(Answer(topic, said.to_bytes(), message.correlation))
