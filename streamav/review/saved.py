"""Saves what a person said about events: ten seconds and their label, in the form that `streamav train`, `recordings` and `tune` take.

FOLDER/labels.csv       file, class_slug, onset_s, offset_s, group, notes
FOLDER/found/           clips with an event: right ones, and missed ones
FOLDER/nothing/         clips of wrong events: background, for `streamav tune --quiet FOLDER/nothing`
"""

from __future__ import annotations

import csv
import io
import threading
from typing import TYPE_CHECKING, Final, Literal

from streamav.errors import SettingsError
from streamav.evaluation.recordings import NO_LABEL
from streamav.files import PRIVATE_FOLDER, write_whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Reviewed", "Verdict"]

Verdict = Literal["right", "wrong", "missed"]
_COLUMNS: Final = ("file", "class_slug", "onset_s", "offset_s", "group", "notes")
_MOST_BYTES: Final = 1_000_000_000
"""Largest size of all saved clips (our choice: some ten thousand)."""


class Reviewed:
    """The folder of what was said. Its methods may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder; it is made when something is saved."""
        self.folder = folder
        self._lock = threading.Lock()

    def save(self, verdict: Verdict, clip: bytes, *, name: str, label: str, span: tuple[float, float], group: str) -> str:
        """Save a clip and its row; return the clip's path in the folder. What was said about the same clip before is replaced.

        Args:
            verdict: wrong is background; the others hold the label over *span*.
            clip: MP4.
            name: of the clip without suffix: letters, digits, - and _.
            label: slug.
            span: onset and offset in the clip, s.
            group: the source.

        Raises:
            SettingsError: when the folder is full.
            OSError: when it cannot be written.
        """
        file = f"{'nothing' if verdict == 'wrong' else 'found'}/{name}.mp4"
        with self._lock:
            self._check_room(len(clip))
            for part in ("found", "nothing"):
                (self.folder / part).mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
                if not file.startswith(part):
                    (self.folder / part / f"{name}.mp4").unlink(missing_ok=True)
            rows = [row for row in self._rows() if row["file"].rpartition("/")[2] != f"{name}.mp4"]
            times = ("", "") if verdict == "wrong" else (f"{span[0]:g}", f"{span[1]:g}")
            said = (file, NO_LABEL if verdict == "wrong" else label, *times, group, f"{verdict}: {label}")
            rows.append(dict(zip(_COLUMNS, said, strict=True)))
            write_whole(self.folder / file, clip)
            write_whole(self.folder / "labels.csv", _table(rows))
        return file

    def _rows(self) -> list[dict[str, str]]:
        path = self.folder / "labels.csv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: row.get(key) or "" for key in _COLUMNS} for row in csv.DictReader(file)]

    def _check_room(self, size: int) -> None:
        used = sum(path.stat().st_size for path in self.folder.rglob("*.mp4")) if self.folder.is_dir() else 0
        if used + size > _MOST_BYTES:
            msg = f"{self.folder} must hold at most {_MOST_BYTES // 1_000_000} MB of clips, and it is full; move what you have trained on"
            raise SettingsError(msg)


def _table(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
