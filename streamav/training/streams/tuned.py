"""Writes what tuning found: a copy of a bundle, a configuration file for `streamav run`, and a picture of the curve.

It chooses nothing and runs nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streamav.bundle import DetectionCard
from streamav.bundle.store import copy_bundle
from streamav.errors import MissingExtraError, SettingsError
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
    """Lines over false alarms an hour."""

    title: str
    alarms_per_hour: tuple[float, ...]
    lines: dict[str, tuple[float, ...]]
    """By name; each as long as the axis."""
    chosen: float
    """Where on the axis the settings are that were chosen."""


def detection_of(card: ModelCard, general: Thresholds, classes: Sequence[Thresholds], latency_segments: int) -> DetectionCard:
    """Return the detection part of a card; only classes whose settings are not the general ones get an entry.

    Args:
        card: of the model.
        general: for classes without an entry.
        classes: C settings by class_id.
        latency_segments: L that they were tuned for.
    """
    own = {slug: PartialThresholds(**asdict(setting)) for slug, setting in zip(card.slugs, classes, strict=True) if setting != general}
    return DetectionCard(**asdict(general), latency_segments=latency_segments, classes=own)


def write_tuned_bundle(bundle: Bundle, out: Path, detection: DetectionCard) -> None:
    """Copy a bundle with other detection settings; the weights stay as they are, byte for byte.

    Raises:
        ModelError: when *out* is taken or the disk refuses.
    """
    copy_bundle(bundle, out, card=bundle.card.model_copy(update={"detection": detection}))


def config_text(model: str, detection: DetectionCard, remarks: Sequence[str]) -> str:
    """Give the TOML text of a configuration with a model and its detection settings, every one of them.

    Args:
        model: name or folder.
        detection: settings.
        remarks: lines of the comment at its head.
    """
    lines = [*(f"# {line}" for line in remarks), "", "[model]", f"name = {json.dumps(model, ensure_ascii=False)}", "", "[detection]"]
    lines.append(f"latency_segments = {detection.latency_segments}")
    lines += [f"{name} = {getattr(detection, name)}" for name in FIELDS]
    for slug, entry in detection.classes.items():
        lines += ["", f"[detection.classes.{slug}]"]
        lines += [f"{name} = {value}" for name, value in entry.model_dump(exclude_none=True).items()]
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str) -> None:
    """Write a configuration file that is not there yet.

    Raises:
        SettingsError: when it is there, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        msg = f"the configuration file {path} must not exist yet, and its folder must be writable: {exc.strerror}"
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
    axes.set(xlabel="false alarms an hour", title=curve.title)
    axes.set_xscale("symlog", linthresh=1.0)  # 0 must have a place
    axes.set_xlim(left=-0.05)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as exc:
        msg = f"the picture {path} cannot be written: {exc.strerror}"
        raise SettingsError(msg) from exc


def sparkline(values: Sequence[float]) -> str:
    """Draw values as one line of bars, the least as the lowest; what is not a number is a space."""
    real = [value for value in values if value == value]  # noqa: PLR0124 - NaN differs from itself
    if not real:
        return " " * len(values)
    low, span = min(real), max(real) - min(real)
    steps = [0.5 if span == 0.0 else (value - low) / span for value in values]
    return "".join(_BARS[min(len(_BARS) - 1, int(step * len(_BARS)))] if step == step else " " for step in steps)  # noqa: PLR0124
