"""Compares VSCG, its parts and other networks on the same data, offline and as streams.

Every row is trained from the same seeds on the same folder and selected on the val clips. Its thresholds are set on val streams, and it
is judged on test clips and test streams. This module does not read the command line.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamav.errors import SettingsError
from streamav.evaluation.bootstrap import mean_and_deviation
from streamav.files import write_whole
from streamav.training.experiments.experiment import planned, run_experiment
from streamav.training.experiments.latex import latex_table
from streamav.training.streams.judge import judge_on_streams
from streamav.view.markdown_page import write_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamav.training.data.folder import AveData
    from streamav.training.experiments.experiment import Experiment
    from streamav.training.streams.judge import StreamPlan

__all__ = ["ROWS", "Study", "StudyRow", "run_study", "study_table", "write_study"]

_OFFLINE: Mapping[str, Mapping[str, object]] = {"loss": {"segment_weight": 0.0}}
"""The paper's losses: no term for the per-segment head, one class for each window."""
_HEAD: Mapping[str, Mapping[str, object]] = {"network": {"decision": "argmax29"}, "train": {"decision": "argmax29"}}
_SHIFT: Mapping[str, Mapping[str, object]] = {"network": {"decision": "argmax29"}, "train": {"decision": "argmax29", "shifted_share": 0.5}}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One network and its settings."""

    key: str
    name: str
    network: str = "vscg"
    compatible: bool = False
    """True: the authors' network, loss and targets, with their bugs."""
    changes: Mapping[str, Mapping[str, object]]

    def experiment(self, sizes: Mapping[str, int], train: Mapping[str, object]) -> Experiment:
        """Return the row's settings for the sizes of the data; *train* holds training settings for every row."""
        changes = {section: dict(values) for section, values in self.changes.items()}
        changes["train"] = {**train, **changes.get("train", {})}
        return replace(planned(self.network, "fully", sizes, changes, compatible=self.compatible), name=self.name)


def _with(changes: Mapping[str, Mapping[str, object]], **network: object) -> dict[str, dict[str, object]]:
    return {**{name: dict(values) for name, values in changes.items()}, "network": {**changes.get("network", {}), **network}}


