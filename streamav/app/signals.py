"""Runs an application until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from streamav.app.service_manager import ServiceManager, attended

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.app.build import Application
    from streamav.pipeline import RunSummary

__all__ = ["run"]

_INTERRUPTED = 130
"""Exit status of a process that was ended by a second Ctrl-C: 128 + SIGINT, the convention of shells."""


async def run(application: Application, *, on_interrupt: Callable[[int], None] | None = None) -> RunSummary:
    """Run until all sources have ended or the process is asked to stop.

    The first SIGINT, SIGTERM or SIGHUP (the terminal is gone) stops the run in order: open events end with reason "shutdown" and the
    broker is informed. The second ends the process at once, with status 130.

    Args:
        application: what build() made.
        on_interrupt: called with the number of the first signal.

    Raises:
        StreamavError: as Pipeline.run().
    """
    asked: list[int] = []

    def interrupt(number: int) -> None:
        if asked:
            os._exit(_INTERRUPTED)
        asked.append(number)
        if on_interrupt is not None:
            on_interrupt(number)
        application.pipeline.stop()

    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it so that the run outlives the terminal
        numbers.append(signal.SIGHUP)
    for number in numbers:
        with suppress(RuntimeError):  # not the main thread
            loop.add_signal_handler(number, interrupt, number)
    application.begin_build()
    pipeline = application.pipeline
    try:
        async with attended(ServiceManager.of(os.environ), lambda: pipeline.idle_s, lambda: pipeline.states):
            return await pipeline.run()
    finally:
        await asyncio.to_thread(application.end_build)
        for number in numbers:
            with suppress(RuntimeError):
                loop.remove_signal_handler(number)
