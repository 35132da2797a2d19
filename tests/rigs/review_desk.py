"""Makes a desk for the live page: a journal with scores of a source, a folder for what is said, and a list of the changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rigs.roles import EPOCH_NS, LABELS

from streamav.errors import SettingsError
from streamav.journal import History, explain_moment
from streamav.review import Answers, Desk, Reviewed
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import SEGMENT_NS, FinalScores

__all__ = ["NOW_S", "THRESHOLDS", "make_desk", "write_scores"]

THRESHOLDS = {label: Thresholds(on=0.7, off=0.3, min_segments=2, gap_segments=1) for label in LABELS}
RULES = [
    LabelOptions(label=label, label_name=label, class_id=number, column=number, thresholds=one)
    for number, (label, one) in enumerate(THRESHOLDS.items())
]
NOW_S = EPOCH_NS / 1e9 + 300


def write_scores(path: Path, probabilities: Sequence[float], *, source: str = "porch", first: int = 0) -> None:
    """Write final scores of the first label into a journal, one a second."""
    rows = [
        (
            source,
            FinalScores(
                start_ns=(first + index) * SEGMENT_NS, epoch_ns=EPOCH_NS, labels={LABELS[0]: value, LABELS[1]: 0.0, LABELS[2]: 0.0},
                background=1.0 - value, relevance=value, agreement=0.5, level_dbfs=-30.0,
            ),
        )
        for index, value in enumerate(probabilities)
    ]  # fmt: skip
    with History.writing(path) as history:
        history.write([], rows)


def make_desk(folder: Path, *, changes: list[tuple[str, Mapping[str, object]]] | None = None, clips: Path | None = None) -> Desk:
    """Return a desk whose journal is *folder*/journal.sqlite3; changes are added to a list, and one of `on` below 0.1 is refused."""

    def change(source: str, patch: Mapping[str, Any]) -> None:
        if any(one["on"] < 0.1 for one in patch.get("classes", {}).values()):
            msg = "on must be at least 0.1"
            raise SettingsError(msg)
        if changes is not None:
            changes.append((source, patch))

    return Desk(
        Answers(
            thresholds=lambda _: THRESHOLDS,
            why=lambda history, source, at_s: explain_moment(history, source, at_s, lambda _: RULES, 7),
            reviewed=Reviewed(folder / "reviewed"),
            journal=folder / "journal.sqlite3",
            clips=clips,
            change=None if changes is None else change,
            zones=None if changes is None else lambda _: {"door": ((0.1, 0.1), (0.4, 0.1), (0.4, 0.6))},
        )
    )
