"""Records sources while a run reads them, and the turns of the run.

It records the items as each source passes them to the run: decoded, with repaired time stamps, at the size of the model. So a replay
depends on no decoder and no device. When the limit is reached or the disk is full, the recording ends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from streamav.errors import CaptureError, reason_of
from streamav.redaction import redact
from streamav.session.card import session_card, source_card
from streamav.session.folder import (
    EVENTS,
    TURNS,
    append_line,
    items_file,
    make_folder,
    media_file,
    open_new,
    turn_line,
    write_card,
)
from streamav.session.media import MediaWriter
from streamav.types import AudioBlock, SourceContent, StateChange, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from streamav.config import OneOfSources, Settings
    from streamav.pipeline.turns import TurnRecord
    from streamav.protocols import Source
    from streamav.session.folder import SessionCard

    Item = AudioBlock | VideoFrame | StateChange | SourceContent
    Mask = Callable[[Iterator[Item]], Iterator[Item]]

__all__ = ["Recorder", "Trace"]

_log = logging.getLogger(__name__)


class Recorder:
    """The recording of one run. It is the book of the run's turns, and wraps the run's sources."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Make the folder.

        Args:
            folder: new or empty.
            most_bytes: the recording ends when it has this size.

        Raises:
            SettingsError: when the folder cannot be made or is not empty.
        """
        make_folder(folder)
        self.folder = folder
        self._most_bytes, self._bytes = most_bytes, 0
        self._lock = threading.Lock()
        self._turns: BinaryIO | None = None
        self._end: Callable[[], None] | None = None
        self.ended: str | None = None
        """Why the recording ended before the run, as a sentence; None while it goes on."""
        self.failed = False
        """True when it ended by an error."""

    def begin(
        self,
        settings: Settings,
        sources: Iterable[tuple[OneOfSources, Trace]],
        model: dict[str, str],
        *,
        masks: tuple[Any, ...],
        end: Callable[[], None],
        copied: SessionCard | None = None,
    ) -> None:
        """Write the card and open the files.

        Args:
            settings: of the run.
            sources: settings and recording of each source.
            model: name, version, sha256 and backend.
            masks: what is removed from the media.
            end: called when the recording ends before the run.
            copied: card of the session that is copied; None for a run of its own.

        Raises:
            OSError: when the folder cannot be written.
        """
        self._end = end
        pairs = list(sources)
        earlier = {} if copied is None else {card.id: card for card in copied.sources}
        cards = [source_card(one, trace, trace.picture, trace.frames_per_second, earlier.get(one.id)) for one, trace in pairs]
        card = session_card(settings, cards, model, masks, None if copied is None else copied.epoch_ns)
        write_card(self.folder, card)
        self._turns = open_new(self.folder / TURNS)
        for _, trace in pairs:
            trace.open(self)

    def discard(self) -> None:
        """Remove the folder of a run that could not be built; it holds nothing that was recorded."""
        with suppress(OSError):
            (self.folder / EVENTS).unlink(missing_ok=True)
            self.folder.rmdir()

    def note(self, turn: Sequence[TurnRecord]) -> None:
        """Write a turn of the run."""
        with self._lock:
            if self._turns is None:
                return
            try:
                self._bytes += append_line(self._turns, turn_line(turn))
                here = os.path.samestat(os.fstat(self._turns.fileno()), (self.folder / TURNS).stat())
            except FileNotFoundError:
                here = False
            except OSError as exc:
                self._stop(reason_of(exc), failed=True)
                return
            if not here:
                self._stop(f"{self.folder} was removed, renamed or replaced while it was written", failed=True)

    def count(self, size: int) -> None:
        """Count bytes; the recording ends when the limit is reached."""
        with self._lock:
            self._bytes += size
            if self._bytes > self._most_bytes and self.ended is None:
                self._stop(f"it has reached {self._most_bytes / 1e6:.0f} MB, the limit of --max-bytes", failed=False)

    def fail(self, reason: str) -> None:
        """End the recording, because it cannot be written."""
        with self._lock:
            self._stop(reason, failed=True)

    def close(self) -> None:
        """Close the file of turns; the sources close their own."""
        with self._lock:
            if self._turns is not None:
                self._turns.close()
                self._turns = None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._bytes

    def _stop(self, reason: str, *, failed: bool) -> None:
        if self.ended is None:
            self.ended, self.failed = reason, failed
            _log.warning("the recording ends: %s", reason)
            if self._end is not None:
                self._end()


class Trace:
    """Implements the role Source: the items of another source, recorded as they pass."""

    def __init__(
        self, source: Source, folder: Path, name: str, picture: tuple[int, int], frames_per_second: int, mask: Mask | None = None
    ) -> None:
        """Wrap a source; nothing is written before open().

        Args:
            source: read when the items are.
            folder: of the session.
            name: id of the source.
            picture: height and width of its pictures.
            frames_per_second: F.
            mask: changes the items before they are recorded and passed on; None for no change.
        """
        self._source, self._folder, self._name, self._mask = source, folder, name, mask
        self.picture, self.frames_per_second = picture, frames_per_second
        self._recorder: Recorder | None = None

    @property
    def live(self) -> bool:
        """As the source."""
        return self._source.live

    @property
    def session(self) -> str:
        """As the source."""
        return self._source.session

    @property
    def skew_ms(self) -> int | None:
        """As the source."""
        return self._source.skew_ms

    def open(self, recorder: Recorder) -> None:
        """Record into *recorder* from here on."""
        (self._folder / self._name).mkdir(mode=0o700)
        self._recorder = recorder

    def items(self) -> Iterator[Item]:
        """Yield the items of the source, each after it was recorded."""
        items = self._source.items()
        recorder = self._recorder
        writer = None if recorder is None else _open(recorder, self._folder, self._name, self.picture)
        failure: str | None = None
        try:
            for item in items if self._mask is None else self._mask(items):
                if writer is not None:
                    writer.write(item)
                yield item
        except CaptureError as exc:
            failure = redact(str(exc))
            raise
        finally:
            if writer is not None:
                writer.close(failure)

    def close(self) -> None:
        """As the source."""
        self._source.close()


def _open(recorder: Recorder, folder: Path, name: str, picture: tuple[int, int]) -> _ItemWriter | None:
    from av.error import FFmpegError

    try:
        return _ItemWriter(recorder, folder, name, picture)
    except (OSError, FFmpegError) as exc:
        recorder.fail(f"{folder / name} cannot be written: {reason_of(exc)}")
        return None


class _ItemWriter:
    """Writes the items of one source, in the thread that reads it."""

    def __init__(self, recorder: Recorder, folder: Path, name: str, picture: tuple[int, int]) -> None:
        self._recorder, self._folder = recorder, folder / name
        self._media: MediaWriter | None = MediaWriter(media_file(folder, name), picture)
        self._items = open_new(items_file(folder, name))
        self._zero_ns = time.monotonic_ns()

    def write(self, item: Item) -> None:
        """Write one item: its media first, so that a line always has its media."""
        from av.error import FFmpegError

        if self._media is None or self._recorder.ended is not None:
            return
        at_ns = time.monotonic_ns() - self._zero_ns
        try:
            size, line = self._stored(self._media, item)
            self._recorder.count(size + append_line(self._items, {**line, "at": at_ns}))
        except (OSError, FFmpegError) as exc:
            self._recorder.fail(f"{self._folder} cannot be written: {reason_of(exc)}")

    def _stored(self, media: MediaWriter, item: Item) -> tuple[int, dict[str, object]]:
        if isinstance(item, AudioBlock):
            line: dict[str, object] = {"sound": item.start_ns, "crc": zlib.crc32(item.samples.astype("<f4").tobytes())}
            return media.sound(item.samples, item.start_ns), line | ({"lone": True} if item.lone_channel else {})
        if isinstance(item, VideoFrame):
            return media.picture(item.pixels, item.start_ns), {"picture": item.start_ns, "crc": zlib.crc32(item.pixels.tobytes())}
        if isinstance(item, SourceContent):
            return 0, {"content": [item.sound, item.picture]}
        return 0, {"state": item.state.value, "reason": redact(item.reason)}

    def close(self, failure: str | None) -> None:
        """Write how the source ended and close the files."""
        from av.error import FFmpegError

        media, self._media = self._media, None
        if media is None:
            return
        with suppress(OSError, FFmpegError):  # a full disk was reported already
            if not self._recorder.failed:
                append_line(self._items, {"end": failure or "", "at": time.monotonic_ns() - self._zero_ns})
            media.close()
        self._items.close()
