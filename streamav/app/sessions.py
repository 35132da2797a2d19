"""Builds a run that is recorded, and a run that repeats a recording.

A recording may be recorded again, with faces and voices removed: then the copy holds what the networks make of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamav.app.build import build
from streamav.bundle import choose_bundle
from streamav.capture import open_source
from streamav.engines import open_engine
from streamav.errors import SettingsError
from streamav.pipeline import Replay, SourceReplay, Turns
from streamav.privacy import FaceFinder, SpeechFinder
from streamav.publish import JsonlSink
from streamav.session import Recorder, ReplayedSource, SessionCard, read_turns
from streamav.session.folder import EVENTS
from streamav.session.masks import ItemMask
from streamav.session.recorder import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamav.app.build import Application
    from streamav.bundle import Bundle
    from streamav.config import OneOfSources, Settings
    from streamav.pipeline.turns import TurnBook
    from streamav.protocols import Sink, Source

__all__ = ["MaskName", "Recording", "build_recording", "build_replay", "replayed_run"]

MaskName = Literal["faces", "band", "speech"]


@dataclass(frozen=True, slots=True)
class Recording:
    """A run that is recorded, ready to start."""

    application: Application
    recorder: Recorder


def build_recording(
    settings: Settings,
    out: Path,
    *,
    most_bytes: int,
    masks: Sequence[MaskName] = (),
    sinks: Sequence[Sink] = (),
    session: tuple[Path, SessionCard] | None = None,
) -> Recording:
    """Build a run whose sources, turns and events are recorded.

    Args:
        settings: of the run.
        out: folder of the recording, new or empty.
        most_bytes: the run ends when the recording has this size.
        masks: what is removed before it is stored and before the networks see it.
        sinks: further sinks of the run.
        session: an earlier recording that takes the place of the sources; None to read the sources.

    Raises:
        StreamavError: as `build`; SettingsError when the folder cannot be used.
    """
    recorder = Recorder(out, most_bytes)
    try:
        traces = _traces(settings, out, masks, session)
        made: list[Application] = []
        events = JsonlSink(out / EVENTS, lambda: made[0].model_entry)
        turns = Turns(recorder, None if session is None else replayed_run(*session))
        application = build(settings, [events, *sinks], sources=traces, beside=False, turns=turns)
        made.append(application)
        recorder.begin(
            settings,
            [(one, traces[one.id]) for one in settings.each_source()],
            application.model_entry.model_dump(),
            masks=tuple(masks),
            end=application.pipeline.stop,
            copied=None if session is None else session[1],
        )
    except BaseException:
        recorder.discard()
        raise
    return Recording(application, recorder)


def _traces(settings: Settings, out: Path, masks: Sequence[MaskName], session: tuple[Path, SessionCard] | None) -> dict[str, Trace]:
    """Return the sources of a run, by id, as they are recorded."""
    bundle = choose_bundle(settings.model.name, settings.model.weights_dir).bundle
    frames = settings.model.frames_per_second or bundle.card.visual.frames_per_second
    picture = bundle.card.visual.picture
    given = {} if session is None else _replayed_sources(*session, speed=None, picture=picture)
    mask = _mask(settings, bundle, masks)
    return {
        one.id: Trace(given.get(one.id) or _opened(one, picture, frames), out, one.id, picture, frames, mask())
        for one in settings.each_source()
    }


def build_replay(
    settings: Settings, folder: Path, card: SessionCard, *, speed: float | None, sinks: Sequence[Sink] = (), book: TurnBook | None = None
) -> tuple[Application, Mapping[str, ReplayedSource]]:
    """Build a run over a recording, and return its sources by id, too.

    Args:
        settings: of the run; the card holds those that were recorded.
        folder: of the recording.
        card: of the recording.
        speed: 1 for the pace of the recorded run; None for as fast as possible.
        sinks: further sinks.
        book: takes the turns; None for none.

    Raises:
        StreamavError: as `build`; SettingsError when the settings name other sources; DataError when the recording is damaged.
    """
    bundle = choose_bundle(settings.model.name, settings.model.weights_dir).bundle
    known = {one.id for one in card.sources}
    wanted = {one.id for one in settings.each_source()}
    if wanted != known:
        msg = f"a replay must have the sources of the session, {', '.join(sorted(known))}, got {', '.join(sorted(wanted))}; leave them out"
        raise SettingsError(msg)
    sources = _replayed_sources(folder, card, speed=speed, picture=bundle.card.visual.picture)
    return build(settings, sinks, sources=sources, beside=False, turns=Turns(book, replayed_run(folder, card))), sources


def replayed_run(folder: Path, card: SessionCard) -> Replay:
    """Return what the turns of a recording did.

    Raises:
        DataError: when the recording is damaged.
    """
    turns = read_turns(folder)
    sources = {}
    for one in card.sources:
        own = tuple(record for turn in turns for record in turn if record.source == one.id)
        sources[one.id] = SourceReplay(turns=own, epoch_ns=card.epoch_ns, timed=one.paced)
    return Replay(sources, tuple(tuple(record.source for record in turn) for turn in turns))


def _replayed_sources(folder: Path, card: SessionCard, *, speed: float | None, picture: tuple[int, int]) -> dict[str, ReplayedSource]:
    return {one.id: ReplayedSource(folder, one, speed=speed, picture=picture) for one in card.sources}


def _opened(one: OneOfSources, picture: tuple[int, int], frames_per_second: int) -> Source:
    return open_source(one, one.capture, picture=picture, frames_per_second=frames_per_second)


def _mask(settings: Settings, bundle: Bundle, masks: Sequence[MaskName]) -> Callable[[], ItemMask | None]:
    """Return what makes the mask of each source; the finders have an engine of their own, because sources use them in their threads."""
    if not masks:
        return lambda: None

    def make() -> ItemMask:
        engine = open_engine(bundle, settings.model) if {"faces", "speech"} & set(masks) else None
        faces = FaceFinder(engine, bundle) if engine is not None and "faces" in masks else None
        speech = SpeechFinder(engine, bundle) if engine is not None and "speech" in masks else None
        return ItemMask(faces, speech, band="band" in masks)

    return make
