"""Defines the files of a session: their names, the card, and the lines of turns. It reads and writes no media."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamav.errors import DataError, SettingsError, reason_of
from streamav.files import PRIVATE_FILE, PRIVATE_FOLDER, write_whole
from streamav.pipeline.turns import TurnRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "EVENTS",
    "FORMAT",
    "SessionCard",
    "SourceCard",
    "append_line",
    "ends_whole",
    "is_session",
    "items_file",
    "lines_of",
    "make_folder",
    "media_file",
    "open_new",
    "read_card",
    "read_turns",
    "turn_line",
    "write_card",
]

FORMAT: Final = "streamav.session/1"
EVENTS: Final = "events.jsonl"
_CARD: Final = "session.json"
TURNS: Final = "turns.jsonl"
"""Each line is a turn: the records of its sources."""
_LAST: Final = 10_000
"""Bytes in which the last line of a file of items is searched."""
_MOST_LINE: Final = 1_000_000
"""Bytes of the longest line that is read; ours are below 1 kB."""


class _Card(BaseModel):
    """Frozen part of a card; a newer version may add keys."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SourceCard(_Card):
    """One recorded source."""

    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    """Also the name of its folder."""
    shown: str
    """Its address or devices, without secrets."""
    live: bool
    session: str
    """Text from which the ids of its events are derived."""
    paced: bool
    """True when media time passed in real time."""
    picture: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    """Height and width of its pictures, pixels."""
    frames_per_second: Annotated[int, Field(ge=1, le=60)]


class SessionCard(_Card):
    """What was recorded, and by what."""

    format: Literal["streamav.session/1"] = FORMAT
    version: str
    """Of streamav."""
    created: str
    """UTC, RFC 3339."""
    epoch_ns: int
    """UTC at the start of the recording, ns since 1970."""
    python: str
    platform: str
    model: dict[str, str]
    """Name, version, sha256 and backend of the model that ran."""
    masks: tuple[Literal["faces", "band", "speech"], ...] = ()
    """What was removed before it was stored, and before the run saw it."""
    settings: dict[str, Any]
    """Settings of the run, without secrets and without outputs."""
    sources: Annotated[tuple[SourceCard, ...], Field(min_length=1, max_length=64)]


def is_session(path: str | Path) -> bool:
    """Return whether a folder is a recorded session."""
    return (Path(path) / _CARD).is_file()


def make_folder(folder: Path) -> None:
    """Make the folder of a new session; only its owner can read it, because it shows who was at home.

    Raises:
        SettingsError: when it cannot be made, or holds something already.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        used = next(folder.iterdir(), None)
    except OSError as exc:
        msg = f"--out must be a folder that can be made, got {folder}: {reason_of(exc)}"
        raise SettingsError(msg) from exc
    if used is not None:
        msg = f"--out must be a new or empty folder, got {folder}, which holds {used.name}; name another one"
        raise SettingsError(msg)


def write_card(folder: Path, card: SessionCard) -> None:
    """Write the card of a session."""
    write_whole(folder / _CARD, card.model_dump_json(indent=1) + "\n", private=True)


def read_card(folder: Path) -> SessionCard:
    """Read the card of a session.

    Raises:
        DataError: when the folder is no session, or its card is damaged.
    """
    if not is_session(folder):
        what = f"it has no {_CARD}" if folder.is_dir() else "it is a file" if folder.exists() else "there is no such folder"
        msg = f"a session must be a folder that `streamav record` wrote, got {folder}: {what}"
        raise DataError(msg)
    try:
        return SessionCard.model_validate_json((folder / _CARD).read_bytes())
    except (OSError, ValidationError) as exc:
        first = exc.errors(include_url=False)[0] if isinstance(exc, ValidationError) else None
        why = (
            reason_of(exc)
            if isinstance(exc, OSError)
            else f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
            if first
            else ""
        )
        msg = (
            f"{folder / _CARD} must be the card of a session of format {FORMAT}, got: {why}; record again, or use the version that wrote it"
        )
        raise DataError(msg) from None


def items_file(folder: Path, source: str) -> Path:
    """Return the file of a source's items."""
    return folder / source / "items.jsonl"


def media_file(folder: Path, source: str) -> Path:
    """Return the file of a source's sound and pictures."""
    return folder / source / "media.nut"


def open_new(path: Path) -> BinaryIO:
    """Open a new file that only its owner can read; every write goes to the system at once."""
    return open(path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, PRIVATE_FILE))


def append_line(file: BinaryIO, value: object) -> int:
    """Write one value as a line of JSON; return its bytes."""
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    file.write(line)
    return len(line)


def lines_of(path: Path) -> Iterator[Any]:
    """Yield the values of a file of JSON lines. A line that was cut off at the end of the file is left out; a missing file has none.

    Raises:
        DataError: when the file cannot be read, or a line before its end is not JSON.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE), b""), 1):
                if not line.endswith(b"\n") and len(line) < _MOST_LINE:  # cut off
                    return
                yield _value(line, path, number)
    except FileNotFoundError:
        return
    except OSError as exc:
        msg = f"{path} must be readable, got: {reason_of(exc)}"
        raise DataError(msg) from exc


def ends_whole(path: Path) -> bool:
    """Return whether the last line of a file of items says how the source ended."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST))
            return b'{"end":' in file.read().rstrip(b"\n").rpartition(b"\n")[2]
    except OSError:
        return False


def _value(line: bytes, path: Path, number: int) -> object:
    try:
        return json.loads(line)
    except ValueError as exc:
        msg = f"{path}, line {number} must be JSON: the file is damaged ({exc}); copy the session again"
        raise DataError(msg) from None


def turn_line(turn: Sequence[TurnRecord]) -> list[dict[str, object]]:
    """Return a turn as it is stored: values that say nothing are left out."""
    return [{key: value for key, value in asdict(record).items() if value is not None and value is not False} for record in turn]


def read_turns(folder: Path) -> list[tuple[TurnRecord, ...]]:
    """Return the recorded turns, up to where the recording was cut off.

    Raises:
        DataError: when the file is damaged.
    """
    path = folder / TURNS
    try:
        return [tuple(TurnRecord(**record) for record in turn) for turn in lines_of(path)]
    except TypeError as exc:
        msg = f"{path} must hold the turns of a session: the file is damaged, or of another version ({exc})"
        raise DataError(msg) from None
