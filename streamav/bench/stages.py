"""Measures what each stage of a run costs with a number of streams: decode, features, window, tracker, publish.

Run as a program it reads a request as JSON and prints the costs as JSON. Each stage is processor time, in seconds for one second of all
streams: of the threads that decode; of the inference thread, inside the encoders, inside the localizer, and in the rest; of the loop.
The streams run as fast as they can and nothing waits or is left out, so other load on the machine changes little.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from streamav.bench.trial import TrialRequest, application_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STAGES", "StageCosts", "measure_stages"]

STAGES = ("decode", "features", "window", "tracker", "publish")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCosts:
    """What a number of streams costs, s of processor time for one second of all of them."""

    streams: int
    decode: float
    features: float
    window: float
    tracker: float
    publish: float
    engine: str


class _Watch:
    """Adds up the time that calls of a thread take of its processor."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function with its time added up."""

        def timed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - passed on unchanged
            began_s = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.thread_time() - began_s

        return timed


def measure_stages(request: TrialRequest) -> StageCosts:
    """Run the streams of a request and measure; events go to a JSON lines file that nobody reads.

    Raises:
        StreamavError: when the model, the engine or the file cannot be used.
    """
    from streamav import app
    from streamav.publish import JsonlSink, ModelEntry

    def model() -> ModelEntry:
        return ModelEntry(name="bench", version="0", sha256="0" * 64, backend="bench")

    # One thread: what the networks cost is then in the inference thread.
    application = application_of(replace(request, threads=1, replay=True), (JsonlSink(os.devnull, model),))
    worker = application.pipeline._worker  # noqa: SLF001 - measured from outside, so that a run carries no meters
    turns, features, window = _Watch(), _Watch(), _Watch()
    worker.turn = turns.around(worker.turn)  # type: ignore[method-assign]
    worker._extractor.extract = features.around(worker._extractor.extract)  # type: ignore[method-assign] # noqa: SLF001
    worker._localizer.localize = window.around(worker._localizer.localize)  # type: ignore[method-assign] # noqa: SLF001
    loop_s = _Loop()
    before_s = time.process_time()
    summary = asyncio.run(loop_s.run(app.run(application)))
    media_s, all_s = summary.media_s / request.streams, time.process_time() - before_s
    rest_s = turns.seconds - features.seconds - window.seconds
    return StageCosts(
        streams=request.streams,
        decode=max(0.0, all_s - turns.seconds - loop_s.seconds) / media_s,
        features=features.seconds / media_s,
        window=window.seconds / media_s,
        tracker=rest_s / media_s,
        publish=loop_s.seconds / media_s,
        engine=application.engine.name,
    )


class _Loop:
    """Measures the processor time of the loop's thread."""

    seconds = 0.0

    async def run(self, work: Any) -> Any:  # noqa: ANN401 - a coroutine, passed on
        """Await *work* and keep what the thread has used."""
        began_s = time.thread_time()
        result = await work
        self.seconds = time.thread_time() - began_s
        return result


if __name__ == "__main__":
    from streamav.bench.process import give

    give(lambda asked: asdict(measure_stages(TrialRequest(**asked))))
