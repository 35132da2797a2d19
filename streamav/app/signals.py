"""Runs an application until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from streamav.app.service_manager import ServiceManager, attended
from streamav.errors import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from streamav.app.build import Application
    from streamav.pipeline import RunSummary

__all__ = ["hold_hangups", "interruptible", "run"]

_MOST_RELOADS = 2
"""Most reloads that run or wait: one more signal asks for nothing new."""


async def run(
    application: Application,
    *,
    on_interrupt: Callable[[int], None] | None = None,
    reload: Callable[[], Coroutine[Any, Any, None]] | None = None,
    hung_up: Callable[[], bool] = lambda: False,
) -> RunSummary:
    """Run until all sources have ended or the process is asked to stop.

    The first SIGINT, SIGTERM or SIGHUP (the terminal is gone) stops the run in order: open events end with reason "shutdown" and the
    broker is informed. The second ends the process at once, with status 130.

    Args:
        application: what build() made.
        on_interrupt: called with the number of the first signal.
        reload: called at SIGHUP, which then does not stop the run; None where SIGHUP means that the terminal is gone.
        hung_up: returns whether SIGHUP came while the run was built.

    Raises:
        StreamavError: as Pipeline.run().
    """
    pipeline = application.pipeline
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it so that the run outlives the terminal
        numbers.append(signal.SIGHUP)
    reloads: set[asyncio.Task[None]] = set()
    with interruptible(numbers, pipeline.stop, on_interrupt):
        if reload is not None and signal.SIGHUP in numbers:
            _at_hangup(asyncio.get_running_loop(), reload, reloads, lambda: pipeline.stopping)
            if hung_up():
                os.kill(os.getpid(), signal.SIGHUP)
        application.begin_build()
        try:
            async with attended(ServiceManager.of(os.environ), lambda: pipeline.idle_s, lambda: pipeline.states):
                return await pipeline.run()
        finally:
            for task in reloads:
                task.cancel()
            await asyncio.to_thread(application.end_build)


@contextmanager
def interruptible(numbers: Sequence[int], stop: Callable[[], None], on_interrupt: Callable[[int], None] | None = None) -> Iterator[None]:
    """Stop in order at the first signal and end the process at the second, with status 130, until the block ends.

    Args:
        numbers: the signals.
        stop: called at the first signal.
        on_interrupt: called before it with the number of the signal.
    """
    asked: list[int] = []

    def interrupt(number: int) -> None:
        if asked:
            os._exit(INTERRUPTED)
        asked.append(number)
        if on_interrupt is not None:
            on_interrupt(number)
        stop()

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    for number in numbers:
        with suppress(RuntimeError):  # not the main thread
            loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    finally:
        for number in numbers:
            with suppress(RuntimeError, ValueError):  # asyncio would leave the default action, whatever was there before
                if loop.remove_signal_handler(number):
                    signal.signal(number, before[number])


def hold_hangups() -> Callable[[], bool]:
    """Let no SIGHUP end this process any more: neither while the run is built, which may take minutes, nor while the process ends.

    Call it where SIGHUP means a reload, and not that the terminal is gone. A program that the process starts has the default again.

    Returns:
        What returns whether one came, once.
    """
    came: list[int] = []

    def take() -> bool:
        found = bool(came)
        came.clear()
        return found

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
        atexit.register(signal.signal, signal.SIGHUP, signal.SIG_IGN)  # Python takes its own handlers away before it ends
    return take


def _at_hangup(
    loop: asyncio.AbstractEventLoop,
    reload: Callable[[], Coroutine[Any, Any, None]],
    tasks: set[asyncio.Task[None]],
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Reload at SIGHUP, unless the run is *stopping*.

    *tasks* holds the reloads that are not done, at most two: one more covers all that come meanwhile.
    """

    def begin() -> None:
        if len(tasks) < _MOST_RELOADS and not stopping():
            task = loop.create_task(reload(), name="reload")
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    with suppress(RuntimeError):  # not the main thread
        loop.add_signal_handler(signal.SIGHUP, begin)
