"""Writes the result of tuning: a copy of a bundle, a configuration file for `streamav run`, and a plot of the curve.

It selects nothing and runs no network.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streamav.bundle import DetectionCard
from streamav.bundle.store import copy_bundle
from streamav.errors import MissingExtraError, SettingsError, reason_of
from streamav.thresholds import FIELDS, PartialThresholds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamav.bundle import Bundle, ModelCard
    from streamav.thresholds import Thresholds

__all__ = ["Curve", "config_text", "detection_of", "draw_curve", "sparkline", "write_config", "write_tuned_bundle"]

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A plot with false alarms per hour on the horizontal axis."""

    title: str
    alarms_per_hour: tuple[float, ...]
    lines: dict[str, tuple[float, ...]]
    """Values of each line, by name; each as long as `alarms_per_hour`."""
    chosen: float
    """False alarms per hour of the chosen settings."""


def detection_of(card: ModelCard, general: Thresholds, classes: Sequence[Thresholds], latency_segments: int) -> DetectionCard:
    """Return the detection part of a card; only classes whose settings differ from the general ones get an entry.

    Args:
        card: card of the model.
        general: settings of the classes without an entry.
        classes: settings of each of the C classes, by class_id.
        latency_segments: the latency L for which the settings were tuned.
    """
    own = {slug: PartialThresholds(**asdict(setting)) for slug, setting in zip(card.slugs, classes, strict=True) if setting != general}
    return DetectionCard(**asdict(general), latency_segments=latency_segments, classes=own)


def write_tuned_bundle(bundle: Bundle, out: Path, detection: DetectionCard) -> None:
    """Copy a bundle with other detection settings; the weights are copied byte for byte.

    Raises:
        ModelError: when *out* exists or cannot be written.
    """
    copy_bundle(bundle, out, card=bundle.card.model_copy(update={"detection": detection}))


def config_text(model: str, detection: DetectionCard, remarks: Sequence[str]) -> str:
    """Return the TOML text of a configuration with a model and all of its detection settings.

    Args:
        model: name or folder of the model.
        detection: the detection settings.
        remarks: lines of the comment at the top of the file.
    """
    lines = [*(f"# {line}" for line in remarks), "", "[model]", f"name = {json.dumps(model, ensure_ascii=False)}", "", "[detection]"]
    lines.append(f"latency_segments = {detection.latency_segments}")
    lines += [f"{name} = {getattr(detection, name)}" for name in FIELDS]
    for slug, entry in detection.classes.items():
        lines += ["", f"[detection.classes.{slug}]"]
        lines += [f"{name} = {value}" for name, value in entry.model_dump(exclude_none=True).items()]
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str) -> None:
    """Write a new configuration file.

    Raises:
        SettingsError: when the file exists or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        msg = f"the configuration file {path} must not exist yet, and its folder must be writable: {reason_of(exc)}"
        raise SettingsError(msg) from exc


def draw_curve(curve: Curve, path: Path) -> None:
    """Draw a curve as PNG, without a display.

    Raises:
        MissingExtraError: when matplotlib is not installed.
        SettingsError: when the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        package = "matplotlib"
        raise MissingExtraError(package, "train") from exc
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, values in curve.lines.items():
        axes.plot(curve.alarms_per_hour, values, marker=".", label=name)
    axes.axvline(curve.chosen, color="grey", linestyle="--", label="chosen")
    axes.set(xlabel="false alarms per hour", title=curve.title)
    axes.set_xscale("symlog", linthresh=1.0)  # a plain logarithmic axis has no 0
    axes.set_xlim(left=-0.05)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as exc:
        msg = f"the picture {path} cannot be written: {reason_of(exc)}"
        raise SettingsError(msg) from exc


def sparkline(values: Sequence[float]) -> str:
    """Return the values as one line of bars; the smallest value is the lowest bar, and NaN is a space."""
    real = [value for value in values if value == value]  # noqa: PLR0124 - NaN is not equal to itself
    if not real:
        return " " * len(values)
    low, span = min(real), max(real) - min(real)
    steps = [0.5 if span == 0.0 else (value - low) / span for value in values]
    return "".join(_BARS[min(len(_BARS) - 1, int(step * len(_BARS)))] if step == step else " " for step in steps)  # noqa: PLR0124