ROWS: tuple[StudyRow, ...] = (
    StudyRow(key="reference", name="VSCG, reference-compatible", compatible=True, changes={}),
    StudyRow(key="corrected", name="VSCG, corrected", changes=_OFFLINE),
    StudyRow(key="head", name="... with the per-segment head", changes=_HEAD),
    StudyRow(key="shift", name="... with the head and window shift", changes=_SHIFT),
    StudyRow(key="pairs", name="... with the head and paired windows", changes={**_HEAD, "train": {"decision": "argmax29", "pairs": True}}),
    StudyRow(key="pspnet", name="PSP-Net", network="pspnet", changes={}),
    StudyRow(key="avel", name="AVEL", network="avel", changes={}),
    StudyRow(key="cmbs", name="CMBS", network="cmbs", changes={}),
    StudyRow(key="no-escm", name="head and shift, without ESCM", changes=_with(_SHIFT, escm=False)),
    StudyRow(key="no-isce", name="head and shift, without ISCE (GRUs begin at zero)", changes=_with(_SHIFT, prior="zero")),
    StudyRow(key="average", name="head and shift, ISCE from the average", changes=_with(_SHIFT, prior="avg")),
    StudyRow(key="maximum", name="head and shift, ISCE from the maximum", changes=_with(_SHIFT, prior="max")),
    StudyRow(key="unshared", name="head and shift, CERE not shared", changes=_with(_SHIFT, prior="unshared")),
)
"""The paper's network with and without the authors' bugs, ours, other networks (Table IV), and the parts (Table III) on streams."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Study:
    """The data and settings that all rows share."""

    data: AveData
    """A folder with train, val and test splits."""
    seeds: Sequence[int]
    """At least one; five or more for a figure to be reported."""
    train: Mapping[str, object]
    """Training settings."""
    plan: StreamPlan
    """The streams to judge on."""

    @property
    def sizes(self) -> dict[str, int]:
        """Return the sizes of the features and the number of classes, as options of a network."""
        audio, visual = self.data.train.audio.shape, self.data.train.visual.shape
        return {"audio_size": audio[2], "visual_size": visual[4], "grid": visual[2], "classes": len(self.data.classes)}


def run_study(study: Study, rows: Sequence[StudyRow], out: Path, told: Callable[[str], None]) -> list[dict[str, object]]:
    """Train and judge every row; a row with a result in *out* is not run again.

    Args:
        study: the data and settings that all rows share.
        rows: some of `ROWS`.
        out: folder with one JSON file for each row.
        told: called with the head of the table, and then with a line of it after each row.

    Raises:
        SettingsError: when a setting is wrong, or *out* holds results for other settings.
    """
    results: list[dict[str, object]] = []
    out.mkdir(parents=True, exist_ok=True)
    for line in _HEAD_LINES:
        told(line)
    for row in rows:
        experiment = row.experiment(study.sizes, study.train)
        path = out / f"{row.key}.json"
        settings = json.loads(json.dumps({"experiment": experiment.to_dict(), "seeds": list(study.seeds), "plan": repr(study.plan)}))
        result = _known(path, settings)
        if result is None:
            result = {"name": row.name, "settings": settings, "figures": _figures(study, experiment)}
            write_whole(path, json.dumps(result, indent=1) + "\n")
        results.append(result)
        told(_line(result))
    return results


def _known(path: Path, settings: object) -> dict[str, object] | None:
    """Read the result of an earlier call; return None if there is none."""
    if not path.is_file():
        return None
    result: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    if result.get("settings") != settings:
        msg = f"{path} must hold results for these settings, got other settings; choose another --out"
        raise SettingsError(msg)
    return result


def _figures(study: Study, experiment: Experiment) -> dict[str, list[float]]:
    """Train and judge one row; return every figure by name, one value for each seed."""
    outcome = run_experiment(study.data, experiment, study.seeds)
    decision = experiment.network.decision
    found: dict[str, list[float]] = {}
    for one in outcome.seeds:
        figures = judge_on_streams(one.network, study.data, study.plan, decision).figures
        for name, value in {**{f"clips_{key}": score for key, score in one.scores.to_dict().items()}, **figures}.items():
            found.setdefault(name, []).append(value)
    return found


_COLUMNS = {
    "clips_accuracy": ("clips: accuracy, %", 100.0),
    "accuracy_at_0": ("streams: accuracy at latency 1, %", 100.0),
    "accuracy_at_1": ("streams: accuracy at latency 2, %", 100.0),
    "accuracy_at_9": ("streams: accuracy at latency 10, %", 100.0),
    "event_f1": ("event-F1 at latency 2", 1.0),
    "event_f1_collar_2": ("event-F1, collar 2 s", 1.0),
    "background_false_alarms_per_hour": ("false alarms an hour of background", 1.0),
}
_HEAD_LINES = (f"| | {' | '.join(title for title, _ in _COLUMNS.values())} |", "|---" * (len(_COLUMNS) + 1) + "|")
_CONSTANT = "always background"
_MOST_NAMED = 3
"""Rows that share the first place and are named; more are counted."""


def write_study(out: Path, results: Sequence[Mapping[str, object]], command: str, seeds: int) -> None:
    """Write the table as study.md with what matters first, study.html and study.tex."""
    spread = "n = 1: a single seed, so there is no spread" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in study_table(results).splitlines()[2:]]
    lines = ["# Study", "", *_lead(results), f"- {spread}.", "", "## Table", "", f"Made by `{command}`.", "", study_table(results)]
    (out / "study.md").write_text("\n".join(lines), encoding="utf-8")
    heads = ["", *(title for title, _ in _COLUMNS.values())]
    table = latex_table(heads, rows, caption=f"Clips and streams; {spread}.", label="tab:study", rule_before=len(results))
    (out / "study.tex").write_text(table, encoding="utf-8")
    write_beside(out / "study.md")


def _lead(results: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the best rows of each column and the one behind them; rows that differ by less than is shown share the place."""
    lines = []
    for name, (title, factor) in _COLUMNS.items():
        digits = _digits(name)
        figures = {str(one["name"]): round(_mean(one, name) * factor, digits) for one in results}
        known = sorted((one for one in figures if not math.isnan(figures[one])), key=lambda one: figures[one], reverse="alarms" not in name)
        if not known:
            continue
        best = [one for one in known if figures[one] == figures[known[0]]]
        named = ", ".join(f"**{one}**" for one in best[:_MOST_NAMED])
        if len(best) == len(known) > 1:
            lines.append(f"- {title}: {figures[known[0]]:.{digits}f}, in all {len(known)} rows")
            continue
        others = f" and {len(best) - _MOST_NAMED} more" if len(best) > _MOST_NAMED else ""
        second = "" if len(best) == len(known) else f"; then {known[len(best)]}, {figures[known[len(best)]]:.{digits}f}"
        lines.append(f"- {title}: {named}{others}, {figures[known[0]]:.{digits}f}{second}")
    return lines


def _mean(result: Mapping[str, object], name: str) -> float:
    return mean_and_deviation(result["figures"][name])[0]  # type: ignore[index] # of our own making


def _digits(name: str) -> int:
    """Return how many decimals of a column are shown."""
    return 2 if _COLUMNS[name][1] == 1.0 and "alarms" not in name else 1


def study_table(results: Sequence[Mapping[str, object]]) -> str:
    """Return the results as a Markdown table, mean ± standard deviation over the seeds; the last row is what no network is needed for."""
    constant = [_constant_line(results[0])] if results else []
    return "\n".join([*_HEAD_LINES, *map(_line, results), *constant]) + "\n"


def _line(result: Mapping[str, object]) -> str:
    figures: Mapping[str, Sequence[float]] = result["figures"]  # type: ignore[assignment] # of our own making
    cells = []
    for name, (_, factor) in _COLUMNS.items():
        mean, deviation = mean_and_deviation([value * factor for value in figures[name]])
        spread = f" ± {deviation:.{_digits(name)}f}" if len(figures[name]) > 1 else ""
        cells.append(f"{mean:.{_digits(name)}f}{spread}")
    return f"| {result['name']} | {' | '.join(cells)} |"


def _constant_line(result: Mapping[str, object]) -> str:
    """Return the row of the answer that is background in every segment: the share of background, no event and no alarm."""
    shares = {"clips_accuracy": "clips_always_background", **{f"accuracy_at_{age}": "always_background" for age in (0, 1, 9)}}
    figures = {name: 100 * _mean(result, shares[name]) if name in shares else 0.0 for name in _COLUMNS}
    return f"| {_CONSTANT} | {' | '.join(f'{figures[name]:.{_digits(name)}f}' for name in _COLUMNS)} |"
